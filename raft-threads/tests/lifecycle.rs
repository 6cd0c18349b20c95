//! How a node ends, and what those learn who still ask it something.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use common::{Cluster, DEADLINE, Log, POISON, alone, answer, came_back, config, until};
use raft_threads::{
    MemoryJournal, Node, NodeId, ProposeError, ReadError, StartError, StopReason, Stopped, channel,
};

#[test]
fn a_full_inbox_refuses_and_gives_the_command_back() {
    let mut config = config(1, 1);
    config.inbox_max = 8;
    // Its loop calls the state machine, and so stands still while that is called.
    let log = Log { in_loop: true, ..Log::default() };
    let node = alone(config, log, MemoryJournal::new());
    let (blocked, unblock) = mpsc::channel::<()>();
    let (began, begun) = mpsc::channel();
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let hold = move |_: &Log| {
                began.send(()).unwrap();
                let _ = unblock.recv();
            };
            answer(node.read(hold).wait_timeout(DEADLINE))
        });
        begun.recv_timeout(DEADLINE).unwrap();
        let (sender, refusals) = mpsc::channel();
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let (node, sender) = (&node, sender.clone());
                scope.spawn(move || {
                    let answer = answer(node.propose("x").wait_timeout(DEADLINE));
                    if let Err(error) = answer {
                        sender.send(error).unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..12 {
            let error = refusals.recv_timeout(DEADLINE).unwrap();
            assert!(matches!(error, ProposeError::Busy { .. }), "{error:?}");
            assert_eq!(came_back(error), "x");
        }
        drop(blocked);
        reading.join().unwrap().unwrap();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    assert_eq!(node.read(|log| log.commands.len()).wait().unwrap(), 8);
    assert_eq!(node.status().wait().unwrap().requests_refused, 12);
}

#[test]
fn a_panic_of_the_state_machine_stops_the_node_and_names_itself() {
    for in_loop in [false, true] {
        let log = Log { in_loop, ..Log::default() };
        let node = alone(config(1, 1), log, MemoryJournal::new());
        assert_eq!(node.propose("one").wait().unwrap(), 1);
        let error = answer(node.propose(POISON).wait_timeout(DEADLINE)).unwrap_err();
        let ProposeError::Stopped { reason, .. } = error else { panic!("{error:?}") };
        let StopReason::StateMachinePanicked { index, message } = reason else {
            panic!("{reason:?}")
        };
        assert_eq!((index.get(), &*message), (3, "poisoned"));
        let reason = node.stopped().wait_timeout(DEADLINE).unwrap();
        assert!(reason.to_string().contains("index 3: poisoned"), "{reason}");
    }
}

#[test]
fn a_panic_of_a_read_is_its_own_affair() {
    let node = alone(config(1, 1), Log::default(), MemoryJournal::new());
    let error = node.read(|_| panic!("clumsy")).wait().unwrap_err();
    assert!(matches!(&error, ReadError::Panicked { message } if &**message == "clumsy"), "{error}");
    assert_eq!(node.propose("x").wait().unwrap(), 1);
}

#[test]
fn the_first_failed_write_stops_the_node_and_everyone_learns_it() {
    let journal = MemoryJournal::new();
    let node = alone(config(1, 1), Log::default(), journal.clone());
    node.propose("durable").wait().unwrap();
    journal.fail();
    let error = answer(node.propose("lost").wait_timeout(DEADLINE)).unwrap_err();
    assert!(matches!(&error, ProposeError::Stopped { reason: StopReason::JournalFailed(_), .. }));
    assert!(error.may_commit(), "it may be in the journal all the same");
    let reason = node.stopped().wait_timeout(DEADLINE).unwrap();
    assert!(matches!(reason, StopReason::JournalFailed(_)), "{reason}");

    let again = alone(config(1, 1), Log::default(), journal);
    assert_eq!(again.read(|log| log.commands.clone()).wait().unwrap(), ["durable"]);
}

#[test]
fn a_leader_whose_journal_fails_makes_room_for_another() {
    let cluster = Cluster::start(3);
    cluster.propose("before");
    let old = cluster.leader();
    cluster.journals[old].fail();
    // Its own copy is not needed for a majority, so this may be answered yet.
    let _ = answer(cluster.nodes[old].propose("between").wait_timeout(DEADLINE));
    cluster.nodes[old].stopped().wait_timeout(DEADLINE).unwrap();
    let others: Vec<_> = (0..3).filter(|position| *position != old).collect();
    let new = cluster.leader_among(&others);
    answer(cluster.nodes[new].propose("after").wait_timeout(DEADLINE)).unwrap();
    let commands = cluster.nodes[new].read(|log| log.commands.clone()).wait().unwrap();
    assert_eq!((&commands[0], commands.last().unwrap()), (&"before".into(), &"after".into()));
    cluster.shutdown();
}

#[test]
fn a_stopped_node_says_so_to_everyone_who_asks() {
    let node = alone(config(1, 1), Log::default(), MemoryJournal::new());
    let (watch, lead) = (node.leadership(), node.lead().wait().unwrap());
    let other = node.clone();
    assert!(matches!(node.shutdown().wait_timeout(DEADLINE), Some(StopReason::Shutdown)));
    assert!(matches!(other.shutdown().wait_timeout(DEADLINE), Some(StopReason::Shutdown)));

    let error = answer(node.propose("x").wait_timeout(DEADLINE)).unwrap_err();
    assert!(matches!(error, ProposeError::Stopped { reason: StopReason::Shutdown, .. }));
    assert_eq!(came_back(error), "x");
    let stopped = ReadError::Stopped { reason: StopReason::Shutdown }.to_string();
    let error = answer(node.read(|_| ()).wait_timeout(DEADLINE)).unwrap_err();
    assert_eq!(error.to_string(), stopped);
    assert_eq!(answer(node.status().wait_timeout(DEADLINE)).unwrap_err().to_string(), stopped);
    let error = answer(node.lead().wait_timeout(DEADLINE)).unwrap_err();
    assert!(matches!(error, Stopped { reason: StopReason::Shutdown }));
    assert!(matches!(node.stop_reason(), Some(StopReason::Shutdown)));
    assert!(!lead.is_leading());
    assert!(answer(lead.lost().wait_timeout(DEADLINE)).is_err());
    let now = watch.current();
    assert_eq!(now.leader, None);
    assert!(answer(watch.changed_from(now).wait_timeout(DEADLINE)).is_err());
    assert!(node.leaderships().nth(1).is_none());
}

#[test]
fn a_shutdown_answers_those_who_wait_and_does_not_wait_for_a_long_queue() {
    let slowness = Arc::new(AtomicU64::new(50));
    let log = Log { slowness: Arc::clone(&slowness), ..Log::default() };
    let node = alone(config(1, 1), log, MemoryJournal::new());
    thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        if let Err(error) = answer(node.propose("x").wait_timeout(DEADLINE)) {
                            return error;
                        }
                    }
                })
            })
            .collect();
        until("the first", || {
            let status = node.status().wait().unwrap();
            (status.raft.commit_index.get() > 2).then_some(())
        });
        node.shutdown().wait_timeout(DEADLINE).unwrap();
        slowness.store(0, Ordering::Relaxed);
        for client in clients {
            let error = client.join().unwrap();
            assert!(matches!(error, ProposeError::Stopped { .. }), "{error:?}");
        }
    });
}

#[test]
fn a_node_ends_with_its_last_handle() {
    let node = alone(config(1, 1), Log::default(), MemoryJournal::new());
    let watch = node.leadership();
    let now = watch.current();
    let clone = node.clone();
    drop(node);
    assert_eq!(clone.propose("x").wait().unwrap(), 1);
    drop(clone);
    let error = answer(watch.changed_from(now).wait_timeout(DEADLINE)).unwrap_err();
    assert!(matches!(error.reason, StopReason::Shutdown), "{error}");
}

#[test]
fn a_node_that_cannot_run_does_not_start() {
    let network = channel::Network::new(1);
    let start = |config, endpoint| {
        Node::start(config, Log::default(), MemoryJournal::new(), network.endpoint(endpoint))
    };
    let mut stranger = config(1, 3);
    stranger.raft.id = NodeId::new(4);
    let error = start(stranger, NodeId::new(4)).unwrap_err();
    assert!(matches!(error, StartError::Config(_)), "{error:?}");
    let error = start(config(1, 3), NodeId::new(2)).unwrap_err();
    assert!(matches!(error, StartError::Transport(_)), "{error:?}");
}
