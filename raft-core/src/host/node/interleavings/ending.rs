//! The end of a node, and the read that is running then: every client is answered once.

use std::boxed::Box;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::thread;

use super::explore;
use crate::host::error::{ReadError, StopReason, Stopped};
use crate::host::node::handle::wait_over;
use crate::host::node::pending::Pending;
use crate::host::threads::ending::Ending;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::watch::Watch;
use crate::host::threads::worker::{Queue, Stopper, Worker};
use crate::host::transport::Running;
use crate::host::worker_kind::WorkerKind;
use crate::types::NodeId;

#[test]
fn all_clients_that_wait_for_the_end_are_told_when_it_is_there() {
    explore(|| {
        let lifecycle = Arc::new(Lifecycle::new(NodeId::new(1)));
        let stop: Stopper = Arc::new(|_| ());
        let left = Arc::<Mutex<u32>>::default();
        let mut workers = Vec::new();
        for kind in [WorkerKind::StateMachine, WorkerKind::Snapshots] {
            let left = Arc::clone(&left);
            let work = move |queue: &Queue<()>| {
                while queue.next().is_some() {}
                *left.lock().unwrap() += 1;
            };
            workers.push(Worker::start(kind, &lifecycle, Arc::clone(&stop), work).unwrap());
        }
        let clients = [(); 2].map(|()| {
            let (lifecycle, left) = (Arc::clone(&lifecycle), Arc::clone(&left));
            thread::spawn(move || {
                let reason = block_on(wait_over(&lifecycle)).unwrap();
                assert!(matches!(reason, StopReason::Shutdown), "{reason:?}");
                assert_eq!(*left.lock().unwrap(), 3, "both threads and the other clients");
            })
        });
        lifecycle.end(StopReason::Shutdown);
        lifecycle.end(StopReason::Abandoned);
        let refused = Arc::clone(&left);
        let ending = Ending {
            threads: workers.iter_mut().filter_map(Worker::finish).collect(),
            transport: Running::new().1,
            watch: Watch::new(NodeId::new(1), Duration::ZERO),
            lifecycle: Arc::clone(&lifecycle),
            refuse_rest: Box::new(move || *refused.lock().unwrap() += 1),
            patience: Duration::from_secs(3600),
        };
        assert!(ending.begin().is_none());
        for client in clients {
            client.join().unwrap();
        }
        assert!(lifecycle.left_behind().is_empty());
    });
}

/// The state machine's thread serves one read after another, and the loop refuses the read that is
/// running, because it hangs or because the node ends.
#[test]
fn a_read_is_served_or_refused_and_never_both() {
    explore(|| {
        let lifecycle = Arc::new(Lifecycle::new(NodeId::new(1)));
        let (senders, answers): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (sender, receiver) = oneshot::channel::<Result<u32, ReadError>>();
                (sender, Pending::new(receiver, Arc::clone(&lifecycle)))
            })
            .unzip();
        let serves = Arc::clone(&lifecycle);
        let runs = Arc::<Mutex<u32>>::default();
        let count = Arc::clone(&runs);
        let state_machine = thread::spawn(move || {
            for sender in senders {
                serves.serve(sender, || {
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    Ok(*count)
                });
            }
        });
        let client = thread::spawn(move || answers.into_iter().map(block_on).collect::<Vec<_>>());
        lifecycle.end(StopReason::Shutdown);
        lifecycle.refuse_running_read(|| Stopped { reason: StopReason::Shutdown }.into());
        let answers = client.join().unwrap();
        state_machine.join().unwrap();
        assert_eq!(*runs.lock().unwrap(), 2, "each read runs once");
        let refused = answers.iter().filter(|answer| answer.is_err()).count();
        assert!(refused <= 1, "{answers:?}");
        for (number, answer) in (1..).zip(answers) {
            match answer {
                Ok(served) => assert_eq!(served, number),
                Err(ReadError::Stopped { reason: StopReason::Shutdown }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        // Nothing is left to refuse.
        lifecycle.refuse_running_read(|| panic!("no read is running"));
    });
}
