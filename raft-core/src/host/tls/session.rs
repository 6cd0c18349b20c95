//! TLS of one connection without its socket, for adapters where one thread or task reads while
//! another writes.
//!
//! A stream of rustls owns its socket, so a reader that waits would keep the writer out. Here only
//! the cryptography is behind a lock, and nobody waits while holding it:
//!
//! ```text
//! reader: socket ─► bytes ─► open ─► plain text
//! writer: plain text ─► seal ─► bytes ─► socket
//! ```
//!
//! One thread at a time may write what it has sealed, because the order counts.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Mutex;
use std::vec::Vec;

use rustls::{ClientConnection, Connection, ServerConnection};

use super::Endpoint;
use crate::host::tcp::Speaker;
use crate::types::NodeId;

/// TLS of one connection.
#[derive(Debug)]
pub struct Session(Mutex<Connection>);

impl Session {
    /// For a connection that was accepted.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn accept(endpoint: &Endpoint) -> io::Result<Self> {
        let session = ServerConnection::new(endpoint.acceptor()).map_err(invalid)?;
        Ok(Self::of(session.into()))
    }

    /// For a connection that was dialed to reach this peer.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn dial(endpoint: &Endpoint, peer: NodeId) -> io::Result<Self> {
        let session = ClientConnection::new(endpoint.dialer(peer), Endpoint::server_name());
        Ok(Self::of(session.map_err(invalid)?.into()))
    }

    fn of(mut session: Connection) -> Self {
        // Each call of `seal` empties it.
        session.set_buffer_limit(None);
        Self(Mutex::new(session))
    }

    /// Whether the handshake goes on. Until it ends, write what [`seal`](Self::seal) returns for no
    /// bytes, and give what was read to [`open`](Self::open), in turn.
    pub fn is_handshaking(&self) -> bool {
        self.0.lock().expect(super::UNPOISONED).is_handshaking()
    }

    /// For which nodes the other side may speak. Ask after the handshake.
    pub fn speaker(&self, endpoint: &Endpoint) -> Speaker {
        endpoint.speaker(self.0.lock().expect(super::UNPOISONED).peer_certificates())
    }

    /// Encrypts: returns the bytes to write, among them those that the handshake or an alert wants
    /// to send.
    ///
    /// # Errors
    ///
    /// So much was sent that the keys are used up, which no connection lives to see.
    pub fn seal(&self, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut session = self.0.lock().expect(super::UNPOISONED);
        session.writer().write_all(plain)?;
        let mut sealed = Vec::with_capacity(plain.len() + plain.len() / 128 + 64);
        while session.wants_write() {
            session.write_tls(&mut sealed)?;
        }
        Ok(sealed)
    }

    /// Decrypts some of `sealed`, and moves it forward by as much as was taken. Returns how many
    /// bytes of plain text are in `plain` now; 0 if more must be read first. Call it with the
    /// same `sealed` until that happens.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnexpectedEof`] if the other side has ended the session, or what arrived is not
    /// TLS, or the other side is not the one that is expected. Then write what `seal` returns for
    /// no bytes: it tells the other side.
    pub fn open(&self, sealed: &mut &[u8], plain: &mut [u8]) -> io::Result<usize> {
        let mut session = self.0.lock().expect(super::UNPOISONED);
        loop {
            match session.reader().read(plain) {
                Ok(0) if !plain.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if sealed.is_empty() {
                return Ok(0);
            }
            session.read_tls(sealed)?;
            session.process_new_packets().map_err(invalid)?;
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}
