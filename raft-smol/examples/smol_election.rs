//! An election and nothing else: of three workers, one works at a time. No commands, no state.
//!
//! The term of the [`Lead`](raft_smol::Lead) is a fencing token: it rises with each leader, so a
//! store that remembers the highest it has seen refuses a worker that was cut off, and does not
//! know yet that it was replaced.
//!
//! `cargo run -p raft-smol --example smol_election`; with `--features async-std` the same runs on
//! async-std.

use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft_smol::{
    ClusterId, Config, Index, MemoryJournal, NodeConfig, NodeId, StateMachine, StopReason, Stopped,
    Term,
};
use smol::Timer;
use smol::channel::{Sender, bounded};
use smol::future::or;

#[cfg(feature = "async-std")]
use async_std::task::{block_on, spawn};
#[cfg(feature = "async-std")]
use raft_smol::async_std::{Node, channel};
#[cfg(not(feature = "async-std"))]
use raft_smol::{Node, channel};
#[cfg(not(feature = "async-std"))]
use smol::{block_on, spawn};

/// How many times each leader works before its cable is cut.
const WORKS: usize = 3;

/// How long a worker rests between two works.
const PAUSE: Duration = Duration::from_millis(50);

/// There is nothing to agree upon but the leader.
struct Nothing;

impl StateMachine for Nothing {
    type Reply = ();

    fn apply(&mut self, _index: Index, _command: Bytes) {}
}

/// What the workers work on, somewhere outside of the cluster.
#[derive(Default)]
struct Store {
    newest: Term,
    done: usize,
}

impl Store {
    /// Does the work, unless a newer leader was here before.
    fn work(&mut self, fencing_token: Term) -> Result<usize, Term> {
        if fencing_token < self.newest {
            return Err(self.newest);
        }
        self.newest = fencing_token;
        self.done += 1;
        Ok(self.done)
    }
}

const HELP: &str = "Of three workers one works at a time; the term of its lead is a fencing token.

Usage: smol_election";

fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match block_on(run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smol_election: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let ids = [1, 2, 3].map(NodeId::new);
    let network = channel::Network::new(1);
    let store = Arc::<Mutex<Store>>::default();
    let (tired, tired_workers) = bounded(ids.len());
    let (mut nodes, mut workers) = (Vec::new(), Vec::new());
    for id in ids {
        let config = NodeConfig::new(ClusterId::new(1), Config::new(id, ids));
        let endpoint = network.endpoint(id);
        let node = Node::start(config, Nothing, MemoryJournal::new(), endpoint).await?;
        nodes.push(node.clone());
        workers.push(spawn(work_when_leading(id, node, Arc::clone(&store), tired.clone())));
    }
    for _ in 0..3 {
        let id = tired_workers.recv().await?;
        println!("-- the cable of node {id} is cut, and all others are mended");
        network.heal();
        network.isolate(id);
    }
    // The last one's successor.
    tired_workers.recv().await?;
    for node in nodes {
        node.shutdown().await;
    }
    for worker in workers {
        assert!(matches!(worker.await, Err(Stopped { reason: StopReason::Shutdown })));
    }
    Ok(())
}

/// Works while its node leads, and waits while it does not, until the node stops.
async fn work_when_leading(
    id: NodeId,
    node: Node<Nothing>,
    store: Arc<Mutex<Store>>,
    tired: Sender<NodeId>,
) -> Result<(), Stopped> {
    loop {
        let lead = node.lead().await?;
        println!("node {id} leads, its token is {}", lead.term());
        let mut works = 0;
        while lead.is_leading() {
            let worked = store.lock().expect("no worker panics").work(lead.term());
            match worked {
                Ok(done) => println!("node {id} did work {done}"),
                Err(newest) => println!("node {id} was refused: token {newest} has been seen"),
            }
            works += 1;
            if works == WORKS {
                // When the receiver is gone, all will stop soon.
                let _ = tired.try_send(id);
            }
            // The pause until the next work ends early when the lead is lost.
            let pause = async {
                Timer::after(PAUSE).await;
            };
            or(pause, async { drop(lead.lost().await) }).await;
        }
        println!("node {id} leads no more");
    }
}
