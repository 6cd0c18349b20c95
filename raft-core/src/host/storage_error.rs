//! Why a journal or a snapshot cannot be used: each reason with the file, and with what to do next.

use std::boxed::Box;
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::string::{String, ToString};
use std::sync::Arc;

use crate::codec::DecodeError;
use crate::host::identity::ClusterId;
use crate::types::NodeId;

/// What to do about a journal that has lost something. An older copy is no remedy, because it has
/// forgotten votes and acknowledgements that other servers rely on.
///
/// There is one rule for a server that lost its memory, wherever it is told: remove the server,
/// wait until it is removed, empty its directory, and add it again as a learner, under its old id
/// or a new one. The old id may be used again, because the store that the cluster had recorded for
/// the id is gone with the old member.
const REMEDY: &str = "a byte-exact copy of the file repairs it, an older backup does not (it has forgotten promises that other \
                      servers rely on); without one, remove this server from the cluster, empty its journal directory, and add \
                      it again as a learner";

/// Why a journal or a snapshot cannot be opened, read or written. Final: see
/// [`Journal`](super::Journal).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused.
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Its reason.
        source: Arc<io::Error>,
    },
    /// There is no room to write (disk, quota or file size): free some space, then start the node
    /// again. Nothing durable was lost.
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Another process, or another node in this process, has the journal open: stop it, or choose
    /// another directory.
    InUse {
        /// The journal's directory.
        directory: PathBuf,
        /// The id of that process, if it could be read.
        process: Option<u32>,
    },
    /// The file is not as it was written, and no crash explains it.
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Where the damaged frame begins, in bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A segment is missing although segments before or behind it are there.
    SegmentMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The snapshot that the journal begins with is not there.
    SnapshotMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The snapshot is not as it was written, or not the snapshot that was asked for.
    SnapshotDamaged {
        /// The damaged file.
        path: PathBuf,
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A backup was being restored into this directory, and that was interrupted: empty the
    /// directory, and restore the backup again.
    RestoreUnfinished {
        /// The directory.
        directory: PathBuf,
    },
    /// There is no journal in this directory: check the path.
    NothingThere {
        /// The directory.
        directory: PathBuf,
    },
    /// The journal belongs to another node or another cluster: check the node's configuration.
    Foreign {
        /// The file that says so.
        path: PathBuf,
        /// Whose journal it is.
        owner: (ClusterId, NodeId),
        /// The node that asked for it.
        asked: (ClusterId, NodeId),
    },
    /// The file was written by a version of this library that uses a format which this version does
    /// not read. Nothing is damaged, and nothing is to be wiped: run the version that wrote the
    /// file. For a newer format, any later version reads it as well.
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Which of the formats in it.
        format: &'static str,
        /// The version of that format in the file.
        version: u32,
        /// The versions that this library reads.
        known: RangeInclusive<u32>,
    },
    /// The file holds something that only a newer version of this library knows. Nothing is
    /// damaged, and nothing is to be wiped: run the version that wrote it, or a later one.
    FromNewer {
        /// The file.
        path: PathBuf,
        /// Where the frame begins that holds it, in bytes from the start of the file.
        offset: u64,
        /// What is not known.
        what: String,
    },
    /// A write is longer than a frame can hold: lower
    /// [`Config::write_bytes_max`](crate::Config::write_bytes_max).
    WriteTooLong {
        /// How long it is, encoded.
        bytes: usize,
    },
    /// A write does not follow those before it. This is a bug in this library, noticed before it
    /// could destroy the journal.
    Inconsistent {
        /// What does not fit.
        what: String,
    },
    /// The journal must be recovered once before it is written. This one was not, or another node
    /// has recovered it since.
    NotRecovered,
    /// A journal, or a store for snapshots, of the application's own failed. The node stops, as for
    /// any other error here, so an operation that may succeed later is repeated by the journal.
    Other {
        /// What failed, and what to do about it.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A test asked for this failure ([`MemoryJournal::fail`](super::MemoryJournal::fail)).
    Injected,
}

impl StorageError {
    /// The error of a journal, or of a store for snapshots, of the application's own.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other { source: Arc::from(error.into()) }
    }

    /// The error for what the operating system refused: [`Self::DiskFull`] or [`Self::Io`].
    pub(in crate::host) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge];
        if full.contains(&source.kind()) {
            Self::DiskFull { path, source: Arc::new(source) }
        } else {
            Self::Io { action, path, source: Arc::new(source) }
        }
    }
}

/// Why bytes whose checksums are right cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::host) enum Refused {
    /// No version writes this.
    Damaged(String),
    /// A newer version wrote this.
    FromNewer(String),
}

impl Refused {
    /// The reason why `what` cannot be decoded: damage, or a newer version.
    pub(in crate::host) fn undecodable(what: &str, error: DecodeError) -> Self {
        if error.is_from_newer() {
            return Self::FromNewer(error.to_string());
        }
        Self::Damaged(std::format!("{what} cannot be decoded: {error}"))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Damaged(what) | Self::FromNewer(what)) = self;
        f.write_str(what)
    }
}

impl From<String> for Refused {
    fn from(what: String) -> Self {
        Self::Damaged(what)
    }
}

impl From<&str> for Refused {
    fn from(what: &str) -> Self {
        Self::Damaged(what.into())
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, source } => {
                let path = path.display();
                write!(
                    f,
                    "journal: cannot {action} {path}: {source}; nothing durable was lost: mend the cause and start the node again"
                )
            }
            Self::DiskFull { path, source } => write!(
                f,
                "journal: no room to write {}: {source}; free some space and start the node again, nothing durable was lost",
                path.display()
            ),
            Self::InUse { directory, process } => fmt_in_use(f, directory, *process),
            Self::Damaged { path, offset, what } => {
                write!(f, "journal: {} is damaged at byte {offset}: {what}; {REMEDY}", path.display())
            }
            Self::SegmentMissing { path } => {
                write!(f, "journal: {} is missing; {REMEDY}", path.display())
            }
            Self::SnapshotMissing { path } => {
                write!(f, "journal: the snapshot {} is missing; {REMEDY}", path.display())
            }
            Self::SnapshotDamaged { path, offset, what } => write!(
                f,
                "journal: the snapshot {} is damaged at byte {offset}: {what}; {REMEDY}",
                path.display()
            ),
            Self::RestoreUnfinished { directory } => fmt_restore_unfinished(f, directory),
            Self::NothingThere { directory } => {
                write!(f, "journal: there is none with members in {}; check the path", directory.display())
            }
            Self::Foreign { path, owner, asked } => write!(
                f,
                "journal: {} belongs to node {} of cluster {:#x}, not to node {} of cluster {:#x}; check this node's id, its \
                 cluster id and its journal directory",
                path.display(),
                owner.1,
                owner.0.get(),
                asked.1,
                asked.0.get(),
            ),
            Self::UnknownVersion { path, format, version, known } => {
                fmt_unknown_version(f, path, format, *version, known)
            }
            Self::FromNewer { path, offset, what } => write!(
                f,
                "journal: {} was written by a newer version of this program: at byte {offset}, {what}; nothing is damaged, keep \
                 the file: run the version that wrote it, or a later one",
                path.display()
            ),
            Self::WriteTooLong { bytes } => write!(
                f,
                "journal: a write of {bytes} bytes does not fit into one frame; lower write_bytes_max"
            ),
            Self::Inconsistent { what } => {
                write!(f, "journal: a write does not follow those before it: {what}; please report this bug")
            }
            Self::NotRecovered => f.write_str(
                "journal: not recovered, or recovered by another node since; call recover once before the first write",
            ),
            Self::Other { source } => write!(f, "journal: {source}"),
            Self::Injected => f.write_str("journal: failure asked for by a test"),
        }
    }
}

fn fmt_restore_unfinished(f: &mut fmt::Formatter<'_>, directory: &Path) -> fmt::Result {
    write!(
        f,
        "journal: a backup was being restored into {}, and that was interrupted; empty the directory and restore the backup again",
        directory.display()
    )
}

fn fmt_in_use(f: &mut fmt::Formatter<'_>, directory: &Path, process: Option<u32>) -> fmt::Result {
    write!(f, "journal: {} is in use by ", directory.display())?;
    match process {
        Some(process) if process == std::process::id() => f.write_str("this process already")?,
        Some(process) => write!(f, "process {process}")?,
        None => f.write_str("another process")?,
    }
    f.write_str("; stop that node first, or give this one a directory of its own")
}

fn fmt_unknown_version(
    f: &mut fmt::Formatter<'_>,
    path: &Path,
    format: &str,
    version: u32,
    known: &RangeInclusive<u32>,
) -> fmt::Result {
    let (min, max) = (known.start(), known.end());
    let (age, remedy) = if version > *max {
        ("a newer", "run the version that wrote it, or a later one")
    } else {
        ("an older", "run a version that reads both once, and then this one")
    };
    write!(
        f,
        "journal: {} was written by {age} version of this program: it has version {version} of the {format} format, \
         and this program reads {min} to {max}; nothing is damaged, keep the file: {remedy}",
        path.display()
    )
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::DiskFull { source, .. } => Some(&**source),
            Self::Other { source } => Some(&**source),
            Self::InUse { .. }
            | Self::Damaged { .. }
            | Self::SegmentMissing { .. }
            | Self::SnapshotMissing { .. }
            | Self::SnapshotDamaged { .. }
            | Self::RestoreUnfinished { .. }
            | Self::NothingThere { .. }
            | Self::Foreign { .. }
            | Self::UnknownVersion { .. }
            | Self::FromNewer { .. }
            | Self::WriteTooLong { .. }
            | Self::Inconsistent { .. }
            | Self::NotRecovered
            | Self::Injected => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// An error of each kind.
    fn all() -> Vec<StorageError> {
        let path = || PathBuf::from("directory/file");
        let what = || String::from("something");
        let io = |kind| StorageError::io("write", &path(), io::Error::from(kind));
        let unknown = |version| StorageError::UnknownVersion {
            path: path(),
            format: "journal",
            version,
            known: 2..=3,
        };
        let id = (ClusterId::new(1), NodeId::new(1));
        [
            io(ErrorKind::Other),
            io(ErrorKind::StorageFull),
            StorageError::InUse { directory: path(), process: Some(7) },
            StorageError::Damaged { path: path(), offset: 7, what: what() },
            StorageError::SegmentMissing { path: path() },
            StorageError::SnapshotMissing { path: path() },
            StorageError::SnapshotDamaged { path: path(), offset: 7, what: what() },
            StorageError::RestoreUnfinished { directory: path() },
            StorageError::NothingThere { directory: path() },
            StorageError::Foreign { path: path(), owner: id, asked: id },
            unknown(1),
            unknown(4),
            StorageError::FromNewer { path: path(), offset: 7, what: what() },
            StorageError::WriteTooLong { bytes: 7 },
            StorageError::Inconsistent { what: what() },
            StorageError::NotRecovered,
        ]
        .into()
    }

    #[test]
    fn each_says_what_to_do() {
        let orders = [
            "start the node again",
            "stop that node first",
            "remove this server",
            "check ",
            "run ",
            "lower ",
            "report this bug",
            "call recover",
            "restore the backup again",
        ];
        for error in all() {
            let text = error.to_string();
            assert!(orders.iter().any(|order| text.contains(order)), "{text}");
            assert!(!text.contains("  "), "{text}");
        }
    }

    /// A server that lost its memory is removed, emptied and added again as a learner, wherever
    /// that is told; nothing is said of its id.
    #[test]
    fn only_what_is_lost_is_to_be_wiped_and_the_way_back_is_one() {
        for error in all() {
            let text = error.to_string();
            let is_lost = matches!(
                error,
                StorageError::Damaged { .. }
                    | StorageError::SegmentMissing { .. }
                    | StorageError::SnapshotMissing { .. }
                    | StorageError::SnapshotDamaged { .. }
            );
            assert_eq!(text.contains("empty its journal directory"), is_lost, "{text}");
            assert_eq!(text.contains("add it again as a learner"), is_lost, "{text}");
            assert!(!text.contains("new id") && !text.contains("same id"), "{text}");
        }
    }
}
