//! Bugs that other systems had in the field and that lie below the core, each with its number.
//! Those that have a file of their own are listed in `scenarios/README.md`.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use raft_core::host::{
    Capture, FileJournal, Handle, InProcessNetwork, MemoryJournal, ProposeError, StateMachine,
    StopReason,
};
use raft_core::{Config, Index, NodeId};

use super::operation::{Full, directory_bytes};
use crate::node::{CLUSTER, Map, leader, set, start, until};

/// The key of the command that one version of the program cannot apply.
const POISON: u64 = 9;

/// A map. One version of the program panics at the command with the key [`POISON`], a corrected
/// version answers the command and changes nothing.
struct Program {
    map: Map,
    is_corrected: bool,
}

impl StateMachine for Program {
    type Reply = u64;

    fn apply(&mut self, index: Index, command: Bytes) -> u64 {
        if command.starts_with(&POISON.to_be_bytes()) {
            assert!(self.is_corrected, "no account 9");
            return 0;
        }
        self.map.apply(index, command)
    }

    fn snapshot(&self) -> Option<Capture> {
        self.map.snapshot()
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        self.map.restore(snapshot)
    }
}

/// Field bug 56: a command that makes the state machine panic does so again after each restart. The
/// way out is in the guide (`docs/operation.md`, "A command that panics"): a corrected version on
/// the same data goes on behind that command, on every server with the same state.
#[test]
fn bug_56_a_command_that_cannot_be_applied_has_a_way_out() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let journals: BTreeMap<u64, MemoryJournal> =
        (1..=3).map(|own| (own, MemoryJournal::new())).collect();
    let run = |is_corrected: bool| -> BTreeMap<u64, Handle<Program>> {
        let node = |(own, journal): (&u64, &MemoryJournal)| {
            let raft = Config::new(NodeId::new(*own), (1..=3).map(NodeId::new));
            let program = Program { map: Map::default(), is_corrected };
            (*own, start(raft, &hub, journal.clone(), program).unwrap())
        };
        journals.iter().map(node).collect()
    };
    let panicked_at = |node: &Handle<Program>| {
        let reason = node.stopped().wait();
        let StopReason::StateMachinePanicked { index, message } = &reason else {
            panic!("{reason}")
        };
        assert!(message.contains("no account 9"), "{message}");
        *index
    };

    let nodes = run(false);
    nodes[&leader(&nodes)].propose(set(1, b"before")).wait().unwrap();
    let error = nodes[&leader(&nodes)].propose(set(POISON, b"")).wait().unwrap_err();
    assert!(error.may_commit(), "{error}");
    let first = nodes.values().map(panicked_at).max().unwrap();
    drop(nodes);

    // The same program stops at the same command.
    let again = run(false);
    again.values().for_each(|node| assert_eq!(panicked_at(node), first));
    drop(again);

    let corrected = run(true);
    let behind = || corrected[&leader(&corrected)].propose(set(2, b"behind"));
    until("a command behind it", || behind().wait().is_ok());
    let state = |own: u64| corrected[&own].read(|program| program.map.clone()).wait();
    let expected = state(leader(&corrected)).unwrap();
    assert!(!expected.values.contains_key(&POISON.to_be_bytes()));
    for own in 1..=3 {
        until("the same state", || state(own).is_ok_and(|map| map == expected));
    }
}

/// Field bug 57: snapshots fail, so nothing is compacted, and the log grows. It stops growing at
/// its limit: further commands are refused, and the node runs on. So a disk with room for the log's
/// limit and a snapshot has room for that snapshot, after which the node takes commands again.
#[test]
fn bug_57_a_log_leaves_room_for_the_first_snapshot() {
    const LOG_BYTES_MAX: usize = 256 << 10;
    const SEGMENT_BYTES_MAX: u64 = 32 << 10;
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &Path| FileJournal::open(path, CLUSTER, NodeId::new(1)).unwrap();
    let journal = open(directory.path()).with_segment_bytes_max(SEGMENT_BYTES_MAX);
    let is_full = Arc::new(AtomicBool::new(true));
    let journal = Full { journal, is_full: Arc::clone(&is_full) };
    let raft = Config {
        snapshot_log_bytes: 32 << 10,
        log_bytes_max: LOG_BYTES_MAX,
        command_bytes_max: 4 << 10,
        log_tail_bytes: 4 << 10,
        ..Config::new(NodeId::new(1), [NodeId::new(1)])
    };
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let node = start(raft, &hub, journal, Map::default()).unwrap();
    node.lead().wait().unwrap();
    let propose = |key| node.propose(set(key, &[1; 1000])).wait();

    let refused = (0..1000).map(propose).position(|reply| match reply {
        Ok(_) => false,
        Err(ProposeError::LogFull { .. }) => true,
        Err(error) => panic!("{error}"),
    });
    assert!(refused.is_some_and(|count| count > 100), "{refused:?} commands");
    let bytes = directory_bytes(directory.path());
    let bytes_max = LOG_BYTES_MAX as u64 + 4 * SEGMENT_BYTES_MAX;
    assert!(bytes < bytes_max, "{bytes} bytes of log, of {bytes_max}");
    assert!(node.stop_reason().is_none());

    is_full.store(false, Ordering::Relaxed);
    node.take_snapshot().wait().unwrap();
    until("room in the log", || propose(1).is_ok());
}
