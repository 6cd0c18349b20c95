//! Writes per second end to end: three nodes in this process, journals in memory, commands of 16
//! bytes; the state machine where the node finds best, on a thread, and in the node's loop; clients
//! that are a thread each, and one thread with as many commands on their way.
//!
//! A thread that waits for its own answer costs a switch of threads for each write; that, not the
//! node, is then the limit.
//!
//! The log is kept in memory, so give it no more seconds than there is room for: a second may take
//! a gigabyte.
//!
//! `cargo run --release -p raft-threads --example threads_throughput [seconds for each figure]`

use std::collections::VecDeque;
use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_threads::{
    ClusterId, Config, Index, MemoryJournal, Node, NodeConfig, NodeId, Pending, ProposeError,
    StateMachine, channel,
};

/// How many commands are on their way at a time.
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

Usage: threads_throughput [SECONDS]

  SECONDS  how long each figure is measured (default: 1)";

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("threads_throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(1), |text| text.parse())?;
    let span = Duration::from_secs(seconds);
    for (clients, (blocks, place)) in
        CLIENTS.iter().flat_map(|clients| PLACES.map(|place| (*clients, place)))
    {
        // A cluster of its own each, for the log is kept in memory.
        let nodes = cluster(blocks)?;
        let leader = nodes[0].leaderships().find_map(|now| now.leader).ok_or("it has stopped")?;
        let leader = &nodes[usize::try_from(leader.get())? - 1];
        leader.lead().wait()?;
        measure(leader, clients, 1, span / 4)?;
        for (threads, inflight) in [(clients, 1), (1, clients)] {
            let (writes, elapsed) = measure(leader, threads, inflight, span)?;
            let rate = f64::from(writes) / elapsed.as_secs_f64();
            println!(
                "{threads:>5} threads, {inflight:>4} on their way each, \
                 state machine {place}: {rate:>9.0} writes/s"
            );
        }
        nodes.iter().for_each(|node| drop(node.shutdown().wait()));
    }
    Ok(())
}

fn cluster(blocks: Option<bool>) -> Result<Vec<Node<Count>>, Box<dyn Error>> {
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
        let config = NodeConfig::new(ClusterId::new(1), raft);
        let (count, endpoint) = (Count { count: 0, blocks }, network.endpoint(id));
        nodes.push(Node::start(config, count, MemoryJournal::new(), endpoint)?);
    }
    Ok(nodes)
}

/// How many writes were answered, and in what time.
fn measure(
    leader: &Node<Count>,
    threads: usize,
    inflight: usize,
    span: Duration,
) -> Result<(u32, Duration), ProposeError> {
    let start = Instant::now();
    let client = || {
        let mut writes = 0;
        let mut waiting = VecDeque::new();
        while start.elapsed() < span {
            waiting.push_back(leader.propose(Bytes::from_static(b"sixteen bytes..!")));
            if waiting.len() == inflight {
                waiting.pop_front().map(Pending::wait).transpose()?;
                writes += 1;
            }
        }
        Ok(writes)
    };
    let writes: Result<u32, ProposeError> = thread::scope(|scope| {
        let clients: Vec<_> = (0..threads).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("no client panics")).sum()
    });
    Ok((writes?, start.elapsed()))
}
