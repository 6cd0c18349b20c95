//! Where snapshots are kept.

use std::boxed::Box;
use std::io::{Read, Seek};
use std::path::Path;
use std::vec::Vec;

use crate::host::storage_error::StorageError;
use crate::types::LogId;

/// Keeps snapshots as bytes, each under the last entry that it includes. A
/// [`Journal`](crate::host::Journal) provides the store.
///
/// The methods may block, and are called from several threads. A panic counts as an error: that
/// snapshot fails, and is tried again.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Begins a snapshot, which exists once it is [finished](SnapshotWriter::finish). Two may be
    /// written at a time, one taken here and one received. For each of the two kinds, an unfinished
    /// earlier snapshot is deleted.
    ///
    /// # Errors
    ///
    /// There is no room, or the store does not work.
    fn create(&self, last: LogId, received: bool) -> Result<Box<dyn SnapshotWriter>, StorageError>;

    /// Opens a snapshot. It stays readable while it is open, even if it is removed.
    ///
    /// # Errors
    ///
    /// [`StorageError::SnapshotMissing`], or the store does not work.
    fn open(&self, last: LogId) -> Result<Box<dyn SnapshotReader>, StorageError>;

    /// The snapshots that exist.
    ///
    /// # Errors
    ///
    /// The store does not work.
    fn list(&self) -> Result<Vec<LogId>, StorageError>;

    /// Removes a snapshot that is no longer needed.
    ///
    /// # Errors
    ///
    /// The store does not work. The node may try again.
    fn remove(&self, last: LogId) -> Result<(), StorageError>;
}

/// Writes a snapshot from front to back. If it is dropped before it is finished, it leaves nothing.
pub trait SnapshotWriter: Send {
    /// Adds these bytes.
    ///
    /// # Errors
    ///
    /// There is no room, or the store does not work: the snapshot cannot be finished any more.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes the snapshot durable under its last entry, whole or not at all. It replaces a snapshot
    /// of the same entry.
    ///
    /// # Errors
    ///
    /// There is no room, or the store does not work.
    fn finish(self: Box<Self>) -> Result<(), StorageError>;
}

/// Reads a snapshot.
pub trait SnapshotReader: Read + Seek + Send {
    /// The name of the snapshot in messages to operators: a file's path.
    fn path(&self) -> &Path;
}
