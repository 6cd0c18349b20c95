//! A journal in a database: the hard state, the log and the snapshots are tables of `redb`.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use raft_core::host::{SnapshotReader, SnapshotStore, SnapshotWriter};
use raft_core::{Entry, Index, LogId, Restored, Term, Write, codec};
use raft_threads::{Journal, StorageError, StoreId};
use redb::{Database, ReadableTable, Table, TableDefinition, WriteTransaction};

/// Each value is a [`Write`] that holds nothing but what the key says.
const STATE: TableDefinition<&str, &[u8]> = TableDefinition::new("state");
/// By index. Each value is a [`Write`] of a single entry.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// By term and index of the last entry.
const SNAPSHOTS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("snapshots");
const STORE_ID: TableDefinition<(), u64> = TableDefinition::new("store_id");

/// Keeps a node's writes and snapshots in one file. A sync is a transaction.
pub(crate) struct RedbJournal {
    database: Arc<Database>,
    path: PathBuf,
    store_id: StoreId,
    appended: Vec<Write<Bytes>>,
    /// The first failure, which is final.
    failed: Option<StorageError>,
}

impl RedbJournal {
    /// Opens the journal, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let database = Database::create(path).map_err(failed)?;
        let transaction = database.begin_write().map_err(failed)?;
        let store_id = {
            transaction.open_table(STATE).map_err(failed)?;
            transaction.open_table(LOG).map_err(failed)?;
            transaction.open_table(SNAPSHOTS).map_err(failed)?;
            let mut table = transaction.open_table(STORE_ID).map_err(failed)?;
            let known = table.get(()).map_err(failed)?.map(|id| id.value());
            let id = known.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
            table.insert((), id).map_err(failed)?;
            StoreId::new(id)
        };
        transaction.commit().map_err(failed)?;
        let (database, path) = (Arc::new(database), path.to_path_buf());
        Ok(Self { database, path, store_id, appended: Vec::new(), failed: None })
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        for write in self.appended.drain(..) {
            apply(&transaction, write)?;
        }
        transaction.commit().map_err(failed)
    }
}

impl Journal for RedbJournal {
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let state = transaction.open_table(STATE).map_err(failed)?;
        let log = transaction.open_table(LOG).map_err(failed)?;
        let mut restored = Restored::default();
        for key in ["hard_state", "compact_to"] {
            if let Some(write) = state.get(key).map_err(failed)? {
                restored.replay(decoded(write.value())?);
            }
        }
        for row in log.iter().map_err(failed)? {
            restored.replay(decoded(row.map_err(failed)?.1.value())?);
        }
        // The log holds the snapshot's last entry, or begins behind it.
        if let Some(write) = state.get("snapshot").map_err(failed)? {
            restored.replay(decoded(write.value())?);
        }
        Ok(restored)
    }

    fn store_id(&self) -> StoreId {
        self.store_id
    }

    fn snapshots(&mut self) -> Option<Arc<dyn SnapshotStore>> {
        let (database, path) = (Arc::downgrade(&self.database), self.path.clone());
        Some(Arc::new(RedbSnapshots { database, path }))
    }

    fn append(&mut self, write: &Write<Bytes>) -> Result<(), StorageError> {
        self.appended.push(write.clone());
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        if self.failed.is_none() {
            self.failed = self.commit().err();
        }
        self.failed.clone().map_or(Ok(()), Err)
    }
}

/// Does to the tables what [`Restored::replay`] does in memory.
fn apply(transaction: &WriteTransaction, write: Write<Bytes>) -> Result<(), StorageError> {
    let mut state = transaction.open_table(STATE).map_err(failed)?;
    let mut log = transaction.open_table(LOG).map_err(failed)?;
    let Write { hard_state, snapshot, compact_to, truncate_from, entries, .. } = write;
    let mut compact_to = compact_to.map(|base| *base);
    if hard_state.is_some() {
        put(&mut state, "hard_state", &Write { hard_state, ..Write::default() })?;
    }
    if let Some(snapshot) = snapshot {
        if !holds(&state, &log, snapshot.last)? {
            log.retain(|_, _| false).map_err(failed)?;
            compact_to = Some(snapshot.last);
        }
        put(&mut state, "snapshot", &Write { snapshot: Some(snapshot), ..Write::default() })?;
    }
    if let Some(base) = compact_to {
        log.retain_in(..=base.index.get(), |_, _| false).map_err(failed)?;
        let compact_to = Some(base.into());
        put(&mut state, "compact_to", &Write { compact_to, ..Write::default() })?;
    }
    if let Some(from) = truncate_from {
        log.retain_in(from.get().., |_, _| false).map_err(failed)?;
    }
    for entry in entries {
        let index = entry.index.get();
        put(&mut log, index, &Write { entries: vec![entry].into(), ..Write::default() })?;
    }
    Ok(())
}

/// Whether the log holds this entry, or begins right behind it.
fn holds(
    state: &impl ReadableTable<&'static str, &'static [u8]>,
    log: &impl ReadableTable<u64, &'static [u8]>,
    last: LogId,
) -> Result<bool, StorageError> {
    let base = state.get("compact_to").map_err(failed)?;
    let base = base.map(|write| decoded(write.value())).transpose()?;
    let base = base.and_then(|write| write.compact_to).map_or(LogId::ZERO, |base| *base);
    let entry = log.get(last.index.get()).map_err(failed)?;
    let entry = entry.map(|write| decoded(write.value())).transpose()?;
    let entry = entry.and_then(|write| write.entries.first().map(Entry::id));
    Ok(base == last || entry == Some(last))
}

fn put<K: redb::Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    key: K::SelfType<'_>,
    write: &Write<Bytes>,
) -> Result<(), StorageError> {
    let mut bytes = Vec::new();
    codec::encode_write(write, &mut bytes);
    table.insert(key, bytes.as_slice()).map(drop).map_err(failed)
}

fn decoded(bytes: &[u8]) -> Result<Write<Bytes>, StorageError> {
    codec::decode_write(bytes, Bytes::copy_from_slice).map_err(StorageError::other)
}

fn failed(error: impl Into<redb::Error>) -> StorageError {
    StorageError::other(error.into())
}

/// Keeps each snapshot as one value, which has to fit into memory. The database is open for as long
/// as the journal lives, and no longer, so that the node can start on it again.
struct RedbSnapshots {
    database: Weak<Database>,
    path: PathBuf,
}

struct RedbWriter {
    database: Weak<Database>,
    last: LogId,
    bytes: Vec<u8>,
}

struct RedbReader(Cursor<Vec<u8>>, PathBuf);

impl SnapshotStore for RedbSnapshots {
    fn create(&self, last: LogId, _: bool) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        let database = Weak::clone(&self.database);
        Ok(Box::new(RedbWriter { database, last, bytes: Vec::new() }))
    }

    fn open(&self, last: LogId) -> Result<Box<dyn SnapshotReader>, StorageError> {
        let transaction = opened(&self.database)?.begin_read().map_err(failed)?;
        let table = transaction.open_table(SNAPSHOTS).map_err(failed)?;
        match table.get(key(last)).map_err(failed)? {
            Some(bytes) => {
                Ok(Box::new(RedbReader(Cursor::new(bytes.value().to_vec()), self.path.clone())))
            }
            None => Err(StorageError::SnapshotMissing { path: self.path.clone() }),
        }
    }

    fn list(&self) -> Result<Vec<LogId>, StorageError> {
        let transaction = opened(&self.database)?.begin_read().map_err(failed)?;
        let table = transaction.open_table(SNAPSHOTS).map_err(failed)?;
        let keys = table.iter().map_err(failed)?.map(|row| {
            let (term, index) = row.map_err(failed)?.0.value();
            Ok(LogId::new(Term::new(term), Index::new(index)))
        });
        keys.collect()
    }

    fn remove(&self, last: LogId) -> Result<(), StorageError> {
        let transaction = opened(&self.database)?.begin_write().map_err(failed)?;
        transaction.open_table(SNAPSHOTS).map_err(failed)?.remove(key(last)).map_err(failed)?;
        transaction.commit().map_err(failed)
    }
}

impl SnapshotWriter for RedbWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), StorageError> {
        let transaction = opened(&self.database)?.begin_write().map_err(failed)?;
        let mut table = transaction.open_table(SNAPSHOTS).map_err(failed)?;
        table.insert(key(self.last), self.bytes.as_slice()).map_err(failed)?;
        drop(table);
        transaction.commit().map_err(failed)
    }
}

fn opened(database: &Weak<Database>) -> Result<Arc<Database>, StorageError> {
    database.upgrade().ok_or(StorageError::NotRecovered)
}

fn key(last: LogId) -> (u64, u64) {
    (last.term.get(), last.index.get())
}

impl Read for RedbReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Seek for RedbReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl SnapshotReader for RedbReader {
    fn path(&self) -> &Path {
        &self.1
    }
}
