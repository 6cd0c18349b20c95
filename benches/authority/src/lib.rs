//! An authority for tests and for trying TLS: it signs certificates that name nodes as
//! [`raft_core::host::tls`] wants them.
//!
//! Its key lies in a file without a password, beside those of the nodes. A cluster that matters has
//! an authority elsewhere.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use raft_core::NodeId;
use raft_core::host::ClusterId;
use raft_core::host::tls::rustls::pki_types::pem::PemObject;
use raft_core::host::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use raft_core::host::tls::{Credentials, PemFiles, name};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority's own certificate is valid.
const AUTHORITY_DAYS: u32 = 3650;
const AUTHORITY_NAME: &str = "authority for tests of raft";

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Valid {
    /// From yesterday, for so many days from now.
    Days(u32),
    /// It was, until yesterday.
    NoLonger,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new authority, which nobody knows.
    pub fn new() -> Self {
        Self::of(new_key())
    }

    /// The authority whose key and certificate are in this folder, made anew if there is none.
    ///
    /// # Errors
    ///
    /// The files cannot be read or written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let (key, certificate) = (folder.join("ca.key"), folder.join("ca.pem"));
        if key.exists() {
            let pair = KeyPair::from_pem(&fs::read_to_string(key)?).map_err(io::Error::other)?;
            let certificate = fs::read_to_string(certificate)?;
            return Ok(Self { certificate, ..Self::of(pair) });
        }
        let authority = Self::new();
        write_private(&key, &authority.issuer.key().serialize_pem())?;
        fs::write(certificate, &authority.certificate)?;
        Ok(authority)
    }

    fn of(key: KeyPair) -> Self {
        let mut params = params(Valid::Days(AUTHORITY_DAYS), AUTHORITY_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("the parameters are sound").pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// The authority's certificate in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for a node.
    pub fn pair(&self, cluster: ClusterId, node: NodeId, valid: Valid) -> Pair {
        self.pair_of(&[&name(cluster, node)], valid)
    }

    /// A certificate with these URIs.
    ///
    /// # Panics
    ///
    /// One of them is not ASCII.
    pub fn pair_of(&self, uris: &[&str], valid: Valid) -> Pair {
        let key = new_key();
        let mut params = params(valid, uris.first().copied().unwrap_or("a node"));
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("URIs are ASCII"));
        params.subject_alt_names = uris.iter().map(uri).collect();
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let signed: Certificate =
            params.signed_by(&key, &self.issuer).expect("the parameters are sound");
        Pair { certificate: signed.pem(), key: key.serialize_pem() }
    }

    /// A node's credentials, of this authority, in memory.
    pub fn credentials(&self, cluster: ClusterId, node: NodeId) -> Credentials {
        self.credentials_of(&self.pair(cluster, node, Valid::Days(1)))
    }

    /// These credentials, with this authority as the one that is trusted.
    ///
    /// # Panics
    ///
    /// They are not PEM.
    pub fn credentials_of(&self, pair: &Pair) -> Credentials {
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes());
        Credentials {
            certificates: vec![certificate(&pair.certificate).expect("it is PEM")],
            key: PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("it is PEM"),
            authorities: vec![certificate(&self.certificate).expect("it is PEM")],
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Pair {
    /// Writes a node's pair into the authority's folder, and returns the files that its node needs.
    ///
    /// # Errors
    ///
    /// The files cannot be written.
    pub fn write(&self, folder: &Path, node: NodeId) -> io::Result<PemFiles> {
        let file = |suffix| -> PathBuf { folder.join(format!("node-{node}.{suffix}")) };
        let (certificate, key) = (file("pem"), file("key"));
        write_private(&key, &self.key)?;
        fs::write(&certificate, &self.certificate)?;
        Ok(PemFiles { certificate, key, authorities: folder.join("ca.pem") })
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system has random numbers")
}

fn params(valid: Valid, subject: &str) -> CertificateParams {
    let now = SystemTime::now();
    let (from, to) = match valid {
        Valid::Days(days) => (now - DAY, now + DAY * days),
        Valid::NoLonger => (now - 2 * DAY, now - DAY),
    };
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (from.into(), to.into());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}

/// Only the user of this process can read the file.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    for_the_user_alone(&mut options);
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(unix)]
fn for_the_user_alone(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;

    options.mode(0o600);
}

#[cfg(not(unix))]
fn for_the_user_alone(_options: &mut OpenOptions) {}
