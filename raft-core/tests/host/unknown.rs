//! Commands and snapshots that a version of the program does not understand: a server stops before
//! it skips, and goes on with a newer version on the same data (field bug 51).

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::node::{Map, leader, set, start, until};
use bytes::Bytes;
use raft_core::host::{
    Capture, Handle, InProcessNetwork, MemoryJournal, NotUnderstood, ProposeError, RestoreError,
    StartError, StateMachine, StopReason,
};
use raft_core::{Config, Index, NodeId};

/// The key of the commands that version 2 has brought.
const NEW: u64 = u64::MAX;

/// A map, and which version of the program it belongs to.
struct Versioned {
    version: u8,
    map: Map,
}

fn version(version: u8) -> Versioned {
    Versioned { version, map: Map::default() }
}

impl StateMachine for Versioned {
    type Reply = u64;

    fn understands(&self, command: &Bytes) -> Result<(), NotUnderstood> {
        if self.version < 2 && command.starts_with(&NEW.to_be_bytes()) {
            return Err(NotUnderstood::new("a command of version 2; this is version 1"));
        }
        Ok(())
    }

    fn apply(&mut self, index: Index, command: Bytes) -> u64 {
        assert!(self.understands(&command).is_ok(), "it was asked before");
        self.map.apply(index, command)
    }

    fn snapshot(&self) -> Option<Capture> {
        let (version, map) = (self.version, self.map.snapshot()?);
        Some(Box::new(move |out| {
            out.write_all(&[version])?;
            map(out)
        }))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut version = [0];
        snapshot.read_exact(&mut version)?;
        if version[0] > self.version {
            return Err(NotUnderstood::new("a snapshot of version 2; this is version 1").into());
        }
        self.map.restore(snapshot)
    }
}

/// Proposes at the current leader until the command is committed.
fn replicate(nodes: &BTreeMap<u64, Handle<Versioned>>, command: &Bytes) {
    until("a commit", || {
        let answer = nodes[&leader(nodes)].propose(command.clone());
        answer.wait().is_ok()
    });
}

#[test]
fn a_server_stops_before_a_command_that_it_does_not_know_and_goes_on_after_its_upgrade() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let journals: BTreeMap<u64, MemoryJournal> =
        (1..=3).map(|own| (own, MemoryJournal::new())).collect();
    let run = |own: u64, of: u8| {
        let raft = Config::new(NodeId::new(own), (1..=3).map(NodeId::new));
        start(raft, &hub, journals[&own].clone(), version(of)).unwrap()
    };
    let mut nodes: BTreeMap<u64, _> = (1..=2).map(|own| (own, run(own, 2))).collect();
    let old = run(3, 1);
    replicate(&nodes, &set(1, b"both know"));
    let before = nodes[&leader(&nodes)].read(|state| state.map.count).wait().unwrap();
    replicate(&nodes, &set(NEW, b"new"));
    replicate(&nodes, &set(1, b"behind it"));

    let reason = old.stopped().wait();
    let StopReason::CommandNotUnderstood { index, message } = &reason else { panic!("{reason}") };
    assert_eq!(&**message, "a command of version 2; this is version 1");
    assert!(reason.to_string().contains(&format!("index {index}")), "{reason}");

    nodes.insert(3, run(3, 2));
    let state = |node: &Handle<Versioned>| node.read(|state| state.map.clone()).wait();
    until("all commands", || state(&nodes[&3]).is_ok_and(|map| map.count > before + 1));
    let expected = state(&nodes[&leader(&nodes)]).unwrap();
    until("the same state", || state(&nodes[&3]).is_ok_and(|map| map == expected));
}

#[test]
fn a_proposer_whose_command_is_not_understood_learns_that_it_may_be_committed() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let journal = MemoryJournal::new();
    let raft = Config::new(NodeId::new(1), [NodeId::new(1)]);
    let node = start(raft.clone(), &hub, journal.clone(), version(1)).unwrap();
    node.lead().wait().unwrap();
    node.propose(set(1, b"known")).wait().unwrap();
    let error = node.propose(set(NEW, b"new")).wait().unwrap_err();
    assert!(error.may_commit(), "{error}");
    let ProposeError::Stopped { reason: StopReason::CommandNotUnderstood { .. }, .. } = error
    else {
        panic!("{error}")
    };
    node.stopped().wait();

    // It does so again, until the program knows the command.
    let again = start(raft.clone(), &hub, journal.clone(), version(1)).unwrap();
    let reason = again.stopped().wait();
    assert!(matches!(reason, StopReason::CommandNotUnderstood { .. }), "{reason}");
    let upgraded = start(raft, &hub, journal, version(2)).unwrap();
    upgraded.lead().wait().unwrap();
    assert_eq!(upgraded.read(|state| state.map.count).wait().unwrap(), 2);
}

#[test]
fn a_snapshot_of_a_newer_version_starts_no_older_one() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let journal = MemoryJournal::new();
    let raft = Config::new(NodeId::new(1), [NodeId::new(1)]);
    let node = start(raft.clone(), &hub, journal.clone(), version(2)).unwrap();
    node.lead().wait().unwrap();
    node.propose(set(NEW, b"new")).wait().unwrap();
    let taken = node.take_snapshot().wait().unwrap();
    node.shutdown().wait();

    let Err(error) = start(raft.clone(), &hub, journal.clone(), version(1)) else {
        panic!("it starts")
    };
    let StartError::Restore(RestoreError::NotUnderstood { last, message }) = &error else {
        panic!("{error}")
    };
    assert_eq!((*last, &**message), (taken, "a snapshot of version 2; this is version 1"));
    let node = start(raft, &hub, journal, version(2)).unwrap();
    node.lead().wait().unwrap();
    assert_eq!(node.read(|state| state.map.count).wait().unwrap(), 1);
}
