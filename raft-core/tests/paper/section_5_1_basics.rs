//! §5.1, Raft basics, and "Rules for Servers: all servers" of Figure 2: roles and terms.

use crate::pump::Cluster;
use crate::server::{TestServer, append, at, id, index, ms, term};
use raft_core::{
    AppendEntriesReply, AppendResult, Body, ProposeError, RequestPreVoteReply, RequestVoteReply,
    Role, Round, Session, Wake,
};

/// In normal operation there is exactly one leader, and all others follow it.
#[test]
fn in_normal_operation_one_server_leads_and_all_others_follow() {
    let mut cluster = Cluster::new(5, 1);
    let leader = cluster.elect();
    cluster.run_for(ms(1000));
    for server in cluster.ids() {
        let role = if server == leader { Role::Leader } else { Role::Follower };
        assert_eq!(cluster.raft(server).role(), role);
        assert_eq!(cluster.raft(server).leader(), Some(leader));
    }
}

/// A cluster of five goes on while two servers are down.
#[test]
fn a_cluster_of_five_tolerates_two_failures() {
    let mut cluster = Cluster::new(5, 2);
    cluster.agree(b"all five", 5);
    for _ in 0..2 {
        let leader = cluster.elect();
        cluster.crash(leader);
    }
    cluster.agree(b"three left", 3);
}

/// A follower issues no requests of its own: it only answers those of leaders and candidates.
#[test]
fn a_follower_speaks_only_when_it_is_spoken_to() {
    let mut server = TestServer::new(3);
    server.appended(2, 1, at(0, 0), &[1, 1], 2);
    for _ in 0..10 {
        server.pass(ms(100));
        assert!(server.take_sent().is_empty());
        server.heartbeat(2, 1);
    }
}

/// A client that asks a follower is sent to the leader, with its command given back.
#[test]
fn a_follower_sends_clients_to_the_leader() {
    let mut server = TestServer::new(3);
    let refused = server.propose(b"x".to_vec());
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: None, command: b"x".to_vec() }));
    server.heartbeat(2, 1);
    let refused = server.propose(b"x".to_vec());
    let leader = Some(id(2));
    assert_eq!(refused, Err(ProposeError::NotLeader { leader, command: b"x".to_vec() }));
}

/// Terms are numbered by consecutive integers, and each begins with an election.
#[test]
fn each_election_begins_the_next_term() {
    let mut server = TestServer::with(3, |config| config.pre_vote = false);
    for number in 1..5 {
        server.time_out();
        assert_eq!((server.role(), server.term()), (Role::Candidate, term(number)));
    }
}

/// There is at most one leader in a term, whatever the network and crashes do; the pump checks it
/// at every election.
#[test]
fn there_is_at_most_one_leader_in_a_term() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(5, seed);
        cluster.network = crate::pump::Network::unreliable();
        for _ in 0..6 {
            let leader = cluster.elect();
            cluster.crash(leader);
            cluster.run_for(ms(200));
            cluster.start(leader);
        }
    }
}

/// A server's current term only grows, whatever it hears.
#[test]
fn the_current_term_never_falls() {
    let mut server = TestServer::new(3);
    let mut newest = 0;
    for number in [1, 3, 2, 7, 7, 4, 0, 8] {
        server.heartbeat(2, number);
        newest = newest.max(number);
        assert_eq!(server.term(), term(newest));
    }
}

/// The current term survives a crash.
#[test]
fn the_current_term_survives_a_crash() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 4);
    server.crash();
    assert_eq!(server.term(), term(4));
}

/// Every message carries its sender's current term.
#[test]
fn every_message_carries_its_senders_term() {
    let mut server = TestServer::leader(3, 6, &[]);
    let of_a_term = |server: &mut TestServer, number| {
        let sent = server.take_sent();
        assert!(!sent.is_empty() && sent.iter().all(|message| message.term == term(number)));
    };
    server.take_sent();
    server.sleep_until(Wake::Heartbeat);
    of_a_term(&mut server, 7);
    server.pass(ms(200));
    server.take_sent();
    server.hear(2, 9, Body::AppendEntries(append(at(0, 0), vec![], 0)));
    of_a_term(&mut server, 9);
    server.time_out();
    of_a_term(&mut server, 9);
}

/// Whatever message brings a higher term, it is adopted.
#[test]
fn a_higher_term_in_any_message_is_adopted() {
    for body in messages_that_tell_of_a_term() {
        let mut server = TestServer::holding(3, 1, &[]);
        server.hear(2, 5, body);
        assert_eq!((server.term(), server.role()), (term(5), Role::Follower));
    }
}

/// A candidate or leader that learns of a higher term becomes a follower at once.
#[test]
fn candidates_and_leaders_step_down_at_a_higher_term() {
    for body in messages_that_tell_of_a_term() {
        for mut server in [TestServer::candidate(3, 1, &[]), TestServer::leader(3, 1, &[])] {
            server.hear(2, 5, body.clone());
            assert_eq!((server.role(), server.term()), (Role::Follower, term(5)));
        }
    }
}

/// A request of an earlier term is refused, and the refusal tells the current term.
#[test]
fn a_request_of_an_earlier_term_is_refused() {
    let mut server = TestServer::holding(3, 5, &[]);
    assert_eq!(server.asked_to_vote(2, 4, at(9, 9)), Some(false));

    server.hear(
        2,
        4,
        Body::RequestVote(raft_core::RequestVote { last_log: at(9, 9), transfer: false }),
    );
    assert_eq!(server.vote_reply(), Some((term(5), false)));

    server.hear(
        2,
        4,
        Body::AppendEntries(append(at(0, 0), crate::server::entries_after(0, &[4]), 1)),
    );
    let (reply_term, _) = server.append_reply().unwrap();
    assert_eq!((reply_term, server.leader(), server.commit_index()), (term(5), None, 0));
    assert!(server.stored_terms().is_empty());
}

/// A reply of an earlier term counts for nothing.
#[test]
fn a_reply_of_an_earlier_term_is_ignored() {
    let mut server = TestServer::leader(3, 1, &[]);
    let before = server.status();
    let result = AppendResult::Matched(index(1));
    let reply = AppendEntriesReply {
        session: Session::new(1),
        round: Round::new(1),
        result,
        promise_micros: 0,
        state: None,
    };
    server.hear(2, 1, Body::AppendEntriesReply(reply));
    assert_eq!(server.status().counters.stale_term, before.counters.stale_term + 1);
    assert_eq!(server.status().peers, before.peers);
}

/// A voter that has not answered is asked again, and one that has is not, whether it granted or
/// refused.
#[test]
fn silent_voters_are_asked_again() {
    let mut server = TestServer::candidate(5, 1, &[]);
    server.take_sent();
    server.granted(2);
    server.voted(3, false);
    for _ in 0..2 {
        server.sleep_until(Wake::AskAgain);
        let asked: Vec<_> = server.take_sent().into_iter().map(|message| message.to).collect();
        assert_eq!(asked, [4, 5].map(id));
    }
}

/// A request that got no answer is sent again: what a follower misses, it gets with the heartbeats.
#[test]
fn requests_without_an_answer_are_sent_again() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.take_sent();
    for _ in 0..3 {
        server.matched(3, 0);
        server.sleep_until(Wake::Heartbeat);
        assert!(!server.appends_to(2).is_empty());
    }
}

/// Requests to several servers go out side by side, not one after the other.
#[test]
fn requests_are_sent_to_all_servers_in_parallel() {
    let mut server = TestServer::leader(5, 0, &[]);
    server.take_sent();
    server.propose_command();
    server.sleep_until(Wake::Heartbeat);
    let mut asked: Vec<_> = server.take_sent().iter().map(|message| message.to.get()).collect();
    asked.dedup();
    assert_eq!(asked, [2, 3, 4, 5]);
}

/// One of each message whose term is adopted as soon as it is heard, and not judged first.
fn messages_that_tell_of_a_term() -> Vec<Body<Vec<u8>>> {
    let last_log = at(0, 0);
    let result = AppendResult::Matched(index(0));
    vec![
        Body::AppendEntries(append(at(0, 0), vec![], 0)),
        Body::AppendEntriesReply(AppendEntriesReply {
            session: Session::new(1),
            round: Round::new(1),
            result,
            promise_micros: 0,
            state: None,
        }),
        Body::RequestVoteReply(RequestVoteReply { granted: false, last_log }),
        Body::RequestPreVoteReply(RequestPreVoteReply { granted: false, campaign: 0 }),
    ]
}
