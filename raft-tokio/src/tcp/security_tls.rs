//! TLS, if the transport was told so, or else plain TCP.

use std::io;

use raft_core::NodeId;
use raft_core::host::Identity;
use raft_core::host::tcp::{Closed, Speaker};
use raft_core::host::tls::{Endpoint, Tls};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::connection::Stream;

/// What a transport was told about security.
#[derive(Debug)]
pub(super) struct Security(Option<Tls>);

/// The security of one node's connections.
#[derive(Debug)]
pub(super) struct Guard(Option<Endpoint>);

impl Security {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn new(tls: Tls) -> Self {
        Self(Some(tls))
    }

    /// The security of a node's connections. Fails if the certificate does not name the node.
    pub(super) fn guard(&self, identity: Identity) -> io::Result<Guard> {
        let endpoint = self.0.as_ref().map(|tls| tls.endpoint(identity)).transpose()?;
        Ok(Guard(endpoint))
    }
}

impl Guard {
    /// Secures a connection that was accepted. Takes the time that the other side takes.
    pub(super) async fn accept(&self, stream: TcpStream) -> Result<(Stream, Speaker), Closed> {
        let Some(endpoint) = &self.0 else { return Ok((Box::new(stream), Speaker::default())) };
        let stream = TlsAcceptor::from(endpoint.acceptor()).accept(stream).await?;
        let speaker = endpoint.speaker(stream.get_ref().1.peer_certificates());
        Ok((Box::new(stream), speaker))
    }

    /// Secures a connection that was dialed. Takes the time that the peer takes.
    pub(super) async fn dial(&self, stream: TcpStream, peer: NodeId) -> Result<Stream, Closed> {
        let Some(endpoint) = &self.0 else { return Ok(Box::new(stream)) };
        let connector = TlsConnector::from(endpoint.dialer(peer));
        Ok(Box::new(connector.connect(Endpoint::server_name(), stream).await?))
    }
}
