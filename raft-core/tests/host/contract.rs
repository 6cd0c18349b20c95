//! The parts that the library brings keep the contracts of parts of one's own.

use std::time::Duration;

use raft_core::NodeId;
use raft_core::host::{ClusterId, FileJournal, InProcessNetwork, Journal, MemoryJournal, contract};

const NODE: (ClusterId, NodeId) = (ClusterId::new(1), NodeId::new(1));

#[test]
fn the_journal_in_files() {
    let directory = tempfile::tempdir().unwrap();
    contract::journal(|| FileJournal::open(directory.path(), NODE.0, NODE.1).unwrap());
}

#[test]
fn the_journal_in_memory() {
    let journal = MemoryJournal::new();
    contract::journal(|| journal.clone());
}

#[test]
fn snapshots_in_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = FileJournal::open(directory.path(), NODE.0, NODE.1).unwrap();
    journal.recover().unwrap();
    contract::snapshots(&*journal.snapshots().expect("it keeps snapshots"));
}

#[test]
fn snapshots_in_memory() {
    let mut journal = MemoryJournal::new();
    journal.recover().unwrap();
    contract::snapshots(&*journal.snapshots().expect("it keeps snapshots"));
}

#[test]
fn the_network_in_one_process() {
    let (hub, late) = InProcessNetwork::new(1, || {});
    std::thread::spawn(move || {
        loop {
            late.turn();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    contract::transport(|node| hub.endpoint(node));
}
