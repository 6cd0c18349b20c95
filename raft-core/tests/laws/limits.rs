//! Limits and bad input: everything has a bound, an error gives the command back, and nothing that
//! a peer says can panic or make memory grow without end.

use crate::server::{TestServer, append, at, entries_after, entry, id, index, ms, term};
use raft_core::{
    AppendEntriesReply, AppendResult, Body, Config, Entries, Entry, HardState, Index, Message,
    Output, Payload, ProposeError, Raft, ReadRefused, RequestVoteReply, Restored, Role, Round,
    Session, WriteId,
};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

/// A leader of three whose followers hold all that it has, with these limits.
fn leader(configure: impl FnOnce(&mut Config)) -> TestServer {
    let mut server = TestServer::with(3, configure);
    server.lead();
    server.matched(2, 1);
    server.matched(3, 1);
    server.take_sent();
    server
}

/// The smallest limits with which a server runs: of a log of so many bytes, and commands of one.
fn small_log(bytes: usize) -> impl FnOnce(&mut Config) {
    move |config| {
        config.log_bytes_max = bytes;
        config.command_bytes_max = 1;
        config.snapshot_log_bytes = 1;
        config.log_tail_bytes = 0;
    }
}

fn entry_bytes(command: &[u8]) -> usize {
    Entry::<Vec<u8>>::OVERHEAD_BYTES + command.len()
}

/// Appends with entries, and how many entries each has.
fn batches(server: &mut TestServer, peer: u64) -> Vec<usize> {
    let sizes = server.appends_to(peer).into_iter().map(|append| append.entries.len());
    sizes.filter(|entries| *entries > 0).collect()
}

// What an application asks.

#[test]
fn a_command_that_is_too_long_comes_back() {
    let mut server = leader(|config| config.command_bytes_max = 4);
    let refused = server.propose(b"12345".to_vec());
    let command = b"12345".to_vec();
    assert_eq!(refused, Err(ProposeError::TooLarge { bytes: 5, bytes_max: 4, command }));
    assert!(server.propose(b"1234".to_vec()).is_ok());
}

#[test]
fn a_command_that_finds_the_log_full_comes_back() {
    let limit = entry_bytes(b"") + 2 * entry_bytes(b"x");
    let mut server = leader(small_log(limit));
    assert!(server.propose(b"x".to_vec()).is_ok() && server.propose(b"x".to_vec()).is_ok());
    let command = b"x".to_vec();
    let refused = server.propose(command.clone());
    assert_eq!(refused, Err(ProposeError::LogFull { bytes_max: limit, command }));
    assert_eq!(server.status().log_bytes, limit);
}

/// A term begins even if the log is full; its no-op needs no room.
#[test]
fn a_full_log_keeps_nobody_from_leading() {
    let stored = TestServer::holding(3, 1, &[1, 1]).stored;
    let mut server = TestServer::restored(3, stored, small_log(2 * 32 + 2));
    server.lead();
    server.matched(2, 3);
    assert_eq!(server.commit_index(), 3);
}

#[test]
fn a_read_beyond_the_limit_is_refused() {
    let mut server = leader(|config| config.reads_waiting_max = 2);
    assert!(server.read().is_ok() && server.read().is_ok());
    assert_eq!(server.read(), Err(ReadRefused::TooManyReads { waiting_max: 2 }));
    server.poll();
    assert_eq!(server.read(), Err(ReadRefused::TooManyReads { waiting_max: 2 }), "they wait still");
}

#[test]
fn errors_say_what_to_do_next() {
    let command = ();
    let leader = Some(id(2));
    let text = ProposeError::NotLeader { leader, command }.to_string();
    assert_eq!(text, "this server does not lead; server 2 does");
    let text = ProposeError::TooLarge { bytes: 9, bytes_max: 4, command }.to_string();
    assert!(text.contains('9') && text.contains('4'));
    assert!(ProposeError::LogFull { bytes_max: 77, command }.to_string().contains("77"));
    assert!(ReadRefused::TooManyReads { waiting_max: 88 }.to_string().contains("88"));
}

// What a leader sends.

/// Until the logs agree, one append with entries at a time; heartbeats go on.
#[test]
fn probing_sends_one_append_at_a_time() {
    let mut server = TestServer::leader(3, 0, &[]);
    for _ in 0..5 {
        server.propose_command();
    }
    assert_eq!(batches(&mut server, 2), [1], "the no-op, and nothing behind it");
    server.matched(2, 1);
    assert_eq!(batches(&mut server, 2), [5]);
}

/// Once they agree, a window of appends, which answers move on.
#[test]
fn the_window_of_appends_is_bounded() {
    let mut server = leader(|config| config.inflight_appends_max = 3);
    for _ in 0..10 {
        server.propose_command();
    }
    assert_eq!(batches(&mut server, 2), [1, 1, 1]);
    server.matched(2, 2);
    assert_eq!(batches(&mut server, 2), [7], "what waited travels together");
    server.pass(ms(50));
    assert_eq!(server.appends_to(2).len(), 1, "a full window keeps no heartbeat back");
}

#[test]
fn the_window_of_bytes_is_bounded() {
    let two = 2 * entry_bytes(b"command");
    let mut server = leader(|config| config.inflight_bytes_max = two);
    for _ in 0..10 {
        server.propose_command();
    }
    assert_eq!(batches(&mut server, 2), [1, 1]);
}

/// Entries that wait travel in appends of bounded size, but one entry always fits.
#[test]
fn appends_are_bounded_in_bytes() {
    let two = 2 * entry_bytes(b"command");
    let mut server = leader(|config| {
        config.append_bytes_max = two;
        config.command_bytes_max = two;
    });
    for _ in 0..5 {
        server.propose(b"command".to_vec()).unwrap();
    }
    server.propose(vec![0; two]).unwrap();
    server.poll();
    assert_eq!(batches(&mut server, 2), [2, 2, 1, 1]);
}

// What the disk and the state machine are asked.

#[test]
fn writes_are_bounded_in_bytes_and_number() {
    let mut server = leader(|config| {
        config.write_bytes_max = 2 * entry_bytes(b"command");
        config.inflight_writes_max = 2;
    });
    server.hold_disk();
    for _ in 0..7 {
        server.propose(b"command".to_vec()).unwrap();
    }
    server.poll();
    assert_eq!(server.writes.iter().map(|write| write.entries.len()).collect::<Vec<_>>(), [2, 2]);
    server.persist_next();
    assert_eq!(server.writes.iter().map(|write| write.entries.len()).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(server.status().writes_in_flight, 2);
}

#[test]
fn batches_for_the_state_machine_are_bounded_in_bytes_and_number() {
    let mut server = TestServer::with(3, |config| {
        config.apply_bytes_max = 2 * entry_bytes(b"1.1");
        config.inflight_applies_max = 2;
    });
    let seven = append(at(0, 0), entries_after(0, &[1; 7]), 7);
    server.step_from(2, 1, Body::AppendEntries(seven));
    let mut asked = Vec::new();
    for _ in 0..3 {
        while let Some(output) = server.raft.poll_outbox() {
            if let Output::Persist(write) = output {
                server.raft.persisted(write.id);
            } else if let Output::Apply { through, .. } = output {
                asked.push(through);
            }
        }
        if asked.len() == 2 {
            server.raft.applied(index(2));
        }
    }
    assert_eq!(asked, [index(2), index(4), index(6)], "the next once one is answered for");
}

#[test]
fn answers_of_the_host_for_what_was_never_asked_are_counted() {
    let mut server = TestServer::new(3);
    let before = server.status();
    server.persisted(WriteId::new(1));
    server.persisted(WriteId::new(u64::MAX));
    server.applied(index(u64::MAX));
    let mistakes = server.status().counters.api_misuse;
    assert_eq!((mistakes, server.status().last_applied), (3, before.last_applied));
}

// What peers say.

#[test]
fn messages_for_others_and_replies_of_strangers_are_counted_and_dropped() {
    let mut server = TestServer::new(3);
    let before = server.status();
    let reply = RequestVoteReply { granted: true, last_log: at(0, 0) };
    let body = || Body::RequestVoteReply(reply);
    let message = |from, to| Message { from: id(from), to: id(to), term: term(9), body: body() };
    server.step(message(2, 3));
    server.step(message(7, 1));
    server.step(message(1, 1));
    let after = server.status();
    assert_eq!((after.counters.misrouted, after.counters.unknown_sender), (1, 2));
    assert_eq!((after.current_term, after.leader, after.wake), (term(0), None, before.wake));
}

/// An append that contradicts itself is dropped whole: a gap, a term that falls, an entry of a term
/// beyond the sender's.
#[test]
fn an_append_that_contradicts_itself_is_dropped() {
    let contradictions: [(_, Vec<Entry<Vec<u8>>>); 7] = [
        (at(0, 0), vec![entry(1, 2)]),
        (at(0, 0), vec![entry(1, 1), entry(1, 3)]),
        (at(0, 0), vec![entry(1, 1), entry(1, 1)]),
        (at(0, 0), vec![entry(2, 1), entry(1, 2)]),
        (at(0, 0), vec![entry(1, 1), entry(3, 2)]),
        (at(3, 0), vec![]),
        (at(0, 0), vec![entry(1, 0)]),
    ];
    for (prev, entries) in contradictions {
        let mut server = TestServer::holding(3, 2, &[]);
        server.hear(2, 2, Body::AppendEntries(append(prev, entries, 9)));
        let status = server.status();
        assert_eq!((status.counters.malformed, status.leader), (1, None));
        assert_eq!((status.last_log.index, status.commit_index), (Index::ZERO, Index::ZERO));
        assert!(server.take_sent().is_empty());
    }
}

/// An answer for entries that the leader does not have is dropped.
#[test]
fn an_answer_beyond_the_log_is_dropped() {
    let mut server = leader(|_| {});
    server.matched(2, 2);
    server.matched(3, u64::MAX);
    assert_eq!(server.status().counters.malformed, 2);
    assert_eq!(server.commit_index(), 1);
}

/// Rejections with senseless numbers move nothing beyond what the leader has.
#[test]
fn senseless_rejections_are_harmless() {
    let mut server = TestServer::leader(3, 0, &[]);
    for (prev, hint) in [(0, at(0, 0)), (u64::MAX, at(9, 9)), (1, at(u64::MAX, u64::MAX))] {
        server.rejected(2, prev, hint);
        let peer = server.status().peers[0];
        assert!(peer.match_index < peer.next_index && peer.next_index <= index(2));
    }
    server.matched(2, 1);
    assert_eq!(server.commit_index(), 1);
}

/// A follower whose log is full keeps what fits, acknowledges that, and counts the rest.
#[test]
fn a_follower_with_a_full_log_keeps_what_fits() {
    let mut server = TestServer::with(3, small_log(2 * entry_bytes(b"1.1")));
    let result = server.appended(2, 1, at(0, 0), &[1, 1, 1, 1], 4);
    assert_eq!(result, Some(AppendResult::Matched(index(2))));
    assert_eq!((server.status().counters.log_full, server.commit_index()), (1, 2));
}

/// Entries of an earlier term were in a log with the same limit, and none of them commits before
/// the no-op behind them: they are taken beyond the limit, as much again as what is not committed
/// may take. Entries of the leader's own term are not.
#[test]
fn a_follower_with_a_full_log_takes_what_earlier_leaders_had_room_for() {
    let with_room = |config: &mut Config| {
        small_log(10 * entry_bytes(b"1.1"))(config);
        config.snapshot_log_bytes = 5 * entry_bytes(b"1.1");
    };
    let result = |terms: &[u64]| {
        let mut server = TestServer::with(3, with_room);
        server.appended(2, 2, at(0, 0), terms, 0)
    };
    assert_eq!(result(&[1; 30]), Some(AppendResult::Matched(index(14))));
    assert_eq!(result(&[2; 30]), Some(AppendResult::Matched(index(9))));
}

/// A command that is longer than this server's own limits allow is taken when nothing else could
/// make room: once all others have been handed to the state machine, and no snapshot is due.
#[test]
fn a_follower_whose_limits_are_smaller_goes_on() {
    let mut server = TestServer::with(3, |config| {
        small_log(200)(config);
        config.snapshot_log_bytes = 100;
    });
    let long = |index, bytes| {
        let payload = Payload::Command(vec![0; bytes]);
        Entry { term: term(1), index: Index::new(index), payload }
    };
    let two = append(at(0, 0), vec![long(1, 500), long(2, 500)], 0);
    server.hear(2, 1, Body::AppendEntries(two));
    assert_eq!(server.status().last_log, at(1, 1), "one, and no more before it is committed");
    server.hear(2, 1, Body::AppendEntries(append(at(1, 1), vec![], 1)));
    server.hear(2, 1, Body::AppendEntries(append(at(1, 1), vec![long(2, 500)], 1)));
    assert_eq!(server.status().last_log, at(1, 1), "a snapshot is due, and will make room");
    server.snapshot_taken(index(1));
    server.poll();
    server.hear(2, 1, Body::AppendEntries(append(at(1, 1), vec![long(2, 500)], 1)));
    assert_eq!(server.status().last_log, at(1, 2));
}

/// A leader refuses commands before more waits to be committed than a follower's log could have
/// room for.
#[test]
fn what_is_not_committed_leaves_room_for_what_stays_in_the_log() {
    let mut server = leader(|config| {
        small_log(1000)(config);
        config.snapshot_log_bytes = 600;
        config.log_tail_bytes = 200;
    });
    let accepted = (0..100).take_while(|_| server.propose(vec![0]).is_ok()).count();
    assert_eq!(accepted, 200 / entry_bytes(b"x"));
    let refused = server.propose(vec![0]);
    let command = vec![0];
    assert_eq!(refused, Err(ProposeError::TooManyUncommitted { bytes_max: 200, command }));
}

/// A tail that was kept under other limits makes room when the server starts.
#[test]
fn a_tail_of_an_earlier_life_makes_room() {
    let mut server = TestServer::with(1, |config| config.log_tail_bytes = 10_000);
    server.turn();
    for _ in 0..100 {
        server.propose_command();
    }
    server.take_snapshot().unwrap();
    server.poll();
    let last = server.status().last_log.index;
    server.snapshot_taken(last);
    server.poll();
    assert!(server.status().log_bytes > 3000);
    let mut server = TestServer::restored(1, server.stored, small_log(100));
    server.turn();
    assert!(server.propose(vec![0]).is_ok());
}

/// The no-op with which a leader begins its term fits, however full the log is.
#[test]
fn a_follower_with_a_full_log_takes_the_no_op_of_a_new_term() {
    let stored = TestServer::holding(3, 1, &[1, 1]).stored;
    let mut server = TestServer::restored(3, stored, small_log(2 * 32 + 2));
    let noop = Entry { term: term(2), index: index(3), payload: Payload::Noop };
    server.hear(2, 2, Body::AppendEntries(append(at(1, 2), vec![noop], 3)));
    assert_eq!((server.status().last_log, server.commit_index()), (at(2, 3), 3));
}

/// No-ops need no room, for a term must be able to begin; a leader that sends more than one in a
/// term does not get past the limit.
#[test]
fn no_ops_without_end_do_not_fill_memory() {
    let mut server = TestServer::with(3, small_log(10 * entry_bytes(b"")));
    for number in 1..100 {
        let noop = Entry { term: term(1), index: index(number), payload: Payload::Noop };
        let prev = server.status().last_log;
        server.hear(2, 1, Body::AppendEntries(append(prev, vec![noop], 0)));
    }
    assert!(server.status().log_bytes <= 11 * entry_bytes(b""));
}

/// The last term there is can be told to a server, which then stands no more, and spins no more.
#[test]
fn the_last_term_there_is_does_no_harm() {
    for pre_vote in [true, false] {
        let mut server = TestServer::with(3, |config| config.pre_vote = pre_vote);
        assert_eq!(server.asked_to_vote(2, u64::MAX, at(0, 0)), Some(true));
        for _ in 0..10 {
            server.time_out();
            if let Some(campaign) = server.campaign() {
                server.pre_granted(2, campaign);
            }
            assert!(server.next_deadline() > Some(server.now));
            assert_ne!(server.role(), Role::Candidate);
        }
        assert_eq!(server.asked_to_vote(3, u64::MAX, at(9, 9)), Some(false), "one vote per term");
        assert_eq!(server.status().voted_for, Some(id(2)));
    }
}

/// Messages that nobody polls for take bounded memory: the outbox stays as small as the cluster.
#[test]
fn replies_that_nobody_polls_for_do_not_pile_up() {
    let mut server = TestServer::new(3);
    for round in 0..1_000 {
        for from in [2, 3] {
            let last_log = at(0, 0);
            let vote = raft_core::RequestVote { last_log, transfer: false };
            let pre_vote = raft_core::RequestPreVote { last_log, campaign: round };
            server.step_from(from, 1, Body::RequestVote(vote));
            server.step_from(from, 1, Body::RequestPreVote(pre_vote));
            let mut heartbeat = append(at(0, 0), vec![], 0);
            heartbeat.round = Round::new(round);
            server.step_from(from, 2, Body::AppendEntries(heartbeat.clone()));
            server.step_from(from, 1, Body::AppendEntries(heartbeat));
        }
        server.raft.tick(server.now);
    }
    server.poll();
    assert!(server.take_sent().len() <= 3 * 2 + 1, "a reply of each kind to each peer");
}

/// Vote requests between two ticks take bounded memory: of each kind and peer, one waits.
#[test]
fn vote_requests_that_no_tick_judges_do_not_pile_up() {
    let mut server = TestServer::new(3);
    let before = format!("{:?}", server.raft).len();
    for campaign in 0..1_000 {
        let last_log = at(0, 0);
        let pre_vote = raft_core::RequestPreVote { last_log, campaign };
        server.step_from(2, campaign, Body::RequestPreVote(pre_vote));
        server.step_from(
            2,
            campaign,
            Body::RequestVote(raft_core::RequestVote { last_log, transfer: false }),
        );
    }
    assert!(format!("{:?}", server.raft).len() < before + 1_000);
}

/// Answers of a peer that never stop are as harmless.
#[test]
fn answers_without_end_do_not_pile_up() {
    let mut server = leader(|_| {});
    for round in 0..1_000 {
        let result = AppendResult::Matched(index(1));
        let round = Round::new(u64::MAX - round);
        let reply = AppendEntriesReply {
            session: Session::new(1),
            round,
            result,
            promise_micros: 0,
            state: None,
        };
        server.step_from(2, 1, Body::AppendEntriesReply(reply));
    }
    server.poll();
    assert!(server.take_sent().len() <= 2);
}

// What a server starts with.

#[test]
fn configurations_with_which_no_server_can_run_are_refused_and_say_why() {
    type Break = fn(&mut Config);
    let broken: [(Break, &str); 11] = [
        (|config| config.voters = vec![id(1), id(2), id(2)], "twice"),
        (|config| config.voters = vec![id(2), id(3)], "not among"),
        (|config| config.voters = (1..=65).map(id).collect(), "64"),
        (|config| config.heartbeat_interval = ms(0), "heartbeat_interval"),
        (|config| config.heartbeat_interval = ms(100), "half"),
        (|config| config.election_timeout_max = ms(150), "election_timeout_max"),
        (|config| config.inflight_writes_max = 0, "inflight_writes_max"),
        (|config| config.command_bytes_max = usize::MAX, "command_bytes_max"),
        (|config| config.log_bytes_max = config.snapshot_log_bytes, "at least 84934720: log_tail"),
        (|config| config.log_tail_bytes = config.log_bytes_max, "log_bytes_max"),
        (|config| config.snapshot_log_bytes = usize::MAX, "log_bytes_max"),
    ];
    for (break_it, says) in broken {
        let mut config = Config::new(id(1), [1, 2, 3].map(id));
        break_it(&mut config);
        let error = start(config, Restored::default()).expect_err("no server can run with this");
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn states_that_no_server_could_have_written_are_refused() {
    let of_term = |current_term: u64, entries: Vec<Entry<Vec<u8>>>| {
        let hard_state =
            HardState { current_term: term(current_term), voted_for: None, ..Default::default() };
        Restored { hard_state, entries, ..Restored::default() }
    };
    let gap = vec![entry(1, 1), entry(1, 3)];
    let falls = vec![entry(2, 1), entry(1, 2)];
    for (state, says) in [
        (of_term(1, vec![entry(1, 2)]), "1.2 cannot follow"),
        (of_term(1, gap), "1.3 cannot follow 1.1"),
        (of_term(2, falls), "1.2 cannot follow 2.1"),
        (of_term(1, vec![entry(2, 1)]), "later term"),
    ] {
        let config = Config::new(id(1), [1, 2, 3].map(id));
        let error = start(config, state).expect_err("no server could have written this");
        assert!(error.contains(says), "{error}");
    }
}

fn start(config: Config, state: Restored<Vec<u8>>) -> Result<(), String> {
    let rng = Pcg32::seed_from_u64(1);
    Raft::new(config, state, rng).map(drop).map_err(|error| error.to_string())
}

/// Entries keep their order through every way in and out, however many they are.
#[test]
fn entries_are_the_same_in_place_and_on_the_heap() {
    for count in 0..4 {
        let made = entries_after(0, &vec![1; count]);
        let from_vec: Entries<_> = made.clone().into();
        let collected: Entries<_> = made.iter().cloned().collect();
        assert_eq!(from_vec, collected);
        assert_eq!((from_vec.into_vec(), collected.into_iter().count()), (made, count));
    }
}

/// A leader whose followers do not answer takes only so much on its word.
#[test]
fn what_is_not_committed_has_a_limit_of_its_own() {
    let mut server = TestServer::with(3, |config| config.uncommitted_bytes_max = 32 + 2 * (32 + 7));
    server.lead();
    server.propose_command();
    server.propose_command();
    let refused = server.propose(b"command".to_vec());
    assert!(matches!(refused, Err(ProposeError::TooManyUncommitted { .. })));
    server.matched(2, 2);
    server.propose_command();
    let refused = server.propose(b"command".to_vec());
    assert!(matches!(refused, Err(ProposeError::TooManyUncommitted { .. })));
}
