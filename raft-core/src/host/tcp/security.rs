//! What a transport does with each connection without the feature `tls`: nothing.

use std::borrow::Cow;
use std::io;

use super::speaker::Speaker;
use crate::host::identity::Identity;
use crate::types::NodeId;

/// What a transport was told about security: nothing.
#[derive(Debug)]
pub struct Security(());

/// The security of one node's connections: none.
#[derive(Debug)]
pub struct Guard(());

/// The security of one connection: none.
#[derive(Debug)]
pub struct Cipher(());

impl Security {
    /// Plain TCP.
    pub const fn none() -> Self {
        Self(())
    }

    /// The security of a node's connections.
    ///
    /// # Errors
    ///
    /// None without TLS.
    pub fn guard(&self, _identity: Identity) -> io::Result<Guard> {
        Ok(Guard(()))
    }
}

impl Guard {
    /// The security of a connection that was accepted.
    ///
    /// # Errors
    ///
    /// None without TLS.
    pub fn accept(&self) -> io::Result<Cipher> {
        Ok(Cipher(()))
    }

    /// The security of a connection that was dialed to reach this peer.
    ///
    /// # Errors
    ///
    /// None without TLS.
    pub fn dial(&self, _peer: NodeId) -> io::Result<Cipher> {
        Ok(Cipher(()))
    }
}

impl Cipher {
    /// Plain TCP.
    pub const fn none() -> Self {
        Self(())
    }

    /// Whether a handshake goes on: there is none.
    pub fn is_handshaking(&self) -> bool {
        false
    }

    /// Goes on with the handshake, of which there is none.
    ///
    /// # Errors
    ///
    /// None without TLS.
    pub fn advance(&self, _fetch: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        Ok(())
    }

    /// The bytes to write for these: the same.
    ///
    /// # Errors
    ///
    /// None without TLS.
    pub fn seal<'b>(&self, plain: &'b [u8]) -> io::Result<Cow<'b, [u8]>> {
        Ok(Cow::Borrowed(plain))
    }

    /// Reads by `fetch`.
    ///
    /// # Errors
    ///
    /// Those of `fetch`.
    pub fn read(
        &self,
        plain: &mut [u8],
        mut fetch: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        fetch(plain)
    }

    /// Whether the next [`read`](Self::read) may return without fetching: never.
    pub fn may_hold(&self) -> bool {
        false
    }

    /// For which nodes the other side may speak: it is taken at its word.
    pub fn speaker(&self) -> Speaker {
        Speaker::default()
    }
}
