//! A journal in memory, which exists as long as its process.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use bytes::Bytes;

use super::Journal;
use super::replay::Replay;
use crate::host::identity::StoreId;
use crate::host::snapshot::{SnapshotReader, SnapshotStore, SnapshotWriter};
use crate::host::storage_error::StorageError;
use crate::output::{Restored, Write};
use crate::types::LogId;

/// The path of a snapshot in memory.
const IN_MEMORY: &str = "in memory";

/// Keeps writes in memory: for tests, and for applications that accept to lose a node with its
/// process.
///
/// A clone is another handle to the same journal, so a test restarts a node by starting it anew
/// with a clone. Recovery then does to the journal what a crash does to a file: writes that were
/// appended but not synced are gone. Handles that were recovered before fail from then on, as a
/// dead process would.
///
/// # Example
///
/// ```
/// use raft_core::host::{Journal, MemoryJournal};
/// use raft_core::{HardState, Term, Write, WriteId};
///
/// let disk = MemoryJournal::new();
/// let current_term = Term::new(1);
/// let hard_state = HardState { current_term, voted_for: None, ..Default::default() };
///
/// let mut before = disk.clone();
/// before.recover()?;
/// before.append(&Write {
///     id: WriteId::new(1),
///     hard_state: Some(hard_state),
///     ..Write::default()
/// })?;
/// before.sync()?;
///
/// let mut after = disk.clone();
/// assert_eq!(after.recover()?.hard_state, hard_state);
/// assert!(before.sync().is_err());
/// # Ok::<(), raft_core::host::StorageError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryJournal {
    shared: Arc<Mutex<MemoryStore>>,
    store_id: StoreId,
    /// The number of the recovery that gave this handle the right to write; 0 before it was
    /// recovered.
    life: u64,
}

#[derive(Debug, Default)]
struct MemoryStore {
    durable: Replay,
    pending: Vec<Write<Bytes>>,
    /// How often the journal was recovered.
    lives: u64,
    syncs: u64,
    failed: Option<StorageError>,
    snapshots: BTreeMap<LogId, Bytes>,
}

/// The snapshots of a journal in memory.
struct MemorySnapshots(Arc<Mutex<MemoryStore>>);

struct MemoryWriter {
    last: LogId,
    bytes: Vec<u8>,
    shared: Arc<Mutex<MemoryStore>>,
}

struct MemoryReader(Cursor<Bytes>);

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self { shared: Arc::default(), store_id: super::draw_store_id(), life: 0 }
    }

    /// How often [`Journal::sync`] has succeeded, over all handles.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Makes the journal fail from now on, on every handle, until it is recovered again, like a
    /// broken disk that is replaced.
    pub fn fail(&self) {
        self.lock().failed = Some(StorageError::Injected);
    }

    fn lock(&self) -> MutexGuard<'_, MemoryStore> {
        lock(&self.shared)
    }

    fn lock_to_write(&self) -> Result<MutexGuard<'_, MemoryStore>, StorageError> {
        let shared = self.lock();
        if self.life == 0 || self.life != shared.lives {
            return Err(StorageError::NotRecovered);
        }
        match &shared.failed {
            Some(error) => Err(error.clone()),
            None => Ok(shared),
        }
    }
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl Journal for MemoryJournal {
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError> {
        let (life, durable) = {
            let mut shared = self.lock();
            shared.lives += 1;
            shared.failed = None;
            shared.pending.clear();
            (shared.lives, shared.durable.clone().into_restored())
        };
        self.life = life;
        Ok(durable.expect("nothing is deleted but what was compacted"))
    }

    fn store_id(&self) -> StoreId {
        self.store_id
    }

    fn blocks(&self) -> bool {
        false
    }

    fn snapshots(&mut self) -> Option<Arc<dyn SnapshotStore>> {
        Some(Arc::new(MemorySnapshots(Arc::clone(&self.shared))))
    }

    fn append(&mut self, write: &Write<Bytes>) -> Result<(), StorageError> {
        self.lock_to_write()?.pending.push(write.clone());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let mut shared = self.lock_to_write()?;
        let MemoryStore { durable, pending, failed, .. } = &mut *shared;
        for write in pending.drain(..) {
            if let Err(what) = durable.follow(write) {
                return Err(failed.insert(StorageError::Inconsistent { what }).clone());
            }
        }
        shared.syncs += 1;
        Ok(())
    }
}

impl SnapshotStore for MemorySnapshots {
    fn create(
        &self,
        last: LogId,
        _received: bool,
    ) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        let bytes = Vec::new();
        let shared = Arc::clone(&self.0);
        Ok(Box::new(MemoryWriter { last, bytes, shared }))
    }

    fn open(&self, last: LogId) -> Result<Box<dyn SnapshotReader>, StorageError> {
        match lock(&self.0).snapshots.get(&last) {
            Some(bytes) => Ok(Box::new(MemoryReader(Cursor::new(bytes.clone())))),
            None => Err(StorageError::SnapshotMissing { path: IN_MEMORY.into() }),
        }
    }

    fn list(&self) -> Result<Vec<LogId>, StorageError> {
        Ok(lock(&self.0).snapshots.keys().copied().collect())
    }

    fn remove(&self, last: LogId) -> Result<(), StorageError> {
        lock(&self.0).snapshots.remove(&last);
        Ok(())
    }
}

impl SnapshotWriter for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), StorageError> {
        let mut shared = lock(&self.shared);
        if let Some(error) = &shared.failed {
            return Err(error.clone());
        }
        shared.snapshots.insert(self.last, self.bytes.into());
        Ok(())
    }
}

impl Read for MemoryReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Seek for MemoryReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl SnapshotReader for MemoryReader {
    fn path(&self) -> &Path {
        Path::new(IN_MEMORY)
    }
}

/// A panic elsewhere leaves nothing half done here, so a poisoned lock can be used.
fn lock(shared: &Mutex<MemoryStore>) -> MutexGuard<'_, MemoryStore> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
