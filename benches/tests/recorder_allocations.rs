//! What the flight recorder allocates: nothing for any input, once it is warm.

use std::future::Future as _;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use raft_core::host::recorder::RecorderConfig;
use raft_core::host::{
    ClusterId, Driver, Handle, InProcessNetwork, MemoryJournal, Next, NodeConfig, StateMachine,
};
use raft_core::{Config, Index, NodeId};

/// Calls of the loop that are counted: several buffers full of inputs, and many digests.
const TURNS: usize = 20_000;

/// Commands that are counted. What else they allocate is the same each time.
const COMMANDS: usize = 300;

/// Of so many rounds the best counts, because the journal has a thread of its own.
const ROUNDS: usize = 5;

struct Count(u64);

impl StateMachine for Count {
    type Reply = u64;

    fn apply(&mut self, _index: Index, _command: Bytes) -> u64 {
        self.0 += 1;
        self.0
    }

    fn blocks(&self) -> Option<bool> {
        Some(false)
    }
}

/// A node that is a cluster by itself, in the test's own thread.
struct Node {
    driver: Driver<Count>,
    handle: Handle<Count>,
}

impl Node {
    fn start(records: Option<&Path>) -> Self {
        let id = NodeId::new(1);
        let (network, _late) = InProcessNetwork::new(1, || {});
        // A write ahead is the loop's own. Otherwise a thread hands the buffers back, sooner or
        // later.
        let record =
            records.map(|dir| RecorderConfig { write_ahead: true, ..RecorderConfig::new(dir) });
        let config =
            NodeConfig { record, ..NodeConfig::new(ClusterId::new(1), Config::new(id, [id])) };
        let transport = Box::new(network.endpoint(id));
        let journal = Box::new(MemoryJournal::new());
        let (handle, driver) =
            Driver::start(config, Count(0), journal, transport, || {}).expect("a node");
        Self { driver, handle }
    }

    fn turn(&mut self) {
        assert!(!matches!(self.driver.turn(), Next::Stop));
    }

    /// Has so many commands applied, one after another.
    fn apply(&mut self, commands: usize) {
        for _ in 0..commands {
            let mut answer = pin!(self.handle.propose(Bytes::from_static(b"sixteen bytes..!")));
            let mut context = Context::from_waker(Waker::noop());
            while answer.as_mut().poll(&mut context).is_pending() {
                let next = self.driver.turn();
                assert!(!matches!(next, Next::Stop));
            }
        }
    }

    /// The fewest allocations of any round.
    fn count(&mut self, mut work: impl FnMut(&mut Self)) -> u64 {
        work(self);
        let rounds = (0..ROUNDS).map(|_| measure(|| work(self)).count_total);
        rounds.min().unwrap_or_default()
    }
}

#[test]
fn a_recorded_input_allocates_nothing_once_warm() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut plain = Node::start(None);
    let mut recorded = Node::start(Some(dir.path()));
    let idle = |node: &mut Node| (0..TURNS).for_each(|_| node.turn());
    assert_eq!((plain.count(idle), recorded.count(idle)), (0, 0));
    let busy = |node: &mut Node| node.apply(COMMANDS);
    let (without, with) = (plain.count(busy), recorded.count(busy));
    assert!(with <= without, "{with} allocations with a recording, {without} without");
    let bytes = std::fs::read_dir(dir.path()).expect("recordings");
    let bytes =
        bytes.map(|file| file.and_then(|file| file.metadata()).map_or(0, |data| data.len()));
    assert!(bytes.sum::<u64>() > 100_000, "this was recorded");
}
