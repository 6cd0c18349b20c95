//! The state machine's work: to apply committed entries, answer proposers, serve reads, capture the
//! state for snapshots and restore it from them, in order.
//!
//! The loop does this work while it is quick, and a thread otherwise: [`StateMachineJobs`] says
//! how. A confirmed read is queued behind every entry that it must see, so serving it needs no
//! index. The waiting requests are in a list that the loop shares ([`Awaited`]), because the state
//! machine may hang.
//!
//! At most one restore waits here, because the core hands out the next one only when the state
//! machine has answered for the last.

use std::io;
use std::string::ToString;
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use std::vec::Vec;

use bytes::Bytes;

use super::apply_place::Place;
use super::awaited::{Awaited, Proposer};
use super::digests::OwnDigests;
use super::inbox::{Inbox, Read};
use super::life;
use super::meter::ApplyMeter;
use super::state_machine_jobs::{StateMachineJob, StateMachineJobs, Task};
use crate::entries::{Entries, Payload};
use crate::host::clock::Next;
use crate::host::error::{ProposeError, ReadError, RestoreError, StopReason, Stopped};
use crate::host::metrics::MetricCells;
use crate::host::snapshot::{CaptureId, Snapshots};
use crate::host::state_machine::{NotUnderstood, StateMachine};
use crate::host::sync::atomic::{AtomicBool, Ordering};
use crate::host::sync::{Mutex, MutexGuard};
use crate::host::threads::here;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::panics;
use crate::host::threads::panics::answer;
use crate::host::threads::worker::{Activity, Stopper, Thread};
use crate::host::worker_kind::{WorkerKind, WorkerTask};
use crate::message::{SnapshotMeta, StateDigest};
use crate::types::Index;

/// The state machine of a node, as its loop sees it.
pub(super) struct StateMachineWorker<S: StateMachine> {
    work: Arc<StateMachineWork<S>>,
    /// `None` if the loop always does the work, and once the thread was told to end.
    thread: Option<Thread>,
    activity: Arc<Activity>,
    stopping: Arc<AtomicBool>,
    awaited: Arc<Awaited<S>>,
    digests: Arc<OwnDigests>,
    /// The state included the commands up to this one when the node started.
    includes: Index,
    lifecycle: Arc<Lifecycle>,
}

/// The jobs of a state machine, and the state machine, for the code that does the jobs.
pub(super) struct StateMachineWork<S: StateMachine> {
    jobs: Arc<StateMachineJobs>,
    /// `None` once it has ended. Held by the thread that does a job.
    machine: Mutex<Option<Machine<S>>>,
    lifecycle: Arc<Lifecycle>,
}

/// What a state machine's thread shares with the node's loop.
pub(super) struct Sharing {
    pub(super) jobs: Arc<StateMachineJobs>,
    pub(super) turns: Arc<dyn Turns>,
    pub(super) metrics: Arc<MetricCells>,
}

/// The turns of a node, for the thread that stands in for the node's loop.
pub(super) trait Turns: Send + Sync {
    /// As [`Driver::turn`](super::driver::Driver::turn), without the work of the state machine.
    fn turn(&self) -> Next;
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
    /// The state included the commands up to this one when the node started.
    includes: Index,
    /// The end of the log when the node started, until the state machine was told that it is past
    /// it.
    replays_through: Option<Index>,
    /// The version of the application that the state machine was last told.
    version: u32,
    /// After how many batches the loop is woken to take their reports.
    batches_per_wake: usize,
    batches: usize,
    meter: ApplyMeter,
    /// The replies of the batch that is being applied, by rising index. `None` if each reply leaves
    /// at once.
    held: Option<Vec<(Index, S::Reply)>>,
}

/// What the state machine is given: which commands may come again, and how many batches at a time.
pub(super) struct Entering {
    pub(super) replays_through: Index,
    /// The version of the application at which its state begins.
    pub(super) version: u32,
    pub(super) inflight_applies_max: usize,
}

impl<S: StateMachine> StateMachineWorker<S> {
    /// Starts the thread, unless the loop always does the work. Reports go to `inbox`. The commands
    /// up to `replays_through` may have been applied in an earlier life.
    ///
    /// The loop must hear of applied batches before the limit of `inflight_applies_max` stops it
    /// from handing out more, so it is woken well before that. It is not woken for each batch,
    /// because that would cost a turn for each.
    pub(super) fn start(
        state_machine: S,
        Entering { replays_through, version, inflight_applies_max }: Entering,
        Sharing { jobs, turns, metrics }: Sharing,
        inbox: Arc<Inbox<S>>,
        lifecycle: &Arc<Lifecycle>,
        stop: Stopper,
        snapshots: Option<Snapshots>,
    ) -> io::Result<Self> {
        let (has_thread, includes) = (jobs.have_thread(), state_machine.applied_index());
        let awaited = Arc::new(Awaited::new());
        let digests = Arc::<OwnDigests>::default();
        let activity = Arc::<Activity>::default();
        let stopping = Arc::<AtomicBool>::default();
        let machine = Machine {
            inbox,
            lifecycle: Arc::clone(lifecycle),
            snapshots,
            awaited: Arc::clone(&awaited),
            activity: Arc::clone(&activity),
            stopping: Arc::clone(&stopping),
            digests: Arc::clone(&digests),
            includes,
            held: state_machine.applies_in_batches().then(Vec::new),
            state_machine,
            replays_through: Some(replays_through),
            version,
            batches_per_wake: (inflight_applies_max / 2).max(1),
            batches: 0,
            meter: ApplyMeter::new(metrics),
        };
        let machine = Mutex::new(Some(machine));
        let lifecycle = Arc::clone(lifecycle);
        let work = Arc::new(StateMachineWork { jobs, machine, lifecycle: Arc::clone(&lifecycle) });
        let thread = if has_thread {
            let (kind, activity) = (WorkerKind::StateMachine, Arc::clone(&activity));
            let work = Arc::clone(&work);
            Some(Thread::start(kind, activity, &lifecycle, stop, move || work.run(&*turns))?)
        } else {
            None
        };
        Ok(Self { work, thread, activity, stopping, awaited, digests, includes, lifecycle })
    }

    /// What the state machine is doing, if it has a thread that notices when it hangs.
    pub(super) fn activity(&self) -> Option<&Arc<Activity>> {
        self.thread.as_ref().map(|_| &self.activity)
    }

    /// The jobs, and the state machine.
    pub(super) fn work(&self) -> &Arc<StateMachineWork<S>> {
        &self.work
    }

    /// The requests that wait for the state machine.
    pub(super) fn awaited(&self) -> &Arc<Awaited<S>> {
        &self.awaited
    }

    /// Whether the state holds commands behind this entry, which are replayed and not applied.
    pub(super) fn is_ahead_of(&self, index: Index) -> bool {
        index < self.includes
    }

    /// The digests of the states that this state machine had.
    pub(super) fn digests(&self) -> &Arc<OwnDigests> {
        &self.digests
    }

    /// Takes committed entries, and their proposers.
    pub(super) fn apply(&mut self, entries: Entries<Bytes>, proposers: Vec<Proposer<S>>) {
        let awaited = !proposers.is_empty();
        self.awaited.add_proposers(proposers);
        self.push(StateMachineJob::Apply { entries, awaited });
    }

    /// Takes a confirmed read.
    pub(super) fn read(&mut self, read: Read<S>) {
        let number = self.awaited.add_read(read);
        self.push(StateMachineJob::Read(number));
    }

    /// Takes a read that captures the state for a backup.
    pub(super) fn back_up(&mut self, read: Read<S>) {
        let number = self.awaited.add_read(read);
        self.push(StateMachineJob::Backup(number));
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
        self.stopping.store(true, Ordering::Relaxed);
        self.work.jobs.end();
        let thread = self.thread.take();
        let applying = if thread.is_some() {
            self.activity.look().filter(|unit| unit.task == WorkerTask::Apply)
        } else {
            self.work.close();
            None
        };
        self.awaited.stop(stopped, applying.and_then(|unit| unit.index));
        thread
    }

    fn push(&self, job: StateMachineJob) {
        self.work.jobs.push(job);
    }
}

impl<S: StateMachine> Drop for StateMachineWorker<S> {
    /// The thread of a node that did not start ends as well.
    fn drop(&mut self) {
        self.work.jobs.end();
    }
}

impl<S: StateMachine> StateMachineWork<S> {
    /// Lets the thread do the work for good, unless the application chose the loop.
    pub(super) fn stay_on_thread(&self) {
        self.jobs.stay_on_thread();
    }

    /// Does the jobs of the loop, if any. Returns whether the thread has called turns meanwhile.
    pub(super) fn do_in_loop(&self) -> bool {
        if !self.jobs.enter() {
            return false;
        }
        let begun = Instant::now();
        let mut now = begun;
        if let Some(machine) = self.lock().as_mut() {
            let _inside = here::enter(self.lifecycle.threads_node(), true);
            while let Some(job) = self.jobs.next(Place::Loop) {
                now = machine.take(job, now);
            }
        }
        self.jobs.leave(now.saturating_duration_since(begun))
    }

    /// Does the jobs of the thread until the node ends.
    fn run(&self, turns: &dyn Turns) {
        loop {
            match self.jobs.next_task() {
                Task::Jobs => self.do_on_thread(),
                Task::StandIn => self.stand_in(turns),
                Task::End => break,
            }
        }
        self.close();
    }

    fn do_on_thread(&self) {
        let mut machine = self.lock();
        let Some(machine) = machine.as_mut() else { return };
        let mut begun = Instant::now();
        while let Some(job) = self.jobs.next(Place::Thread) {
            let end = machine.take(job, begun);
            self.jobs.thread_took(end.saturating_duration_since(begun));
            begun = end;
        }
    }

    /// Calls the turns of the node until the loop has come back from its jobs.
    fn stand_in(&self, turns: &dyn Turns) {
        let node = self.lifecycle.node();
        tracing::debug!(
            node = node.get(),
            "the state machine holds up the node's loop, and its thread stands in"
        );
        loop {
            let goes_on = match turns.turn() {
                Next::Again => self.jobs.stands_in_until(Some(Instant::now())),
                Next::Wait(deadline) => self.jobs.stands_in_until(deadline),
                Next::Stop => false,
            };
            if !goes_on {
                break;
            }
        }
        self.jobs.stood_in();
    }

    /// Drops the state machine, once no other thread does a job.
    fn close(&self) {
        if let Some(machine) = self.lock().take() {
            machine.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Machine<S>>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: StateMachine> Machine<S> {
    /// Does a job that begins at the moment `now`, and returns when it has ended.
    fn take(&mut self, job: StateMachineJob, now: Instant) -> Instant {
        if self.is_stopping() {
            self.refuse();
            return now;
        }
        let mut ended = None;
        match job {
            StateMachineJob::Apply { entries, awaited } => {
                match self.apply(entries, awaited, now) {
                    Ok(moment) => ended = Some(moment),
                    Err(reason) => self.end(reason),
                }
            }
            StateMachineJob::Read(number) => self.read(number, WorkerTask::Read),
            StateMachineJob::Backup(number) => self.read(number, WorkerTask::TakeSnapshot),
            StateMachineJob::Snapshot(capture, snapshot) => self.snapshot(capture, snapshot),
            StateMachineJob::Restore(snapshot) => self.restore(&snapshot),
        }
        self.activity.end();
        ended.unwrap_or_else(Instant::now)
    }

    fn read(&self, number: u64, task: WorkerTask) {
        let Some(read) = self.awaited.take_read(number) else { return };
        self.activity.begin(task, Index::ZERO);
        read(Ok(&self.state_machine));
    }

    /// Applies these entries from the moment `now` on. Returns when that has ended, or why the node
    /// has to stop.
    fn apply(
        &mut self,
        entries: Entries<Bytes>,
        awaited: bool,
        now: Instant,
    ) -> Result<Instant, StopReason> {
        let Some(last) = entries.last().map(|entry| entry.index) else { return Ok(now) };
        let count = entries.len() as u64;
        self.meter.begin(now);
        for entry in entries {
            let index = entry.index;
            let command = match entry.payload {
                Payload::Command(command) => command,
                payload @ (Payload::Noop | Payload::Configuration(_)) => {
                    let told = self.pass(&payload).and_then(|()| self.keep_digest(index, last));
                    if let Err(message) = told {
                        return Err(StopReason::StateMachinePanicked { index, message });
                    }
                    continue;
                }
            };
            if self.is_stopping() {
                self.refuse();
                return Ok(Instant::now());
            }
            if index <= self.includes {
                continue;
            }
            self.activity.begin(WorkerTask::Apply, index);
            let is_new = self.replays_through.is_some_and(|through| index > through);
            if is_new {
                self.replays_through = None;
            }
            let state_machine = &mut self.state_machine;
            let applied = panics::caught(|| {
                if is_new {
                    state_machine.caught_up();
                }
                state_machine.understands(&command)?;
                Ok::<_, NotUnderstood>(state_machine.apply(index, command))
            });
            match applied {
                Ok(Ok(reply)) => {
                    life::applied(self.lifecycle.node(), index);
                    match &mut self.held {
                        Some(held) => held.push((index, reply)),
                        None => self.answer(awaited, index, reply),
                    }
                    if let Err(message) = self.keep_digest(index, last) {
                        return Err(StopReason::StateMachinePanicked { index, message });
                    }
                }
                Ok(Err(unknown)) => {
                    self.end_batch(awaited)?;
                    let message = Arc::clone(unknown.message());
                    return Err(StopReason::CommandNotUnderstood { index, message });
                }
                Err(message) => {
                    return Err(StopReason::StateMachinePanicked { index, message });
                }
            }
        }
        self.end_batch(awaited)?;
        let ended = self.meter.end(count);
        self.batches += 1;
        self.inbox.applied(last, self.batches % self.batches_per_wake == 0);
        Ok(ended)
    }

    /// Passes an entry that is no command: the state machine hears of a version that came into
    /// force. The error is the message of a panic of the state machine.
    fn pass(&mut self, payload: &Payload<Bytes>) -> Result<(), Arc<str>> {
        match payload {
            Payload::Configuration(membership) => self.tell_version(membership.version()),
            Payload::Noop | Payload::Command(_) => Ok(()),
        }
    }

    /// Tells the state machine the version that is in force, if it was told another.
    fn tell_version(&mut self, version: u32) -> Result<(), Arc<str>> {
        if version == self.version {
            return Ok(());
        }
        self.version = version;
        panics::caught(|| self.state_machine.version_in_force(version))
    }

    /// Has the state machine end its batch, and then answers the batch's proposers. They wait in
    /// the shared list until then, because the state machine may hang.
    fn end_batch(&mut self, awaited: bool) -> Result<(), StopReason> {
        let Some(held) = &mut self.held else { return Ok(()) };
        let replies = std::mem::take(held);
        let Some((index, _)) = replies.last() else { return Ok(()) };
        let index = *index;
        self.activity.begin(WorkerTask::Apply, index);
        let ended = panics::caught(|| self.state_machine.end_batch(index));
        if let Err(message) = ended {
            panics::contained(|| drop(replies));
            return Err(StopReason::StateMachinePanicked { index, message });
        }
        for (index, reply) in replies {
            self.answer(awaited, index, reply);
        }
        Ok(())
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

    fn answer(&mut self, awaited: bool, index: Index, reply: S::Reply) {
        let proposer = if awaited { self.awaited.take_proposer(index) } else { None };
        match proposer {
            Some(proposer) => {
                self.meter.applied(proposer.proposed_at);
                answer::<Result<_, ProposeError>>(proposer.reply, Ok(reply));
            }
            None if std::mem::needs_drop::<S::Reply>() => panics::contained(|| drop(reply)),
            None => {}
        }
    }

    fn snapshot(&mut self, capture: CaptureId, snapshot: SnapshotMeta) {
        let Some(snapshots) = &self.snapshots else { return };
        let index = snapshot.last.index;
        if index < self.includes {
            let why = "the state is ahead of the log that is replayed";
            return snapshots.take_none(capture, Some(why.to_string()));
        }
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
                self.version = snapshot.membership.version();
                self.meter.restored();
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
        let (state_machine, held) = (self.state_machine, self.held);
        let _ = panics::caught(|| drop((state_machine, held)));
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
    let restored = panics::caught(|| {
        state_machine.restore(&mut progress)?;
        tell_version(state_machine, snapshot);
        Ok::<_, io::Error>(())
    });
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

/// Tells the state machine the version that is in force at this snapshot.
pub(super) fn tell_version<S: StateMachine>(state_machine: &mut S, snapshot: &SnapshotMeta) {
    let version = snapshot.membership.version();
    if version > 0 {
        state_machine.version_in_force(version);
    }
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
