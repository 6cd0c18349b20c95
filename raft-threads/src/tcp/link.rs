//! A connection that was dialed. The loop and the dialer's thread write to it, and a third thread
//! reads.
//!
//! At the end of a turn the loop writes what the turn has queued, as far as the socket takes it at
//! once: waking the dialer's thread costs more than such a write. The dialer's thread writes the
//! rest, and keepalives.

use std::borrow::Cow;
use std::io;
use std::mem;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use raft_core::host::tcp::{Cipher, Closed};

use super::connection;
use super::shared::Peer;

/// A connection to a peer.
#[derive(Debug)]
pub(super) struct Link {
    peer: Arc<Peer>,
    stream: Arc<TcpStream>,
    cipher: Cipher,
    writing: Mutex<Writing>,
}

/// What was taken from the peer's queue and is not written yet.
#[derive(Default, Debug)]
struct Writing {
    /// What the socket has not taken.
    rest: Vec<u8>,
    /// How many messages end with `rest`, and how many bytes they have as frames.
    messages: usize,
    frame_bytes: usize,
    /// Kept for its memory.
    frames: Vec<u8>,
}

impl Link {
    pub(super) fn new(peer: Arc<Peer>, stream: Arc<TcpStream>, cipher: Cipher) -> Self {
        Self { peer, stream, cipher, writing: Mutex::default() }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    /// Sends what was queued since the last flush, without blocking. Wakes the dialer's thread if
    /// something is left to send.
    pub(super) fn flush(&self) {
        if self.peer.queue().flush() && !self.send_at_once() {
            self.peer.signals().wake();
        }
    }

    /// Writes once. Returns whether nothing is left to send. If the connection has failed, the
    /// dialer's thread finds that out.
    fn send_at_once(&self) -> bool {
        // The dialer's thread may be writing, for long.
        let Ok(mut writing) = self.writing.try_lock() else { return false };
        if !writing.rest.is_empty() || writing.take(self).is_err() {
            return false;
        }
        let written = write_at_once(&self.stream, &writing.rest).unwrap_or(0);
        writing.rest.drain(..written);
        if !writing.rest.is_empty() {
            return false;
        }
        writing.is_sent(&self.peer);
        self.peer.queue().is_empty()
    }

    /// Sends what the loop has left, or else messages that wait, as much as one write takes.
    pub(super) fn send(&self, deadline: Option<Instant>) -> Result<(), Closed> {
        self.send_locked(&mut self.lock(), deadline)
    }

    /// Whether [`send`](Self::send) has something to send.
    pub(super) fn has_more(&self) -> bool {
        !self.lock().rest.is_empty() || !self.peer.queue().is_empty()
    }

    /// Writes these bytes behind what the loop has left.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Closed> {
        let mut writing = self.lock();
        self.send_locked(&mut writing, None)?;
        connection::write(&self.stream, &self.cipher, bytes, None)
    }

    /// To be called at the end of the connection: counts the messages that were lost with it.
    pub(super) fn end(&self) {
        self.peer.queue().clear(mem::take(&mut self.lock().messages));
    }

    fn send_locked(&self, writing: &mut Writing, deadline: Option<Instant>) -> Result<(), Closed> {
        if writing.rest.is_empty() {
            writing.take(self)?;
        }
        let written = connection::write_sealed(&self.stream, &writing.rest, deadline);
        if written.is_err() {
            self.peer.queue().clear(mem::take(&mut writing.messages));
            return written;
        }
        writing.rest.clear();
        writing.is_sent(&self.peer);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().expect("nothing panics while it holds this lock")
    }
}

impl Writing {
    /// Takes waiting messages, as much as one write takes. `rest` must be empty.
    fn take(&mut self, link: &Link) -> Result<(), Closed> {
        self.frames.clear();
        self.messages = link.peer.queue().take(&mut self.frames);
        self.frame_bytes = self.frames.len();
        let sealed = link.cipher.seal(&self.frames).map(|sealed| match sealed {
            Cow::Owned(sealed) => Some(sealed),
            Cow::Borrowed(_) => None,
        });
        match sealed {
            Ok(Some(sealed)) => self.rest = sealed,
            Ok(None) => mem::swap(&mut self.rest, &mut self.frames),
            Err(error) => {
                link.peer.queue().clear(mem::take(&mut self.messages));
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Counts the messages that were written.
    fn is_sent(&mut self, peer: &Peer) {
        peer.queue().sent(mem::take(&mut self.messages), mem::take(&mut self.frame_bytes));
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
