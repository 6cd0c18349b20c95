//! A cluster on a channel network, and waiting that has an end.

// Each test binary uses another part of this; and clippy takes only test functions for tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use raft_core::host::StoreId;
use raft_core::{Restored, Write};
use raft_tokio::{
    ClusterId, Config, Index, Journal, MemoryJournal, Node, NodeConfig, NodeId, ProposeError, Role,
    StateMachine, StorageError, channel,
};

/// Longer than anything takes on the slowest machine; what is not done by then never will be.
const DEADLINE: Duration = Duration::from_secs(60);

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

/// A journal in memory, called by the node's loop or on a thread, as one on a disk would be.
pub struct TestJournal {
    pub memory: MemoryJournal,
    pub blocks: bool,
}

impl Journal for TestJournal {
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError> {
        self.memory.recover()
    }

    fn store_id(&self) -> StoreId {
        self.memory.store_id()
    }

    fn blocks(&self) -> bool {
        self.blocks
    }

    fn append(&mut self, write: &Write<Bytes>) -> Result<(), StorageError> {
        self.memory.append(write)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.memory.sync()
    }
}

/// Nodes numbered from 1, at positions from 0.
pub struct Cluster {
    pub network: channel::Network,
    pub journals: Vec<MemoryJournal>,
    pub nodes: Vec<Node<Log>>,
    /// How slow their state machines are, as in [`Log`].
    pub slowness: Vec<Arc<AtomicU64>>,
    size: u64,
}

impl Cluster {
    pub async fn start(size: u64) -> Self {
        let network = channel::Network::new(1);
        let journals = (0..size).map(|_| MemoryJournal::new()).collect();
        let slowness = (0..size).map(|_| Arc::default()).collect();
        let mut cluster = Self { network, journals, nodes: Vec::new(), slowness, size };
        for position in 0..size as usize {
            let node = cluster.start_node(position).await;
            cluster.nodes.push(node);
        }
        cluster
    }

    pub fn config(&self, position: usize) -> NodeConfig {
        config(position as u64 + 1, self.size)
    }

    /// A node from its journal; its earlier life, if any, is cut off.
    pub async fn start_node(&self, position: usize) -> Node<Log> {
        let slowness = Arc::clone(&self.slowness[position]);
        let log = Log { in_loop: position == 1, slowness, ..Log::default() };
        let config = self.config(position);
        let endpoint = self.network.endpoint(config.raft.id);
        Node::start(config, log, self.journal(position), endpoint).await.unwrap()
    }

    /// Every other one is called on a thread.
    pub fn journal(&self, position: usize) -> TestJournal {
        TestJournal { memory: self.journals[position].clone(), blocks: position % 2 == 0 }
    }

    /// The position of a node that leads, among these.
    pub async fn leader_among(&self, positions: &[usize]) -> usize {
        let nodes = positions.iter().map(|position| (*position, &self.nodes[*position]));
        let nodes: Vec<_> = nodes.collect();
        until("a leader", || async {
            let leads = |node: &Node<Log>| node.leadership().current().role == Role::Leader;
            nodes.iter().find(|(_, node)| leads(node)).map(|(position, _)| *position)
        })
        .await
    }

    pub async fn leader(&self) -> usize {
        let all: Vec<_> = (0..self.nodes.len()).collect();
        self.leader_among(&all).await
    }

    /// Proposes to the leader until it is answered. The command may be applied more than once.
    pub async fn propose(&self, command: &'static str) {
        until("an answer", || async {
            let leader = self.leader().await;
            self.nodes[leader].propose(command).await.ok()
        })
        .await;
    }

    /// All nodes have applied everything that one of them has, and the same.
    pub async fn agreed(&self) -> Vec<Bytes> {
        until("agreement", || async {
            let mut logs = Vec::new();
            for node in &self.nodes {
                let status = node.status().await.unwrap().raft;
                logs.push((status.last_applied, status.commit_index, status.last_log));
            }
            let (applied, commit, last) = logs[0];
            let quiet = applied == commit && commit == last.index;
            (quiet && logs.iter().all(|log| *log == logs[0])).then_some(())
        })
        .await;
        let leader = self.leader().await;
        self.nodes[leader].read(|log| log.commands.clone()).await.unwrap()
    }

    pub async fn shutdown(self) {
        for node in self.nodes {
            in_time("a shutdown", node.shutdown()).await;
        }
    }
}

/// A node of a cluster of this size.
pub fn config(id: u64, size: u64) -> NodeConfig {
    let raft = Config::new(NodeId::new(id), (1..=size).map(NodeId::new));
    NodeConfig::new(ClusterId::new(7), raft)
}

/// A cluster of one, without a network that matters.
pub async fn alone(config: NodeConfig, log: Log, journal: impl Journal) -> Node<Log> {
    let network = channel::Network::new(1);
    let endpoint = network.endpoint(config.raft.id);
    let node = Node::start(config, log, journal, endpoint).await.unwrap();
    in_time("a lead", node.lead()).await.unwrap();
    node
}

/// The future's output, which must come in time.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} did not come within {DEADLINE:?}"),
    }
}

/// Asks until there is an answer, which must come in time.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    in_time(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

/// The command came back, so it may be proposed elsewhere.
pub fn came_back(error: ProposeError) -> Bytes {
    assert!(!error.may_commit());
    error.into_command().unwrap()
}
