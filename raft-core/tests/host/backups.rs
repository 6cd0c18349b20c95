//! Backups of running nodes, and new clusters from them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::node::{CLUSTER, GATED, Gated, Map, id, leader, set, start, start_as, until};
use raft_core::host::{
    BackupError, BackupReadError, BackupRestoreError, BackupSummary, ClusterId, FileJournal,
    Handle, InProcessNetwork, Journal, MemoryJournal, NodeConfig, ReadError, RestoredBackup,
    StateMachine, StorageError, Versions,
};
use raft_core::{Change, Config, Index, NodeId};

/// The cluster that is made of a backup.
const COPY: ClusterId = ClusterId::new(2);
const TIMEOUT: Duration = Duration::from_secs(30);

fn raft(own: u64, voters: &[u64]) -> Config {
    Config {
        election_timeout_min: Duration::from_millis(500),
        election_timeout_max: Duration::from_millis(1000),
        ..Config::new(id(own), voters.iter().copied().map(NodeId::new))
    }
}

/// Three voters in memory.
fn three(network: &InProcessNetwork) -> BTreeMap<u64, Handle<Map>> {
    let node =
        |own| start(raft(own, &[1, 2, 3]), network, MemoryJournal::new(), Map::default()).unwrap();
    (1..=3).map(|own| (own, node(own))).collect()
}

/// A node that is its whole cluster, and leads.
fn alone<S: StateMachine>(network: &InProcessNetwork, machine: S) -> Handle<S> {
    let node = start(raft(1, &[1]), network, MemoryJournal::new(), machine).unwrap();
    node.lead().wait().unwrap();
    node
}

fn back_up<S: StateMachine>(node: &Handle<S>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let backup = node.backup().wait_timeout(TIMEOUT).unwrap();
    let last = backup.last();
    assert_eq!(backup.write_to(&mut bytes).unwrap().last, last);
    bytes
}

fn restore(
    directory: &Path,
    own: u64,
    voters: &[u64],
    backup: &[u8],
) -> Result<RestoredBackup, BackupRestoreError> {
    let voters = voters.iter().copied().map(NodeId::new);
    let directory = directory.join(own.to_string());
    FileJournal::restore_from_backup(directory, COPY, id(own), voters, backup)
}

/// A server of the new cluster. What it is told of voters does not matter: its disk decides.
fn start_copy<S: StateMachine>(
    network: &InProcessNetwork,
    directory: &Path,
    own: u64,
    machine: S,
) -> Handle<S> {
    let journal = FileJournal::open(directory.join(own.to_string()), COPY, id(own)).unwrap();
    let config = NodeConfig { seed: Some(1), ..NodeConfig::new(COPY, raft(own, &[own])) };
    start_as(config, network, journal, machine).unwrap()
}

/// What the node has, once a leader confirms it.
fn values(node: &Handle<Map>) -> Map {
    let mut values = None;
    until("a confirmed read", || {
        values = node.read(Clone::clone).wait_timeout(TIMEOUT).ok();
        values.is_some()
    });
    values.unwrap()
}

#[test]
fn any_node_gives_a_backup_that_holds_all_that_was_acknowledged() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let mut nodes = three(&network);
    let leads = leader(&nodes);
    let learner = start(raft(4, &[]), &network, MemoryJournal::new(), Map::default()).unwrap();
    let add = vec![Change::add_learner(id(4), "")];
    nodes[&leads].change_membership(add).wait_timeout(TIMEOUT).unwrap();
    nodes.insert(4, learner);
    for round in 0..3 {
        for node in nodes.values() {
            let command = set(round, b"value");
            let count = nodes[&leads].propose(command).wait_timeout(TIMEOUT).unwrap();
            let bytes = back_up(node);
            let directory = tempfile::tempdir().unwrap();
            restore(directory.path(), 1, &[1], &bytes).unwrap();
            let (other, _late) = InProcessNetwork::new(2, || {});
            let copy = start_copy(&other, directory.path(), 1, Map::default());
            assert!(values(&copy).count >= count, "acknowledged before the call");
        }
    }
}

#[test]
fn three_servers_begin_where_the_backup_ends_and_go_on() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let nodes = three(&network);
    let leads = leader(&nodes);
    for key in 0..20 {
        nodes[&leads].propose(set(key, &[7; 9000])).wait_timeout(TIMEOUT).unwrap();
    }
    let expected = values(&nodes[&leads]);
    let bytes = back_up(&nodes[&(leads % 3 + 1)]);
    let summary = BackupSummary::read(&*bytes).unwrap();
    assert_eq!(summary.cluster, CLUSTER);
    assert_eq!(summary.membership.voters().collect::<Vec<_>>(), [1, 2, 3].map(id));
    drop(nodes);

    let directory = tempfile::tempdir().unwrap();
    let restored: Vec<_> =
        [4, 5, 6].map(|own| restore(directory.path(), own, &[4, 5, 6], &bytes).unwrap()).into();
    assert!(restored.iter().all(|one| *one == restored[0]), "the same everywhere");
    assert_eq!(restored[0].backup, summary);
    let (other, _late) = InProcessNetwork::new(2, || {});
    let begin = |own| (own, start_copy(&other, directory.path(), own, Map::default()));
    let copies: BTreeMap<_, _> = (4..=6).map(begin).collect();
    let leads = leader(&copies);
    assert!(copies.values().all(|copy| values(copy) == expected));
    let status = copies[&leads].status().wait_timeout(TIMEOUT).unwrap();
    assert_eq!(status.raft.membership.identity(), restored[0].membership.identity());
    assert!(status.raft.last_log.index > summary.last.index, "the log goes on at the next index");
    let count = copies[&leads].propose(set(1, b"new")).wait_timeout(TIMEOUT).unwrap();
    assert_eq!(count, expected.count + 1);

    // After a restart of all of them, too.
    for copy in copies.into_values() {
        copy.shutdown().wait();
    }
    let (other, _late) = InProcessNetwork::new(3, || {});
    let begin = |own| (own, start_copy(&other, directory.path(), own, Map::default()));
    let copies: BTreeMap<_, _> = (4..=6).map(begin).collect();
    let leads = leader(&copies);
    assert_eq!(values(&copies[&leads]).count, count);
}

#[test]
fn a_node_without_a_quorum_gives_what_it_has_and_says_that_this_may_not_be_all() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let nodes = three(&network);
    let leads = leader(&nodes);
    let count = nodes[&leads].propose(set(1, b"value")).wait_timeout(TIMEOUT).unwrap();
    let left = leads % 3 + 1;
    until("it has applied that", || {
        nodes[&left].read_local(|map| map.count).wait_timeout(TIMEOUT).unwrap() == count
    });
    network.isolate(id(left));
    until("it knows no leader", || nodes[&left].leadership().current().leader.is_none());
    let error = nodes[&left].backup().wait_timeout(TIMEOUT);
    let Err(raft_core::host::WaitError::Answered(error)) = error else { panic!("{error:?}") };
    assert!(matches!(error, BackupError::Refused(ReadError::NoLeader)), "{error}");
    assert!(error.to_string().contains("local backup"), "{error}");
    let backup = nodes[&left].backup_local().wait_timeout(TIMEOUT).unwrap();
    assert!(backup.last().index > Index::ZERO);
}

#[test]
fn a_node_that_has_applied_nothing_or_takes_no_snapshots_says_so() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let waits = start(raft(2, &[]), &network, MemoryJournal::new(), Map::default()).unwrap();
    let error = waits.backup_local().wait().unwrap_err();
    assert!(matches!(error, BackupError::NotReady), "{error}");

    struct Nothing;
    impl StateMachine for Nothing {
        type Reply = ();
        fn apply(&mut self, _: Index, _: bytes::Bytes) {}
    }
    let error = alone(&network, Nothing).backup().wait().unwrap_err();
    assert!(matches!(error, BackupError::Unsupported), "{error}");
}

#[test]
fn a_backup_holds_the_state_at_its_position_while_commands_go_on() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let node = alone(&network, Map::default());
    let mut before = 0;
    for round in 0..5 {
        let answers: Vec<_> = (0..50).map(|key| node.propose(set(key, b"value"))).collect();
        let backup = node.backup_local().wait_timeout(TIMEOUT).unwrap();
        let last = backup.last();
        let mut bytes = Vec::new();
        backup.write_to(&mut bytes).unwrap();
        for answer in answers {
            answer.wait_timeout(TIMEOUT).unwrap();
        }
        let directory = tempfile::tempdir().unwrap();
        let restored = restore(directory.path(), 1, &[1], &bytes).unwrap();
        assert_eq!(restored.backup.last, last, "round {round}");
        let (other, _late) = InProcessNetwork::new(2, || {});
        let copy = start_copy(&other, directory.path(), 1, Map::default());
        // Each command is one entry; what else is in the log are a few entries of Raft's own.
        let count = values(&copy).count;
        assert!(count >= before && count < last.index.get(), "{count} at {last}");
        assert!(last.index.get() - count < 10, "{count} at {last}");
        before = count;
    }
}

#[test]
fn a_state_machine_that_hangs_leaves_no_caller_without_an_answer() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let gated = Gated::default();
    let config =
        NodeConfig { stuck_after: Duration::from_millis(50), ..crate::node::config(raft(1, &[1])) };
    let node = start_as(config, &network, MemoryJournal::new(), gated.clone()).unwrap();
    node.lead().wait().unwrap();
    gated.apply.shut();
    let command = node.propose(set(GATED, b""));
    until("it hangs", || gated.apply.holds());
    let error = node.backup_local().wait_timeout(TIMEOUT).unwrap_err();
    let refused = BackupError::Refused(ReadError::Stuck);
    assert!(format!("{error:?}").contains(&format!("{refused:?}")), "{error:?}");
    gated.apply.open();
    command.wait_timeout(TIMEOUT).unwrap();
    assert!(!back_up(&node).is_empty());
}

/// What lies in a directory, and how large it is.
fn content(directory: &Path) -> BTreeMap<String, u64> {
    let Ok(files) = fs::read_dir(directory) else { return BTreeMap::new() };
    let files = files.map(|file| file.unwrap());
    let name = |file: &fs::DirEntry| file.file_name().into_string().unwrap();
    files.map(|file| (name(&file), file.metadata().unwrap().len())).collect()
}

#[test]
fn a_restore_is_refused_with_the_reason_and_changes_nothing() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let node = alone(&network, Map::default());
    node.propose(set(1, b"value")).wait().unwrap();
    let bytes = back_up(&node);
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("1");
    let into = |cluster: ClusterId, voters: &[u64], bytes: &[u8]| {
        let voters: Vec<_> = voters.iter().copied().map(NodeId::new).collect();
        FileJournal::restore_from_backup(&place, cluster, id(1), voters, bytes).unwrap_err()
    };
    let same = into(CLUSTER, &[1], &bytes);
    assert!(matches!(same, BackupRestoreError::SameCluster { cluster: CLUSTER }), "{same}");
    assert!(same.to_string().contains("choose another number"), "{same}");
    let other = into(COPY, &[2, 3], &bytes);
    assert!(matches!(other, BackupRestoreError::NotAVoter { .. }), "{other}");
    let nobody = into(COPY, &[], &bytes);
    assert!(matches!(nobody, BackupRestoreError::Voters(_)), "{nobody}");
    let mut damaged = bytes.clone();
    let at = bytes.len() - 60;
    damaged[at] ^= 1;
    let error = into(COPY, &[1], &damaged);
    let is_damage = matches!(error, BackupRestoreError::Backup(BackupReadError::Damaged { .. }));
    assert!(is_damage, "{error}");
    for at in [0, 5, 40, bytes.len() / 2, bytes.len() - 1] {
        let error = into(COPY, &[1], &bytes[..at]);
        let is_cut = matches!(error, BackupRestoreError::Backup(BackupReadError::Truncated { .. }));
        assert!(is_cut, "{error}");
    }
    let error = into(COPY, &[1], &[&bytes[..], b"more"].concat());
    let follows =
        matches!(error, BackupRestoreError::Backup(BackupReadError::TrailingBytes { .. }));
    assert!(follows, "{error}");
    assert!(!place.exists(), "what was not there is not there");

    fs::create_dir(&place).unwrap();
    let _ = into(COPY, &[1], &damaged);
    assert_eq!(content(&place), BTreeMap::new(), "what was empty is empty");
    fs::write(place.join("file"), b"something").unwrap();
    let error = into(COPY, &[1], &bytes);
    assert!(matches!(error, BackupRestoreError::NotEmpty { .. }), "{error}");
    assert_eq!(content(&place), BTreeMap::from([("file".to_owned(), 9)]));
    fs::remove_file(place.join("file")).unwrap();
    restore(directory.path(), 1, &[1], &bytes).unwrap();
    let error = into(COPY, &[1], &bytes);
    assert!(matches!(error, BackupRestoreError::NotEmpty { .. }), "{error}");
}

#[test]
fn a_directory_in_which_a_restore_was_interrupted_holds_no_journal() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("restoring"), b"").unwrap();
    let error = FileJournal::open(directory.path(), COPY, id(1)).unwrap_err();
    assert!(matches!(error, StorageError::RestoreUnfinished { .. }), "{error}");
    assert_eq!(content(directory.path()).len(), 1, "and none was begun there");
}

/// Two servers that were restored from different backups might each believe to hold the same
/// entries.
#[test]
fn servers_that_were_restored_differently_refuse_each_other() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let node = alone(&network, Map::default());
    node.propose(set(1, b"value")).wait().unwrap();
    let first = back_up(&node);
    node.propose(set(2, b"value")).wait().unwrap();
    let second = back_up(&node);
    let directory = tempfile::tempdir().unwrap();
    let one = restore(directory.path(), 1, &[1, 2], &first).unwrap();
    let two = restore(directory.path(), 2, &[1, 2], &second).unwrap();
    assert_ne!(one.membership.identity(), two.membership.identity());
    let (other, _late) = InProcessNetwork::new(2, || {});
    let nodes = [1, 2].map(|own| start_copy(&other, directory.path(), own, Map::default()));
    until("they refuse each other", || {
        nodes.iter().all(|node| {
            let status = node.status().wait_timeout(TIMEOUT).unwrap();
            !status.refused_peers.is_empty()
        })
    });
    // Other voters are another cluster, too.
    let three = tempfile::tempdir().unwrap();
    let three = restore(three.path(), 1, &[1, 2, 3], &first).unwrap();
    assert_ne!(one.membership.identity(), three.membership.identity());
}

#[test]
fn a_voter_that_starts_empty_gets_the_state_from_those_that_were_restored() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let node = alone(&network, Map::default());
    node.propose(set(1, b"value")).wait().unwrap();
    let bytes = back_up(&node);
    let directory = tempfile::tempdir().unwrap();
    for own in [1, 2] {
        restore(directory.path(), own, &[1, 2, 3], &bytes).unwrap();
    }
    let (other, _late) = InProcessNetwork::new(2, || {});
    let restored = [1, 2].map(|own| start_copy(&other, directory.path(), own, Map::default()));
    let config = NodeConfig { seed: Some(1), ..NodeConfig::new(COPY, raft(3, &[1, 2, 3])) };
    let empty = start_as(config, &other, MemoryJournal::new(), Map::default()).unwrap();
    assert_eq!(values(&empty).count, 1);
    assert_eq!(values(&restored[0]).count, 1);
}

#[test]
fn the_version_in_force_is_not_taken_back_by_a_restore() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let versions = Versions::new(0, 2);
    let config = NodeConfig { versions, ..crate::node::config(raft(1, &[1])) };
    let node = start_as(config, &network, MemoryJournal::new(), Map::default()).unwrap();
    node.lead().wait().unwrap();
    until("the version", || node.change_membership(vec![Change::RaiseVersion(2)]).wait().is_ok());
    let bytes = back_up(&node);
    let directory = tempfile::tempdir().unwrap();
    let restored = restore(directory.path(), 1, &[1, 2, 3], &bytes).unwrap();
    assert_eq!(restored.membership.version(), 2);
    assert_eq!(restored.backup.membership.version(), 2);
}

#[test]
fn a_restored_journal_says_what_it_begins_with() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let node = alone(&network, Map::default());
    let bytes = back_up(&node);
    let directory = tempfile::tempdir().unwrap();
    let restored = restore(directory.path(), 1, &[1, 2, 3], &bytes).unwrap();
    let mut journal = FileJournal::open(directory.path().join("1"), COPY, id(1)).unwrap();
    let found = journal.recover().unwrap();
    assert_eq!(found.base, restored.backup.last);
    assert!(found.entries.is_empty());
    assert_eq!(found.hard_state.current_term, restored.backup.last.term);
    assert_eq!(found.hard_state.voted_for, None);
    assert_eq!(found.snapshot.unwrap().membership, restored.membership);
    assert!(content(&directory.path().join("1")).keys().all(|name| name != "restoring"));
}
