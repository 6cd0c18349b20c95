//! Where the state machine is called: in the node's loop while it is quick, and by a thread
//! otherwise, without harm if a command in the loop is slow, hangs or panics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::node::{GATED, Gate, Gated, Map, config, id, leader, set, start, start_as, until};
use bytes::Bytes;
use raft_core::host::{
    Capture, Handle, InProcessNetwork, MemoryJournal, NodeConfig, NotUnderstood, Pending,
    ProposeError, ReadError, StateMachine, StopReason, WaitError, WorkerKind, WorkerTask,
};
use raft_core::{Config, Index, Role};

/// The key of a command that panics.
const PANICS: u64 = 13;

/// A state machine that says which thread has called it last.
#[derive(Clone, Default)]
struct Called {
    gated: Gated,
    by: Arc<Mutex<Option<String>>>,
    blocks: Option<bool>,
}

impl Called {
    /// Whether the last command was applied by the node's loop, whose thread has no name here.
    fn is_by_loop(&self) -> bool {
        self.by.lock().unwrap().is_none()
    }
}

impl StateMachine for Called {
    type Reply = u64;

    fn apply(&mut self, index: Index, command: Bytes) -> u64 {
        *self.by.lock().unwrap() = thread::current().name().map(String::from);
        assert!(!command.starts_with(&PANICS.to_be_bytes()), "a command that panics");
        self.gated.apply(index, command)
    }

    fn snapshot(&self) -> Option<Capture> {
        *self.by.lock().unwrap() = thread::current().name().map(String::from);
        self.gated.snapshot()
    }

    fn restore(&mut self, snapshot: &mut dyn std::io::Read) -> std::io::Result<()> {
        self.gated.restore(snapshot)
    }

    fn blocks(&self) -> Option<bool> {
        self.blocks
    }
}

/// A node alone, whose loop calls the state machine.
fn alone(config: NodeConfig) -> (Handle<Called>, Called) {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let state = Called::default();
    let node = start_as(config, &hub, MemoryJournal::new(), state.clone()).unwrap();
    node.lead().wait().unwrap();
    warm_up(&node, &state);
    (node, state)
}

/// Proposes quick commands until the loop applies them.
fn warm_up(node: &Handle<Called>, state: &Called) {
    until("the loop applies", || {
        node.propose(set(1, b"quick")).wait().unwrap();
        state.is_by_loop()
    });
}

fn impatient(raft: Config) -> NodeConfig {
    NodeConfig {
        stuck_after: Duration::from_millis(300),
        shutdown_max: Duration::from_millis(300),
        ..config(raft)
    }
}

fn count(node: &Handle<Called>) -> u64 {
    node.read(|state| state.gated.map.count).wait().unwrap()
}

#[test]
fn the_choice_of_a_state_machine_stays() {
    for blocks in [true, false] {
        let (hub, _late) = InProcessNetwork::new(1, || {});
        let state = Called { blocks: Some(blocks), ..Called::default() };
        let raft = Config::new(id(1), [id(1)]);
        let node = start(raft, &hub, MemoryJournal::new(), state.clone()).unwrap();
        node.lead().wait().unwrap();
        for number in 0..100 {
            node.propose(set(number % 7, b"")).wait().unwrap();
            assert_eq!(state.is_by_loop(), !blocks);
        }
    }
}

/// The command lasts for several election timeouts. Meanwhile the leader is heard, answers and
/// appends, so no server stands for election.
#[test]
fn a_command_that_becomes_slow_in_the_loop_costs_no_election() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let mut nodes = BTreeMap::new();
    let states: BTreeMap<u64, Called> = (1..=3).map(|own| (own, Called::default())).collect();
    for own in 1..=3 {
        let raft = Config::new(id(own), (1..=3).map(id));
        let state = states[&own].clone();
        nodes.insert(own, start(raft, &hub, MemoryJournal::new(), state).unwrap());
    }
    let leads = leader(&nodes);
    let (node, state) = (&nodes[&leads], &states[&leads]);
    warm_up(node, state);
    let before = node.status().wait().unwrap().raft;
    let patience = Config::new(id(1), [id(1)]).election_timeout_max * 3;
    state.gated.apply.shut();
    let slow = node.propose(set(GATED, b"slow"));
    until("it is slow", || state.gated.apply.holds());
    let begun = Instant::now();
    let mut behind = Vec::new();
    while begun.elapsed() < patience {
        behind.push(node.propose(set(2, b"behind")));
        let status = node.status().wait_timeout(Duration::from_secs(20)).unwrap().raft;
        assert_eq!((status.role, status.current_term), (Role::Leader, before.current_term));
        thread::sleep(Duration::from_millis(5));
    }
    let commits = node.status().wait().unwrap().raft.commit_index;
    assert!(commits > before.commit_index, "the others have it");
    state.gated.apply.open();
    let first = slow.wait().unwrap();
    let replies: Vec<_> = behind.into_iter().map(|answer| answer.wait().unwrap()).collect();
    assert_eq!(replies, (first + 1..).take(replies.len()).collect::<Vec<_>>(), "in order");
    assert_eq!(node.status().wait().unwrap().raft.current_term, before.current_term);
    assert_eq!(count(node), replies[replies.len() - 1]);
    // What is quick again is applied in the loop again.
    warm_up(node, state);
}

#[test]
fn a_command_that_hangs_in_the_loop_is_named_and_its_leader_hands_over() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let mut nodes = BTreeMap::new();
    let states: BTreeMap<u64, Called> = (1..=3).map(|own| (own, Called::default())).collect();
    for own in 1..=3 {
        let raft = Config::new(id(own), (1..=3).map(id));
        let state = states[&own].clone();
        nodes.insert(own, start_as(impatient(raft), &hub, MemoryJournal::new(), state).unwrap());
    }
    let sick = leader(&nodes);
    let gate = states[&sick].gated.apply.clone();
    warm_up(&nodes[&sick], &states[&sick]);
    gate.shut();
    let hangs = nodes[&sick].propose(set(GATED, b"hangs"));
    until("it hangs", || gate.holds());
    let behind = nodes[&sick].propose(set(2, b"behind"));
    let read = nodes[&sick].read(|state| state.gated.map.count);
    for answer in [hangs, behind] {
        let error = answer.wait_timeout(Duration::from_secs(30)).unwrap_err();
        let WaitError::Answered(error) = error else { panic!("{error}") };
        assert!(matches!(error, ProposeError::LeadershipLost { may_commit: true }), "{error}");
    }
    let error = read.wait_timeout(Duration::from_secs(30)).unwrap_err();
    assert!(matches!(error, WaitError::Answered(ReadError::Stuck)), "{error}");
    let stuck = nodes[&sick].status().wait().unwrap().stuck;
    assert_eq!(stuck.len(), 1, "{stuck:?}");
    assert_eq!((stuck[0].worker, stuck[0].task), (WorkerKind::StateMachine, WorkerTask::Apply));
    until("another leads", || leader(&nodes) != sick);

    let ends = nodes.remove(&sick).unwrap();
    assert!(matches!(ends.shutdown().wait(), StopReason::Shutdown));
    let left = ends.left_behind();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!((left[0].worker, left[0].index), (WorkerKind::StateMachine, stuck[0].index));
    gate.open();
}

#[test]
fn a_node_ends_though_a_command_hangs_in_its_loop() {
    let (node, state) = alone(impatient(Config::new(id(1), [id(1)])));
    state.gated.apply.shut();
    let hangs = node.propose(set(GATED, b"hangs"));
    until("it hangs", || state.gated.apply.holds());
    let behind = node.propose(set(2, b"behind"));
    let stopped = node.shutdown();
    let error = behind.wait().unwrap_err();
    assert!(matches!(error, ProposeError::Stopped { .. }), "{error}");
    let error = hangs.wait().unwrap_err();
    assert!(matches!(error, ProposeError::Stopped { command: None, .. }), "{error}");
    stopped.wait();
    assert_eq!(node.left_behind().len(), 1);
    state.gated.apply.open();
}

#[test]
fn a_read_that_hangs_in_the_loop_is_answered_too() {
    let (node, _) = alone(impatient(Config::new(id(1), [id(1)])));
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
fn a_command_that_panics_in_the_loop_stops_the_node() {
    let (node, _) = alone(config(Config::new(id(1), [id(1)])));
    let panics = node.propose(set(PANICS, b""));
    let behind = node.propose(set(2, b"behind"));
    for answer in [panics, behind] {
        let error = answer.wait().unwrap_err();
        let ProposeError::Stopped { reason, .. } = error else { panic!("{error}") };
        assert!(matches!(reason, StopReason::StateMachinePanicked { .. }), "{reason}");
    }
    let reason = node.stopped().wait();
    assert!(matches!(reason, StopReason::StateMachinePanicked { .. }), "{reason}");
}

#[test]
fn a_snapshot_is_captured_on_the_thread_between_the_commands_of_the_loop() {
    let (node, state) = alone(config(Config::new(id(1), [id(1)])));
    node.propose(set(2, b"kept")).wait().unwrap();
    let before: Map = node.read(|state| state.gated.map.clone()).wait().unwrap();
    let asked = node.take_snapshot();
    asked.wait().unwrap();
    assert!(!state.is_by_loop(), "a capture may take long");
    assert_eq!(node.read(|state| state.gated.map.clone()).wait().unwrap(), before);
    warm_up(&node, &state);
    assert!(count(&node) > before.count);
}

/// What a state machine with batches has been told, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Told {
    Apply(u64),
    End(u64),
}

/// Counts commands, and makes them durable at the end of a batch.
#[derive(Clone, Default)]
struct Batches {
    gate: Gate,
    told: Arc<Mutex<Vec<Told>>>,
    fails: Arc<AtomicBool>,
}

impl StateMachine for Batches {
    type Reply = u64;

    fn apply(&mut self, index: Index, _: Bytes) -> u64 {
        self.told.lock().unwrap().push(Told::Apply(index.get()));
        self.gate.pass();
        index.get()
    }

    fn understands(&self, command: &Bytes) -> Result<(), NotUnderstood> {
        if command == "new" { Err(NotUnderstood::new("a new command")) } else { Ok(()) }
    }

    fn applies_in_batches(&self) -> bool {
        true
    }

    fn end_batch(&mut self, last: Index) {
        assert!(!self.fails.load(Relaxed), "the store fails");
        self.told.lock().unwrap().push(Told::End(last.get()));
    }

    fn blocks(&self) -> Option<bool> {
        Some(true)
    }
}

impl Batches {
    /// The highest index that is durable.
    fn durable(&self) -> u64 {
        let told = self.told.lock().unwrap();
        let ends =
            told.iter().filter_map(|told| if let Told::End(at) = told { Some(*at) } else { None });
        ends.max().unwrap_or(0)
    }
}

fn with_batches() -> (Handle<Batches>, Batches) {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let state = Batches::default();
    let raft = Config::new(id(1), [id(1)]);
    let node = start(raft, &hub, MemoryJournal::new(), state.clone()).unwrap();
    node.lead().wait().unwrap();
    (node, state)
}

/// Each reply follows the end of its batch, and commands that are ready together share one.
#[test]
fn replies_of_a_batch_follow_its_end() {
    let (node, state) = with_batches();
    state.gate.shut();
    let first = node.propose("held");
    until("the first command hangs", || state.gate.holds());
    let rest: Vec<_> = (0..50).map(|_| node.propose("waits")).collect();
    until("all are committed", || {
        let status = node.status().wait().unwrap();
        status.raft.commit_index == status.raft.last_log.index
            && status.raft.last_log.index.get() > 50
    });
    state.gate.open();
    for answer in std::iter::once(first).chain(rest) {
        let index = answer.wait().unwrap();
        assert!(state.durable() >= index, "{index} is answered and not durable");
    }
    let read = node.read(|state| state.told.lock().unwrap().last().cloned()).wait().unwrap();
    assert!(matches!(read, Some(Told::End(_))), "reads come between batches");
    let told = state.told.lock().unwrap();
    let ends = told.iter().filter(|told| matches!(told, Told::End(_))).count();
    assert!(ends < 20, "{ends} batches for 51 commands");
}

/// What was applied before a command that is not understood becomes durable, and is answered.
#[test]
fn a_batch_ends_before_a_command_that_is_not_understood() {
    let (node, state) = with_batches();
    state.gate.shut();
    let first = node.propose("held");
    until("the first command hangs", || state.gate.holds());
    let rest = ["old", "new", "old"].map(|command| node.propose(command));
    until("all are committed", || {
        let status = node.status().wait().unwrap();
        status.raft.commit_index == status.raft.last_log.index
    });
    state.gate.open();
    first.wait().unwrap();
    let [old, new, last] = rest.map(Pending::wait);
    assert_eq!(state.durable(), old.unwrap());
    assert!(new.is_err() && last.is_err());
}

/// A store that fails stops the node, and nobody is told that the command was applied.
#[test]
fn a_batch_that_cannot_end_is_not_answered() {
    let (node, state) = with_batches();
    state.fails.store(true, Relaxed);
    let error = node.propose("in doubt").wait().unwrap_err();
    assert!(error.may_commit(), "{error}");
    let reason = node.stopped().wait();
    assert!(matches!(reason, StopReason::StateMachinePanicked { .. }), "{reason}");
    assert_eq!(state.durable(), 0);
}
