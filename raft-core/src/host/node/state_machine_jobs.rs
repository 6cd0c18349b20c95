//! The jobs of a state machine, which the node's loop and the state machine's thread share.
//!
//! Jobs are done in order, by one of the two at a time: [`ApplyPlace`] says by which. The loop does
//! its jobs at the end of a turn, when the turn's messages have left.
//!
//! A slow command in the loop must not delay a heartbeat, and the loop cannot know beforehand that
//! a command is slow. So while the loop does jobs, the thread watches it. If one stay of the loop
//! at its jobs lasts for [`STAY_MAX_PART`] of the heartbeat interval, the thread *stands in*: it
//! calls the turns of the node, until the loop comes back. From then on the thread has the jobs
//! again.
//!
//! ```text
//!   loop    ─ turn ─ jobs ─ turn ─ jobs: one is slow ········· comes back ─ turn ─ turn ─
//!   thread  ─ ─ ─ ─ ─ watches ─ ─ ─ ─ ─ ─ ─ ─ ┤ turn ─ turn ─┤ jobs ─ ─ ─ jobs ─
//! ```
//!
//! The thread looks twice in that part of the interval, and only while the loop has jobs. A
//! heartbeat is late by that part and the delay of a timer at most.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::apply_place::{ApplyPlace, Place};
use crate::entries::Entries;
use crate::host::snapshot::CaptureId;
use crate::host::sync::atomic::{AtomicBool, Ordering};
use crate::host::sync::{Condvar, Mutex, MutexGuard};
use crate::message::SnapshotMeta;

/// The thread stands in for a loop that has been at its jobs for this part of the heartbeat
/// interval, at the latest.
const STAY_MAX_PART: u32 = 2;

/// One piece of work for the state machine.
pub(super) enum StateMachineJob {
    Apply {
        entries: Entries<Bytes>,
        /// Whether a client waits for any of the entries.
        awaited: bool,
    },
    /// Serve the read with this number in [`Awaited`](super::awaited::Awaited).
    Read(u64),
    /// Serve the read with this number, which captures the state for a backup.
    Backup(u64),
    /// Capture the state. The job is queued behind the entries that the snapshot includes.
    Snapshot(CaptureId, SnapshotMeta),
    Restore(SnapshotMeta),
}

/// What the thread does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Task {
    /// The jobs that wait.
    Jobs,
    /// The turns of the node, because the loop is held up.
    StandIn,
    /// The node has ended.
    End,
}

/// The jobs, and where they are done.
pub(super) struct StateMachineJobs {
    queue: Mutex<JobQueue>,
    /// Wakes the thread.
    changed: Condvar,
    /// Whether the thread calls the turns. A copy, for [`wake`](Self::wake) to read without the
    /// lock.
    stands_in: AtomicBool,
    look_every: Duration,
}

/// Entries are bounded by [`Config::inflight_applies_max`](crate::Config::inflight_applies_max),
/// reads by what the inbox and the core admit.
struct JobQueue {
    waiting: VecDeque<StateMachineJob>,
    place: ApplyPlace,
    /// How often the loop has begun to do jobs.
    stays: u64,
    /// Whether the loop does jobs now.
    stays_now: bool,
    /// Whether the thread stood in during the present stay.
    stood_in: bool,
    /// Whether the node was woken while the thread stands in.
    woken: bool,
    waits: Waits,
    ending: bool,
}

/// Whether the thread waits to be notified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    No,
    /// It looks at the loop again soon, and need not hear that the loop has jobs.
    Looks,
    Sleeps,
}

impl StateMachineJobs {
    pub(super) fn new(place: ApplyPlace, heartbeat_interval: Duration) -> Self {
        let queue = JobQueue {
            waiting: VecDeque::new(),
            place,
            stays: 0,
            stays_now: false,
            stood_in: false,
            woken: false,
            waits: Waits::No,
            ending: false,
        };
        Self {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            stands_in: AtomicBool::new(false),
            look_every: heartbeat_interval / (2 * STAY_MAX_PART),
        }
    }

    /// Whether the state machine has a thread, and so the loop is not the only one to do jobs.
    pub(super) fn have_thread(&self) -> bool {
        self.lock().place.has_thread()
    }

    /// Lets the thread do the jobs for good, unless the application chose the loop.
    pub(super) fn stay_on_thread(&self) {
        self.lock().place.stay_on_thread();
    }

    /// Adds a job.
    pub(super) fn push(&self, job: StateMachineJob) {
        let mut queue = self.lock();
        queue.waiting.push_back(job);
        if queue.place.place() == Place::Thread {
            self.notify(queue);
        }
    }

    /// Ends the thread. The jobs that wait are dropped.
    pub(super) fn end(&self) {
        let mut queue = self.lock();
        queue.ending = true;
        queue.waiting.clear();
        self.notify(queue);
    }

    /// Wakes the thread if it stands in for the loop, because the node was woken. The inbox orders
    /// this: whatever it wakes the node for after the thread's first turn sees the flag.
    pub(super) fn wake(&self) {
        if self.stands_in.load(Ordering::Acquire) {
            let mut queue = self.lock();
            queue.woken = true;
            self.notify(queue);
        }
    }

    /// Whether the loop has jobs to do. If so, its stay begins, and [`leave`](Self::leave) ends it.
    pub(super) fn enter(&self) -> bool {
        let mut queue = self.lock();
        if queue.place.place() == Place::Thread || queue.waiting.is_empty() {
            return false;
        }
        queue.stays += 1;
        queue.stays_now = true;
        if queue.waits == Waits::Sleeps {
            self.notify(queue);
        }
        true
    }

    /// The next job, if the jobs are done at this place. A job that is neither a command nor a read
    /// is left to the thread if there is one, because it may take long.
    pub(super) fn next(&self, place: Place) -> Option<StateMachineJob> {
        let mut queue = self.lock();
        let is_long = match queue.waiting.front()? {
            StateMachineJob::Apply { .. } | StateMachineJob::Read(_) => false,
            StateMachineJob::Backup(_)
            | StateMachineJob::Snapshot(..)
            | StateMachineJob::Restore(_) => true,
        };
        if is_long && place == Place::Loop {
            queue.place.leave_loop();
        }
        if queue.place.place() != place {
            return None;
        }
        queue.waiting.pop_front()
    }

    /// Ends the stay of the loop, which lasted for `span`. Returns whether the thread has called
    /// turns meanwhile.
    pub(super) fn leave(&self, span: Duration) -> bool {
        let mut queue = self.lock();
        queue.stays_now = false;
        let stood_in = std::mem::take(&mut queue.stood_in);
        if !stood_in {
            queue.place.loop_took(span);
        }
        if queue.place.place() == Place::Thread {
            self.notify(queue);
        }
        stood_in
    }

    /// Waits for what the thread does next.
    pub(super) fn next_task(&self) -> Task {
        let mut queue = self.lock();
        loop {
            if queue.ending {
                return Task::End;
            }
            if queue.place.place() == Place::Thread {
                if !queue.waiting.is_empty() && !queue.stays_now {
                    return Task::Jobs;
                }
                queue = self.sleep(queue);
                continue;
            }
            let seen = (queue.stays, queue.stays_now);
            let timed_out;
            (queue, timed_out) = self.wait(queue, Waits::Looks, self.look_every);
            if !timed_out || seen != (queue.stays, queue.stays_now) {
                continue;
            }
            if !queue.stays_now {
                // The loop has had no jobs since the last look.
                queue = self.sleep(queue);
                continue;
            }
            queue.place.leave_loop();
            queue.stood_in = true;
            self.stands_in.store(true, Ordering::Release);
            return Task::StandIn;
        }
    }

    /// Takes the time of a batch on the thread.
    pub(super) fn thread_took(&self, span: Duration) {
        let mut queue = self.lock();
        queue.place.thread_took(span);
        if queue.waiting.is_empty() {
            queue.place.thread_is_idle();
        }
    }

    /// Waits until the node is to turn again, and returns whether the thread still stands in for
    /// the loop then. `None` never comes.
    pub(super) fn stands_in_until(&self, deadline: Option<Instant>) -> bool {
        let mut queue = self.lock();
        while queue.stays_now && !queue.ending && !std::mem::take(&mut queue.woken) {
            queue = match deadline {
                None => self.sleep(queue),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.wait(queue, Waits::Sleeps, left).0
                }
            };
        }
        queue.stays_now && !queue.ending
    }

    /// To be called when the thread does not stand in any longer.
    pub(super) fn stood_in(&self) {
        self.stands_in.store(false, Ordering::Release);
    }

    /// Sleeps until notified.
    fn sleep<'q>(&self, mut queue: MutexGuard<'q, JobQueue>) -> MutexGuard<'q, JobQueue> {
        queue.waits = Waits::Sleeps;
        queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        queue.waits = Waits::No;
        queue
    }

    /// Waits until notified, for `span` at most. Returns whether the time ran out.
    fn wait<'q>(
        &self,
        mut queue: MutexGuard<'q, JobQueue>,
        waits: Waits,
        span: Duration,
    ) -> (MutexGuard<'q, JobQueue>, bool) {
        queue.waits = waits;
        let waited = self.changed.wait_timeout(queue, span);
        let (mut queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.waits = Waits::No;
        (queue, timeout.timed_out())
    }

    /// Wakes the thread if it waits.
    fn notify(&self, mut queue: MutexGuard<'_, JobQueue>) {
        let waits = std::mem::replace(&mut queue.waits, Waits::No);
        drop(queue);
        if waits != Waits::No {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, JobQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
