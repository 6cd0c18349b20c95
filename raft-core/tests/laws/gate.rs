//! The gate: a node never says what it could forget.
//!
//! A vote, an acknowledgement, a pre-vote answer that rests on a term: each stays inside until the
//! write behind it is durable. What promises nothing leaves beside the write: a leader's appends
//! (thesis 10.2.1) and a candidate's requests.

use crate::pump::Cluster;
use crate::server::{TestServer, append, at, id, ids, index, ms, term};
use raft_core::{AppendResult, Body, RequestPreVote, RequestVoteReply, Role, Wake};

/// A follower of server 2 in term 1 whose disk answers nothing any more.
fn follower_with_a_stuck_disk(log: &[u64]) -> TestServer {
    let mut server = TestServer::holding(3, 1, log);
    server.heartbeat(2, 1);
    server.take_sent();
    server.hold_disk();
    server
}

fn matched(server: &mut TestServer) -> Option<AppendResult> {
    server.append_reply().map(|(_, reply)| reply.result)
}

fn up_to(number: u64) -> Option<AppendResult> {
    Some(AppendResult::Matched(index(number)))
}

// Votes and terms.

/// A vote is spoken only once it is durable.
#[test]
fn a_vote_waits_for_its_write() {
    let mut server = TestServer::new(3);
    server.hold_disk();
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), None);
    let hard_state = server.writes[0].hard_state.unwrap();
    assert_eq!((hard_state.current_term, hard_state.voted_for), (term(1), Some(id(2))));
    server.sync();
    assert_eq!(server.vote_reply(), Some((term(1), true)));
}

/// A crash before that takes the vote back, and nobody has heard of it.
#[test]
fn a_vote_that_a_crash_took_back_was_never_spoken() {
    let mut server = TestServer::new(3);
    server.hold_disk();
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), None);
    server.crash();
    assert_eq!(server.vote_reply(), None);
    assert_eq!(server.asked_to_vote(3, 1, at(0, 0)), Some(true));
}

/// A vote waits for its own write, also in a term that is durable already.
#[test]
fn a_vote_in_a_durable_term_waits_for_its_write() {
    let mut server = TestServer::holding(3, 5, &[5]);
    assert_eq!(server.asked_to_vote(2, 6, at(0, 0)), Some(false));
    server.hold_disk();
    assert_eq!(server.asked_to_vote(3, 6, at(5, 1)), None);
    server.sync();
    assert_eq!(server.vote_reply(), Some((term(6), true)));
    assert_eq!(server.stored.hard_state.voted_for, Some(id(3)));
}

/// Term and vote are written together, so no crash finds one without the other.
#[test]
fn term_and_vote_are_one_write() {
    let mut server = TestServer::holding(3, 4, &[]);
    server.hold_disk();
    server.asked_to_vote(2, 5, at(0, 0));
    assert_eq!(server.writes.len(), 1);
    server.crash();
    assert_eq!((server.term(), server.status().voted_for), (term(4), None));
}

/// A vote that is durable already is spoken at once when it is asked for again.
#[test]
fn a_vote_that_is_durable_waits_for_nothing() {
    let mut server = TestServer::new(3);
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
    server.hold_disk();
    assert_eq!(server.asked_to_vote(2, 1, at(0, 0)), Some(true));
}

/// A refusal rests on the term that it tells.
#[test]
fn a_refused_vote_waits_for_the_term() {
    let mut server = TestServer::holding(3, 1, &[1]);
    server.hold_disk();
    assert_eq!(server.asked_to_vote(2, 5, at(0, 0)), None);
    server.sync();
    assert_eq!(server.vote_reply(), Some((term(5), false)));
}

/// So does a pre-vote answer.
#[test]
fn a_pre_vote_answer_waits_for_the_term() {
    for last_log in [at(0, 0), at(9, 9)] {
        let mut server = TestServer::holding(3, 1, &[1]);
        server.hold_disk();
        server.hear(3, 5, Body::AppendEntries(append(at(0, 0), vec![], 0)));
        server.pass(ms(150));
        let request = RequestPreVote { last_log, campaign: 1 };
        server.hear(2, 5, Body::RequestPreVote(request));
        assert_eq!(server.pre_vote_reply(), None);
        server.sync();
        assert_eq!(server.pre_vote_reply().map(|(told, _)| told), Some(term(5)));
    }
}

/// So does the answer to a heartbeat, even if the log needs no write.
#[test]
fn the_answer_to_a_heartbeat_waits_for_the_term() {
    let mut server = TestServer::holding(3, 1, &[1]);
    server.hold_disk();
    assert_eq!(server.heartbeat(2, 5), None);
    server.sync();
    assert_eq!(matched(&mut server), up_to(0));
}

/// So does a rejection.
#[test]
fn a_rejection_waits_for_the_term() {
    let mut server = TestServer::holding(3, 1, &[1]);
    server.hold_disk();
    assert_eq!(server.appended(2, 5, at(5, 9), &[], 0), None);
    server.sync();
    assert!(matches!(matched(&mut server), Some(AppendResult::Rejected { .. })));
}

/// So does the refusal of a leader of an earlier term.
#[test]
fn the_refusal_of_an_old_leader_waits_for_the_term() {
    let mut server = TestServer::holding(3, 1, &[1]);
    server.hold_disk();
    server.heartbeat(2, 5);
    server.hear(3, 4, Body::AppendEntries(append(at(0, 0), vec![], 0)));
    assert!(server.take_sent().is_empty());
    server.sync();
    let told: Vec<_> = server.take_sent().into_iter().map(|m| (m.to, m.term)).collect();
    assert!(told.contains(&(id(3), term(5))));
}

/// What was to be said in a term that is over is not said.
#[test]
fn a_reply_of_a_term_that_is_over_is_forgotten() {
    let mut server = TestServer::new(3);
    server.hold_disk();
    server.asked_to_vote(2, 1, at(0, 0));
    server.asked_to_vote(3, 2, at(0, 0));
    server.sync();
    let sent = server.take_sent();
    assert_eq!(sent.iter().map(|m| (m.to, m.term)).collect::<Vec<_>>(), [(id(3), term(2))]);
}

// Candidates.

/// A request for votes promises nothing, and leaves beside the write of the candidate's own vote.
#[test]
fn a_vote_request_leaves_beside_the_write() {
    let mut server = TestServer::with(3, |config| config.pre_vote = false);
    server.hold_disk();
    server.time_out();
    assert_eq!(server.writes.len(), 1, "the vote is not durable yet");
    let asked = server.take_sent();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|message| matches!(message.body, Body::RequestVote(_))));
}

/// A candidate's own vote counts once it is durable, even if a majority of others is for it
/// already.
#[test]
fn a_candidates_own_vote_counts_once_it_is_durable() {
    let mut server = TestServer::with(5, |config| config.pre_vote = false);
    server.hold_disk();
    server.time_out();
    (2..=5).for_each(|peer| server.granted(peer));
    assert_eq!(server.role(), Role::Candidate);
    server.sync();
    assert_eq!(server.role(), Role::Leader);
}

/// The only server of a cluster, too, leads once its vote is durable.
#[test]
fn a_cluster_of_one_waits_for_its_disk() {
    let mut server = TestServer::new(1);
    server.forget();
    server.hold_disk();
    server.turn();
    assert_eq!(server.role(), Role::Candidate);
    server.sync();
    assert_eq!(server.role(), Role::Leader);
}

/// A grant that comes late, for a log that a crash has shortened since, does not count: the voter
/// saw entry 2, and would have refused what is left.
#[test]
fn a_late_grant_for_a_longer_log_does_not_count() {
    let mut server = TestServer::restored(3, TestServer::holding(3, 5, &[5]).stored, |config| {
        config.pre_vote = false;
    });
    server.hold_disk();
    server.appended(2, 5, at(5, 1), &[5], 0);
    server.time_out();
    let asked = server.take_sent();
    assert!(matches!(asked[0].body, Body::RequestVote(r) if r.last_log == at(5, 2)));

    server.crash();
    server.time_out();
    assert_eq!((server.role(), server.term()), (Role::Candidate, term(6)), "once more in term 6");
    let grant = |last_log| Body::RequestVoteReply(RequestVoteReply { granted: true, last_log });
    server.hear(2, 6, grant(at(5, 2)));
    assert_eq!(server.role(), Role::Candidate);
    server.hear(3, 6, grant(at(5, 1)));
    assert_eq!(server.role(), Role::Leader, "a grant for the log as it is counts");
}

/// The echo names the log that was judged, even if the candidate asks again with another log.
#[test]
fn a_vote_echoes_the_log_that_it_was_given_to() {
    let mut server = TestServer::holding(3, 5, &[5]);
    server.asked_to_vote(2, 6, at(5, 9));
    server.hear(
        2,
        6,
        Body::RequestVote(raft_core::RequestVote { last_log: at(5, 7), transfer: false }),
    );
    let sent = server.take_sent();
    assert!(
        matches!(sent[0].body, Body::RequestVoteReply(r) if r.granted && r.last_log == at(5, 7))
    );
}

// Followers.

/// Entries are acknowledged once they are durable.
#[test]
fn an_acknowledgement_waits_for_its_write() {
    let mut server = follower_with_a_stuck_disk(&[]);
    assert_eq!(server.appended(2, 1, at(0, 0), &[1, 1], 0), up_to(0));
    server.sync();
    assert_eq!(matched(&mut server), up_to(2));
}

/// A heartbeat meanwhile is answered with what is durable, so the leader knows that the follower
/// lives.
#[test]
fn a_heartbeat_is_answered_while_the_disk_works() {
    let mut server = follower_with_a_stuck_disk(&[1]);
    server.appended(2, 1, at(1, 1), &[1, 1], 0);
    assert_eq!(server.appended(2, 1, at(1, 3), &[], 0), up_to(1));
}

/// Each write that is done raises what is acknowledged.
#[test]
fn acknowledgements_follow_the_disk() {
    let mut server = follower_with_a_stuck_disk(&[]);
    server.appended(2, 1, at(0, 0), &[1], 0);
    server.appended(2, 1, at(1, 1), &[1, 1], 0);
    server.persist_next();
    assert_eq!(matched(&mut server), up_to(1));
    server.persist_next();
    assert_eq!(matched(&mut server), up_to(3));
}

/// A host may answer for several writes at once, by the last.
#[test]
fn answers_for_writes_may_be_merged() {
    let mut server = follower_with_a_stuck_disk(&[]);
    for number in 0..3 {
        server.appended(2, 1, at(number.min(1), number), &[1], 0);
    }
    assert_eq!(server.writes.len(), 3);
    server.sync();
    assert_eq!(matched(&mut server), up_to(3));
    assert_eq!(server.status().writes_in_flight, 0);
}

/// An index can name two entries. Write 1 holds entries 1 2 3 of term 1; the leader of term 2
/// replaces 2. That write 1 is durable makes entry 1 durable, and says nothing of the new entry 2.
#[test]
fn an_answer_for_replaced_entries_does_not_count_for_the_new_ones() {
    let mut server = follower_with_a_stuck_disk(&[]);
    server.appended(2, 1, at(0, 0), &[1, 1, 1], 0);
    server.appended(3, 2, at(1, 1), &[2, 2], 0);
    assert_eq!(server.writes.len(), 2);
    server.persist_next();
    assert_eq!(server.status().durable_index, index(1));
    assert_eq!(matched(&mut server), None, "the term is not durable");
    server.persist_next();
    assert_eq!(matched(&mut server), up_to(3));
    assert_eq!(server.stored_terms(), [1, 2, 2]);
}

/// The same, if the new entries were replaced by some with the old terms' number: only ids tell the
/// writes apart.
#[test]
fn entries_that_come_back_are_durable_only_once_they_are_written_again() {
    let mut server = follower_with_a_stuck_disk(&[]);
    server.appended(2, 1, at(0, 0), &[1, 1], 0);
    server.appended(3, 2, at(1, 1), &[2], 0);
    server.appended(2, 3, at(0, 0), &[1, 1, 3], 0);
    assert_eq!(server.writes.len(), 3);
    server.persist_next();
    assert_eq!(server.status().durable_index, index(1));
    server.persist_next();
    assert_eq!(server.status().durable_index, index(1));
    server.persist_next();
    assert_eq!((matched(&mut server), server.stored_terms()), (up_to(3), vec![1, 1, 3]));
}

/// Durable entries that are removed again are no longer durable.
#[test]
fn what_is_removed_is_durable_no_more() {
    let mut server = follower_with_a_stuck_disk(&[1, 1, 1]);
    server.appended(3, 2, at(1, 1), &[2, 2], 0);
    assert_eq!(server.status().durable_index, index(1));
}

// Leaders.

/// A leader sends entries to others while its own disk still writes them (thesis 10.2.1).
#[test]
fn a_leaders_appends_leave_beside_its_own_write() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.take_sent();
    server.hold_disk();
    server.propose_command();
    assert_eq!(server.writes.len(), 1);
    assert_eq!(ids(&server.appends_to(2)[0].entries), [at(1, 2)]);
}

/// The disk is asked first, so that it works while the messages travel.
#[test]
fn the_disk_is_asked_before_the_network() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.raft.propose(b"x".to_vec()).unwrap();
    let first = server.raft.poll_outbox();
    assert!(matches!(first, Some(raft_core::Output::Persist(_))));
    assert!(matches!(server.raft.poll_outbox(), Some(raft_core::Output::Send(_))));
}

/// A leader's own copy counts towards the commit once it is durable.
#[test]
fn a_leaders_own_copy_counts_once_it_is_durable() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.hold_disk();
    server.propose_command();
    server.matched(2, 2);
    assert_eq!(server.commit_index(), 1);
    server.sync();
    assert_eq!(server.commit_index(), 2);
}

/// With one server nothing is committed before the disk answers.
#[test]
fn a_cluster_of_one_commits_nothing_before_its_disk_answers() {
    let mut server = TestServer::new(1);
    server.hold_disk();
    server.propose_command();
    assert_eq!((server.commit_index(), server.applied.len()), (1, 1));
    server.sync();
    assert_eq!((server.commit_index(), server.applied.len()), (2, 2));
}

/// A majority of others commits without the leader's disk; the leader itself applies only what is
/// durable at home, too.
#[test]
fn entries_are_applied_once_committed_and_durable_here() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.hold_disk();
    server.propose_command();
    server.matched(2, 2);
    server.matched(3, 2);
    assert_eq!((server.commit_index(), server.applied.len()), (2, 1));
    server.sync();
    assert_eq!(server.applied_ids(), [at(1, 1), at(1, 2)]);
}

/// A follower, as well, applies only what is durable here.
#[test]
fn a_follower_applies_only_what_is_durable() {
    let mut server = follower_with_a_stuck_disk(&[1]);
    server.appended(2, 1, at(1, 1), &[1, 1], 3);
    assert_eq!((server.commit_index(), server.applied_ids()), (3, vec![at(1, 1)]));
    server.sync();
    assert_eq!(server.applied_ids(), [at(1, 1), at(1, 2), at(1, 3)]);
}

// All of it.

/// Whatever a server says: if it crashes right after, it still knows the term in which it spoke,
/// its vote, and what it acknowledged.
#[test]
fn a_server_that_crashes_still_honours_what_it_said() {
    let mut server = TestServer::holding(3, 1, &[1]);
    server.hold_disk();
    server.appended(2, 2, at(1, 1), &[2, 2], 2);
    server.pass(ms(150));
    server.hear(
        3,
        3,
        Body::RequestVote(raft_core::RequestVote { last_log: at(2, 3), transfer: false }),
    );
    while !server.writes.is_empty() {
        server.persist_next();
        for message in server.take_sent() {
            let stored = &server.stored;
            assert!(stored.hard_state.current_term >= message.term);
            if matches!(message.body, Body::RequestVoteReply(reply) if reply.granted) {
                assert_eq!(stored.hard_state.voted_for, Some(message.to));
            }
            if let Body::AppendEntriesReply(reply) = message.body {
                let held = AppendResult::Matched(stored.entries.last().unwrap().index);
                assert_eq!(reply.result, held);
            }
        }
    }
}

/// A server whose disk answers nothing says nothing new, and does not disturb the others.
#[test]
fn a_cluster_goes_on_while_a_followers_disk_is_stuck() {
    let mut cluster = Cluster::new(3, 3);
    let leader = cluster.elect();
    let stuck = cluster.ids().find(|id| *id != leader).unwrap();
    cluster.hosts[stuck.get() as usize - 1].disk_stuck = true;
    let index = cluster.agree(b"two of three", 2);
    assert!(cluster.host(stuck).last_applied < index);
    cluster.unstick(stuck);
    assert!(cluster.run_until(ms(500), |cluster| cluster.host(stuck).last_applied >= index));
}

/// A crash loses what was not answered for. The servers that survive go on, and a server that comes
/// back catches up.
#[test]
fn a_cluster_survives_the_loss_of_its_leader_and_takes_it_back() {
    for seed in 0..50 {
        let mut cluster = Cluster::new(3, seed);
        let first = cluster.elect();
        cluster.agree(b"before", 3);
        cluster.crash(first);
        let second = cluster.elect();
        assert_ne!(first, second);
        cluster.agree(b"between", 2);
        cluster.start(first);
        let index = cluster.agree(b"after", 3);
        let caught_up = |cluster: &Cluster| cluster.host(first).last_applied >= index;
        assert!(cluster.run_until(ms(1000), caught_up), "the first leader does not catch up");
        assert_eq!(cluster.applied_commands(first), [&b"before"[..], b"between", b"after"]);
    }
}

/// A server that stands sleeps towards its next election, not towards its disk.
#[test]
fn a_candidate_whose_disk_is_stuck_does_not_spin() {
    let mut server = TestServer::with(3, |config| config.pre_vote = false);
    server.hold_disk();
    server.time_out();
    server.granted(2);
    assert_eq!(server.status().wake.map(|(_, wake)| wake), Some(Wake::AskAgain));
    assert!(server.next_deadline() > Some(server.now));
}
