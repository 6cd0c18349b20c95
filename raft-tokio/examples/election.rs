//! An election and nothing else: of three workers, one works at a time. No commands, no state.
//!
//! The term of the [`Lead`](raft_tokio::Lead) is a fencing token: it rises with each leader, so a
//! store that remembers the highest it has seen refuses a worker that was cut off, and does not
//! know yet that it was replaced.
//!
//! `cargo run -p raft-tokio --example election`

use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::{
    ClusterId, Config, Index, MemoryJournal, Node, NodeConfig, NodeId, StateMachine, Stopped, Term,
    channel,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

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

Usage: election";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("election: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let ids = [1, 2, 3].map(NodeId::new);
    let network = channel::Network::new(1);
    let store = Arc::new(Mutex::new(Store::default()));
    let (tired, mut tired_workers) = mpsc::unbounded_channel();
    let (mut nodes, mut workers) = (Vec::new(), JoinSet::new());
    for id in ids {
        let config = NodeConfig::new(ClusterId::new(1), Config::new(id, ids));
        let node = Node::start(config, Nothing, MemoryJournal::new(), network.endpoint(id)).await?;
        nodes.push(node.clone());
        workers.spawn(work_when_leading(id, node, Arc::clone(&store), tired.clone()));
    }
    for _ in 0..3 {
        let Some(id) = tired_workers.recv().await else { break };
        println!("-- the cable of node {id} is cut, and all others are mended");
        network.heal();
        network.isolate(id);
    }
    // The last one's successor.
    tired_workers.recv().await;
    for node in nodes {
        node.shutdown().await;
    }
    while let Some(worker) = workers.join_next().await {
        assert!(worker?.is_err(), "a worker ends with its node");
    }
    Ok(())
}

/// Works while its node leads, and waits while it does not, until the node stops.
async fn work_when_leading(
    id: NodeId,
    node: Node<Nothing>,
    store: Arc<Mutex<Store>>,
    tired: mpsc::UnboundedSender<NodeId>,
) -> Result<(), Stopped> {
    loop {
        let lead = node.lead().await?;
        println!("node {id} leads, its token is {}", lead.term());
        let mut works = 0;
        while lead.is_leading() {
            match store.lock().expect("no worker panics").work(lead.term()) {
                Ok(done) => println!("node {id} did work {done}"),
                Err(newest) => println!("node {id} was refused: token {newest} has been seen"),
            }
            works += 1;
            if works == WORKS {
                let _ = tired.send(id);
            }
            // The pause until the next work ends early when the lead is lost.
            let _ = timeout(PAUSE, lead.lost()).await;
        }
        println!("node {id} leads no more");
    }
}
