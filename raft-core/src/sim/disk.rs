//! A disk that forgets: a crash keeps only writes that are synced.
//!
//! ```text
//!            a sync begins             it ends
//!   queued ───────────────► unsynced ──────────► stored
//!   lost by a crash         kept, lost or torn   kept for ever
//! ```
//!
//! One sync at a time covers all writes that were queued before it began, as in a journal with
//! group commit. Later writes wait for the next sync. A torn write counts as lost, with everything
//! behind it, because journals have checksums.

use alloc::collections::VecDeque;

use super::delay::Delay;
use super::draw::Draw;
use crate::output::{Restored, Write};
use crate::time::Instant;
use crate::types::WriteId;

/// What a crash does to writes that are not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Crash {
    /// The process dies and the machine lives: everything that was given to the file stays.
    Keep,
    /// The machine dies: nothing that was not synced stays.
    Lose,
    /// The machine dies while it writes: some stays, one write is torn, and all behind it is lost.
    Tear,
    /// This many of the unanswered writes stay, queued or not.
    KeepFirst(usize),
}

pub(super) struct Disk<C> {
    /// What no crash takes away.
    pub(super) stored: Restored<C>,
    /// Writes that are not answered for, in order.
    pub(super) pending: VecDeque<Write<C>>,
    /// How many of them the sync that runs covers.
    syncing: usize,
    pub(super) latency: Delay,
    /// The latency when no fault makes it worse.
    pub(super) usual_latency: Delay,
    pub(super) is_stuck: bool,
    /// The next sync fails.
    pub(super) fails: bool,
    draw: Draw,
}

/// How a sync ended.
pub(super) enum Synced {
    /// This write and all before it are stored.
    Through(WriteId),
    /// The disk failed: the server must stop.
    Failed,
    /// The disk is stuck and says nothing.
    Silent,
}

impl<C: Clone> Disk<C> {
    pub(super) fn new(latency: Delay, draw: Draw) -> Self {
        Self {
            stored: Restored::default(),
            pending: VecDeque::new(),
            syncing: 0,
            latency,
            usual_latency: latency,
            is_stuck: false,
            fails: false,
            draw,
        }
    }

    pub(super) fn set_usual(&mut self, latency: Delay) {
        (self.latency, self.usual_latency) = (latency, latency);
    }

    pub(super) fn write(&mut self, write: Write<C>) {
        self.pending.push_back(write);
    }

    /// Begins a sync if there is something to sync and none runs; returns when it ends.
    pub(super) fn begin_sync(&mut self, now: Instant) -> Option<Instant> {
        if self.pending.is_empty() || self.syncing > 0 || self.is_stuck {
            return None;
        }
        self.syncing = self.pending.len();
        Some(now + self.latency.draw(&mut self.draw))
    }

    /// The sync that runs has ended.
    pub(super) fn end_sync(&mut self) -> Synced {
        let count = core::mem::take(&mut self.syncing);
        if self.is_stuck {
            return Synced::Silent;
        }
        if self.fails {
            self.syncing = count;
            return Synced::Failed;
        }
        let mut last = WriteId::new(0);
        for write in self.pending.drain(..count) {
            last = write.id;
            self.stored.replay(write);
        }
        Synced::Through(last)
    }

    /// How many of the pending writes survive a crash.
    pub(super) fn surviving(&mut self, crash: Crash) -> usize {
        let kept = match crash {
            Crash::Keep => self.syncing,
            Crash::Lose => 0,
            Crash::Tear => self.draw.between(0, self.syncing as u64) as usize,
            Crash::KeepFirst(count) => count,
        };
        kept.min(self.pending.len())
    }

    /// The server crashed; the first `kept` pending writes survive.
    pub(super) fn crash(&mut self, kept: usize) {
        for write in self.pending.drain(..).take(kept) {
            self.stored.replay(write);
        }
        self.syncing = 0;
        self.fails = false;
    }

    /// Everything is lost, including what was stored.
    pub(super) fn wipe(&mut self) {
        self.crash(0);
        self.stored = Restored::default();
    }
}
