//! TLS between servers: its flags, the authority to try it with, and files that change.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use authority::{Authority, Valid};
use clap::Args;
use raft_core::NodeId;
use raft_core::host::ClusterId;
use raft_core::host::tls::{PemFiles, Tls, name};

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// The flags of `kv serve` for TLS: all or none.
#[derive(Args, Debug)]
pub(crate) struct TlsFlags {
    /// Encrypt what servers say to each other, and let in only servers whose certificates name
    /// them: this server's certificate, in PEM, with the URI raft://CLUSTER/ID. The files are read
    /// again when they change
    #[arg(long, value_name = "FILE", requires = "tls_key", requires = "tls_ca")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The authorities that sign the servers' certificates, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,
}

/// The flags of `kv tls-ca`.
#[derive(Args, Debug)]
pub struct AuthorityFlags {
    /// The folder of the authority; made if absent. Its key lies there without a password
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The servers to make certificates for
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,3")]
    ids: Vec<u64>,
    /// The number of their cluster
    #[arg(long, value_name = "N", default_value_t = 1)]
    cluster: u64,
    /// How long the certificates are valid
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    days: u32,
}

impl TlsFlags {
    pub(crate) fn files(self) -> Option<PemFiles> {
        let (certificate, key, authorities) = (self.tls_cert?, self.tls_key?, self.tls_ca?);
        Some(PemFiles { certificate, key, authorities })
    }
}

/// TLS with these files, which are read again when they change.
pub(crate) fn open(files: PemFiles) -> Result<Tls, Box<dyn Error>> {
    let tls = Tls::from_pem_files(files)?;
    let reloading = tls.clone();
    thread::Builder::new().name("kv-tls".into()).spawn(move || keep_fresh(&reloading))?;
    Ok(tls)
}

/// Reads the files again and again, for as long as the process lives.
fn keep_fresh(tls: &Tls) {
    let mut failed = String::new();
    loop {
        thread::sleep(RELOAD_INTERVAL);
        match tls.reload() {
            Ok(changed) => {
                if changed {
                    tracing::info!("new certificates: connections made from now on use them");
                }
                failed.clear();
            }
            Err(error) => {
                let reason = error.to_string();
                if reason != failed {
                    tracing::warn!(reason, "the certificates in use stay");
                    failed = reason;
                }
            }
        }
    }
}

/// Makes certificates for servers, by an authority for tests.
pub(crate) fn make(flags: &AuthorityFlags) -> io::Result<()> {
    let AuthorityFlags { folder, ids, cluster, days } = flags;
    let authority = Authority::open(folder)?;
    let cluster = ClusterId::new(*cluster);
    for node in ids.iter().copied().map(NodeId::new) {
        let files = authority.pair(cluster, node, Valid::Days(*days)).write(folder, node)?;
        println!("{} names {}", files.certificate.display(), name(cluster, node));
    }
    Ok(())
}
