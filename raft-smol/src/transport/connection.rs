//! One connection: frames in, bytes out, and a deadline for each.

use std::convert::Infallible;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use async_io::{Async, Timer};
use bytes::Bytes;
use futures_lite::AsyncWriteExt;
use futures_lite::future::{or, yield_now};
use raft_core::host::tcp::{Cipher, Closed, Config, Reading};

use crate::wait::timeout;

/// A connection. One task may write to it while another reads.
pub(super) type Stream = Arc<Link>;

/// A socket and its security.
pub(super) struct Link {
    socket: Arc<Async<TcpStream>>,
    cipher: Cipher,
}

impl Link {
    pub(super) fn new(socket: async_net::TcpStream, cipher: Cipher) -> Self {
        let socket = socket.into();
        Self { socket, cipher }
    }

    pub(super) fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    /// Completes the handshake of TLS, if there is one. If it fails, the other side is told.
    pub(super) async fn secure(&self, stalled: Duration) -> Result<(), Closed> {
        while self.cipher.is_handshaking() {
            write(self, &[], stalled).await?;
            if !self.cipher.is_handshaking() {
                break;
            }
            self.socket.readable().await?;
            match self.cipher.advance(|space| self.socket.get_ref().read(space)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // Whether it is told or not, the connection ends.
                    let _ = write(self, &[], stalled).await;
                    return Err(error.into());
                }
            }
        }
        write(self, &[], stalled).await
    }

    /// Says that nothing more is written.
    pub(super) fn shutdown(&self) -> Result<(), Closed> {
        Ok(self.socket.get_ref().shutdown(Shutdown::Write)?)
    }
}

/// The reading side.
pub(super) struct Reader {
    stream: Stream,
    reading: Reading,
}

impl Reader {
    pub(super) fn new(stream: Stream, frame_bytes_max: usize) -> Self {
        Self { stream, reading: Reading::new(frame_bytes_max) }
    }

    /// Reads one frame of the handshake.
    pub(super) async fn handshake(&mut self) -> Result<Bytes, Closed> {
        loop {
            if let Some(payload) = self.reading.next_payload()? {
                return Ok(payload);
            }
            self.fill().await?;
        }
    }

    /// The connection, to write on.
    pub(super) fn stream(&self) -> Stream {
        self.stream.clone()
    }

    /// The bytes that were read so far.
    pub(super) fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Hands each payload to `receive` until the connection ends, or nothing was heard for
    /// [`Config::idle_timeout`].
    pub(super) async fn hear(
        &mut self,
        config: &Config,
        mut receive: impl FnMut(&Bytes) -> Result<(), Closed>,
    ) -> Result<Infallible, Closed> {
        let mut check = Timer::after(config.keepalive_interval);
        loop {
            let time_to_check = async {
                (&mut check).await;
                Ok(true)
            };
            let read = async { self.fill().await.map(|()| false) };
            if or(read, time_to_check).await? {
                self.reading.check_heard(config.idle_timeout)?;
                check.set_after(config.keepalive_interval);
            }
            while let Some(payload) = self.reading.next_payload()? {
                receive(&payload)?;
            }
        }
    }

    /// Waits until bytes have arrived. May be dropped while it waits.
    async fn fill(&mut self) -> Result<(), Closed> {
        let Link { socket, cipher } = &*self.stream;
        loop {
            // Waiting before each read lets other tasks run, however much a peer sends.
            match cipher.may_hold() {
                true => yield_now().await,
                false => socket.readable().await?,
            }
            match self.reading.read(cipher, |space| socket.get_ref().read(space)) {
                Err(Closed::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

/// Writes all bytes, and fails if the other side takes none for that long.
pub(super) async fn write(link: &Link, bytes: &[u8], stalled: Duration) -> Result<(), Closed> {
    write_sealed(link, &link.cipher.seal(bytes)?, stalled).await
}

/// The same for bytes that need no cipher any more.
pub(super) async fn write_sealed(
    link: &Link,
    mut bytes: &[u8],
    stalled: Duration,
) -> Result<(), Closed> {
    while !bytes.is_empty() {
        let write = async { Ok((&*link.socket).write(bytes).await?) };
        let written = timeout(stalled, Closed::Idle, write).await?;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}
