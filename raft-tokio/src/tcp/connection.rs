//! One connection: frames in, bytes out, and a deadline for each.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::frame::{self, Decoder};
use raft_core::host::handshake::HANDSHAKE_BYTES_MAX;
use raft_core::host::tcp::Closed;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Interval, MissedTickBehavior, interval_at, timeout};

/// The reading side, which knows when the other side was heard last.
pub(super) struct Reader<'s> {
    stream: ReadHalf<'s>,
    decoder: Decoder,
    heard: Instant,
}

impl<'s> Reader<'s> {
    pub(super) fn new(stream: ReadHalf<'s>, decoder: Decoder) -> Self {
        Self { stream, decoder, heard: Instant::now() }
    }

    /// Waits until bytes have come, and gives each payload to `receive`. May be dropped while it waits.
    pub(super) async fn read(
        &mut self,
        mut receive: impl FnMut(Bytes) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        if self.stream.read_buf(self.decoder.space()).await? == 0 {
            return Err(if self.decoder.is_mid_frame() { Closed::Cut } else { Closed::Ended });
        }
        self.heard = Instant::now();
        while let Some(payload) = self.decoder.next_payload()? {
            receive(payload)?;
        }
        Ok(())
    }

    /// Fails if nothing was heard for that long.
    pub(super) fn check_heard(&self, idle_timeout: Duration) -> Result<(), Closed> {
        if self.heard.elapsed() >= idle_timeout { Err(Closed::Idle) } else { Ok(()) }
    }
}

/// Ticks when it is time to say that one is there.
pub(super) fn keepalives(every: Duration) -> Interval {
    let mut interval = interval_at(tokio::time::Instant::now() + every, every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Says that one is there.
pub(super) async fn write_keepalive(
    stream: &mut WriteHalf<'_>,
    stalled: Duration,
) -> Result<(), Closed> {
    let mut bytes = Vec::with_capacity(frame::HEADER_BYTES);
    frame::encode(&mut bytes, 0, |_| ()).expect("nothing is not too long");
    write(stream, &bytes, stalled).await
}

/// Writes all bytes, and fails if the other side takes none for that long.
pub(super) async fn write(
    stream: &mut WriteHalf<'_>,
    mut bytes: &[u8],
    stalled: Duration,
) -> Result<(), Closed> {
    while !bytes.is_empty() {
        let written = timeout(stalled, stream.write(bytes)).await.map_err(|_| Closed::Idle)??;
        bytes = &bytes[written..];
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
    }
    Ok(())
}

/// Writes one frame of the handshake.
pub(super) async fn write_handshake(
    stream: &mut TcpStream,
    encode: impl FnOnce(&mut Vec<u8>),
) -> Result<(), Closed> {
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, HANDSHAKE_BYTES_MAX, encode)?;
    Ok(stream.write_all(&bytes).await?)
}

/// Reads one frame of the handshake.
pub(super) async fn read_handshake(
    stream: &mut TcpStream,
    decoder: &mut Decoder,
) -> Result<Bytes, Closed> {
    loop {
        if let Some(payload) = decoder.next_payload()? {
            return Ok(payload);
        }
        if stream.read_buf(decoder.space()).await? == 0 {
            return Err(if decoder.is_mid_frame() { Closed::Cut } else { Closed::Ended });
        }
    }
}
