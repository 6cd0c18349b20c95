//! §5.4, safety: who may lead (§5.4.1), what a leader may commit (§5.4.2), and what follows from
//! both (§5.4.3).

use crate::pump::{Cluster, Network};
use crate::server::{TestServer, at, ids, index, ms};
use raft_core::{Body, Role};

// The election restriction (§5.4.1).

/// Of two logs whose last entries have different terms, the one with the later term is more up to
/// date, however short.
#[test]
fn a_later_last_term_is_more_up_to_date() {
    let mut server = TestServer::holding(3, 2, &[1, 2]);
    assert_eq!(server.asked_to_vote(2, 3, at(1, 9)), Some(false));
    let mut server = TestServer::holding(3, 2, &[1, 1, 1]);
    assert_eq!(server.asked_to_vote(2, 3, at(2, 1)), Some(true));
}

/// Of two logs that end with the same term, the longer one is more up to date.
#[test]
fn of_the_same_last_term_the_longer_log_is_more_up_to_date() {
    let mut server = TestServer::holding(3, 2, &[1, 2, 2]);
    assert_eq!(server.asked_to_vote(2, 3, at(2, 2)), Some(false));
    assert_eq!(server.asked_to_vote(3, 3, at(2, 4)), Some(true));
}

/// A log that is just as up to date is good enough.
#[test]
fn an_equal_log_gets_the_vote() {
    let mut server = TestServer::holding(3, 2, &[1, 2, 2]);
    assert_eq!(server.asked_to_vote(2, 3, at(2, 3)), Some(true));
}

/// A voter that refuses a log adopts the candidate's term all the same, and its vote stays free.
#[test]
fn a_refused_log_leaves_the_vote_free() {
    let mut server = TestServer::holding(3, 2, &[1, 2, 2]);
    assert_eq!(server.asked_to_vote(2, 3, at(1, 1)), Some(false));
    assert_eq!((server.term().get(), server.status().voted_for), (3, None));
    assert_eq!(server.asked_to_vote(3, 3, at(2, 3)), Some(true));
}

/// Entries count in the comparison as soon as they are in the log, durable or not.
#[test]
fn a_voter_compares_with_all_that_it_holds() {
    let mut server = TestServer::new(3);
    server.hold_disk();
    server.appended(2, 1, at(0, 0), &[1, 1], 0);
    server.pass(ms(150));
    server.asked_to_vote(3, 2, at(1, 1));
    server.sync();
    assert_eq!(server.vote_reply().map(|(_, granted)| granted), Some(false));
}

/// A server that lacks a committed entry is not elected, however often it stands.
#[test]
fn who_lacks_a_committed_entry_is_not_elected() {
    for seed in 0..20 {
        let mut cluster = Cluster::with(3, seed, |config| config.pre_vote = config.id.get() > 1);
        let leader = cluster.elect();
        let behind = cluster.ids().find(|id| *id != leader).unwrap();
        cluster.disconnect(behind);
        cluster.agree(b"committed", 2);
        cluster.crash(leader);
        cluster.connect(behind);
        let next = cluster.elect();
        assert_ne!(next, behind);
        cluster.agree(b"next", 2);
    }
}

// Entries of earlier terms (§5.4.2).

/// A leader does not commit an entry of an earlier term by counting its copies, even if a majority
/// holds it.
#[test]
fn an_entry_of_an_earlier_term_is_not_committed_by_counting() {
    let mut server = TestServer::leader(5, 3, &[1, 2]);
    server.matched(2, 2);
    server.matched(3, 2);
    server.matched(4, 2);
    server.matched(5, 2);
    assert_eq!((server.commit_index(), server.applied.len()), (0, 0));
}

/// Once an entry of its own term is held by a majority, all before it are committed with it.
#[test]
fn an_entry_of_the_own_term_commits_those_before_it() {
    let mut server = TestServer::leader(5, 3, &[1, 2]);
    server.matched(2, 2);
    server.matched(3, 3);
    assert_eq!(server.commit_index(), 0);
    server.matched(4, 3);
    assert_eq!(server.commit_index(), 3);
}

/// A leader begins its term with an entry of it that holds nothing, so earlier entries commit
/// without waiting for a client (§8).
#[test]
fn a_leader_begins_its_term_with_a_noop() {
    let mut server = TestServer::leader(3, 3, &[1, 2]);
    let first = &server.appends_to(2)[0];
    assert_eq!(ids(&first.entries), [at(4, 3)]);
    assert_eq!(first.entries[0].payload, raft_core::Payload::Noop);
}

/// A leader sends the entries of earlier terms with the terms that they have.
#[test]
fn entries_keep_their_terms_when_a_later_leader_sends_them() {
    let mut server = TestServer::leader(3, 3, &[1, 2]);
    server.take_sent();
    server.rejected(2, 2, at(0, 0));
    assert_eq!(ids(&server.appends_to(2)[0].entries), [at(1, 1), at(2, 2), at(4, 3)]);
}

/// Figure 8. S1 leads term 2 and writes entry 2 to S2; S5 leads term 3 and writes its own entry 2
/// nowhere else; S1 leads term 4 and copies its old entry to S3. A majority holds it now, and yet
/// (d) S5 may win term 5 with the votes of S2, S3 and S4 and replace it. So S1 must not commit it
/// before (e) an entry of term 4 is on a majority, which makes S5 unelectable.
#[test]
fn figure_8_an_old_entry_on_a_majority_can_still_be_replaced() {
    let mut s1 = TestServer::leader(5, 3, &[1, 2]);
    s1.matched(2, 2);
    s1.matched(3, 2);
    assert_eq!(s1.commit_index(), 0, "(c) not by counting");

    let s5_log = at(3, 2);
    let mut s3 = TestServer::holding(5, 4, &[1, 2]);
    assert_eq!(s3.asked_to_vote(5, 5, s5_log), Some(true), "(d) S5 can win");
    assert!(s3.appended(5, 5, at(1, 1), &[3], 0).is_some());
    assert_eq!(s3.stored_terms(), [1, 3], "(d) and replaces the entry");

    s1.matched(2, 3);
    s1.matched(3, 3);
    assert_eq!(s1.commit_index(), 3, "(e) with an entry of the own term");
    let mut s3 = TestServer::holding(5, 4, &[1, 2, 4]);
    assert_eq!(s3.asked_to_vote(5, 5, s5_log), Some(false), "(e) S5 cannot win");
}

// What follows (§5.4.3).

/// Leader Completeness: what was committed in some term is in the log of every leader of a later
/// term.
#[test]
fn every_later_leader_holds_what_was_committed() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(5, seed);
        for number in 0..6u8 {
            let committed = cluster.agree(&[number], 3);
            let leader = cluster.elect();
            cluster.crash(leader);
            let next = cluster.elect();
            assert!(cluster.raft(next).status().last_log.index >= committed);
            cluster.start(leader);
        }
        cluster.agree(b"last", 5);
        let commands: Vec<_> = cluster.ids().map(|id| cluster.applied_commands(id)).collect();
        assert!(commands.windows(2).all(|pair| pair[0] == pair[1]), "the same on all servers");
    }
}

/// State Machine Safety: no two servers apply different commands at one index, whatever is lost and
/// whichever server crashes; the pump checks it at every entry.
#[test]
fn no_two_servers_apply_different_commands_at_an_index() {
    for seed in 0..15 {
        let mut cluster = Cluster::new(5, seed);
        cluster.network = Network::unreliable();
        for number in 0..80u8 {
            let server = crate::pump::id(cluster.random(5) + 1);
            let runs = cluster.host(server).raft.is_some();
            match cluster.random(4) {
                0 if runs => cluster.crash(server),
                1 if runs => cluster.disconnect(server),
                2 => cluster.connect(server),
                _ if !runs => cluster.start(server),
                _ => {}
            }
            for leader in cluster.ids() {
                let leads = |raft: &crate::pump::Server| raft.role() == Role::Leader;
                if cluster.host(leader).raft.as_ref().is_some_and(leads) {
                    let _ = cluster.propose(leader, &[number]);
                }
            }
            let span = cluster.random(400);
            cluster.run_for(ms(span));
        }
        cluster.ids().for_each(|id| cluster.connect(id));
        for id in cluster.ids() {
            if cluster.host(id).raft.is_none() {
                cluster.start(id);
            }
        }
        cluster.agree(b"at the end all agree", 5);
    }
}

/// A committed entry is never taken back: an append that conflicts with one comes from no correct
/// leader, and is dropped.
#[test]
fn a_committed_entry_is_never_taken_back() {
    let mut server = TestServer::new(3);
    server.appended(2, 1, at(0, 0), &[1, 1], 2);
    server.appended(3, 2, at(0, 0), &[2, 2], 2);
    assert_eq!(server.stored_terms(), [1, 1]);
    assert_eq!(server.applied_ids(), [at(1, 1), at(1, 2)]);
    assert_eq!(server.status().counters.protocol_violations, 1);
}

/// Nobody but the leader of a term makes others follow in it: a second one is counted and not
/// heard.
#[test]
fn a_second_leader_of_a_term_is_not_followed() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    assert_eq!(server.appended(3, 1, at(0, 0), &[1], 1), None);
    assert_eq!((server.leader(), server.commit_index()), (Some(crate::pump::id(2)), 0));
    assert_eq!(server.status().counters.protocol_violations, 1);
}

/// After a restart a server applies its log from the beginning again, once it learns what is
/// committed.
#[test]
fn a_restarted_server_applies_only_what_it_learns_to_be_committed() {
    let mut server = TestServer::new(3);
    server.appended(2, 1, at(0, 0), &[1, 1, 1], 2);
    server.crash();
    assert!(server.applied.is_empty());
    server.appended(2, 1, at(1, 3), &[], 1);
    assert_eq!(server.applied_ids(), [at(1, 1)]);
    assert_eq!(server.status().last_log.index, index(3));
}

/// A vote request asked with a log that no leader of a majority could lack is what keeps all this
/// together: the request carries it.
#[test]
fn a_vote_request_names_the_last_entry() {
    let mut server = TestServer::candidate(3, 3, &[1, 2, 2]);
    let asked = server.take_sent();
    let names = |body: &Body<_>| matches!(body, Body::RequestVote(r) if r.last_log == at(2, 3));
    assert_eq!(asked.iter().filter(|message| names(&message.body)).count(), 2);
}
