//! A counter service: three nodes agree on one number, and clients on TCP add to it, by any node.
//!
//! Each node has a journal on disk, a Raft port and a client port, all in this process; nothing
//! changes if each has a machine. A client sends lines, `add 5` or `get`, and gets a line for each.
//!
//! `cargo run -p raft-threads --example threads_counter` adds by itself, stops the leader, and goes
//! on. With `serve`, it waits for you: `nc 127.0.0.1 7101`.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use raft_threads::raft_core::host::FileJournal;
use raft_threads::{
    ClusterId, Config, Index, Node, NodeConfig, NodeId, ProposeError, ReadError, StateMachine,
    WaitError, tcp,
};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

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

Usage: threads_counter [serve]

  serve  wait for clients on ports 7101 to 7103, instead of a demonstration";

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("threads_counter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let serve = std::env::args().nth(1).as_deref() == Some("serve");
    let journals = std::env::temp_dir().join(format!("raft-counter-{}", std::process::id()));
    let mut raft_ports = Vec::new();
    for id in 1..=3 {
        raft_ports.push((NodeId::new(id), TcpListener::bind("127.0.0.1:0")?));
    }
    let mut peers = Vec::new();
    for (id, listener) in &raft_ports {
        peers.push((*id, listener.local_addr()?));
    }
    let mut nodes = Vec::new();
    let mut client_ports = Vec::new();
    for (id, listener) in raft_ports {
        let port = if serve { 7100 + u16::try_from(id.get())? } else { 0 };
        client_ports.push(TcpListener::bind(("127.0.0.1", port))?);
        let directory = journals.join(id.to_string());
        nodes.push(start(id, listener, &peers, FileJournal::open(directory, CLUSTER, id)?)?);
    }
    let mut services = Vec::new();
    for (listener, node) in client_ports.into_iter().zip(&nodes) {
        services.push(listener.local_addr()?);
        let node = node.clone();
        thread::spawn(move || serve_clients(&listener, &node));
    }
    println!("three counters listen at {services:?}");
    if serve {
        println!("stopped: {}", nodes[0].stopped().wait());
    } else {
        demonstrate(&nodes, &services)?;
    }
    nodes.iter().for_each(|node| drop(node.shutdown().wait()));
    std::fs::remove_dir_all(journals)?;
    Ok(())
}

const CLUSTER: ClusterId = ClusterId::new(1);

fn start(
    id: NodeId,
    listener: TcpListener,
    peers: &[(NodeId, SocketAddr)],
    journal: FileJournal,
) -> Result<Node<Counter>, Box<dyn Error>> {
    let addresses = peers.iter().map(|(id, address)| (*id, address.to_string()));
    let transport = tcp::Transport::new(listener, addresses, tcp::Config::default())?;
    let raft = Config::new(id, peers.iter().map(|(id, _)| *id));
    Ok(Node::start(NodeConfig::new(CLUSTER, raft), Counter(0), journal, transport)?)
}

fn serve_clients(listener: &TcpListener, node: &Node<Counter>) {
    for stream in listener.incoming().flatten() {
        let node = node.clone();
        thread::spawn(move || serve_client(stream, &node));
    }
}

/// Answers each line until the client goes.
fn serve_client(mut stream: TcpStream, node: &Node<Counter>) -> Option<()> {
    let lines = BufReader::new(stream.try_clone().ok()?).lines();
    for line in lines {
        let answer = answer(&line.ok()?, node);
        writeln!(stream, "{answer}").ok()?;
    }
    Some(())
}

fn answer(line: &str, node: &Node<Counter>) -> String {
    if line == "get" {
        return match node.read(|counter| counter.0).wait_timeout(PATIENCE) {
            Ok(count) => format!("count {count}"),
            Err(WaitError::Answered(ReadError::NoLeader)) => ask(None),
            Err(error) => format!("error: {error}"),
        };
    }
    let Some(number) = line.strip_prefix("add ").and_then(|number| number.parse::<u64>().ok())
    else {
        return "error: say `get` or `add`, a space and a number".to_owned();
    };
    match node.propose(number.to_le_bytes().to_vec()).wait_timeout(PATIENCE) {
        Ok(count) => format!("count {count}"),
        Err(WaitError::Answered(ProposeError::NotLeader { leader, .. })) => ask(leader),
        // A client that adds again after this might add twice: it has to decide.
        Err(error) => format!("error: {error}"),
    }
}

fn ask(leader: Option<NodeId>) -> String {
    leader.map_or("ask later".to_owned(), |leader| format!("ask {leader}"))
}

/// Adds by the first node that says it leads, stops that one, and reads from the next.
fn demonstrate(nodes: &[Node<Counter>], services: &[SocketAddr]) -> Result<(), Box<dyn Error>> {
    for number in 1..=10 {
        let (_, answer) = ask_around(services, &format!("add {number}"))?;
        println!("add {number}: {answer}");
    }
    let (leader, _) = ask_around(services, "get")?;
    println!("node {} leads, and is stopped: {}", leader + 1, nodes[leader].shutdown().wait());
    let (leader, answer) = ask_around(services, "get")?;
    println!("node {} leads now: {answer}", leader + 1);
    assert_eq!(answer, "count 55");
    Ok(())
}

/// Asks the nodes in turn until one of them knows, and says which.
fn ask_around(services: &[SocketAddr], line: &str) -> Result<(usize, String), Box<dyn Error>> {
    loop {
        for (position, service) in services.iter().enumerate() {
            let mut stream = TcpStream::connect(service)?;
            writeln!(stream, "{line}")?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer)?;
            if answer.starts_with("count") {
                return Ok((position, answer.trim_end().to_owned()));
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}
