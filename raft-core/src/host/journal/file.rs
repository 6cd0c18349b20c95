//! The journal in files.

use std::boxed::Box;
use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec::Vec;

use bytes::Bytes;

use super::Journal;
use super::directory::{create_directory, is_unfinished};
use super::disk::{JournalDisk, OsDisk, SegmentFile};
use super::lock::Lock;
use super::recovery::{self, Tail};
use super::replay::Replay;
use super::segment::{self, SegmentReader};
use super::snapshots::FileSnapshots;
use super::writer::{End, Segment, SegmentFactory, Writer};
use crate::host::identity::{ClusterId, Identity, StoreId};
use crate::host::snapshot::{Head, SnapshotStore, check_whole};
use crate::host::storage_error::StorageError;
use crate::output::{Restored, Write};
use crate::types::{LogId, NodeId};

/// Keeps writes in files of a directory of its own: append-only segments, one frame with checksums
/// for each sync.
///
/// - Each [`sync`](Journal::sync) is one write and one fdatasync, however many writes it covers.
/// - After a crash, the part of the last sync that was half done is cut off, with a warning,
///   because it was promised to no one. If anything else is damaged, the journal refuses to start,
///   with an error that names the file and the offset. A journal cannot notice that somebody cut
///   its last file short or removed it.
/// - If the successor of a segment cannot be made, because no file descriptor is left for one, the
///   segment grows on. From 16 times its usual length on that is a failure like any other.
/// - Segments of older versions are read. What a newer version wrote is refused, and the error says
///   that it is newer.
/// - Segments are deleted as a whole, once the log that they hold is compacted.
/// - Snapshots lie beside them, one file each; see [`SnapshotStore`].
/// - A lock keeps two processes from using one directory. Do not use network file systems that do
///   not lock.
///
/// Reading needs memory for the log and for the longest batch, up to 64 MiB unless a single write
/// is longer.
///
/// # Example
///
/// ```
/// use raft_core::NodeId;
/// use raft_core::host::{ClusterId, FileJournal, Journal};
///
/// # let temporary = tempfile::tempdir().unwrap();
/// # let directory = temporary.path().join("node-1");
/// let mut journal = FileJournal::open(directory, ClusterId::new(7), NodeId::new(1))?;
/// let restored = journal.recover()?;
/// assert!(restored.entries.is_empty());
/// # Ok::<(), raft_core::host::StorageError>(())
/// ```
pub struct FileJournal {
    state: JournalState,
    owner: Identity,
    segment_bytes_max: u64,
    snapshots: Arc<FileSnapshots>,
    /// Declared last, so that all other files are closed before another process gets the lock.
    _lock: Lock,
}

enum JournalState {
    /// The content has not been read yet.
    Opened(SegmentFactory, Vec<u64>),
    Ready(Box<Writer>),
    /// The journal has failed, and never tries again.
    Failed(StorageError),
}

impl FileJournal {
    /// How long a segment grows by default, in bytes.
    pub const SEGMENT_BYTES_MAX_DEFAULT: u64 = 64 << 20;

    /// Opens the journal of this node in `directory`, or creates both.
    ///
    /// # Errors
    ///
    /// [`StorageError::InUse`], [`StorageError::Foreign`], or another reason why the content cannot
    /// be used.
    pub fn open(
        directory: impl Into<PathBuf>,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<Self, StorageError> {
        let directory = directory.into();
        if is_unfinished(&directory) {
            return Err(StorageError::RestoreUnfinished { directory });
        }
        Self::open_on(Box::new(OsDisk), directory, cluster, node)
    }

    /// Begins a new segment before the last one would exceed this length in bytes. A longer batch
    /// gets a segment of its own.
    #[must_use]
    pub fn with_segment_bytes_max(mut self, bytes: u64) -> Self {
        self.segment_bytes_max = bytes;
        self
    }

    pub(super) fn open_on(
        mut disk: Box<dyn JournalDisk>,
        directory: PathBuf,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<Self, StorageError> {
        if !Self::exists(&directory)? {
            create_directory(&mut *disk, &directory)
                .map_err(|error| StorageError::io("create directory", &directory, error))?;
        }
        let lock = Lock::take(&directory)?;
        let numbers = list_segments(&directory)?;
        let drawn = Identity { cluster, node, store_id: super::draw_store_id() };
        let mut factory = SegmentFactory { directory, owner: drawn, disk };
        if numbers.is_empty() {
            factory.create_segment(segment::FIRST, None)?;
            let owner = factory.owner;
            return Ok(Self::opened(factory, [segment::FIRST].into(), owner, lock));
        }
        let (_, owner) = SegmentReader::open(factory.path_of(numbers[0]), numbers[0])?;
        factory.owner.store_id = owner.store_id;
        for number in &numbers {
            open_segment(&factory, *number)?;
        }
        Ok(Self::opened(factory, numbers, owner, lock))
    }

    fn opened(factory: SegmentFactory, numbers: Vec<u64>, owner: Identity, lock: Lock) -> Self {
        let snapshots = FileSnapshots::new(factory.directory.clone(), factory.disk.another());
        snapshots.clean();
        Self {
            snapshots: Arc::new(snapshots),
            state: JournalState::Opened(factory, numbers),
            owner,
            segment_bytes_max: Self::SEGMENT_BYTES_MAX_DEFAULT,
            _lock: lock,
        }
    }

    /// Whether there is a journal in the directory.
    pub(super) fn exists(directory: &Path) -> Result<bool, StorageError> {
        Ok(directory.exists() && !list_segments(directory)?.is_empty())
    }

    /// Checks that the snapshot with which the log begins is there. Its content is checked when it
    /// is read.
    fn check_snapshot(&self, restored: Restored<Bytes>) -> Result<Restored<Bytes>, StorageError> {
        if let Some(snapshot) = restored.snapshot.clone().filter(|s| s.last > LogId::ZERO) {
            let file = self.snapshots.open(snapshot.last)?;
            check_whole(file, &Head { cluster: self.owner.cluster, snapshot })?;
        }
        Ok(restored)
    }

    fn write(
        &mut self,
        action: impl FnOnce(&mut Writer) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        match &mut self.state {
            JournalState::Opened(..) => Err(StorageError::NotRecovered),
            JournalState::Failed(error) => Err(error.clone()),
            JournalState::Ready(writer) => {
                action(writer).inspect_err(|error| self.state = JournalState::Failed(error.clone()))
            }
        }
    }
}

impl Journal for FileJournal {
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError> {
        let misuse = JournalState::Failed(StorageError::NotRecovered);
        let (factory, numbers) = match std::mem::replace(&mut self.state, misuse) {
            JournalState::Opened(factory, numbers) => (factory, numbers),
            JournalState::Ready(_) => return Err(StorageError::NotRecovered),
            JournalState::Failed(error) => {
                self.state = JournalState::Failed(error.clone());
                return Err(error);
            }
        };
        let recovered = recover(factory, &numbers, self.segment_bytes_max)
            .and_then(|(writer, restored)| Ok((writer, self.check_snapshot(restored)?)));
        match recovered {
            Ok((writer, restored)) => {
                self.state = JournalState::Ready(Box::new(writer));
                Ok(restored)
            }
            Err(error) => {
                self.state = JournalState::Failed(error.clone());
                Err(error)
            }
        }
    }

    fn store_id(&self) -> StoreId {
        self.owner.store_id
    }

    fn owner(&self) -> Option<(ClusterId, NodeId)> {
        Some((self.owner.cluster, self.owner.node))
    }

    fn snapshots(&mut self) -> Option<Arc<dyn SnapshotStore>> {
        let snapshots = Arc::clone(&self.snapshots);
        Some(snapshots)
    }

    fn append(&mut self, write: &Write<Bytes>) -> Result<(), StorageError> {
        self.write(|writer| writer.append(write))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.write(Writer::sync)
    }
}

impl fmt::Debug for FileJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            JournalState::Opened(..) => "opened",
            JournalState::Ready(_) => "ready",
            JournalState::Failed(_) => "failed",
        };
        f.debug_struct("FileJournal").field("owner", &self.owner).field("state", &state).finish()
    }
}

/// Reads all segments, and makes the last one ready to be written.
///
/// If there is a gap, the segments before it are left over from a deletion that a crash
/// interrupted, provided that the segments behind it hold all that is needed.
fn recover(
    mut factory: SegmentFactory,
    numbers: &[u64],
    segment_bytes_max: u64,
) -> Result<(Writer, Restored<Bytes>), StorageError> {
    let gap = numbers.windows(2).rposition(|pair| pair[1] != pair[0] + 1);
    let (leftover, numbers) = numbers.split_at(gap.map_or(0, |at| at + 1));
    let (last, whole) = numbers.split_last().expect("a journal has at least one segment");
    let mut replay = None;
    let mut segments = VecDeque::with_capacity(numbers.len());
    for number in whole {
        let (reader, replay) = begin_segment(&factory, *number, &mut replay)?;
        let index_max = recovery::replay_segment(reader, replay)?;
        segments.push_back(Segment { number: *number, index_max });
    }
    let (reader, replayed) = begin_segment(&factory, *last, &mut replay)?;
    let tail = recovery::replay_last_segment(reader, replayed)?;
    segments.push_back(Segment { number: *last, index_max: tail.index_max });
    let position = replayed.position().clone();
    let Some(restored) = replay.and_then(Replay::into_restored) else {
        return Err(StorageError::SegmentMissing { path: factory.path_of(numbers[0] - 1) });
    };
    factory.delete_segments(leftover.iter().copied());
    let end = End {
        segments,
        file: settle(&mut factory, &tail)?,
        salting: tail.salting,
        length: tail.frame_start + tail.frame.len() as u64,
        head_bytes: tail.head_bytes,
        position,
    };
    Ok((Writer::new(factory, segment_bytes_max, end), restored))
}

/// Opens a segment up to its first batch. It must begin where the segment before ends, if that is
/// there.
fn begin_segment<'r>(
    factory: &SegmentFactory,
    number: u64,
    replay: &'r mut Option<Replay>,
) -> Result<(SegmentReader, &'r mut Replay), StorageError> {
    let mut reader = open_segment(factory, number)?;
    if number == segment::FIRST {
        return Ok((reader, replay.insert(Replay::default())));
    }
    let offset = reader.offset();
    let position = recovery::read_checkpoint(&mut reader)?;
    let replay = replay.get_or_insert_with(|| Replay::from_position(position.clone()));
    if *replay.position() != position {
        return Err(reader.damaged(offset, "it does not follow the segment before it"));
    }
    Ok((reader, replay))
}

/// Makes durable what was found, because the node will act on it.
///
/// What was found may not be durable. If the process was killed, it may only be in the operating
/// system's cache. If an fsync failed, it may be in a cache that believes it to be on disk, so that
/// another fsync would do nothing. Only the last frame can be concerned. Written once more, it is
/// new to the cache.
fn settle(factory: &mut SegmentFactory, tail: &Tail) -> Result<Box<dyn SegmentFile>, StorageError> {
    if let Some(torn) = tail.torn {
        tracing::warn!(
            node = factory.owner.node.get(),
            file = %tail.path.display(),
            offset = torn.offset,
            bytes = torn.bytes,
            "journal: cut off the rest of a write that a crash interrupted and that was never acknowledged"
        );
        factory
            .disk
            .cut(&tail.path, torn.offset)
            .map_err(|error| StorageError::io("cut off the torn end of", &tail.path, error))?;
    }
    let write = |disk: &mut dyn JournalDisk| {
        let mut file = disk.open(&tail.path, tail.frame_start)?;
        file.write(&tail.frame)?;
        file.sync()?;
        disk.sync_directory(&factory.directory)?;
        Ok(file)
    };
    write(&mut *factory.disk).map_err(|error| StorageError::io("write", &tail.path, error))
}

/// Opens a segment if it belongs to this node.
fn open_segment(factory: &SegmentFactory, number: u64) -> Result<SegmentReader, StorageError> {
    let (reader, owner) = SegmentReader::open(factory.path_of(number), number)?;
    let asked = factory.owner;
    if (owner.cluster, owner.node) != (asked.cluster, asked.node) {
        return Err(StorageError::Foreign {
            path: reader.path().to_path_buf(),
            owner: (owner.cluster, owner.node),
            asked: (asked.cluster, asked.node),
        });
    }
    if owner.store_id != asked.store_id {
        return Err(reader.damaged(0, "it is from another journal of this node"));
    }
    Ok(reader)
}

fn list_segments(directory: &Path) -> Result<Vec<u64>, StorageError> {
    let list = || {
        let names = fs::read_dir(directory)?.map(|file| Ok(file?.file_name()));
        let numbers = names.filter_map(|name: io::Result<_>| {
            name.map(|name| name.to_str().and_then(segment::number_of)).transpose()
        });
        numbers.collect::<io::Result<Vec<_>>>()
    };
    let mut numbers = list().map_err(|error| StorageError::io("list", directory, error))?;
    numbers.sort_unstable();
    Ok(numbers)
}
