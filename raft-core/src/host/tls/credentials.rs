//! A node's certificate, its key, and the authorities that it trusts.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, RootCertStore, ServerConfig};

use super::error::TlsError;
use super::verifier::Authorities;

/// The protocol as ALPN names it, so that no other TLS service is taken for a node.
const PROTOCOL: &[u8] = b"raft";

/// The files that hold a node's credentials, in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PemFiles {
    /// The node's certificate, followed by those between it and an authority, if any.
    pub certificate: PathBuf,
    /// The certificate's private key (PKCS#8, SEC1 or PKCS#1). Only the service should be able to
    /// read it.
    pub key: PathBuf,
    /// The certificates of the authorities that sign nodes' certificates. While an authority is
    /// replaced by another, both.
    pub authorities: PathBuf,
}

impl PemFiles {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`TlsError::File`] or [`TlsError::NoCertificate`].
    pub fn read(&self) -> Result<Credentials, TlsError> {
        let failed = |path: &Path, error| TlsError::File { path: path.into(), error };
        let read =
            |path: &Path| fs::read(path).map_err(|error| failed(path, pem::Error::Io(error)));
        let certificates = |path: &Path| {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
            match found {
                Ok(found) if found.is_empty() => Err(TlsError::NoCertificate { path: path.into() }),
                Ok(found) => Ok(found),
                Err(error) => Err(failed(path, error)),
            }
        };
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?);
        Ok(Credentials {
            certificates: certificates(&self.certificate)?,
            key: key.map_err(|error| failed(&self.key, error))?,
            authorities: certificates(&self.authorities)?,
        })
    }
}

/// What a node shows to its peers, and whom it trusts.
pub struct Credentials {
    /// The node's certificate, followed by those between it and an authority, if any.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The certificate's private key.
    pub key: PrivateKeyDer<'static>,
    /// The certificates of the authorities that sign nodes' certificates.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Without the key.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("certificates", &self.certificates.len())
            .field("authorities", &self.authorities.len())
            .finish_non_exhaustive()
    }
}

/// Credentials as rustls uses them.
#[derive(Clone)]
pub(super) struct Configured {
    credentials: Arc<Credentials>,
    pub(super) authorities: Authorities,
    pub(super) acceptor: Arc<ServerConfig>,
    /// Refuses every certificate until it gets the verifier of a peer.
    pub(super) dialer: Arc<ClientConfig>,
}

impl Configured {
    pub(super) fn new(credentials: Credentials) -> Result<Self, TlsError> {
        let provider = CryptoProvider::get_default()
            .cloned()
            .unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
        let mut roots = RootCertStore::empty();
        for authority in &credentials.authorities {
            roots.add(authority.clone()).map_err(unusable("the certificate of an authority"))?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoAuthority);
        }
        let authorities = Authorities { roots: Arc::new(roots), provider };
        let acceptor = acceptor(&credentials, &authorities)?;
        let dialer = dialer(&credentials, &authorities)?;
        let (own, intermediates) =
            credentials.certificates.split_first().ok_or(TlsError::Unusable {
                what: "the credentials",
                error: Error::NoCertificatesPresented,
            })?;
        authorities
            .check(own, intermediates, UnixTime::now())
            .map_err(unusable("this node's own certificate"))?;
        Ok(Self {
            credentials: Arc::new(credentials),
            authorities,
            acceptor: Arc::new(acceptor),
            dialer: Arc::new(dialer),
        })
    }

    /// The node's certificate.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        self.credentials.certificates.first().expect("`new` has looked for it")
    }

    /// Whether these are the credentials.
    pub(super) fn is_of(&self, other: &Credentials) -> bool {
        let Credentials { certificates, key, authorities } = &*self.credentials;
        *certificates == other.certificates
            && *key == other.key
            && *authorities == other.authorities
    }
}

fn unusable(what: &'static str) -> impl Fn(Error) -> TlsError {
    move |error| TlsError::Unusable { what, error }
}

fn acceptor(
    credentials: &Credentials,
    authorities: &Authorities,
) -> Result<ServerConfig, TlsError> {
    let Authorities { roots, provider } = authorities;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
            .build()
            .expect("there are authorities, and no lists of revoked certificates");
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable("the process's cryptography"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.certificates.clone(), credentials.key.clone_key())
        .map_err(unusable("the key with this node's own certificate"))?;
    // A resumed session would skip the check of the certificate.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![PROTOCOL.into()];
    Ok(config)
}

fn dialer(credentials: &Credentials, authorities: &Authorities) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&authorities.provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable("the process's cryptography"))?
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(credentials.certificates.clone(), credentials.key.clone_key())
        .map_err(unusable("the key with this node's own certificate"))?;
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![PROTOCOL.into()];
    Ok(config)
}
