//! §5.3, log replication: what the leader does, and AppendEntries' receiver rules of Figure 2.

use crate::pump::Cluster;
use crate::server::{TestServer, append, at, entries_after, id, ids, index, ms, term};
use raft_core::{AppendResult, Body, Index, Wake};

/// A follower of server 2, which leads term `term`, with a durable log of these terms.
fn follower(term: u64, log: &[u64]) -> TestServer {
    let mut server = TestServer::holding(3, term, log);
    server.heartbeat(2, term);
    server
}

fn matched(number: u64) -> Option<AppendResult> {
    Some(AppendResult::Matched(index(number)))
}

fn rejected(prev: u64, hint_term: u64, hint_index: u64) -> Option<AppendResult> {
    let hint = at(hint_term, hint_index);
    Some(AppendResult::Rejected { prev_log_index: index(prev), hint })
}

// The leader.

/// A leader appends a command to its own log and sends it to every other server, in parallel.
#[test]
fn a_leader_appends_a_command_and_sends_it_to_all() {
    let mut server = TestServer::leader(3, 0, &[]);
    [2, 3].iter().for_each(|peer| server.matched(*peer, 1));
    server.take_sent();
    let (at_term, at_index) = server.propose(b"x".to_vec()).unwrap();
    assert_eq!((at_term, at_index, server.status().last_log), (term(1), index(2), at(1, 2)));
    server.poll();
    let sent = server.take_sent();
    assert_eq!(sent.iter().map(|message| message.to).collect::<Vec<_>>(), [id(2), id(3)]);
    for message in sent {
        let Body::AppendEntries(append) = message.body else { panic!("{message:?}") };
        assert_eq!(ids(&append.entries), [at(1, 2)]);
    }
}

/// A command is applied once it is safely replicated, not before.
#[test]
fn a_command_is_applied_once_a_majority_holds_it() {
    let mut server = TestServer::leader(5, 0, &[]);
    let command = server.propose_command();
    server.matched(2, command.get());
    assert!(server.applied.is_empty());
    server.matched(3, command.get());
    assert_eq!(server.applied_ids(), [at(1, 1), at(1, 2)]);
}

/// A leader sends entries again without end until every follower has them, also those that are
/// committed and applied.
#[test]
fn a_leader_retries_until_all_followers_have_all_entries() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.elect();
    let slow = cluster.ids().find(|id| *id != leader).unwrap();
    cluster.crash(slow);
    let last = (0..20).map(|_| cluster.agree(b"x", 2)).last().unwrap();
    cluster.run_for(ms(5000));
    cluster.start(slow);
    assert!(cluster.run_until(ms(1000), |cluster| cluster.host(slow).last_applied >= last));
}

/// An entry holds a command, the term in which the leader got it, and its position.
#[test]
fn an_entry_holds_command_term_and_index() {
    let mut server = TestServer::leader(3, 6, &[]);
    server.matched(2, 1);
    server.take_sent();
    server.propose_command();
    let sent = server.appends_to(2);
    let entry = sent[0].entries.first().unwrap();
    assert_eq!(entry.id(), at(7, 2));
    assert_eq!(entry.payload, raft_core::Payload::Command(b"command".to_vec()));
}

/// An entry is committed when its leader has replicated it to a majority; with it all entries
/// before, those of earlier leaders too.
#[test]
fn a_commit_covers_all_entries_before() {
    let mut server = TestServer::leader(3, 2, &[1, 1, 2]);
    assert_eq!(server.commit_index(), 0);
    server.matched(2, 4);
    assert_eq!(server.commit_index(), 4);
    assert_eq!(server.applied_ids(), [at(1, 1), at(1, 2), at(2, 3), at(3, 4)]);
}

/// The newest commit index goes out with later appends, heartbeats among them; to each follower no
/// more than it holds.
#[test]
fn appends_tell_the_commit_index() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    assert_eq!(server.appends_to(2).last().unwrap().leader_commit, index(1));
    server.sleep_until(Wake::Heartbeat);
    let sent = server.take_sent();
    let told = |peer: u64| {
        let message = sent.iter().rfind(|message| message.to == id(peer)).expect("a heartbeat");
        let Body::AppendEntries(append) = &message.body else { panic!("{message:?}") };
        append.leader_commit
    };
    assert_eq!((told(2), told(3)), (index(1), Index::ZERO));
}

/// A leader creates at most one entry at each index, and entries never change their position.
#[test]
fn a_leader_creates_one_entry_per_index() {
    let mut server = TestServer::leader(3, 2, &[1, 2]);
    let indexes: Vec<_> = (0..5).map(|_| server.propose_command().get()).collect();
    assert_eq!(indexes, [4, 5, 6, 7, 8]);
    assert_eq!(server.stored_terms(), [1, 2, 3, 3, 3, 3, 3, 3]);
}

/// A leader begins with the guess that all others hold what it does: next_index is the one after
/// its last entry.
#[test]
fn a_leader_first_asks_behind_its_last_entry() {
    let mut server = TestServer::leader(3, 2, &[1, 1, 2]);
    let first = &server.appends_to(2)[0];
    assert_eq!((first.prev_log, ids(&first.entries)), (at(2, 3), vec![at(3, 4)]));
}

/// After a rejection the leader goes back and tries again, until the logs agree; then it sends all
/// that follows.
#[test]
fn after_a_rejection_the_leader_goes_back() {
    let mut server = TestServer::leader(3, 2, &[1, 1, 2]);
    server.take_sent();
    server.rejected(2, 3, at(1, 1));
    let retry = &server.appends_to(2)[0];
    assert_eq!(retry.prev_log, at(1, 1));
    assert_eq!(ids(&retry.entries), [at(1, 2), at(2, 3), at(3, 4)]);
}

/// The follower names the newest entry that both could hold, so one message settles each
/// conflicting term.
#[test]
fn one_message_settles_each_conflicting_term() {
    let mut server = follower(8, &[1, 1, 4, 4, 4, 5, 5]);
    assert_eq!(server.appended(2, 8, at(7, 7), &[8], 0), rejected(7, 5, 7));
    assert_eq!(server.appended(2, 8, at(4, 6), &[], 0), rejected(6, 4, 5));
    assert_eq!(server.appended(2, 8, at(3, 3), &[], 0), rejected(3, 1, 2));

    let mut server = TestServer::leader(3, 7, &[1, 1, 3, 3, 6, 6, 6]);
    server.take_sent();
    server.rejected(2, 7, at(5, 7));
    assert_eq!(server.appends_to(2)[0].prev_log, at(3, 4), "skips all of term 6");
}

/// A follower whose log is too short says where it ends.
#[test]
fn a_follower_whose_log_is_too_short_says_where_it_ends() {
    let mut server = follower(4, &[1, 1]);
    assert_eq!(server.appended(2, 4, at(3, 90), &[4], 0), rejected(90, 1, 2));
}

/// A rejection that comes late, of an append that later answers have overtaken, takes nothing back.
#[test]
fn a_late_rejection_takes_nothing_back() {
    let mut server = TestServer::leader(3, 2, &[1, 1, 2]);
    server.matched(2, 4);
    server.propose_command();
    server.take_sent();
    let before = server.status().peers;
    server.rejected(2, 3, at(0, 0));
    server.rejected(2, 9, at(0, 0));
    assert!(server.appends_to(2).is_empty());
    assert_eq!(server.status().peers, before, "it still replicates, from where it was");
    assert_eq!(server.status().counters.stale_replies, 2);
}

/// Of the appends behind a lost one each is rejected; the leader goes back for the first of them,
/// once.
#[test]
fn a_leader_goes_back_once_for_a_lost_append() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    for _ in 0..5 {
        server.propose_command();
    }
    server.take_sent();
    (2..=5).for_each(|prev| server.rejected(2, prev, at(1, 1)));
    assert_eq!(server.appends_to(2).len(), 1);
}

/// An answer that comes late takes nothing back either.
#[test]
fn a_late_acknowledgement_takes_nothing_back() {
    let mut server = TestServer::leader(3, 2, &[1, 1, 2]);
    server.matched(2, 4);
    server.matched(2, 1);
    assert_eq!(server.status().peers[0].match_index, index(4));
    assert_eq!(server.commit_index(), 4);
}

/// What was lost on the way shows at the next heartbeat.
#[test]
fn a_lost_append_shows_at_the_next_heartbeat() {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.propose_command();
    server.take_sent();
    server.sleep_until(Wake::Heartbeat);
    assert_eq!(server.appends_to(2)[0].prev_log, at(1, 2));
    server.rejected(2, 2, at(1, 1));
    assert_eq!(ids(&server.appends_to(2)[0].entries), [at(1, 2)]);
}

/// A leader never removes or overwrites an entry of its own log, whatever it hears in its term.
#[test]
fn a_leader_only_appends() {
    let mut server = TestServer::leader(3, 2, &[1, 1, 2]);
    let before = server.stored_terms();
    server.rejected(2, 3, at(0, 0));
    server.hear(3, 3, Body::AppendEntries(append(at(1, 1), entries_after(1, &[3, 3]), 3)));
    assert_eq!((server.stored_terms(), server.commit_index()), (before, 0));
    assert_eq!(server.status().counters.protocol_violations, 1);
}

// The follower (Figure 2, AppendEntries).

/// Receiver 2: refuse what does not follow an entry that the log holds, by index and by term.
#[test]
fn an_append_must_follow_an_entry_that_the_log_holds() {
    let mut server = follower(3, &[1, 1]);
    assert_eq!(server.appended(2, 3, at(1, 3), &[3], 0), rejected(3, 1, 2));
    assert_eq!(server.appended(2, 3, at(2, 2), &[3], 0), rejected(2, 1, 2));
    assert_eq!(server.stored_terms(), [1, 1]);
    assert_eq!(server.appended(2, 3, at(1, 2), &[3], 0), matched(3));
}

/// Everyone agrees on the position before the first entry: an append from there never fails.
#[test]
fn an_append_from_the_beginning_always_fits() {
    let mut server = follower(3, &[2, 2]);
    assert_eq!(server.appended(2, 3, at(0, 0), &[1, 3], 0), matched(2));
    assert_eq!(server.stored_terms(), [1, 3]);
}

/// Receiver 3: an entry that conflicts is removed, with all that follow it.
#[test]
fn a_conflicting_entry_is_removed_with_all_that_follow() {
    let mut server = follower(3, &[1, 2, 2, 2]);
    assert_eq!(server.appended(2, 3, at(1, 1), &[3], 0), matched(2));
    assert_eq!(server.stored_terms(), [1, 3]);
}

/// Receiver 3, the other way: without a conflict nothing is removed, or a shorter append that comes
/// last would take back what was acknowledged.
#[test]
fn without_a_conflict_nothing_is_removed() {
    let mut server = follower(1, &[]);
    assert_eq!(server.appended(2, 1, at(0, 0), &[1, 1, 1, 1], 0), matched(4));
    assert_eq!(server.appended(2, 1, at(0, 0), &[1, 1], 0), matched(4));
    assert_eq!(server.appended(2, 1, at(1, 1), &[], 0), matched(4));
    assert_eq!(server.stored_terms(), [1, 1, 1, 1]);
}

/// Receiver 4: only entries that are not in the log yet are appended; the same append twice is the
/// same as once.
#[test]
fn an_append_that_comes_twice_is_the_same_as_once() {
    let mut server = follower(1, &[]);
    for _ in 0..2 {
        assert_eq!(server.appended(2, 1, at(0, 0), &[1, 1], 0), matched(2));
        assert_eq!(server.stored_terms(), [1, 1]);
    }
    assert_eq!(server.appended(2, 1, at(1, 1), &[1, 1], 0), matched(3));
    assert_eq!(server.stored_terms(), [1, 1, 1]);
}

/// An append that comes again, because its answer was lost, is answered again, also in a round that
/// was answered before.
#[test]
fn a_repeated_append_is_answered_again() {
    let mut server = follower(1, &[]);
    server.take_sent();
    for _ in 0..3 {
        server.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries_after(0, &[1]), 0)));
        assert_eq!(server.append_reply().map(|(_, reply)| reply.result), matched(1));
    }
}

/// Receiver 5: the commit index follows the leader's, but not beyond what this append has shown to
/// agree.
#[test]
fn the_commit_index_does_not_pass_what_is_known_to_agree() {
    let mut server = follower(2, &[1, 1, 1]);
    server.appended(2, 2, at(1, 1), &[], 3);
    assert_eq!(server.commit_index(), 1);
    server.appended(2, 2, at(1, 1), &[2, 2], 2);
    assert_eq!(server.commit_index(), 2);
    server.appended(2, 2, at(2, 2), &[], 9);
    assert_eq!(server.commit_index(), 2);
    server.appended(2, 2, at(2, 3), &[], 9);
    assert_eq!(server.commit_index(), 3);
}

/// The commit index never falls.
#[test]
fn the_commit_index_never_falls() {
    let mut server = follower(1, &[]);
    server.appended(2, 1, at(0, 0), &[1, 1, 1], 3);
    server.appended(2, 1, at(0, 0), &[1], 1);
    assert_eq!(server.commit_index(), 3);
}

/// A follower applies what it learns to be committed, in the order of the log, each entry once.
#[test]
fn a_follower_applies_committed_entries_in_order() {
    let mut server = follower(1, &[]);
    server.appended(2, 1, at(0, 0), &[1, 1, 1], 0);
    assert!(server.applied.is_empty());
    server.appended(2, 1, at(1, 3), &[], 2);
    server.appended(2, 1, at(0, 0), &[1, 1, 1], 2);
    server.appended(2, 1, at(1, 3), &[], 3);
    assert_eq!(server.applied_ids(), [at(1, 1), at(1, 2), at(1, 3)]);
}

/// A follower acknowledges what it shares with the leader, not what lies behind it in its own log.
#[test]
fn a_follower_does_not_acknowledge_what_the_leader_did_not_send() {
    let mut server = TestServer::holding(3, 2, &[1, 1, 2, 2]);
    assert_eq!(server.appended(2, 3, at(1, 1), &[], 0), matched(1));
    assert_eq!(server.appended(2, 3, at(1, 1), &[1], 0), matched(2));
}

/// Two appends overtake each other: the later one is refused, and comes again.
#[test]
fn appends_that_overtake_each_other_end_in_the_same_log() {
    let mut server = follower(1, &[]);
    assert_eq!(server.appended(2, 1, at(1, 1), &[1, 1], 0), rejected(1, 0, 0));
    assert_eq!(server.appended(2, 1, at(0, 0), &[1], 0), matched(1));
    assert_eq!(server.appended(2, 1, at(1, 1), &[1, 1], 0), matched(3));
}

/// Figure 7: a leader of term 8 makes every follower's log its own, whatever it lacks or has too
/// much.
#[test]
fn every_log_of_figure_7_becomes_the_leaders() {
    let leaders_log: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for log in followers {
        let mut leader = TestServer::leader(3, 7, leaders_log);
        let mut follower = TestServer::holding(3, 7, log);
        let mut rounds = 0;
        while follower.stored_terms() != leader.stored_terms() {
            for append in leader.appends_to(2) {
                follower.hear(2, 8, Body::AppendEntries(append));
            }
            let (_, reply) = follower.append_reply().expect("every append is answered");
            leader.hear(2, 8, Body::AppendEntriesReply(reply));
            rounds += 1;
            assert!(rounds <= 4, "{log:?} takes more than a message for each conflicting term");
        }
    }
}

/// A follower that holds the log up to an index and takes more only if it has room; it answers as
/// soon as it is asked.
struct Stalled {
    held: u64,
    has_room: bool,
    messages: usize,
    entries: usize,
}

impl Stalled {
    /// Answers as server 3 until the leader has nothing more to say, or for a hundred turns.
    fn talk(&mut self, leader: &mut TestServer) {
        for _ in 0..100 {
            for append in leader.appends_to(3) {
                self.messages += 1;
                self.entries += append.entries.len();
                let prev_log_index = append.prev_log.index;
                let last = append.entries.last().map(|entry| entry.index.get());
                let result = if prev_log_index > index(self.held) {
                    AppendResult::Rejected { prev_log_index, hint: at(1, self.held) }
                } else {
                    self.held = last.filter(|_| self.has_room).unwrap_or(self.held);
                    AppendResult::Matched(index(self.held))
                };
                leader.answered(3, append.round, result);
            }
        }
    }
}

/// A follower whose log is full is asked at the pace of heartbeats, one entry at a time, and gets
/// all the rest at once when it has room.
#[test]
fn a_follower_that_takes_nothing_is_asked_at_the_pace_of_heartbeats() {
    const HEARTBEATS: usize = 200;
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    server.matched(3, 1);
    for _ in 0..50 {
        server.propose_command();
    }
    let mut follower = Stalled { held: 20, has_room: false, messages: 0, entries: 0 };
    follower.talk(&mut server);
    (follower.messages, follower.entries) = (0, 0);
    for _ in 0..HEARTBEATS {
        server.matched(2, 51);
        server.pass(server.config().heartbeat_interval);
        follower.talk(&mut server);
    }
    let Stalled { messages, entries, .. } = follower;
    assert!(messages <= 2 * HEARTBEATS + 10, "{messages} messages");
    assert!(entries <= HEARTBEATS + 40, "{entries} entries");
    follower.has_room = true;
    server.pass(server.config().heartbeat_interval);
    follower.talk(&mut server);
    assert_eq!(follower.held, 51);
}
