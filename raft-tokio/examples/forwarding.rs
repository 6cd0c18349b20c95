//! What it costs to propose at a follower, which forwards to the leader: the time of a write at
//! either, and of one round trip between two sockets. Three nodes in this process, TCP over the
//! loopback, journals in memory, one write at a time. The three take turns, so that a busy machine
//! treats them alike.
//!
//! `cargo run --release -p raft-tokio --example forwarding -- [turns]`

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_tokio::{
    ClusterId, Config, Index, MemoryJournal, Node, NodeConfig, NodeId, StateMachine, tcp,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const WRITES_PER_TURN: usize = 200;
const HELP: &str = "What it costs to propose at a follower: median times over TCP.

Usage: forwarding [TURNS]

  TURNS  how often each way has its turn of 200 writes (default: 50)";

type Failure = Box<dyn Error + Send + Sync>;

/// Counts commands.
struct Count(u64);

impl StateMachine for Count {
    type Reply = u64;

    fn apply(&mut self, _index: Index, _command: Bytes) -> u64 {
        self.0 += 1;
        self.0
    }
}

async fn run(turns: usize) -> Result<(), Failure> {
    let nodes = cluster().await?;
    let (leader, follower) = roles(&nodes).await?;
    let mut echo = echo().await?;
    let (mut trips, mut at_leader, mut at_follower) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns {
        for _ in 0..WRITES_PER_TURN {
            let begun = Instant::now();
            echo.write_all(&[7; 64]).await?;
            echo.read_exact(&mut [0; 64]).await?;
            trips.push(begun.elapsed());
        }
        for (node, times) in [(leader, &mut at_leader), (follower, &mut at_follower)] {
            for _ in 0..WRITES_PER_TURN {
                let begun = Instant::now();
                node.propose_anywhere(Bytes::from_static(b"sixteen bytes..!")).await?;
                times.push(begun.elapsed());
            }
        }
    }
    let [trip, at_leader, at_follower] = [trips, at_leader, at_follower].map(median);
    println!("one round trip: {trip:?} at the median");
    println!("a write at the leader: {at_leader:?}, at a follower: {at_follower:?}");
    let more = at_follower.saturating_sub(at_leader);
    println!(
        "more at a follower: {more:?}, {:.1} round trips",
        more.as_secs_f64() / trip.as_secs_f64()
    );
    for node in nodes {
        node.shutdown().await;
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A socket whose other end sends everything back.
async fn echo() -> Result<TcpStream, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let stream = TcpStream::connect(listener.local_addr()?).await?;
    stream.set_nodelay(true)?;
    let (mut other, _) = listener.accept().await?;
    other.set_nodelay(true)?;
    tokio::spawn(async move {
        let mut bytes = [0; 64];
        while other.read_exact(&mut bytes).await.is_ok() && other.write_all(&bytes).await.is_ok() {}
    });
    Ok(stream)
}

async fn cluster() -> Result<Vec<Node<Count>>, Failure> {
    let mut listeners = Vec::new();
    for id in 1..=3 {
        listeners.push((NodeId::new(id), TcpListener::bind("127.0.0.1:0").await?));
    }
    let peers = listeners.iter().map(|(id, at)| Ok((*id, at.local_addr()?.to_string())));
    let peers = peers.collect::<Result<Vec<_>, std::io::Error>>()?;
    let mut nodes = Vec::new();
    for (id, listener) in listeners {
        let raft = Config::new(id, peers.iter().map(|(id, _)| *id));
        let config = NodeConfig::new(ClusterId::new(1), raft);
        let transport = tcp::Transport::new(listener, peers.clone(), tcp::Config::default())?;
        nodes.push(Node::start(config, Count(0), MemoryJournal::new(), transport).await?);
    }
    Ok(nodes)
}

/// The leader, and one of its followers.
async fn roles(nodes: &[Node<Count>]) -> Result<(&Node<Count>, &Node<Count>), Failure> {
    let watch = nodes[0].leadership();
    let mut now = watch.current();
    loop {
        if let Some(leader) = now.leader {
            let position = usize::try_from(leader.get())? - 1;
            nodes[position].lead().await?;
            return Ok((&nodes[position], &nodes[(position + 1) % nodes.len()]));
        }
        now = watch.changed_from(now).await?;
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let turns = match std::env::args().nth(1).as_deref() {
        None => 50,
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
            eprintln!("forwarding: {error}");
            ExitCode::FAILURE
        }
    }
}
