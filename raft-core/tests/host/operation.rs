//! What operators do: snapshots, members that come and go, leadership handed over; on the host
//! without a runtime.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::node::{CLUSTER, Map, id, leader, set, start, until};
use bytes::Bytes;
use raft_core::host::{
    ChangeError, FileJournal, Finding, Handle, InProcessNetwork, Journal, MemoryJournal,
    ProposeError, SnapshotError, SnapshotReader, SnapshotStore, SnapshotWriter, StartError,
    StopReason, StorageError, StoreId, Timeouts, TransferError, WaitError,
};
use raft_core::{Change, Config, LogId, MembershipError, NodeId, Restored, Role, Suffrage, Write};

const SEGMENT_BYTES_MAX: u64 = 64 << 10;

/// Small enough that a few hundred commands need snapshots, several pieces each.
fn small(own: u64, voters: &[u64]) -> Config {
    Config {
        snapshot_log_bytes: 64 << 10,
        log_tail_bytes: 4 << 10,
        snapshot_chunk_bytes: 10_000,
        inflight_chunks_max: 2,
        promotion_lag_max: 4,
        election_timeout_min: Duration::from_millis(500),
        election_timeout_max: Duration::from_millis(1000),
        ..Config::new(id(own), voters.iter().copied().map(NodeId::new))
    }
}

fn journal(directory: &Path, own: u64) -> FileJournal {
    let journal = FileJournal::open(directory.join(own.to_string()), CLUSTER, id(own)).unwrap();
    journal.with_segment_bytes_max(SEGMENT_BYTES_MAX)
}

/// Three nodes of one cluster, with journals in memory.
fn three(hub: &InProcessNetwork) -> BTreeMap<u64, Handle<Map>> {
    let node = |own| {
        let raft = Config::new(id(own), [1, 2, 3].map(NodeId::new));
        (own, start(raft, hub, MemoryJournal::new(), Map::default()).unwrap())
    };
    (1..=3).map(node).collect()
}

pub(super) fn directory_bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).unwrap();
    files.map(|file| file.unwrap().metadata().map_or(0, |metadata| metadata.len())).sum()
}

/// Replicates a value of a kilobyte at the leader, once or, if a disk was too slow for the
/// leader to stay, more often.
fn replicate(nodes: &BTreeMap<u64, Handle<Map>>, key: u64) {
    let command = set(key, &[key as u8; 1000]);
    let propose = || nodes[&leader(nodes)].propose(command.clone());
    while propose().wait().is_err() {}
}

fn state_of(node: &Handle<Map>) -> Map {
    node.read(Map::clone).wait().unwrap()
}

#[test]
fn a_cluster_compacts_grows_by_snapshot_and_replaces_its_leader() {
    let directory = tempfile::tempdir().unwrap();
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let mut nodes = BTreeMap::new();
    for own in 1..=3 {
        let journal = journal(directory.path(), own);
        let node = start(small(own, &[1, 2, 3]), &hub, journal, Map::default()).unwrap();
        nodes.insert(own, node);
    }
    // A megabyte of log, 100 kB of state.
    (0..1000).for_each(|number| replicate(&nodes, number % 100));
    for own in 1..=3 {
        let path = directory.path().join(own.to_string());
        until("a small journal", || directory_bytes(&path) < 600_000);
    }

    // A new node knows nobody; it is added, catches up by snapshot, and is promoted when it has.
    let old_leader = leader(&nodes);
    let joins = start(small(4, &[]), &hub, journal(directory.path(), 4), Map::default()).unwrap();
    assert!(joins.membership().is_empty());
    let change = |own: &u64, changes: Vec<Change>| {
        let answer = nodes[own].change_membership(changes);
        answer.wait_timeout(Duration::from_secs(30)).unwrap()
    };
    let members = change(&old_leader, vec![Change::add_learner(id(4), "four")]);
    assert_eq!(members.suffrage(id(4)), Some(Suffrage::Learner));
    let members = change(&old_leader, vec![Change::Promote(id(4)), Change::Remove(id(old_leader))]);
    assert_eq!(
        (members.suffrage(id(4)), members.suffrage(id(old_leader))),
        (Some(Suffrage::Voter), None)
    );
    assert!(!members.is_joint());
    let status = joins.status().wait().unwrap();
    assert!(status.raft.snapshot.index.get() > 0, "it was sent a snapshot");

    // The old leader leads no more, and is stopped; the others go on, and hold everything.
    let removed = nodes.remove(&old_leader).unwrap();
    until("the removed leader follows", || removed.leadership().current().role != Role::Leader);
    assert!(matches!(removed.shutdown().wait(), StopReason::Shutdown));
    nodes.insert(4, joins);
    (0..200).for_each(|number| replicate(&nodes, number % 100));
    let expected = state_of(&nodes[&leader(&nodes)]);
    assert!(expected.count >= 1200 && expected.values.len() == 100);
    // Followers read, too.
    nodes.values().for_each(|node| assert_eq!(state_of(node), expected));

    // A restart begins with the snapshot.
    let node = nodes.remove(&4).unwrap();
    let taken = node.take_snapshot().wait().unwrap();
    assert!(matches!(node.shutdown().wait(), StopReason::Shutdown));
    let again = start(small(4, &[]), &hub, journal(directory.path(), 4), Map::default()).unwrap();
    assert_eq!(again.status().wait().unwrap().raft.snapshot, taken);
    until("its state", || again.read(Map::clone).wait().is_ok_and(|s| s == expected));
    let members = again.membership();
    assert_eq!(members.members().len(), 3);
    assert_eq!(members.member(id(4)).map(|member| &*member.label), Some(&b"four"[..]));
}

#[test]
fn leadership_goes_where_it_is_sent_and_nobody_is_refused_meanwhile() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let nodes = three(&hub);
    for _ in 0..5 {
        let from = leader(&nodes);
        let to = from % 3 + 1;
        let before: Vec<_> = (0..50).map(|key| nodes[&from].propose(set(key, b"before"))).collect();
        let transfer = nodes[&from].transfer_leadership(Some(id(to)));
        let during: Vec<_> = (0..50).map(|key| nodes[&from].propose(set(key, b"during"))).collect();
        assert_eq!(transfer.wait().unwrap(), id(to));
        // What was in the log that was handed over is answered as if nothing had happened.
        assert!(before.into_iter().all(|answer| answer.wait().is_ok()));
        for answer in during {
            match answer.wait() {
                Err(ProposeError::NotLeader { leader, command, .. }) => {
                    assert_eq!((leader, &command[8..]), (Some(id(to)), &b"during"[..]));
                }
                other => panic!("{other:?}"),
            }
        }
        until("the other leads", || leader(&nodes) == to);
    }
}

#[test]
fn a_transfer_that_fails_is_given_up_and_those_who_waited_are_served() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let mut nodes = three(&hub);
    replicate(&nodes, 1);
    let from = leader(&nodes);
    let dead = from % 3 + 1;
    nodes.remove(&dead).unwrap().shutdown().wait();
    let transfer = nodes[&from].transfer_leadership(Some(id(dead)));
    let joins = nodes[&from].transfer_leadership(None);
    let other = nodes[&from].transfer_leadership(Some(id(dead % 3 + 1)));
    let parked = nodes[&from].propose(set(1, b"parked"));
    assert!(matches!(other.wait(), Err(TransferError::Transferring { to }) if to == id(dead)));
    for transfer in [transfer, joins] {
        let answer = transfer.wait();
        assert!(
            matches!(answer, Err(TransferError::GivenUp { to }) if to == id(dead)),
            "{answer:?}"
        );
    }
    assert_eq!(parked.wait().unwrap(), 2);
    let follower = dead % 3 + 1;
    let refused = nodes[&follower].transfer_leadership(None).wait();
    assert!(
        matches!(refused, Err(TransferError::NotLeader { leader: Some(_), .. })),
        "{refused:?}"
    );
}

/// The leader is cut off before it hands over, and steps down before it gives the attempt up. There
/// is no leader to name, but the callers are answered.
#[test]
fn a_transfer_is_answered_if_the_leader_steps_down_without_a_successor() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let nodes = three(&hub);
    replicate(&nodes, 1);
    let from = leader(&nodes);
    hub.isolate(id(from));
    let transfer = nodes[&from].transfer_leadership(None);
    let answer = transfer.wait_timeout(Duration::from_secs(20));
    // The last is for a machine that stands still between the two lines before.
    let is_told = matches!(
        answer,
        Err(WaitError::Answered(
            TransferError::NotLeader { leader: None, .. } | TransferError::GivenUp { .. }
        ))
    );
    assert!(is_told, "{answer:?}");
}

/// How long a hand-over may take on a busy machine. Without one, the other servers would wait for
/// an election timeout, which is longer.
const HAND_OVER_MAX: Duration = Duration::from_secs(15);

#[test]
fn a_leader_that_shuts_down_hands_over_first() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let mut nodes = BTreeMap::new();
    for own in 1..=3 {
        // Only the first server stands for election by itself within this test.
        let timeout = if own == 1 { Duration::from_millis(500) } else { 4 * HAND_OVER_MAX };
        let raft = Config {
            election_timeout_min: timeout,
            election_timeout_max: 2 * timeout,
            ..Config::new(id(own), [1, 2, 3].map(NodeId::new))
        };
        nodes.insert(own, start(raft, &hub, MemoryJournal::new(), Map::default()).unwrap());
    }
    replicate(&nodes, 1);
    let first = leader(&nodes);
    let leads = nodes.remove(&first).unwrap();
    let begun = std::time::Instant::now();
    leads.shutdown().wait();
    leader(&nodes);
    assert!(begun.elapsed() < HAND_OVER_MAX, "{:?}", begun.elapsed());
    // So does one whose last handle is dropped.
    replicate(&nodes, 2);
    let second = leader(&nodes);
    let begun = std::time::Instant::now();
    drop(nodes.remove(&second));
    leader(&nodes);
    assert!(begun.elapsed() < HAND_OVER_MAX, "{:?}", begun.elapsed());
}

#[test]
fn changes_that_cannot_be_are_refused_and_those_that_can_wait_their_turn() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let raft = Config::new(id(1), [id(1)]);
    let node = start(raft, &hub, MemoryJournal::new(), Map::default()).unwrap();
    let change = |changes| node.change_membership(changes);
    node.lead().wait().unwrap();
    let refused = [
        (Change::Promote(id(9)), MembershipError::NotMember(id(9))),
        (Change::Remove(id(1)), MembershipError::NoVoter),
        (Change::add_learner(id(1), ""), MembershipError::AlreadyMember(id(1))),
    ];
    for (wrong, expected) in refused {
        let answer = change(vec![wrong]).wait();
        assert!(matches!(answer, Err(ChangeError::Invalid(error)) if error == expected));
    }
    // Nobody is there to catch up, so the promotion waits, and is in vain once the learner is
    // removed.
    let added = change(vec![Change::add_learner(id(2), "nobody")]);
    let promoted = change(vec![Change::Promote(id(2))]);
    let again = change(vec![Change::add_learner(id(3), "nobody")]);
    assert_eq!(added.wait().unwrap().members().len(), 2);
    assert_eq!(again.wait().unwrap().members().len(), 3);
    assert_eq!(node.status().wait().unwrap().changes_waiting, 1);
    let removed = change(vec![Change::Remove(id(2))]).wait().unwrap();
    assert_eq!(removed.suffrage(id(2)), None);
    let in_vain = promoted.wait();
    let not_member = MembershipError::NotMember(id(2));
    assert!(matches!(in_vain, Err(ChangeError::Invalid(error)) if error == not_member));

    let waits = change(vec![Change::Promote(id(3))]);
    node.shutdown().wait();
    assert!(!waits.wait().unwrap_err().may_take_effect());
    assert!(!node.change_membership(vec![]).wait().unwrap_err().may_take_effect());
}

/// A journal whose snapshots find the disk full for as long as it is said so.
pub(super) struct Full<J> {
    pub(super) journal: J,
    pub(super) is_full: Arc<AtomicBool>,
}

struct FullStore {
    store: Arc<dyn SnapshotStore>,
    is_full: Arc<AtomicBool>,
}

impl<J: Journal> Journal for Full<J> {
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError> {
        self.journal.recover()
    }

    fn store_id(&self) -> StoreId {
        self.journal.store_id()
    }

    fn snapshots(&mut self) -> Option<Arc<dyn SnapshotStore>> {
        let (store, is_full) = (self.journal.snapshots()?, Arc::clone(&self.is_full));
        Some(Arc::new(FullStore { store, is_full }))
    }

    fn append(&mut self, write: &Write<Bytes>) -> Result<(), StorageError> {
        self.journal.append(write)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.journal.sync()
    }
}

impl SnapshotStore for FullStore {
    fn create(&self, last: LogId, received: bool) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        if self.is_full.load(Ordering::Relaxed) {
            let (path, source) = ("there".into(), io::Error::from(io::ErrorKind::StorageFull));
            return Err(StorageError::DiskFull { path, source: Arc::new(source) });
        }
        self.store.create(last, received)
    }

    fn open(&self, last: LogId) -> Result<Box<dyn SnapshotReader>, StorageError> {
        self.store.open(last)
    }

    fn list(&self) -> Result<Vec<LogId>, StorageError> {
        self.store.list()
    }

    fn remove(&self, last: LogId) -> Result<(), StorageError> {
        self.store.remove(last)
    }
}

#[test]
fn a_disk_too_full_for_snapshots_ends_no_node_and_they_are_made_when_there_is_room() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let is_full = Arc::new(AtomicBool::new(true));
    let full = || Full { journal: MemoryJournal::new(), is_full: Arc::clone(&is_full) };
    let mut nodes = BTreeMap::new();
    nodes.insert(1, start(small(1, &[1]), &hub, full(), Map::default()).unwrap());
    (0..300).for_each(|number| replicate(&nodes, number % 100));
    let refused = nodes[&1].take_snapshot().wait();
    let Err(SnapshotError::Failed { message }) = refused else { panic!("{refused:?}") };
    assert!(message.contains("no room"), "{message}");
    is_full.store(false, Ordering::Relaxed);
    nodes[&1].take_snapshot().wait().unwrap();

    // A learner without room is not harmed, and catches up when it has some.
    is_full.store(true, Ordering::Relaxed);
    let joins = start(small(2, &[]), &hub, full(), Map::default()).unwrap();
    let added = nodes[&1].change_membership(vec![Change::add_learner(id(2), "")]);
    added.wait().unwrap();
    let promoted = nodes[&1].change_membership(vec![Change::Promote(id(2))]);
    let promoted = promoted.wait_timeout(Duration::from_millis(300));
    assert!(matches!(promoted, Err(WaitError::TimedOut)), "{promoted:?}");
    assert!(joins.stop_reason().is_none());
    is_full.store(false, Ordering::Relaxed);
    let promoted = nodes[&1].change_membership(vec![Change::Promote(id(2))]);
    promoted.wait_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(state_of(&joins), state_of(&nodes[&1]));
}

/// A state machine without snapshots.
struct Forgetful;

impl raft_core::host::StateMachine for Forgetful {
    type Reply = ();

    fn apply(&mut self, _: raft_core::Index, _: Bytes) {}
}

#[test]
fn a_snapshot_is_taken_when_asked_for_or_refused_with_a_reason() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let raft = Config::new(id(1), [id(1)]);
    let memory = MemoryJournal::new();
    let node = start(raft.clone(), &hub, memory.clone(), Map::default()).unwrap();
    node.lead().wait().unwrap();
    node.propose(set(7, b"kept")).wait().unwrap();
    let taken = node.take_snapshot().wait().unwrap();
    assert_eq!(node.take_snapshot().wait().unwrap(), taken, "nothing is new");
    node.shutdown().wait();

    let node = start(raft.clone(), &hub, memory.clone(), Map::default()).unwrap();
    node.lead().wait().unwrap();
    assert_eq!(state_of(&node).count, 1);
    node.shutdown().wait();
    let refused = start(raft.clone(), &hub, memory, Forgetful);
    assert!(matches!(refused, Err(StartError::Restore(_))));

    let node = start(raft, &hub, MemoryJournal::new(), Forgetful).unwrap();
    node.lead().wait().unwrap();
    node.propose(Bytes::new()).wait().unwrap();
    let refused = node.take_snapshot().wait();
    assert!(matches!(refused, Err(SnapshotError::Unsupported)), "{refused:?}");
}

fn timeouts_found(node: &Handle<Map>) -> Vec<(u64, Timeouts, Timeouts)> {
    let findings = node.status().wait().unwrap().findings;
    let differ = findings.iter().filter_map(|found| {
        let Finding::TimeoutsDiffer { peer, ours, theirs } = found else { return None };
        Some((peer.get(), *ours, *theirs))
    });
    differ.collect()
}

/// An operator who starts one server with other timeouts learns so from every server.
#[test]
fn servers_with_other_timeouts_name_each_other() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let usual = |own| Config::new(id(own), [1, 2, 3].map(NodeId::new));
    let other = Config { election_timeout_max: Duration::from_millis(400), ..usual(2) };
    let (ours, theirs) = (Timeouts::of(&usual(1)), Timeouts::of(&other));
    let journals: BTreeMap<u64, MemoryJournal> =
        (1..=3).map(|own| (own, MemoryJournal::new())).collect();
    let begin = |raft: Config| {
        let journal = journals[&raft.id.get()].clone();
        start(raft, &hub, journal, Map::default()).unwrap()
    };
    let mut nodes = BTreeMap::from([(1, begin(usual(1))), (2, begin(other)), (3, begin(usual(3)))]);
    for (own, expected) in [
        (1, vec![(2, ours, theirs)]),
        (2, vec![(1, theirs, ours), (3, theirs, ours)]),
        (3, vec![(2, ours, theirs)]),
    ] {
        until("each finds the ones that differ", || timeouts_found(&nodes[&own]) == expected);
    }
    let found = nodes[&1].status().wait().unwrap().findings;
    let told = found.last().unwrap().to_string();
    assert!(told.contains("and server 2 with election timeouts of 150ms to 400ms"), "{told}");

    nodes.remove(&2).unwrap().shutdown().wait();
    nodes.insert(2, begin(usual(2)));
    for own in 1..=3 {
        until("nobody differs any more", || {
            nodes[&own].leadership().current().leader.is_some()
                && timeouts_found(&nodes[&own]).is_empty()
        });
    }
}
