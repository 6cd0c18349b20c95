//! What typed commands and client sessions cost: writes per second of 64 clients, three nodes in
//! this process, journals in memory. Each command has bytes of its own, as those of real clients.
//! The four ways take turns, so that a busy machine treats them alike; the ratios are of the
//! medians.
//!
//! `cargo run --release -p raft-tokio --example service_throughput -- [turns]`

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_tokio::{
    Client, ClusterId, Config, Index, MemoryJournal, Node, NodeConfig, NodeId, Sessions,
    StateMachine, Typed, TypedStateMachine, channel,
};
use tokio::task::JoinSet;

const CLIENTS: usize = 64;
const SPAN: Duration = Duration::from_millis(700);
const HELP: &str = "What typed commands and client sessions cost.

Usage: service_throughput [TURNS]

  TURNS  how often each way has its turn of 700 ms (default: 7)";

/// Commands of 16 bytes that are counted, as bytes and as two numbers.
struct Count(u64);

impl StateMachine for Count {
    type Reply = u64;

    fn apply(&mut self, _index: Index, _command: Bytes) -> u64 {
        self.0 += 1;
        self.0
    }
}

impl TypedStateMachine for Count {
    type Command = (u64, u64);
    type Reply = u64;
    type Snapshot = ();

    fn apply(&mut self, _index: Index, _command: (u64, u64)) -> u64 {
        self.0 += 1;
        self.0
    }

    fn snapshot(&self) -> Option<()> {
        None
    }

    fn restore(&mut self, (): ()) {}
}

type Failure = Box<dyn Error + Send + Sync>;

/// Two numbers that take 16 bytes when they are encoded.
const COMMAND: (u64, u64) = (1 << 54, 1 << 54);

async fn run(turns: usize) -> Result<(), Failure> {
    let ways = ["bytes", "typed", "sessions over bytes", "sessions over typed"];
    let mut rates = ways.map(|_| Vec::new());
    for _ in 0..turns {
        rates[0].push(bytes().await?);
        rates[1].push(typed().await?);
        rates[2].push(sessions_over_bytes().await?);
        rates[3].push(sessions_over_typed().await?);
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let medians = rates.each_mut().map(median);
    for (way, rate) in ways.iter().zip(medians) {
        println!("{way:>20}: {rate:>9.0} writes/s, {:.2} of bytes", rate / medians[0]);
    }
    Ok(())
}

async fn bytes() -> Result<f64, Failure> {
    let nodes = cluster(|| Count(0)).await?;
    let command = || Bytes::copy_from_slice(b"sixteen bytes..!");
    measure(nodes, |node| Ok(node.clone()), move |node| node.propose(command())).await
}

async fn typed() -> Result<f64, Failure> {
    let nodes = cluster(|| Typed::new(Count(0))).await?;
    measure(nodes, |node| Ok(node.clone()), |node| node.propose_command(&COMMAND)).await
}

async fn sessions_over_bytes() -> Result<f64, Failure> {
    let nodes = cluster(|| Sessions::new(Count(0))).await?;
    let command = || Bytes::copy_from_slice(b"sixteen bytes..!");
    let client = |node: &Node<_>| Ok(Client::new(node, Duration::from_secs(10))?);
    measure(nodes, client, move |client| client.propose_bytes(command())).await
}

async fn sessions_over_typed() -> Result<f64, Failure> {
    let nodes = cluster(|| Sessions::new(Typed::new(Count(0)))).await?;
    let client = |node: &Node<_>| Ok(Client::new(node, Duration::from_secs(10))?);
    measure(nodes, client, |client| client.propose(&COMMAND)).await
}

/// Writes per second: each of the clients waits for its answer before it proposes again.
async fn measure<S, P, A, T, E>(
    nodes: Vec<Node<S>>,
    connect: impl FnOnce(&Node<S>) -> Result<P, Failure>,
    propose: impl Fn(&P) -> A + Send + Sync + 'static,
) -> Result<f64, Failure>
where
    S: StateMachine,
    P: Send + Sync + 'static,
    A: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
{
    let proposer = Arc::new((connect(leader(&nodes).await?)?, propose));
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let proposer = Arc::clone(&proposer);
        clients.spawn(async move {
            let mut writes = 0_u32;
            while start.elapsed() < SPAN {
                (proposer.1)(&proposer.0).await?;
                writes += 1;
            }
            Ok::<_, E>(writes)
        });
    }
    let mut writes = 0;
    while let Some(client) = clients.join_next().await {
        writes += client??;
    }
    let rate = f64::from(writes) / start.elapsed().as_secs_f64();
    for node in nodes {
        node.shutdown().await;
    }
    Ok(rate)
}

async fn cluster<S: StateMachine>(machine: impl Fn() -> S) -> Result<Vec<Node<S>>, Failure> {
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
        nodes.push(
            Node::start(config, machine(), MemoryJournal::new(), network.endpoint(id)).await?,
        );
    }
    Ok(nodes)
}

async fn leader<S: StateMachine>(nodes: &[Node<S>]) -> Result<&Node<S>, Failure> {
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

#[tokio::main]
async fn main() -> ExitCode {
    let turns = match std::env::args().nth(1).as_deref() {
        None => 7,
        Some(text) => match text.parse() {
            Ok(turns @ 1..) => turns,
            _ => {
                println!("{HELP}");
                return ExitCode::from(if matches!(text, "-h" | "--help") { 0 } else { 2 });
            }
        },
    };
    match run(turns).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("service_throughput: {error}");
            ExitCode::FAILURE
        }
    }
}
