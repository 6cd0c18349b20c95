//! Reads on the host: as many wait as may, whatever the state machine does meanwhile.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::node::{Map, set, start};
use bytes::Bytes;
use raft_core::host::{InProcessNetwork, MemoryJournal, Pending, ReadError, StateMachine};
use raft_core::{Config, Index, NodeId};

/// Applies nothing until it is told to go on.
struct Busy {
    goes_on: Receiver<()>,
}

impl StateMachine for Busy {
    type Reply = ();

    fn apply(&mut self, _index: Index, _command: Bytes) {
        self.goes_on.recv().unwrap();
    }
}

/// Confirmed reads count until they are served: a state machine that is busy with a command is not
/// handed more of them than may wait.
#[test]
fn reads_behind_a_busy_state_machine_are_bounded() {
    const WAITING_MAX: usize = 64;
    const ASKED: usize = 3000;
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let raft =
        Config { reads_waiting_max: WAITING_MAX, ..Config::new(NodeId::new(1), [NodeId::new(1)]) };
    let (go_on, goes_on) = mpsc::channel();
    let node = start(raft, &hub, MemoryJournal::new(), Busy { goes_on }).unwrap();
    node.lead().wait().unwrap();
    let proposed = node.propose("slow");
    let mut reads: Vec<_> = (0..WAITING_MAX).map(|_| node.read(|_| ())).collect();
    until(|| node.status().wait().unwrap().reads_queued == WAITING_MAX);
    reads.extend((WAITING_MAX..ASKED).map(|_| node.read(|_| ())));
    let status = node.status().wait().unwrap();
    assert_eq!(status.reads_waiting + status.reads_queued, WAITING_MAX);
    go_on.send(()).unwrap();
    proposed.wait().unwrap();
    let answers: Vec<_> = reads.into_iter().map(Pending::wait).collect();
    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused = answers.iter().filter(|answer| matches!(answer, Err(ReadError::Busy))).count();
    assert_eq!((served, refused), (WAITING_MAX, ASKED - WAITING_MAX));
    assert!(node.read(|_| ()).wait().is_ok(), "once some are served, others are taken");
}

/// A node that is cut off knows no leader. It reads its own state nevertheless, and one that is not
/// too old as well, if a read was confirmed in time.
#[test]
fn older_states_are_read_without_a_leader() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let ids = [1, 2, 3].map(NodeId::new);
    let start = |id| start(Config::new(id, ids), &hub, MemoryJournal::new(), Map::default());
    let nodes = ids.map(|id| start(id).unwrap());
    let count = |map: &Map| map.values.len();
    let node = &nodes[0];
    // Any node takes the command, once it knows a leader.
    until(|| node.propose_anywhere(set(1, b"one")).wait().is_ok());
    hub.isolate(NodeId::new(1));
    until(|| node.leadership().current().leader.is_none());
    assert!(node.read(count).wait().is_err());
    assert_eq!(node.read_local(count).wait().unwrap(), 1);
    assert!(node.read_stale(HOUR, count).wait().is_err(), "no read was confirmed yet");

    hub.heal();
    until(|| node.read(count).wait().is_ok());
    hub.isolate(NodeId::new(1));
    until(|| node.leadership().current().leader.is_none());
    assert_eq!(node.read_stale(HOUR, count).wait().unwrap(), 1);
    assert!(node.read_stale(Duration::ZERO, count).wait().is_err());
}

fn until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 seconds");
        thread::sleep(Duration::from_millis(1));
    }
}
