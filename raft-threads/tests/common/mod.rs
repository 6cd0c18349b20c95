//! A cluster on a channel network, and waiting that has an end.

// Each test binary uses another part of this; and clippy takes only test functions for tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_threads::{
    ClusterId, Config, Index, Journal, MemoryJournal, Node, NodeConfig, NodeId, ProposeError, Role,
    StateMachine, WaitError, channel,
};

/// Longer than anything takes on the slowest machine; what is not done by then never will be.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Keeps all commands; the reply is how many they are.
#[derive(Default)]
pub struct Log {
    pub commands: Vec<Bytes>,
    /// What each command costs, in milliseconds.
    pub slowness: Arc<AtomicU64>,
    /// It is called by the node's loop, not on a thread.
    pub in_loop: bool,
}

/// The command at which [`Log`] panics.
pub const POISON: &str = "poison";

impl StateMachine for Log {
    type Reply = usize;

    fn apply(&mut self, _index: Index, command: Bytes) -> usize {
        assert!(command != POISON, "poisoned");
        thread::sleep(Duration::from_millis(self.slowness.load(Ordering::Relaxed)));
        self.commands.push(command);
        self.commands.len()
    }

    fn blocks(&self) -> Option<bool> {
        self.in_loop.then_some(false)
    }
}

/// Nodes numbered from 1, at positions from 0.
pub struct Cluster {
    pub network: channel::Network,
    pub journals: Vec<MemoryJournal>,
    pub nodes: Vec<Node<Log>>,
}

impl Cluster {
    pub fn start(size: u64) -> Self {
        let network = channel::Network::new(1);
        let journals = (0..size).map(|_| MemoryJournal::new()).collect();
        let mut cluster = Self { network, journals, nodes: Vec::new() };
        for position in 0..size as usize {
            let node = cluster.start_node(position);
            cluster.nodes.push(node);
        }
        cluster
    }

    /// A node from its journal; its earlier life, if any, is cut off.
    pub fn start_node(&self, position: usize) -> Node<Log> {
        // Every other one has a state machine that its loop calls.
        let log = Log { in_loop: position % 2 == 1, ..Log::default() };
        let config = config(position as u64 + 1, self.journals.len() as u64);
        let endpoint = self.network.endpoint(config.raft.id);
        Node::start(config, log, self.journals[position].clone(), endpoint).unwrap()
    }

    /// The position of a node that leads, among these.
    pub fn leader_among(&self, positions: &[usize]) -> usize {
        let leads =
            |position: &&usize| self.nodes[**position].leadership().current().role == Role::Leader;
        until("a leader", || positions.iter().find(leads).copied())
    }

    pub fn leader(&self) -> usize {
        let all: Vec<_> = (0..self.nodes.len()).collect();
        self.leader_among(&all)
    }

    /// Proposes to the leader until it is answered. The command may be applied more than once.
    pub fn propose(&self, command: &'static str) {
        until("a reply", || {
            answer(self.nodes[self.leader()].propose(command).wait_timeout(DEADLINE)).ok()
        });
    }

    /// All nodes have applied everything that one of them has, and the same.
    pub fn agreed(&self) -> Vec<Bytes> {
        until("agreement", || {
            let states: Vec<_> = self
                .nodes
                .iter()
                .map(|node| {
                    let status = answer(node.status().wait_timeout(DEADLINE)).unwrap().raft;
                    (status.last_applied, status.commit_index, status.last_log)
                })
                .collect();
            let (applied, commit, last) = states[0];
            let quiet = applied == commit && commit == last.index;
            (quiet && states.iter().all(|state| *state == states[0])).then_some(())
        });
        let leader = &self.nodes[self.leader()];
        answer(leader.read(|log| log.commands.clone()).wait_timeout(DEADLINE)).unwrap()
    }

    pub fn shutdown(self) {
        for node in self.nodes {
            node.shutdown().wait_timeout(DEADLINE).unwrap();
        }
    }
}

/// A node of a cluster of this size.
pub fn config(id: u64, size: u64) -> NodeConfig {
    let raft = Config::new(NodeId::new(id), (1..=size).map(NodeId::new));
    NodeConfig::new(ClusterId::new(7), raft)
}

/// A cluster of one, without a network that matters.
pub fn alone(config: NodeConfig, log: Log, journal: impl Journal) -> Node<Log> {
    let network = channel::Network::new(1);
    let endpoint = network.endpoint(config.raft.id);
    let node = Node::start(config, log, journal, endpoint).unwrap();
    answer(node.lead().wait_timeout(DEADLINE)).unwrap();
    node
}

/// The answer, which must have come in time.
pub fn answer<T, E: Debug>(waited: Result<T, WaitError<E>>) -> Result<T, E> {
    match waited {
        Ok(answer) => Ok(answer),
        Err(WaitError::Answered(error)) => Err(error),
        Err(WaitError::TimedOut | _) => panic!("no answer came within {DEADLINE:?}"),
    }
}

/// Asks until there is an answer, which must come in time.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{what} did not come within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The command came back, so it may be proposed elsewhere.
pub fn came_back(error: ProposeError) -> Bytes {
    assert!(!error.may_commit());
    error.into_command().unwrap()
}
