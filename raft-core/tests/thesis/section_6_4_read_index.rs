//! Linearizable reads without a log entry (§8, thesis 6.4): ReadIndex.

use crate::pump::Cluster;
use crate::server::{TestServer, append, at, entries_after, id, index, ms};
use raft_core::{
    AppendResult, Body, Index, Message, ReadId, ReadIndex, ReadIndexReply, ReadRefused, Role,
    Round, Session,
};

/// A leader of five whose first entry is committed, with nothing left to say.
fn leader(size: u64) -> TestServer {
    let mut server = TestServer::leader(size, 0, &[]);
    (2..=size).for_each(|peer| server.matched(peer, 1));
    assert_eq!(server.commit_index(), 1);
    server.take_sent();
    server
}

/// Asks for a read; the read and the round that left for it.
fn read(server: &mut TestServer) -> (ReadId, Round) {
    server.take_sent();
    let read = server.read().expect("it leads");
    server.poll();
    let round = server.appends_to(2).last().expect("a round leaves for it").round;
    (read, round)
}

fn echo(server: &mut TestServer, peer: u64, round: Round) {
    let matched = server.status().last_log.index;
    server.answered(peer, round, AppendResult::Matched(matched));
}

/// Only who knows the leader reads.
#[test]
fn without_a_leader_nobody_reads() {
    let mut server = TestServer::new(3);
    assert_eq!(server.read(), Err(ReadRefused::NoLeader));
}

/// A follower asks its leader, once for all reads that wait, and serves them from its own state
/// (thesis 6.4).
#[test]
fn a_follower_reads_through_its_leader() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    server.take_sent();
    let (first, second) = (server.read().unwrap(), server.read().unwrap());
    server.turn();
    let asked = server.take_sent();
    let [Message { to, body: Body::ReadIndex(ReadIndex { id: request }), .. }] = &asked[..] else {
        panic!("one request: {asked:?}");
    };
    assert_eq!(*to, id(2));

    let answer = |index| ReadIndexReply { id: *request, index: Index::new(index) };
    server.hear(2, 1, Body::ReadIndexReply(answer(1)));
    assert!(server.reads_ready.is_empty(), "the entry has yet to come");
    let mut append = append(at(0, 0), entries_after(0, &[1]), 1);
    append.round = Round::new(9);
    server.hear(2, 1, Body::AppendEntries(append));
    assert_eq!(server.reads_ready, [(first, index(1)), (second, index(1))]);
}

/// A server restarts while an answer is on its way: that is no answer to the first request of its
/// new life.
#[test]
fn a_late_answer_to_an_earlier_life_is_none() {
    let mut server = TestServer::new(3);
    let ask = |server: &mut TestServer| {
        server.heartbeat(2, 1);
        server.take_sent();
        server.read().unwrap();
        server.turn();
        let asked = server.take_sent();
        let [Message { body: Body::ReadIndex(ReadIndex { id }), .. }] = &asked[..] else {
            panic!("one request: {asked:?}");
        };
        *id
    };
    let answer = |id| Body::ReadIndexReply(ReadIndexReply { id, index: Index::ZERO });
    let earlier = ask(&mut server);
    server.crash();
    let request = ask(&mut server);
    server.hear(2, 1, answer(earlier));
    assert!(server.reads_ready.is_empty(), "served from before the crash");
    server.hear(2, 1, answer(request));
    assert_eq!(server.reads_ready.len(), 1);
}

fn requests(server: &mut TestServer) -> Vec<ReadId> {
    let request = |body| if let Body::ReadIndex(request) = body { Some(request.id) } else { None };
    server.take_sent().into_iter().filter_map(|message| request(message.body)).collect()
}

fn round(server: &mut TestServer, round: u64) {
    let mut heartbeat = append(at(0, 0), vec![], 0);
    heartbeat.round = Round::new(round);
    server.hear(2, 1, Body::AppendEntries(heartbeat));
}

/// A request or its answer may be lost: the follower asks again when there was no answer for a
/// heartbeat interval, and not before. The rounds that its own request brings about are no reason.
#[test]
fn a_follower_asks_again_after_a_heartbeat_interval() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    server.read().unwrap();
    server.turn();
    let asked = requests(&mut server);
    assert_eq!(asked.len(), 1);
    for number in 2..30 {
        round(&mut server, number);
    }
    assert!(requests(&mut server).is_empty(), "an answer may be on its way");
    server.pass(ms(50));
    round(&mut server, 30);
    assert_eq!(requests(&mut server), asked);
    round(&mut server, 31);
    assert!(requests(&mut server).is_empty(), "once in each interval");
}

/// A leader begins no second round for a request whose round is under way, however near the
/// follower is that repeats it.
#[test]
fn a_repeated_request_begins_no_round() {
    let mut server = leader(3);
    let request = || Body::ReadIndex(ReadIndex { id: ReadId::new(7) });
    server.hear(2, 1, request());
    let sent = server.appends_to(3);
    assert_eq!(sent.len(), 1);
    for _ in 0..10 {
        server.hear(2, 1, request());
    }
    assert!(server.take_sent().is_empty());
    echo(&mut server, 3, sent[0].round);
    assert_eq!(replies(&mut server).len(), 1);
    server.hear(2, 1, request());
    assert_eq!(
        server.appends_to(3).len(),
        1,
        "its answer was lost: a read after it needs a round of its own"
    );
}

/// A read of a follower costs one request, one answer and one round, besides the heartbeats.
#[test]
fn a_read_of_a_follower_is_asked_for_once() {
    const READS: usize = 100;
    let mut cluster = Cluster::new(5, 1);
    let leader = cluster.elect();
    cluster.run_for(ms(500));
    let follower = cluster.ids().find(|id| *id != leader).unwrap();
    (cluster.keep_log, cluster.messages) = (true, 0);
    let begin = cluster.now;
    for served in 1..=READS {
        cluster.with_raft(follower, raft_core::Raft::read).expect("it knows its leader");
        let is_served = |cluster: &Cluster| cluster.host(follower).reads_ready.len() == served;
        assert!(cluster.run_until(ms(100), is_served));
    }
    let count = |is: fn(&Body<_>) -> bool| {
        cluster.log.iter().filter(|(_, message)| is(&message.body)).count()
    };
    let asked = count(|body| matches!(body, Body::ReadIndex(_)));
    let answered = count(|body| matches!(body, Body::ReadIndexReply(_)));
    let appends = count(|body| matches!(body, Body::AppendEntries(_)));
    let heartbeats = cluster.now.saturating_duration_since(begin).as_millis() as usize / 50;
    assert_eq!((asked, answered), (READS, READS));
    let expected = 4 * READS..=4 * (READS + heartbeats + 1);
    assert!(expected.contains(&appends), "{appends} appends, not {expected:?}");
}

/// A hint that the leader is gone, which is wrong: the reads that wait are asked again once the
/// leader is heard of, and none is lost.
#[test]
fn a_false_hint_loses_no_read() {
    for campaigns in [false, true] {
        let mut server = TestServer::new(3);
        server.heartbeat(2, 1);
        let first = server.read().unwrap();
        server.turn();
        let asked = requests(&mut server);
        let second = server.read().unwrap();
        server.suspect_leader(id(2));
        server.turn();
        assert_eq!(server.read(), Err(ReadRefused::NoLeader));
        if campaigns {
            server.time_out();
            assert_eq!(server.role(), Role::PreCandidate);
        }
        round(&mut server, 2);
        assert_eq!(requests(&mut server), asked, "asked again");
        let answer = |id| Body::ReadIndexReply(ReadIndexReply { id, index: Index::ZERO });
        server.hear(2, 1, answer(asked[0]));
        let next = requests(&mut server);
        server.hear(2, 1, answer(next[0]));
        assert_eq!(server.reads_ready, [(first, Index::ZERO), (second, Index::ZERO)]);
        assert!(server.reads_lost.is_empty());
    }
}

/// A hint that is right: the reads are lost when no leader is heard of for an election timeout, at
/// a voter and at a learner.
#[test]
fn a_true_hint_loses_the_reads_after_a_timeout() {
    for voters in [3, 0] {
        let mut server = TestServer::with(3, |config| config.voters.truncate(voters));
        server.heartbeat(2, 1);
        let read = server.read().unwrap();
        server.turn();
        server.suspect_leader(id(2));
        server.turn();
        server.time_out();
        assert!(server.reads_lost.is_empty(), "it may yet be wrong");
        server.time_out();
        assert_eq!(server.reads_lost, [read]);
    }
}

/// The server that a read waits for leaves, and the leader is left alone: nobody will echo a round
/// any more.
#[test]
fn a_read_is_confirmed_when_the_server_it_waits_for_has_left() {
    let mut server = leader(2);
    server.hold_disk();
    server.change_membership(&[raft_core::Change::Remove(id(2))]).unwrap();
    server.poll();
    let (read, _) = read(&mut server);
    server.matched(2, 2);
    assert!(server.reads_ready.is_empty());
    server.persist_next();
    server.sync();
    assert_eq!(server.reads_ready.iter().map(|(read, _)| *read).collect::<Vec<_>>(), [read]);
}

/// A follower that loses its leader cannot tell any more.
#[test]
fn a_followers_reads_are_lost_with_its_leader() {
    let mut server = TestServer::new(3);
    server.heartbeat(2, 1);
    let read = server.read().unwrap();
    server.hear(3, 2, Body::AppendEntries(append(at(0, 0), vec![], 0)));
    assert_eq!(server.reads_lost, [read]);
}

/// The leader answers a follower as it answers its own clients: after a quorum has echoed a round
/// of its own.
#[test]
fn a_leader_answers_a_follower_after_a_round() {
    let mut server = leader(3);
    server.hear(2, 1, Body::ReadIndex(ReadIndex { id: ReadId::new(7) }));
    let round = server.appends_to(2).last().expect("a round leaves for it").round;
    assert!(replies(&mut server).is_empty());
    echo(&mut server, 3, round);
    assert_eq!(replies(&mut server), [ReadIndexReply { id: ReadId::new(7), index: index(1) }]);
}

fn replies(server: &mut TestServer) -> Vec<ReadIndexReply> {
    let reply = |body| if let Body::ReadIndexReply(reply) = body { Some(reply) } else { None };
    server.take_sent().into_iter().filter_map(|message| reply(message.body)).collect()
}

/// A read is served at the commit index of when it came, once a quorum has echoed a round that left
/// after it.
#[test]
fn a_read_is_ready_once_a_quorum_echoes_its_round() {
    let mut server = leader(5);
    let (read, round) = read(&mut server);
    echo(&mut server, 2, round);
    assert!(server.reads_ready.is_empty());
    echo(&mut server, 2, round);
    assert!(server.reads_ready.is_empty(), "the same server counts once");
    echo(&mut server, 3, round);
    assert_eq!(server.reads_ready, [(read, index(1))]);
}

/// An echo of an earlier round proves nothing: a newer leader could have committed between the two.
#[test]
fn an_echo_of_an_earlier_round_does_not_confirm() {
    let mut server = leader(3);
    let (_, earlier) = read(&mut server);
    let (_, later) = read(&mut server);
    assert!(later > earlier);
    echo(&mut server, 2, earlier);
    assert_eq!(server.reads_ready.len(), 1);
    echo(&mut server, 3, earlier);
    assert_eq!(server.reads_ready.len(), 1);
    echo(&mut server, 2, later);
    assert_eq!(server.reads_ready.len(), 2);
}

/// An echo of a round that has not left yet is nobody's echo, and does not count in advance.
#[test]
fn an_echo_of_a_round_to_come_does_not_confirm() {
    let mut server = leader(3);
    echo(&mut server, 2, Round::new(1_000));
    read(&mut server);
    assert!(server.reads_ready.is_empty());
}

/// Reads that come together share a round.
#[test]
fn reads_that_come_together_share_a_round() {
    let mut server = leader(3);
    let reads: Vec<_> = (0..10).map(|_| server.read().unwrap()).collect();
    server.poll();
    let sent = server.appends_to(2);
    assert_eq!(sent.len(), 1);
    echo(&mut server, 2, sent[0].round);
    assert_eq!(server.reads_ready.iter().map(|(read, _)| *read).collect::<Vec<_>>(), reads);
}

/// A new leader doesn't know what is committed before it has committed in its own term: reads wait
/// for that.
#[test]
fn a_read_waits_for_a_commit_of_the_own_term() {
    let mut server = TestServer::leader(3, 3, &[1, 2, 3]);
    server.take_sent();
    server.read().unwrap();
    server.poll();
    server.answered(2, Round::new(1), AppendResult::Matched(index(3)));
    server.answered(3, Round::new(1), AppendResult::Matched(index(3)));
    assert!(server.reads_ready.is_empty());
    server.answered(2, Round::new(1), AppendResult::Matched(index(4)));
    assert!(server.reads_ready.is_empty(), "its round leaves only now");
    let round = server.appends_to(3).last().unwrap().round;
    echo(&mut server, 3, round);
    assert_eq!(server.reads_ready.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [index(4)]);
}

/// A read is ready only once all that it must see was handed to the state machine.
#[test]
fn a_read_waits_for_the_state_machine() {
    let mut server = leader(3);
    server.hold_disk();
    server.propose_command();
    server.matched(2, 2);
    server.matched(3, 2);
    let (read, round) = read(&mut server);
    echo(&mut server, 2, round);
    assert!(server.reads_ready.is_empty(), "entry 2 is committed, and not durable here");
    server.sync();
    assert_eq!(server.reads_ready, [(read, index(2))]);
    assert_eq!(server.applied_ids(), [at(1, 1), at(1, 2)]);
}

/// Leadership that ends loses the reads that were not confirmed, each once.
#[test]
fn lost_leadership_loses_the_reads_that_wait() {
    let mut server = leader(3);
    let (first, _) = read(&mut server);
    let second = server.read().unwrap();
    server.hear(2, 9, Body::AppendEntries(append(at(0, 0), vec![], 0)));
    assert_eq!(server.reads_lost, [first, second]);
    assert_eq!((server.reads_ready.len(), server.status().reads_waiting), (0, 0));
}

/// A read that was confirmed stays good, even if leadership ends before the state machine is there.
#[test]
fn a_confirmed_read_outlives_leadership() {
    let mut server = leader(3);
    server.hold_disk();
    server.propose_command();
    server.matched(2, 2);
    server.matched(3, 2);
    let (read, round) = read(&mut server);
    echo(&mut server, 2, round);
    server.hear(2, 2, Body::AppendEntries(append(at(1, 2), vec![], 2)));
    assert_eq!((server.role(), server.reads_lost.len()), (Role::Follower, 0));
    server.sync();
    assert_eq!(server.reads_ready, [(read, index(2))]);
}

/// A leader without a quorum confirms nothing, and loses its reads when it steps down.
#[test]
fn a_leader_without_a_quorum_confirms_no_read() {
    let mut server = leader(5);
    let (read, round) = read(&mut server);
    server.run_until_it_steps_down(|server| echo(server, 2, round));
    assert_eq!((server.reads_ready.len(), server.reads_lost.as_slice()), (0, [read].as_slice()));
}

/// The only server of a cluster is its own quorum.
#[test]
fn a_cluster_of_one_reads_at_once() {
    let mut server = TestServer::new(1);
    let read = server.read().unwrap();
    server.poll();
    assert_eq!(server.reads_ready, [(read, index(1))]);
}

/// A follower echoes the newest round that it has seen, with a rejection as with a match.
#[test]
fn a_follower_echoes_the_newest_round() {
    let mut server = TestServer::new(3);
    let mut newest = 0;
    for round in [3, 5, 4, 9] {
        let mut heartbeat = append(at(0, 0), vec![], 0);
        heartbeat.round = Round::new(round);
        server.hear(2, 1, Body::AppendEntries(heartbeat));
        newest = newest.max(round);
        if let Some((_, reply)) = server.append_reply() {
            assert_eq!(reply.round, Round::new(newest));
        } else {
            assert!(round < newest, "a new round is answered at once");
        }
    }
}

/// An answer in another replication session confirms nothing.
#[test]
fn an_answer_of_another_session_does_not_confirm() {
    let mut server = leader(3);
    let (_, round) = read(&mut server);
    let result = AppendResult::Matched(index(1));
    let reply = raft_core::AppendEntriesReply {
        session: Session::new(2),
        round,
        result,
        promise_micros: 0,
        state: None,
    };
    server.hear(2, 1, Body::AppendEntriesReply(reply));
    assert!(server.reads_ready.is_empty());
    assert_eq!(server.status().counters.stale_replies, 1);
}

/// The refusal of an append of an earlier term is no echo in the term that it tells.
///
/// ```text
/// S1 leads term 1, and sends append of round 40 to S2; it is delayed
/// S1 steps down, stands in term 2; S2 grants, S1 leads
/// S2 gets the append of term 1, and refuses it in term 2; the refusal is delayed
/// S3 wins term 3 with S2's vote, and commits; S1 hears nothing of it
/// S1 takes a read, its round is lost; S2's refusal comes: it must not confirm that S1 still leads
/// ```
#[test]
fn the_refusal_of_an_old_append_confirms_no_read() {
    let mut s2 = TestServer::new(3);
    assert_eq!(s2.asked_to_vote(3, 2, at(0, 0)), Some(true));
    let mut old = append(at(0, 0), vec![], 0);
    old.round = Round::new(40);
    s2.hear(3, 1, Body::AppendEntries(old));
    let (told, refusal) = s2.append_reply().expect("an old leader is told of the new term");
    assert_eq!(told.get(), 2);

    let mut s1 = TestServer::leader(3, 1, &[]);
    s1.matched(2, 1);
    assert_eq!((s1.term().get(), s1.commit_index()), (2, 1));
    read(&mut s1);
    s1.hear(2, 2, Body::AppendEntriesReply(refusal));
    assert!(s1.reads_ready.is_empty(), "S2 never saw the read's round");
}

/// A leader that was cut off serves no read from before what others have committed since.
#[test]
fn a_cut_off_leader_serves_no_stale_read() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(3, seed);
        let old = cluster.elect();
        cluster.agree(b"before", 3);
        cluster.disconnect(old);
        assert!(cluster.with_raft(old, raft_core::Raft::read).is_ok());
        let new = cluster.elect();
        let written = cluster.agree(b"after", 2);
        assert!(cluster.with_raft(new, raft_core::Raft::read).is_ok());
        cluster.run_for(ms(200));
        cluster.connect(old);
        cluster.run_for(ms(500));
        let (old, new) = (cluster.host(old), cluster.host(new));
        assert_eq!((old.reads_ready.len(), old.reads_lost.len()), (0, 1));
        assert!(new.reads_ready.iter().all(|(_, at)| *at >= written));
        assert_eq!(new.reads_ready.len(), 1);
    }
}
