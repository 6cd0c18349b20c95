//! Servers whose states differ at one index are noticed, and those whose states are equal are not
//! (field bug 54).

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use crate::node::{CLUSTER, id, leader, start, until};
use bytes::Bytes;
use raft_core::host::{
    Capture, FileJournal, Handle, InProcessNetwork, MemoryJournal, NodeStatus, StateMachine,
    StopReason,
};
use raft_core::{Change, Config, Index, NodeId};

type Nodes = BTreeMap<u64, Handle<Sum>>;

/// Adds up numbers; one that is odd adds one more to each.
#[derive(Clone, Default)]
struct Sum {
    sum: u64,
    odd: u64,
}

impl StateMachine for Sum {
    type Reply = u64;

    fn apply(&mut self, _index: Index, command: Bytes) -> u64 {
        let number = u64::from_le_bytes(*command.first_chunk().unwrap());
        self.sum = self.sum.wrapping_add(number).wrapping_add(self.odd);
        self.sum
    }

    fn digest(&self) -> Option<u64> {
        Some(self.sum)
    }

    fn snapshot(&self) -> Option<Capture> {
        let sum = self.sum;
        Some(Box::new(move |out| out.write_all(&sum.to_le_bytes())))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut sum = [0; 8];
        snapshot.read_exact(&mut sum)?;
        self.sum = u64::from_le_bytes(sum);
        Ok(())
    }
}

fn raft(own: u64, voters: &[u64]) -> Config {
    Config {
        snapshot_log_bytes: 64 << 10,
        log_tail_bytes: 4 << 10,
        election_timeout_min: Duration::from_millis(500),
        election_timeout_max: Duration::from_millis(1000),
        ..Config::new(id(own), voters.iter().copied().map(NodeId::new))
    }
}

fn status(node: &Handle<Sum>) -> NodeStatus {
    node.status().wait().unwrap()
}

/// Replicates numbers of a kilobyte, each once or, if leadership changes, more often.
fn add(nodes: &Nodes, numbers: u64) {
    for number in 1..=numbers {
        let command = Bytes::from([&number.to_le_bytes()[..], &[0; 1000]].concat());
        let propose = || nodes[&leader(nodes)].propose(command.clone());
        while propose().wait().is_err() {}
    }
}

/// Waits until leaders have compared so many more digests.
fn until_compared(nodes: &Nodes, more: u64) {
    let compared = || nodes.values().map(|node| status(node).states_compared).sum::<u64>();
    let goal = compared() + more;
    until("a comparison", || {
        add(nodes, 10);
        compared() >= goal
    });
}

fn assert_no_difference(nodes: &Nodes) {
    for node in nodes.values() {
        assert_eq!(status(node).state_differences, []);
    }
}

#[test]
fn a_server_whose_state_differs_is_named_on_both_ends() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let mut nodes = BTreeMap::new();
    for own in 1..=3 {
        let sum = Sum { odd: u64::from(own == 3), ..Sum::default() };
        let node = start(raft(own, &[1, 2, 3]), &hub, MemoryJournal::new(), sum).unwrap();
        nodes.insert(own, node);
    }
    until("a leader that is not odd", || {
        leader(&nodes) != 3 || {
            let moved = nodes[&3].transfer_leadership(Some(id(1)));
            moved.wait().is_ok() && leader(&nodes) != 3
        }
    });
    until("both ends know", || {
        add(&nodes, 10);
        let leads = leader(&nodes);
        let knows = |own: &u64, peer: u64| {
            let status = status(&nodes[own]);
            status.state_differences.iter().any(|difference| {
                assert_ne!(difference.own, difference.theirs);
                difference.peer == id(peer)
            })
        };
        leads != 3 && knows(&leads, 3) && knows(&3, leads)
    });
    // The two that agree do not accuse each other, and the cluster goes on.
    for (own, other) in [(1, 2), (2, 1)] {
        let differences = status(&nodes[&own]).state_differences;
        assert!(differences.iter().all(|difference| difference.peer != id(other)));
    }
    add(&nodes, 1);
    assert!(nodes.values().all(|node| node.stop_reason().is_none()));
}

fn open(directory: &Path, own: u64) -> FileJournal {
    let journal = FileJournal::open(directory.join(own.to_string()), CLUSTER, id(own)).unwrap();
    journal.with_segment_bytes_max(64 << 10)
}

#[test]
fn equal_states_are_equal_over_restarts_installs_and_restores() {
    let directory = tempfile::tempdir().unwrap();
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let start_one = |own: u64, voters: &[u64]| {
        start(raft(own, voters), &hub, open(directory.path(), own), Sum::default()).unwrap()
    };
    let mut nodes: Nodes = (1..=3).map(|own| (own, start_one(own, &[1, 2, 3]))).collect();
    until_compared(&nodes, 4);
    assert_no_difference(&nodes);
    // Each restarts in turn: from the log alone, or from a snapshot and what follows.
    for own in 1..=3 {
        let node = nodes.remove(&own).unwrap();
        if own != 2 {
            node.take_snapshot().wait().unwrap();
        }
        assert!(matches!(node.shutdown().wait(), StopReason::Shutdown));
        add(&nodes, 10);
        nodes.insert(own, start_one(own, &[1, 2, 3]));
        until_compared(&nodes, 4);
        assert_no_difference(&nodes);
    }
    // A new server catches up by a snapshot.
    add(&nodes, 200);
    let joins = start_one(4, &[]);
    let change = nodes[&leader(&nodes)].change_membership(vec![Change::add_learner(id(4), "")]);
    change.wait_timeout(Duration::from_secs(30)).unwrap();
    nodes.insert(4, joins);
    until("a snapshot", || status(&nodes[&4]).raft.snapshot.index.get() > 0);
    until_compared(&nodes, 8);
    assert_no_difference(&nodes);
}
