//! A journal of one's own: a node that keeps its log and its snapshots in a database of `redb`.
//!
//! The program checks the contract of the journal and of its store of snapshots first. Then a node
//! counts, takes a snapshot, and goes on after a restart.
//!
//! `cargo run -p raft-threads --example threads_redb`

use std::error::Error;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use raft_core::host::contract;
use raft_threads::{
    Capture, ClusterId, Config, Index, Journal, Node, NodeConfig, NodeId, StateMachine, channel,
};

use journal::RedbJournal;

mod journal;

/// Adds numbers.
#[derive(Default)]
struct Total(u64);

impl StateMachine for Total {
    type Reply = u64;

    fn apply(&mut self, _index: Index, command: Bytes) -> u64 {
        self.0 += command.len() as u64;
        self.0
    }

    fn snapshot(&self) -> Option<Capture> {
        let total = self.0;
        Some(Box::new(move |out| out.write_all(&total.to_le_bytes())))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut total = [0; 8];
        snapshot.read_exact(&mut total)?;
        self.0 = u64::from_le_bytes(total);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("raft-redb-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let path = directory.join("contract.redb");
    contract::journal(|| RedbJournal::open(&path).expect("it is a journal"));
    let mut journal = RedbJournal::open(&directory.join("snapshots.redb"))?;
    contract::snapshots(&*journal.snapshots().ok_or("it keeps snapshots")?);
    println!("the journal keeps its contract");

    let path = directory.join("node.redb");
    let node = start(&path)?;
    node.lead().wait()?;
    println!("adds 3: {}", node.propose("abc").wait()?);
    println!("a snapshot includes entry {}", node.take_snapshot().wait()?);
    println!("adds 2: {}", node.propose("de").wait()?);
    node.shutdown().wait();
    drop(node);

    let node = start(&path)?;
    node.lead().wait()?;
    println!("after a restart: {}", node.read(|total| total.0).wait()?);
    node.shutdown().wait();
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

/// A cluster of one.
fn start(path: &Path) -> Result<Node<Total>, Box<dyn Error>> {
    let id = NodeId::new(1);
    let config = NodeConfig::new(ClusterId::new(1), Config::new(id, [id]));
    let network = channel::Network::new(1);
    Ok(Node::start(config, Total::default(), RedbJournal::open(path)?, network.endpoint(id))?)
}
