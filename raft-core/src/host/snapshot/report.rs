//! What the threads of the snapshots share, and what they report to the loop.

use std::boxed::Box;
use std::string::String;
use std::sync::Arc;

use bytes::Bytes;

use super::store::SnapshotStore;
use crate::host::identity::ClusterId;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::worker::Stopper;
use crate::types::{InstallId, LogId, NodeId};

/// The number of a capture on this node. By it the report of a capture that was given up is not
/// taken for the report of the next one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(in crate::host) struct CaptureId(pub(in crate::host) u64);

/// What the loop is told.
#[derive(Debug)]
pub(in crate::host) enum Report {
    /// The snapshot of this entry is durable.
    Taken(CaptureId, LogId),
    /// No snapshot was taken, and why; `None` if the state machine takes none.
    NotTaken(CaptureId, Option<String>),
    /// A piece to be sent.
    Read { to: NodeId, snapshot: LogId, offset: u64, piece: Bytes, done: bool },
    Unreadable {
        to: NodeId,
        snapshot: LogId,
        /// Whether the snapshot is damaged or missing, so that no later attempt can succeed.
        damaged: bool,
    },
    /// The received snapshot is written up to this offset.
    Written { install: InstallId, written: u64 },
}

/// What the threads of the snapshots share.
pub(super) struct SnapshotThreads {
    pub(super) store: Arc<dyn SnapshotStore>,
    pub(super) cluster: ClusterId,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) stop: Stopper,
    pub(super) report: Box<dyn Fn(Report) + Send + Sync>,
}

impl SnapshotThreads {
    pub(super) fn report(&self, report: Report) {
        (self.report)(report);
    }
}
