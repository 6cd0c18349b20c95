//! A counter service: three nodes agree on one number, and clients on TCP add to it, by any node.
//!
//! Each node has a journal on disk, a Raft port and a client port, all in this process; nothing
//! changes if each has a machine. A client sends lines, `add 5` or `get`, and gets a line for each.
//!
//! `cargo run -p raft-smol --example smol_counter` adds by itself, stops the leader, and goes on.
//! With `serve`, it waits for you: `nc 127.0.0.1 7101`. With `--features async-std` the same runs
//! on async-std: only two lines differ.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use raft_smol::raft_core::host::FileJournal;
use raft_smol::{
    ClusterId, Config, Index, NodeConfig, NodeId, ProposeError, ReadError, StateMachine,
};
use smol::Timer;
use smol::future::or;
use smol::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use smol::net::{TcpListener, TcpStream};
use smol::stream::StreamExt;

#[cfg(feature = "async-std")]
use async_std::task::{block_on, spawn};
#[cfg(feature = "async-std")]
use raft_smol::async_std::{Node, tcp};
#[cfg(not(feature = "async-std"))]
use raft_smol::{Node, tcp};
#[cfg(not(feature = "async-std"))]
use smol::block_on;

#[cfg(not(feature = "async-std"))]
fn spawn(task: impl Future<Output = Option<()>> + Send + 'static) {
    smol::spawn(task).detach();
}

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

const CLUSTER: ClusterId = ClusterId::new(1);

struct Counter(u64);

impl StateMachine for Counter {
    type Reply = u64;

    fn apply(&mut self, _index: Index, command: Bytes) -> u64 {
        // All nodes must do the same with a command, so one that makes no sense is worth nothing on
        // all of them.
        let number = command.as_ref().try_into().map_or(0, u64::from_le_bytes);
        self.0 = self.0.wrapping_add(number);
        self.0
    }
}

const HELP: &str = "A counter service of three nodes; clients on TCP add to it, by any node.

Usage: smol_counter [serve]

  serve  wait for clients on ports 7101 to 7103, instead of a demonstration";

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match block_on(run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smol_counter: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let serve = std::env::args().nth(1).as_deref() == Some("serve");
    let journals = std::env::temp_dir().join(format!("raft-counter-{}", std::process::id()));
    let mut raft_ports = Vec::new();
    for id in 1..=3 {
        raft_ports.push((NodeId::new(id), TcpListener::bind("127.0.0.1:0").await?));
    }
    let mut peers = Vec::new();
    for (id, listener) in &raft_ports {
        peers.push((*id, listener.local_addr()?));
    }
    let (mut nodes, mut services) = (Vec::new(), Vec::new());
    for (id, listener) in raft_ports {
        let journal = FileJournal::open(journals.join(id.to_string()), CLUSTER, id)?;
        let node = start(id, listener, &peers, journal).await?;
        let port = if serve { 7100 + u16::try_from(id.get())? } else { 0 };
        let clients = TcpListener::bind(("127.0.0.1", port)).await?;
        services.push(clients.local_addr()?);
        spawn(serve_clients(clients, node.clone()));
        nodes.push(node);
    }
    println!("three counters listen at {services:?}");
    if serve {
        println!("stopped: {}", nodes[0].stopped().await);
    } else {
        demonstrate(&nodes, &services).await?;
    }
    for node in nodes {
        node.shutdown().await;
    }
    std::fs::remove_dir_all(journals)?;
    Ok(())
}

async fn start(
    id: NodeId,
    listener: TcpListener,
    peers: &[(NodeId, SocketAddr)],
    journal: FileJournal,
) -> Result<Node<Counter>, Box<dyn Error>> {
    let addresses = peers.iter().map(|(id, address)| (*id, address.to_string()));
    let transport = tcp::Transport::new(listener, addresses, tcp::Config::default())?;
    let raft = Config::new(id, peers.iter().map(|(id, _)| *id));
    Ok(Node::start(NodeConfig::new(CLUSTER, raft), Counter(0), journal, transport).await?)
}

async fn serve_clients(listener: TcpListener, node: Node<Counter>) -> Option<()> {
    loop {
        let (stream, _) = listener.accept().await.ok()?;
        spawn(serve_client(stream, node.clone()));
    }
}

/// Answers each line until the client goes.
async fn serve_client(mut stream: TcpStream, node: Node<Counter>) -> Option<()> {
    let mut lines = BufReader::new(stream.clone()).lines();
    while let Some(line) = lines.next().await {
        let late = async {
            Timer::after(PATIENCE).await;
            "error: that took too long".to_owned()
        };
        let answer = or(answer(&line.ok()?, &node), late).await;
        stream.write_all(format!("{answer}\n").as_bytes()).await.ok()?;
    }
    Some(())
}

async fn answer(line: &str, node: &Node<Counter>) -> String {
    if line == "get" {
        return match node.read(|counter| counter.0).await {
            Ok(count) => format!("count {count}"),
            Err(ReadError::NoLeader) => ask(None),
            Err(error) => format!("error: {error}"),
        };
    }
    let Some(number) = line.strip_prefix("add ").and_then(|number| number.parse::<u64>().ok())
    else {
        return "error: say `get` or `add`, a space and a number".to_owned();
    };
    match node.propose(number.to_le_bytes().to_vec()).await {
        Ok(count) => format!("count {count}"),
        Err(ProposeError::NotLeader { leader, .. }) => ask(leader),
        // A client that adds again after this might add twice: it has to decide.
        Err(error) => format!("error: {error}"),
    }
}

fn ask(leader: Option<NodeId>) -> String {
    leader.map_or("ask later".to_owned(), |leader| format!("ask {leader}"))
}

/// Adds by the first node that says it leads, stops that one, and reads from the next.
async fn demonstrate(
    nodes: &[Node<Counter>],
    services: &[SocketAddr],
) -> Result<(), Box<dyn Error>> {
    for number in 1..=10 {
        let (_, answer) = ask_around(services, &format!("add {number}")).await?;
        println!("add {number}: {answer}");
    }
    let (leader, _) = ask_around(services, "get").await?;
    println!("node {} leads, and is stopped: {}", leader + 1, nodes[leader].shutdown().await);
    let (leader, answer) = ask_around(services, "get").await?;
    println!("node {} leads now: {answer}", leader + 1);
    assert_eq!(answer, "count 55");
    Ok(())
}

/// Asks the nodes in turn until one of them knows, and says which.
async fn ask_around(
    services: &[SocketAddr],
    line: &str,
) -> Result<(usize, String), Box<dyn Error>> {
    loop {
        for (position, service) in services.iter().enumerate() {
            let mut stream = TcpStream::connect(service).await?;
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).await?;
            if answer.starts_with("count") {
                return Ok((position, answer.trim_end().to_owned()));
            }
        }
        Timer::after(Duration::from_millis(10)).await;
    }
}
