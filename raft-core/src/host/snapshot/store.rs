//! Where snapshots are kept.

use std::boxed::Box;
use std::io::{Read, Seek};
use std::path::Path;
use std::vec::Vec;

use crate::host::storage_error::StorageError;
use crate::types::LogId;

/// Keeps snapshots as bytes, each under the last entry that it includes. A
/// [`Journal`](crate::host::Journal) provides it.
///
/// Its methods may take their time, and are called from several threads. A panic counts as an
/// error: that snapshot fails, and is tried again.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Begins a snapshot, which is there once it is [finished](SnapshotWriter::finish). Two may be
    /// written at a time, one taken here and one received: for each kind, what an earlier one left
    /// unfinished is thrown away.
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

    /// All that are there.
    ///
    /// # Errors
    ///
    /// The store does not work.
    fn list(&self) -> Result<Vec<LogId>, StorageError>;

    /// Removes a snapshot that is needed no more.
    ///
    /// # Errors
    ///
    /// The store does not work; it may be tried again.
    fn remove(&self, last: LogId) -> Result<(), StorageError>;
}

/// Writes a snapshot from front to back. Dropped before it is finished, it leaves nothing.
pub trait SnapshotWriter: Send {
    /// Adds these bytes.
    ///
    /// # Errors
    ///
    /// There is no room, or the store does not work: the snapshot cannot be finished any more.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes it durable under its name, whole or not at all, in place of one that had the same.
    ///
    /// # Errors
    ///
    /// There is no room, or the store does not work.
    fn finish(self: Box<Self>) -> Result<(), StorageError>;
}

/// Reads a snapshot.
pub trait SnapshotReader: Read + Seek + Send {
    /// What it is called in messages to operators: a file's path.
    fn path(&self) -> &Path;
}
