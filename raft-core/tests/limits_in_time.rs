//! Limits in virtual time, with snapshots, disks and messages: no server is flooded, and a cluster goes on whatever its limits are.

use std::time::Duration;

use raft_core::sim::{Cluster, StateMachine};
use raft_core::{Config, Index, NodeId};

const SECOND: Duration = Duration::from_secs(1);

fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

/// Lets time pass, in which no property breaks.
fn run<S: StateMachine>(cluster: &mut Cluster<S>, span: Duration) {
    cluster.run_for(span).unwrap_or_else(|failure| panic!("{failure}"));
}

/// Runs until this holds, which it does within this time.
fn wait<S: StateMachine>(
    cluster: &mut Cluster<S>,
    span: Duration,
    holds: impl Fn(&Cluster<S>) -> bool,
) {
    let held = cluster.run_until(span, holds).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(held, "not within {span:?}");
}

fn elect<S: StateMachine>(cluster: &mut Cluster<S>) -> NodeId {
    wait(cluster, SECOND * 5, |cluster| cluster.followed_leader().is_some());
    cluster.followed_leader().expect("just seen")
}

/// A state of which nothing is kept: its snapshots have no bytes.
#[derive(Default)]
struct Nothing;

impl StateMachine for Nothing {
    type Command = Vec<u8>;
    type Query = ();
    type Reply = ();

    fn apply(&mut self, _index: Index, _command: &Vec<u8>) {}

    fn query(&self, (): &()) {}

    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }

    fn restore(&mut self, _snapshot: &[u8]) {}

    fn chunk(snapshot: &[u8]) -> Vec<u8> {
        snapshot.to_vec()
    }
}

/// A follower that needs a snapshot of no bytes gets it, whatever is lost on the way (§7).
#[test]
fn a_snapshot_of_no_bytes_reaches_a_follower() {
    for seed in 0..20 {
        let configure = |config: &mut Config| {
            config.snapshot_log_entries = 5;
            config.log_tail_bytes = 0;
        };
        let mut cluster = Cluster::<Nothing>::with(3, seed, configure);
        let leader = elect(&mut cluster);
        let behind = id(1 + leader.get() % 3);
        cluster.disconnect(behind);
        for _ in 0..20 {
            cluster.propose(leader, b"command".to_vec()).expect("it leads");
            run(&mut cluster, SECOND / 100);
        }
        let mut network = raft_core::sim::Network::reliable(SECOND / 1000);
        network.request_loss_per_mille = 300;
        network.reply_loss_per_mille = 300;
        cluster.set_network(network);
        cluster.connect(behind);
        let through = cluster.applied(leader);
        wait(&mut cluster, SECOND * 30, |cluster| cluster.applied(behind) >= through);
        assert!(cluster.counts().restores > 0);
    }
}
