//! The writing half of the file journal: batches, segments, and the order in which they become
//! durable.
//!
//! # What may be tried again
//!
//! If a write or an fsync of a file that holds promises fails, the failure is final, because it is
//! unknown what reached the disk. A new segment holds no promise until it has its name. So a
//! failure before its first fsync (no file descriptor, no inode, no room, no memory) has changed
//! nothing. The writer goes on in the segment that it has, and tries again after every
//! [`ATTEMPTS_PER_SEGMENT`]th part of a segment. From [`OVERRUN_MAX`] times the segment's usual
//! length on, the failure is final. A failed fsync, rename or fsync of the directory is final at
//! once.

use std::boxed::Box;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::batch::Batch;
use super::checkpoint;
use super::disk::{Directory, JournalDisk, SegmentFile};
use super::replay::Position;
use super::segment::{self, Salting};
use crate::host::identity::Identity;
use crate::host::storage_error::StorageError;
use crate::output::Write;
use crate::types::Index;

/// How many bytes may wait for a sync. A batch that reaches this number is made durable at once.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// The name of a new segment until it is complete.
const NEW: &str = "new";

/// How long a segment may grow while its successor cannot be made, in multiples of its usual
/// length.
const OVERRUN_MAX: u64 = 16;

/// How often making the successor is tried again for each usual length that is written meanwhile.
const ATTEMPTS_PER_SEGMENT: u64 = 16;

/// A journal's directory, and what is needed to make segments there.
pub(super) struct SegmentFactory {
    pub(super) directory: PathBuf,
    pub(super) owner: Identity,
    pub(super) disk: Box<dyn JournalDisk>,
}

impl SegmentFactory {
    pub(super) fn path_of(&self, number: u64) -> PathBuf {
        self.directory.join(segment::file_name(number))
    }

    /// Makes a segment that after any crash is there whole or not at all: it gets its name when its
    /// beginning is durable. Returns the length of that beginning.
    pub(super) fn create_segment(
        &mut self,
        number: u64,
        checkpoint: Option<&Position>,
    ) -> Result<(Box<dyn SegmentFile>, u64), StorageError> {
        let prepared = self.prepare_segment(number, checkpoint)?;
        self.finish_segment(prepared)
    }

    /// The steps of making a segment that can fail without a trace.
    fn prepare_segment(
        &mut self,
        number: u64,
        checkpoint: Option<&Position>,
    ) -> Result<Prepared, StorageError> {
        let path = self.path_of(number);
        let mut head = segment::encode_preamble(self.owner, number);
        if let Some(position) = checkpoint {
            let mut batch = Batch::new();
            let salting = Salting::new(self.owner, number);
            let sealed = checkpoint::push(position, &mut batch)
                .and_then(|()| batch.seal(head.len() as u64, salting));
            head.extend_from_slice(sealed.map_err(|bytes| StorageError::WriteTooLong { bytes })?);
        }
        let prepare = |disk: &mut dyn JournalDisk| {
            let directory = disk.open_directory(&self.directory)?;
            let mut file = disk.create(&unfinished(&path))?;
            file.write(&head)?;
            Ok((directory, file))
        };
        let (directory, file) =
            prepare(&mut *self.disk).map_err(|error| StorageError::io("create", &path, error))?;
        Ok(Prepared { path, directory, file, length: head.len() as u64 })
    }

    fn finish_segment(
        &mut self,
        prepared: Prepared,
    ) -> Result<(Box<dyn SegmentFile>, u64), StorageError> {
        let Prepared { path, mut directory, mut file, length } = prepared;
        let mut finish = || {
            file.sync()?;
            self.disk.rename(&unfinished(&path), &path)?;
            directory.sync()
        };
        finish().map_err(|error| StorageError::io("create", &path, error))?;
        Ok((file, length))
    }

    /// Deletes segments that are no longer needed. If that fails, only space is lost. Returns how
    /// many are gone.
    pub(super) fn delete_segments(&mut self, numbers: impl Iterator<Item = u64>) -> usize {
        let mut deleted = 0;
        for number in numbers {
            let path = self.path_of(number);
            let removed = self.disk.remove(&path);
            if let Err(error) = removed.or_else(ignore_missing) {
                let file = path.display();
                let node = self.owner.node.get();
                tracing::warn!(node, %file, %error, "journal: a segment that is no longer needed cannot be deleted");
                break;
            }
            deleted += 1;
        }
        deleted
    }
}

/// A segment without its name, on which nothing relies yet.
struct Prepared {
    path: PathBuf,
    directory: Box<dyn Directory>,
    file: Box<dyn SegmentFile>,
    length: u64,
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// The name of a segment while it is being made.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension(NEW)
}

/// What compaction needs to know of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// The highest index among its entries. The segment may be deleted once the log is compacted up
    /// to there.
    pub(super) index_max: Index,
}

/// Appends to the last segment, and deletes the first segments behind compaction.
pub(super) struct Writer {
    factory: SegmentFactory,
    /// The length beyond which a segment is followed by another.
    segment_bytes_max: u64,
    /// All segments that exist; never empty.
    segments: VecDeque<Segment>,
    path: PathBuf,
    file: Box<dyn SegmentFile>,
    salting: Salting,
    /// The last segment's length so far, and its length before its first batch.
    length: u64,
    head_bytes: u64,
    /// The length before which no successor is tried again; 0 if none has failed.
    next_attempt: u64,
    position: Position,
    /// The position before the batch.
    synced: Position,
    batch: Batch,
}

/// Where a writer goes on.
pub(super) struct End {
    /// All segments; not empty.
    pub(super) segments: VecDeque<Segment>,
    /// The last segment.
    pub(super) file: Box<dyn SegmentFile>,
    /// The salting of its frames.
    pub(super) salting: Salting,
    /// Its length, and its length before its first batch.
    pub(super) length: u64,
    pub(super) head_bytes: u64,
    pub(super) position: Position,
}

impl Writer {
    /// A writer that goes on behind what is there.
    pub(super) fn new(factory: SegmentFactory, segment_bytes_max: u64, end: End) -> Self {
        let End { segments, file, salting, length, head_bytes, position } = end;
        let path = factory.path_of(segments[segments.len() - 1].number);
        let synced = position.clone();
        let batch = Batch::new();
        let mut writer = Self {
            factory,
            segment_bytes_max,
            segments,
            path,
            file,
            salting,
            length,
            head_bytes,
            next_attempt: 0,
            position,
            synced,
            batch,
        };
        writer.delete_compacted();
        writer
    }

    pub(super) fn append(&mut self, write: &Write<Bytes>) -> Result<(), StorageError> {
        if self.batch.is_empty() {
            self.synced = self.position.clone();
        }
        self.position.follow(write).map_err(|what| StorageError::Inconsistent { what })?;
        self.batch.push(write).map_err(|bytes| StorageError::WriteTooLong { bytes })?;
        if self.batch.bytes() >= BATCH_BYTES_MAX { self.sync() } else { Ok(()) }
    }

    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.is_next_segment_due() {
            self.begin_next_segment()?;
        }
        let sealed = self.batch.seal(self.length, self.salting);
        let frame = sealed.map_err(|bytes| StorageError::WriteTooLong { bytes })?;
        let bytes = frame.len() as u64;
        self.file.write(frame).map_err(|error| StorageError::io("write", &self.path, error))?;
        self.file.sync().map_err(|error| StorageError::io("sync", &self.path, error))?;
        self.length += bytes;
        self.batch.clear();
        let last = self.position.last().index;
        let compacted = self.position.base != self.synced.base;
        if let Some(segment) = self.segments.back_mut() {
            segment.index_max = segment.index_max.max(last);
        }
        if compacted {
            self.delete_compacted();
        }
        Ok(())
    }

    /// Whether the last segment is full, or of a version whose frames have no salt.
    fn is_next_segment_due(&self) -> bool {
        let holds_a_batch = self.length > self.head_bytes;
        let end = self.length + self.batch.bytes() as u64;
        let is_full = holds_a_batch && end > self.segment_bytes_max;
        (is_full || self.salting == Salting::Absent) && self.length >= self.next_attempt
    }

    /// Begins the next segment. Called before the first write since the last sync, so everything
    /// before is durable.
    fn begin_next_segment(&mut self) -> Result<(), StorageError> {
        let number = self.segments[self.segments.len() - 1].number + 1;
        let prepared = match self.factory.prepare_segment(number, Some(&self.synced)) {
            Ok(prepared) => prepared,
            Err(error) => return self.put_off(error),
        };
        let (file, length) = self.factory.finish_segment(prepared)?;
        self.path = self.factory.path_of(number);
        self.segments.push_back(Segment { number, index_max: Index::ZERO });
        (self.file, self.length, self.head_bytes) = (file, length, length);
        (self.salting, self.next_attempt) = (Salting::new(self.factory.owner, number), 0);
        Ok(())
    }

    /// Goes on in the present segment although its successor is due, for as long as the segment may
    /// grow.
    fn put_off(&mut self, error: StorageError) -> Result<(), StorageError> {
        let is_systems = matches!(error, StorageError::Io { .. } | StorageError::DiskFull { .. });
        if !is_systems || self.length >= self.segment_bytes_max.saturating_mul(OVERRUN_MAX) {
            return Err(error);
        }
        self.next_attempt = self.length + (self.segment_bytes_max / ATTEMPTS_PER_SEGMENT).max(1);
        let file = self.path.display();
        tracing::warn!(
            node = self.factory.owner.node.get(), %file, %error,
            "journal: the next segment cannot be made, so the present one grows on: if that lasts, the node stops; look for a limit \
             on open files, or for a full disk"
        );
        Ok(())
    }

    /// Deletes the first segments if the log that they hold is durably compacted. The next segment
    /// repeats everything else that they said.
    fn delete_compacted(&mut self) {
        let base = self.position.base.index;
        let older = self.segments.len() - 1;
        let needless = self.segments.iter().take(older).take_while(|s| s.index_max <= base);
        let deleted = self.factory.delete_segments(needless.map(|segment| segment.number));
        self.segments.drain(..deleted);
    }
}
