//! Backups: the state of a running cluster as one stream of bytes, from which a new cluster can
//! begin.
//!
//! A backup says of itself whether it is whole: [`BackupSummary::read`] checks every byte of it.
//! What a backup does not hold: terms and votes, entries that are not applied, and keys of TLS.

use std::error::Error;
use std::fmt;
use std::io;
use std::string::String;
use std::sync::Arc;

use super::format::{self, BackupReader, Head};
use crate::host::identity::ClusterId;
use crate::host::state_machine::Capture;
use crate::membership::Membership;
use crate::message::SnapshotMeta;
use crate::types::{LogId, NodeId};

/// The captured state of a running node, to be written out:
/// [`Handle::backup`](crate::host::Handle::backup) gives it.
///
/// It keeps the state as it was captured until it is written or dropped.
#[must_use = "a backup is made by writing it out"]
pub struct Backup {
    /// The node that was asked.
    node: NodeId,
    head: Head,
    capture: Capture,
}

/// What a backup is of, and its measures.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BackupSummary {
    /// The cluster that was backed up.
    pub cluster: ClusterId,
    /// The last entry that the state includes.
    pub last: LogId,
    /// The members at that entry, with the identity of the cluster.
    pub membership: Membership,
    /// The length of the state in bytes, as the state machine wrote it.
    pub state_bytes: u64,
    /// The length of the backup in bytes.
    pub bytes: u64,
    /// The checksum (CRC-32) of all bytes of the backup but for the last frame, which holds it.
    pub digest: u32,
}

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

impl Backup {
    pub(in crate::host) fn new(
        node: NodeId,
        cluster: ClusterId,
        snapshot: SnapshotMeta,
        capture: Capture,
    ) -> Self {
        Self { node, head: Head { cluster, snapshot }, capture }
    }

    /// The last entry that the state includes.
    pub fn last(&self) -> LogId {
        self.head.snapshot.last
    }

    /// The members at that entry.
    pub fn membership(&self) -> &Membership {
        &self.head.snapshot.membership
    }

    /// Writes the backup: to a file, or to any other stream. Blocks for as long as `out` and the
    /// state machine take; the node works on meanwhile. In memory there is never more of it than a
    /// block of 64 KiB, besides what the state machine has captured.
    ///
    /// A file is whole once it is synced. Write under a temporary name, sync, and rename.
    ///
    /// # Errors
    ///
    /// `out` failed, or the state machine did. What was written is no backup, and reading it says
    /// so.
    pub fn write_to(self, out: impl io::Write + Send) -> io::Result<BackupSummary> {
        let Self { node, head, capture } = self;
        let summary = format::write_backup(&head, capture, out)?;
        let (last, bytes) = (summary.last, summary.bytes);
        tracing::info!(node = node.get(), %last, bytes, "wrote a backup");
        Ok(summary)
    }
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").field("head", &self.head).finish_non_exhaustive()
    }
}

impl BackupSummary {
    /// Reads a backup to its end, and returns what it is. Every byte is checked; the state itself
    /// is not looked at. Needs 256 KiB of memory at most, whatever the bytes say.
    ///
    /// # Errors
    ///
    /// [`BackupReadError`] says what is wrong, and what to do.
    ///
    /// # Example
    ///
    /// ```
    /// use raft_core::host::{BackupReadError, BackupSummary};
    ///
    /// let error = BackupSummary::read(&b"something else"[..]).unwrap_err();
    /// assert!(matches!(error, BackupReadError::NotABackup));
    /// ```
    pub fn read(source: impl io::Read) -> Result<Self, BackupReadError> {
        BackupReader::open(source)?.finish()
    }
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
