//! Mutual TLS 1.3 between nodes (feature `tls`), for every TCP transport.
//!
//! Both sides of a connection show a certificate. Each side checks three things before the first
//! message: the certificate comes from an authority of the cluster, it is valid now, and it names
//! the node that it is shown for. The name is a URI among the subject's alternative names:
//!
//! ```text
//! raft://<cluster>/<node>     the numbers of ClusterId and NodeId in decimal, as raft://7/2
//! ```
//!
//! | side | checks the name | against |
//! |---|---|---|
//! | dialer | within the handshake of TLS | the node that it dials |
//! | acceptor | after the handshake of TLS | the node that the [`Hello`] says it comes from |
//! | each, when it starts | before it opens a connection | its own [`Identity`] |
//!
//! A certificate may have several names. [`Tls::with_names`] replaces the scheme, for those whose
//! certificates have names of another kind, and can refuse certificates that were revoked.
//!
//! ```text
//! PemFiles ─► Credentials ─► Tls ─► NodeTls (a node) ─► rustls' configurations, one for a side
//!                             ▲
//!               reload ───────┘  connections made from then on use the new ones
//! ```
//!
//! A connection is checked when it is made, and stays until it ends, also if its certificate
//! expires meanwhile. Sessions are never resumed, so each new connection is checked in full.
//!
//! Cryptography is that of rustls' default provider, aws-lc-rs, unless the application has
//! installed another [`CryptoProvider`](rustls::crypto::CryptoProvider) for its process. No
//! certificate is parsed here: rustls and its webpki do that.
//!
//! [`Hello`]: crate::host::handshake::Hello

use std::fmt;
use std::string::String;
use std::sync::{Arc, Mutex, RwLock};
use std::vec::Vec;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ServerConfig};

use crate::host::identity::{ClusterId, Identity};
use crate::host::tcp::Speaker;
use crate::types::NodeId;

mod credentials;
mod error;
mod names;
mod reasons;
mod session;
mod verifier;

pub use credentials::{Credentials, PemFiles};
pub use error::TlsError;
pub use names::{name, names};
pub(in crate::host) use reasons::reason;
pub use rustls;
pub use session::Session;

use credentials::Configured;
use names::Names;
use verifier::PeerVerifier;

/// The certificates of a node, or of several nodes in one process, and how those of peers are
/// checked. Cheap to clone; clones share what [`Tls::reload`] replaces.
///
/// # Example
///
/// ```no_run
/// use raft_core::host::tls::{PemFiles, Tls};
///
/// # fn main() -> Result<(), raft_core::host::tls::TlsError> {
/// let tls = Tls::from_pem_files(PemFiles {
///     certificate: "/etc/raft/node.pem".into(),
///     key: "/etc/raft/node.key".into(),
///     authorities: "/etc/raft/ca.pem".into(),
/// })?;
/// // Give a clone to the transport: `Transport::bind(..)?.with_tls(tls.clone())`.
/// // Later, when the files may have changed:
/// if tls.reload()? {
///     println!("new connections use the new certificate");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls {
    shared: Arc<Shared>,
    names: Arc<Names>,
}

struct Shared {
    files: Option<PemFiles>,
    configured: RwLock<Configured>,
    /// The nodes that use these credentials. New credentials must name all of them.
    nodes: Mutex<Vec<(ClusterId, NodeId)>>,
}

impl Tls {
    /// Reads the credentials from files, which [`Tls::reload`] reads again.
    ///
    /// # Errors
    ///
    /// A file cannot be used, or the certificate is of no use: the text says which, and what to do.
    pub fn from_pem_files(files: PemFiles) -> Result<Self, TlsError> {
        let credentials = files.read()?;
        Self::of(credentials, Some(files))
    }

    /// Takes credentials from elsewhere. [`Tls::replace`] takes later ones.
    ///
    /// # Errors
    ///
    /// The key does not belong to the certificate, or the certificate comes from none of the
    /// authorities, is not valid now, or may not be used on both sides of a connection.
    pub fn new(credentials: Credentials) -> Result<Self, TlsError> {
        Self::of(credentials, None)
    }

    fn of(credentials: Credentials, files: Option<PemFiles>) -> Result<Self, TlsError> {
        let configured = RwLock::new(Configured::new(credentials)?);
        let shared = Shared { files, configured, nodes: Mutex::new(Vec::new()) };
        Ok(Self { shared: Arc::new(shared), names: Arc::new(names) })
    }

    /// Checks names by a rule of your own in place of [`names`]. The function gets a certificate
    /// that comes from an authority and is valid, and says whether its holder may act as the node.
    /// Call it before the transport starts. It runs in the handshake of each connection, so it must
    /// not block.
    #[must_use]
    pub fn with_names(
        self,
        names: impl Fn(&CertificateDer<'_>, ClusterId, NodeId) -> Result<(), String>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { names: Arc::new(names), ..self }
    }

    /// Reads the files again. Returns whether they have changed; connections made from now on use
    /// what they hold. Connections that exist stay as they are.
    ///
    /// # Errors
    ///
    /// As of [`Tls::from_pem_files`], or a node that uses the credentials is not named any more.
    /// The credentials in use stay, so a pair of files that is half written does no harm: try
    /// again.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = self.shared.files.as_ref().ok_or(TlsError::NoFiles)?;
        let credentials = files.read()?;
        if self.configured().is_of(&credentials) {
            return Ok(false);
        }
        self.replace(credentials)?;
        Ok(true)
    }

    /// Uses other credentials for connections made from now on.
    ///
    /// # Errors
    ///
    /// As of [`Tls::new`], or a node that uses the credentials is not named any more. The
    /// credentials in use stay.
    pub fn replace(&self, credentials: Credentials) -> Result<(), TlsError> {
        let configured = Configured::new(credentials)?;
        let nodes = self.shared.nodes.lock().expect(UNPOISONED);
        for (cluster, node) in &*nodes {
            self.check_own_name(&configured, *cluster, *node)?;
        }
        *self.shared.configured.write().expect(UNPOISONED) = configured;
        Ok(())
    }

    /// What a transport needs for the connections of one node. Transports call it when they start.
    ///
    /// # Errors
    ///
    /// The certificate does not name the node, so no peer would talk to it.
    pub fn for_node(&self, identity: Identity) -> Result<NodeTls, TlsError> {
        let Identity { cluster, node, .. } = identity;
        let mut nodes = self.shared.nodes.lock().expect(UNPOISONED);
        self.check_own_name(&self.configured(), cluster, node)?;
        if !nodes.contains(&(cluster, node)) {
            nodes.push((cluster, node));
        }
        Ok(NodeTls { tls: self.clone(), cluster })
    }

    fn check_own_name(
        &self,
        configured: &Configured,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<(), TlsError> {
        (self.names)(configured.certificate(), cluster, node).map_err(TlsError::Name)
    }

    fn configured(&self) -> Configured {
        self.shared.configured.read().expect(UNPOISONED).clone()
    }
}

const UNPOISONED: &str = "nothing panics while it holds this lock";

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.shared.files).finish_non_exhaustive()
    }
}

/// TLS of one node: what its transport asks for each connection.
#[derive(Clone, Debug)]
pub struct NodeTls {
    tls: Tls,
    cluster: ClusterId,
}

impl NodeTls {
    /// The configuration for a connection that was accepted.
    pub fn acceptor(&self) -> Arc<ServerConfig> {
        self.tls.configured().acceptor
    }

    /// The configuration for a connection that was dialed to reach this peer.
    pub fn dialer(&self, peer: NodeId) -> Arc<ClientConfig> {
        let configured = self.tls.configured();
        let verifier = PeerVerifier {
            authorities: configured.authorities,
            names: Arc::clone(&self.tls.names),
            cluster: self.cluster,
            peer,
        };
        let mut config = ClientConfig::clone(&configured.dialer);
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        Arc::new(config)
    }

    /// The name that rustls asks for when it dials. It is not sent, and nothing depends on it.
    pub fn server_name() -> ServerName<'static> {
        ServerName::try_from("raft.invalid").expect("this is a name")
    }

    /// For which nodes the other side of an accepted connection may speak, by the certificates that
    /// it has shown in the handshake of TLS.
    pub fn speaker(&self, shown: Option<&[CertificateDer<'_>]>) -> Speaker {
        let certificate = shown.and_then(<[_]>::first).map(|shown| shown.clone().into_owned());
        let names = Arc::clone(&self.tls.names);
        let cluster = self.cluster;
        Speaker::new(move |node| match &certificate {
            Some(certificate) => names(certificate, cluster, node),
            None => Err("no certificate was shown".into()),
        })
    }
}
