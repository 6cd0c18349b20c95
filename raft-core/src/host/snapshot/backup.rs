//! Backups: the state of a running cluster as one stream of bytes, from which a new cluster can
//! begin.
//!
//! A backup says of itself whether it is whole: [`BackupSummary::read`] checks every byte of it.
//! What a backup does not hold: terms and votes, entries that are not applied, and keys of TLS.

use std::fmt;
use std::io;

use super::format::{self, BackupSummary, Head};
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
