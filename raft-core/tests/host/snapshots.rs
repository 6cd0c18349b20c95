//! The life of snapshot files on the host (§7): each is kept while anything needs it, and
//! if one fails, the node goes on and every caller is answered.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::node::{CLUSTER, Gated, Map, id, set, start, until};
use bytes::Bytes;
use raft_core::host::{
    BackupError, FileJournal, Handle, InProcessNetwork, Journal, MemoryJournal, SnapshotError,
    SnapshotReader, SnapshotStore, SnapshotWriter, StorageError, StoreId,
};
use raft_core::{Change, Config, Index, LogId, NodeId, Restored, Status, Write};

/// Small enough that a hundred commands need snapshots, several pieces each.
fn small(own: u64, voters: &[u64]) -> Config {
    Config {
        snapshot_log_bytes: 32 << 10,
        log_tail_bytes: 1 << 10,
        snapshot_chunk_bytes: 10_000,
        inflight_chunks_max: 2,
        election_timeout_min: Duration::from_millis(500),
        election_timeout_max: Duration::from_millis(1000),
        ..Config::new(id(own), voters.iter().copied().map(NodeId::new))
    }
}

fn journal(directory: &Path, own: u64) -> FileJournal {
    FileJournal::open(directory.join(own.to_string()), CLUSTER, id(own)).unwrap()
}

fn snapshot_files(directory: &Path, own: u64) -> Vec<PathBuf> {
    let files = fs::read_dir(directory.join(own.to_string())).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().contains(".snapshot")).collect()
}

fn fill(node: &Handle<Gated>) {
    let answers: Vec<_> = (0..100).map(|key| node.propose(set(key, &[key as u8; 1000]))).collect();
    answers.into_iter().for_each(|answer| assert!(answer.wait().unwrap() > 0));
}

fn status(node: &Handle<Gated>) -> Status {
    let status = node.status().wait_timeout(Duration::from_secs(30));
    status.unwrap().raft
}

fn state(node: &Handle<Gated>) -> Option<Map> {
    let state = node.read(|state| state.map.clone());
    state.wait_timeout(Duration::from_secs(2)).ok()
}

/// A leader, and a learner that does not know of it.
fn leader_and_learner(
    hub: &InProcessNetwork,
    directory: &Path,
) -> (Handle<Gated>, Handle<Gated>, Gated) {
    let leads = start(small(1, &[1]), hub, journal(directory, 1), Gated::default()).unwrap();
    leads.lead().wait().unwrap();
    fill(&leads);
    leads.take_snapshot().wait().unwrap();
    let gates = Gated::default();
    hub.isolate(id(2));
    let learns = start(small(2, &[]), hub, journal(directory, 2), gates.clone()).unwrap();
    leads.change_membership(vec![Change::add_learner(id(2), "")]).wait().unwrap();
    (leads, learns, gates)
}

/// The learner is cut off until its leader has compacted what it lacks, and installs that snapshot.
fn install_another(hub: &InProcessNetwork, leads: &Handle<Gated>, learns: &Handle<Gated>) -> LogId {
    hub.isolate(id(2));
    fill(leads);
    let taken = leads.take_snapshot().wait().unwrap();
    until("the log is compacted", || status(leads).log_base.index > status(learns).last_log.index);
    hub.rejoin(id(2));
    until("it is installed", || status(learns).snapshot >= taken);
    status(learns).snapshot
}

#[test]
fn snapshots_that_come_while_the_state_machine_is_busy_are_restored_or_overtaken() {
    let directory = tempfile::tempdir().unwrap();
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let (leads, learns, gates) = leader_and_learner(&hub, directory.path());
    gates.restore.shut();
    let first = install_another(&hub, &leads, &learns);
    until("it is being restored", || gates.restore.holds());
    // The second waits for the state machine when the third puts it out of use.
    let second = install_another(&hub, &leads, &learns);
    let third = install_another(&hub, &leads, &learns);
    assert!(first < second && second < third);
    // The state is none of these, so there is no backup of it.
    let error = learns.backup_local().wait().unwrap_err();
    assert!(matches!(error, BackupError::NotReady), "{error}");
    gates.restore.open();
    let expected = state(&leads).unwrap();
    until("its state", || {
        assert!(learns.stop_reason().is_none(), "{:?}", learns.stop_reason());
        state(&learns).is_some_and(|state| state == expected)
    });
    // What is for nothing goes.
    until("one file", || snapshot_files(directory.path(), 2).len() == 1);
    until("one file", || snapshot_files(directory.path(), 1).len() == 1);
}

#[test]
fn a_capture_that_hangs_delays_no_install_and_who_asked_is_answered_with_what_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let (leads, learns, gates) = leader_and_learner(&hub, directory.path());
    hub.rejoin(id(2));
    until("it has caught up", || status(&learns).last_applied == status(&leads).last_log.index);
    leads.propose(set(1, b"news")).wait().unwrap();
    until("it has caught up", || status(&learns).last_applied == status(&leads).last_log.index);
    gates.capture.shut();
    let asked = learns.take_snapshot();
    until("it hangs", || gates.capture.holds());
    // Two, so that the node has wanted another capture in between.
    install_another(&hub, &leads, &learns);
    let installed = install_another(&hub, &leads, &learns);
    let answer = asked.wait_timeout(Duration::from_secs(30)).unwrap();
    assert!(answer.index > Index::new(100), "{answer}");
    let answer = learns.take_snapshot().wait_timeout(Duration::from_secs(30));
    if let Ok(answer) = answer {
        assert!(answer >= installed, "{answer} is older than {installed}");
    }
    gates.capture.open();
    let taken = learns.take_snapshot().wait().unwrap();
    assert!(taken >= installed, "{taken} is older than {installed}");
    let expected = state(&leads).unwrap();
    until("its state", || state(&learns).is_some_and(|state| state == expected));
}

#[test]
fn a_leader_with_a_damaged_snapshot_takes_another_one() {
    for missing in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (hub, _late) = InProcessNetwork::new(1, || {});
        let (leads, learns, _) = leader_and_learner(&hub, directory.path());
        let taken = leads.take_snapshot().wait().unwrap();
        until("one file", || snapshot_files(directory.path(), 1).len() == 1);
        let file = &snapshot_files(directory.path(), 1)[0];
        if missing {
            fs::remove_file(file).unwrap();
        } else {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        }
        hub.rejoin(id(2));
        let expected = state(&leads).unwrap();
        until("its state", || state(&learns).is_some_and(|state| state == expected));
        assert_eq!(status(&learns).snapshot, taken, "the same entry's, taken again");
        // A restart of the leader finds it whole, too.
        drop(learns);
        leads.shutdown().wait();
        let again =
            start(small(1, &[1]), &hub, journal(directory.path(), 1), Gated::default()).unwrap();
        assert_eq!(again.lead().wait().map(|_| ()).ok(), Some(()));
        assert_eq!(state(&again), Some(expected));
    }
}

/// A journal whose snapshots' store panics as long as it is said so.
struct Sick {
    journal: MemoryJournal,
    panics: Arc<AtomicBool>,
}

struct SickStore {
    store: Arc<dyn SnapshotStore>,
    panics: Arc<AtomicBool>,
}

impl Journal for Sick {
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError> {
        self.journal.recover()
    }

    fn store_id(&self) -> StoreId {
        self.journal.store_id()
    }

    fn snapshots(&mut self) -> Option<Arc<dyn SnapshotStore>> {
        let (store, panics) = (self.journal.snapshots()?, Arc::clone(&self.panics));
        Some(Arc::new(SickStore { store, panics }))
    }

    fn append(&mut self, write: &Write<Bytes>) -> Result<(), StorageError> {
        self.journal.append(write)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.journal.sync()
    }
}

impl SickStore {
    fn check(&self) {
        assert!(!self.panics.load(Ordering::Relaxed), "a sick store");
    }
}

impl SnapshotStore for SickStore {
    fn create(&self, last: LogId, received: bool) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        self.check();
        self.store.create(last, received)
    }

    fn open(&self, last: LogId) -> Result<Box<dyn SnapshotReader>, StorageError> {
        self.check();
        self.store.open(last)
    }

    fn list(&self) -> Result<Vec<LogId>, StorageError> {
        self.check();
        self.store.list()
    }

    fn remove(&self, last: LogId) -> Result<(), StorageError> {
        self.check();
        self.store.remove(last)
    }
}

#[test]
fn a_store_that_panics_ends_no_node_and_is_asked_again() {
    let (hub, _late) = InProcessNetwork::new(1, || {});
    let mut nodes = BTreeMap::new();
    let flags = [1, 2].map(|_| Arc::<AtomicBool>::default());
    for own in 1..=2 {
        let voters: &[u64] = if own == 1 { &[1] } else { &[] };
        let panics = Arc::clone(&flags[own as usize - 1]);
        let journal = Sick { journal: MemoryJournal::new(), panics };
        nodes.insert(own, start(small(own, voters), &hub, journal, Gated::default()).unwrap());
    }
    nodes[&1].lead().wait().unwrap();
    flags.iter().for_each(|panics| panics.store(true, Ordering::Relaxed));
    nodes[&1].propose(set(1, b"one")).wait().unwrap();
    let refused = nodes[&1].take_snapshot().wait_timeout(Duration::from_secs(30));
    let Err(raft_core::host::WaitError::Answered(SnapshotError::Failed { message })) = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(&*message, "a sick store");
    flags[0].store(false, Ordering::Relaxed);
    fill(&nodes[&1]);
    nodes[&1].take_snapshot().wait().unwrap();

    // Now the leader cannot read, and then the learner cannot write.
    flags[0].store(true, Ordering::Relaxed);
    let learner = vec![Change::add_learner(id(2), "")];
    nodes[&1].change_membership(learner).wait().unwrap();
    let commit = status(&nodes[&1]).commit_index;
    nodes[&1].propose(set(2, b"two")).wait().unwrap();
    flags[0].store(false, Ordering::Relaxed);
    nodes[&1].propose(set(3, b"three")).wait().unwrap();
    flags[1].store(false, Ordering::Relaxed);
    until("it catches up", || status(&nodes[&2]).last_applied > commit);
    assert!(nodes.values().all(|node| node.stop_reason().is_none()));
}
