//! Where a node's writes become durable: Figure 2's "persistent state", and nothing of what could
//! be computed again.
//!
//! A journal is a sequence of [`Write`]s, replayed from the first when the node starts.
//! [`FileJournal`] keeps them in files; [`MemoryJournal`] is for tests, and for those who accept to
//! lose a node with its process.
//!
//! The invariant: what [`Journal::sync`] has reported durable is there after any crash, or the
//! journal refuses to start. It is never silently lost, for a node that forgets a vote or an
//! acknowledged entry breaks the promises of the whole cluster.

mod batch;
mod checkpoint;
mod disk;
#[cfg(test)]
mod faults;
mod file;
mod forced_recovery;
mod lock;
mod memory;
#[cfg(test)]
mod power;
mod recovery;
mod replay;
mod sector;
mod segment;
mod snapshots;
mod writer;

use std::boxed::Box;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;

pub use file::FileJournal;
pub use forced_recovery::Survivor;
pub use memory::MemoryJournal;

use super::identity::{ClusterId, StoreId};
use super::snapshot::SnapshotStore;
pub use super::storage_error::StorageError;
use crate::output::{Restored, Write};
use crate::types::NodeId;

/// Keeps a node's writes, in order. The node calls it from a thread of its own, unless it [never
/// blocks](Journal::blocks).
///
/// Group commit is the node's: it appends all writes that came meanwhile, then syncs once.
///
/// The first failure is final: every later call repeats it. What the failed call left behind is
/// unknown (after a failed fsync an operating system may drop what it could not write and report
/// success the next time), so it is never tried again; a restart finds out what is there. A call
/// may succeed although something failed on which no promise rests: see [`FileJournal`].
pub trait Journal: Send + 'static {
    /// All that is durable here. Called once, before anything is appended.
    ///
    /// # Errors
    ///
    /// What is there cannot be read or trusted: the node must not start.
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError>;

    /// Names the life of this journal: drawn when it was created, and gone with it. A node that
    /// comes back under the same id but with another journal has forgotten what it promised, and
    /// can be told by this.
    fn store_id(&self) -> StoreId;

    /// Whose journal it is, if it knows: a node of another name does not start on it.
    fn owner(&self) -> Option<(ClusterId, NodeId)> {
        None
    }

    /// Whether appending or syncing may take its time. A journal that never blocks, such as one in
    /// memory, is called by the node's loop itself, which saves two changes of thread for each
    /// write.
    fn blocks(&self) -> bool {
        true
    }

    /// Where this node's snapshots are kept (§7). A journal without such a place has none, and is
    /// never compacted. Called once, after it was recovered.
    ///
    /// The snapshot that the last durable write named must be there.
    fn snapshots(&mut self) -> Option<Arc<dyn SnapshotStore>> {
        None
    }

    /// Adds a write behind all others. It need not be durable before [`Journal::sync`] returns.
    ///
    /// # Errors
    ///
    /// As of [`Journal::sync`].
    fn append(&mut self, write: &Write<Bytes>) -> Result<(), StorageError>;

    /// Makes all appended writes durable.
    ///
    /// # Errors
    ///
    /// Not all of them are, and none ever will be by trying again: stop the node.
    fn sync(&mut self) -> Result<(), StorageError>;
}

impl<J: Journal + ?Sized> Journal for Box<J> {
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError> {
        (**self).recover()
    }

    fn store_id(&self) -> StoreId {
        (**self).store_id()
    }

    fn owner(&self) -> Option<(ClusterId, NodeId)> {
        (**self).owner()
    }

    fn blocks(&self) -> bool {
        (**self).blocks()
    }

    fn snapshots(&mut self) -> Option<Arc<dyn SnapshotStore>> {
        (**self).snapshots()
    }

    fn append(&mut self, write: &Write<Bytes>) -> Result<(), StorageError> {
        (**self).append(write)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        (**self).sync()
    }
}

/// Seeded by the operating system, through the standard library's only source of randomness.
fn draw_store_id() -> StoreId {
    StoreId::new(RandomState::new().hash_one(std::process::id()))
}
