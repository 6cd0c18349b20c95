//! One connection: frames in, bytes out, and a deadline for each.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use raft_core::host::tcp::{Closed, Reading};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

/// What carries bytes in both directions: a socket, or TLS around it.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

pub(super) type Stream = Box<dyn Duplex>;

/// A connection. It is read while nothing is written, so the two need no lock.
pub(super) struct Connection {
    stream: Stream,
    reading: Reading,
}

impl Connection {
    pub(super) fn new(stream: Stream, reading: Reading) -> Self {
        Self { stream, reading }
    }

    /// The bytes that were read so far.
    pub(super) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Goes on with frames of another length.
    pub(super) fn with_frames_of(self, frame_bytes_max: usize) -> Self {
        Self { reading: Reading::new(frame_bytes_max), ..self }
    }

    /// Reads one frame of the handshake.
    pub(super) async fn read_handshake(&mut self) -> Result<Bytes, Closed> {
        loop {
            if let Some(payload) = self.reading.next_payload()? {
                return Ok(payload);
            }
            let read = self.stream.read_buf(self.reading.space()).await?;
            self.reading.on_read(read)?;
        }
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

    /// Writes all bytes, and fails if the other side takes none for that long.
    pub(super) async fn write(
        &mut self,
        mut bytes: &[u8],
        stalled: Duration,
    ) -> Result<(), Closed> {
        while !bytes.is_empty() {
            let write = self.stream.write(bytes);
            let written = timeout(stalled, write).await.map_err(|_| Closed::Idle)??;
            bytes = &bytes[written..];
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
        }
        // TLS keeps what the socket did not take.
        Ok(timeout(stalled, self.stream.flush()).await.map_err(|_| Closed::Idle)??)
    }

    /// Says that nothing more is written.
    pub(super) async fn shutdown(&mut self) -> Result<(), Closed> {
        Ok(self.stream.shutdown().await?)
    }
}

/// Ticks whenever it is time for a keepalive.
pub(super) fn keepalives(every: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + every, every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
