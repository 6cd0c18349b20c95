//! Writes through whole nodes on tokio: three of them in one process, on its in-process network,
//! with journals in memory.
//!
//! Each client waits for the reply to its write before it sends the next. The time is that of one
//! write: what all clients together needed, divided by how many they made; the throughput beside it
//! is in writes.

use std::mem;
use std::time::{Duration, Instant};

use benches::one_thread::COMMAND_BYTES;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raft_tokio::{
    ClusterId, Config, Index, MemoryJournal, Node, NodeConfig, NodeId, StateMachine, channel,
};
use tokio::runtime::Runtime;

/// A cluster is replaced after so many writes, long before its log, which nothing compacts here, is
/// full.
const WRITES_PER_CLUSTER: u64 = 1_000_000;

criterion_main!(benches);
criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20);
    targets = writes
}

fn writes(criterion: &mut Criterion) {
    bench_writes::<true>(criterion, "tokio/write, state machine on its thread");
    bench_writes::<false>(criterion, "tokio/write, state machine in the loop");
}

fn bench_writes<const BLOCKS: bool>(criterion: &mut Criterion, name: &str) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    for clients in [1, 64, 1024] {
        let runtime = Runtime::new().expect("the system has threads to give");
        let mut cluster = runtime.block_on(Cluster::<BLOCKS>::start());
        group.bench_function(BenchmarkId::new("clients", clients), |bencher| {
            bencher.iter_custom(|writes| {
                if cluster.written > WRITES_PER_CLUSTER {
                    let old =
                        mem::replace(&mut cluster, runtime.block_on(Cluster::<BLOCKS>::start()));
                    runtime.block_on(old.shutdown());
                }
                let writes_each = writes.div_ceil(clients);
                cluster.written += writes_each * clients;
                let elapsed = runtime.block_on(write(&cluster.leader, clients, writes_each));
                elapsed.mul_f64(writes as f64 / (writes_each * clients) as f64)
            });
        });
        runtime.block_on(cluster.shutdown());
    }
    group.finish();
}

/// How long it takes so many clients to make so many writes each.
async fn write<const BLOCKS: bool>(
    leader: &Node<Counter<BLOCKS>>,
    clients: u64,
    writes_each: u64,
) -> Duration {
    let start = Instant::now();
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let leader = leader.clone();
            tokio::spawn(async move {
                for _ in 0..writes_each {
                    let command = Bytes::from_static(&[7; COMMAND_BYTES]);
                    leader.propose(command).await.expect("nothing disturbs the leader");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client ends by itself");
    }
    start.elapsed()
}

struct Cluster<const BLOCKS: bool> {
    nodes: Vec<Node<Counter<BLOCKS>>>,
    leader: Node<Counter<BLOCKS>>,
    /// Held for as long as the nodes talk.
    _network: channel::Network,
    /// How many writes were made.
    written: u64,
}

impl<const BLOCKS: bool> Cluster<BLOCKS> {
    /// Starts three nodes and waits until one leads.
    async fn start() -> Self {
        let network = channel::Network::new(7);
        let ids = [1, 2, 3].map(NodeId::new);
        let mut nodes = Vec::new();
        for id in ids {
            let config = NodeConfig::new(ClusterId::new(1), Config::new(id, ids));
            let (journal, transport) = (MemoryJournal::new(), network.endpoint(id));
            let node = Node::start(config, Counter(0), journal, transport).await;
            nodes.push(node.expect("a new node starts"));
        }
        let watch = nodes[0].leadership();
        let leader = loop {
            let known = watch.current();
            if let Some(leader) = known.leader {
                break leader;
            }
            watch.changed_from(known).await.expect("the node runs");
        };
        let leader = ids.iter().position(|id| *id == leader).expect("a member leads");
        Self { leader: nodes[leader].clone(), nodes, _network: network, written: 0 }
    }

    async fn shutdown(self) {
        for node in &self.nodes {
            node.shutdown().await;
        }
    }
}

/// The least that a state machine can do: on a thread of its own, or in the node's loop if it never
/// blocks.
struct Counter<const BLOCKS: bool>(u64);

impl<const BLOCKS: bool> StateMachine for Counter<BLOCKS> {
    type Reply = u64;

    fn apply(&mut self, _index: Index, _command: Bytes) -> u64 {
        self.0 += 1;
        self.0
    }

    fn blocks(&self) -> Option<bool> {
        Some(BLOCKS)
    }
}
