//! Reads on the host: as many wait as may, whatever the state machine does meanwhile.

use std::sync::mpsc::{self, Receiver};

use crate::node::start;
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
    let reads: Vec<_> = (0..ASKED).map(|_| node.read(|_| ())).collect();
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
