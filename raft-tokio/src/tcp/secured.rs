//! Plain TCP: nothing is encrypted, and nothing is proved.

use raft_core::NodeId;
use raft_core::host::tcp::{Closed, Guard, Speaker};
use tokio::net::TcpStream;

use super::connection::Stream;

/// Secures a connection that was accepted. Takes the time that the other side takes.
pub(super) async fn accept(_guard: &Guard, stream: TcpStream) -> Result<(Stream, Speaker), Closed> {
    Ok((Box::new(stream), Speaker::default()))
}

/// Secures a connection that was dialed. Takes the time that the peer takes.
pub(super) async fn dial(
    _guard: &Guard,
    stream: TcpStream,
    _peer: NodeId,
) -> Result<Stream, Closed> {
    Ok(Box::new(stream))
}
