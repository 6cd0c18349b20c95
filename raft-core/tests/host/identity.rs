//! Identities (§6): of the cluster and of the stores of its members, judged by the host on any
//! transport; here in one process.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::node::{CLUSTER, Map, id, leader, set, start, until};
use raft_core::host::handshake::Refusal;
use raft_core::host::{
    ChangeError, FileJournal, Handle, InProcessNetwork, Journal, Label, MemoryJournal, NodeStatus,
};
use raft_core::{
    Change, ClusterIdentity, Config, Index, LogId, Member, MemberStore, Membership, NodeId,
    SnapshotMeta, Write, WriteId,
};

type Nodes = BTreeMap<u64, Handle<Map>>;

fn raft(own: u64, voters: &[u64]) -> Config {
    Config {
        election_timeout_min: Duration::from_millis(300),
        election_timeout_max: Duration::from_millis(600),
        promotion_lag_max: 4,
        ..Config::new(id(own), voters.iter().copied().map(NodeId::new))
    }
}

fn hub(seed: u64) -> InProcessNetwork {
    let (hub, _late) = InProcessNetwork::new(seed, || ());
    hub
}

fn run(hub: &InProcessNetwork, own: u64, voters: &[u64], journal: impl Journal) -> Handle<Map> {
    start(raft(own, voters), hub, journal, Map::default()).unwrap()
}

fn stop(node: &Handle<Map>) {
    node.shutdown().wait();
}

fn status(node: &Handle<Map>) -> NodeStatus {
    node.status().wait().unwrap()
}

/// Through the leader, again if it is lost meanwhile.
fn propose(nodes: &Nodes, key: u64) {
    let propose = || nodes[&leader(nodes)].propose(set(key, b"value"));
    until("a command", || propose().wait().is_ok());
}

fn change(nodes: &Nodes, changes: &[Change]) -> Result<Membership, ChangeError> {
    nodes[&leader(nodes)].change_membership(changes.to_vec()).wait()
}

fn identity_is_known(nodes: &Nodes) -> bool {
    nodes.values().all(|node| {
        let membership = node.membership();
        let known = |member: &Member| member.store.recorded().is_some();
        membership.identity().is_some() && membership.members().iter().all(known)
    })
}

/// The identity of the cluster, once every one of these nodes knows it and the stores of all
/// members.
fn identity(nodes: &Nodes) -> ClusterIdentity {
    until("identities", || identity_is_known(nodes));
    nodes.values().next().unwrap().membership().identity().unwrap()
}

fn three(hub: &InProcessNetwork, journals: &BTreeMap<u64, MemoryJournal>) -> Nodes {
    let own = |number: u64| (number, run(hub, number, &[1, 2, 3], journals[&number].clone()));
    (1..=3).map(own).collect()
}

fn journals() -> BTreeMap<u64, MemoryJournal> {
    (1..=3).map(|number| (number, MemoryJournal::new())).collect()
}

/// Field bug 49: a server that holds the history of another cluster of the same number leads
/// alone. It is added, and neither its messages nor those of the cluster pass; the caller
/// that waits for the addition is told why.
#[test]
fn a_foreign_history_is_not_taken_in() {
    let hub = hub(1);
    let nodes = three(&hub, &journals());
    propose(&nodes, 1);
    let ours = identity(&nodes);

    let foreign = run(&hub, 4, &[4], MemoryJournal::new());
    let four = Nodes::from([(4, foreign.clone())]);
    propose(&four, 9);
    let theirs = identity(&four);
    assert_ne!(ours, theirs);

    let label = Label::default().add_learner(id(4)).unwrap();
    change(&nodes, std::slice::from_ref(&label)).unwrap();
    let expected = Refusal::OtherHistory { node: id(4), cluster: ours, its: Some(theirs) };
    let refused = change(&nodes, &[Change::Promote(id(4))]).unwrap_err();
    let ChangeError::Refused { id: of, refusal } = refused else { panic!("{refused}") };
    assert_eq!((of, refusal), (id(4), expected));
    let text = refusal.to_string();
    assert!(text.contains(&ours.to_string()) && text.contains(&theirs.to_string()), "{text}");

    propose(&nodes, 2);
    propose(&four, 8);
    let keys = |node: &Handle<Map>| {
        let read = node.read(|map: &Map| map.values.keys().copied().collect::<Vec<_>>());
        read.wait().unwrap()
    };
    assert_eq!(keys(&nodes[&leader(&nodes)]), [1_u64.to_be_bytes(), 2_u64.to_be_bytes()]);
    assert_eq!(keys(&foreign), [8_u64.to_be_bytes(), 9_u64.to_be_bytes()]);

    change(&nodes, &[Change::Remove(id(4))]).unwrap();
    let refused = change(&nodes, &[label]).unwrap_err();
    assert!(matches!(refused, ChangeError::Refused { .. }), "it was met: {refused}");
    nodes.values().chain([&foreign]).for_each(stop);
}

/// A node that returns without its memory is refused on every transport, says so, and comes back as
/// a new member; relabelling it does not help.
#[test]
fn a_node_that_returns_empty_is_refused_whatever_its_label() {
    let (hub, journals) = (hub(2), journals());
    let mut nodes = three(&hub, &journals);
    propose(&nodes, 1);
    identity(&nodes);
    let wiped = (1..=3).find(|number| *number != leader(&nodes)).unwrap();
    stop(&nodes.remove(&wiped).unwrap());
    let relabel = Change::Relabel { id: id(wiped), label: Label::at("b:1").encode().unwrap() };
    change(&nodes, &[relabel]).unwrap();

    let empty = run(&hub, wiped, &[1, 2, 3], MemoryJournal::new());
    until("it is told", || status(&empty).told_not_to_vote);
    let refusal = Refusal::OtherStore { node: id(wiped) };
    let refuses = |node: &Handle<Map>| status(node).refused_peers.contains(&(id(wiped), refusal));
    until("a refusal", || refuses(&nodes[&leader(&nodes)]));
    assert_eq!(status(&empty).raft.last_log.index, Index::ZERO);

    let again = Label::default().add_learner(id(wiped)).unwrap();
    let at_once = change(&nodes, &[Change::Remove(id(wiped)), again.clone()]).unwrap_err();
    assert!(at_once.to_string().contains("in one change"), "{at_once}");
    change(&nodes, &[Change::Remove(id(wiped))]).unwrap();
    change(&nodes, &[again]).unwrap();
    change(&nodes, &[Change::Promote(id(wiped))]).unwrap();
    until("a vote again", || !status(&empty).told_not_to_vote);
    nodes.insert(wiped, empty);
    propose(&nodes, 2);
    nodes.values().for_each(stop);
}

/// Two of three come back without their disks and with their usual voters, while the third holds
/// everything.
#[test]
fn blank_voters_found_no_second_cluster() {
    let (hub, journals) = (hub(3), journals());
    let mut nodes = three(&hub, &journals);
    propose(&nodes, 1);
    identity(&nodes);
    for wiped in [1, 2] {
        stop(&nodes.remove(&wiped).unwrap());
    }
    let blank: Nodes =
        [1, 2].map(|own| (own, run(&hub, own, &[1, 2, 3], MemoryJournal::new()))).into();
    until("both are told", || blank.values().all(|node| status(node).told_not_to_vote));
    for node in blank.values() {
        assert_eq!(status(node).raft.last_log, LogId::ZERO);
        // Nobody leads, and no timer runs that could change that.
        assert_eq!(status(node).raft.leader, None);
        until("no timer", || status(node).wakes_at.is_none());
    }
    nodes.values().chain(blank.values()).for_each(stop);
}

/// Field bug 55: a server that only its own flags name stands for nothing, and its status says so.
#[test]
fn a_server_in_the_flags_alone_is_told() {
    let hub = hub(4);
    let nodes = three(&hub, &journals());
    propose(&nodes, 1);
    identity(&nodes);
    let four = run(&hub, 4, &[1, 2, 3, 4], MemoryJournal::new());
    until("it is told", || status(&four).told_not_to_vote);
    change(&nodes, &[Label::default().add_learner(id(4)).unwrap()]).unwrap();
    change(&nodes, &[Change::Promote(id(4))]).unwrap();
    until("a vote", || !status(&four).told_not_to_vote);
    nodes.values().chain([&four]).for_each(stop);
}

/// An old journal names the store in the label, and it is another one: the survivor leads
/// nevertheless, in the same cluster.
#[test]
fn a_survivor_leads_though_its_label_named_another_store() {
    let directory = tempfile::tempdir().unwrap();
    let open = || FileJournal::open(directory.path(), CLUSTER, id(1)).unwrap();
    let mut journal = open();
    journal.recover().unwrap();
    // [null, 99, h''], as older versions wrote it.
    let label = b"\x83\xf6\x18\x63\x40".to_vec();
    assert!(Label::decode(&label).unwrap().store_id.is_some());
    let first = Membership::of_voters([1, 2, 3].map(id));
    let relabel = Change::Relabel { id: id(1), label };
    let cluster = ClusterIdentity::new(7);
    let membership = first.after(&[relabel, Change::Identify(cluster)]).unwrap();
    let snapshot = SnapshotMeta { last: LogId::ZERO, membership };
    let write =
        Write { id: WriteId::new(1), snapshot: Some(Box::new(snapshot)), ..Write::default() };
    journal.append(&write).unwrap();
    journal.sync().unwrap();
    drop(journal);

    FileJournal::restore_from_survivor(directory.path(), CLUSTER, id(1)).unwrap();
    let journal = open();
    let store = MemberStore::Recorded(journal.store_id().get());
    let nodes = Nodes::from([(1, run(&hub(5), 1, &[1, 2, 3], journal))]);
    propose(&nodes, 1);
    let membership = nodes[&1].membership();
    assert_eq!(membership.member(id(1)).unwrap().store, store);
    assert_eq!(membership.identity(), Some(cluster));
    nodes.values().for_each(stop);
}

/// Lets a server that lost its disk join again, and hands it the lead.
fn replace(nodes: &mut Nodes, number: u64, empty: Handle<Map>) {
    change(nodes, &[Change::Remove(id(number))]).unwrap();
    change(nodes, &[Label::default().add_learner(id(number)).unwrap()]).unwrap();
    change(nodes, &[Change::Promote(id(number))]).unwrap();
    nodes.insert(number, empty);
    until("the new store to be recorded", || identity_is_known(nodes));
    until("it to lead", || {
        let asked = nodes[&leader(nodes)].transfer_leadership(Some(id(number))).wait();
        asked.is_ok() || leader(nodes) == number
    });
}

fn until_it_follows(node: &Handle<Map>, leader: &Handle<Map>) {
    until("it to follow", || {
        let committed = status(leader).raft.commit_index;
        committed > Index::ZERO && status(node).raft.last_applied >= committed
    });
}

/// A member's disk was replaced, and that member leads, when a server comes back that was away. By
/// its old configuration the leader is the wrong server.
#[test]
fn a_server_that_was_away_follows_a_leader_whose_disk_was_replaced() {
    let hub = hub(6);
    let away = MemoryJournal::new();
    let journal = |number| if number == 5 { away.clone() } else { MemoryJournal::new() };
    let mut nodes: Nodes =
        (1..=5).map(|own| (own, run(&hub, own, &[1, 2, 3, 4, 5], journal(own)))).collect();
    propose(&nodes, 1);
    identity(&nodes);
    stop(&nodes.remove(&5).unwrap());
    stop(&nodes.remove(&2).unwrap());
    replace(&mut nodes, 2, run(&hub, 2, &[], MemoryJournal::new()));
    propose(&nodes, 2);

    nodes.insert(5, run(&hub, 5, &[1, 2, 3, 4, 5], away));
    let leads = nodes[&2].leadership().current();
    until_it_follows(&nodes[&5], &nodes[&2]);
    assert_eq!(nodes[&2].leadership().current(), leads, "no other leader was needed");
    nodes.values().for_each(stop);
}

/// The same of a server that joins, and begins with a snapshot that is older than the replacement.
#[test]
fn a_server_that_begins_with_an_old_snapshot_follows_a_leader_whose_disk_was_replaced() {
    let hub = hub(7);
    // No entry is left behind a snapshot.
    let config = |own, voters: &[u64]| Config { log_tail_bytes: 0, ..raft(own, voters) };
    let run = |own, voters: &[u64]| {
        start(config(own, voters), &hub, MemoryJournal::new(), Map::default()).unwrap()
    };
    let mut nodes: Nodes = (1..=3).map(|own| (own, run(own, &[1, 2, 3]))).collect();
    propose(&nodes, 1);
    identity(&nodes);
    stop(&nodes.remove(&2).unwrap());
    for node in nodes.values() {
        until("a snapshot", || node.take_snapshot().wait().is_ok());
    }
    replace(&mut nodes, 2, run(2, &[]));
    propose(&nodes, 2);

    let four = run(4, &[]);
    change(&nodes, &[Label::default().add_learner(id(4)).unwrap()]).unwrap();
    until_it_follows(&four, &nodes[&2]);
    nodes.values().chain([&four]).for_each(stop);
}
