//! A thread of a node. The journal, the state machine and the snapshots each have one, and all
//! three work alike: jobs come in order, the thread is [watched](super::watch), its panics follow
//! [one policy](super::panics), and the thread ends when it is told to.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::here;
use super::lifecycle::Lifecycle;
use super::panics;
use crate::host::stop_reason::StopReason;
use crate::host::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use crate::host::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use crate::host::sync::thread::{self, JoinHandle};
use crate::host::worker_kind::{WorkerKind, WorkerTask};
use crate::types::Index;

/// What a worker is doing, as the node's loop sees it.
#[derive(Default, Debug)]
pub(in crate::host) struct Activity {
    /// 0 while the worker waits for a job.
    task: AtomicU8,
    index: AtomicU64,
    /// Counts units of work, so that the loop can tell one unit from the next.
    begun: AtomicU64,
}

/// The unit of work that a worker is working on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::host) struct Unit {
    pub(in crate::host) task: WorkerTask,
    pub(in crate::host) index: Option<Index>,
    pub(in crate::host) number: u64,
}

/// A worker's thread, for the code that has jobs for it.
pub(in crate::host) struct Worker<J> {
    jobs: Jobs<J>,
    thread: Option<Thread>,
}

/// Takes jobs for a worker. Cheap to clone.
pub(in crate::host) struct Jobs<J> {
    sender: Sender<Option<J>>,
    stopping: Arc<AtomicBool>,
    activity: Arc<Activity>,
}

/// A worker's thread, to be waited for.
pub(in crate::host) struct Thread {
    kind: WorkerKind,
    handle: JoinHandle<()>,
    ended: Receiver<()>,
    activity: Arc<Activity>,
}

/// The thread's side of its jobs.
pub(in crate::host) struct Queue<J> {
    receiver: Receiver<Option<J>>,
    /// For jobs that the thread gives itself.
    jobs: Jobs<J>,
    pub(in crate::host) activity: Arc<Activity>,
}

/// How a worker whose code panics stops its node.
pub(in crate::host) type Stopper = Arc<dyn Fn(StopReason) + Send + Sync>;

impl<J: Send + 'static> Worker<J> {
    /// Starts the thread, which runs `work` until its queue ends.
    ///
    /// A panic that `work` does not handle itself stops the node.
    pub(in crate::host) fn start(
        kind: WorkerKind,
        lifecycle: &Arc<Lifecycle>,
        stop: Stopper,
        work: impl FnOnce(&Queue<J>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let stopping = Arc::<AtomicBool>::default();
        let activity = Arc::<Activity>::default();
        let jobs = Jobs { sender, stopping, activity: Arc::clone(&activity) };
        let queue = Queue { receiver, jobs: jobs.clone(), activity: Arc::clone(&activity) };
        let thread = Thread::start(kind, activity, lifecycle, stop, move || work(&queue))?;
        Ok(Self { jobs, thread: Some(thread) })
    }

    /// The sender of jobs, for other code that has jobs for this worker.
    pub(in crate::host) fn jobs(&self) -> &Jobs<J> {
        &self.jobs
    }

    /// What the worker is doing.
    pub(in crate::host) fn activity(&self) -> &Arc<Activity> {
        &self.jobs.activity
    }

    /// Adds a job.
    pub(in crate::host) fn push(&self, job: J) {
        self.jobs.push(job);
    }

    /// The thread, to be waited for, if it is told to end in another way.
    pub(in crate::host) fn take_thread(&mut self) -> Option<Thread> {
        self.thread.take()
    }

    /// Lets the thread end after the jobs that it has. Jobs that look at
    /// [`stopping`](Queue::is_stopping) may be left undone. `None` if the thread was told before.
    pub(in crate::host) fn finish(&mut self) -> Option<Thread> {
        self.jobs.stopping.store(true, Ordering::Relaxed);
        let _ = self.jobs.sender.send(None);
        self.thread.take()
    }
}

impl<J> Drop for Worker<J> {
    /// A thread whose node did not start ends as well.
    fn drop(&mut self) {
        let _ = self.jobs.sender.send(None);
    }
}

impl<J> Jobs<J> {
    pub(in crate::host) fn push(&self, job: J) {
        // After the thread's end no job is needed any more.
        let _ = self.sender.send(Some(job));
    }
}

impl<J> Clone for Jobs<J> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            stopping: Arc::clone(&self.stopping),
            activity: Arc::clone(&self.activity),
        }
    }
}

impl<J> Queue<J> {
    /// Waits for the next job. `None` at the end.
    pub(in crate::host) fn next(&self) -> Option<J> {
        self.receiver.recv().ok().flatten()
    }

    /// Waits for the next job until `deadline`: `Err` if there is none by then, `Ok(None)` at the
    /// end.
    pub(in crate::host) fn next_until(&self, deadline: Instant) -> Result<Option<J>, ()> {
        match self.receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(job) => Ok(job),
            Err(RecvTimeoutError::Timeout) => Err(()),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
        }
    }

    /// The next job if there is one already: `Err` if there is none, `Ok(None)` at the end.
    pub(in crate::host) fn next_now(&self) -> Result<Option<J>, ()> {
        match self.receiver.try_recv() {
            Ok(job) => Ok(job),
            Err(TryRecvError::Empty) => Err(()),
            Err(TryRecvError::Disconnected) => Ok(None),
        }
    }

    /// Whether the worker was told to end, perhaps after other jobs.
    pub(in crate::host) fn is_stopping(&self) -> bool {
        self.jobs.stopping.load(Ordering::Relaxed)
    }

    /// For jobs that the thread gives itself.
    pub(in crate::host) fn jobs(&self) -> Jobs<J> {
        self.jobs.clone()
    }
}

impl Thread {
    /// Starts one thread of a node.
    pub(in crate::host) fn start(
        kind: WorkerKind,
        activity: Arc<Activity>,
        lifecycle: &Arc<Lifecycle>,
        stop: Stopper,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (ends, ended) = mpsc::channel::<()>();
        let lifecycle = Arc::clone(lifecycle);
        let seen = Arc::clone(&activity);
        let handle = thread::Builder::new().name(kind.thread_name().into()).spawn(move || {
            let entered = here::enter(lifecycle.threads_node(), kind != WorkerKind::Capture);
            if let Err(message) = panics::caught(work) {
                let reason = StopReason::WorkerPanicked { worker: kind, message };
                lifecycle.end(reason.clone());
                stop(reason);
            }
            seen.end();
            drop((entered, lifecycle, stop));
            drop(ends);
        })?;
        Ok(Self { kind, handle, ended, activity })
    }

    /// Waits until nothing of the thread is left. Returns the thread if it has not ended by
    /// `deadline`.
    pub(in crate::host) fn wait(self, deadline: Option<Instant>) -> Result<(), Self> {
        let ended = match deadline {
            None => self.ended.recv().is_err(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.ended.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
            }
        };
        if !ended {
            return Err(self);
        }
        // Its last panic was caught, so it ends within microseconds.
        let _ = self.handle.join();
        Ok(())
    }

    pub(in crate::host) fn kind(&self) -> WorkerKind {
        self.kind
    }

    pub(in crate::host) fn activity(&self) -> &Activity {
        &self.activity
    }
}

impl Activity {
    /// Begins a unit of work. Only the worker itself calls this.
    pub(in crate::host) fn begin(&self, task: WorkerTask, index: Index) {
        self.index.store(index.get(), Ordering::Relaxed);
        self.task.store(task as u8 + 1, Ordering::Relaxed);
        self.advance();
    }

    /// Says that a part of the unit was done.
    pub(in crate::host) fn advance(&self) {
        let number = self.begun.load(Ordering::Relaxed);
        self.begun.store(number.wrapping_add(1), Ordering::Release);
    }

    /// Ends the unit of work: the worker waits for a job.
    pub(in crate::host) fn end(&self) {
        self.task.store(0, Ordering::Relaxed);
        self.advance();
    }

    /// The unit that the worker is working on. `None` if the worker waits. If the unit changes
    /// during the look, the result may mix two units; the next look then finds another number.
    pub(in crate::host) fn look(&self) -> Option<Unit> {
        let number = self.begun.load(Ordering::Acquire);
        let task = WorkerTask::of(self.task.load(Ordering::Relaxed))?;
        let index = Index::new(self.index.load(Ordering::Relaxed));
        Some(Unit { task, index: Some(index).filter(|index| *index > Index::ZERO), number })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_task_is_seen_as_what_it_is() {
        let activity = Activity::default();
        for task in WorkerTask::ALL {
            activity.begin(task, Index::new(7));
            let seen = activity.look().unwrap();
            assert_eq!((seen.task, seen.index), (task, Some(Index::new(7))));
            activity.end();
            assert!(activity.look().is_none());
        }
    }

    #[test]
    fn a_panic_of_ours_stops_the_node_and_a_thread_that_hangs_is_given_back() {
        let lifecycle = Arc::<Lifecycle>::default();
        let stopped = Arc::<AtomicBool>::default();
        let flag = Arc::clone(&stopped);
        let stop: Stopper = Arc::new(move |_| flag.store(true, Ordering::Relaxed));
        let mut worker = Worker::start(
            WorkerKind::Journal,
            &lifecycle,
            Arc::clone(&stop),
            |queue: &Queue<bool>| {
                while let Some(job) = queue.next() {
                    assert!(job, "poisoned");
                }
            },
        )
        .unwrap();
        worker.push(false);
        assert!(worker.finish().unwrap().wait(None).is_ok());
        let reason = lifecycle.reason();
        assert!(stopped.load(Ordering::Relaxed));
        assert!(
            matches!(reason, Some(StopReason::WorkerPanicked { worker: WorkerKind::Journal, .. })),
            "{reason:?}"
        );

        let (release, hangs) = mpsc::channel::<()>();
        let mut worker = Worker::<()>::start(WorkerKind::Snapshots, &lifecycle, stop, move |_| {
            let _ = hangs.recv();
        })
        .unwrap();
        let soon = Instant::now() + Duration::from_millis(1);
        let Err(thread) = worker.finish().unwrap().wait(Some(soon)) else { panic!("it ended") };
        drop(release);
        assert!(thread.wait(None).is_ok());
    }
}
