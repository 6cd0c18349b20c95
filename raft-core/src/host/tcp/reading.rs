//! The reading side of a connection, without its socket.

use std::io;
use std::time::{Duration, Instant};
use std::vec;
use std::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::closed::Closed;
use super::security::Cipher;
use crate::host::wire::frame::{Decoder, HEADER_BYTES};

/// How many bytes one [`Reading::read`] takes at most.
const READ_BYTES: usize = 64 * 1024;

/// Takes payloads out of the bytes that were read, and knows when the other side was last heard.
///
/// # Example
///
/// ```
/// use std::io::Read;
///
/// use raft_core::host::tcp::{Closed, Reading};
///
/// fn read(stream: &mut impl Read, reading: &mut Reading) -> Result<(), Closed> {
///     let mut bytes = [0; 1024];
///     let read = stream.read(&mut bytes)?;
///     reading.space().extend_from_slice(&bytes[..read]);
///     reading.on_read(read)?;
///     while let Some(payload) = reading.next_payload()? {
///         println!("{} bytes", payload.len());
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Reading {
    decoder: Decoder,
    heard: Instant,
    /// Takes what [`read`](Self::read) brings, before its length is known. Empty until then.
    buffer: Vec<u8>,
    buffer_bytes: usize,
}

impl Reading {
    /// The start of a connection whose frames may have at most `frame_bytes_max` bytes.
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            decoder: Decoder::new(frame_bytes_max),
            heard: Instant::now(),
            buffer: Vec::new(),
            buffer_bytes: READ_BYTES.min(frame_bytes_max.saturating_add(HEADER_BYTES)),
        }
    }

    /// The buffer to read into, as in [`Decoder::space`].
    pub fn space(&mut self) -> &mut BytesMut {
        self.decoder.space()
    }

    /// Takes note of a read that brought this many bytes.
    ///
    /// # Errors
    ///
    /// [`Closed::Ended`] or [`Closed::Cut`] if it brought none, because the other side has closed
    /// the connection.
    pub fn on_read(&mut self, bytes: usize) -> Result<(), Closed> {
        if bytes > 0 {
            self.heard = Instant::now();
            return Ok(());
        }
        Err(if self.decoder.is_mid_frame() { Closed::Cut } else { Closed::Ended })
    }

    /// Reads once. `fetch` reads from the socket into the slice, as
    /// [`Read::read`](io::Read::read) does.
    ///
    /// # Errors
    ///
    /// [`Closed::Io`] with the error of `fetch`, and those of [`on_read`](Self::on_read). After one
    /// that says that nothing has arrived yet, read again.
    pub fn read(
        &mut self,
        cipher: &Cipher,
        fetch: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> Result<(), Closed> {
        let space = self.decoder.space();
        if self.buffer.is_empty() {
            self.buffer = vec![0; self.buffer_bytes];
        }
        let room = self.buffer.len().min(space.capacity() - space.len());
        let read = cipher.read(&mut self.buffer[..room], fetch)?;
        space.extend_from_slice(&self.buffer[..read]);
        self.on_read(read)
    }

    /// The next payload, or `None` if more bytes are needed first. Take all payloads before the
    /// next read.
    ///
    /// # Errors
    ///
    /// [`Closed::Frame`]: the data is damaged or too long.
    pub fn next_payload(&mut self) -> Result<Option<Bytes>, Closed> {
        Ok(self.decoder.next_payload()?)
    }

    /// Whether bytes are there that belong to no payload that was taken.
    pub(super) fn is_mid_frame(&self) -> bool {
        self.decoder.is_mid_frame()
    }

    /// Checks that the other side is alive. Ask whenever it is time for a
    /// [`keepalive`](super::keepalive).
    ///
    /// # Errors
    ///
    /// [`Closed::Idle`] if nothing was heard for that long.
    pub fn check_heard(&self, idle_timeout: Duration) -> Result<(), Closed> {
        if self.heard.elapsed() >= idle_timeout { Err(Closed::Idle) } else { Ok(()) }
    }
}
