//! How late a task that waits for a moment wakes: messages that a network must deliver after 1 to
//! 10 ms, and when they come.
//!
//! `cargo run --release -p raft-tokio --example lateness`

use std::error::Error;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use raft_tokio::raft_core::host::{Identity, MessageInbox, StoreId, Transport};
use raft_tokio::raft_core::{Body, LogId, Message, RequestVote};
use raft_tokio::{ClusterId, Faults, NodeId, Term, channel};

const WAITS: u64 = 1000;

const HELP: &str = "How late a wait ends: messages that a network must deliver after 1 to 10 ms.

Usage: lateness";

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lateness: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let ids = [1, 2].map(NodeId::new);
    let network = channel::Network::new(1);
    let (sender, arrivals) = mpsc::channel();
    let mut endpoints = ids.map(|id| network.endpoint(id));
    for (node, endpoint) in ids.into_iter().zip(&mut endpoints) {
        let sender = sender.clone();
        let inbox = MessageInbox::new(move |_| {
            let _ = sender.send(Instant::now());
        });
        let store_id = StoreId::new(node.get());
        endpoint.start(Identity { cluster: ClusterId::new(1), node, store_id }, inbox)?;
    }
    let mut lateness = Vec::new();
    for wait in 0..WAITS {
        let delay = Duration::from_micros(1_000 + wait * 9);
        network.set_faults(Faults { delay_min: delay, delay_max: delay, ..Faults::default() });
        let body = Body::RequestVote(RequestVote { last_log: LogId::ZERO, transfer: false });
        let message = Message { from: ids[0], to: ids[1], term: Term::new(1), body };
        let due = Instant::now() + delay;
        endpoints[0].send(message);
        lateness.push(arrivals.recv()?.saturating_duration_since(due));
    }
    lateness.sort_unstable();
    let at = |percent: usize| lateness[(lateness.len() - 1) * percent / 100];
    println!("late by {:.0?} (p50), {:.0?} (p99), {:.0?} (max)", at(50), at(99), at(100));
    Ok(())
}
