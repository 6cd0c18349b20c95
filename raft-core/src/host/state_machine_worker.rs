//! Where the state machine lives: it applies what is committed, answers proposers, serves reads, is captured for snapshots and
//! restored from them, in order.
//!
//! That is a thread of its own, or the loop if the state machine never blocks. A read that was confirmed comes behind every entry
//! that it must see, so serving it needs no index. A panic of the state machine ends the node; one of a read ends that read, for it
//! could change nothing.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::ToString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::vec::Vec;

use bytes::Bytes;

use super::error::{NotUnderstood, RestoreError, StopReason, Stopped};
use super::inbox::{Inbox, Read, Reply};
use super::life::Life;
use super::panics;
use super::snapshot::Snapshots;
use super::state_machine::StateMachine;
use super::waiters::answer;
use crate::entries::{Entries, Payload};
use crate::output::SnapshotMeta;
use crate::types::Index;

/// The loop's end of the state machine.
pub(super) struct StateMachineWorker<S: StateMachine> {
    place: Place<S>,
    stopping: Arc<AtomicBool>,
}

/// Where the state machine is.
enum Place<S: StateMachine> {
    Thread {
        /// Entries are bounded by [`Config::inflight_applies_max`](crate::Config::inflight_applies_max), reads by what the inbox
        /// and the core admit.
        jobs: Sender<Job<S>>,
        /// `None` once it was told to end.
        thread: Option<JoinHandle<()>>,
    },
    /// `None` once it was told to end.
    Here(Option<Worker<S>>),
}

enum Job<S: StateMachine> {
    Apply {
        entries: Entries<Bytes>,
        /// By rising index.
        replies: Vec<(Index, Reply<S>)>,
    },
    Read(Read<S>),
    /// Behind the entries that it is to include.
    Snapshot(SnapshotMeta),
    Restore(SnapshotMeta),
    Finish,
}

/// What the work is done with.
struct Worker<S: StateMachine> {
    state_machine: S,
    inbox: Arc<Inbox<S>>,
    life: Arc<Life>,
    snapshots: Option<Snapshots>,
    stopping: Arc<AtomicBool>,
    /// After how many batches the loop is woken to hear of them.
    batches_per_wake: usize,
    batches: usize,
}

impl<S: StateMachine> StateMachineWorker<S> {
    /// Starts the thread, if there is to be one. Whatever does the work reports to `inbox`.
    ///
    /// A loop that hears of a batch too late has no room for the next one, so it is woken well before
    /// `inflight_applies_max` batches are done; not for each, for that would cost a turn each.
    pub(super) fn start(
        state_machine: S,
        inflight_applies_max: usize,
        inbox: Arc<Inbox<S>>,
        life: Arc<Life>,
        snapshots: Option<Snapshots>,
    ) -> io::Result<Self> {
        let blocks = state_machine.blocks();
        let stopping = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            state_machine,
            inbox,
            life,
            snapshots,
            stopping: Arc::clone(&stopping),
            batches_per_wake: (inflight_applies_max / 2).max(1),
            batches: 0,
        };
        if !blocks {
            return Ok(Self { place: Place::Here(Some(worker)), stopping });
        }
        let (jobs, queue) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("raft-state-machine".into())
            .spawn(move || worker.run(&queue))?;
        Ok(Self { place: Place::Thread { jobs, thread: Some(thread) }, stopping })
    }

    /// Takes committed entries and those who wait for them.
    pub(super) fn apply(&mut self, entries: Entries<Bytes>, replies: Vec<(Index, Reply<S>)>) {
        match &mut self.place {
            // The thread takes jobs until it is told to end, so the queue is there.
            Place::Thread { jobs, .. } => drop(jobs.send(Job::Apply { entries, replies })),
            Place::Here(Some(worker)) => worker.apply(entries, replies),
            Place::Here(None) => {}
        }
    }

    /// Takes a confirmed read.
    pub(super) fn read(&mut self, read: Read<S>) {
        match &mut self.place {
            Place::Thread { jobs, .. } => drop(jobs.send(Job::Read(read))),
            Place::Here(Some(worker)) => worker.read(read),
            Place::Here(None) => {}
        }
    }

    /// Takes the task to capture the state that the entries so far have made.
    pub(super) fn snapshot(&mut self, snapshot: SnapshotMeta) {
        match &mut self.place {
            Place::Thread { jobs, .. } => drop(jobs.send(Job::Snapshot(snapshot))),
            Place::Here(Some(worker)) => worker.snapshot(snapshot),
            Place::Here(None) => {}
        }
    }

    /// Takes the task to replace the state by a snapshot's.
    pub(super) fn restore(&mut self, snapshot: SnapshotMeta) {
        match &mut self.place {
            Place::Thread { jobs, .. } => drop(jobs.send(Job::Restore(snapshot))),
            Place::Here(Some(worker)) => worker.restore(&snapshot),
            Place::Here(None) => {}
        }
    }

    /// Ends it, and the thread after the command that it is at. Whoever waits is told that the node has stopped.
    pub(super) fn finish(&mut self) -> Option<JoinHandle<()>> {
        self.stopping.store(true, Ordering::Relaxed);
        match &mut self.place {
            Place::Thread { jobs, thread } => {
                let _ = jobs.send(Job::Finish);
                thread.take()
            }
            Place::Here(worker) => {
                if let Some(worker) = worker.take() {
                    worker.close();
                }
                None
            }
        }
    }
}

impl<S: StateMachine> Worker<S> {
    fn run(mut self, queue: &Receiver<Job<S>>) {
        for job in queue {
            match job {
                Job::Apply { entries, replies } => self.apply(entries, replies),
                Job::Read(read) => self.read(read),
                Job::Snapshot(snapshot) => self.snapshot(snapshot),
                Job::Restore(snapshot) => self.restore(&snapshot),
                Job::Finish => break,
            }
        }
        self.close();
    }

    fn read(&self, read: Read<S>) {
        if self.stopping() {
            read(Err(self.life.stopped().into()));
        } else {
            read(Ok(&self.state_machine));
        }
    }

    fn apply(&mut self, entries: Entries<Bytes>, replies: Vec<(Index, Reply<S>)>) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        let mut replies = replies.into_iter().peekable();
        for entry in entries {
            let Payload::Command(command) = entry.payload else { continue };
            if self.stopping() {
                return self.refuse(replies);
            }
            let index = entry.index;
            let state_machine = &mut self.state_machine;
            let applied = catch_unwind(AssertUnwindSafe(|| {
                state_machine.understands(&command)?;
                Ok::<_, NotUnderstood>(state_machine.apply(index, command))
            }));
            match applied {
                Ok(Ok(reply)) => {
                    if let Some((_, waiting)) =
                        replies.next_if(|(waits_for, _)| *waits_for == index)
                    {
                        answer(waiting, Ok(reply));
                    }
                }
                Ok(Err(unknown)) => {
                    let message = Arc::clone(unknown.message());
                    self.ends(StopReason::CommandNotUnderstood { index, message });
                    return self.refuse(replies);
                }
                Err(panic) => {
                    let message = panics::message(&*panic);
                    self.ends(StopReason::StateMachinePanicked { index, message });
                    return self.refuse(replies);
                }
            }
        }
        self.batches += 1;
        self.inbox.applied(last, self.batches % self.batches_per_wake == 0);
    }

    fn snapshot(&self, snapshot: SnapshotMeta) {
        let Some(snapshots) = &self.snapshots else { return };
        if self.stopping() {
            return;
        }
        let state_machine = &self.state_machine;
        match catch_unwind(AssertUnwindSafe(|| state_machine.snapshot())) {
            Ok(Some(capture)) => snapshots.take(snapshot, capture),
            Ok(None) => snapshots.take_none(),
            Err(panic) => {
                let (index, message) = (snapshot.last.index, panics::message(&*panic));
                self.ends(StopReason::StateMachinePanicked { index, message });
            }
        }
    }

    fn restore(&mut self, snapshot: &SnapshotMeta) {
        let Some(snapshots) = &self.snapshots else { return };
        if self.stopping() {
            return;
        }
        match restore(&mut self.state_machine, snapshots, snapshot) {
            Ok(()) => self.inbox.applied(snapshot.last.index, true),
            Err(reason) => self.ends(StopReason::RestoreFailed(reason)),
        }
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// From here on nothing is applied, and those who wait learn why.
    fn ends(&self, reason: StopReason) {
        self.stopping.store(true, Ordering::Relaxed);
        self.life.end(reason.clone());
        self.inbox.stop(reason);
    }

    /// A state machine that has panicked may do so again when it is dropped; nobody is left to care.
    fn close(self) {
        let state_machine = self.state_machine;
        let _ = catch_unwind(AssertUnwindSafe(|| drop(state_machine)));
    }

    fn refuse(&self, replies: impl Iterator<Item = (Index, Reply<S>)>) {
        let stopped: Stopped = self.life.stopped();
        for (_, reply) in replies {
            answer(reply, Err(stopped.clone().into()));
        }
    }
}

/// Replaces the state by a snapshot's. After an error nobody knows what it is.
pub(super) fn restore<S: StateMachine>(
    state_machine: &mut S,
    snapshots: &Snapshots,
    snapshot: &SnapshotMeta,
) -> Result<(), RestoreError> {
    let last = snapshot.last;
    let mut reader = snapshots.open(snapshot).map_err(RestoreError::Unreadable)?;
    let restored = catch_unwind(AssertUnwindSafe(|| state_machine.restore(&mut reader)));
    if let Some(error) = reader.take_failure() {
        return Err(RestoreError::Unreadable(error));
    }
    match restored {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            return Err(match NotUnderstood::of(&error) {
                Some(unknown) => {
                    RestoreError::NotUnderstood { last, message: Arc::clone(unknown.message()) }
                }
                None => RestoreError::Refused { last, message: Arc::from(error.to_string()) },
            });
        }
        Err(panic) => {
            let message = panics::message(&*panic);
            return Err(RestoreError::Refused { last, message });
        }
    }
    reader.finish().map_err(RestoreError::Unreadable)?;
    tracing::info!(%last, "restored a snapshot");
    Ok(())
}
