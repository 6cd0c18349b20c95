//! The file journal when power fails: names and bytes that were not synced are lost, in any part.
//!
//! The invariant is that of field bug 58: the journal says "durable" after the disk said so. The
//! disk of this test keeps what a page cache would: how much of each file was synced, and whether
//! the directory of each name was. Processes are killed at any operation, which loses nothing. Then
//! power fails, which loses any part of the rest.

use std::boxed::Box;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use bytes::Bytes;

use super::disk::{Directory, JournalDisk, OsDisk, SegmentFile};
use super::sector::{SECTOR_BYTES, sectors};
use super::{FileJournal, Journal};
use crate::entries::{Entry, Payload};
use crate::host::identity::ClusterId;
use crate::host::storage_error::StorageError;
use crate::output::{Restored, Write};
use crate::types::{HardState, Index, NodeId, Term, WriteId};

/// Small enough that a few writes need several segments.
const SEGMENT_BYTES_MAX: u64 = 3000;
/// The most writes of one process.
const WRITES: u64 = 6;

/// A disk with a page cache. Nothing is really synced, so it is fast.
#[derive(Clone, Default)]
struct PoweredDisk(Arc<Mutex<Cache>>);

#[derive(Default)]
struct Cache {
    /// After how many operations the process is killed.
    operations_left: Option<usize>,
    operations: usize,
    /// The files under their present names, and how much of each was synced.
    files: Vec<(PathBuf, u64)>,
    /// Changes of names whose directory was not synced since, in order.
    names: Vec<Name>,
}

impl Cache {
    /// The number of that file. A file that was there when power came back is durable.
    fn file(&mut self, path: &Path) -> usize {
        let known = self.files.iter().rposition(|(known, _)| known == path);
        known.unwrap_or_else(|| {
            let durable = fs::metadata(path).map_or(0, |file| file.len());
            self.files.push((path.to_path_buf(), durable));
            self.files.len() - 1
        })
    }
}

enum Name {
    Made(PathBuf),
    Changed { from: PathBuf, to: PathBuf },
    Removed { path: PathBuf, content: Vec<u8> },
}

impl Name {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Made(path) | Self::Changed { to: path, .. } | Self::Removed { path, .. } => {
                path.parent()
            }
        }
    }

    /// Undoes the change. The file that it named may be gone already.
    fn undo(self) {
        let _ = match self {
            Self::Made(path) if path.is_dir() => fs::remove_dir_all(path),
            Self::Made(path) => fs::remove_file(path),
            Self::Changed { from, to } => fs::rename(to, from),
            Self::Removed { path, content } => fs::write(path, content),
        };
    }
}

struct PoweredFile {
    /// The number of the file in the cache.
    at: usize,
    file: Box<dyn SegmentFile>,
    disk: PoweredDisk,
}

struct PoweredDirectory(PathBuf, PoweredDisk);

impl PoweredDisk {
    fn begin(&self) -> io::Result<()> {
        self.cache(|cache| {
            cache.operations += 1;
            match &mut cache.operations_left {
                Some(0) => Err(ErrorKind::Other.into()),
                Some(left) => {
                    *left -= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        })
    }

    fn cache<T>(&self, action: impl FnOnce(&mut Cache) -> T) -> T {
        action(&mut self.0.lock().unwrap())
    }

    /// Starts a new process, which is killed after so many operations. Returns how many operations
    /// the last process performed.
    fn restart(&self, operations_left: Option<usize>) -> usize {
        self.cache(|cache| {
            cache.operations_left = operations_left;
            std::mem::take(&mut cache.operations)
        })
    }

    /// Power fails. `is_lost` decides for each change that was not synced whether it is lost.
    fn fail(&self, mut is_lost: impl FnMut() -> bool) {
        let (files, names) = self.cache(|cache| {
            cache.operations_left = None;
            (std::mem::take(&mut cache.files), std::mem::take(&mut cache.names))
        });
        for (path, synced) in files {
            let Ok(mut content) = fs::read(&path) else { continue };
            let unsynced = (synced as usize).min(content.len())..content.len();
            for part in sectors(0, unsynced.clone()) {
                if is_lost() {
                    content[part].fill(0);
                }
            }
            if is_lost() {
                content.truncate(unsynced.start + unsynced.len() / 2);
            }
            fs::write(&path, content).unwrap();
        }
        names.into_iter().rev().filter(|_| is_lost()).for_each(Name::undo);
    }
}

impl JournalDisk for PoweredDisk {
    fn another(&self) -> Box<dyn JournalDisk> {
        Box::new(self.clone())
    }

    fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.begin()?;
        OsDisk.create_directory(path)?;
        self.cache(|cache| cache.names.push(Name::Made(path.to_path_buf())));
        Ok(())
    }

    fn create(&mut self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        self.begin()?;
        let file = OsDisk.create(path)?;
        let at = self.cache(|cache| {
            cache.files.push((path.to_path_buf(), 0));
            cache.names.push(Name::Made(path.to_path_buf()));
            cache.files.len() - 1
        });
        Ok(Box::new(PoweredFile { at, file, disk: self.clone() }))
    }

    fn open(&mut self, path: &Path, offset: u64) -> io::Result<Box<dyn SegmentFile>> {
        self.begin()?;
        let file = OsDisk.open(path, offset)?;
        let at = self.cache(|cache| cache.file(path));
        Ok(Box::new(PoweredFile { at, file, disk: self.clone() }))
    }

    fn cut(&mut self, path: &Path, length: u64) -> io::Result<()> {
        self.begin()?;
        fs::OpenOptions::new().write(true).open(path)?.set_len(length)?;
        self.cache(|cache| {
            let at = cache.file(path);
            cache.files[at].1 = length;
        });
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.begin()?;
        OsDisk.rename(from, to)?;
        self.cache(|cache| {
            let at = cache.file(from);
            cache.files[at].0 = to.to_path_buf();
            let (from, to) = (from.to_path_buf(), to.to_path_buf());
            cache.names.push(Name::Changed { from, to });
        });
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.begin()?;
        let content = fs::read(path)?;
        OsDisk.remove(path)?;
        let path = path.to_path_buf();
        self.cache(|cache| cache.names.push(Name::Removed { path, content }));
        Ok(())
    }

    fn open_directory(&mut self, path: &Path) -> io::Result<Box<dyn Directory>> {
        self.begin()?;
        Ok(Box::new(PoweredDirectory(path.to_path_buf(), self.clone())))
    }
}

impl SegmentFile for PoweredFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let killed = self.disk.begin();
        // A process that is killed may have written any part.
        let written = if killed.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.file.write(&bytes[..written])?;
        killed
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.begin()?;
        self.disk.cache(|cache| {
            let (path, synced) = &mut cache.files[self.at];
            *synced = fs::metadata(path)?.len();
            Ok(())
        })
    }
}

impl Directory for PoweredDirectory {
    fn sync(&mut self) -> io::Result<()> {
        self.1.begin()?;
        self.1.cache(|cache| cache.names.retain(|name| name.directory() != Some(&self.0)));
        Ok(())
    }
}

/// A reproducible random number generator, and no better than it has to be.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn open(disk: &PoweredDisk, directory: &Path) -> Result<FileJournal, StorageError> {
    let cluster = ClusterId::new(1);
    let node = NodeId::new(1);
    FileJournal::open_on(Box::new(disk.clone()), directory.to_path_buf(), cluster, node)
        .map(|journal| journal.with_segment_bytes_max(SEGMENT_BYTES_MAX))
}

/// A command whose length depends on the index. It holds whole frames: the end of the journal
/// itself, as a client may store it.
fn write(index: u64, directory: &Path) -> Write<Bytes> {
    let segments = fs::read_dir(directory).map_or(Vec::new(), |files| {
        let paths = files.map(|file| file.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|name| name == "journal")).collect()
    });
    let last = segments.iter().max().map_or(Vec::new(), |path| fs::read(path).unwrap());
    let length = (index * 397 % 1700) as usize;
    let mut command = last[last.len().saturating_sub(length)..].to_vec();
    command.resize(length, 0);
    let payload = Payload::Command(Bytes::from(command));
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

/// What a node knows was acknowledged to it, and what it asked for last.
#[derive(Default)]
struct Known {
    durable: Vec<Entry<Bytes>>,
    asked: Option<Entry<Bytes>>,
}

impl Known {
    /// Checks that everything that was acknowledged is there, and nothing that was not asked for.
    fn check(&mut self, restored: Restored<Bytes>, story: &str) {
        let durable = self.durable.len();
        assert!(restored.entries.len() >= durable, "{story}: lost what was acknowledged");
        let (held, more) = restored.entries.split_at(durable);
        assert_eq!(held, self.durable, "{story}");
        assert!(more.is_empty() || more.iter().eq(self.asked.iter()), "{story}: never asked for");
        (self.durable, self.asked) = (restored.entries, None);
    }
}

/// Runs one process of a node, until it is killed or has written everything.
fn live(disk: &PoweredDisk, directory: &Path, known: &mut Known, story: &str) {
    let mut live = || -> Result<(), StorageError> {
        let mut journal = open(disk, directory)?;
        known.check(journal.recover()?, story);
        for _ in 0..WRITES {
            let write = write(known.durable.len() as u64 + 1, directory);
            known.asked = write.entries.first().cloned();
            journal.append(&write)?;
            journal.sync()?;
            known.durable.extend(known.asked.take());
        }
        Ok(())
    };
    match live() {
        Ok(()) | Err(StorageError::Io { .. }) => {}
        Err(error) => panic!("{story}: {error}"),
    }
}

/// A first start that is killed at each of its operations, a second start that is not, and then a
/// power failure: what was acknowledged is there, and so is the directory that holds it.
#[test]
fn a_first_start_that_was_interrupted_leaves_no_name_to_be_lost() {
    let start = |disk: &PoweredDisk, root: &Path, known: &mut Known, story: &str| {
        live(disk, &root.join("a/b/journal"), known, story);
    };
    let whole = PoweredDisk::default();
    let root = tempfile::tempdir().unwrap();
    start(&whole, root.path(), &mut Known::default(), "not interrupted");
    let operations = whole.restart(None);
    assert!(operations > 20, "{operations} operations");
    for kill in 0..operations {
        let root = tempfile::tempdir().unwrap();
        let disk = PoweredDisk::default();
        let mut known = Known::default();
        let story = std::format!("killed at operation {kill}");
        disk.restart(Some(kill));
        start(&disk, root.path(), &mut known, &story);
        disk.restart(None);
        start(&disk, root.path(), &mut known, &story);
        disk.fail(|| true);
        start(&disk, root.path(), &mut known, &story);
    }
}

/// Processes are killed and power fails at random operations, and random parts of what was not
/// synced are lost. Commands hold whole frames, also of this journal: no part of one passes for a
/// frame, and none keeps the journal from starting.
#[test]
fn durable_is_said_after_the_disk_said_so() {
    for seed in 0..600 {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("journal");
        let disk = PoweredDisk::default();
        let mut known = Known::default();
        let mut draw = Draw(seed);
        for life in 0..4 {
            let story = std::format!("seed {seed}, life {life}");
            disk.restart(Some(draw.below(45) as usize));
            live(&disk, &directory, &mut known, &story);
            if draw.below(3) > 0 {
                let odds = draw.below(5);
                disk.fail(|| draw.below(4) < odds);
            }
        }
        disk.restart(None);
        live(&disk, &directory, &mut known, &std::format!("seed {seed}, at last"));
        assert!(known.durable.len() as u64 >= WRITES);
    }
    assert_eq!(SECTOR_BYTES, 512, "what a disk loses is lost in sectors");
}
