//! Snapshots on the host (§7): taken, kept, sent and received in pieces, on threads of their own.
//!
//! A [`SnapshotStore`] keeps bytes under the name of a snapshot's last entry; what the bytes are is
//! decided here ([`format`]): the state that a state machine wrote, in blocks with checksums, so
//! that each piece is checked when it is read and the whole before it is installed. They travel as
//! they lie in the store.
//!
//! Nothing here holds more of a snapshot in memory than a piece for each follower that is sent one,
//! and a window of pieces that come.

mod capture;
mod format;
mod store;
mod worker;

pub use store::{SnapshotReader, SnapshotStore, SnapshotWriter};

pub(super) use capture::CaptureId;
#[cfg(test)]
pub(super) use format::StateWriter;
pub(super) use format::{Head, StateReader, check_whole};
pub(super) use worker::{Report, SnapshotWorker, Snapshots};
