//! The journal: where a node's writes become durable. It holds Figure 2's "persistent state", and
//! nothing that can be computed again.
//!
//! A journal is a sequence of [`Write`]s, replayed from the first when the node starts.
//! [`FileJournal`] keeps them in files. [`MemoryJournal`] is for tests, and for applications that
//! accept to lose a node with its process.
//!
//! The invariant: what [`Journal::sync`] has reported durable is there after any crash, or the
//! journal refuses to start. It is never silently lost, because a node that forgets a vote or an
//! acknowledged entry breaks the promises of the whole cluster.

mod batch;
mod checkpoint;
mod directory;
mod disk;
#[cfg(test)]
mod faults;
mod file;
mod forced_recovery;
mod from_backup;
#[cfg_attr(target_family = "wasm", path = "no_lock.rs")]
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
pub use from_backup::{BackupRestoreError, RestoredBackup};
pub use memory::MemoryJournal;

use super::identity::{ClusterId, StoreId};
use super::snapshot::SnapshotStore;
pub use super::storage_error::StorageError;
use crate::output::{Restored, Write};
use crate::types::NodeId;

/// Keeps a node's writes in order. The node calls it from a thread of its own, unless the journal
/// [never blocks](Journal::blocks).
///
/// The node does group commit: it appends all writes that arrived meanwhile, then syncs once.
///
/// The first failure is final, and every later call returns it again. After a failed call it is
/// unknown what reached the disk: after a failed fsync an operating system may drop what it could
/// not write and report success the next time. So a journal never tries again, and a restart finds
/// out what is there. A call may succeed although something failed on which no promise rests: see
/// [`FileJournal`].
pub trait Journal: Send + 'static {
    /// Returns all that is durable. Called once, before anything is appended.
    ///
    /// # Errors
    ///
    /// The content cannot be read or trusted: the node must not start.
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError>;

    /// The id of this store: drawn when the journal was created, and gone with it. A node that
    /// comes back under the same id but with another journal has forgotten what it promised, and
    /// other nodes recognise it by its store id.
    fn store_id(&self) -> StoreId;

    /// The owner of the journal, if the journal knows it. A node with another name does not start
    /// on it.
    fn owner(&self) -> Option<(ClusterId, NodeId)> {
        None
    }

    /// Whether appending or syncing may block or take long. If a journal never blocks, for example
    /// one in memory, the node's loop itself calls it, which saves two changes of thread for each
    /// write.
    fn blocks(&self) -> bool {
        true
    }

    /// Where this node's snapshots are kept (§7). A journal without such a place has no snapshots
    /// and is never compacted. Called once, after the journal was recovered.
    ///
    /// The snapshot that the last durable write named must be there.
    fn snapshots(&mut self) -> Option<Arc<dyn SnapshotStore>> {
        None
    }

    /// Appends a write. It need not be durable before [`Journal::sync`] returns.
    ///
    /// # Errors
    ///
    /// As of [`Journal::sync`].
    fn append(&mut self, write: &Write<Bytes>) -> Result<(), StorageError>;

    /// Makes all appended writes durable.
    ///
    /// # Errors
    ///
    /// Not all of the writes are durable, and trying again would not make them so: stop the node.
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

/// A random store id. The operating system seeds it, through the standard library's only source of
/// randomness.
fn draw_store_id() -> StoreId {
    StoreId::new(RandomState::new().hash_one(std::process::id()))
}
