//! The state machine's thread: it applies committed entries, answers proposers, serves reads,
//! captures the state for snapshots and restores it from them, in order.
//!
//! If the state machine never blocks, the loop does this work itself. A confirmed read is queued
//! behind every entry that it must see, so serving it needs no index. The waiting requests are in a
//! list that the loop shares ([`Awaited`]), because the state machine may hang.
//!
//! At most one restore waits here, because the core hands out the next one only when the state
//! machine has answered for the last.

use std::boxed::Box;
use std::io;
use std::string::ToString;
use std::sync::Arc;
use std::vec::Vec;

use bytes::Bytes;

use super::awaited::Awaited;
use super::digests::OwnDigests;
use super::inbox::{Inbox, Read, Reply};
use crate::entries::{Entries, Payload};
use crate::host::error::{ProposeError, ReadError, RestoreError, StopReason, Stopped};
use crate::host::snapshot::{CaptureId, Snapshots};
use crate::host::state_machine::{NotUnderstood, StateMachine};
use crate::host::sync::atomic::{AtomicBool, Ordering};
use crate::host::threads::here;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::panics;
use crate::host::threads::panics::answer;
use crate::host::threads::worker::{Activity, Queue, Stopper, Thread, Worker};
use crate::host::worker_kind::{WorkerKind, WorkerTask};
use crate::message::{SnapshotMeta, StateDigest};
use crate::types::Index;

/// The loop's side of the state machine.
pub(super) struct StateMachineWorker<S: StateMachine> {
    place: StateMachinePlace<S>,
    awaited: Arc<Awaited<S>>,
    digests: Arc<OwnDigests>,
    lifecycle: Arc<Lifecycle>,
}

/// Where the state machine lives.
enum StateMachinePlace<S: StateMachine> {
    /// Entries are bounded by
    /// [`Config::inflight_applies_max`](crate::Config::inflight_applies_max), reads by what the
    /// inbox and the core admit.
    Thread(Worker<StateMachineJob>),
    /// In the loop; `None` once it was told to end.
    Here(Option<Box<Machine<S>>>),
}

enum StateMachineJob {
    Apply {
        entries: Entries<Bytes>,
        /// Whether a client waits for any of the entries.
        awaited: bool,
    },
    /// Serve the read with this number in [`Awaited`].
    Read(u64),
    /// Capture the state. The job is queued behind the entries that the snapshot includes.
    Snapshot(CaptureId, SnapshotMeta),
    Restore(SnapshotMeta),
}

/// The state machine, and what its work needs.
struct Machine<S: StateMachine> {
    state_machine: S,
    inbox: Arc<Inbox<S>>,
    lifecycle: Arc<Lifecycle>,
    snapshots: Option<Snapshots>,
    awaited: Arc<Awaited<S>>,
    activity: Arc<Activity>,
    stopping: Arc<AtomicBool>,
    digests: Arc<OwnDigests>,
    /// After how many batches the loop is woken to take their reports.
    batches_per_wake: usize,
    batches: usize,
}

impl<S: StateMachine> StateMachineWorker<S> {
    /// Starts the thread, if the state machine may block. Reports go to `inbox`.
    ///
    /// The loop must hear of applied batches before the limit of `inflight_applies_max` stops it
    /// from handing out more, so it is woken well before that. It is not woken for each batch,
    /// because that would cost a turn for each.
    pub(super) fn start(
        state_machine: S,
        inflight_applies_max: usize,
        inbox: Arc<Inbox<S>>,
        lifecycle: &Arc<Lifecycle>,
        stop: Stopper,
        snapshots: Option<Snapshots>,
    ) -> io::Result<Self> {
        let blocks = state_machine.blocks();
        let awaited = Arc::new(Awaited::new());
        let digests = Arc::<OwnDigests>::default();
        let mut machine = Machine {
            state_machine,
            inbox,
            lifecycle: Arc::clone(lifecycle),
            snapshots,
            awaited: Arc::clone(&awaited),
            activity: Arc::default(),
            stopping: Arc::default(),
            digests: Arc::clone(&digests),
            batches_per_wake: (inflight_applies_max / 2).max(1),
            batches: 0,
        };
        let lifecycle = Arc::clone(lifecycle);
        let place = if blocks {
            StateMachinePlace::Thread(Worker::start(
                WorkerKind::StateMachine,
                &lifecycle,
                stop,
                move |queue| {
                    machine.activity = Arc::clone(&queue.activity);
                    machine.stopping = Arc::clone(queue.stopping());
                    machine.run(queue);
                },
            )?)
        } else {
            StateMachinePlace::Here(Some(Box::new(machine)))
        };
        Ok(Self { place, awaited, digests, lifecycle })
    }

    /// What the thread is doing, if there is one.
    pub(super) fn activity(&self) -> Option<&Arc<Activity>> {
        match &self.place {
            StateMachinePlace::Thread(worker) => Some(worker.activity()),
            StateMachinePlace::Here(_) => None,
        }
    }

    /// The requests that wait for the state machine.
    pub(super) fn awaited(&self) -> &Arc<Awaited<S>> {
        &self.awaited
    }

    /// The digests of the states that this state machine had.
    pub(super) fn digests(&self) -> &Arc<OwnDigests> {
        &self.digests
    }

    /// Takes committed entries, and the replies to their proposers.
    pub(super) fn apply(&mut self, entries: Entries<Bytes>, replies: Vec<(Index, Reply<S>)>) {
        let awaited = !replies.is_empty();
        self.awaited.add_replies(replies);
        self.push(StateMachineJob::Apply { entries, awaited });
    }

    /// Takes a confirmed read.
    pub(super) fn read(&mut self, read: Read<S>) {
        let number = self.awaited.add_read(read);
        self.push(StateMachineJob::Read(number));
    }

    /// Takes the job to capture the state that the entries so far have made.
    pub(super) fn snapshot(&mut self, capture: CaptureId, snapshot: SnapshotMeta) {
        self.push(StateMachineJob::Snapshot(capture, snapshot));
    }

    /// Takes the job to replace the state by the state of a snapshot.
    pub(super) fn restore(&mut self, snapshot: SnapshotMeta) {
        self.push(StateMachineJob::Restore(snapshot));
    }

    /// To be called when the state machine hangs: answers the reads that wait for it and, if the
    /// node does not lead, the proposers.
    pub(super) fn answer_for_it(&self, leads: bool) {
        self.awaited.lose_reads();
        self.lifecycle.refuse_running_read(|| ReadError::Stuck);
        if !leads {
            self.awaited.lose_replies();
        }
    }

    /// Ends the state machine, and its thread after the command that it is applying. The proposers
    /// of all other commands are told that the node has stopped.
    pub(super) fn finish(&mut self, stopped: &Stopped) -> Option<Thread> {
        match &mut self.place {
            StateMachinePlace::Thread(worker) => {
                let thread = worker.finish();
                let unit = worker.activity().look();
                let applying = unit.filter(|unit| unit.task == WorkerTask::Apply);
                self.awaited.stop(stopped, applying.and_then(|unit| unit.index));
                thread
            }
            StateMachinePlace::Here(machine) => {
                if let Some(machine) = machine.take() {
                    machine.close();
                }
                self.awaited.stop(stopped, None);
                None
            }
        }
    }

    fn push(&mut self, job: StateMachineJob) {
        match &mut self.place {
            StateMachinePlace::Thread(worker) => worker.push(job),
            StateMachinePlace::Here(Some(machine)) => {
                let _inside = here::enter(self.lifecycle.threads_node(), true);
                machine.take(job);
            }
            StateMachinePlace::Here(None) => {}
        }
    }
}

impl<S: StateMachine> Machine<S> {
    fn run(mut self, queue: &Queue<StateMachineJob>) {
        while let Some(job) = queue.next() {
            self.take(job);
        }
        self.close();
    }

    fn take(&mut self, job: StateMachineJob) {
        if self.is_stopping() {
            return self.refuse();
        }
        match job {
            StateMachineJob::Apply { entries, awaited } => self.apply(entries, awaited),
            StateMachineJob::Read(number) => self.read(number),
            StateMachineJob::Snapshot(capture, snapshot) => self.snapshot(capture, snapshot),
            StateMachineJob::Restore(snapshot) => self.restore(&snapshot),
        }
        self.activity.end();
    }

    fn read(&self, number: u64) {
        let Some(read) = self.awaited.take_read(number) else { return };
        self.activity.begin(WorkerTask::Read, Index::ZERO);
        read(Ok(&self.state_machine));
    }

    fn apply(&mut self, entries: Entries<Bytes>, awaited: bool) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        for entry in entries {
            let index = entry.index;
            let Payload::Command(command) = entry.payload else {
                if let Err(message) = self.keep_digest(index, last) {
                    return self.end(StopReason::StateMachinePanicked { index, message });
                }
                continue;
            };
            if self.is_stopping() {
                return self.refuse();
            }
            self.activity.begin(WorkerTask::Apply, index);
            let state_machine = &mut self.state_machine;
            let applied = panics::caught(|| {
                state_machine.understands(&command)?;
                Ok::<_, NotUnderstood>(state_machine.apply(index, command))
            });
            match applied {
                Ok(Ok(reply)) => {
                    self.answer(awaited, index, reply);
                    if let Err(message) = self.keep_digest(index, last) {
                        return self.end(StopReason::StateMachinePanicked { index, message });
                    }
                }
                Ok(Err(unknown)) => {
                    let message = Arc::clone(unknown.message());
                    return self.end(StopReason::CommandNotUnderstood { index, message });
                }
                Err(message) => {
                    return self.end(StopReason::StateMachinePanicked { index, message });
                }
            }
        }
        self.batches += 1;
        self.inbox.applied(last, self.batches % self.batches_per_wake == 0);
    }

    /// Keeps the digest of the state after the entry `index` if a digest is due. `last` is the last
    /// entry of the batch. The error is the message of a panic of the state machine.
    fn keep_digest(&self, index: Index, last: Index) -> Result<(), Arc<str>> {
        if index == last || OwnDigests::is_common(index) {
            if let Some(digest) = panics::caught(|| self.state_machine.digest())? {
                self.digests.add(StateDigest { index, digest });
            }
        }
        Ok(())
    }

    fn answer(&self, awaited: bool, index: Index, reply: S::Reply) {
        let waiting = if awaited { self.awaited.take_reply(index) } else { None };
        match waiting {
            Some(waiting) => answer::<Result<_, ProposeError>>(waiting, Ok(reply)),
            None if std::mem::needs_drop::<S::Reply>() => panics::contained(|| drop(reply)),
            None => {}
        }
    }

    fn snapshot(&mut self, capture: CaptureId, snapshot: SnapshotMeta) {
        let Some(snapshots) = &self.snapshots else { return };
        let index = snapshot.last.index;
        self.activity.begin(WorkerTask::TakeSnapshot, index);
        let state_machine = &self.state_machine;
        match panics::caught(|| state_machine.snapshot()) {
            Ok(Some(captured)) => snapshots.take(capture, snapshot, captured),
            Ok(None) => snapshots.take_none(capture, None),
            Err(message) => self.end(StopReason::StateMachinePanicked { index, message }),
        }
    }

    fn restore(&mut self, snapshot: &SnapshotMeta) {
        let Some(snapshots) = &self.snapshots else { return };
        let node = self.lifecycle.node();
        let last = snapshot.last;
        self.awaited.lose_replies_to(last.index);
        self.activity.begin(WorkerTask::Restore, last.index);
        self.digests.clear();
        match restore(&mut self.state_machine, snapshots, snapshot, &self.activity) {
            Ok(()) => {
                tracing::info!(node = node.get(), %last, "restored a snapshot");
                self.inbox.applied(last.index, true);
            }
            Err(reason) => self.end(StopReason::RestoreFailed(reason)),
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Stops the node: from now on nothing is applied, and every waiting client learns why.
    fn end(&self, reason: StopReason) {
        self.stopping.store(true, Ordering::Relaxed);
        self.lifecycle.end(reason.clone());
        self.inbox.stop(reason);
        self.refuse();
    }

    /// Drops the state machine. A state machine that has panicked may panic again here, and that
    /// changes nothing.
    fn close(self) {
        self.refuse();
        let state_machine = self.state_machine;
        let _ = panics::caught(|| drop(state_machine));
    }

    fn refuse(&self) {
        self.awaited.stop(&self.lifecycle.stopped(), None);
    }
}

/// Replaces the state by the state of a snapshot. After an error the state is undefined.
pub(super) fn restore<S: StateMachine>(
    state_machine: &mut S,
    snapshots: &Snapshots,
    snapshot: &SnapshotMeta,
    activity: &Activity,
) -> Result<(), RestoreError> {
    let last = snapshot.last;
    let refused = |message| RestoreError::Refused { last, message };
    let opened = panics::caught(|| snapshots.open(snapshot)).map_err(refused)?;
    let mut reader = opened.map_err(RestoreError::Unreadable)?;
    let mut progress = WatchedReader { reader: &mut reader, activity };
    let restored = panics::caught(|| state_machine.restore(&mut progress));
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
                None => refused(Arc::from(error.to_string())),
            });
        }
        Err(message) => return Err(refused(message)),
    }
    let finished = panics::caught(|| reader.finish()).map_err(refused)?;
    finished.map_err(RestoreError::Unreadable)
}

/// Reads a snapshot, and reports progress with each read: a state machine that goes on reading is
/// not stuck.
struct WatchedReader<'r, R> {
    reader: &'r mut R,
    activity: &'r Activity,
}

impl<R: io::Read> io::Read for WatchedReader<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.activity.advance();
        self.reader.read(into)
    }
}
