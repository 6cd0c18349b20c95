//! Why a journal cannot go on: each reason with the file, and with what to do next.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::string::String;
use std::sync::Arc;

use crate::host::identity::ClusterId;
use crate::types::NodeId;

/// What to do about a journal that has lost something. An older copy is no remedy: it has forgotten votes and acknowledgements
/// that others count on.
const REMEDY: &str = "a byte-exact copy of the file repairs it, an older backup does not (it has forgotten promises that other \
                      servers rely on); without one, remove this server from the cluster, empty its journal directory, and add \
                      it again as a new server with a new id";

/// Why a journal cannot be opened, read or written. Final: see [`Journal`](super::Journal).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum JournalError {
    /// The operating system refused.
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Its reason.
        source: Arc<io::Error>,
    },
    /// There is no room to write (disk, quota or file size): free some, then start the node again. Nothing durable was lost.
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Another process, or another node in this one, has the journal open: stop it, or choose another directory.
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
    /// A segment is not there although others before or behind it are.
    SegmentMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The snapshot that the journal begins with is not there.
    SnapshotMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The snapshot is not as it was written, or not the one that was asked for.
    SnapshotDamaged {
        /// The damaged file.
        path: PathBuf,
        /// Where, in bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        what: String,
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
        /// Who asked for it.
        asked: (ClusterId, NodeId),
    },
    /// The file was written by another version of this library, which this one cannot read: use that one.
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version of its format.
        version: u32,
    },
    /// A write is longer than a frame can hold: lower [`Config::write_bytes_max`](crate::Config::write_bytes_max).
    WriteTooLong {
        /// How long it is, encoded.
        bytes: usize,
    },
    /// A write cannot follow those before it. This is a bug in this library, caught before it could destroy the journal.
    Inconsistent {
        /// What does not fit.
        what: String,
    },
    /// The journal must be recovered before it is written, once; or it was since recovered by another node.
    NotRecovered,
    /// The failure that a test asked for ([`MemoryJournal::fail`](super::MemoryJournal::fail)).
    Injected,
}

impl JournalError {
    /// Sorts an operating system's refusal.
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

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, source } => {
                write!(f, "journal: cannot {action} {}: {source}", path.display())
            }
            Self::DiskFull { path, source } => write!(
                f,
                "journal: no room to write {}: {source}; free some space and start the node again, nothing durable was lost",
                path.display()
            ),
            Self::InUse { directory, process } => {
                write!(f, "journal: {} is in use by ", directory.display())?;
                match process {
                    Some(process) if *process == std::process::id() => f.write_str("this process already")?,
                    Some(process) => write!(f, "process {process}")?,
                    None => f.write_str("another process")?,
                }
                f.write_str("; stop that node first, or give this one a directory of its own")
            }
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
            Self::UnknownVersion { path, version } => write!(
                f,
                "journal: {} has format version {version}, which this version of the program cannot read; run the one that \
                 wrote it",
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
            Self::Injected => f.write_str("journal: failure asked for by a test"),
        }
    }
}

impl Error for JournalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::DiskFull { source, .. } => Some(&**source),
            Self::InUse { .. }
            | Self::Damaged { .. }
            | Self::SegmentMissing { .. }
            | Self::SnapshotMissing { .. }
            | Self::SnapshotDamaged { .. }
            | Self::NothingThere { .. }
            | Self::Foreign { .. }
            | Self::UnknownVersion { .. }
            | Self::WriteTooLong { .. }
            | Self::Inconsistent { .. }
            | Self::NotRecovered
            | Self::Injected => None,
        }
    }
}
