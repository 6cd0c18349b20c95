//! Snapshots as files beside the journal's segments.
//!
//! ```text
//! 00000000000000000003-00000000000000000950.snapshot     term and index of its last entry
//! ```
//!
//! A file gets that name when all of it is durable. Before that its name ends in `.taking` or
//! `.receiving`.

use std::boxed::Box;
use std::format;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::string::String;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use super::disk::{JournalDisk, SegmentFile};
use crate::host::snapshot::{SnapshotReader, SnapshotStore, SnapshotWriter};
use crate::host::storage_error::StorageError;
use crate::types::{Index, LogId, Term};

const EXTENSION: &str = "snapshot";
const TAKING: &str = "taking";
const RECEIVING: &str = "receiving";

/// How many bytes are written between two fsyncs, so that the journal never waits for long until
/// the disk has caught up.
const SYNC_BYTES: usize = 16 << 20;

/// The snapshots in a journal's directory.
pub(super) struct FileSnapshots {
    directory: PathBuf,
    disk: SharedDisk,
}

type SharedDisk = Arc<Mutex<Box<dyn JournalDisk>>>;

struct FileWriter {
    directory: PathBuf,
    unfinished: PathBuf,
    path: PathBuf,
    /// `None` once it is finished.
    file: Option<Box<dyn SegmentFile>>,
    unsynced: usize,
    disk: SharedDisk,
}

struct FileReader {
    path: PathBuf,
    file: File,
}

impl FileSnapshots {
    pub(super) fn new(directory: PathBuf, disk: Box<dyn JournalDisk>) -> Self {
        Self { directory, disk: Arc::new(Mutex::new(disk)) }
    }

    /// Removes unfinished snapshots. If that fails, the next snapshot that is begun replaces the
    /// old one.
    pub(super) fn clean(&self) {
        let Ok(files) = fs::read_dir(&self.directory) else { return };
        for path in files.filter_map(|file| Some(file.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let finished = name.strip_suffix(TAKING).or_else(|| name.strip_suffix(RECEIVING));
            if finished.is_some_and(|name| id_of(name.trim_end_matches('.')).is_some()) {
                let _ = lock(&self.disk).remove(&path);
            }
        }
    }

    fn path_of(&self, last: LogId) -> PathBuf {
        self.directory.join(file_name(last))
    }
}

impl SnapshotStore for FileSnapshots {
    fn create(&self, last: LogId, received: bool) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        let path = self.path_of(last);
        let kind = if received { RECEIVING } else { TAKING };
        let unfinished = self.directory.join(format!("{}.{kind}", file_name(last)));
        let file = lock(&self.disk).create(&unfinished);
        let file = file.map_err(|error| StorageError::io("create", &unfinished, error))?;
        Ok(Box::new(FileWriter {
            directory: self.directory.clone(),
            unfinished,
            path,
            file: Some(file),
            unsynced: 0,
            disk: Arc::clone(&self.disk),
        }))
    }

    fn open(&self, last: LogId) -> Result<Box<dyn SnapshotReader>, StorageError> {
        let path = self.path_of(last);
        match File::open(&path) {
            Ok(file) => Ok(Box::new(FileReader { path, file })),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(StorageError::SnapshotMissing { path })
            }
            Err(error) => Err(StorageError::io("open", &path, error)),
        }
    }

    fn list(&self) -> Result<Vec<LogId>, StorageError> {
        let list = || {
            let names = fs::read_dir(&self.directory)?.map(|file| Ok(file?.file_name()));
            let ids = names.filter_map(|name: io::Result<_>| {
                name.map(|name| name.to_str().and_then(id_of)).transpose()
            });
            ids.collect::<io::Result<Vec<_>>>()
        };
        list().map_err(|error| StorageError::io("list", &self.directory, error))
    }

    fn remove(&self, last: LogId) -> Result<(), StorageError> {
        let path = self.path_of(last);
        let removed = lock(&self.disk).remove(&path);
        removed.map_err(|error| StorageError::io("remove", &path, error))
    }
}

impl FileWriter {
    fn sync(&mut self) -> Result<(), StorageError> {
        self.unsynced = 0;
        let synced = self.file.as_mut().map_or(Ok(()), |file| file.sync());
        synced.map_err(|error| StorageError::io("sync", &self.unfinished, error))
    }
}

impl SnapshotWriter for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write(bytes));
        written.map_err(|error| StorageError::io("write", &self.unfinished, error))?;
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<(), StorageError> {
        self.sync()?;
        let mut disk = lock(&self.disk);
        disk.rename(&self.unfinished, &self.path)
            .and_then(|()| disk.sync_directory(&self.directory))
            .map_err(|error| StorageError::io("create", &self.path, error))?;
        drop(disk);
        self.file = None;
        Ok(())
    }
}

impl Drop for FileWriter {
    /// An unfinished snapshot is removed, so that it does not fill the disk.
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let _ = lock(&self.disk).remove(&self.unfinished);
        }
    }
}

impl Read for FileReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into)
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl SnapshotReader for FileReader {
    fn path(&self) -> &Path {
        &self.path
    }
}

fn file_name(last: LogId) -> String {
    format!("{:020}-{:020}.{EXTENSION}", last.term.get(), last.index.get())
}

/// The snapshot with this file name. `None` if no snapshot can have this name.
fn id_of(name: &str) -> Option<LogId> {
    let (term, index) = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.split_once('-')?;
    let id = LogId::new(Term::new(term.parse().ok()?), Index::new(index.parse().ok()?));
    (file_name(id) == name).then_some(id)
}

fn lock(disk: &SharedDisk) -> MutexGuard<'_, Box<dyn JournalDisk>> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshots_name_sorts_by_term_and_index_and_has_one_spelling() {
        let id = LogId::new(Term::new(3), Index::new(950));
        assert_eq!(file_name(id), "00000000000000000003-00000000000000000950.snapshot");
        assert_eq!(id_of(&file_name(id)), Some(id));
        for other in ["3-950.snapshot", "lock", "00000000000000000003-00000000000000000950.taking"]
        {
            assert_eq!(id_of(other), None);
        }
    }
}
