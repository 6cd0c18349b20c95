//! Snapshots on the host (§7): taken, kept, sent and received in pieces, on threads of their own.
//!
//! A [`SnapshotStore`] keeps bytes under the last entry of a snapshot. What the bytes are is
//! decided here ([`format`]): the state that a state machine wrote, in blocks with checksums. So
//! each piece is checked when it is read, and the whole snapshot is checked before it is installed.
//! Snapshots travel as they lie in the store.
//!
//! In memory there is never more of a snapshot than one piece for each follower that is sent one,
//! and a few received pieces.

mod backup;
mod backup_error;
mod capture;
mod format;
mod report;
mod store;
mod worker;

pub use backup::Backup;
pub use backup_error::BackupReadError;
pub use format::BackupSummary;
pub use store::{SnapshotReader, SnapshotStore, SnapshotWriter};

pub(super) use format::{BackupReader, Head, StateReader, StateWriter, check_whole};
pub(super) use report::{CaptureId, Report};
pub(super) use worker::{SnapshotWorker, Snapshots};
