//! Why bytes are not a backup that can be used.

use std::error::Error;
use std::fmt;
use std::io;
use std::string::String;
use std::sync::Arc;

/// Why bytes are not a backup that can be used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BackupReadError {
    /// The bytes could not be read: mend the cause, and read again.
    Io {
        /// The reason of the operating system.
        source: Arc<io::Error>,
    },
    /// These bytes are no backup: check the path.
    NotABackup,
    /// The backup was written by a version of this library with another format. Nothing is damaged:
    /// run that version, or a later one.
    UnknownVersion {
        /// The version of its format.
        version: u32,
        /// The version that this library reads.
        known: u32,
    },
    /// The backup holds something that only a newer version of this library knows. Nothing is
    /// damaged: run the version that wrote it, or a later one.
    FromNewer {
        /// What is not known.
        what: String,
    },
    /// The backup ends too early: it was not copied whole, or its writer was interrupted. Copy it
    /// again, or take another one.
    Truncated {
        /// How many bytes there are.
        bytes: u64,
    },
    /// The backup is not as it was written. Copy it again, or take another one.
    Damaged {
        /// Where the damaged frame begins, in bytes from the start.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// Something follows the end of the backup, so this is not the file that was written. Copy it
    /// again, or take another one.
    TrailingBytes {
        /// Where the backup ends, in bytes from the start.
        offset: u64,
    },
}

impl fmt::Display for BackupReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { source } => {
                write!(f, "backup: cannot read it: {source}; mend the cause and read it again")
            }
            Self::NotABackup => {
                f.write_str("backup: these bytes are no backup of this library; check the path")
            }
            Self::UnknownVersion { version, known } => write!(
                f,
                "backup: it has version {version} of the format, and this program reads {known}; nothing is damaged, keep the \
                 file: run the version that wrote it, or a later one"
            ),
            Self::FromNewer { what } => write!(
                f,
                "backup: it was written by a newer version of this program: {what}; nothing is damaged, keep the file: run the \
                 version that wrote it, or a later one"
            ),
            Self::Truncated { bytes } => write!(
                f,
                "backup: it ends after {bytes} bytes, before its end: it was not copied whole, or its writer was interrupted; \
                 copy it again, or take another backup"
            ),
            Self::Damaged { offset, what } => write!(
                f,
                "backup: it is damaged at byte {offset}: {what}; copy it again, or take another backup"
            ),
            Self::TrailingBytes { offset } => write!(
                f,
                "backup: it ends at byte {offset}, and something follows; copy it again, or take another backup"
            ),
        }
    }
}

impl Error for BackupReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source } => Some(&**source),
            Self::NotABackup
            | Self::UnknownVersion { .. }
            | Self::FromNewer { .. }
            | Self::Truncated { .. }
            | Self::Damaged { .. }
            | Self::TrailingBytes { .. } => None,
        }
    }
}
