//! The strings of a cluster that a test holds, and what happens if they are pulled.

use std::time::Duration;

use raft_core::sim::{
    Cluster, Crash, Delay, Failure, MachinePace, Property, Registers, StateMachine, Swap,
};
use raft_core::{Change, Lease, NodeId};

/// The strings of a cluster do what they say.
#[test]
fn a_cluster_is_held_by_its_strings() {
    let second = Duration::from_secs(1);
    let mut cluster = Cluster::<Registers>::new(3, 5);
    let elected = cluster.run_until(second, |cluster| cluster.followed_leader().is_some());
    assert!(elected.expect("no violation"));
    let leader = cluster.leader().expect("just seen");

    let read = cluster.read(leader).expect("it leads");
    cluster.run_for(second).expect("no violation");
    assert!(cluster.read_end(leader, read).is_some_and(|end| end.index.is_some()));

    cluster.hold_disk(leader);
    let (_, held) = cluster.propose(leader, Swap::new(1, 1)).expect("it leads");
    cluster.run_for(Duration::from_millis(50)).expect("no violation");
    assert_eq!(cluster.pending_writes(leader), 1);
    assert!(cluster.applied(leader) < held, "applied what is not on the leader's disk");
    cluster.release_disk(leader);
    cluster.run_for(Duration::from_millis(50)).expect("no violation");
    assert_eq!((cluster.pending_writes(leader), cluster.applied(leader)), (0, held));

    cluster.disconnect(leader);
    let replaced = cluster.run_until(second, |cluster| {
        cluster.followed_leader().is_some_and(|other| other != leader)
    });
    assert!(replaced.expect("no violation"));
    cluster.connect(leader);
    let next = cluster.leader().expect("just seen");
    cluster.pause(next);
    cluster.crash(leader, Crash::Lose);
    cluster.run_for(second).expect("no violation");
    assert!(cluster.raft(leader).is_none() && cluster.followed_leader().is_none());
    cluster.start(leader);
    cluster.resume(next);
    cluster.run_for(second).expect("no violation");
    assert!(cluster.followed_leader().is_some());
}

/// A server that hears nobody is heard; all servers stand still at once and go on; a slow state
/// machine answers later.
#[test]
fn hosts_are_as_they_are_told_to_be() {
    let (second, tenth) = (Duration::from_secs(1), Duration::from_millis(100));
    let mut cluster = Cluster::<Registers>::new(3, 5);
    cluster.run_for(second).expect("no violation");
    let leader = cluster.followed_leader().expect("nothing fails");
    let deaf = cluster.ids().iter().copied().find(|id| *id != leader).expect("there are three");
    cluster.set_deaf(deaf, true);
    let (_, first) = cluster.propose(leader, Swap::new(0, 1)).expect("it leads");
    cluster.run_for(tenth).expect("no violation");
    assert!(cluster.applied(leader) >= first && cluster.applied(deaf) < first);
    cluster.set_deaf(deaf, false);
    cluster.run_for(second).expect("no violation");
    assert!(cluster.applied(deaf) >= first);

    let leader = cluster.followed_leader().expect("nothing fails");
    let pace = MachinePace { apply: Delay::Constant(tenth), restore: Delay::Constant(tenth) };
    cluster.set_machine_pace(Some(pace));
    let (_, second_index) = cluster.propose(leader, Swap::new(0, 2)).expect("it leads");
    cluster.run_for(tenth / 2).expect("no violation");
    assert!(cluster.raft(leader).expect("it runs").commit_index() >= second_index);
    assert!(cluster.applied(leader) < second_index, "it takes a tenth of a second");
    cluster.run_for(tenth).expect("no violation");
    assert!(cluster.applied(leader) >= second_index);

    cluster.ids().to_vec().into_iter().for_each(|id| cluster.pause(id));
    let messages = cluster.counts().messages;
    cluster.run_for(tenth).expect("no violation");
    assert_eq!(cluster.counts().messages, messages, "somebody did something");
    cluster.resume_all();
    cluster.run_for(second).expect("no violation");
    assert!(cluster.followed_leader().is_some());
}

/// A leader with a lease is cut off, and its clock runs at this rate; another leads and commits;
/// then the first is asked to read.
fn reads_of_a_leader_cut_off(rate_ppm: u32) -> Result<(), Box<Failure>> {
    let second = Duration::from_secs(1);
    let mut cluster = Cluster::<Registers>::with(3, 1, |config| {
        config.lease = Some(Lease { drift_ppm_max: 10_000 });
    });
    cluster.run_until(second, |cluster| cluster.followed_leader().is_some())?;
    cluster.run_for(second)?;
    let old = cluster.leader().expect("just seen");
    cluster.set_clock_rate(old, rate_ppm);
    cluster.disconnect(old);
    cluster.run_until(second, |cluster| cluster.followed_leader().is_some())?;
    let new = cluster.leader().expect("the others elect one");
    let (_, index) = cluster.propose(new, Swap::new(0, 1)).expect("it leads");
    cluster.run_until(second, |cluster| cluster.applied(new) >= index)?;
    // It may have stepped down by now, and refuse.
    let _ = cluster.read(old);
    cluster.verdict()
}

/// Lease reads are as good as the clocks: within the bound they are fresh, and beyond it the stale
/// one is seen.
#[test]
fn a_lease_is_as_good_as_the_clocks() {
    reads_of_a_leader_cut_off(995_000).expect("the clock is within its bound");
    let failure = reads_of_a_leader_cut_off(300_000).expect_err("the clock is far too slow");
    assert_eq!(failure.violation.property, Property::FreshReads, "{failure}");
}

/// New servers join and take the place of the old, by snapshots and the log behind them; and one
/// that lost its disk comes back.
#[test]
fn every_member_is_replaced() {
    let second = Duration::from_secs(1);
    let mut cluster = Cluster::<Registers>::with(3, 7, |config| {
        config.log_tail_bytes = 0;
        config.snapshot_chunk_bytes = 5;
    });
    let settled = |cluster: &Cluster<Registers>, change: &[Change]| {
        let leader = cluster.followed_leader()?;
        cluster.raft(leader)?.membership().after(change).ok().map(|_| leader)
    };
    let change = |cluster: &mut Cluster<Registers>, change: Change| {
        for _ in 0..1000 {
            let leader = settled(cluster, std::slice::from_ref(&change));
            if leader.is_some_and(|leader| {
                cluster.change_membership(leader, std::slice::from_ref(&change)).is_ok()
            }) {
                return;
            }
            cluster.run_for(Duration::from_millis(10)).expect("no violation");
        }
        panic!("nobody accepts {change:?}");
    };
    cluster.run_for(second).expect("no violation");
    for old in 1..=3 {
        let leader = cluster.followed_leader().expect("nothing fails");
        cluster.propose(leader, Swap::new(0, old)).expect("it leads");
        cluster.run_for(second).expect("no violation");
        cluster.take_snapshot(leader).expect("something was applied");
        cluster.run_for(second).expect("no violation");
        let new = cluster.start_new();
        change(&mut cluster, Change::add_learner(new, "new"));
        change(&mut cluster, Change::Promote(new));
        change(&mut cluster, Change::Remove(NodeId::new(old)));
        cluster.run_for(second).expect("no violation");
        cluster.retire(NodeId::new(old));
    }
    let leader = cluster.followed_leader().expect("the new ones elect");
    assert_eq!(cluster.machine(leader).query(&0), 3);
    assert!(cluster.counts().restores > 0);

    let lost = cluster.ids()[3..].iter().copied().find(|id| *id != leader).expect("there are two");
    let behind = cluster.applied(lost);
    cluster.take_snapshot(leader).expect("something was applied");
    cluster.run_for(second).expect("no violation");
    change(&mut cluster, Change::Remove(lost));
    cluster.run_for(second).expect("no violation");
    cluster.wipe(lost);
    cluster.start(lost);
    change(&mut cluster, Change::add_learner(lost, "again"));
    cluster.run_for(second).expect("no violation");
    assert!(cluster.applied(lost) >= behind, "it has caught up again");
}
