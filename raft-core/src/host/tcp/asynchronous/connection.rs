//! One connection: frames in, bytes out, and a deadline for each.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::super::{Cipher, Closed, Reading};
use super::runtime::{Runtime, Socket};
use super::wait::timeout;
use crate::host::wire::handshake::HANDSHAKE_BYTES_MAX;

/// A connection. It is read while nothing is written, so the two need no lock.
pub(super) struct Connection<R: Runtime> {
    socket: R::Socket,
    cipher: Cipher,
    reading: Reading,
}

impl<R: Runtime> Connection<R> {
    /// A connection before its handshake.
    pub(super) fn new(socket: R::Socket, cipher: Cipher) -> io::Result<Self> {
        socket.set_nodelay()?;
        Ok(Self { socket, cipher, reading: Reading::new(HANDSHAKE_BYTES_MAX) })
    }

    /// Goes on with frames of another length.
    pub(super) fn with_frames_of(self, frame_bytes_max: usize) -> Self {
        Self { reading: Reading::new(frame_bytes_max), ..self }
    }

    pub(super) fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    /// The bytes that were read so far.
    pub(super) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Completes the handshake of TLS, if there is one. If it fails, the other side is told.
    pub(super) async fn secure(&mut self, stalled: Duration) -> Result<(), Closed> {
        while self.cipher.is_handshaking() {
            self.write(&[], stalled).await?;
            if !self.cipher.is_handshaking() {
                break;
            }
            if let Err(error) = poll_fn(|cx| self.poll_advance(cx)).await {
                // Whether it is told or not, the connection ends.
                let _ = self.write(&[], stalled).await;
                return Err(error.into());
            }
        }
        self.write(&[], stalled).await
    }

    /// Reads one frame of the handshake.
    pub(super) async fn read_handshake(&mut self) -> Result<Bytes, Closed> {
        loop {
            if let Some(payload) = self.reading.next_payload()? {
                return Ok(payload);
            }
            poll_fn(|cx| self.poll_read(cx)).await?;
        }
    }

    /// Reads once, or waits until bytes have arrived. [Take](Self::take) the payloads before the
    /// next read.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let Self { socket, cipher, reading } = self;
        match reading.read(cipher, |space| or_would_block(socket.poll_read(cx, space))) {
            Err(Closed::Io(error)) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            read => Poll::Ready(read),
        }
    }

    /// Hands each payload that was read to `receive`.
    pub(super) fn take(
        &mut self,
        mut receive: impl FnMut(&Bytes) -> Result<(), Closed>,
    ) -> Result<(), Closed> {
        while let Some(payload) = self.reading.next_payload()? {
            receive(&payload)?;
        }
        Ok(())
    }

    /// Writes all bytes, and fails if the other side takes none for that long.
    pub(super) async fn write(&mut self, bytes: &[u8], stalled: Duration) -> Result<(), Closed> {
        let sealed = self.cipher.seal(bytes)?;
        self.write_sealed(&sealed, stalled).await
    }

    /// The same for bytes that need no cipher any more.
    pub(super) async fn write_sealed(
        &mut self,
        mut bytes: &[u8],
        stalled: Duration,
    ) -> Result<(), Closed> {
        while !bytes.is_empty() {
            let write = async { Ok(poll_fn(|cx| self.socket.poll_write(cx, bytes)).await?) };
            let written = timeout::<R, _>(stalled, write).await?;
            if written == 0 {
                return Err(io::Error::from(ErrorKind::WriteZero).into());
            }
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Says that nothing more is written.
    pub(super) async fn shutdown(&mut self) -> Result<(), Closed> {
        Ok(poll_fn(|cx| self.socket.poll_shutdown(cx)).await?)
    }

    fn poll_advance(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, cipher, .. } = self;
        match cipher.advance(|space| or_would_block(socket.poll_read(cx, space))) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            advanced => Poll::Ready(advanced),
        }
    }
}

/// What a socket without tasks would say, which is what a [`Cipher`] understands. If this is
/// [`ErrorKind::WouldBlock`], the socket wakes the task.
fn or_would_block(polled: Poll<io::Result<usize>>) -> io::Result<usize> {
    match polled {
        Poll::Ready(read) => read,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}
