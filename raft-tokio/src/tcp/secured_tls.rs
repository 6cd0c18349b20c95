//! TLS, if the transport was told so, or else plain TCP.

use raft_core::NodeId;
use raft_core::host::tcp::{Closed, Guard, Speaker};
use raft_core::host::tls::NodeTls;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::connection::Stream;

/// Secures a connection that was accepted. Takes the time that the other side takes.
pub(super) async fn accept(guard: &Guard, stream: TcpStream) -> Result<(Stream, Speaker), Closed> {
    let Some(node_tls) = guard.tls() else { return Ok((Box::new(stream), Speaker::default())) };
    let stream = TlsAcceptor::from(node_tls.acceptor()).accept(stream).await?;
    let speaker = node_tls.speaker(stream.get_ref().1.peer_certificates());
    Ok((Box::new(stream), speaker))
}

/// Secures a connection that was dialed. Takes the time that the peer takes.
pub(super) async fn dial(guard: &Guard, stream: TcpStream, peer: NodeId) -> Result<Stream, Closed> {
    let Some(node_tls) = guard.tls() else { return Ok(Box::new(stream)) };
    let connector = TlsConnector::from(node_tls.dialer(peer));
    Ok(Box::new(connector.connect(NodeTls::server_name(), stream).await?))
}
