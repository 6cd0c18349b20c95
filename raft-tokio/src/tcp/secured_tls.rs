//! TLS, if the transport was told so, or else plain TCP.

use raft_core::NodeId;
use raft_core::host::tcp::{Closed, Guard, Speaker};
use raft_core::host::tls::Endpoint;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::connection::Stream;

/// Secures a connection that was accepted. Takes the time that the other side takes.
pub(super) async fn accept(guard: &Guard, stream: TcpStream) -> Result<(Stream, Speaker), Closed> {
    let Some(endpoint) = guard.tls() else { return Ok((Box::new(stream), Speaker::default())) };
    let stream = TlsAcceptor::from(endpoint.acceptor()).accept(stream).await?;
    let speaker = endpoint.speaker(stream.get_ref().1.peer_certificates());
    Ok((Box::new(stream), speaker))
}

/// Secures a connection that was dialed. Takes the time that the peer takes.
pub(super) async fn dial(guard: &Guard, stream: TcpStream, peer: NodeId) -> Result<Stream, Closed> {
    let Some(endpoint) = guard.tls() else { return Ok(Box::new(stream)) };
    let connector = TlsConnector::from(endpoint.dialer(peer));
    Ok(Box::new(connector.connect(Endpoint::server_name(), stream).await?))
}
