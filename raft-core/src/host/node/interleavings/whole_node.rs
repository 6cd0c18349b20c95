//! A whole node of one voter, with all its threads, while its clients ask and it stops.
//!
//! The node reads the system's clock, so these runs do not repeat exactly.

use std::boxed::Box;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::{Bell, Count, explore_runs};
use crate::config::Config;
use crate::host::clock::Next;
use crate::host::error::{ProposeError, ReadError, StopReason};
use crate::host::identity::{ClusterId, Identity};
use crate::host::journal::MemoryJournal;
use crate::host::node::config::NodeConfig;
use crate::host::node::driver::Driver;
use crate::host::node::handle::Handle;
use crate::host::transport::{MessageInbox, Transport};
use crate::message::Message;
use crate::types::NodeId;

/// A run takes as long as an election timeout.
const RUNS: usize = 300;

/// The transport of a node without peers.
struct Nowhere;

impl Transport for Nowhere {
    fn start(&mut self, _identity: Identity, _inbox: MessageInbox) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, _message: Message<Bytes>) {}
}

fn start(journal: MemoryJournal) -> (Handle<Count>, thread::JoinHandle<()>) {
    let raft = Config {
        election_timeout_min: Duration::from_millis(1),
        election_timeout_max: Duration::from_millis(2),
        heartbeat_interval: Duration::from_micros(300),
        rank_slot: Some(Duration::from_micros(200)),
        ..Config::new(NodeId::new(1), [NodeId::new(1)])
    };
    let config = NodeConfig { seed: Some(1), ..NodeConfig::new(ClusterId::new(1), raft) };
    let bell = Arc::<Bell>::default();
    let hook = Arc::clone(&bell);
    let started =
        Driver::start(config, Count::default(), Box::new(journal), Box::new(Nowhere), move || {
            hook.ring()
        });
    let (handle, driver) = started.unwrap();
    (handle, thread::spawn(move || run(driver, &bell)))
}

fn run(mut driver: Driver<Count>, bell: &Bell) {
    loop {
        match driver.turn() {
            Next::Again => thread::yield_now(),
            Next::Wait(None) => bell.wait(),
            Next::Wait(Some(deadline)) => {
                while !bell.was_rung() && Instant::now() < deadline {
                    thread::yield_now();
                }
            }
            Next::Stop => return,
        }
    }
}

#[test]
fn every_client_of_a_node_that_stops_is_answered_and_no_thread_is_left() {
    explore_runs(RUNS, || {
        let journal = MemoryJournal::new();
        let (node, driver) = start(journal.clone());
        let writer = node.clone();
        let writer = thread::spawn(move || {
            let lead = block_on(writer.lead());
            let answers = [writer.propose("a"), writer.propose("b")];
            (lead.is_ok(), answers.map(|answer| block_on(answer)))
        });
        let reader = node.clone();
        let reader = thread::spawn(move || block_on(reader.read(|count| count.0)));
        let watch = node.leadership();
        let watch = thread::spawn(move || {
            let mut now = watch.current();
            while let Ok(next) = block_on(watch.changed_from(now)) {
                now = next;
            }
        });
        if thread_rng().r#gen() {
            let _ = block_on(node.lead());
        }
        assert!(matches!(block_on(node.shutdown()), StopReason::Shutdown));
        assert!(node.left_behind().is_empty());
        driver.join().unwrap();
        watch.join().unwrap();
        let (led, answers) = writer.join().unwrap();
        for (number, answer) in (1..).zip(answers) {
            match answer {
                Ok(count) => assert!(led && count == number, "{count}"),
                Err(ProposeError::Stopped { reason: StopReason::Shutdown, .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        match reader.join().unwrap() {
            Ok(count) => assert!(count <= 2),
            Err(
                ReadError::Stopped { reason: StopReason::Shutdown } | ReadError::NoLeader { .. },
            ) => {}
            Err(other) => panic!("{other:?}"),
        }
    });
}
