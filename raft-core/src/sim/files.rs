//! The files in which a server keeps snapshots (§7): taking, reading and writing them takes time,
//! and may fail.
//!
//! A file is durable once it is whole. It is deleted once the disk names a newer snapshot and the
//! state machine does not need the file any more. A crash removes files that are newer than the
//! snapshot in use and half-written files. Jobs are done one at a time, in the order in which they
//! were requested.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::time::Duration;

use super::delay::Delay;
use super::draw::Draw;
use crate::message::SnapshotMeta;
use crate::output::{ReadSnapshot, Restored, WriteSnapshot};
use crate::time::Instant;
use crate::types::LogId;

/// How long it takes to write a snapshot, or to read or write a piece of one.
const FILE_LATENCY: Delay =
    Delay::Exponential { min: Duration::from_micros(100), mean: Duration::from_micros(400) };

/// Something to do with files.
pub(super) enum Job<C> {
    /// Write the captured state.
    Take(SnapshotMeta, Rc<[u8]>),
    Read(ReadSnapshot),
    Write(WriteSnapshot<C>),
}

/// A server's files.
pub(super) struct Files<C> {
    whole: Vec<(LogId, Rc<[u8]>)>,
    /// What comes from a leader.
    pub(super) partial: Option<(LogId, Vec<u8>)>,
    /// Jobs that ended while the server was paused or its disk was stuck, and that are not reported
    /// yet.
    pub(super) late: VecDeque<Job<C>>,
    free_at: Instant,
    /// Every job that ends now fails.
    pub(super) fail: bool,
    draw: Draw,
}

impl<C> Files<C> {
    pub(super) fn new(draw: Draw) -> Self {
        Self {
            whole: Vec::new(),
            partial: None,
            late: VecDeque::new(),
            free_at: Instant::ZERO,
            fail: false,
            draw,
        }
    }

    /// The snapshot that ends at this entry, if its file is whole.
    pub(super) fn get(&self, id: LogId) -> Option<Rc<[u8]>> {
        self.whole.iter().find(|(of, _)| *of == id).map(|(_, bytes)| bytes.clone())
    }

    /// When a job that is requested now will end.
    pub(super) fn done_at(&mut self, now: Instant) -> Instant {
        self.free_at = self.free_at.max(now) + FILE_LATENCY.draw(&mut self.draw);
        self.free_at
    }

    pub(super) fn put(&mut self, id: LogId, bytes: Rc<[u8]>) {
        self.whole.retain(|(of, _)| *of != id);
        self.whole.push((id, bytes));
    }

    /// Writes a piece; returns up to where the file goes, or nothing if the piece does not fit.
    pub(super) fn append(&mut self, id: LogId, offset: u64, chunk: &[u8]) -> Option<u64> {
        if offset == 0 {
            self.partial = Some((id, Vec::new()));
        }
        let partial = self.partial.as_mut().filter(|(of, _)| *of == id);
        let (_, bytes) = partial.filter(|(_, bytes)| bytes.len() as u64 == offset)?;
        bytes.extend_from_slice(chunk);
        Some(bytes.len() as u64)
    }

    /// Deletes files older than the snapshot in use, except one that is being restored.
    pub(super) fn tidy(&mut self, stored: &Restored<C>, restoring: Option<LogId>) {
        if let Some(in_use) = &stored.snapshot {
            let is_newer = |of: &LogId| of.index >= in_use.last.index;
            self.whole.retain(|(of, _)| is_newer(of) || restoring == Some(*of));
        }
    }

    /// After a crash only the snapshot in use remains.
    pub(super) fn crash(&mut self, stored: &Restored<C>) {
        let in_use = stored.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        self.whole.retain(|(of, _)| *of == in_use);
        self.partial = None;
        self.late.clear();
        self.free_at = Instant::ZERO;
    }

    /// All is gone.
    pub(super) fn wipe(&mut self) {
        self.whole.clear();
        self.partial = None;
    }
}
