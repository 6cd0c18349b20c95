//! Writes per second end to end: three nodes in this process, journals in memory, commands of 16
//! bytes; the state machine where the node finds best, on a thread, and in the node's loop.
//!
//! The log is kept in memory, so give it no more seconds than there is room for: a second may take
//! a gigabyte.
//!
//! `cargo run --release -p raft-tokio --example throughput [seconds] [folder] [rounds]`
//!
//! With a folder the nodes record there what their cores are told. With a number of rounds behind
//! the folder, clusters that record and clusters that do not take turns, and the ratio is printed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
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

/// Measures writes per second of three nodes in this process, by the number of clients.
#[derive(Parser)]
struct Options {
    /// How long each figure is measured.
    #[arg(default_value_t = 1)]
    seconds: u64,
    /// Where the nodes record what their cores are told; without it, they do not record.
    folder: Option<PathBuf>,
    /// Measures what recording costs 64 clients: so many rounds with and without it, taking turns.
    rounds: Option<usize>,
}

/// The clients of a comparison.
const COMPARED_CLIENTS: usize = 64;

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Options { seconds, folder: records, rounds } = options;
    let span = Duration::from_secs(seconds);
    if let (Some(records), Some(rounds)) = (&records, rounds) {
        return compare(records, rounds, span).await;
    }
    for (clients, (blocks, place)) in
        CLIENTS.iter().flat_map(|clients| PLACES.map(|place| (*clients, place)))
    {
        let rate = rate(blocks, records.as_deref(), clients, span).await?;
        println!("{clients:>5} clients, state machine {place}: {rate:>9.0} writes/s");
    }
    Ok(())
}

/// Writes per second of a cluster of its own, because the log is kept in memory.
async fn rate(
    blocks: Option<bool>,
    records: Option<&Path>,
    clients: usize,
    span: Duration,
) -> Result<f64, Box<dyn Error + Send + Sync>> {
    let nodes = cluster(blocks, records).await?;
    let leader = leader(&nodes).await?;
    measure(leader, clients, span / 4).await?;
    let (writes, elapsed) = measure(leader, clients, span).await?;
    for node in nodes {
        node.shutdown().await;
    }
    Ok(f64::from(writes) / elapsed.as_secs_f64())
}

/// What recording costs: pairs of clusters, one of which records. Which is first takes turns, too.
async fn compare(
    records: &Path,
    rounds: usize,
    span: Duration,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let (mut with, mut without) = (0.0, 0.0);
        for second in [false, true] {
            if second == (round % 2 == 0) {
                with = rate(None, Some(records), COMPARED_CLIENTS, span).await?;
            } else {
                without = rate(None, None, COMPARED_CLIENTS, span).await?;
            }
        }
        let ratio = with / without;
        println!("round {round:>3}: {with:>9.0} writes/s recorded, {without:>9.0} not: {ratio:.3}");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    let part = |of_four: usize| {
        ratios.get((ratios.len() * of_four / 4).min(ratios.len().saturating_sub(1)))
    };
    if let (Some(low), Some(median), Some(high)) = (part(1), part(2), part(3)) {
        println!(
            "recorded / not recorded at {COMPARED_CLIENTS} clients: {median:.3} at the median, half of {rounds} rounds from {low:.3} to {high:.3}"
        );
    }
    Ok(())
}

async fn cluster(
    blocks: Option<bool>,
    records: Option<&Path>,
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
