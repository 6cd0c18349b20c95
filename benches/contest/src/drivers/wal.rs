//! A log on the disk: records with a length and a checksum, one after the other in one file,
//! written in batches with one fdatasync for each.
//!
//! The file is allocated ahead, as etcd's is, so that an fdatasync writes no new size. A record of
//! length zero, or whose checksum is wrong, ends the log: what follows was never acknowledged.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

/// By how much the file grows.
const ALLOCATED_AHEAD: u64 = 64 << 20;
/// Length and checksum.
const HEAD_BYTES: usize = 8;

/// The log of one server.
#[derive(Debug)]
pub(crate) struct Wal {
    file: File,
    end: u64,
    allocated: u64,
    batch: Vec<u8>,
}

impl Wal {
    /// Opens the log in this folder, and shows what it holds.
    pub(crate) fn open(
        folder: &Path,
        mut show: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join("log");
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let bytes = fs::read(&path)?;
        let mut end = 0;
        while let Some(record) = record_at(&bytes, end) {
            show(record)?;
            end += HEAD_BYTES + record.len();
        }
        // Behind a torn record there may be whole ones of the same batch: they must not come back.
        let end = end as u64;
        file.set_len(end)?;
        let mut wal = Self { file, end, allocated: end, batch: Vec::new() };
        wal.make_room()?;
        // The names of file and folder are on the disk before anything is promised.
        wal.file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(wal)
    }

    /// Adds a record to the batch.
    pub(crate) fn add(&mut self, record: &[u8]) {
        self.batch.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.batch.extend_from_slice(&crc32fast::hash(record).to_le_bytes());
        self.batch.extend_from_slice(record);
    }

    /// Writes the batch, and returns when it is durable.
    pub(crate) fn commit(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.make_room()?;
        self.file.write_all_at(&self.batch, self.end)?;
        self.file.sync_data()?;
        self.end += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }

    fn make_room(&mut self) -> io::Result<()> {
        let needed = self.end + self.batch.len() as u64 + HEAD_BYTES as u64;
        while self.allocated < needed {
            fallocate(&self.file, FallocateFlags::empty(), self.allocated, ALLOCATED_AHEAD)?;
            self.allocated += ALLOCATED_AHEAD;
            self.file.sync_all()?;
        }
        Ok(())
    }
}

fn record_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let head = bytes.get(at..at + HEAD_BYTES)?;
    let length = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let record = bytes.get(at + HEAD_BYTES..)?.get(..length)?;
    let is_whole = length > 0 && crc32fast::hash(record).to_le_bytes() == head[4..];
    is_whole.then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path) -> (Wal, Vec<Vec<u8>>) {
        let mut records = Vec::new();
        let show = |record: &[u8]| {
            records.push(record.to_vec());
            Ok(())
        };
        (Wal::open(folder, show).unwrap(), records)
    }

    #[test]
    fn what_was_committed_is_read_again_and_a_torn_record_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (mut wal, records) = read(folder.path());
        assert!(records.is_empty());
        for record in [&b"one"[..], b"two", b"three"] {
            wal.add(record);
            wal.commit().unwrap();
        }
        drop(wal);
        let (wal, records) = read(folder.path());
        assert_eq!(records, [&b"one"[..], b"two", b"three"]);
        wal.file.write_all_at(b"X", wal.end - 1).unwrap();
        drop(wal);
        let (mut wal, records) = read(folder.path());
        assert_eq!(records, [&b"one"[..], b"two"]);
        wal.add(b"four");
        wal.commit().unwrap();
        assert_eq!(read(folder.path()).1, [&b"one"[..], b"two", b"four"]);
    }
}
