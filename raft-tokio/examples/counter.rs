//! The smallest cluster: three nodes in this process agree upon a counter, lose their leader, and
//! go on counting.
//!
//! `cargo run -p raft-tokio --example counter`

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use raft_tokio::{
    ClusterId, Config, Index, MemoryJournal, Node, NodeConfig, NodeId, StateMachine, channel,
};

/// What is replicated: each command adds one.
struct Counter(u64);

impl StateMachine for Counter {
    type Reply = u64;

    fn apply(&mut self, _index: Index, _command: Bytes) -> u64 {
        self.0 += 1;
        self.0
    }
}

const HELP: &str =
    "Three nodes in this process agree upon a counter, lose their leader, and go on counting.

Usage: counter";

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("counter: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let network = channel::Network::new(1);
    let ids = [1, 2, 3].map(NodeId::new);
    let mut nodes = Vec::new();
    for id in ids {
        let config = NodeConfig::new(ClusterId::new(1), Config::new(id, ids));
        let transport = network.endpoint(id);
        nodes.push(Node::start(config, Counter(0), MemoryJournal::new(), transport).await?);
    }

    let leader = leader_of(&nodes).await?;
    for _ in 0..3 {
        println!("node {} counts {}", ids[leader], nodes[leader].propose("count").await?);
    }

    println!("node {} is cut off", ids[leader]);
    network.isolate(ids[leader]);
    let start = Instant::now();
    let others: Vec<_> = (0..3).filter(|position| *position != leader).collect();
    let rest: Vec<_> = others.iter().map(|position| nodes[*position].clone()).collect();
    let new = others[leader_of(&rest).await?];
    let count = nodes[new].propose("count").await?;
    println!("node {} counts {count}, {:.1?} later", ids[new], start.elapsed());

    network.heal();
    println!("node {} reads {}", ids[new], nodes[new].read(|counter| counter.0).await?);
    for node in nodes {
        node.shutdown().await;
    }
    Ok(())
}

/// Waits until one of the nodes leads, and says which.
async fn leader_of(nodes: &[Node<Counter>]) -> Result<usize, Box<dyn Error>> {
    let (sender, mut leaders) = tokio::sync::mpsc::channel(nodes.len());
    for (position, node) in nodes.iter().cloned().enumerate() {
        let sender = sender.clone();
        tokio::spawn(async move {
            // The second caller finds no one waiting.
            if node.lead().await.is_ok() {
                let _ = sender.send(position).await;
            }
        });
    }
    leaders.recv().await.ok_or_else(|| "all nodes have stopped".into())
}
