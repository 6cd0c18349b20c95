//! Cluster membership changes (§6), sentence by sentence. What becomes of servers that leave is in
//! `thesis/section_4_2_removal.rs`.

use crate::server::{TestServer, append, at, entry_of, id, index, ms};
use raft_core::{
    AppendResult, Body, Change, ChangeRefused, Member, MemberStore, Membership, MembershipError,
    Output, Payload, Role, Session, Suffrage,
};

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

fn suffrages(membership: &Membership) -> Vec<(u64, Suffrage)> {
    membership.members().iter().map(|member| (member.id.get(), member.suffrage)).collect()
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

/// "Once a given server adds the new configuration entry to its log, it uses that configuration for
/// all future decisions."
#[test]
fn a_configuration_is_in_force_once_it_is_appended() {
    let mut server = leader();
    with_learner(&mut server);
    server.change_membership(&[Change::Promote(id(4))]).unwrap();
    assert_eq!(server.membership().suffrage(id(4)), Some(Suffrage::Incoming));

    let mut follower = TestServer::new(3);
    let joint = server.membership().clone();
    let entries = vec![entry_of(1, 1, Payload::Configuration(joint.clone().into()))];
    follower.hear(2, 1, Body::AppendEntries(append(at(0, 0), entries, 0)));
    assert_eq!(follower.membership(), &joint);
    assert!(follower.others.contains(&Output::MembershipChanged(joint)));
}

/// "(regardless of whether the entry is committed)": and if it is replaced, the one before holds
/// again.
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
    assert_eq!(server.membership().suffrage(id(4)), Some(Suffrage::Learner));
}

/// "Agreement (for elections and entry commitment) requires separate majorities from both the old
/// and new configurations."
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

/// "Once C-old,new has been committed ... it is safe for the leader to create a log entry
/// describing C-new."
#[test]
fn the_leader_leaves_the_joint_configuration_once_it_is_committed() {
    let mut server = leader();
    with_learner(&mut server);
    server.change_membership(&[Change::Promote(id(4))]).unwrap();
    server.poll();
    server.matched_in(4, 2, 3);
    assert!(server.membership().is_joint(), "1 and 4 are no majority of either");
    server.matched(2, 3);
    let voters =
        [(1, Suffrage::Voter), (2, Suffrage::Voter), (3, Suffrage::Voter), (4, Suffrage::Voter)];
    assert_eq!(suffrages(server.membership()), voters);
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

/// The leader leaves it: also a leader that was elected inside of it, once an entry of its own term
/// is committed.
#[test]
fn a_new_leader_leaves_the_joint_configuration_of_its_predecessor() {
    let joint = Membership::of_members([
        Member {
            id: id(1),
            suffrage: Suffrage::Voter,
            priority: 0,
            label: vec![],
            store: MemberStore::Unrecorded,
        },
        Member {
            id: id(2),
            suffrage: Suffrage::Voter,
            priority: 0,
            label: vec![],
            store: MemberStore::Unrecorded,
        },
        Member {
            id: id(3),
            suffrage: Suffrage::Incoming,
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

/// "New servers ... join the cluster as non-voting members (the leader replicates log entries to
/// them, but they are not considered for majorities)."
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

/// "Once the new servers have caught up with the rest of the cluster, the reconfiguration can
/// proceed."
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

/// A learner that has yet to hear of the cluster that it is in would vote for nobody, though its
/// vote may be needed.
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
    let members = [(1, Suffrage::Learner), (2, Suffrage::Voter), (3, Suffrage::Voter)];
    let members = members.map(|(n, suffrage)| Member {
        id: id(n),
        suffrage,
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

/// The configuration with which a cluster begins is on disk with the first write, and holds from
/// then on, whatever a later start is told.
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

/// "raft single-server change bug" of 2015: a leader commits an entry of its own term before it
/// changes the membership.
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

/// A peer that is removed and added again begins a new replication session: an answer of the old
/// one counts for nothing.
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
