//! How soon the end of a leader is noticed, and what is none. All but the first node are so patient
//! that no timeout of theirs ends within a scenario.

use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::tcp::Counters;
use raft_core::host::{NodeConfig, ProposeError, StopReason};
use runtimes::POISON;

use crate::cluster::{Cluster, Stage, id, until};
use crate::detour::Detour;
use crate::runner::disturbed;

/// The smallest election timeout of the patient: longer than anything here waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster that the first node leads.
fn led_by_the_first(stage: Stage, build: impl FnOnce(&mut Cluster)) -> Cluster {
    let mut cluster = stage.idle(3, patient_but_for_the_first);
    build(&mut cluster);
    (0..3).for_each(|position| cluster.restart(position));
    assert_eq!(cluster.elect(), 0);
    cluster.agree("before", 3);
    cluster
}

fn patient_but_for_the_first(config: &mut NodeConfig) {
    config.raft.rank_slot = Some(Duration::from_millis(20));
    if config.raft.id != id(0) {
        config.raft.election_timeout_min = PATIENCE;
        config.raft.election_timeout_max = PATIENCE + Duration::from_secs(1);
    }
}

/// Another one leads and commits, soon after this.
fn expect_another(cluster: &Cluster, since: Instant) {
    cluster.propose_among(&[1, 2], "after");
    let took = since.elapsed();
    assert!(took < PATIENCE / 2, "it took {took:?}");
}

/// The first comes back and leads again until all are told to end: a patient leader would wait for
/// long to hand over to others who end. These are the commands then.
fn end(mut cluster: Cluster) -> Vec<Bytes> {
    if cluster.nodes[0].stop_reason().is_some() {
        cluster.restart(0);
        let transferred = cluster.nodes[cluster.elect()].transfer_leadership(Some(id(0)));
        transferred.wait("an answer").expect("the first follows and lives");
    }
    let commands = cluster.agreed();
    for follower in [1, 2] {
        cluster.nodes[follower].shutdown().wait("the end of a follower");
    }
    commands
}

/// A leader's sockets are closed behind its back, as by the end of its process: those who follow
/// need no timeout to notice.
pub(crate) fn a_process_that_dies_is_noticed(stage: Stage) {
    let cluster = led_by_the_first(stage, |_| ());
    // Heartbeats bring the followers their ranks.
    let received = |counters: &Counters| counters.read().messages_received;
    let before: Vec<_> = cluster.counters.iter().map(received).collect();
    until("heartbeats", || {
        let mut followers = cluster.counters.iter().zip(&before).skip(1);
        followers.all(|(counters, before)| received(counters) > before + 2).then_some(())
    });
    let died_at = Instant::now();
    cluster.unplug(0);
    expect_another(&cluster, died_at);
    assert!(cluster.counters[1..].iter().any(|counters| counters.read().suspected > 0));
    cluster.nodes[0].shutdown().wait("the end of the unplugged");
    assert_eq!(end(cluster), ["before", "after"]);
}

/// The connections to a leader break again and again, and it is reached again each time: nobody
/// suspects it, and it leads on.
pub(crate) fn a_network_that_flaps_costs_no_election(stage: Stage) {
    const BREAKS: usize = 20;
    let mut detour = None;
    let cluster = led_by_the_first(stage, |cluster| {
        let way = detour.insert(Detour::to(cluster.address(0)));
        cluster.reach_by(0, way.address());
    });
    let detour = detour.expect("it was made above");
    let term = cluster.leadership(0).term;
    for _ in 0..BREAKS {
        let connected = || cluster.counters[1..].iter().map(|counters| counters.read().connected);
        let before: Vec<_> = connected().collect();
        detour.break_all();
        until("new connections", || {
            connected().zip(&before).all(|(now, before)| now > *before).then_some(())
        });
        // A machine so busy that this takes longer than the leader's election timeout costs it its
        // quorum; the others are more patient, and elect nobody.
        if let Err(error) = cluster.nodes[0].propose("after".into()).wait("an answer") {
            disturbed(error.to_string());
        }
    }
    for position in cluster.all() {
        assert_eq!(cluster.counters[position].read().suspected, 0, "node {}", id(position));
    }
    for position in cluster.all() {
        let now = cluster.leadership(position);
        assert_eq!((now.term, now.leader), (term, Some(id(0))), "node {}", id(position));
    }
    assert_eq!(end(cluster), ["before", "after"]);
}

/// A leader whose state machine panics hands over before it ends, and says no more than that.
pub(crate) fn a_leader_with_a_sick_state_machine_hands_over(stage: Stage) {
    let cluster = led_by_the_first(stage, |_| ());
    let term = cluster.leadership(0).term;
    cluster.probes[0].poison();
    let fell_ill_at = Instant::now();
    let proposed = cluster.nodes[0].propose(POISON.into());
    let error = proposed.wait("an answer").expect_err("nobody applied it here");
    assert!(matches!(error, ProposeError::Stopped { .. }), "{error}");
    expect_another(&cluster, fell_ill_at);
    let reason = cluster.nodes[0].stopped().wait("the end of the sick");
    assert!(matches!(reason, StopReason::StateMachinePanicked { .. }), "{reason}");
    assert_eq!(cluster.probes[0].commands(), ["before"]);
    if cluster.leadership(1).term > term.next() {
        disturbed("the first who stood was not elected");
    }
    assert_eq!(end(cluster), ["before", POISON, "after"]);
}

/// A leader whose disk fails can promise nothing, but tell another one to stand.
pub(crate) fn a_leader_whose_journal_fails_names_a_successor(stage: Stage) {
    let cluster = led_by_the_first(stage, |_| ());
    cluster.journals[0].fail();
    let failed_at = Instant::now();
    drop(cluster.nodes[0].propose("in doubt".into()));
    let reason = cluster.nodes[0].stopped().wait("the end of the leader");
    assert!(matches!(reason, StopReason::JournalFailed(_)), "{reason}");
    expect_another(&cluster, failed_at);
    assert_eq!(end(cluster).last().map(|last| &**last), Some(&b"after"[..]));
}
