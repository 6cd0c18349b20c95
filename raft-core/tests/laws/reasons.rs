//! Why a server stopped leading or standing for election, and why it refused a vote: the last of
//! each is in its status, so that a host can tell its operators.

use crate::server::{TestServer, append, at, entry_of, id, ms, term};
use raft_core::{
    Body, Change, Membership, Payload, Role, StepDown, SteppedDown, VoteRefusal, Wake,
};

/// The role and the term that ended last, and why.
fn ended(server: &TestServer) -> Option<(Role, u64, StepDown)> {
    let SteppedDown { role, term, reason, .. } = server.status().stepped_down?;
    Some((role, term.get(), reason))
}

/// Who was refused a vote last, in which term, and why.
fn refused(server: &TestServer) -> Option<(u64, u64, VoteRefusal)> {
    let refused = server.status().refused_vote?;
    Some((refused.candidate.get(), refused.term.get(), refused.reason))
}

// The end of a leadership or a candidacy.

#[test]
fn a_server_that_has_only_followed_has_no_reasons() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    server.heartbeat(3, 2);
    assert_eq!((ended(&server), refused(&server)), (None, None));
}

/// "If RPC request or response contains term T > currentTerm: convert to follower" (§5.1).
#[test]
fn a_leader_gives_way_to_a_higher_term() {
    let mut server = TestServer::leader(3, 4, &[4]);
    server.heartbeat(2, 9);
    assert_eq!(ended(&server), Some((Role::Leader, 5, StepDown::HigherTerm)));
}

/// The same message means success where leadership was handed over (thesis 3.10).
#[test]
fn a_leader_that_hands_over_is_not_deposed() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.matched(3, 1);
    server.transfer_leadership(Some(id(3))).unwrap();
    server.poll();
    assert_eq!(server.asked_to_take_over(3, 2, at(1, 1)), Some(true));
    assert_eq!(ended(&server), Some((Role::Leader, 1, StepDown::HandedOver)));
}

/// "While waiting for votes, a candidate may receive an AppendEntries RPC from another server"
/// (§5.2).
#[test]
fn a_candidate_finds_another_leader_of_its_term() {
    let mut server = TestServer::candidate(3, 0, &[]);
    server.heartbeat(2, 1);
    assert_eq!(ended(&server), Some((Role::Candidate, 1, StepDown::OtherLeader)));
}

#[test]
fn a_pre_candidate_gives_its_vote_to_another_candidate() {
    let mut server = TestServer::holding(3, 1, &[]);
    server.time_out();
    assert_eq!((server.role(), server.term()), (Role::PreCandidate, term(1)));
    assert_eq!(server.asked_to_vote(3, 1, at(0, 0)), Some(true));
    assert_eq!(ended(&server), Some((Role::PreCandidate, 1, StepDown::GaveVote)));
}

/// "A leader steps down if an election timeout elapses without a successful round of heartbeats to
/// a majority of its cluster" (thesis 6.2).
#[test]
fn a_leader_hears_from_no_quorum() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.run_until_it_steps_down(|_| {});
    assert_eq!(ended(&server), Some((Role::Leader, 1, StepDown::NoQuorum)));
}

#[test]
fn the_disk_of_a_leader_does_not_answer() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.matched(3, 1);
    server.hold_disk();
    server.propose_command();
    let until = server.now + server.config().disk_timeout;
    while server.now < until {
        server.matched(2, 2);
        server.matched(3, 2);
        server.now = (server.now + ms(50)).min(until);
        server.turn();
    }
    assert_eq!(ended(&server), Some((Role::Leader, 1, StepDown::DiskSilent)));
}

/// "The leader steps down once it has committed the C_new log entry" (§6).
#[test]
fn a_leader_has_no_vote_any_more() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.matched(3, 1);
    server.change_membership(&[Change::Remove(id(1))]).unwrap();
    server.poll();
    for index in 2..=3 {
        server.matched(2, index);
        server.matched(3, index);
    }
    assert_eq!(server.role(), Role::Follower);
    assert_eq!(ended(&server), Some((Role::Leader, 1, StepDown::NotAMember)));
}

#[test]
fn a_server_that_must_abstain_leads_no_more() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.abstain(true);
    assert_eq!(ended(&server), Some((Role::Leader, 1, StepDown::Abstains)));
}

// A vote that was refused.

/// A follower of a live leader refuses votes and pre-votes (thesis 4.2.3).
#[test]
fn a_follower_is_bound_to_its_leader() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    assert_eq!(server.asked_to_pre_vote(3, 1, at(0, 0)), Some(false));
    assert_eq!(refused(&server), Some((3, 1, VoteRefusal::BoundToLeader)));
    assert_eq!(server.asked_to_vote(2, 2, at(0, 0)), None);
    assert_eq!(refused(&server), Some((2, 2, VoteRefusal::BoundToLeader)));
}

/// And a term has one leader: who follows it votes for nobody else there.
#[test]
fn a_follower_votes_for_nobody_in_the_term_of_its_leader() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    server.now = server.now + ms(150);
    assert_eq!(server.asked_to_vote(3, 1, at(0, 0)), Some(false));
    assert_eq!(refused(&server), Some((3, 1, VoteRefusal::BoundToLeader)));
}

/// "The voter denies its vote if its own log is more up-to-date" (§5.4.1).
#[test]
fn the_log_of_a_candidate_is_behind() {
    let mut server = TestServer::holding(3, 2, &[1, 2]);
    assert_eq!(server.asked_to_pre_vote(2, 2, at(2, 1)), Some(false));
    assert_eq!(refused(&server), Some((2, 2, VoteRefusal::ShorterLog)));
    assert_eq!(server.asked_to_vote(3, 3, at(1, 9)), Some(false));
    assert_eq!(refused(&server), Some((3, 3, VoteRefusal::ShorterLog)));
}

/// "Each server will vote for at most one candidate in a given term" (§5.2).
#[test]
fn the_vote_of_the_term_was_given_to_another_candidate() {
    let mut server = TestServer::new(3);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    assert_eq!(refused(&server), None);
    assert_eq!(server.asked_to_vote(3, 1, at(0, 0)), Some(false));
    assert_eq!(refused(&server), Some((3, 1, VoteRefusal::AlreadyVoted)));
}

#[test]
fn a_server_without_a_cluster_or_without_its_disk_abstains() {
    let mut server = TestServer::with(3, |config| config.voters.clear());
    assert_eq!(server.asked_to_pre_vote(2, 1, at(0, 0)), Some(false));
    assert_eq!(refused(&server), Some((2, 1, VoteRefusal::Abstains)));
    let mut server = TestServer::new(3);
    server.abstain(true);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(false));
    assert_eq!(refused(&server), Some((2, 1, VoteRefusal::Abstains)));
}

/// A server that was removed has no vote, and gets none (§6).
#[test]
fn the_candidate_is_no_member() {
    let mut server = TestServer::new(3);
    let without = Membership::of_voters([1, 2].map(id));
    let entries =
        vec![entry_of(1, 1, Payload::Noop), entry_of(1, 2, Payload::Configuration(without.into()))];
    server.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries, 2)));
    server.sleep_until(Wake::Election);
    assert_eq!(server.asked_to_pre_vote(3, 1, at(1, 2)), Some(false));
    assert_eq!(refused(&server), Some((3, 1, VoteRefusal::CandidateNotAMember)));
}

/// "Reply false if term < currentTerm" (Figure 2).
#[test]
fn the_term_of_the_candidate_is_over() {
    let mut server = TestServer::holding(3, 5, &[]);
    assert_eq!(server.asked_to_pre_vote(2, 4, at(0, 0)), Some(false));
    assert_eq!(refused(&server), Some((2, 4, VoteRefusal::OldTerm)));
}

/// Reasons decide nothing, so states that differ in them alone are the same to a model checker.
#[test]
fn reasons_decide_nothing() {
    let mut server = TestServer::holding(3, 5, &[]);
    let before = server.raft.canonical();
    assert_eq!(server.asked_to_pre_vote(2, 4, at(0, 0)), Some(false));
    assert_eq!(server.raft.canonical(), before);
}
