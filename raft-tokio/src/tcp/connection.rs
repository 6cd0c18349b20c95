//! One connection: frames in, bytes out, and a deadline for each.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use raft_core::host::tcp::{Closed, Reading};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

/// The reading side.
pub(super) struct Reader<'s> {
    stream: ReadHalf<'s>,
    reading: Reading,
}

impl<'s> Reader<'s> {
    pub(super) fn new(stream: ReadHalf<'s>, reading: Reading) -> Self {
        Self { stream, reading }
    }

    /// Waits until bytes have arrived, and hands each payload to `receive`. May be dropped while it
    /// waits.
    pub(super) async fn read(
        &mut self,
        mut receive: impl FnMut(&Bytes) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        let read = self.stream.read_buf(self.reading.space()).await?;
        self.reading.on_read(read)?;
        while let Some(payload) = self.reading.next_payload()? {
            receive(&payload)?;
        }
        Ok(())
    }

    /// Fails if nothing was heard for that long.
    pub(super) fn check_heard(&self, idle_timeout: Duration) -> Result<(), Closed> {
        self.reading.check_heard(idle_timeout)
    }
}

/// Ticks whenever it is time for a keepalive.
pub(super) fn keepalives(every: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + every, every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
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

/// Reads one frame of the handshake.
pub(super) async fn read_handshake(
    stream: &mut TcpStream,
    reading: &mut Reading,
) -> Result<Bytes, Closed> {
    loop {
        if let Some(payload) = reading.next_payload()? {
            return Ok(payload);
        }
        let read = stream.read_buf(reading.space()).await?;
        reading.on_read(read)?;
    }
}
