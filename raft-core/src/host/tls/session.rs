//! TLS of one connection without its socket, so that it needs no stream around a stream, and one
//! thread can read while another writes.
//!
//! A stream of rustls owns its socket, so a reader that waits would keep the writer out. Here only
//! the cryptography is behind a lock, and nobody waits while holding it:
//!
//! ```text
//! reader: socket ─► fetch ─► read ─► plain text
//! writer: plain text ─► seal ─► bytes ─► socket
//! ```
//!
//! One thread at a time may read. One at a time may write what it has sealed, because the order
//! counts.

use std::boxed::Box;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

use rustls::{ClientConnection, Connection, ServerConnection};

use super::{NodeTls, UNPOISONED};
use crate::host::tcp::Speaker;
use crate::types::NodeId;

/// How many bytes are fetched at a time, at most: one of the longest records of TLS.
const FETCH_BYTES: usize = 18 * 1024;

/// TLS of one connection.
pub struct Session {
    node_tls: NodeTls,
    connection: Mutex<Connection>,
    unread: Mutex<Unread>,
}

/// What was fetched and not decrypted yet. Only the reader locks it.
struct Unread {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Whether plain text may be left over, so that a read need not fetch.
    more: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("node_tls", &self.node_tls).finish_non_exhaustive()
    }
}

impl Session {
    /// For a connection that was accepted.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn accept(node_tls: &NodeTls) -> io::Result<Self> {
        let connection = ServerConnection::new(node_tls.acceptor()).map_err(invalid)?;
        Ok(Self::of(node_tls, connection.into()))
    }

    /// For a connection that was dialed to reach this peer.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn dial(node_tls: &NodeTls, peer: NodeId) -> io::Result<Self> {
        let connection = ClientConnection::new(node_tls.dialer(peer), NodeTls::server_name());
        Ok(Self::of(node_tls, connection.map_err(invalid)?.into()))
    }

    fn of(node_tls: &NodeTls, mut connection: Connection) -> Self {
        // Each call of `seal` empties it.
        connection.set_buffer_limit(None);
        let buffer = vec![0; FETCH_BYTES].into_boxed_slice();
        Self {
            node_tls: node_tls.clone(),
            connection: Mutex::new(connection),
            unread: Mutex::new(Unread { buffer, start: 0, end: 0, more: true }),
        }
    }

    /// Whether the handshake goes on. Until it ends, write what [`seal`](Self::seal) returns for no
    /// bytes, and [`advance`](Self::advance), in turn.
    pub fn is_handshaking(&self) -> bool {
        self.connection.lock().expect(UNPOISONED).is_handshaking()
    }

    /// For which nodes the other side may speak. Ask after the handshake of a connection that was
    /// accepted.
    pub fn speaker(&self) -> Speaker {
        self.node_tls.speaker(self.connection.lock().expect(UNPOISONED).peer_certificates())
    }

    /// Encrypts: returns the bytes to write, among them those of the handshake, or of an alert that
    /// tells the other side why the session ends.
    ///
    /// # Errors
    ///
    /// The session has failed before.
    pub fn seal(&self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut connection = self.connection.lock().expect(UNPOISONED);
        connection.writer().write_all(plain)?;
        let mut sealed = Vec::with_capacity(plain.len() + plain.len() / 128 + 64);
        while connection.wants_write() {
            connection.write_tls(&mut sealed)?;
        }
        Ok(sealed)
    }

    /// Goes on with the handshake: fetches bytes of the other side once. `fetch` reads from the
    /// socket into the slice, as [`Read::read`] does.
    ///
    /// # Errors
    ///
    /// `fetch`'s own, [`ErrorKind::UnexpectedEof`] if it returns 0, and [`ErrorKind::InvalidData`]
    /// if what arrived is not TLS, or the other side is not the one that is expected. Then write
    /// what [`seal`](Self::seal) returns for no bytes: it tells the other side.
    pub fn advance(&self, fetch: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        let mut unread = self.unread.lock().expect(UNPOISONED);
        if unread.is_empty() && !unread.fill(fetch)? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut connection = self.connection.lock().expect(UNPOISONED);
        while connection.is_handshaking() && !unread.is_empty() {
            unread.feed(&mut connection)?;
        }
        Ok(())
    }

    /// Reads plain text, as [`Read::read`] does: 0 is the end. Calls `fetch` while there is none.
    ///
    /// # Errors
    ///
    /// As of [`advance`](Self::advance), except for the end.
    pub fn read(
        &self,
        plain: &mut [u8],
        mut fetch: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut unread = self.unread.lock().expect(UNPOISONED);
        loop {
            if let Some(read) = self.open(&mut unread, plain)? {
                unread.more = read == plain.len();
                return Ok(read);
            }
            unread.more = false;
            if !unread.fill(&mut fetch)? {
                return Ok(0);
            }
        }
    }

    /// Whether the next [`read`](Self::read) may return without fetching.
    pub fn may_hold(&self) -> bool {
        let unread = self.unread.lock().expect(UNPOISONED);
        unread.more || !unread.is_empty()
    }

    /// Decrypts what was fetched until there is plain text, or nothing is left.
    fn open(&self, unread: &mut Unread, plain: &mut [u8]) -> io::Result<Option<usize>> {
        let mut connection = self.connection.lock().expect(UNPOISONED);
        loop {
            match connection.reader().read(plain) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read.map(Some),
            }
            if unread.is_empty() {
                return Ok(None);
            }
            unread.feed(&mut connection)?;
        }
    }
}

impl Unread {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Fetches. Returns false at the end.
    fn fill(&mut self, fetch: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<bool> {
        (self.start, self.end) = (0, 0);
        self.end = fetch(&mut self.buffer)?.min(self.buffer.len());
        Ok(self.end > 0)
    }

    fn feed(&mut self, connection: &mut Connection) -> io::Result<()> {
        self.start += connection.read_tls(&mut &self.buffer[self.start..self.end])?;
        connection.process_new_packets().map_err(invalid)?;
        Ok(())
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
