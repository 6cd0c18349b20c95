//! The host without a runtime: the loop of the guide in `host`, on a plain thread, with blocking
//! waits.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use raft_core::host::{
    ClusterId, Driver, Handle, InProcessNetwork, Journal, MemoryJournal, Next, NodeConfig,
    ProposeError, StateMachine, StopReason,
};
use raft_core::{Config, Index, NodeId};

struct Count(u64);

impl StateMachine for Count {
    type Reply = u64;

    fn apply(&mut self, _index: Index, _command: Bytes) -> u64 {
        self.0 += 1;
        self.0
    }
}

fn start(id: u64, size: u64, hub: &InProcessNetwork, journal: impl Journal) -> Handle<Count> {
    let raft = Config::new(NodeId::new(id), (1..=size).map(NodeId::new));
    let config = NodeConfig { seed: Some(1), ..NodeConfig::new(ClusterId::new(1), raft) };
    let transport = Box::new(hub.endpoint(NodeId::new(id)));
    // One wake between two waits is enough, so a full channel needs no other.
    let (waker, woken) = mpsc::sync_channel(1);
    let wake = move || {
        let _ = waker.try_send(());
    };
    let (handle, driver) =
        Driver::start(config, Count(0), Box::new(journal), transport, wake).unwrap();
    thread::spawn(move || run(driver, &woken));
    handle
}

fn run(mut driver: Driver<Count>, woken: &Receiver<()>) {
    loop {
        match driver.turn() {
            Next::Again => {}
            Next::Wait(None) => woken.recv().unwrap(),
            Next::Wait(Some(deadline)) => {
                let span = deadline.saturating_duration_since(Instant::now());
                assert_ne!(woken.recv_timeout(span), Err(RecvTimeoutError::Disconnected));
            }
            Next::Stop => return,
        }
    }
}

#[test]
fn a_node_runs_on_a_plain_thread() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let journal = MemoryJournal::new();
    let node = start(1, 1, &hub, journal.clone());
    let lead = node.lead().wait().unwrap();
    assert_eq!(node.propose("one").wait().unwrap(), 1);
    assert_eq!(node.read(|count| count.0).wait().unwrap(), 1);
    assert!(matches!(node.shutdown().wait(), StopReason::Shutdown));
    assert!(lead.lost().wait().is_err());
    assert!(node.propose("two").wait().unwrap_err().into_command().is_some());

    let again = start(1, 1, &hub, journal);
    assert!(again.lead().wait().unwrap().term() > lead.term());
    assert_eq!(again.read(|count| count.0).wait().unwrap(), 1);
}

#[test]
fn equal_seeds_make_no_equal_nodes() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let nodes = [1, 2, 3].map(|id| start(id, 3, &hub, MemoryJournal::new()));
    let watch = nodes[0].leadership();
    let mut now = watch.current();
    while now.leader.is_none() {
        now = watch.changed_from(now).wait().unwrap();
    }
    let leader = usize::try_from(now.leader.unwrap().get()).unwrap() - 1;
    nodes[leader].lead().wait().unwrap();
    let answers: Vec<_> = (0..10).map(|_| nodes[leader].propose("x")).collect();
    for (position, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.wait().unwrap(), position as u64 + 1);
    }
    let follower = &nodes[(leader + 1) % 3];
    let error = follower.propose("x").wait().unwrap_err();
    assert!(matches!(error, ProposeError::NotLeader { .. }), "{error:?}");
}
