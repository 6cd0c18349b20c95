//! Lease reads (thesis 6.4.1): an option, with clocks that are assumed to agree.

use std::time::Duration;

use crate::server::{TestServer, append, at, entry_of, id, index, ms};
use raft_core::{
    AppendResult, Body, Change, Config, Lease, Membership, Payload, RequestPreVoteReply,
    TimeoutNow, Wake,
};

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

/// "The leader can reply to read-only queries without communication" while its lease lasts; and
/// then asks a quorum again.
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

/// Sending TimeoutNow ends the lease for the whole term: the message may depose the leader long
/// after the attempt was given up.
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

/// The voters' side: a voter that heard from a leader elects nobody else for an election timeout,
/// whatever term it has reached since.
#[test]
fn a_voter_keeps_its_word_even_in_a_new_term() {
    let mut server = TestServer::with(3, with_lease);
    server.appended(2, 1, at(0, 0), &[1], 0);
    // An answer from a later term makes it forget its leader.
    let reply = RequestPreVoteReply { granted: false, campaign: 0 };
    server.hear(3, 5, Body::RequestPreVoteReply(reply));
    assert_eq!(server.leader(), None);
    assert_eq!(server.asked_to_vote(3, 5, at(1, 1)), None);
    assert_eq!(server.asked_to_take_over(3, 5, at(1, 1)), Some(true));

    let mut server = TestServer::with(3, with_lease);
    server.appended(2, 1, at(0, 0), &[1], 0);
    server.pass(server.config().election_timeout_min);
    assert_eq!(server.asked_to_vote(3, 5, at(1, 1)), Some(true));
}

/// Its own vote is one, too: whatever makes it stand early, it waits as long as another voter would
/// have it wait.
#[test]
fn a_voter_keeps_its_word_to_itself() {
    let mut server = TestServer::with(3, with_lease);
    server.appended(2, 1, at(0, 0), &[1], 0);
    server.suspect_leader(id(2));
    let sticky = server.config().election_timeout_min;
    server.pass(sticky - Duration::from_micros(1));
    assert_eq!(server.role(), raft_core::Role::Follower);

    let mut alone = TestServer::with(2, with_lease);
    let members = Membership::of_voters([id(1)]);
    let entry = entry_of(1, 1, Payload::Configuration(members.into()));
    alone.hear(2, 1, Body::AppendEntries(append(at(0, 0), vec![entry], 0)));
    assert_eq!(alone.role(), raft_core::Role::Follower);
    alone.pass(sticky);
    assert_eq!(alone.role(), raft_core::Role::Leader);
}

/// What comes late from an earlier replication session is answered by nobody, so no lease rests on
/// it.
#[test]
fn an_earlier_session_asks_for_no_stickiness() {
    let mut server = TestServer::with(3, with_lease);
    let mut newer = append(at(0, 0), vec![], 0);
    newer.session = raft_core::Session::new(2);
    server.hear(2, 1, Body::AppendEntries(newer));
    server.pass(server.config().election_timeout_min - ms(1));
    server.hear(2, 1, Body::AppendEntries(append(at(0, 0), vec![], 0)));
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
    let without_stickiness = config(|config| {
        config.check_quorum = false;
        with_lease(config);
    });
    assert!(without_stickiness.unwrap_err().to_string().contains("check_quorum"));
    let too_much_drift = config(|config| config.lease = Some(Lease { drift_ppm_max: 900_000 }));
    assert!(too_much_drift.unwrap_err().to_string().contains("drift"));
}

/// A hint that the leader is gone may be wrong, and the leader serve reads by its lease: until that
/// is over nobody stands.
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

/// With ranks, too, a hint changes nothing while its taker is bound: it stands when it would have
/// stood, and not as soon as it is free, for others heard the leader a little later.
#[test]
fn a_hint_keeps_the_slots_under_a_lease() {
    let mut server = TestServer::with(3, |config| {
        with_lease(config);
        config.rank_slot = Some(ms(5));
    });
    let mut heartbeat = append(at(0, 0), vec![], 0);
    heartbeat.rank = Some(0);
    server.hear(2, 1, Body::AppendEntries(heartbeat));
    let heard_at = server.now;
    server.pass(ms(20));
    server.suspect_leader(id(2));
    server.turn();
    server.sleep_until(Wake::Election);
    assert_eq!(server.now, heard_at + server.config().election_timeout_min);
}

// Promises: a lease is what a quorum has promised.

/// Each round that a quorum has echoed renews the lease.
#[test]
fn a_lease_is_renewed_with_each_round() {
    let mut server = leader();
    for _ in 0..10 {
        server.sleep_until(Wake::Heartbeat);
        let round = server.newest_round();
        server.answered(2, round, AppendResult::Matched(index(1)));
        server.take_sent();
        assert!(reads_at_once(&mut server));
    }
}

/// A leader of five, which the first `promises.len()` followers answer, each with its own promise
/// in milliseconds.
fn leader_of_five(promises: &[u32]) -> TestServer {
    let mut server = TestServer::restored(5, Default::default(), with_lease);
    server.lead();
    server.matched(2, 1);
    server.matched(3, 1);
    server.sleep_until(Wake::Heartbeat);
    let round = server.newest_round();
    for (peer, promise) in (2..).zip(promises) {
        server.peers_promise_micros = promise * 1000;
        server.answered(peer, round, AppendResult::Matched(index(1)));
    }
    server.take_sent();
    server
}

/// The lease is the least that a quorum promised, whatever the leader's own configuration says
/// about others.
#[test]
fn a_lease_is_the_least_that_a_quorum_promised() {
    for (promises, lease) in
        [(&[100, 60][..], 60), (&[100, 60, 80], 80), (&[0, 100], 0), (&[100, 0, 100], 100)]
    {
        let mut server = leader_of_five(promises);
        // Promises are taken at less than their word, by the drift of 1 %.
        let lease = Duration::from_micros(lease * 990);
        assert_eq!(reads_at_once(&mut server), !lease.is_zero(), "{promises:?}");
        if !lease.is_zero() {
            server.pass(lease - Duration::from_micros(1));
            assert!(reads_at_once(&mut server), "{promises:?}");
            server.pass(Duration::from_micros(1));
            assert!(!reads_at_once(&mut server), "{promises:?}");
        }
    }
}

/// No leader relies on a voter for longer than it would be bound itself.
#[test]
fn a_leader_believes_no_promise_beyond_its_own() {
    let mut server = leader_of_five(&[10_000, 10_000]);
    server.pass(server.config().election_timeout_min.mul_f64(0.99));
    assert!(!reads_at_once(&mut server));
}

/// An answer to an earlier round promises nothing from when the newer one left.
#[test]
fn a_promise_counts_from_the_round_that_the_answer_echoes() {
    let mut server = leader();
    let round = server.newest_round();
    let timed_at = server.now;
    server.sleep_until(Wake::Heartbeat);
    server.sleep_until(Wake::Heartbeat);
    server.answered(2, round, AppendResult::Matched(index(1)));
    server.now = timed_at + server.config().election_timeout_min.mul_f64(0.99);
    server.turn();
    assert!(!reads_at_once(&mut server));
}

/// The quorum is that of the configuration in force when the read is served: promises of voters
/// that have left give no lease.
#[test]
fn a_lease_needs_the_voters_in_force() {
    let mut server = leader();
    assert!(reads_at_once(&mut server));
    server.change_membership(&[Change::add_learner(id(4), "")]).unwrap();
    server.poll();
    server.matched(2, 2);
    server.matched_in(4, 2, 2);
    server.change_membership(&[Change::Promote(id(4)), Change::Remove(id(2))]).unwrap();
    assert!(!reads_at_once(&mut server), "of the new voters 3 and 4 have promised nothing");
}

/// What a follower answers says for how long it is bound: 0 without leases, and else a timeout, or
/// a slot less with ranks.
#[test]
fn an_answer_says_for_how_long_its_sender_is_bound() {
    let promised = |configure: fn(&mut Config)| {
        let mut server = TestServer::with(3, configure);
        server.hear(2, 1, Body::AppendEntries(append(at(0, 0), vec![], 0)));
        server.append_reply().map(|(_, reply)| reply.promise_micros)
    };
    assert_eq!(promised(|_| {}), Some(0));
    assert_eq!(promised(with_lease), Some(150_000));
    let with_ranks = |config: &mut Config| {
        with_lease(config);
        config.rank_slot = Some(ms(5));
    };
    assert_eq!(promised(with_ranks), Some(145_000));
}

/// A promise is on the disk before it is given: a server that is given a lease writes down for how
/// long it will be bound.
#[test]
fn a_promise_is_durable_before_it_is_given() {
    let mut server = TestServer::new(3);
    server.appended(2, 1, at(0, 0), &[1], 0);
    assert_eq!(server.stored.hard_state.promise_micros, 0);
    server.crash_into(with_lease);
    server.hold_disk();
    assert_eq!(server.appended(2, 1, at(1, 1), &[], 0), None);
    server.sync();
    assert_eq!(server.stored.hard_state.promise_micros, 150_000);
    assert_eq!(server.append_reply().map(|(_, reply)| reply.promise_micros), Some(150_000));
}

/// A voter that restarts with other settings honours what it promised with the earlier ones.
#[test]
fn a_promise_outlives_the_configuration() {
    let shorter = |config: &mut Config| {
        config.election_timeout_min = ms(50);
        config.election_timeout_max = ms(100);
        config.heartbeat_interval = ms(20);
    };
    let settings: [fn(&mut Config); 3] =
        [|config| config.lease = None, shorter, |config| config.check_quorum = false];
    for configure in settings {
        let mut server = TestServer::with(3, with_lease);
        server.appended(2, 1, at(0, 0), &[1], 0);
        server.pass(ms(1000));
        server.crash_into(|config| {
            configure(config);
            config.lease = config.lease.filter(|_| config.check_quorum);
        });
        votes_after_150_ms(&mut server);
    }
}

/// A server that restarted keeps a promise of 150 ms: it votes only after that.
fn votes_after_150_ms(server: &mut TestServer) {
    server.pass(ms(149));
    assert_eq!(server.asked_to_vote(3, 5, at(1, 1)), None);
    assert_eq!(server.asked_to_pre_vote(3, 5, at(1, 1)), Some(false));
    server.pass(ms(1));
    assert_eq!(server.asked_to_vote(3, 5, at(1, 1)), Some(true));
}

/// A longer promise than the configuration gives is forgotten with the first term after it has
/// lapsed.
#[test]
fn a_stored_promise_falls_once_it_has_lapsed() {
    let mut server = TestServer::with(3, with_lease);
    server.appended(2, 1, at(0, 0), &[1], 0);
    server.crash_into(|config| config.lease = None);
    server.hear(2, 2, Body::AppendEntries(append(at(1, 1), vec![], 0)));
    assert_eq!(server.stored.hard_state.promise_micros, 150_000);
    server.pass(ms(150));
    server.hear(2, 3, Body::AppendEntries(append(at(1, 1), vec![], 0)));
    assert_eq!(server.stored.hard_state.promise_micros, 0);
}

/// A server that joins has no first configuration of its own on its disk, and keeps its promises
/// like any other.
#[test]
fn a_joiner_that_restarts_keeps_its_promise() {
    let mut server = TestServer::with(3, |config| {
        with_lease(config);
        config.voters = Vec::new();
    });
    let members = Membership::of_voters([1, 2, 3].map(id));
    let entry = entry_of(1, 1, Payload::Configuration(members.into()));
    server.hear(2, 1, Body::AppendEntries(append(at(0, 0), vec![entry], 0)));
    server.pass(ms(1000));
    server.crash();
    votes_after_150_ms(&mut server);
}

/// A disk that was written by a version which stored no promise: the server keeps still for what
/// its configuration promises.
#[test]
fn a_past_without_a_promise_is_taken_for_one() {
    let mut server = TestServer::holding(3, 4, &[4]);
    server.crash_into(with_lease);
    assert_eq!(server.asked_to_vote(3, 5, at(4, 1)), None);
    server.pass(ms(150));
    assert_eq!(server.asked_to_vote(3, 5, at(4, 1)), Some(true));
}

/// A server that has never run has promised nothing, and need not wait.
#[test]
fn a_new_server_is_bound_to_nobody() {
    let mut server = TestServer::with(3, with_lease);
    assert_eq!(server.asked_to_vote(3, 1, at(0, 0)), Some(true));
}

/// A pre-vote says no wherever the vote in the next term would: whatever binds the voter, it is
/// asked in one place.
#[test]
fn a_pre_vote_says_no_wherever_the_vote_would() {
    let settings: [fn(&mut Config); 4] = [
        |_| {},
        with_lease,
        |config| config.check_quorum = false,
        |config| config.pre_vote = false,
    ];
    let pasts: [fn(&mut TestServer); 6] = [
        |_| {},
        |server| {
            server.appended(2, 1, at(0, 0), &[1], 0);
        },
        |server| {
            server.appended(2, 1, at(0, 0), &[1], 0);
            let reply = RequestPreVoteReply { granted: false, campaign: 0 };
            server.hear(3, 1, Body::RequestPreVoteReply(reply));
        },
        |server| {
            server.appended(2, 1, at(0, 0), &[1], 0);
            server.suspect_leader(id(2));
            server.turn();
        },
        |server| {
            server.appended(2, 1, at(0, 0), &[1], 0);
            server.pass(ms(20));
            server.crash();
        },
        |server| server.lead(),
    ];
    let mut refused = 0;
    for (configure, past, later, log) in settings.iter().flat_map(|configure| {
        let pasts = pasts.iter().flat_map(|past| [0, 60, 140, 200].map(|later| (past, later)));
        pasts.flat_map(move |(past, later)| [0, 9].map(|log| (configure, past, later, log)))
    }) {
        let server = || {
            let mut server = TestServer::with(3, configure);
            past(&mut server);
            server.pass(ms(later));
            server
        };
        let term = server().term().get();
        let pre_vote = server().asked_to_pre_vote(3, term, at(log, log));
        let vote = server().asked_to_vote(3, term + 1, at(log, log));
        refused += u32::from(vote != Some(true));
        assert!(vote == Some(true) || pre_vote == Some(false), "{vote:?}, {pre_vote:?}");
    }
    assert!(refused > 50, "{refused}");
}
