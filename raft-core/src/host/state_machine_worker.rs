//! The thread on which the state machine lives: it applies what is committed, answers proposers, and serves reads, in order.
//!
//! A read that was confirmed comes behind every entry that it must see, so serving it needs no index. A panic of the state machine
//! ends the node; one of a read ends that read, for it could change nothing.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::vec::Vec;

use bytes::Bytes;

use super::error::{StopReason, Stopped};
use super::inbox::{Inbox, Read, Reply};
use super::life::Life;
use super::panics;
use super::state_machine::StateMachine;
use super::waiters::answer;
use crate::entries::{Entries, Payload};
use crate::types::Index;

/// The loop's end of the state machine's thread.
pub(super) struct StateMachineWorker<S: StateMachine> {
    /// Entries are bounded by [`Config::inflight_applies_max`](crate::Config::inflight_applies_max), reads by what the inbox and
    /// the core admit.
    jobs: Sender<Job<S>>,
    stopping: Arc<AtomicBool>,
    /// `None` once it was told to end.
    thread: Option<JoinHandle<()>>,
}

enum Job<S: StateMachine> {
    Apply {
        entries: Entries<Bytes>,
        /// By rising index.
        replies: Vec<(Index, Reply<S>)>,
    },
    Read(Read<S>),
    Finish,
}

/// What the thread works with.
struct Worker<S: StateMachine> {
    state_machine: S,
    inbox: Arc<Inbox<S>>,
    life: Arc<Life>,
    stopping: Arc<AtomicBool>,
    /// After how many batches the loop is woken to hear of them.
    batches_per_wake: usize,
    batches: usize,
}

impl<S: StateMachine> StateMachineWorker<S> {
    /// Starts the thread. It reports to `inbox`.
    ///
    /// A loop that hears of a batch too late has no room for the next one, so it is woken well before
    /// `inflight_applies_max` batches are done; not for each, for that would cost a turn each.
    pub(super) fn start(
        state_machine: S,
        inflight_applies_max: usize,
        inbox: Arc<Inbox<S>>,
        life: Arc<Life>,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            state_machine,
            inbox,
            life,
            stopping: Arc::clone(&stopping),
            batches_per_wake: (inflight_applies_max / 2).max(1),
            batches: 0,
        };
        let thread = thread::Builder::new()
            .name("raft-state-machine".into())
            .spawn(move || worker.run(&queue))?;
        Ok(Self { jobs, stopping, thread: Some(thread) })
    }

    /// Queues committed entries and those who wait for them.
    pub(super) fn apply(&self, entries: Entries<Bytes>, replies: Vec<(Index, Reply<S>)>) {
        // The thread takes jobs until this end is dropped, so the queue is there.
        let _ = self.jobs.send(Job::Apply { entries, replies });
    }

    /// Queues a confirmed read.
    pub(super) fn read(&self, read: Read<S>) {
        let _ = self.jobs.send(Job::Read(read));
    }

    /// Ends the thread after the command that it is at. Whoever waits is told that the node has stopped.
    pub(super) fn finish(&mut self) -> Option<JoinHandle<()>> {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.jobs.send(Job::Finish);
        self.thread.take()
    }
}

impl<S: StateMachine> Worker<S> {
    fn run(mut self, queue: &Receiver<Job<S>>) {
        for job in queue {
            match job {
                Job::Apply { entries, replies } => self.apply(entries, replies),
                Job::Read(read) if self.stopping() => read(Err(self.life.stopped().into())),
                Job::Read(read) => read(Ok(&self.state_machine)),
                Job::Finish => break,
            }
        }
        let state_machine = self.state_machine;
        // A state machine that panicked may do so again when it is dropped; nobody is left to care.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(state_machine)));
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
            match catch_unwind(AssertUnwindSafe(|| state_machine.apply(index, command))) {
                Ok(reply) => {
                    if let Some((_, waiting)) =
                        replies.next_if(|(waits_for, _)| *waits_for == index)
                    {
                        answer(waiting, Ok(reply));
                    }
                }
                Err(panic) => {
                    let message = panics::message(&*panic);
                    self.panicked(StopReason::StateMachinePanicked { index, message });
                    return self.refuse(replies);
                }
            }
        }
        self.batches += 1;
        self.inbox.applied(last, self.batches % self.batches_per_wake == 0);
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// From here on nothing is applied, and those who wait learn why.
    fn panicked(&self, reason: StopReason) {
        self.stopping.store(true, Ordering::Relaxed);
        self.life.end(reason.clone());
        self.inbox.stop(reason);
    }

    fn refuse(&self, replies: impl Iterator<Item = (Index, Reply<S>)>) {
        let stopped: Stopped = self.life.stopped();
        for (_, reply) in replies {
            answer(reply, Err(stopped.clone().into()));
        }
    }
}
