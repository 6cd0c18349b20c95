//! Elections: the classic laboratory's part A in real time, and leaders that end.

use std::thread;
use std::time::{Duration, Instant};

use raft_core::host::StopReason;
use rand_core::Rng;
use rand_pcg::Pcg32;

use crate::cluster::{Cluster, Stage, patient};
use crate::runner::disturbed;

/// Longer than the longest election timeout of the clusters here.
const WHILE: Duration = Duration::from_millis(800);

/// One leader, whose term all agree on, and none other while nothing fails.
pub(crate) fn initial_election(stage: Stage) {
    let cluster = stage.cluster_with(5, patient);
    let leader = cluster.elect();
    assert_steady(&cluster, leader);
}

/// The leader is cut off, and there is a new one; the old one returns, and the new one still leads;
/// without a quorum nobody leads; with one there is a leader again, whom the last to return does
/// not disturb.
pub(crate) fn re_election(stage: Stage) {
    let mut cluster = stage.cluster_with(3, patient);
    let first = cluster.elect();
    cluster.isolate(first);
    let second = cluster.elect();
    assert_ne!(first, second);

    cluster.rejoin(first);
    if cluster.elect() != second {
        disturbed("the one that returned made another leader");
    }
    assert_steady(&cluster, second);

    let other = cluster.others(&[first, second])[0];
    cluster.isolate(second);
    cluster.isolate(other);
    cluster.await_no_leader();
    let start = Instant::now();
    while start.elapsed() < WHILE {
        assert!(cluster.nobody_leads(), "leads without a quorum");
        thread::sleep(Duration::from_millis(2));
    }

    cluster.rejoin(other);
    let third = cluster.elect();
    cluster.rejoin(second);
    if cluster.elect() != third {
        disturbed("the last one to return made another leader");
    }
}

/// Three random servers of seven are cut off, and there is one leader among the rest, each time.
pub(crate) fn many_elections(stage: Stage) {
    let mut cluster = stage.cluster(7);
    let mut rng = Pcg32::new(1, 1);
    for _ in 0..4 {
        let mut away = cluster.all();
        while away.len() > 3 {
            let drawn = rng.next_u32() as usize % away.len();
            away.swap_remove(drawn);
        }
        away.iter().for_each(|position| cluster.isolate(*position));
        let leader = cluster.elect();
        assert!(!away.contains(&leader));
        away.iter().for_each(|position| cluster.rejoin(*position));
        cluster.elect();
    }
}

/// The leader is shut down, again and again; nothing is lost, and each comes back to the same
/// place.
pub(crate) fn election_after_a_shutdown(stage: Stage) {
    let mut cluster = stage.cluster(3);
    cluster.propose("one");
    for command in ["two", "three"] {
        let old = cluster.elect();
        let reason = cluster.nodes[old].shutdown().wait("the end of the leader");
        assert!(matches!(reason, StopReason::Shutdown), "{reason}");
        let rest = cluster.others(&[old]);
        let new = cluster.elect_among(&rest);
        assert_ne!(new, old);
        cluster.propose_among(&rest, command);
        cluster.restart(old);
    }
    assert_eq!(cluster.agreed(), ["one", "two", "three"]);
    cluster.shutdown();
}

/// The leader's disk fails: it stops and says so, and another one leads.
pub(crate) fn election_after_a_failed_journal(stage: Stage) {
    let mut cluster = stage.cluster(3);
    cluster.propose("before");
    let old = cluster.elect();
    cluster.journals[old].fail();
    // Its own copy is not needed for a majority, so this may be answered all the same.
    let last = cluster.nodes[old].propose("between".into());
    let reason = cluster.nodes[old].stopped().wait("the end of the leader");
    assert!(matches!(reason, StopReason::JournalFailed(_)), "{reason}");
    let _ = last.wait("an answer");
    cluster.propose_among(&cluster.others(&[old]), "after");
    cluster.restart(old);
    let commands = cluster.agreed();
    assert_eq!(
        (&*commands[0], commands.last().map(|last| &**last)),
        (&b"before"[..], Some(&b"after"[..]))
    );
}

/// Nothing changes for a while.
fn assert_steady(cluster: &Cluster, leader: usize) {
    let term = cluster.leadership(leader).term;
    let start = Instant::now();
    while start.elapsed() < WHILE {
        let same = cluster.leadership(leader).term == term;
        if !same || cluster.leader_of(&cluster.all()) != Some(leader) {
            disturbed("an election though nothing failed");
        }
        thread::sleep(Duration::from_millis(2));
    }
}
