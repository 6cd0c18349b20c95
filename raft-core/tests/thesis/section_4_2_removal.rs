//! The removal of servers (§6; thesis 4.2.2, 4.2.3): what a removed server is told, and that it
//! disturbs nobody.

use crate::pump::{Cluster, seeds, us};
use crate::server::{TestServer, append, at, entry_of, id, index, ms};
use raft_core::{
    Body, Change, Entry, Membership, NodeId, Payload, RequestPreVote, Role, Suffrage, TimeoutNow,
    Wake,
};

/// A leader of three in term 1 whose no-op is committed.
fn leader() -> TestServer {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    assert_eq!(server.commit_index(), 1);
    server.take_sent();
    server
}

/// A leader of three whose new configuration, without server 3, is appended and not yet committed.
fn leader_that_removes_3() -> TestServer {
    let mut server = leader();
    server.matched(3, 1);
    server.change_membership(&[Change::Remove(id(3))]).expect("it leads");
    server.poll();
    server.matched(2, 2);
    server
}

fn suffrages(membership: &Membership) -> Vec<(u64, Suffrage)> {
    membership.members().iter().map(|member| (member.id.get(), member.suffrage)).collect()
}

fn three() -> Membership {
    Membership::of_voters([1, 2, 3].map(id))
}

/// "The cluster leader may not be part of the new configuration. In this case, the leader steps
/// down once it has committed the C-new log entry"; until then "it does not count itself in
/// majorities".
#[test]
fn a_leader_that_goes_leads_until_the_end_and_does_not_count_itself() {
    let mut server = leader();
    server.change_membership(&[Change::Remove(id(1))]).unwrap();
    server.poll();
    server.matched(2, 2);
    assert!(server.membership().is_joint(), "of the new voters 2 and 3 one is no majority");
    server.matched(3, 2);
    assert_eq!(suffrages(server.membership()), [(2, Suffrage::Voter), (3, Suffrage::Voter)]);
    assert_eq!(server.role(), Role::Leader);
    server.take_sent();
    server.matched(2, 3);
    assert_eq!((server.role(), server.commit_index()), (Role::Leader, 2));
    server.matched(3, 3);
    assert_eq!((server.role(), server.commit_index()), (Role::Follower, 3));
    let told = server.take_sent().into_iter().any(|message| {
        matches!(message.body, Body::TimeoutNow(TimeoutNow { last_log }) if last_log == at(1, 3))
    });
    assert!(told, "and has a successor stand at once");
    server.pass(ms(5000));
    assert_eq!(server.role(), Role::Follower, "it never stands again");
}

/// A leader that goes sends its successor what it lacks, as much as one message holds, and names no
/// entry that it has not sent.
#[test]
fn a_leader_that_goes_names_only_what_its_successor_was_sent() {
    for commands in [1, 2] {
        let mut server = TestServer::with(3, |config| {
            config.command_bytes_max = 10;
            config.append_bytes_max = 10;
        });
        server.lead();
        server.matched(2, 1);
        server.matched(3, 1);
        server.change_membership(&[Change::Remove(id(1))]).unwrap();
        server.poll();
        server.matched(2, 2);
        server.matched(3, 2);
        server.matched(2, 3);
        server.take_sent();
        // No follower was sent these when the last acknowledgement comes.
        for _ in 0..commands {
            server.propose(b"0123456789".to_vec()).unwrap();
        }
        server.matched(3, 3);
        assert_eq!(server.role(), Role::Follower);
        let sent = server.take_sent();
        let told = sent.iter().find_map(|message| {
            let Body::TimeoutNow(TimeoutNow { last_log }) = message.body else { return None };
            Some((message.to, last_log))
        });
        let (successor, named) = told.expect("a successor stands at once");
        assert_eq!(named, at(1, 4));
        let to_successor = sent.iter().filter(|message| message.to == successor);
        let mut appended = to_successor.filter_map(|message| {
            let Body::AppendEntries(append) = &message.body else { return None };
            append.entries.last().map(Entry::id)
        });
        assert_eq!(appended.next(), Some(named));
    }
}

/// A server that goes is told that it does, so that it disturbs nobody: it gets the configuration
/// without it.
#[test]
fn a_server_that_goes_is_told_so() {
    let mut server = leader_that_removes_3();
    assert_eq!(suffrages(server.membership()), [(1, Suffrage::Voter), (2, Suffrage::Voter)]);
    let last = server.appends_to(3).pop().expect("it is still replicated to");
    assert!(
        matches!(&last.entries[0].payload, Payload::Configuration(m) if m.suffrage(id(3)).is_none())
    );
    server.matched(3, 3);
    server.take_sent();
    server.matched(2, 3);
    let notice = server.appends_to(3).pop().expect("it hears that this is committed");
    assert_eq!((notice.prev_log, notice.leader_commit), (at(1, 3), index(3)));
    server.propose_command();
    assert!(server.appends_to(3).is_empty(), "and nothing after that");

    let mut gone = TestServer::new(3);
    let without = Membership::of_voters([2, 3].map(id));
    let entries = vec![entry_of(1, 1, Payload::Configuration(without.into()))];
    gone.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries, 1)));
    (0..2).for_each(|_| gone.pass(ms(5000)));
    assert_eq!((gone.role(), gone.leader()), (Role::Follower, None));
}

/// The commit waits for no acknowledgement of a server that goes, and neither does word of it.
#[test]
fn a_server_that_goes_is_told_though_it_has_acknowledged_nothing() {
    let mut server = leader_that_removes_3();
    server.take_sent();
    server.matched(2, 3);
    let notice = server.appends_to(3).pop().expect("it hears that this is committed");
    assert_eq!((notice.prev_log, notice.leader_commit), (at(1, 3), index(3)));

    // The leader alone decides: the configuration is committed before it could be sent.
    let mut server = TestServer::leader(2, 0, &[]);
    server.matched(2, 1);
    server.change_membership(&[Change::Remove(id(2))]).unwrap();
    server.poll();
    server.take_sent();
    server.matched(2, 2);
    let notice = server.appends_to(2).pop().expect("it is sent the configuration, too");
    assert_eq!((notice.prev_log, notice.leader_commit), (at(1, 2), index(3)));
    assert_eq!(notice.entries.last().map(Entry::id), Some(at(1, 3)));
}

/// A server that goes gets nothing behind the configuration without it: its log must not be longer
/// than those of the servers that are to refuse it.
#[test]
fn a_server_that_goes_gets_nothing_behind_its_end() {
    let mut server = leader_that_removes_3();
    server.take_sent();
    server.propose_command();
    server.matched(3, 3);
    server.turn();
    server.sleep_until(Wake::Heartbeat);
    let appends = server.appends_to(3);
    assert!(!appends.is_empty(), "it hears its leader until it is gone");
    assert!(appends.iter().all(|append| append.entries.is_empty()));
}

/// Server 1 has learned that it was removed at index 2, and that this is committed.
fn removed() -> TestServer {
    let mut gone = TestServer::new(3);
    let without = Membership::of_voters([2, 3].map(id));
    let entries =
        vec![entry_of(1, 1, Payload::Noop), entry_of(1, 2, Payload::Configuration(without.into()))];
    gone.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries, 2)));
    assert!(gone.is_membership_committed());
    gone
}

/// Its disk keeps the commit, so that a restart does not make it stand for what is long decided.
#[test]
fn a_removed_server_stands_no_more_after_a_restart() {
    let mut gone = removed();
    assert_eq!(gone.stored.hard_state.committed, index(2));
    gone.crash();
    assert_eq!(gone.commit_index(), 2);
    (0..100).for_each(|_| gone.pass(ms(50)));
    assert_eq!((gone.role(), gone.take_sent()), (Role::Follower, vec![]));
    // And it takes part again if it is added again.
    let again = Membership::of_voters([1, 2, 3].map(id));
    let entries = vec![entry_of(1, 3, Payload::Configuration(again.into()))];
    gone.hear(2, 1, Body::AppendEntries(append(at(1, 2), entries, 3)));
    gone.time_out();
    assert_eq!(gone.role(), Role::PreCandidate);
}

/// What is kept may be more than the log that came with it: then all of that log is committed.
#[test]
fn a_stored_commit_beyond_the_log_is_the_end_of_the_log() {
    let mut stored = removed().stored.clone();
    stored.entries.truncate(1);
    let server = TestServer::restored(3, stored, |_| {});
    assert_eq!(server.commit_index(), 1);
    assert_eq!(server.membership(), &three());
}

/// A voter grants nothing to a server that has the same log and no vote by it; one that holds more
/// may be needed (thesis 4.2.2).
#[test]
fn a_voter_refuses_a_server_without_a_vote() {
    for committed in [1, 2] {
        let mut voter = TestServer::new(3);
        let without = Membership::of_voters([1, 2].map(id));
        let entries = vec![
            entry_of(1, 1, Payload::Noop),
            entry_of(1, 2, Payload::Configuration(without.into())),
        ];
        voter.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries, committed)));
        voter.pass(ms(150));
        assert_eq!(voter.role(), Role::Follower);
        assert_eq!(voter.asked_to_pre_vote(3, 1, at(1, 2)), Some(false));
        assert_eq!(voter.asked_to_vote(3, 2, at(1, 2)), Some(false));
        assert_eq!(voter.asked_to_pre_vote(3, 2, at(2, 3)), Some(true));
        assert_eq!(voter.asked_to_vote(2, 3, at(1, 2)), Some(true));
    }
}

/// Word of the commit was lost: the leader repeats it when it is asked for a vote.
#[test]
fn a_removed_server_that_asks_is_told() {
    let mut server = leader_that_removes_3();
    server.matched(2, 3);
    server.take_sent();
    let mut asked = |last| {
        server.hear(3, 1, Body::RequestPreVote(RequestPreVote { last_log: last, campaign: 2 }));
        server.appends_to(3).pop()
    };
    let notice = asked(at(1, 3)).expect("it is told again");
    assert_eq!((notice.prev_log, notice.leader_commit), (at(1, 3), index(3)));
    let notice = asked(at(1, 1)).expect("it is sent what it lacks");
    assert_eq!((notice.prev_log, notice.leader_commit), (at(1, 1), index(3)));
    assert_eq!(notice.entries.iter().map(Entry::id).collect::<Vec<_>>(), [at(1, 2), at(1, 3)]);
    assert_eq!(asked(at(2, 9)), None, "its log is another one");
    // A server that this cluster has never had is told nothing.
    server.hear(9, 1, Body::RequestPreVote(RequestPreVote { last_log: at(1, 3), campaign: 2 }));
    assert!(server.appends_to(9).is_empty());
}

/// A cluster whose members may change, with its leader, in which all servers hold one command.
fn cluster_that_agreed(servers: u64, seed: u64) -> (Cluster, NodeId) {
    let mut cluster = Cluster::with(servers, seed, |_| {});
    cluster.network.latency = (us(200), us(2000));
    cluster.let_members_change();
    let leader = cluster.elect();
    cluster.agree(b"command", servers as usize);
    (cluster, leader)
}

fn remove(cluster: &mut Cluster, leader: NodeId, gone: NodeId) {
    let removal = [Change::Remove(gone)];
    cluster.with_raft(leader, |raft| raft.change_membership(&removal)).expect("it leads");
}

/// In virtual time, connected throughout: every server that is removed learns it, also after a
/// restart, and when the leader dies no such server leads next.
#[test]
fn every_removed_server_is_told_and_none_leads_again() {
    for servers in [2, 3, 4, 5, 7] {
        for seed in seeds(30) {
            let (mut cluster, leader) = cluster_that_agreed(servers, seed);
            let others = cluster.others(&[leader]);
            let gone = others[cluster.random(others.len() as u64) as usize];
            remove(&mut cluster, leader, gone);
            let commands = cluster.random(5);
            (0..commands).for_each(|_| drop(cluster.propose(leader, b"more")));
            let is_told = |cluster: &Cluster| {
                let raft = cluster.raft(gone);
                raft.membership().suffrage(gone).is_none() && raft.is_membership_committed()
            };
            assert!(cluster.run_until(ms(1000), is_told), "{servers} servers, seed {seed}");
            cluster.run_for(ms(100));
            if seed % 2 == 0 {
                cluster.restart(gone);
            }
            cluster.crash(leader);
            cluster.lose_if(move |message| {
                assert_ne!(message.from, gone, "server {gone} disturbs: {message:?}");
                false
            });
            cluster.run_for(ms(1000));
            assert_ne!(cluster.leader(), Some(gone));
            if servers > 3 {
                let leads = |cluster: &Cluster| cluster.leader().is_some();
                assert!(cluster.run_until(ms(5000), leads), "{servers} servers, seed {seed}");
            }
        }
    }
}

/// Nobody tells it anything, and yet a server that was removed never leads again.
#[test]
fn a_removed_server_that_is_not_told_never_leads_again() {
    for servers in [3, 4, 5] {
        for seed in seeds(30) {
            let (mut cluster, leader) = cluster_that_agreed(servers, seed);
            let gone = cluster.others(&[leader])[0];
            remove(&mut cluster, leader, gone);
            let is_done = |cluster: &Cluster| {
                let raft = cluster.raft(leader);
                raft.membership().suffrage(gone).is_none() && raft.is_membership_committed()
            };
            // The removed server hears everything except that its removal is committed.
            let end = cluster.raft(leader).log_range().1.index.next();
            cluster.lose_if(move |message| {
                let Body::AppendEntries(append) = &message.body else { return false };
                message.to == gone && append.leader_commit >= end
            });
            assert!(cluster.run_until(ms(1000), is_done), "{servers} servers, seed {seed}");
            (0..3).for_each(|_| drop(cluster.propose(leader, b"more")));
            cluster.run_for(us(cluster.now.as_micros() % 3000));
            cluster.crash(leader);
            for _ in 0..40 {
                cluster.run_for(ms(50));
                assert_ne!(cluster.leader(), Some(gone), "{servers} servers, seed {seed}");
            }
        }
    }
}

/// Thesis 4.2.2: "A server that is not part of its own latest configuration should still start new
/// elections, as it might still be needed until the new configuration is committed. It does not
/// count its own vote."
#[test]
fn a_server_that_goes_may_be_needed_until_it_is_gone() {
    let mut server = TestServer::with(3, |config| config.pre_vote = false);
    let without = Membership::of_voters([2, 3].map(id));
    let entries = vec![entry_of(1, 1, Payload::Configuration(without.into()))];
    server.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries, 0)));
    server.time_out();
    assert_eq!((server.role(), server.term().get()), (Role::Candidate, 2));
    server.voted(2, true);
    assert_eq!(server.role(), Role::Candidate, "of the voters 2 and 3 one is no majority");
    server.voted(3, true);
    assert_eq!(server.role(), Role::Leader);
}
