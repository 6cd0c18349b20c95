//! Why credentials cannot be used.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::string::String;

use rustls::pki_types::pem;

use super::reasons;

/// Why credentials cannot be used. The text says what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: pem::Error,
    },
    /// A file holds no certificate.
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There are no authorities, so no peer could be trusted.
    NoAuthority,
    /// rustls cannot use a certificate or the key.
    Unusable {
        /// What cannot be used.
        what: &'static str,
        /// Why.
        error: rustls::Error,
    },
    /// The certificate does not name the node that is to use it.
    Name(String),
    /// The credentials did not come from files, so they cannot be read again.
    NoFiles,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "those of PEM are all alike")]
impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => match error {
                pem::Error::Io(error) => write!(f, "cannot read {}: {error}", path.display()),
                pem::Error::NoItemsFound => write!(
                    f,
                    "{} holds no private key in PEM: look for a line BEGIN PRIVATE KEY",
                    path.display()
                ),
                _ => write!(f, "{} is not PEM, or is cut: make it again", path.display()),
            },
            Self::NoCertificate { path } => write!(
                f,
                "{} holds no certificate in PEM: look for a line BEGIN CERTIFICATE",
                path.display()
            ),
            Self::NoAuthority => f.write_str(
                "there is no authority: name the one that signs the nodes' certificates",
            ),
            Self::Unusable { what, error } => {
                write!(f, "{what} cannot be used: {}", reasons::own(error))
            }
            Self::Name(missing) => {
                write!(f, "this node's own certificate is not for this node: {missing}")
            }
            Self::NoFiles => {
                f.write_str("the credentials do not come from files: give new ones to `replace`")
            }
        }
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File { error, .. } => Some(error),
            Self::Unusable { error, .. } => Some(error),
            Self::NoCertificate { .. } | Self::NoAuthority | Self::Name(_) | Self::NoFiles => None,
        }
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}
