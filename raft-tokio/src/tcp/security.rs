//! Plain TCP: nothing is encrypted, and nothing is proved.

use std::io;

use raft_core::NodeId;
use raft_core::host::Identity;
use raft_core::host::tcp::{Closed, Speaker};
use tokio::net::TcpStream;

use super::connection::Stream;

/// What a transport was told about security: nothing.
#[derive(Debug)]
pub(super) struct Security;

/// The security of one node's connections: none.
#[derive(Debug)]
pub(super) struct Guard;

impl Security {
    pub(super) fn none() -> Self {
        Self
    }

    /// The security of a node's connections.
    pub(super) fn guard(&self, _identity: Identity) -> io::Result<Guard> {
        Ok(Guard)
    }
}

impl Guard {
    /// Secures a connection that was accepted. Takes the time that the other side takes.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<(Stream, Speaker), Closed> {
        Ok((Box::new(stream), Speaker::default()))
    }

    /// Secures a connection that was dialed. Takes the time that the peer takes.
    pub(super) async fn dial(&self, stream: TcpStream, _peer: NodeId) -> Result<Stream, Closed> {
        Ok(Box::new(stream))
    }
}
