//! What a transport does with each connection: TLS if it was told so, or else nothing.

use std::borrow::Cow;
use std::io;

use super::speaker::Speaker;
use crate::host::identity::Identity;
use crate::host::tls::{NodeTls, Session, Tls};
use crate::types::NodeId;

/// What a transport was told about security: TLS, or nothing.
#[derive(Debug)]
pub struct Security(Option<Tls>);

/// The security of one node's connections.
#[derive(Debug)]
pub struct Guard(Option<NodeTls>);

/// The security of one connection.
#[derive(Debug)]
pub struct Cipher(Option<Session>);

impl Security {
    /// Plain TCP.
    pub const fn none() -> Self {
        Self(None)
    }

    /// TLS.
    pub const fn of(tls: Tls) -> Self {
        Self(Some(tls))
    }

    /// The security of a node's connections.
    ///
    /// # Errors
    ///
    /// The certificate does not name the node.
    pub fn guard(&self, identity: Identity) -> io::Result<Guard> {
        Ok(Guard(self.0.as_ref().map(|tls| tls.for_node(identity)).transpose()?))
    }
}

impl Guard {
    /// The security of a connection that was accepted.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn accept(&self) -> io::Result<Cipher> {
        Ok(Cipher(self.0.as_ref().map(Session::accept).transpose()?))
    }

    /// The security of a connection that was dialed to reach this peer.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub fn dial(&self, peer: NodeId) -> io::Result<Cipher> {
        let dial = |node_tls| Session::dial(node_tls, peer);
        Ok(Cipher(self.0.as_ref().map(dial).transpose()?))
    }
}

impl Cipher {
    /// Plain TCP.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Whether a handshake goes on. Until it ends, write what [`seal`](Self::seal) returns for no
    /// bytes, and [`advance`](Self::advance), in turn.
    pub fn is_handshaking(&self) -> bool {
        self.0.as_ref().is_some_and(Session::is_handshaking)
    }

    /// Goes on with the handshake: fetches bytes of the other side once. `fetch` reads from the
    /// socket into the slice, as [`Read::read`](io::Read::read) does.
    ///
    /// # Errors
    ///
    /// Those of `fetch`, or the other side is not the one that is expected. Then write what
    /// [`seal`](Self::seal) returns for no bytes: it tells the other side.
    pub fn advance(&self, fetch: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |session| session.advance(fetch))
    }

    /// The bytes to write for these.
    ///
    /// # Errors
    ///
    /// The session has failed before.
    pub fn seal<'b>(&self, plain: &'b [u8]) -> io::Result<Cow<'b, [u8]>> {
        match &self.0 {
            Some(session) => session.seal(plain).map(Cow::Owned),
            None => Ok(Cow::Borrowed(plain)),
        }
    }

    /// Reads, as [`Read::read`](io::Read::read) does. `fetch` reads from the socket.
    ///
    /// # Errors
    ///
    /// Those of `fetch`, or what arrived is not of the session.
    pub fn read(
        &self,
        plain: &mut [u8],
        mut fetch: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match &self.0 {
            Some(session) => session.read(plain, fetch),
            None => fetch(plain),
        }
    }

    /// Whether the next [`read`](Self::read) may return without fetching.
    pub fn may_hold(&self) -> bool {
        self.0.as_ref().is_some_and(Session::may_hold)
    }

    /// For which nodes the other side may speak. Ask after the handshake.
    pub fn speaker(&self) -> Speaker {
        self.0.as_ref().map_or_else(Speaker::default, Session::speaker)
    }
}
