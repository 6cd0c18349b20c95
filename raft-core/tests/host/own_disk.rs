//! State machines that keep their state on a disk of their own.

use std::sync::{Arc, Mutex};

use crate::node::start;
use bytes::Bytes;
use raft_core::host::{InProcessNetwork, MemoryJournal, StateMachine};
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

    fn caught_up(&mut self) {
        let mut stored = self.0.lock().unwrap();
        let applied = stored.applied.len();
        stored.caught_up_at.push(applied);
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
