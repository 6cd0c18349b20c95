//! Disks that are slow, that hiccup, and that hang, under a cluster with default timeouts, in
//! virtual time. A leader that gives up a disk which still works costs an election and gains
//! nothing, for the next leader's disk has the same work. See
//! [`Config::disk_timeout`](raft_core::Config::disk_timeout).

use std::time::Duration;

use crate::pump::{Cluster, ms, seeds};
use raft_core::{NodeId, Raft, Term};

/// Seeds per test, unless the environment says otherwise.
const SEEDS: u64 = 3;

/// What all disks take in normal times.
const USUAL: Duration = ms(2);

fn newest_term(cluster: &Cluster) -> Term {
    cluster.hosts.iter().filter_map(|host| host.raft.as_ref()).map(Raft::term).max().expect("some")
}

/// Every command that a leader takes, and how many of them are committed, over this long.
fn commits_within(cluster: &mut Cluster, span: Duration, between: Duration) -> u64 {
    let end = cluster.now + span;
    let before = committed(cluster);
    while cluster.now < end {
        if let Some(leader) = cluster.leader() {
            // A leader that cannot take it says so; then the next one is asked.
            let _ = cluster.propose(leader, b"command");
        }
        cluster.run_for(between);
    }
    committed(cluster) - before
}

fn committed(cluster: &Cluster) -> u64 {
    let running = cluster.hosts.iter().filter_map(|host| host.raft.as_ref());
    running.map(|raft| raft.commit_index().get()).max().unwrap_or(0)
}

/// Every disk takes longer for a write than a follower waits for its leader.
#[test]
fn disks_slower_than_the_election_timeout_commit() {
    for seed in seeds(SEEDS) {
        for millis in [160, 250] {
            let mut cluster = Cluster::with(3, seed, |_| {});
            cluster.disk_latency = ms(millis);
            cluster.elect_within(ms(20_000));
            cluster.run_for(ms(2000));
            let term = newest_term(&cluster);
            let commits = commits_within(&mut cluster, ms(60_000), ms(20));
            assert_eq!(newest_term(&cluster), term, "seed {seed}, {millis} ms: no election");
            assert!(commits > 2500, "seed {seed}, {millis} ms: {commits} commits");
        }
    }
}

/// One sync in a thousand takes 200 ms, on every disk.
#[test]
fn a_hiccup_of_a_disk_elects_nobody() {
    for seed in seeds(SEEDS) {
        let mut cluster = Cluster::with(3, seed, |_| {});
        cluster.disk_latency = USUAL;
        cluster.elect();
        let term = newest_term(&cluster);
        let mut hiccups = 0;
        for _ in 0..15_000 {
            for id in cluster.ids() {
                let hiccup = cluster.one_in(1000);
                hiccups += u32::from(hiccup);
                cluster.host_mut(id).disk_latency = hiccup.then_some(ms(200));
            }
            let leader = cluster.leader().expect("the first leads on");
            cluster.propose(leader, b"command").expect("it leads");
            cluster.run_for(ms(20));
        }
        assert!(hiccups > 20, "seed {seed}: {hiccups} hiccups");
        assert_eq!(newest_term(&cluster), term, "seed {seed}");
    }
}

/// A disk that never answers again costs its cluster less than a second.
#[test]
fn a_disk_that_hangs_for_good_deposes_its_leader_within_a_second() {
    for seed in seeds(SEEDS) {
        let mut cluster = Cluster::with(3, seed, |_| {});
        let first = cluster.elect();
        commits_within(&mut cluster, ms(500), ms(10));
        cluster.host_mut(first).disk_stuck = true;
        cluster.propose(first, b"command").expect("it leads");
        let other = |cluster: &Cluster, id: NodeId| cluster.leader().is_some_and(|now| now != id);
        assert!(cluster.run_until(ms(600), |cluster| other(cluster, first)), "seed {seed}");
        let leader = cluster.leader().expect("just seen");
        let (_, index) = cluster.propose(leader, b"after").expect("it leads");
        assert!(cluster.run_until(ms(100), |c| c.applied_count(index, b"after") == 2));
    }
}
