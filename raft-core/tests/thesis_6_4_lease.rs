//! Lease reads (thesis 6.4.1): an option, with clocks that are assumed to agree.

mod server;

use std::time::Duration;

use raft_core::{AppendResult, Body, Config, Lease, TimeoutNow, Wake};
use server::{TestServer, at, id, index, ms};

fn with_lease(config: &mut Config) {
    config.lease = Some(Lease { drift_ppm_max: 10_000 });
}

/// A leader of three whose no-op is committed and whose newest round a follower has echoed.
fn leader() -> TestServer {
    let mut server = TestServer::restored(3, Default::default(), with_lease);
    server.lead();
    server.matched(2, 1);
    server.sleep_until(Wake::Heartbeat);
    let round = server.newest_round();
    server.answered(2, round, AppendResult::Matched(index(1)));
    server.take_sent();
    server
}

fn reads_at_once(server: &mut TestServer) -> bool {
    let read = server.read().expect("it leads");
    server.turn();
    server.reads_ready.last().is_some_and(|(ready, _)| *ready == read)
}

/// "The leader can reply to read-only queries without communication" while its lease lasts; and then asks a quorum again.
#[test]
fn a_lease_lasts_an_election_timeout_less_the_drift_from_when_the_round_left() {
    let span = |server: &TestServer| server.config().election_timeout_min;
    let last_moment = |server: &TestServer| span(server).mul_f64(0.99) - Duration::from_micros(1);
    let mut server = leader();
    assert!(reads_at_once(&mut server));
    server.pass(last_moment(&server));
    assert!(reads_at_once(&mut server));
    server.pass(Duration::from_micros(1));
    assert!(!reads_at_once(&mut server));
}

/// Without the option every read costs a round.
#[test]
fn leases_are_off_by_default() {
    assert_eq!(Config::new(id(1), [id(1)]).lease, None);
}

/// Sending TimeoutNow ends the lease for the whole term: the message may depose the leader long after the attempt was given up.
#[test]
fn a_transfer_ends_the_lease() {
    let mut server = leader();
    server.transfer_leadership(Some(id(2))).unwrap();
    server.poll();
    assert!(server.take_sent().iter().any(|m| matches!(m.body, Body::TimeoutNow(_))));
    assert!(!reads_at_once(&mut server));
    for _ in 0..6 {
        server.answered(2, server.newest_round(), AppendResult::Matched(index(1)));
        server.pass(ms(50));
    }
    assert_eq!(server.transferring(), None);
    server.answered(2, server.newest_round(), AppendResult::Matched(index(1)));
    assert!(!reads_at_once(&mut server));
}

/// The voters' side: whoever heard from a leader elects nobody else for an election timeout, whatever term it has reached since.
#[test]
fn a_voter_keeps_its_word_even_in_a_new_term() {
    let mut server = TestServer::with(3, with_lease);
    server.appended(2, 1, at(0, 0), &[1], 0);
    // An answer from a later term makes it forget its leader.
    let reply = raft_core::RequestPreVoteReply { granted: false, campaign: 0 };
    server.hear(3, 5, Body::RequestPreVoteReply(reply));
    assert_eq!(server.leader(), None);
    assert_eq!(server.asked_to_vote(3, 5, at(1, 1)), None);
    assert_eq!(server.asked_to_take_over(3, 5, at(1, 1)), Some(true));

    let mut server = TestServer::with(3, with_lease);
    server.appended(2, 1, at(0, 0), &[1], 0);
    server.pass(server.config().election_timeout_min);
    assert_eq!(server.asked_to_vote(3, 5, at(1, 1)), Some(true));
}

/// Its own vote is one, too: whatever makes it stand early, it waits as long as another voter would have it wait.
#[test]
fn a_voter_keeps_its_word_to_itself() {
    let mut server = TestServer::with(3, with_lease);
    server.appended(2, 1, at(0, 0), &[1], 0);
    server.suspect_leader(id(2));
    let loyal = server.config().election_timeout_min;
    server.pass(loyal - Duration::from_micros(1));
    assert_eq!(server.role(), raft_core::Role::Follower);

    let mut alone = TestServer::with(2, with_lease);
    let members = raft_core::Membership::of_voters([id(1)]);
    let entry = server::entry_of(1, 1, raft_core::Payload::Configuration(members.into()));
    alone.hear(2, 1, Body::AppendEntries(server::append(at(0, 0), vec![entry], 0)));
    assert_eq!(alone.role(), raft_core::Role::Follower);
    alone.pass(loyal);
    assert_eq!(alone.role(), raft_core::Role::Leader);
}

/// What comes late from an earlier replication session is answered by nobody, so no lease rests on it.
#[test]
fn an_earlier_session_asks_for_no_loyalty() {
    let mut server = TestServer::with(3, with_lease);
    let mut newer = server::append(at(0, 0), vec![], 0);
    newer.session = raft_core::Session::new(2);
    server.hear(2, 1, Body::AppendEntries(newer));
    server.pass(server.config().election_timeout_min - ms(1));
    server.hear(2, 1, Body::AppendEntries(server::append(at(0, 0), vec![], 0)));
    server.pass(ms(1));
    assert_eq!(server.asked_to_vote(3, 5, at(1, 1)), Some(true));
}

/// A voter that restarts may have forgotten a leader: it keeps still for as long.
#[test]
fn a_restarted_voter_keeps_still_for_an_election_timeout() {
    let mut server = TestServer::with(3, with_lease);
    server.appended(2, 1, at(0, 0), &[1], 0);
    server.pass(ms(1000));
    server.crash();
    assert_eq!(server.asked_to_vote(3, 5, at(1, 1)), None);
    server.pass(server.config().election_timeout_min);
    assert_eq!(server.asked_to_vote(3, 5, at(1, 1)), Some(true));
}

/// The successor's own election is what the leader asked for: nobody needs to wait for it.
#[test]
fn a_successor_stands_within_the_lease_that_its_leader_gave_up() {
    let mut server = TestServer::with(3, with_lease);
    server.appended(2, 1, at(0, 0), &[1], 0);
    server.hear(2, 1, Body::TimeoutNow(TimeoutNow { last_log: at(1, 1) }));
    assert_eq!(server.term().get(), 2);
}

#[test]
fn a_lease_that_cannot_be_is_refused() {
    let config = |change: fn(&mut Config)| {
        let mut config = Config::new(id(1), [id(1)]);
        change(&mut config);
        config.validate()
    };
    assert!(config(with_lease).is_ok());
    let without_loyalty = config(|config| {
        config.check_quorum = false;
        with_lease(config);
    });
    assert!(without_loyalty.unwrap_err().to_string().contains("check_quorum"));
    let too_much_drift = config(|config| config.lease = Some(Lease { drift_ppm_max: 900_000 }));
    assert!(too_much_drift.unwrap_err().to_string().contains("drift"));
}

/// A hint that the leader is gone may be wrong, and the leader serve reads by its lease: until that is over nobody stands.
#[test]
fn a_hint_does_not_end_the_lease_of_the_leader() {
    let mut server = TestServer::restored(3, Default::default(), with_lease);
    server.appended(2, 1, at(0, 0), &[], 0);
    server.suspect_leader(id(2));
    server.turn();
    let lease = server.now + server.config().election_timeout_min;
    server.sleep_until(Wake::Election);
    assert!(server.now >= lease);
}
