//! Cluster membership changes (§6), sentence by sentence.

mod pump;
mod server;

use pump::{Cluster, seeds, us};
use raft_core::{
    AppendResult, Body, Change, ChangeRefused, Entry, Member, MemberStore, Membership,
    MembershipError, Output, Payload, RequestPreVote, Role, Seat, Session, TimeoutNow, Wake,
};
use server::{TestServer, append, at, entry_of, id, index, ms};

/// A leader of three in term 1 whose no-op is committed.
fn leader() -> TestServer {
    let mut server = TestServer::leader(3, 0, &[]);
    server.matched(2, 1);
    assert_eq!(server.commit_index(), 1);
    server.take_sent();
    server
}

/// Adds learner 4, and lets it catch up.
fn with_learner(server: &mut TestServer) {
    let learner = [Change::add_learner(id(4), "d")];
    server.change_membership(&learner).expect("it leads");
    server.poll();
    server.matched(2, 2);
    server.matched_in(4, 2, 2);
}

fn seats(membership: &Membership) -> Vec<(u64, Seat)> {
    membership.members().iter().map(|member| (member.id.get(), member.seat)).collect()
}

/// The configurations that the server was handed with its log, or its leader appended.
fn configurations(server: &TestServer) -> Vec<Membership> {
    let payloads = server.applied.iter().map(|entry| entry.payload.clone());
    let configuration = |payload| match payload {
        Payload::Configuration(membership) => Some(*membership),
        Payload::Noop | Payload::Command(_) | _ => None,
    };
    payloads.filter_map(configuration).collect()
}

/// "Once a given server adds the new configuration entry to its log, it uses that configuration for all future decisions."
#[test]
fn a_configuration_is_in_force_once_it_is_appended() {
    let mut server = leader();
    with_learner(&mut server);
    server.change_membership(&[Change::Promote(id(4))]).unwrap();
    assert_eq!(server.membership().seat(id(4)), Some(Seat::Incoming));

    let mut follower = TestServer::new(3);
    let joint = server.membership().clone();
    let entries = vec![entry_of(1, 1, Payload::Configuration(joint.clone().into()))];
    follower.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries, 0)));
    assert_eq!(follower.membership(), &joint);
    assert!(follower.others.contains(&Output::MembershipChanged(joint)));
}

/// "(regardless of whether the entry is committed)": and if it is replaced, the one before holds again.
#[test]
fn a_configuration_that_is_truncated_is_no_longer_in_force() {
    let mut follower = TestServer::new(3);
    let four = Membership::of_voters([1, 2, 3, 4].map(id));
    let entries = vec![entry_of(1, 1, Payload::Configuration(four.into()))];
    follower.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries, 0)));
    let entries = vec![entry_of(2, 1, Payload::Noop)];
    follower.hear(3, 2, Body::AppendEntries(append(at(0, 0), entries, 0)));
    assert_eq!(follower.membership(), &Membership::of_voters([1, 2, 3].map(id)));
}

/// A configuration survives a restart, and is in force from then on.
#[test]
fn a_restarted_server_uses_the_newest_configuration_in_its_log() {
    let mut server = leader();
    with_learner(&mut server);
    server.crash();
    assert_eq!(server.membership().seat(id(4)), Some(Seat::Learner));
}

/// "Agreement (for elections and entry commitment) requires separate majorities from both the old and new configurations."
#[test]
fn a_joint_configuration_commits_with_a_majority_of_each() {
    let mut server = leader();
    with_learner(&mut server);
    let changes = [Change::Promote(id(4)), Change::Remove(id(2)), Change::Remove(id(3))];
    server.change_membership(&changes).unwrap();
    server.poll();
    // New: 1 and 4. Old: 1, 2 and 3.
    server.matched_in(4, 2, 3);
    assert_eq!(server.commit_index(), 2, "the new voters alone do not decide");
    server.matched(2, 3);
    assert_eq!(server.commit_index(), 3);

    let mut server = leader();
    with_learner(&mut server);
    server.change_membership(&changes).unwrap();
    server.poll();
    server.matched(2, 3);
    server.matched(3, 3);
    assert_eq!(server.commit_index(), 2, "the old voters alone do not decide");
    server.matched_in(4, 2, 3);
    assert_eq!(server.commit_index(), 3);
}

/// The same holds for elections: a candidate inside a joint configuration needs both.
#[test]
fn a_joint_configuration_elects_with_a_majority_of_each() {
    let mut server = leader();
    with_learner(&mut server);
    server.change_membership(&[Change::Promote(id(4)), Change::Remove(id(2))]).unwrap();
    server.poll();
    server.crash();
    assert!(server.membership().is_joint());
    // New: 1, 3 and 4. Old: 1, 2 and 3.
    server.time_out();
    let campaign = server.campaign().unwrap();
    server.pre_granted(4, campaign);
    assert_eq!(server.role(), Role::PreCandidate, "1 and 4 are no majority of the old voters");
    server.pre_granted(2, campaign);
    assert_eq!(server.role(), Role::Candidate);
    server.granted(2);
    assert_eq!(server.role(), Role::Candidate, "1 and 2 are no majority of the new voters");
    server.granted(4);
    assert_eq!(server.role(), Role::Leader);
}

/// "Once C-old,new has been committed ... it is safe for the leader to create a log entry describing C-new."
#[test]
fn the_leader_leaves_the_joint_configuration_once_it_is_committed() {
    let mut server = leader();
    with_learner(&mut server);
    server.change_membership(&[Change::Promote(id(4))]).unwrap();
    server.poll();
    server.matched_in(4, 2, 3);
    assert!(server.membership().is_joint(), "1 and 4 are no majority of either");
    server.matched(2, 3);
    let voters = [(1, Seat::Voter), (2, Seat::Voter), (3, Seat::Voter), (4, Seat::Voter)];
    assert_eq!(seats(server.membership()), voters);
    server.matched(2, 4);
    server.matched(3, 4);
    assert_eq!(server.commit_index(), 4);
    assert!(!configurations(&server).last().unwrap().is_joint());
}

/// The commit of an earlier entry says nothing about the joint configuration behind it.
#[test]
fn a_joint_configuration_is_not_left_with_an_entry_before_it() {
    let mut server = leader();
    with_learner(&mut server);
    server.propose(b"x".to_vec()).unwrap();
    server.change_membership(&[Change::Promote(id(4))]).unwrap();
    server.poll();
    server.matched(2, 3);
    server.matched(3, 3);
    assert_eq!(server.commit_index(), 3);
    assert!(server.membership().is_joint());
    server.matched(2, 4);
    server.matched(3, 4);
    assert!(!server.membership().is_joint());
}

/// Whoever leads leaves it: also one that was elected inside of it, once an entry of its own term is committed.
#[test]
fn a_new_leader_leaves_the_joint_configuration_of_its_predecessor() {
    let joint = Membership::of_members([
        Member {
            id: id(1),
            seat: Seat::Voter,
            priority: 0,
            label: vec![],
            store: MemberStore::Unrecorded,
        },
        Member {
            id: id(2),
            seat: Seat::Voter,
            priority: 0,
            label: vec![],
            store: MemberStore::Unrecorded,
        },
        Member {
            id: id(3),
            seat: Seat::Incoming,
            priority: 0,
            label: vec![],
            store: MemberStore::Unrecorded,
        },
    ]);
    let mut server = TestServer::new(3);
    let entries = vec![entry_of(1, 1, Payload::Configuration(joint.unwrap().into()))];
    server.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries, 0)));
    server.pass(ms(1000));
    server.lead();
    server.matched(2, 1);
    assert!(server.membership().is_joint(), "an entry of an earlier term does not count");
    server.matched(2, 2);
    assert!(!server.membership().is_joint());
    assert_eq!(server.membership().voters().count(), 3);
}

/// "New servers ... join the cluster as non-voting members (the leader replicates log entries to them, but they are not considered
/// for majorities)."
#[test]
fn a_learner_gets_the_log_and_counts_for_nothing() {
    let mut server = leader();
    server.change_membership(&[Change::add_learner(id(4), "d")]).unwrap();
    server.poll();
    assert!(!server.appends_to(4).is_empty());
    server.matched_in(4, 2, 2);
    assert_eq!(server.commit_index(), 1);
    server.matched(3, 2);
    assert_eq!(server.commit_index(), 2);
}

/// "Once the new servers have caught up with the rest of the cluster, the reconfiguration can proceed."
#[test]
fn a_learner_is_not_promoted_before_it_has_caught_up() {
    let mut server = leader();
    server.change_membership(&[Change::add_learner(id(4), "d")]).unwrap();
    server.poll();
    server.matched(2, 2);
    let refused = server.change_membership(&[Change::Promote(id(4))]);
    assert_eq!(refused, Err(ChangeRefused::NotCaughtUp { id: id(4) }));
    server.matched_in(4, 2, 2);
    assert!(server.change_membership(&[Change::Promote(id(4))]).is_ok());
}

/// "The cluster leader may not be part of the new configuration. In this case, the leader steps down once it has committed the
/// C-new log entry"; until then "it does not count itself in majorities".
#[test]
fn a_leader_that_goes_leads_until_the_end_and_does_not_count_itself() {
    let mut server = leader();
    server.change_membership(&[Change::Remove(id(1))]).unwrap();
    server.poll();
    server.matched(2, 2);
    assert!(server.membership().is_joint(), "of the new voters 2 and 3 one is no majority");
    server.matched(3, 2);
    assert_eq!(seats(server.membership()), [(2, Seat::Voter), (3, Seat::Voter)]);
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

/// A server that goes is told that it does, so that it disturbs nobody: it gets the configuration without it.
#[test]
fn a_server_that_goes_is_told_so() {
    let mut server = leader();
    server.matched(3, 1);
    server.change_membership(&[Change::Remove(id(3))]).unwrap();
    server.poll();
    server.matched(2, 2);
    assert_eq!(seats(server.membership()), [(1, Seat::Voter), (2, Seat::Voter)]);
    let last = server.appends_to(3).pop().expect("it is still replicated to");
    assert!(
        matches!(&last.entries[0].payload, Payload::Configuration(m) if m.seat(id(3)).is_none())
    );
    server.matched(3, 3);
    server.take_sent();
    server.matched(2, 3);
    let farewell = server.appends_to(3).pop().expect("it hears that this is committed");
    assert_eq!((farewell.prev_log, farewell.leader_commit), (at(1, 3), index(3)));
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
    let mut server = leader();
    server.matched(3, 1);
    server.change_membership(&[Change::Remove(id(3))]).unwrap();
    server.poll();
    server.matched(2, 2);
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
    let mut server = leader();
    server.matched(3, 1);
    server.change_membership(&[Change::Remove(id(3))]).unwrap();
    server.poll();
    server.matched(2, 2);
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
    let mut server = leader();
    server.matched(3, 1);
    server.change_membership(&[Change::Remove(id(3))]).unwrap();
    server.poll();
    server.matched(2, 2);
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

/// In virtual time, connected throughout: every server that is removed learns it, also after a
/// restart, and when the leader dies no such server leads next.
#[test]
fn every_removed_server_is_told_and_none_leads_again() {
    for servers in [2, 3, 4, 5, 7] {
        for seed in seeds(30) {
            let mut cluster = Cluster::with(servers, seed, |_| {});
            cluster.network.latency = (us(200), us(2000));
            cluster.let_members_change();
            let leader = cluster.elect();
            cluster.agree(b"command", servers as usize);
            let others = cluster.others(&[leader]);
            let gone = others[cluster.random(others.len() as u64) as usize];
            cluster
                .with_raft(leader, |raft| raft.change_membership(&[Change::Remove(gone)]))
                .unwrap();
            let commands = cluster.random(5);
            (0..commands).for_each(|_| drop(cluster.propose(leader, b"more")));
            let is_told = |cluster: &Cluster| {
                let raft = cluster.raft(gone);
                raft.membership().seat(gone).is_none() && raft.is_membership_committed()
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
            let mut cluster = Cluster::with(servers, seed, |_| {});
            cluster.network.latency = (us(200), us(2000));
            cluster.let_members_change();
            let leader = cluster.elect();
            cluster.agree(b"command", servers as usize);
            let gone = cluster.others(&[leader])[0];
            cluster
                .with_raft(leader, |raft| raft.change_membership(&[Change::Remove(gone)]))
                .unwrap();
            let is_done = |cluster: &Cluster| {
                let raft = cluster.raft(leader);
                raft.membership().seat(gone).is_none() && raft.is_membership_committed()
            };
            // Of what comes back to it, it hears all but that its end is committed.
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

/// Thesis 4.2.2: "A server that is not part of its own latest configuration should still start new elections, as it might still be
/// needed until the new configuration is committed. It does not count its own vote."
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

/// A cluster that was one server looks for a quorum once it is more.
#[test]
fn a_leader_that_led_alone_steps_down_when_those_who_came_are_silent() {
    let mut server = TestServer::new(1);
    server.turn();
    assert_eq!(server.role(), Role::Leader);
    for change in [Change::add_learner(id(2), ""), Change::Promote(id(2))] {
        server.change_membership(&[change]).unwrap();
        server.poll();
        let last = server.status().last_log.index.get();
        server.matched_in(2, 2, last);
    }
    assert_eq!(server.membership().voters().count(), 2);
    server.run_until_it_steps_down(|_| {});
}

/// And one that leads alone in the end has nobody to step down for.
#[test]
fn a_leader_whose_voters_have_gone_leads_on_with_a_slow_disk() {
    let mut server = TestServer::leader(2, 0, &[]);
    server.matched(2, 1);
    server.change_membership(&[Change::Remove(id(2))]).unwrap();
    server.poll();
    server.matched(2, 2);
    assert_eq!(server.membership().voters().count(), 1);
    server.hold_disk();
    server.propose_command();
    for _ in 0..100 {
        server.pass(ms(10));
    }
    assert_eq!(server.role(), Role::Leader);
}

/// A learner that has yet to hear of the cluster that it is in would vote for nobody, though its vote may be needed.
#[test]
fn a_learner_is_not_promoted_before_it_knows_of_its_cluster() {
    let mut server = leader();
    server.change_membership(&[Change::add_learner(id(4), "d")]).unwrap();
    server.poll();
    server.matched(2, 2);
    server.matched_in(4, 2, 1);
    let refused = server.change_membership(&[Change::Promote(id(4))]);
    assert_eq!(refused, Err(ChangeRefused::NotCaughtUp { id: id(4) }));
    server.matched_in(4, 2, 2);
    server.change_membership(&[Change::Promote(id(4))]).unwrap();
}

/// "Servers accept messages and vote for candidates that are not in their current configuration."
#[test]
fn a_server_hears_servers_that_it_does_not_know() {
    let mut server = TestServer::new(3);
    assert_eq!(server.asked_to_vote(9, 1, at(0, 0)), Some(true));
    assert_eq!(server.appended(9, 1, at(0, 0), &[1], 0), Some(AppendResult::Matched(index(1))));
    assert_eq!(server.leader(), Some(id(9)));
}

/// A learner that is asked votes: the others may need it for what it has yet to learn that it is.
#[test]
fn a_learner_votes_and_does_not_stand() {
    let mut server = TestServer::new(3);
    let members = [(1, Seat::Learner), (2, Seat::Voter), (3, Seat::Voter)];
    let members = members.map(|(n, seat)| Member {
        id: id(n),
        seat,
        priority: 0,
        label: vec![],
        store: MemberStore::Unrecorded,
    });
    let membership = Membership::of_members(members).unwrap();
    let entries = vec![entry_of(1, 1, Payload::Configuration(membership.into()))];
    server.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries, 1)));
    (0..2).for_each(|_| server.pass(ms(5000)));
    assert_eq!(server.role(), Role::Follower);
    assert_eq!(server.asked_to_vote(3, 2, at(1, 1)), Some(true));
}

/// A server that belongs to no cluster yet may be one that has lost its disk: it votes for nobody.
#[test]
fn a_stranger_votes_for_nobody_and_stands_for_nothing() {
    let mut server = TestServer::with(3, |config| config.voters.clear());
    server.pass(ms(5000));
    assert_eq!(server.role(), Role::Follower);
    assert_eq!(server.asked_to_pre_vote(2, 1, at(1, 1)), Some(false));
    assert_eq!(server.asked_to_vote(2, 2, at(1, 1)), Some(false));
    let entries = vec![entry_of(2, 1, Payload::Configuration(three().into()))];
    server.hear(2, 2, Body::AppendEntries(append(at(0, 0), entries, 0)));
    assert_eq!(server.membership(), &three());
}

fn three() -> Membership {
    Membership::of_voters([1, 2, 3].map(id))
}

/// A server that has joined a cluster and restarts while it catches up learns its members from its
/// disk and its leader, whatever it is told: with itself as the only voter it would lead alone on
/// another cluster's log.
#[test]
fn a_joiner_that_restarts_is_no_new_cluster() {
    let pasts: [fn(&mut TestServer); 3] = [
        // Its leader's log, without a configuration so far; a term; a configuration that makes it a
        // learner.
        |server| {
            server.appended(2, 3, at(0, 0), &[2, 3], 0);
        },
        |server| {
            server.appended(2, 3, at(3, 9), &[], 0);
        },
        |server| {
            let voters = Membership::of_voters([2, 3].map(id));
            let members = voters.after(&[Change::add_learner(id(1), "")]).unwrap();
            let entries = vec![entry_of(2, 1, Payload::Configuration(members.into()))];
            server.hear(2, 2, Body::AppendEntries(append(at(0, 0), entries, 0)));
        },
    ];
    for past in pasts {
        let mut server = TestServer::with(3, |config| config.voters = Vec::new());
        past(&mut server);
        let before = server.membership().clone();
        server.crash_into(|config| config.voters = vec![id(1)]);
        assert_eq!(server.membership(), &before);
        for _ in 0..20 {
            server.pass(ms(150));
        }
        assert_eq!((server.role(), server.commit_index()), (Role::Follower, 0));
        // Its leader finds it where it was.
        assert!(server.appended(2, 4, at(0, 0), &[4], 1).is_some());
    }
}

/// The configuration with which a cluster begins is on disk with the first write, and holds from then on, whatever a later start is told.
#[test]
fn the_first_configuration_is_stored_with_the_first_write() {
    let mut server = TestServer::new(3);
    assert!(server.stored.snapshot.is_none());
    server.asked_to_vote(2, 1, at(0, 0));
    assert_eq!(
        server.stored.snapshot.as_ref().map(|snapshot| &snapshot.membership),
        Some(&three())
    );
    let mut config = server.config().clone();
    config.voters = [1, 2].map(id).to_vec();
    let stored = server.stored.clone();
    let restarted = TestServer::restored(3, stored, |changed| *changed = config);
    assert_eq!(restarted.membership(), &three());
}

// One change at a time.

#[test]
fn a_change_waits_until_the_last_one_is_complete() {
    let mut server = leader();
    let (_, first) = server.change_membership(&[Change::add_learner(id(4), "")]).unwrap();
    let again = server.change_membership(&[Change::add_learner(id(5), "")]);
    assert_eq!(again, Err(ChangeRefused::ChangePending { index: first }));
    server.poll();
    server.matched(2, 2);
    assert!(server.change_membership(&[Change::add_learner(id(5), "")]).is_ok());
}

#[test]
fn a_joint_configuration_is_left_before_the_next_change() {
    let mut server = leader();
    server.change_membership(&[Change::Demote(id(3))]).unwrap();
    server.poll();
    let refused = server.change_membership(&[Change::add_learner(id(5), "")]);
    assert_eq!(refused, Err(ChangeRefused::ChangePending { index: index(2) }));
}

/// "raft single-server change bug" of 2015: a leader commits an entry of its own term before it changes the membership.
#[test]
fn a_leader_changes_nothing_before_it_has_committed_in_its_term() {
    let mut server = TestServer::leader(3, 0, &[]);
    let changes = [Change::add_learner(id(4), "")];
    assert_eq!(server.change_membership(&changes), Err(ChangeRefused::NotReady));
    server.matched(2, 1);
    assert!(server.change_membership(&changes).is_ok());
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut follower = TestServer::new(3);
    let refused = follower.change_membership(&[Change::Remove(id(2))]);
    assert_eq!(refused, Err(ChangeRefused::NotLeader { leader: None }));

    let mut server = leader();
    let before = server.status();
    let everyone = [1, 2, 3].map(|n| Change::Remove(id(n)));
    let refused = server.change_membership(&everyone);
    assert_eq!(refused, Err(ChangeRefused::Invalid(MembershipError::NoVoter)));
    let refused = server.change_membership(&[Change::Promote(id(9))]);
    assert_eq!(refused, Err(ChangeRefused::Invalid(MembershipError::NotMember(id(9)))));
    assert_eq!(server.status(), before);
}

/// A peer that is removed and added again begins a new replication session: an answer of the old one counts for nothing.
#[test]
fn an_answer_of_an_earlier_session_counts_for_nothing() {
    let mut server = leader();
    with_learner(&mut server);
    server.change_membership(&[Change::Remove(id(4))]).unwrap();
    server.poll();
    server.matched(2, 3);
    server.change_membership(&[Change::add_learner(id(4), "again")]).unwrap();
    server.poll();
    server.matched(2, 4);
    let before = server.status().counters.stale_replies;
    server.matched_in(4, 2, 4);
    assert_eq!(server.status().counters.stale_replies, before + 1);
    let refused = server.change_membership(&[Change::Promote(id(4))]);
    assert_eq!(refused, Err(ChangeRefused::NotCaughtUp { id: id(4) }));
    server.matched_in(4, 3, 4);
    assert!(server.change_membership(&[Change::Promote(id(4))]).is_ok());
}

/// And a follower does not go back to an earlier session of its leader.
#[test]
fn a_follower_ignores_an_earlier_session() {
    let mut server = TestServer::new(3);
    let mut newer = append(at(0, 0), vec![], 0);
    newer.session = Session::new(2);
    server.hear(2, 1, Body::AppendEntries(newer));
    server.take_sent();
    server.heartbeat(2, 1);
    assert!(server.append_reply().is_none());
}

/// While they change places, those who come and those who go are members together.
#[test]
fn a_joint_configuration_is_no_larger_than_any_other() {
    let mut server = TestServer::leader(64, 0, &[]);
    (2..=33).for_each(|peer| server.matched(peer, 1));
    let changes = [Change::Remove(id(64)), Change::add_learner(id(65), "")];
    let refused = ChangeRefused::Invalid(MembershipError::TooManyMembers);
    assert_eq!(server.change_membership(&changes), Err(refused));
    assert!(server.change_membership(&changes[..1]).is_ok());
}
