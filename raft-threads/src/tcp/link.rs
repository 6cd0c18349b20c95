//! A connection that was dialed. The loop and the dialer's thread write to it, and a third thread
//! reads.
//!
//! At the end of a turn the loop writes what the turn has queued, as far as the socket takes it at
//! once: waking the dialer's thread costs more than such a write. The dialer's thread writes the
//! rest, and keepalives.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use raft_core::host::tcp::{Cipher, Closed, SendQueue, Writing};

use super::connection;

/// A connection to a peer.
#[derive(Debug)]
pub(super) struct Link {
    stream: Arc<TcpStream>,
    cipher: Cipher,
    writing: Mutex<Writing>,
}

impl Link {
    /// For messages of this queue.
    pub(super) fn new(queue: Arc<SendQueue>, stream: Arc<TcpStream>, cipher: Cipher) -> Self {
        Self { stream, cipher, writing: Mutex::new(Writing::new(queue)) }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    /// Sends waiting messages with one write that does not block. Returns whether nothing is left
    /// to send. If the connection has failed, the dialer's thread finds that out.
    pub(super) fn send_at_once(&self) -> bool {
        // The dialer's thread may be writing, for long.
        let Ok(mut writing) = self.writing.try_lock() else { return false };
        if !writing.bytes().is_empty() || writing.take(&self.cipher).is_err() {
            return false;
        }
        let written = write_at_once(&self.stream, writing.bytes()).unwrap_or(0);
        writing.on_written(written);
        !writing.has_more()
    }

    /// Sends what the loop has left, or else messages that wait, as much as one write takes.
    pub(super) fn send(&self, deadline: Option<Instant>) -> Result<(), Closed> {
        self.send_locked(&mut self.lock(), deadline)
    }

    /// Whether [`send`](Self::send) has something to send.
    pub(super) fn has_more(&self) -> bool {
        self.lock().has_more()
    }

    /// Writes these bytes behind what the loop has left.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Closed> {
        let mut writing = self.lock();
        self.send_locked(&mut writing, None)?;
        connection::write(&self.stream, &self.cipher, bytes, None)
    }

    fn send_locked(&self, writing: &mut Writing, deadline: Option<Instant>) -> Result<(), Closed> {
        writing.take(&self.cipher)?;
        connection::write_sealed(&self.stream, writing.bytes(), deadline)?;
        writing.on_all_written();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().expect("nothing panics while it holds this lock")
    }
}

/// Writes what the socket takes without blocking.
#[cfg(target_os = "linux")]
fn write_at_once(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use rustix::net::{SendFlags, send};

    Ok(send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
}

/// The standard library cannot write to a blocking socket without blocking.
#[cfg(not(target_os = "linux"))]
fn write_at_once(_stream: &TcpStream, _bytes: &[u8]) -> io::Result<usize> {
    Ok(0)
}
