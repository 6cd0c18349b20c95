//! The writing half of the file journal: batches, segments, and the order in which they become durable.

use std::boxed::Box;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::JournalError;
use super::batch::Batch;
use super::disk::{Disk, SegmentFile};
use super::replay::Position;
use super::segment::{self, PREAMBLE_BYTES};
use crate::host::identity::Identity;
use crate::output::Write;
use crate::types::Term;

/// How many bytes may wait for a sync. A batch that reaches this is made durable at once.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// What a new segment is called until it is complete.
const NEW: &str = "new";

/// A journal's directory, and what is needed to make segments there.
pub(super) struct Place {
    pub(super) directory: PathBuf,
    pub(super) owner: Identity,
    pub(super) disk: Box<dyn Disk>,
}

impl Place {
    pub(super) fn path_of(&self, number: u64) -> PathBuf {
        self.directory.join(segment::file_name(number))
    }

    /// Makes a segment that is there after any crash, or not at all: it gets its name when its first frame is durable.
    pub(super) fn create_segment(
        &mut self,
        number: u64,
    ) -> Result<Box<dyn SegmentFile>, JournalError> {
        let path = self.path_of(number);
        let unfinished = unfinished(&path);
        let preamble = segment::encode_preamble(self.owner, number);
        let create = |disk: &mut dyn Disk| {
            let mut file = disk.create(&unfinished)?;
            file.write(&preamble)?;
            file.sync()?;
            disk.rename(&unfinished, &path)?;
            disk.sync_directory(&self.directory)?;
            Ok(file)
        };
        create(&mut *self.disk).map_err(|error| JournalError::io("create", &path, error))
    }
}

/// The name of a segment while it is being made.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension(NEW)
}

/// Appends to the last segment.
pub(super) struct Writer {
    place: Place,
    /// A segment that would grow beyond this is followed by another.
    segment_bytes_max: u64,
    number: u64,
    path: PathBuf,
    file: Box<dyn SegmentFile>,
    /// The segment's length so far.
    length: u64,
    position: Position,
    batch: Batch,
}

impl Writer {
    /// A writer that goes on behind `length` bytes of segment `number`.
    pub(super) fn new(
        place: Place,
        segment_bytes_max: u64,
        number: u64,
        file: Box<dyn SegmentFile>,
        length: u64,
        position: Position,
    ) -> Self {
        let path = place.path_of(number);
        let batch = Batch::new();
        Self { place, segment_bytes_max, number, path, file, length, position, batch }
    }

    pub(super) fn append(&mut self, write: &Write<Bytes>) -> Result<(), JournalError> {
        // Where the log was cut back to, only a reader knows the term before; it will judge.
        self.position
            .follow(write, |_| Term::ZERO)
            .map_err(|what| JournalError::Inconsistent { what })?;
        self.batch.push(write).map_err(|bytes| JournalError::WriteTooLong { bytes })?;
        if self.batch.bytes() >= BATCH_BYTES_MAX { self.sync() } else { Ok(()) }
    }

    pub(super) fn sync(&mut self) -> Result<(), JournalError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let holds_a_batch = self.length > PREAMBLE_BYTES as u64;
        if holds_a_batch && self.length + self.batch.bytes() as u64 > self.segment_bytes_max {
            self.begin_next_segment()?;
        }
        let frame =
            self.batch.seal(self.length).map_err(|bytes| JournalError::WriteTooLong { bytes })?;
        let bytes = frame.len() as u64;
        self.file.write(frame).map_err(|error| JournalError::io("write", &self.path, error))?;
        self.file.sync().map_err(|error| JournalError::io("sync", &self.path, error))?;
        self.length += bytes;
        self.batch.clear();
        Ok(())
    }

    /// All before is durable: this is called before the first write since the last sync.
    fn begin_next_segment(&mut self) -> Result<(), JournalError> {
        let number = self.number + 1;
        self.file = self.place.create_segment(number)?;
        self.path = self.place.path_of(number);
        self.number = number;
        self.length = PREAMBLE_BYTES as u64;
        Ok(())
    }
}
