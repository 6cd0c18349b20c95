//! Journals that are compacted behind snapshots, and the way back from a survivor's journal.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::host::{FileJournal, Journal, SnapshotStore, StorageError, frame};
use raft_core::{
    Change, Entry, Index, LogId, Membership, NodeId, Payload, SnapshotMeta, Term, Write,
};

use super::files::*;

fn id(index: u64) -> LogId {
    LogId::new(Term::new(1), Index::new(index))
}

/// One entry and a segment for each; those up to `base` are compacted by the last write, with a
/// snapshot of `base`.
fn compacted(directory: &Path, last: u64, base: u64) {
    let mut journal = open(directory).unwrap().with_segment_bytes_max(1);
    journal.recover().unwrap();
    for index in 1..=last {
        let mut next = write(index, &[b"a"]);
        if index == last {
            let membership = Membership::of_voters([NODE]);
            let snapshot = SnapshotMeta { last: id(base), membership };
            put(&journal.snapshots().unwrap(), &snapshot);
            next.snapshot = Some(Box::new(snapshot));
            next.compact_to = Some(Box::new(id(base)));
        }
        journal.append(&next).unwrap();
        journal.sync().unwrap();
    }
}

/// A snapshot as it lies on the disk, of an empty state.
fn put(store: &Arc<dyn SnapshotStore>, snapshot: &SnapshotMeta) {
    let mut file = store.create(snapshot.last, false).unwrap();
    let named = Write::<Bytes> { snapshot: Some(Box::new(snapshot.clone())), ..Write::default() };
    let mut bytes = Vec::new();
    let head = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"Hraftsnap\x01\0\0\0");
        out.extend_from_slice(&CLUSTER.get().to_le_bytes());
        raft_core::codec::encode_write(&named, out);
    };
    frame::encode(&mut bytes, 1000, head).unwrap();
    frame::encode(&mut bytes, 1000, |out| {
        out.extend_from_slice(&[&b"E"[..], &[0; 20]].concat());
    })
    .unwrap();
    file.write(&bytes).unwrap();
    file.finish().unwrap();
}

fn segments(directory: &Path) -> Vec<u64> {
    (1..20).filter(|number| segment(directory, *number).exists()).collect()
}

#[test]
fn segments_behind_compaction_are_deleted_and_the_rest_stands_alone() {
    let directory = tempfile::tempdir().unwrap();
    compacted(directory.path(), 6, 4);
    assert_eq!(segments(directory.path()), [5, 6]);
    let restored = recover(directory.path()).unwrap();
    assert_eq!((restored.base, restored.entries.len()), (id(4), 2));
    assert_eq!(restored.hard_state.current_term, Term::new(1));
    assert_eq!(restored.snapshot.unwrap().last, id(4));
}

/// A crash may undo some deletions and not others.
#[test]
fn what_a_crash_left_of_a_deletion_is_deleted_again() {
    for left in [&[2][..], &[4], &[2, 3], &[2, 4], &[2, 3, 4]] {
        let directory = tempfile::tempdir().unwrap();
        compacted(directory.path(), 5, 1);
        let mut journal = open(directory.path()).unwrap();
        journal.recover().unwrap();
        let names: Vec<_> = (2..=5).map(|number| segment(directory.path(), number)).collect();
        let kept: Vec<_> = names.iter().map(|name| fs::read(name).unwrap()).collect();
        let membership = Membership::of_voters([NODE]);
        let snapshot = SnapshotMeta { last: id(4), membership };
        put(&journal.snapshots().unwrap(), &snapshot);
        let compact_to = Some(Box::new(id(4)));
        let snapshot = Some(Box::new(snapshot));
        journal.append(&Write { snapshot, compact_to, ..write(6, &[b"a"]) }).unwrap();
        journal.sync().unwrap();
        drop(journal);
        assert_eq!(segments(directory.path()), [5]);
        for number in left {
            let at = *number - 2;
            fs::write(&names[at], &kept[at]).unwrap();
        }
        let restored = recover(directory.path()).unwrap();
        assert_eq!((restored.base, restored.entries.len()), (id(4), 2), "{left:?}");
        assert_eq!(segments(directory.path()), [5], "{left:?}");
    }
}

#[test]
fn a_segment_that_is_gone_too_early_is_missed() {
    for gone in 5..=6 {
        let directory = tempfile::tempdir().unwrap();
        compacted(directory.path(), 7, 4);
        assert_eq!(segments(directory.path()), [5, 6, 7]);
        fs::remove_file(segment(directory.path(), gone)).unwrap();
        let error = recover(directory.path()).unwrap_err();
        let expected = segment(directory.path(), gone);
        let StorageError::SegmentMissing { path } = &error else { panic!("{error}") };
        assert_eq!(*path, expected);
    }
}

#[test]
fn a_snapshot_that_is_gone_or_damaged_is_missed_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    compacted(directory.path(), 6, 4);
    let name = format!("{:020}-{:020}.snapshot", 1, 4);
    let file = directory.path().join(name);
    let content = fs::read(&file).unwrap();
    for at in 0..content.len() {
        let mut damaged = content.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, damaged).unwrap();
        let error = recover(directory.path()).unwrap_err();
        let StorageError::SnapshotDamaged { path, .. } = &error else { panic!("{error}") };
        assert_eq!(*path, file);
        assert!(error.to_string().contains("again as a learner"), "{error}");
    }
    let end = frame_ends(&content)[0];
    let mut head = content[frame::HEADER_BYTES..end].to_vec();
    head[1 + 8] = 2;
    fs::write(&file, [&plain_frame(&head)[..], &content[end..]].concat()).unwrap();
    let error = recover(directory.path()).unwrap_err();
    assert!(matches!(&error, StorageError::FromNewer { path, .. } if *path == file), "{error}");
    assert!(error.to_string().contains("a newer version"), "{error}");
    fs::remove_file(&file).unwrap();
    let error = recover(directory.path()).unwrap_err();
    assert!(matches!(error, StorageError::SnapshotMissing { path } if path == file));
}

#[test]
fn what_was_left_unfinished_goes_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    compacted(directory.path(), 6, 4);
    let of = |kind: &str| directory.path().join(format!("{:020}-{:020}.{kind}", 1, 4));
    for kind in ["snapshot.taking", "snapshot.receiving", "snapshot.mine"] {
        fs::write(of(kind), b"half").unwrap();
    }
    recover(directory.path()).unwrap();
    assert!(!of("snapshot.taking").exists() && !of("snapshot.receiving").exists());
    assert!(of("snapshot").exists() && of("snapshot.mine").exists());
}

mod survivor {
    use super::*;

    #[test]
    fn a_survivor_becomes_the_only_voter_and_keeps_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let three = Membership::of_voters([1, 2, 3].map(NodeId::new));
        let three = three.after(&[Change::Relabel { id: NODE, label: b"here".to_vec() }]).unwrap();
        let mut journal = open(directory.path()).unwrap();
        journal.recover().unwrap();
        journal.append(&write(1, &[b"kept"])).unwrap();
        let payload = Payload::Configuration(Box::new(three.clone()));
        let entry = Entry { term: Term::new(1), index: Index::new(2), payload };
        journal.append(&Write { entries: vec![entry].into(), ..Write::default() }).unwrap();
        journal.sync().unwrap();
        let in_use = FileJournal::restore_from_survivor(directory.path(), CLUSTER, NODE);
        assert!(matches!(in_use, Err(StorageError::InUse { .. })));
        drop(journal);

        let survivor = FileJournal::restore_from_survivor(directory.path(), CLUSTER, NODE).unwrap();
        assert_eq!(survivor.last_log, LogId::new(Term::new(1), Index::new(2)));
        assert_eq!(survivor.members_before, three);
        let restored = recover(directory.path()).unwrap();
        assert_eq!(restored.entries.len(), 3);
        let Payload::Configuration(members) = &restored.entries[2].payload else {
            panic!("a configuration")
        };
        assert_eq!(members.voters().collect::<Vec<_>>(), [NODE]);
        assert_eq!(members.member(NODE).map(|member| &*member.label), Some(&b"here"[..]));
        assert!(restored.entries[2].term > Term::new(1000));
        assert_eq!(restored.hard_state.current_term, restored.entries[2].term);
    }

    #[test]
    fn where_there_is_no_journal_none_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("nowhere");
        for path in [directory.path(), &nowhere] {
            let error = FileJournal::restore_from_survivor(path, CLUSTER, NODE).unwrap_err();
            assert!(matches!(error, StorageError::NothingThere { .. }), "{error}");
        }
        assert!(!nowhere.exists() && fs::read_dir(directory.path()).unwrap().next().is_none());
        let (strange, _) = journal_of(&[b"without members"]);
        let error = FileJournal::restore_from_survivor(strange.path(), CLUSTER, NODE);
        assert!(matches!(error, Err(StorageError::NothingThere { .. })));
        let other = FileJournal::restore_from_survivor(strange.path(), CLUSTER, NodeId::new(2));
        assert!(matches!(other, Err(StorageError::Foreign { .. })));
    }
}
