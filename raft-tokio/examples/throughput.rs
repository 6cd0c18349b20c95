//! Writes per second end to end: three nodes in this process, journals in memory, commands of 16
//! bytes; the state machine where the node finds best, on a thread, and in the node's loop.
//!
//! The log is kept in memory, so give it no more seconds than there is room for: a second may take
//! a gigabyte.
//!
//! `cargo run --release -p raft-tokio --example throughput [seconds for each figure] [folder]`
//!
//! With a folder the nodes record there what their cores are told.

use std::error::Error;
use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_tokio::raft_core::host::recorder::RecorderConfig;
use raft_tokio::{
    ClusterId, Config, Index, MemoryJournal, Node, NodeConfig, NodeId, StateMachine, channel,
};
use tokio::task::JoinSet;

/// Each client waits for its answer before it proposes again.
const CLIENTS: [usize; 4] = [1, 64, 1024, 4096];

/// Where the state machine is called: where the node finds best, on its thread, in the loop.
const PLACES: [(Option<bool>, &str); 3] =
    [(None, "by default"), (Some(true), "on a thread"), (Some(false), "in the loop")];

struct Count {
    count: u64,
    blocks: Option<bool>,
}

impl StateMachine for Count {
    type Reply = u64;

    fn apply(&mut self, _index: Index, _command: Bytes) -> u64 {
        self.count += 1;
        self.count
    }

    fn blocks(&self) -> Option<bool> {
        self.blocks
    }
}

const HELP: &str = "Writes per second of three nodes in this process, by the number of clients.

Usage: throughput [SECONDS] [FOLDER]

  SECONDS  how long each figure is measured (default: 1)
  FOLDER   where the nodes record what their cores are told (default: they do not)";

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    let seconds = std::env::args().nth(1).map_or(Ok(1), |text| text.parse())?;
    let span = Duration::from_secs(seconds);
    let records = std::env::args_os().nth(2);
    for (clients, (blocks, place)) in
        CLIENTS.iter().flat_map(|clients| PLACES.map(|place| (*clients, place)))
    {
        // A cluster of its own each, for the log is kept in memory.
        let nodes = cluster(blocks, records.as_deref()).await?;
        let leader = leader(&nodes).await?;
        measure(leader, clients, span / 4).await?;
        let (writes, elapsed) = measure(leader, clients, span).await?;
        let rate = f64::from(writes) / elapsed.as_secs_f64();
        println!("{clients:>5} clients, state machine {place}: {rate:>9.0} writes/s");
        for node in nodes {
            node.shutdown().await;
        }
    }
    Ok(())
}

async fn cluster(
    blocks: Option<bool>,
    records: Option<&OsStr>,
) -> Result<Vec<Node<Count>>, Box<dyn Error + Send + Sync>> {
    let network = channel::Network::new(1);
    let ids = [1, 2, 3].map(NodeId::new);
    let mut nodes = Vec::new();
    for id in ids {
        let raft = Config {
            // Patient, so that a busy machine ends no measurement by an election.
            election_timeout_min: Duration::from_secs(1),
            election_timeout_max: Duration::from_secs(2),
            log_bytes_max: 2 << 30,
            ..Config::new(id, ids)
        };
        let record = records.map(RecorderConfig::new);
        let config = NodeConfig { record, ..NodeConfig::new(ClusterId::new(1), raft) };
        let transport = network.endpoint(id);
        nodes.push(
            Node::start(config, Count { count: 0, blocks }, MemoryJournal::new(), transport)
                .await?,
        );
    }
    Ok(nodes)
}

async fn leader(nodes: &[Node<Count>]) -> Result<&Node<Count>, Box<dyn Error + Send + Sync>> {
    let watch = nodes[0].leadership();
    let mut now = watch.current();
    loop {
        if let Some(leader) = now.leader {
            let position = usize::try_from(leader.get())? - 1;
            nodes[position].lead().await?;
            return Ok(&nodes[position]);
        }
        now = watch.changed_from(now).await?;
    }
}

/// How many writes were answered, and in what time.
async fn measure(
    leader: &Node<Count>,
    clients: usize,
    span: Duration,
) -> Result<(u32, Duration), Box<dyn Error + Send + Sync>> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let leader = leader.clone();
        tasks.spawn(async move {
            let mut writes = 0;
            while start.elapsed() < span {
                leader.propose(Bytes::from_static(b"sixteen bytes..!")).await?;
                writes += 1;
            }
            Ok::<u32, raft_tokio::ProposeError>(writes)
        });
    }
    let mut writes = 0;
    while let Some(client) = tasks.join_next().await {
        writes += client??;
    }
    Ok((writes, start.elapsed()))
}
