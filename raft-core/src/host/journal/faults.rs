//! The file journal on disks that fail: whatever was reported durable survives, and a failure is
//! final.

use std::boxed::Box;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::string::ToString;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use bytes::Bytes;

use super::disk::{Directory, JournalDisk, OsDisk, SegmentFile};
use super::{FileJournal, Journal};
use crate::entries::{Entry, Payload};
use crate::host::identity::ClusterId;
use crate::host::snapshot::{Head, SnapshotStore, StateReader, StateWriter};
use crate::host::storage_error::StorageError;
use crate::membership::Membership;
use crate::message::SnapshotMeta;
use crate::output::{Restored, Write};
use crate::types::{HardState, Index, LogId, NodeId, Term, WriteId};

/// An operation that fails, having done this much of its work.
#[derive(Clone, Copy)]
struct Fault {
    /// The number of the operation, counted from 0.
    operation: usize,
    kind: ErrorKind,
    /// How many bytes a failed write leaves behind.
    bytes_written: usize,
}

/// The operating system's disk with one fault. Later operations work, so that a test would see a
/// retry "succeed".
#[derive(Clone, Default)]
struct FaultyDisk {
    fault: Option<Fault>,
    /// These operations all fail while this is set.
    refused: Arc<Mutex<Option<&'static str>>>,
    operations: Arc<Mutex<Vec<&'static str>>>,
}

struct FaultyFile(Box<dyn SegmentFile>, FaultyDisk);

struct FaultyDirectory(Box<dyn Directory>, FaultyDisk);

impl FaultyDisk {
    fn failing(operation: usize, kind: ErrorKind, bytes_written: usize) -> Self {
        let fault = Some(Fault { operation, kind, bytes_written });
        Self { fault, ..Self::default() }
    }

    fn begin(&self, name: &'static str) -> Result<(), Fault> {
        let mut operations = self.operations.lock().unwrap();
        operations.push(name);
        let operation = operations.len() - 1;
        if *self.refused.lock().unwrap() == Some(name) {
            return Err(Fault { operation, kind: ErrorKind::Other, bytes_written: 0 });
        }
        match self.fault {
            Some(fault) if fault.operation == operation => Err(fault),
            _ => Ok(()),
        }
    }

    fn operations(&self) -> Vec<&'static str> {
        self.operations.lock().unwrap().clone()
    }

    fn refuse(&self, name: Option<&'static str>) {
        *self.refused.lock().unwrap() = name;
    }

    fn wrap(&self, file: Box<dyn SegmentFile>) -> Box<dyn SegmentFile> {
        Box::new(FaultyFile(file, self.clone()))
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        fault.kind.into()
    }
}

impl JournalDisk for FaultyDisk {
    fn another(&self) -> Box<dyn JournalDisk> {
        Box::new(self.clone())
    }

    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        self.begin("create")?;
        Ok(self.wrap(OsDisk.create(path)?))
    }

    fn open(&mut self, path: &Path, offset: u64) -> io::Result<Box<dyn SegmentFile>> {
        self.begin("open")?;
        Ok(self.wrap(OsDisk.open(path, offset)?))
    }

    fn cut(&mut self, path: &Path, length: u64) -> io::Result<()> {
        self.begin("cut")?;
        OsDisk.cut(path, length)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin("rename")?;
        OsDisk.rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.begin("remove")?;
        OsDisk.remove(path)
    }

    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.begin("create directory")?;
        OsDisk.create_directory(path)
    }

    fn open_directory(&mut self, path: &Path) -> io::Result<Box<dyn Directory>> {
        self.begin("open directory")?;
        Ok(Box::new(FaultyDirectory(OsDisk.open_directory(path)?, self.clone())))
    }
}

impl Directory for FaultyDirectory {
    fn sync(&mut self) -> io::Result<()> {
        self.1.begin("sync directory")?;
        self.0.sync()
    }
}

impl SegmentFile for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.1.begin("write") {
            Ok(()) => self.0.write(bytes),
            Err(fault) => {
                self.0.write(&bytes[..fault.bytes_written.min(bytes.len())])?;
                Err(fault.into())
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.1.begin("sync")?;
        self.0.sync()
    }
}

/// Small enough that a few writes need several segments.
const SEGMENT_BYTES_MAX: u64 = 400;

fn open(disk: FaultyDisk, directory: &Path) -> Result<FileJournal, StorageError> {
    let directory = directory.to_path_buf();
    FileJournal::open_on(Box::new(disk), directory, ClusterId::new(1), NodeId::new(1))
        .map(|journal| journal.with_segment_bytes_max(SEGMENT_BYTES_MAX))
}

fn write(index: u64) -> Write<Bytes> {
    let payload = Payload::Command(Bytes::from(std::vec![index as u8; 60]));
    let entry = Entry { term: Term::new(1), index: Index::new(index), payload };
    Write {
        id: WriteId::new(index),
        hard_state: Some(HardState {
            current_term: Term::new(1),
            voted_for: None,
            ..Default::default()
        }),
        entries: [entry].into_iter().collect(),
        ..Write::default()
    }
}

/// Runs a node's disk traffic, two writes to a sync, until its end or the first error. Returns how
/// many writes were acknowledged.
fn run(disk: &FaultyDisk, directory: &Path) -> (u64, Option<StorageError>) {
    let mut acknowledged = 0;
    let mut run = || {
        let mut journal = open(disk.clone(), directory)?;
        acknowledged = journal.recover()?.entries.len() as u64;
        for _ in 0..5 {
            let result = journal
                .append(&write(acknowledged + 1))
                .and_then(|()| journal.append(&write(acknowledged + 2)))
                .and_then(|()| journal.sync());
            if let Err(error) = result {
                assert_final(&mut journal, disk, &error);
                return Err(error);
            }
            acknowledged += 2;
        }
        Ok(())
    };
    let error = run().err();
    (acknowledged, error)
}

/// Later calls repeat the error and leave the disk alone, although it would work again.
fn assert_final(journal: &mut FileJournal, disk: &FaultyDisk, error: &StorageError) {
    let operations = disk.operations();
    for _ in 0..2 {
        for result in [journal.sync(), journal.append(&write(1)), journal.recover().map(|_| ())] {
            assert_eq!(result.unwrap_err().to_string(), error.to_string());
        }
    }
    assert_eq!(disk.operations(), operations);
}

fn assert_holds(restored: &Restored<Bytes>, acknowledged: u64) {
    let found = restored.entries.len() as u64;
    assert!((acknowledged..=acknowledged + 2).contains(&found), "{found} of {acknowledged}");
    let written = (1..=found).flat_map(|index| write(index).entries.into_vec());
    assert_eq!(restored.entries, written.collect::<Vec<_>>());
}

#[test]
fn a_sync_is_one_write_and_one_fsync_for_all_that_was_appended() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let mut journal = open(disk.clone(), directory.path()).unwrap().with_segment_bytes_max(1 << 20);
    journal.recover().unwrap();
    let before = disk.operations().len();
    (1..=20).for_each(|index| journal.append(&write(index)).unwrap());
    assert_eq!(disk.operations().len(), before);
    journal.sync().unwrap();
    assert_eq!(disk.operations()[before..], ["write", "sync"]);
    journal.sync().unwrap();
    assert_eq!(disk.operations().len(), before + 2, "nothing is left to sync");
}

/// The first frame of a segment is durable before the segment has its name, and the name before the
/// segment is used.
#[test]
fn a_segment_is_durable_before_it_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    open(disk.clone(), directory.path()).unwrap();
    let name = ["open directory", "sync directory"];
    let segment = ["open directory", "create", "write", "sync", "rename", "sync directory"];
    assert_eq!(disk.operations(), [&name[..], &segment].concat());
}

/// Data that a killed process left in the operating system's cache, or a failed fsync left in a
/// cache that forgot about it, is written again.
#[test]
fn what_is_recovered_is_durable_before_the_node_acts_on_it() {
    let directory = tempfile::tempdir().unwrap();
    run(&FaultyDisk::default(), directory.path());
    let disk = FaultyDisk::default();
    open(disk.clone(), directory.path()).unwrap().recover().unwrap();
    let settled = ["open", "write", "sync", "open directory", "sync directory"];
    assert_eq!(disk.operations(), settled);
}

#[test]
fn a_torn_end_is_cut_off_durably_before_anything_else_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let last_write = FaultyDisk::default();
    run(&last_write, directory.path());
    let operations = last_write.operations().len();

    let directory = tempfile::tempdir().unwrap();
    run(&FaultyDisk::failing(operations - 2, ErrorKind::Other, 20), directory.path());
    let disk = FaultyDisk::default();
    open(disk.clone(), directory.path()).unwrap().recover().unwrap();
    let settled = ["cut", "open", "write", "sync", "open directory", "sync directory"];
    assert_eq!(disk.operations(), settled);
}

/// Every operation of a journal fails once: creating it, writing, rotating, recovering. A write
/// leaves any part behind.
#[test]
fn whatever_fails_the_failure_is_final_and_nothing_acknowledged_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let lives = [FaultyDisk::default(), FaultyDisk::default()];
    lives.iter().for_each(|disk| assert!(run(disk, directory.path()).1.is_none()));
    let renames = lives[0].operations().iter().filter(|name| **name == "rename").count();
    assert!(renames > 2, "it rotates");

    for (life, whole) in lives.iter().enumerate() {
        for (operation, name) in whole.operations().into_iter().enumerate() {
            let parts: &[usize] = match name {
                "write" => &[0, 1, 11, 12, 13, 100, usize::MAX],
                _ => &[0],
            };
            let is_put_off = prepares_a_successor(&whole.operations(), operation);
            parts.iter().for_each(|bytes| fail_once(life, operation, *bytes, is_put_off));
        }
    }
}

/// Whether this operation makes a segment behind others, before the first fsync of it.
fn prepares_a_successor(operations: &[&str], operation: usize) -> bool {
    let begins = |at: usize| operations.get(at..at + 2) == Some(&["open directory", "create"][..]);
    let has_a_segment = |at: usize| operations[..at].contains(&"sync");
    (operation.saturating_sub(2)..=operation).any(|at| begins(at) && has_a_segment(at))
}

/// One operation of the first or second process fails.
fn fail_once(life: usize, operation: usize, bytes_written: usize, is_put_off: bool) {
    let directory = tempfile::tempdir().unwrap();
    let before = (0..life).map(|_| run(&FaultyDisk::default(), directory.path()).0).sum();
    let disk = FaultyDisk::failing(operation, ErrorKind::Other, bytes_written);
    let (acknowledged, error) = run(&disk, directory.path());
    match error {
        None => assert!(is_put_off, "operation {operation}"),
        Some(StorageError::Io { .. }) => assert!(!is_put_off, "operation {operation}"),
        Some(error) => panic!("operation {operation}: {error}"),
    }
    let restored = open(FaultyDisk::default(), directory.path()).unwrap().recover().unwrap();
    assert_holds(&restored, acknowledged.max(before));
    // The next process goes on from there.
    assert!(run(&FaultyDisk::default(), directory.path()).1.is_none());
}

/// For a while no file descriptor is left at the end of a segment.
#[test]
fn a_segment_grows_on_while_its_successor_cannot_be_made() {
    for refused in ["open directory", "create"] {
        let directory = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        let mut journal = open(disk.clone(), directory.path()).unwrap();
        journal.recover().unwrap();
        disk.refuse(Some(refused));
        for index in 1..=20 {
            journal.append(&write(index)).unwrap();
            journal.sync().unwrap();
        }
        assert!(!disk.operations().contains(&"remove"), "it has one segment");
        disk.refuse(None);
        let renames = || disk.operations().iter().filter(|name| **name == "rename").count();
        assert_eq!(renames(), 1, "{refused}");
        journal.append(&write(21)).unwrap();
        journal.sync().unwrap();
        assert_eq!(renames(), 2, "the successor is made as soon as it can be");
        drop(journal);
        let restored = open(FaultyDisk::default(), directory.path()).unwrap().recover().unwrap();
        assert_eq!(restored.entries.len(), 21, "{refused}");
    }
}

#[test]
fn a_segment_does_not_grow_on_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let mut journal = open(disk.clone(), directory.path()).unwrap();
    journal.recover().unwrap();
    disk.refuse(Some("create"));
    let mut acknowledged = 0;
    let error = loop {
        let appended = journal.append(&write(acknowledged + 1));
        match appended.and_then(|()| journal.sync()) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 1000);
    };
    assert!(matches!(error, StorageError::Io { action: "create", .. }), "{error}");
    disk.refuse(None);
    assert_final(&mut journal, &disk, &error);
    drop(journal);
    let length = std::fs::metadata(directory.path().join("00000000000000000001.journal"));
    let length = length.unwrap().len();
    assert!((15..=17).contains(&(length / SEGMENT_BYTES_MAX)), "{length} bytes");
    let restored = open(FaultyDisk::default(), directory.path()).unwrap().recover().unwrap();
    assert_eq!(restored.entries.len() as u64, acknowledged);
}

#[test]
fn a_full_disk_says_so_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let whole = FaultyDisk::default();
    run(&whole, directory.path());
    let last_write = whole.operations().len() - 2;
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::FileTooLarge] {
        let directory = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::failing(last_write, kind, 50);
        let (acknowledged, error) = run(&disk, directory.path());
        let error = error.unwrap();
        assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(".journal") && message.contains("free some space"), "{message}");
        let restored = open(FaultyDisk::default(), directory.path()).unwrap().recover().unwrap();
        assert_eq!(restored.entries.len() as u64, acknowledged);
    }
}

/// After how many entries the log is compacted, and how many are kept before a snapshot's last
/// entry.
const SNAPSHOT_EVERY: u64 = 2;
const TAIL: u64 = 1;

fn snapshot_of(index: u64) -> SnapshotMeta {
    let membership = Membership::of_voters([NodeId::new(1)]);
    SnapshotMeta { last: LogId::new(Term::new(1), Index::new(index)), membership }
}

fn take_snapshot(store: &dyn SnapshotStore, index: u64) -> Result<(), StorageError> {
    let snapshot = snapshot_of(index);
    let head = Head { cluster: ClusterId::new(1), snapshot: snapshot.clone() };
    let mut writer = StateWriter::begin(store.create(snapshot.last, false)?, head, &|| false)?;
    if io::Write::write_all(&mut writer, &std::vec![index as u8; 1000]).is_err() {
        return Err(writer.take_failure().unwrap());
    }
    writer.finish().map(|_| ())
}

/// A node's disk traffic with a snapshot now and then, behind which the log is compacted and the
/// snapshot before is removed. Returns how many entries were acknowledged, the last acknowledged
/// snapshot, and the first error.
fn run_with_snapshots(disk: &FaultyDisk, directory: &Path) -> (u64, u64, Option<StorageError>) {
    let (mut acknowledged, mut snapshot) = (0, 0);
    let mut run = || {
        let mut journal = open(disk.clone(), directory)?;
        let restored = journal.recover()?;
        acknowledged = restored.base.index.get() + restored.entries.len() as u64;
        snapshot = restored.snapshot.map_or(0, |snapshot| snapshot.last.index.get());
        let store = journal.snapshots().unwrap();
        for _ in 0..2 * SNAPSHOT_EVERY {
            let mut next = write(acknowledged + 1);
            if acknowledged >= snapshot + SNAPSHOT_EVERY {
                take_snapshot(&*store, acknowledged)?;
                next.snapshot = Some(Box::new(snapshot_of(acknowledged)));
                next.compact_to = Some(Box::new(snapshot_of(acknowledged - TAIL).last));
            }
            journal.append(&next)?;
            journal.sync()?;
            acknowledged += 1;
            if next.snapshot.is_some() {
                let before = snapshot_of(std::mem::replace(&mut snapshot, acknowledged - 1)).last;
                // A snapshot that cannot be removed is no failure.
                let _ = store.remove(before);
            }
        }
        Ok(())
    };
    let error = run().err();
    (acknowledged, snapshot, error)
}

fn assert_holds_with_snapshot(directory: &Path, acknowledged: u64, snapshot: u64) {
    let mut journal = open(FaultyDisk::default(), directory).unwrap();
    let restored = journal.recover().unwrap();
    let base = restored.base.index.get();
    let last = base + restored.entries.len() as u64;
    assert!((acknowledged..=acknowledged + 1).contains(&last), "{last} of {acknowledged}");
    let written = (base + 1..=last).flat_map(|index| write(index).entries.into_vec());
    assert_eq!(restored.entries, written.collect::<Vec<_>>());
    let found = restored.snapshot.map_or(0, |snapshot| snapshot.last.index.get());
    assert!(found >= snapshot && base <= found, "{found} instead of {snapshot}, base {base}");
    if found > 0 {
        let meta = snapshot_of(found);
        let head = Head { cluster: ClusterId::new(1), snapshot: meta.clone() };
        let store = journal.snapshots().unwrap();
        let mut reader = StateReader::open(store.open(meta.last).unwrap(), &head).unwrap();
        let mut state = Vec::new();
        reader.read_to_end(&mut state).unwrap();
        assert_eq!(state, std::vec![found as u8; 1000]);
    }
}

#[test]
fn segments_are_deleted_behind_compaction_and_snapshots_when_replaced() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..4 {
        assert!(run_with_snapshots(&FaultyDisk::default(), directory.path()).2.is_none());
        let names = std::fs::read_dir(directory.path()).unwrap();
        let names: Vec<_> = names.map(|file| file.unwrap().file_name()).collect();
        let count = |ending: &str| {
            names.iter().filter(|name| name.to_str().unwrap().ends_with(ending)).count()
        };
        assert_eq!(count(".snapshot"), 1, "{names:?}");
        assert!(count(".journal") <= 6, "{names:?}");
    }
}

/// A crash at each point of taking a snapshot, naming it, compacting and deleting leaves the
/// acknowledged entries and a whole snapshot.
#[test]
fn a_crash_anywhere_around_compaction_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let first = run_with_snapshots(&FaultyDisk::default(), directory.path());
    let whole = FaultyDisk::default();
    assert!(run_with_snapshots(&whole, directory.path()).2.is_none());
    let removals = whole.operations().iter().filter(|name| **name == "remove").count();
    assert!(removals > 2, "segments and snapshots are removed");
    for (operation, name) in whole.operations().into_iter().enumerate() {
        let parts: &[usize] = if name == "write" { &[0, 13, usize::MAX] } else { &[0] };
        for bytes_written in parts {
            let directory = tempfile::tempdir().unwrap();
            run_with_snapshots(&FaultyDisk::default(), directory.path());
            let disk = FaultyDisk::failing(operation, ErrorKind::Other, *bytes_written);
            let (acknowledged, snapshot, error) = run_with_snapshots(&disk, directory.path());
            let goes_on = prepares_a_successor(&whole.operations(), operation) || name == "remove";
            assert_eq!(error.is_none(), goes_on, "operation {operation}, {name}");
            let (acknowledged, snapshot) = (acknowledged.max(first.0), snapshot.max(first.1));
            assert_holds_with_snapshot(directory.path(), acknowledged, snapshot);
            assert!(run_with_snapshots(&FaultyDisk::default(), directory.path()).2.is_none());
        }
    }
}
