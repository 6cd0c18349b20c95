//! The state machine's thread: it does one thing after another, in the order in which the core
//! asked, and each takes its time.
//!
//! The core asks for one restore at a time, and its file stays until it is done, also when the disk
//! names a newer snapshot by then.
//!
//! Without a pace everything is done at once, within the turn that asks for it.

use alloc::collections::VecDeque;

use super::draw::Draw;
use super::hosts::MachinePace;
use crate::entries::Entries;
use crate::message::SnapshotMeta;
use crate::time::Instant;
use crate::types::{Index, LogId, ReadId};

/// Something for a state machine to do.
pub(super) enum Work<C> {
    Apply(Entries<C>),
    Restore(SnapshotMeta),
    Take(SnapshotMeta),
    /// Serve a read from a state that includes this index.
    Serve(ReadId, Index),
}

pub(super) struct Worker<C> {
    pub(super) pace: Option<MachinePace>,
    waiting: VecDeque<Work<C>>,
    /// The first job is under way.
    is_busy: bool,
    /// The first job ended while the server was paused.
    pub(super) is_late: bool,
    draw: Draw,
}

impl<C> Worker<C> {
    pub(super) fn new(pace: Option<MachinePace>, draw: Draw) -> Self {
        Self { pace, waiting: VecDeque::new(), is_busy: false, is_late: false, draw }
    }

    /// Whether a job that is requested now has to wait.
    pub(super) fn is_slow(&self) -> bool {
        self.pace.is_some() || !self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, work: Work<C>) {
        self.waiting.push_back(work);
    }

    /// Begins the next job if there is one and none is under way. Returns when the job ends.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Instant> {
        if self.is_busy {
            return None;
        }
        let work = self.waiting.front()?;
        self.is_busy = true;
        let Some(pace) = self.pace else { return Some(now) };
        Some(match work {
            Work::Apply(_) => now + pace.apply.draw(&mut self.draw),
            Work::Restore(_) => now + pace.restore.draw(&mut self.draw),
            Work::Take(_) | Work::Serve(..) => now,
        })
    }

    /// Ends the current work and returns it; `None` if there was none.
    pub(super) fn end(&mut self) -> Option<Work<C>> {
        (self.is_busy, self.is_late) = (false, false);
        self.waiting.pop_front()
    }

    /// The snapshot that is to be restored.
    pub(super) fn restoring(&self) -> Option<LogId> {
        self.waiting.iter().find_map(|work| match work {
            Work::Restore(meta) => Some(meta.last),
            Work::Apply(_) | Work::Take(_) | Work::Serve(..) => None,
        })
    }

    /// The server crashed: nothing is left to do.
    pub(super) fn crash(&mut self) {
        self.waiting.clear();
        (self.is_busy, self.is_late) = (false, false);
    }
}
