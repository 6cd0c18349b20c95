//! A worker's thread: its jobs, its end, and what the loop sees of its work.

use std::boxed::Box;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec::Vec;

use shuttle::future::block_on;
use shuttle::sync::{Mutex, mpsc};
use shuttle::thread;

use super::explore;
use crate::host::error::{ReadError, StopReason};
use crate::host::node::pending::Pending;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::watch::Watch;
use crate::host::threads::worker::{Activity, Queue, Stopper, Worker};
use crate::host::worker_kind::{WorkerKind, WorkerTask};
use crate::types::{Index, NodeId};

fn ignore() -> Stopper {
    Arc::new(|_| ())
}

/// A worker that keeps a list of its jobs.
fn worker(lifecycle: &Arc<Lifecycle>, done: &Arc<Mutex<Vec<u32>>>) -> Worker<u32> {
    let done = Arc::clone(done);
    let work = move |queue: &Queue<u32>| {
        while let Some(job) = queue.next() {
            done.lock().unwrap().push(job);
        }
    };
    Worker::start(WorkerKind::Snapshots, lifecycle, ignore(), work).unwrap()
}

#[test]
fn a_worker_does_each_job_once_and_in_order_before_it_ends() {
    explore(|| {
        let lifecycle = Arc::<Lifecycle>::default();
        let done = Arc::<Mutex<Vec<u32>>>::default();
        let mut worker = worker(&lifecycle, &done);
        let jobs = worker.jobs().clone();
        let other = thread::spawn(move || (10..12).for_each(|job| jobs.push(job)));
        worker.push(0);
        worker.push(1);
        let thread = worker.finish().unwrap();
        assert!(worker.finish().is_none(), "told before");
        assert!(thread.wait(None).is_ok());
        // The thread's end drops what it held, so nobody else can see its list.
        assert_eq!(Arc::strong_count(&done), 1);
        let done = done.lock().unwrap().clone();
        let own: Vec<_> = done.iter().filter(|job| **job < 10).collect();
        assert_eq!(own, [&0, &1], "what came before the end is done");
        let others: Vec<_> = done.into_iter().filter(|job| *job >= 10).collect();
        assert!([10, 11].starts_with(&others), "{others:?}");
        other.join().unwrap();
    });
}

/// A thread that nobody ends waits for ever, and the run does not end.
#[test]
fn a_worker_that_is_dropped_ends_although_others_hold_its_jobs() {
    explore(|| {
        let lifecycle = Arc::<Lifecycle>::default();
        let done = Arc::<Mutex<Vec<u32>>>::default();
        let worker = worker(&lifecycle, &done);
        let jobs = worker.jobs().clone();
        let other = thread::spawn(move || jobs.push(7));
        drop(worker);
        other.join().unwrap();
    });
}

#[test]
fn the_end_of_a_node_waits_until_nothing_of_its_threads_is_left() {
    explore(|| {
        let lifecycle = Arc::<Lifecycle>::default();
        let held = Arc::new(());
        let mut threads = Vec::new();
        for kind in [WorkerKind::StateMachine, WorkerKind::Journal] {
            let held = Arc::clone(&held);
            let work = move |queue: &Queue<()>| {
                while queue.next().is_some() {}
                drop(held);
            };
            let mut worker = Worker::start(kind, &lifecycle, ignore(), work).unwrap();
            worker.push(());
            threads.extend(worker.finish());
        }
        for thread in threads {
            let far = Instant::now() + Duration::from_secs(3600);
            assert!(thread.wait(Some(far)).is_ok());
        }
        assert_eq!((Arc::strong_count(&held), Arc::strong_count(&lifecycle)), (1, 1));
    });
}

/// The loop looks while the worker changes from one unit of work to the next. What it says about a
/// worker that hangs is what the worker hangs at.
#[test]
fn a_look_at_a_worker_that_hangs_says_where() {
    explore(|| {
        let activity = Arc::<Activity>::default();
        let worker = Arc::clone(&activity);
        let (release, hangs) = mpsc::channel::<()>();
        let (at, place) = mpsc::channel();
        let thread = thread::spawn(move || {
            worker.begin(WorkerTask::Apply, Index::new(1));
            worker.end();
            worker.begin(WorkerTask::Apply, Index::new(2));
            worker.begin(WorkerTask::Restore, Index::new(9));
            at.send(()).unwrap();
            let _ = hangs.recv();
            worker.end();
        });
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut watch = Watch::new(NodeId::new(1), second);
        watch.add(WorkerKind::StateMachine, &activity);
        // Each look but the last few is at a worker that goes on.
        watch.look(start);
        watch.look(start);
        watch.look(start);
        place.recv().unwrap();
        watch.look(start);
        assert!(watch.stuck().is_empty(), "no time has passed");
        watch.look(start + second);
        let stuck = watch.stuck();
        assert_eq!(stuck.len(), 1);
        assert_eq!((stuck[0].task, stuck[0].index), (WorkerTask::Restore, Some(Index::new(9))));
        drop(release);
        thread.join().unwrap();
        watch.look(start + second);
        assert!(watch.stuck().is_empty() && watch.deadline().is_none());
    });
}

/// A client that is told by the stop of the node finds out why it stopped.
#[test]
fn a_worker_that_panics_gives_the_reason_before_it_stops_the_node() {
    explore(|| {
        let lifecycle = Arc::<Lifecycle>::default();
        let (sender, receiver) = oneshot::channel::<Result<(), ReadError>>();
        let answer = Pending::new(receiver, Arc::clone(&lifecycle));
        let sender = Mutex::new(Some(sender));
        let stop: Stopper = Arc::new(move |_| drop(sender.lock().unwrap().take()));
        let work = |queue: &Queue<()>| {
            let _ = queue.next();
            // Like a panic, without its message on the terminal.
            resume_unwind(Box::new("a bug of ours"));
        };
        let mut worker = Worker::start(WorkerKind::Journal, &lifecycle, stop, work).unwrap();
        let client = thread::spawn(move || block_on(answer));
        worker.push(());
        let Err(ReadError::Stopped { reason }) = client.join().unwrap() else { panic!("stopped") };
        assert!(matches!(reason, StopReason::WorkerPanicked { .. }), "{reason:?}");
        assert!(worker.finish().unwrap().wait(None).is_ok());
    });
}
