//! State machines that keep their state on a disk of their own.

use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use crate::node::{start, until};
use bytes::Bytes;
use raft_core::host::{BackupError, Capture, InProcessNetwork, MemoryJournal, StateMachine};
use raft_core::{Config, Index, NodeId};

/// Commands with their indexes, as the disk has them, and how many were new.
#[derive(Clone, Default)]
struct OnDisk(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    applied: Vec<(Index, Bytes)>,
    /// How many commands were there when the state machine was told that it has caught up.
    caught_up_at: Vec<usize>,
}

impl StateMachine for OnDisk {
    type Reply = usize;

    fn apply(&mut self, index: Index, command: Bytes) -> usize {
        let mut stored = self.0.lock().unwrap();
        stored.applied.push((index, command));
        stored.applied.len()
    }

    fn applied_index(&self) -> Index {
        self.0.lock().unwrap().applied.last().map_or(Index::ZERO, |(index, _)| *index)
    }

    fn snapshot(&self) -> Option<Capture> {
        let applied = self.0.lock().unwrap().applied.clone();
        Some(Box::new(move |out| {
            applied.iter().try_for_each(|(index, command)| {
                out.write_all(&index.get().to_le_bytes())?;
                out.write_all(&(command.len() as u64).to_le_bytes())?;
                out.write_all(command)
            })
        }))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        snapshot.read_to_end(&mut bytes)?;
        let (mut rest, mut applied) = (&bytes[..], Vec::new());
        let number = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().unwrap());
        while !rest.is_empty() {
            let (index, length) = (number(rest), number(&rest[8..]) as usize);
            applied.push((Index::new(index), Bytes::copy_from_slice(&rest[16..16 + length])));
            rest = &rest[16 + length..];
        }
        self.0.lock().unwrap().applied = applied;
        Ok(())
    }

    fn caught_up(&mut self) {
        let mut stored = self.0.lock().unwrap();
        let applied = stored.applied.len();
        stored.caught_up_at.push(applied);
    }
}

/// The same state machine, which says nothing of a disk.
struct InMemory(OnDisk);

impl StateMachine for InMemory {
    type Reply = usize;

    fn apply(&mut self, index: Index, command: Bytes) -> usize {
        self.0.apply(index, command)
    }

    fn snapshot(&self) -> Option<Capture> {
        self.0.snapshot()
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        self.0.restore(snapshot)
    }
}

/// A restart replays the log. The commands that the state includes do not come again, those that a
/// crash took from the state do, and what comes then is new.
#[test]
fn replay_applies_nothing_twice() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let (journal, disk) = (MemoryJournal::new(), OnDisk::default());
    let raft = Config::new(NodeId::new(1), [NodeId::new(1)]);
    for (life, command) in ["one", "two", "three"].into_iter().enumerate() {
        let node = start(raft.clone(), &hub, journal.clone(), disk.clone()).unwrap();
        node.lead().wait().unwrap();
        assert_eq!(node.propose(command).wait().unwrap(), life + 1);
        node.shutdown().wait();
        if life == 1 {
            disk.0.lock().unwrap().applied.pop();
        }
    }
    let stored = disk.0.lock().unwrap();
    let commands: Vec<_> = stored.applied.iter().map(|(_, command)| &command[..]).collect();
    assert_eq!(commands, [&b"one"[..], b"two", b"three"]);
    assert_eq!(stored.caught_up_at, [0, 1, 2], "once in each life, before what is new");
}

/// While the log is replayed, the state may be ahead of the entries that were handed out. A
/// snapshot of it under the name of such an entry would have later entries applied twice.
#[test]
fn no_snapshot_is_named_after_an_entry_that_the_state_is_ahead_of() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let (journal, disk) = (MemoryJournal::new(), OnDisk::default());
    let whole = Config::new(NodeId::new(1), [NodeId::new(1)]);
    let node = start(whole.clone(), &hub, journal.clone(), disk.clone()).unwrap();
    node.lead().wait().unwrap();
    for command in ["one", "two", "three", "four", "five", "six", "seven", "eight"] {
        node.propose(command).wait().unwrap();
    }
    node.shutdown().wait();
    // Entry by entry, with a snapshot in the middle of the replay.
    let stepwise = Config {
        apply_bytes_max: 1,
        inflight_applies_max: 1,
        snapshot_log_entries: 7,
        ..whole.clone()
    };
    let node = start(stepwise, &hub, journal.clone(), disk.clone()).unwrap();
    node.lead().wait().unwrap();
    node.propose("nine").wait().unwrap();
    until("a snapshot", || node.status().wait().unwrap().raft.snapshot.index > Index::ZERO);
    node.shutdown().wait();
    // A server that keeps its state in memory gets that snapshot.
    let other = OnDisk::default();
    let node = start(whole, &hub, journal, InMemory(other.clone())).unwrap();
    node.lead().wait().unwrap();
    node.propose("ten").wait().unwrap();
    node.shutdown().wait();
    let expected = disk.0.lock().unwrap().applied.clone();
    let applied = other.0.lock().unwrap().applied.clone();
    assert_eq!(applied[..applied.len() - 1], expected);
}

/// The same for a backup of a server that waits for a quorum to go on with its log.
#[test]
fn no_backup_is_named_after_an_entry_that_the_state_is_ahead_of() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let voters = [1, 2].map(NodeId::new);
    let journals = [MemoryJournal::new(), MemoryJournal::new()];
    let disk = OnDisk::default();
    let begin = |own: usize, machine: OnDisk| {
        let raft = Config::new(voters[own], voters);
        start(raft, &hub, journals[own].clone(), machine).unwrap()
    };
    let nodes = [begin(0, disk.clone()), begin(1, OnDisk::default())];
    let propose = |command: &'static str| {
        until("a leader that commits", || {
            nodes.iter().any(|node| node.propose(command).wait().is_ok())
        });
    };
    propose("one");
    until("a snapshot", || nodes[0].take_snapshot().wait().is_ok());
    propose("two");
    until("it is applied", || {
        disk.0.lock().unwrap().applied.iter().any(|(_, command)| command == "two")
    });
    for node in nodes {
        node.shutdown().wait();
    }
    let alone = begin(0, disk);
    let error = alone.backup_local().wait().unwrap_err();
    assert!(matches!(error, BackupError::NotReady), "{error}");
}
