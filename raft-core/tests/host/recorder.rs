//! The flight recorder: what a node recorded can be replayed, state for state.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use raft_core::host::recorder::{
    Event, ReadingError, RecorderConfig, Recording, Replay, ReplayError, read_dir,
};
use raft_core::host::{FileJournal, Handle, InProcessNetwork, NodeConfig};
use raft_core::{Config, NodeId, Output};

use crate::node::{CLUSTER, Map, config, id, leader, set, start_as, until};

fn raft(own: u64) -> Config {
    Config {
        snapshot_log_bytes: 16 << 10,
        log_tail_bytes: 1 << 10,
        snapshot_chunk_bytes: 3000,
        election_timeout_min: Duration::from_millis(500),
        election_timeout_max: Duration::from_millis(1000),
        ..Config::new(id(own), (1..=3).map(NodeId::new))
    }
}

/// Three nodes that record, with their journals beside their recordings.
fn cluster(dir: &Path, record: &RecorderConfig) -> BTreeMap<u64, Handle<Map>> {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let node = |own| {
        let journal = FileJournal::open(dir.join(format!("journal-{own}")), CLUSTER, id(own));
        let config = NodeConfig { record: Some(record.clone()), ..config(raft(own)) };
        (own, start_as(config, &network, journal.unwrap(), Map::default()).unwrap())
    };
    (1..=3).map(node).collect()
}

fn stop(nodes: BTreeMap<u64, Handle<Map>>) {
    for node in nodes.into_values() {
        node.shutdown().wait();
    }
}

/// Has this many commands committed, and a read and a snapshot.
fn work(nodes: &BTreeMap<u64, Handle<Map>>, commands: u64) {
    let leader = &nodes[&leader(nodes)];
    let answers: Vec<_> =
        (0..commands).map(|key| leader.propose(set(key, &[key as u8; 100]))).collect();
    answers.into_iter().for_each(|answer| assert!(answer.wait().unwrap() > 0));
    leader.read(|_| ()).wait().unwrap();
    leader.take_snapshot().wait().unwrap();
}

/// Replays a recording that is finished. Returns how many commands were applied and states
/// compared.
fn replay(recording: &Recording) -> Result<(u64, u64), ReplayError> {
    let (applied, compared, notes) = replay_so_far(recording)?;
    assert_eq!(notes, [] as [String; 0]);
    let mut whole = Replay::new(recording.clone());
    while whole.advance()?.is_some() {}
    assert!(whole.is_complete(), "the node has ended, and its recording lacks the end");
    Ok((applied, compared))
}

/// The same, also while a node is writing: then a tail that is not whole yet is noted.
fn replay_so_far(recording: &Recording) -> Result<(u64, u64, Vec<String>), ReplayError> {
    let (mut replay, mut applied) = (Replay::new(recording.clone()), 0);
    while let Some(event) = replay.advance()? {
        let Event::Told { outputs, .. } = event else { continue };
        for output in outputs {
            if let Output::Apply { from, through } = output {
                applied += through.get() - from.get() + 1;
            }
        }
    }
    Ok((applied, replay.compared(), replay.notes().to_vec()))
}

#[test]
fn every_life_of_every_node_replays_to_the_same_states() {
    let dir = tempfile::tempdir().unwrap();
    for write_ahead in [true, false] {
        let records = dir.path().join("records");
        let record = RecorderConfig { write_ahead, ..RecorderConfig::new(&records) };
        let nodes = cluster(dir.path(), &record);
        work(&nodes, 1000);
        stop(nodes);
    }
    let (recordings, errors) = read_dir(&dir.path().join("records")).unwrap();
    assert_eq!((recordings.len(), errors.len()), (6, 0));
    for recording in &recordings {
        let (applied, compared) = replay(recording).unwrap();
        assert!(applied > 0 && compared > 0, "{applied} applied, {compared} compared");
    }
}

#[test]
fn a_ring_of_segments_replays_from_the_oldest_that_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let records = dir.path().join("records");
    let record = RecorderConfig { bytes_max: 64 << 10, ..RecorderConfig::new(&records) };
    let nodes = cluster(dir.path(), &record);
    for _ in 0..20 {
        work(&nodes, 1000);
    }
    stop(nodes);
    let files = fs::read_dir(&records).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    assert!(files.sum::<u64>() < 3 * 2 * (64 << 10));
    let (recordings, _) = read_dir(&records).unwrap();
    for recording in &recordings {
        assert!(recording.segments[0].first_input > 0, "the first segment is gone");
        replay(recording).unwrap();
    }
}

#[test]
fn contents_are_recorded_by_choice_alone() {
    let dir = tempfile::tempdir().unwrap();
    let secret: &[u8] = b"nobody may know this";
    for contents in [false, true] {
        let records = dir.path().join(contents.to_string());
        let record = RecorderConfig { contents, ..RecorderConfig::new(&records) };
        let nodes = cluster(dir.path(), &record);
        nodes[&leader(&nodes)].propose(set(1, secret)).wait().unwrap();
        stop(nodes);
        for file in fs::read_dir(&records).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert_eq!(found, contents);
        }
        let (recordings, _) = read_dir(&records).unwrap();
        recordings.iter().for_each(|recording| assert!(replay(recording).unwrap().0 > 0));
    }
}

#[test]
fn a_flush_is_written_soon() {
    let dir = tempfile::tempdir().unwrap();
    let records = dir.path().join("records");
    let nodes = cluster(dir.path(), &RecorderConfig::new(&records));
    work(&nodes, 10);
    let proposed = || {
        let (recordings, _) = read_dir(&records).unwrap();
        recordings.iter().any(|recording| replay_so_far(recording).unwrap().0 > 10)
    };
    until("what was recorded is written", || {
        nodes.values().for_each(Handle::flush_recording);
        proposed()
    });
    stop(nodes);
}

#[test]
fn what_a_client_has_seen_was_recorded_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let records = dir.path().join("records");
    let record = RecorderConfig { write_ahead: true, ..RecorderConfig::new(&records) };
    let nodes = cluster(dir.path(), &record);
    let leads = leader(&nodes);
    for commands in 1..=20 {
        nodes[&leads].propose(set(1, b"seen")).wait().unwrap();
        let (recordings, _) = read_dir(&records).unwrap();
        let own = recordings.iter().find(|recording| recording.node == id(leads)).unwrap();
        // The leader's log begins with an entry of its own.
        assert!(replay_so_far(own).unwrap().0 > commands);
    }
    stop(nodes);
}

/// One node's recording, alone in a directory.
fn recorded(dir: &Path) -> (std::path::PathBuf, Vec<u8>) {
    let records = dir.join("records");
    let nodes = cluster(dir, &RecorderConfig::new(&records));
    work(&nodes, 3000);
    stop(nodes);
    let (recordings, _) = read_dir(&records).unwrap();
    let path = recordings[0].segments[0].path.clone();
    for recording in &recordings[1..] {
        fs::remove_file(&recording.segments[0].path).unwrap();
    }
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn what_is_wrong_with_a_recording_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = recorded(dir.path());
    let records = dir.path().join("records");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        read_dir(&records).unwrap()
    };
    let changed = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        bytes
    };
    let error = |bytes: &[u8]| read(bytes).1.pop().unwrap();
    assert!(matches!(error(&changed(0)), ReadingError::Foreign(_)));
    assert!(matches!(error(&changed(9)), ReadingError::Version { version: 257, .. }));
    assert!(matches!(error(&changed(20)), ReadingError::Damaged { offset: 10, .. }));
    assert!(matches!(error(&bytes[..9]), ReadingError::Damaged { .. }));

    // What precedes a torn or damaged tail is replayed.
    for tail in [bytes[..bytes.len() - 5].to_vec(), changed(bytes.len() - 5)] {
        let (mut recordings, _) = read(&tail);
        let mut replay = Replay::new(recordings.remove(0));
        while replay.advance().unwrap().is_some() {}
        assert!(replay.input() > 1000);
        assert!(replay.notes()[0].contains("are damaged"), "{:?}", replay.notes());
    }
}

/// The inputs of a recording, with its first tick a microsecond longer and all checksums right.
fn with_another_tick(bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    // Behind the frames of the header and of the start lies the first frame of inputs.
    let mut at = 10;
    for _ in 0..2 {
        at += 8 + frame_length(bytes, at);
    }
    let end = at + 8 + frame_length(bytes, at);
    // Its kind and the number of its first input; then that the node does not abstain (11, 0), once
    // or more often, and a tick (2, microseconds).
    let mut tick = at + 17;
    while bytes[tick..].starts_with(&[11, 0]) {
        tick += 2;
    }
    assert_eq!(bytes[tick], 2, "a node first hears the time");
    changed[tick + 1] ^= 1;
    let checksum = crc32fast::hash(&changed[at + 8..end]);
    changed[at + 4..at + 8].copy_from_slice(&checksum.to_le_bytes());
    changed
}

fn frame_length(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize
}

#[test]
fn a_run_that_differs_is_found_at_the_next_digest() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = recorded(dir.path());
    fs::write(&path, with_another_tick(&bytes)).unwrap();
    let (recordings, _) = read_dir(path.parent().unwrap()).unwrap();
    let error = replay(&recordings[0]).unwrap_err();
    assert!(matches!(&error, ReplayError::Difference(found) if found.input < 300), "{error}");
}
