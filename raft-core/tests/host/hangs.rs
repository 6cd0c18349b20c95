//! Everyone who waits is answered, and whatever hangs is noticed (field bug 53): a state machine
//! that hangs or waits for itself, a capture that never ends, code of a client that panics.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::node::{
    CLUSTER, GATED, Gate, Gated, Map, config, id, leader, set, start, start_as, until,
};
use bytes::Bytes;
use raft_core::host::{
    FileJournal, Finding, Handle, InProcessNetwork, MemoryJournal, NodeConfig, ProposeError,
    ReadError, SnapshotError, StateMachine, StopReason, WorkerKind, WorkerTask,
};
use raft_core::{Config, Index};

/// Notices soon what hangs, and does not wait for it long.
fn impatient(raft: Config) -> NodeConfig {
    NodeConfig {
        stuck_after: Duration::from_millis(300),
        shutdown_max: Duration::from_millis(300),
        ..config(raft)
    }
}

#[test]
fn a_leader_whose_state_machine_hangs_hands_over_and_its_clients_are_answered() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let mut nodes = BTreeMap::new();
    let gates: BTreeMap<u64, Gate> = (1..=3).map(|own| (own, Gate::default())).collect();
    for own in 1..=3 {
        let raft = Config::new(id(own), (1..=3).map(id));
        let state = Gated { apply: gates[&own].clone(), ..Gated::default() };
        nodes.insert(own, start_as(impatient(raft), &hub, MemoryJournal::new(), state).unwrap());
    }
    let sick = leader(&nodes);
    nodes[&sick].propose(set(1, b"before")).wait().unwrap();
    gates[&sick].shut();
    let hangs = nodes[&sick].propose(set(GATED, b"hangs"));
    until("it hangs", || gates[&sick].holds());
    let behind = nodes[&sick].propose(set(2, b"behind"));
    let reads = nodes[&sick].read(|state| state.map.count);

    for answer in [hangs, behind] {
        let error = answer.wait_timeout(Duration::from_secs(30)).unwrap_err();
        let raft_core::host::WaitError::Answered(error) = error else { panic!("{error}") };
        assert!(error.may_commit(), "{error}");
        assert!(matches!(error, ProposeError::LeadershipLost { .. }), "{error}");
    }
    let error = reads.wait_timeout(Duration::from_secs(30)).unwrap_err();
    assert!(matches!(error, raft_core::host::WaitError::Answered(ReadError::Stuck)), "{error}");
    let status = nodes[&sick].status().wait().unwrap();
    assert_eq!(status.stuck.len(), 1, "{:?}", status.stuck);
    let stuck = &status.stuck[0];
    assert_eq!((stuck.worker, stuck.task), (WorkerKind::StateMachine, WorkerTask::Apply));
    assert!(stuck.index.unwrap() > status.raft.last_applied);
    assert!(stuck.since.elapsed() >= Duration::from_millis(200), "{stuck}");
    let Some(first @ Finding::Stuck(_)) = status.findings.first() else { panic!("{status:?}") };
    assert!(first.to_string().starts_with("a thread of this node hangs ("), "{first}");

    // The others have applied both, and go on.
    until("another leads", || leader(&nodes) != sick);
    let next = leader(&nodes);
    assert_eq!(nodes[&next].propose(set(3, b"after")).wait().unwrap(), 4);

    // A shutdown has a bound, and says what it leaves behind.
    let ends = nodes.remove(&sick).unwrap();
    let begun = Instant::now();
    assert!(matches!(ends.shutdown().wait(), StopReason::Shutdown));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let left = ends.left_behind();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((left[0].worker, left[0].index), (WorkerKind::StateMachine, stuck.index));
    gates[&sick].open();
}

#[test]
fn a_node_that_stops_answers_for_a_state_machine_that_hangs_and_frees_its_journal() {
    let directory = tempfile::tempdir().unwrap();
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let open = || FileJournal::open(directory.path(), CLUSTER, id(1));
    let state = Gated::default();
    let gate = state.apply.clone();
    let raft = Config::new(id(1), [id(1)]);
    let node = start_as(impatient(raft.clone()), &hub, open().unwrap(), state).unwrap();
    node.lead().wait().unwrap();
    gate.shut();
    let hangs = node.propose(set(GATED, b"hangs"));
    until("it hangs", || gate.holds());
    let behind = node.propose(set(2, b"behind"));
    let read = node.read(|state| state.map.count);
    let stopped = node.shutdown();
    let error = behind.wait().unwrap_err();
    assert!(matches!(error, ProposeError::Stopped { .. }), "{error}");
    let error = hangs.wait().unwrap_err();
    assert!(matches!(error, ProposeError::Stopped { command: None, .. }), "{error}");
    // Depending on when the loop looked, it was told of the end or of what hangs.
    let error = read.wait().unwrap_err();
    assert!(matches!(error, ReadError::Stopped { .. } | ReadError::Stuck), "{error}");
    stopped.wait();
    assert_eq!(node.left_behind().len(), 1);

    let again = start(raft, &hub, open().unwrap(), Gated::default()).unwrap();
    again.lead().wait().unwrap();
    assert!(again.read(|state| state.map.count).wait().unwrap() > 0);
    gate.open();
}

#[test]
fn a_read_that_hangs_is_answered_too() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let raft = Config::new(id(1), [id(1)]);
    let node = start_as(impatient(raft), &hub, MemoryJournal::new(), Gated::default()).unwrap();
    node.lead().wait().unwrap();
    let gate = Gate::default();
    gate.shut();
    let passes = gate.clone();
    let read = node.read(move |_| passes.pass());
    assert!(matches!(read.wait(), Err(ReadError::Stuck)));
    gate.open();
    until("it goes on", || node.status().wait().unwrap().stuck.is_empty());
    node.propose(set(1, b"works")).wait().unwrap();
}

#[test]
fn the_lock_stays_until_a_capture_that_hangs_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let open = || FileJournal::open(directory.path(), CLUSTER, id(1));
    let state = Gated::default();
    let gate = state.capture.clone();
    let raft = Config::new(id(1), [id(1)]);
    let node = start_as(impatient(raft.clone()), &hub, open().unwrap(), state).unwrap();
    node.lead().wait().unwrap();
    node.propose(set(1, b"kept")).wait().unwrap();
    gate.shut();
    let asked = node.take_snapshot();
    until("it hangs", || gate.holds());
    until("it is noticed", || {
        let stuck = node.status().wait().unwrap().stuck;
        stuck.iter().any(|worker| worker.worker == WorkerKind::Capture)
    });
    node.shutdown().wait();
    assert!(matches!(asked.wait(), Err(SnapshotError::Stopped { .. })));
    let left = node.left_behind();
    assert!(left.iter().any(|worker| worker.worker == WorkerKind::Capture), "{left:?}");
    // What it writes lies in the directory, so that is not given up.
    let error = open().unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    gate.open();
    until("the directory is given up", || open().is_ok());
    let files: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    let unfinished = files.into_iter().any(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        name.contains("snapshot") || name.ends_with("taking")
    });
    assert!(!unfinished, "it was given up, and left nothing");
    let again = start(raft, &hub, open().unwrap(), Gated::default()).unwrap();
    again.lead().wait().unwrap();
    assert_eq!(again.read(|state| state.map.count).wait().unwrap(), 1);
}

/// Asks its own node from inside of `apply`, in the way that the command names.
#[derive(Default)]
struct AsksItself {
    node: Arc<Mutex<Option<Handle<AsksItself>>>>,
    in_place: bool,
    told: Arc<Mutex<Option<String>>>,
}

impl StateMachine for AsksItself {
    type Reply = String;

    fn apply(&mut self, _index: Index, command: Bytes) -> String {
        let node = self.node.lock().unwrap().clone();
        let Some(node) = node else { return String::new() };
        match &command[..] {
            b"propose" => node.propose("inner").wait().unwrap_err().to_string(),
            b"await" => {
                let mut inner = pin!(node.propose("inner").into_future());
                let polled = inner.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                let Poll::Ready(Err(error)) = polled else { panic!("{polled:?}") };
                error.to_string()
            }
            b"read" => node.read(|_| ()).wait().unwrap_err().to_string(),
            b"status" => {
                let answer = node.status().wait_timeout(Duration::from_secs(60));
                answer.unwrap_err().to_string()
            }
            b"snapshot" => node.take_snapshot().wait().unwrap_err().to_string(),
            b"then" => {
                let told = Arc::clone(&self.told);
                node.propose("inner").then(move |answer| *told.lock().unwrap() = answer.ok());
                "asked".into()
            }
            _ => "inner".into(),
        }
    }

    fn blocks(&self) -> Option<bool> {
        Some(!self.in_place)
    }
}

#[test]
fn a_state_machine_that_waits_for_its_own_node_is_refused_at_once() {
    for in_place in [false, true] {
        let (hub, _late) = InProcessNetwork::new(1, || {});
        let state = AsksItself { in_place, ..AsksItself::default() };
        let (slot, told) = (Arc::clone(&state.node), Arc::clone(&state.told));
        let raft = Config::new(id(1), [id(1)]);
        let node = start(raft, &hub, MemoryJournal::new(), state).unwrap();
        node.lead().wait().unwrap();
        *slot.lock().unwrap() = Some(node.clone());
        for way in ["propose", "await", "read", "status", "snapshot"] {
            let answer = node.propose(way);
            let text = answer.wait_timeout(Duration::from_secs(30)).unwrap();
            assert!(text.contains("waits for its own node"), "{way}: {text}");
        }
        // It may ask without waiting.
        assert_eq!(node.propose("then").wait().unwrap(), "asked");
        until("the answer", || told.lock().unwrap().as_deref() == Some("inner"));
        // From elsewhere it is asked as ever, and what was proposed inside is applied.
        assert_eq!(node.propose("x").wait().unwrap(), "inner");
        *slot.lock().unwrap() = None;
        node.shutdown().wait();
    }
}

/// An answer whose drop panics.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a bomb");
        }
    }
}

#[derive(Default)]
struct Bombs(u64);

impl StateMachine for Bombs {
    type Reply = Bomb;

    fn apply(&mut self, _index: Index, _command: Bytes) -> Bomb {
        self.0 += 1;
        Bomb
    }
}

struct BadWaker;

impl Wake for BadWaker {
    fn wake(self: Arc<Self>) {
        panic!("a waker");
    }
}

#[test]
fn code_of_a_client_that_panics_is_counted_and_harms_no_node() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let raft = Config::new(id(1), [id(1)]);
    let node = start(raft, &hub, MemoryJournal::new(), Bombs::default()).unwrap();
    node.lead().wait().unwrap();
    // A read holds the state machine up until all is in place.
    let gate = Gate::default();
    gate.shut();
    let passes = gate.clone();
    let read = node.read(move |_| passes.pass());
    until("it hangs", || gate.holds());
    // Nobody waits for this one, so that the node drops the answer.
    drop(node.propose("dropped"));
    let panics = || node.status().wait().unwrap().client_panics;
    let mut answer = pin!(node.propose("awaited").into_future());
    let waker = Waker::from(Arc::new(BadWaker));
    assert!(answer.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    gate.open();
    read.wait().unwrap();
    until("a panic", || panics() == 2);
    let count = node.read(|bombs| bombs.0).wait().unwrap();
    assert_eq!(count, 2, "it works on");
    assert!(node.stop_reason().is_none());
    let Poll::Ready(Ok(bomb)) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("it was answered")
    };
    std::mem::forget(bomb);
    node.shutdown().wait();
}

/// As long as it takes is a bound, too.
#[test]
fn a_node_with_all_the_time_in_the_world_ends() {
    let (hub, _late) = InProcessNetwork::new(8, || ());
    let patient = NodeConfig { shutdown_max: Duration::MAX, ..config(Config::new(id(1), [id(1)])) };
    let node = start_as(patient, &hub, MemoryJournal::new(), Map::default()).unwrap();
    let ended = thread::spawn(move || node.shutdown().wait());
    until("the end", || ended.is_finished());
    assert_eq!(ended.join().unwrap().to_string(), StopReason::Shutdown.to_string());
}
