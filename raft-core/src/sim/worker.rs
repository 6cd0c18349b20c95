//! The state machine's thread: it does one thing after another, in the order in which the core
//! asked, and each takes its time.
//!
//! The core asks for one restore at a time, and its file stays until it is done, also when the disk
//! names a newer snapshot by then.
//!
//! Without a pace everything is done at once, within the turn that asks for it.

use alloc::collections::VecDeque;
use alloc::rc::Rc;

use super::cluster::{Cluster, ReadEnd};
use super::draw::Draw;
use super::files::Job;
use super::hosts::MachinePace;
use super::state_machine::StateMachine;
use super::trace::What;
use super::turn::Event;
use super::violation::{Verdict, hold};
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
    is_late: bool,
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
    fn begin(&mut self, now: Instant) -> Option<Instant> {
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
    fn end(&mut self) -> Option<Work<C>> {
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

impl<S: StateMachine> Cluster<S> {
    pub(super) fn begin_work(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if let Some(ends) = server.worker.begin(self.now) {
            let life = server.life;
            self.queue.push(ends, Event::WorkDone { at, life });
        }
    }

    /// The state machine has finished its current work.
    pub(super) fn on_work_done(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if server.is_paused {
            server.worker.is_late = true;
            return;
        }
        let Some(work) = server.worker.end() else { return };
        let verdict = self.do_work(at, work);
        if verdict.is_err() {
            self.note_verdict(verdict);
        }
        self.turn(at);
    }

    /// Reports the job that ended while the server was paused, if there is one.
    pub(super) fn answer_late_work(&mut self, at: usize) {
        if self.servers[at].worker.is_late {
            self.on_work_done(at);
        }
    }

    fn do_work(&mut self, at: usize, work: Work<S::Command>) -> Verdict {
        let now = self.now;
        let server = &mut self.servers[at];
        let (id, application) = (server.id, &mut server.application);
        let Some(raft) = server.raft.as_mut() else { return Ok(()) };
        match work {
            Work::Apply(entries) => {
                let last = application.apply(now, entries, &mut self.history, &mut self.counts);
                self.trace.note(now, id, What::Applied(last));
                raft.applied(last);
                self.observer.on_applied(id, last, &application.machine)?;
            }
            Work::Restore(meta) => {
                let last = meta.last.index;
                let file = server.files.get(meta.last);
                hold!(
                    file.is_some(),
                    SnapshotContent,
                    "server {id} cannot restore {last}: its file is gone"
                );
                application.restore(last, &file.unwrap_or_default());
                self.counts.restores += 1;
                self.trace.note(now, id, What::Restored(last));
                raft.applied(last);
            }
            Work::Take(meta) => {
                let bytes: Rc<[u8]> = application.machine.snapshot().into();
                self.observer.on_take_snapshot(id, &meta, application.applied, &bytes)?;
                let mut jobs = [Job::Take(meta, bytes)].into();
                self.begin_jobs(at, &mut jobs);
            }
            Work::Serve(read, index) => {
                let applied = application.applied;
                hold!(
                    applied >= index,
                    FreshReads,
                    "server {id} serves a read at {index} with {applied} applied"
                );
                let (history, counts) = (&mut self.history, &mut self.counts);
                if !application.serve_read(now, read, history, counts) {
                    self.reads.push_back(ReadEnd { server: id, id: read, index: Some(index) });
                }
            }
        }
        Ok(())
    }
}
