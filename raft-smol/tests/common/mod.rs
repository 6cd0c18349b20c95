//! A cluster on a channel network, waiting that has an end, and a test for each executor.

// Each test binary uses another part of this; and clippy takes only test functions for tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::or;
use raft_smol::on::{Executor, Network, Node, Smol, Transport};
use raft_smol::{
    ClusterId, Config, Index, MemoryJournal, NodeConfig, NodeId, ProposeError, Role, StateMachine,
    tcp,
};
use smol::Timer;
use smol::channel::Receiver;

/// Longer than anything takes on the slowest machine; what is not done by then never will be.
const DEADLINE: Duration = Duration::from_secs(60);

/// Keeps all commands; the reply is how many they are.
#[derive(Default)]
pub struct Log {
    pub commands: Vec<Bytes>,
    /// The name of the thread that applied the last one.
    pub applied_by: Option<String>,
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
        self.applied_by = thread::current().name().map(String::from);
        self.commands.len()
    }

    fn blocks(&self) -> Option<bool> {
        self.in_loop.then_some(false)
    }
}

/// An executor that tests run on.
pub trait Runtime: Executor {
    fn block_on<T>(future: impl Future<Output = T>) -> T;

    /// Runs a task.
    fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Running<T> {
        let (sender, receiver) = smol::channel::bounded(1);
        Self::spawn(async move {
            let _ = sender.send(future.await).await;
        });
        Running(receiver)
    }
}

/// A task's output, to come.
pub struct Running<T>(Receiver<T>);

impl<T> Running<T> {
    pub async fn output(self) -> T {
        in_time("the end of a task", self.0.recv()).await.expect("it does not panic")
    }
}

impl Runtime for Smol {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }
}

#[cfg(feature = "async-std")]
impl Runtime for raft_smol::on::AsyncStd {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        async_std::task::block_on(future)
    }
}

/// Makes tests of asynchronous functions that have an executor as their parameter.
#[macro_export]
macro_rules! on_each_executor {
    ($($test:ident,)+) => {
        mod on_smol {
            use $crate::common::Runtime;
            use raft_smol::on::Smol;
            $(#[test]
            fn $test() {
                Smol::block_on(super::$test::<Smol>());
            })+
        }

        #[cfg(feature = "async-std")]
        mod on_async_std {
            use $crate::common::Runtime;
            use raft_smol::on::AsyncStd;
            $(#[test]
            fn $test() {
                AsyncStd::block_on(super::$test::<AsyncStd>());
            })+
        }
    };
}

/// Nodes numbered from 1, at positions from 0.
pub struct Cluster<E> {
    pub network: Network<E>,
    pub journals: Vec<MemoryJournal>,
    pub nodes: Vec<Node<Log, E>>,
    /// How slow their state machines are, as in [`Log`].
    pub slowness: Vec<Arc<AtomicU64>>,
    size: u64,
}

impl<E: Runtime> Cluster<E> {
    pub async fn start(size: u64) -> Self {
        let network = Network::new(1);
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
    pub async fn start_node(&self, position: usize) -> Node<Log, E> {
        let slowness = Arc::clone(&self.slowness[position]);
        let log = Log { in_loop: position == 1, slowness, ..Log::default() };
        let config = self.config(position);
        let endpoint = self.network.endpoint(config.raft.id);
        Node::start(config, log, self.journals[position].clone(), endpoint).await.unwrap()
    }

    /// The position of a node that leads, among these.
    pub async fn leader_among(&self, positions: &[usize]) -> usize {
        let nodes = positions.iter().map(|position| (*position, &self.nodes[*position]));
        let nodes: Vec<_> = nodes.collect();
        until("a leader", || async {
            let leads = |node: &Node<Log, E>| node.leadership().current().role == Role::Leader;
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
pub async fn alone<E: Runtime>(config: NodeConfig, log: Log) -> Node<Log, E> {
    let network = Network::<E>::new(1);
    let endpoint = network.endpoint(config.raft.id);
    let node = Node::start(config, log, MemoryJournal::new(), endpoint).await.unwrap();
    in_time("a lead", node.lead()).await.unwrap();
    node
}

/// The future's output, which must come in time.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    or(future, async {
        Timer::after(DEADLINE).await;
        panic!("{what} did not come within {DEADLINE:?}")
    })
    .await
}

/// Asks until there is an answer, which must come in time.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    in_time(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            Timer::after(Duration::from_millis(1)).await;
        }
    })
    .await
}

/// The command came back, so it may be proposed elsewhere.
pub fn came_back(error: ProposeError) -> Bytes {
    assert!(!error.may_commit());
    error.into_command().unwrap()
}

/// Three nodes over TCP, on ports that are free.
pub async fn tcp_cluster<E: Runtime>() -> Vec<Node<Log, E>> {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners: Vec<_> = (1..=3).map(|id| (NodeId::new(id), bind())).collect();
    let address = |(id, socket): &(NodeId, TcpListener)| (*id, socket.local_addr().unwrap());
    let addresses: Vec<_> = listeners.iter().map(address).collect();
    let mut nodes = Vec::new();
    for (id, listener) in listeners {
        nodes.push(tcp_node(id, listener, &addresses).await);
    }
    nodes
}

/// A node that listens there.
pub async fn tcp_node<E: Runtime>(
    id: NodeId,
    listener: TcpListener,
    addresses: &[(NodeId, SocketAddr)],
) -> Node<Log, E> {
    let peers = addresses.iter().map(|(id, address)| (*id, address.to_string()));
    let listener = listener.try_into().unwrap();
    let transport = Transport::<E>::new(listener, peers, tcp::Config::default()).unwrap();
    // Patient, so that a busy machine does not depose the leader in the middle of the test.
    let raft = Config {
        election_timeout_min: Duration::from_millis(500),
        election_timeout_max: Duration::from_millis(1000),
        ..Config::new(id, addresses.iter().map(|(id, _)| *id))
    };
    let config = NodeConfig::new(ClusterId::new(1), raft);
    Node::start(config, Log::default(), MemoryJournal::new(), transport).await.unwrap()
}

/// The position of one that leads.
pub async fn leader_of<E: Runtime>(nodes: &[Node<Log, E>]) -> usize {
    until("a leader", || async {
        nodes.iter().position(|node| node.leadership().current().role == Role::Leader)
    })
    .await
}
