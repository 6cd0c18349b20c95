//! §5.2, leader election, with Figure 2's rules for followers and candidates and RequestVote's
//! receiver rules.
//!
//! Pre-vote is off here, as it is in the paper; `thesis/elections.rs` has what the thesis adds.

use crate::pump::Cluster;
use crate::server::{TestServer, append, at, id, ms, term};
use raft_core::{Body, RequestVoteReply, Role, Wake};

fn server(size: u64) -> TestServer {
    TestServer::with(size, |config| config.pre_vote = false)
}

fn candidate(size: u64) -> TestServer {
    let mut server = server(size);
    server.stand();
    server
}

fn leader(size: u64) -> TestServer {
    let mut server = server(size);
    server.lead();
    server
}

/// Servers begin as followers, also those that led before they crashed.
#[test]
fn a_server_starts_as_follower() {
    assert_eq!(server(3).role(), Role::Follower);
    let mut server = leader(3);
    server.crash();
    assert_eq!((server.role(), server.leader()), (Role::Follower, None));
}

/// A server stays follower as long as it hears from a leader.
#[test]
fn a_server_stays_follower_as_long_as_it_hears_from_a_leader() {
    let mut server = server(3);
    for _ in 0..20 {
        server.heartbeat(2, 1);
        server.pass(ms(149));
    }
    assert_eq!(server.role(), Role::Follower);
}

/// A follower that grants its vote waits for a whole timeout again.
#[test]
fn granting_a_vote_puts_the_election_off() {
    let mut server = server(3);
    for number in 1..20 {
        assert_eq!(server.asked_to_vote(2, number, at(0, 0)), Some(true));
        server.pass(ms(149));
    }
    assert_eq!(server.role(), Role::Follower);
}

/// To say again that a vote was granted puts nothing off: the request was repeated because its
/// sender hears no answer.
#[test]
fn repeating_a_grant_does_not_put_the_election_off() {
    let mut server = server(3);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    let deadline = server.next_deadline();
    for _ in 0..2 {
        server.pass(ms(70));
        assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
        assert_eq!(server.next_deadline(), deadline);
    }
    server.time_out();
    assert_eq!((server.role(), server.term()), (Role::Candidate, term(2)));
}

/// Nor does it end what the voter does meanwhile.
#[test]
fn repeating_a_grant_ends_no_pre_vote() {
    let mut server = TestServer::new(3);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    server.time_out();
    assert_eq!(server.role(), Role::PreCandidate);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    assert_eq!(server.role(), Role::PreCandidate);
}

/// A candidate whose vote for itself is still on its way to the disk does not throw it away for
/// another.
#[test]
fn a_candidate_keeps_its_ballot_until_its_vote_is_durable() {
    let mut server = server(3);
    server.hold_disk();
    for _ in 0..20 {
        server.pass(ms(150));
    }
    assert_eq!((server.role(), server.term()), (Role::Candidate, term(1)));
    server.granted(2);
    server.sync();
    assert_eq!(server.role(), Role::Leader);
}

/// Nor does a voter stand while the vote that it gave is on its way to the disk: it would take it
/// back before it is said.
#[test]
fn a_voter_keeps_its_grant_until_it_is_said() {
    let mut server = TestServer::new(3);
    server.hold_disk();
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), None);
    for _ in 0..20 {
        server.pass(ms(150));
    }
    assert_eq!((server.role(), server.term()), (Role::Follower, term(1)));
    server.sync();
    assert_eq!(server.vote_reply(), Some((term(1), true)));
}

/// A vote that is refused puts nothing off: who cannot win does not keep others from standing.
#[test]
fn refusing_a_vote_does_not_put_the_election_off() {
    let mut server = TestServer::holding(3, 1, &[1]);
    let deadline = server.next_deadline();
    server.pass(ms(100));
    assert_eq!(server.asked_to_vote(2, 2, at(0, 0)), Some(false));
    assert_eq!(server.next_deadline(), deadline);
}

/// A leader sends heartbeats, appends without entries, to everyone and without end.
#[test]
fn a_leader_sends_heartbeats_to_all() {
    let mut server = leader(3);
    server.matched(2, 1);
    server.matched(3, 1);
    for _ in 0..3 {
        server.take_sent();
        server.sleep_until(Wake::Heartbeat);
        let sent = server.take_sent();
        assert_eq!(sent.iter().map(|m| m.to.get()).collect::<Vec<_>>(), [2, 3]);
        let is_empty =
            |body: &Body<_>| matches!(body, Body::AppendEntries(a) if a.entries.is_empty());
        assert!(sent.iter().all(|message| is_empty(&message.body)));
        server.matched(2, 1);
    }
}

/// A follower that hears nothing for an election timeout stands for election.
#[test]
fn a_follower_that_hears_nothing_for_too_long_stands_for_election() {
    let mut server = server(3);
    server.heartbeat(2, 1);
    server.time_out();
    assert_eq!((server.role(), server.term(), server.leader()), (Role::Candidate, term(2), None));
}

/// To begin an election a follower increments its term, votes for itself, and asks all others.
#[test]
fn a_candidate_votes_for_itself_and_asks_all_others() {
    let mut server = TestServer::restored(5, TestServer::holding(5, 3, &[2, 3]).stored, |config| {
        config.pre_vote = false;
    });
    server.time_out();
    assert_eq!((server.term(), server.status().voted_for), (term(4), Some(id(1))));
    assert_eq!(server.stored.hard_state.voted_for, Some(id(1)));
    let asked = server.take_sent();
    assert_eq!(asked.iter().map(|message| message.to.get()).collect::<Vec<_>>(), [2, 3, 4, 5]);
    for message in asked {
        assert_eq!(message.term, term(4));
        assert!(matches!(message.body, Body::RequestVote(asks) if asks.last_log == at(3, 2)));
    }
}

/// A candidate wins with the votes of a majority of the whole cluster, and not with fewer.
#[test]
fn a_majority_of_the_whole_cluster_elects() {
    for (size, needed) in [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let mut server = candidate(size);
        for peer in 2..2 + needed {
            assert_eq!(server.role(), Role::Candidate, "{size} servers");
            server.granted(peer);
        }
        assert_eq!(server.role(), Role::Leader, "{size} servers");
    }
}

/// The only server of a cluster is a majority.
#[test]
fn a_cluster_of_one_elects_itself_at_once() {
    let server = server(1);
    assert_eq!((server.role(), server.commit_index()), (Role::Leader, 1));
}

/// A voter counts once, however often its answer comes.
#[test]
fn a_vote_that_comes_twice_counts_once() {
    let mut server = candidate(5);
    (0..5).for_each(|_| server.granted(2));
    assert_eq!(server.role(), Role::Candidate);
}

/// A refusal is no vote.
#[test]
fn a_refusal_is_no_vote() {
    let mut server = candidate(3);
    server.voted(2, false);
    server.voted(3, false);
    assert_eq!(server.role(), Role::Candidate);
}

/// Votes count in the term in which they were given only.
#[test]
fn a_vote_of_an_earlier_term_does_not_count() {
    let mut server = candidate(3);
    server.time_out();
    let reply = RequestVoteReply { granted: true, last_log: at(0, 0) };
    server.hear(2, 1, Body::RequestVoteReply(reply));
    assert_eq!((server.role(), server.term()), (Role::Candidate, term(2)));
    server.hear(2, 2, Body::RequestVoteReply(reply));
    assert_eq!(server.role(), Role::Leader);
}

/// A server votes for at most one candidate in a term: for the first that asks.
#[test]
fn a_server_votes_for_the_first_that_asks() {
    let mut server = server(5);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    assert_eq!(server.asked_to_vote(3, 1, at(0, 0)), Some(false));
    assert_eq!(server.asked_to_vote(3, 1, at(9, 9)), Some(false));
}

/// A candidate whose answer was lost gets the same answer again.
#[test]
fn the_same_candidate_gets_the_same_vote_again() {
    let mut server = server(3);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
}

/// The vote of a term survives a crash, also on a server that holds no entry.
#[test]
fn a_server_remembers_its_vote_through_a_crash() {
    let mut server = server(3);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    server.crash();
    assert_eq!(server.asked_to_vote(3, 1, at(0, 0)), Some(false));
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
}

/// A server that knows the leader of a term votes for nobody else in it, even if it voted for
/// nobody before, and goes on following.
#[test]
fn who_follows_a_leader_votes_for_nobody_else_in_its_term() {
    let mut server = TestServer::with(3, |config| config.check_quorum = false);
    server.heartbeat(2, 1);
    assert_eq!(server.asked_to_vote(3, 1, at(9, 9)), Some(false));
    assert_eq!(server.leader(), Some(id(2)));
}

/// A new term brings a new vote.
#[test]
fn a_new_term_brings_a_new_vote() {
    let mut server = server(3);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    assert_eq!(server.asked_to_vote(3, 2, at(0, 0)), Some(true));
}

/// A candidate has voted, for itself; it refuses every other candidate of its term.
#[test]
fn a_candidate_refuses_its_rivals_of_the_same_term() {
    let mut server = candidate(3);
    assert_eq!(server.asked_to_vote(2, 1, at(9, 9)), Some(false));
    assert_eq!(server.role(), Role::Candidate);
}

/// Who wins speaks to all others at once, to keep them from standing.
#[test]
fn a_new_leader_speaks_to_all_at_once() {
    let mut server = candidate(5);
    server.take_sent();
    server.granted(2);
    server.granted(3);
    let told: Vec<_> = server.take_sent().iter().map(|message| message.to.get()).collect();
    assert_eq!(told, [2, 3, 4, 5]);
}

/// A candidate that hears from a leader of its own term or a later one follows it.
#[test]
fn a_candidate_follows_a_leader_whose_term_is_not_behind() {
    for leaders_term in [1, 2] {
        let mut server = candidate(3);
        server.heartbeat(2, leaders_term);
        let found = (server.role(), server.term(), server.leader());
        assert_eq!(found, (Role::Follower, term(leaders_term), Some(id(2))));
    }
}

/// A candidate refuses a leader of an earlier term, and stays candidate.
#[test]
fn a_candidate_refuses_a_leader_of_an_earlier_term() {
    let mut server = candidate(3);
    server.time_out();
    server.take_sent();
    server.hear(2, 1, Body::AppendEntries(append(at(0, 0), vec![], 0)));
    assert_eq!(server.append_reply().map(|(term, _)| term), Some(term(2)));
    assert_eq!(server.role(), Role::Candidate);
}

/// A candidate that neither wins nor loses times out and stands in the next term, asking everyone
/// again.
#[test]
fn a_split_vote_ends_with_the_next_term() {
    let mut server = candidate(5);
    server.granted(2);
    server.take_sent();
    server.time_out();
    assert_eq!((server.role(), server.term()), (Role::Candidate, term(2)));
    let asked = server.take_sent().into_iter().filter(|message| message.term == term(2));
    assert_eq!(asked.count(), 4);
    server.granted(3);
    assert_eq!(server.role(), Role::Candidate, "the vote of the last election counts no more");
}

/// Election timeouts are drawn at random from the configured range, anew each time.
#[test]
fn election_timeouts_are_drawn_from_the_range() {
    let mut server = server(3);
    let mut drawn = Vec::new();
    for _ in 0..200 {
        let before = server.now;
        server.time_out();
        drawn.push(server.now.saturating_duration_since(before));
    }
    assert!(drawn.iter().all(|timeout| (ms(150)..ms(300)).contains(timeout)));
    assert!(drawn.iter().any(|timeout| *timeout < ms(165)));
    assert!(drawn.iter().any(|timeout| *timeout > ms(285)));
    drawn.sort();
    drawn.dedup();
    assert!(drawn.len() > 190, "microseconds, not milliseconds");
}

/// Randomness makes split votes rare: of many elections, nearly all end with the first candidate.
#[test]
fn split_votes_are_rare() {
    let mut terms = 0;
    for seed in 0..100 {
        let mut cluster = Cluster::with(5, seed, |config| config.pre_vote = false);
        let leader = cluster.elect();
        terms += cluster.raft(leader).term().get();
    }
    assert!(terms < 130, "100 elections took {terms} terms");
}

/// A server that has forgotten its votes, as its host has found, neither votes nor stands. It takes
/// entries all the same.
#[test]
fn a_server_that_abstains_takes_no_part_in_elections() {
    let mut server = server(3);
    server.abstain(true);
    server.turn();
    server.pass(ms(1_000));
    assert_eq!((server.role(), server.term()), (Role::Follower, term(0)));
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(false));
    assert!(server.heartbeat(2, 1).is_some());
    server.pass(ms(1_000));
    assert_eq!((server.role(), server.term()), (Role::Follower, term(1)));
    assert_eq!(server.asked_to_take_over(2, 1, at(0, 0)), Some(false));

    server.abstain(false);
    server.turn();
    server.pass(ms(1_000));
    assert_eq!(server.role(), Role::Candidate);
    server.abstain(true);
    assert_eq!(server.role(), Role::Follower);

    let mut alone = TestServer::with(1, |config| config.pre_vote = false);
    let before = alone.term();
    alone.abstain(true);
    alone.turn();
    alone.pass(ms(1_000));
    assert_eq!((alone.role(), alone.term()), (Role::Follower, before));
}
