//! Journals: what was durable is there after a restart, or the journal refuses to start and says what to do.
#![cfg(feature = "std")]
// Outside of `#[test]` functions clippy does not know that these are tests.
#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use raft_core::host::frame;
use raft_core::host::{ClusterId, FileJournal, Journal, JournalError, MemoryJournal};
use raft_core::{Entry, HardState, Index, NodeId, Payload, Restored, Term, Write, WriteId};
use tempfile::TempDir;

const CLUSTER: ClusterId = ClusterId::new(7);
const NODE: NodeId = NodeId::new(1);
const SECTOR_BYTES: usize = 512;

/// A write with entries of term 1 that hold these commands, from `index`.
fn write(index: u64, commands: &[&[u8]]) -> Write<Bytes> {
    let entry = |(index, command): (u64, &&[u8])| Entry {
        term: Term::new(1),
        index: Index::new(index),
        payload: Payload::Command(Bytes::copy_from_slice(command)),
    };
    Write {
        id: WriteId::new(index),
        hard_state: Some(HardState { current_term: Term::new(1), voted_for: None }),
        truncate_from: None,
        entries: (index..).zip(commands).map(entry).collect(),
        ..Write::default()
    }
}

fn open(directory: &Path) -> Result<FileJournal, JournalError> {
    FileJournal::open(directory, CLUSTER, NODE)
}

fn recover(directory: &Path) -> Result<Restored<Bytes>, JournalError> {
    open(directory)?.recover()
}

fn segment(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.journal"))
}

/// A journal of one segment whose syncs each hold one command; returns where each sync's frame begins, and the file's end.
fn journal_of(commands: &[&[u8]]) -> (TempDir, Vec<usize>) {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path()).unwrap();
    journal.recover().unwrap();
    let length = || fs::metadata(segment(directory.path(), 1)).unwrap().len() as usize;
    let mut frames = vec![length()];
    for (index, command) in (1..).zip(commands) {
        journal.append(&write(index, &[command])).unwrap();
        journal.sync().unwrap();
        frames.push(length());
    }
    (directory, frames)
}

/// Where each frame of a segment ends: its description, its checkpoint, then batches.
fn frame_ends(mut content: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut end = 0;
    while let Some((header, rest)) = content.split_first_chunk() {
        let bytes = frame::Header::decode(header, usize::MAX).unwrap().payload_bytes();
        end += frame::HEADER_BYTES + bytes;
        ends.push(end);
        content = &rest[bytes..];
    }
    ends
}

/// Recovers a journal whose only segment has this content.
fn recover_content(directory: &Path, content: &[u8]) -> Result<Restored<Bytes>, JournalError> {
    // In place: file systems write a file that was emptied and filled again to disk when it is closed, which takes long.
    let mut file = OpenOptions::new().write(true).open(segment(directory, 1)).unwrap();
    file.write_all(content).unwrap();
    file.set_len(content.len() as u64).unwrap();
    drop(file);
    recover(directory)
}

fn assert_damaged(
    result: Result<Restored<Bytes>, JournalError>,
    file: &Path,
    at: usize,
    why: &str,
) {
    match result {
        Err(error @ JournalError::Damaged { .. }) => {
            let message = error.to_string();
            let named = [file.display().to_string(), format!("byte {at}:"), "a new server".into()];
            for part in named {
                assert!(message.contains(&part), "{why}: {message} names {part}");
            }
        }
        Err(error) => panic!("{why}: {error}"),
        Ok(restored) => panic!("{why}: found {} entries", restored.entries.len()),
    }
}

mod restart {
    use super::*;

    #[test]
    fn a_restart_finds_all_that_was_synced_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut expected = Restored::default();
        let mut incarnations = Vec::new();
        for life in 0..4 {
            let mut journal = open(directory.path()).unwrap();
            incarnations.push(journal.incarnation());
            assert_eq!(journal.recover().unwrap(), expected);
            let next = expected.entries.len() as u64 + 1;
            let vote = HardState { current_term: Term::new(life + 1), voted_for: Some(NODE) };
            let truncated = Write {
                hard_state: Some(vote),
                truncate_from: Some(Index::new(next - next / 3)),
                ..write(next - next / 3, &[b"replaced", b"", &[0; 5000]])
            };
            let only_vote = Write { entries: [].into_iter().collect(), ..truncated.clone() };
            let vote_later = HardState { current_term: Term::new(life + 1), voted_for: Some(NODE) };
            let only_vote =
                Write { hard_state: Some(vote_later), truncate_from: None, ..only_vote };
            for written in [truncated, only_vote] {
                journal.append(&written).unwrap();
                expected.replay(written);
            }
            journal.sync().unwrap();
            let lost = write(expected.entries.len() as u64 + 1, &[b"never synced"]);
            journal.append(&Write { hard_state: None, ..lost }).unwrap();
        }
        assert!(incarnations.iter().all(|incarnation| *incarnation == incarnations[0]));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(open(other.path()).unwrap().incarnation(), incarnations[0]);
    }

    #[test]
    fn segments_follow_one_another() {
        let directory = tempfile::tempdir().unwrap();
        let command = [9; 300];
        for life in 0..3 {
            let mut journal = open(directory.path()).unwrap().with_segment_bytes_max(1000);
            assert_eq!(journal.recover().unwrap().entries.len(), life * 10);
            for index in life * 10 + 1..=life * 10 + 10 {
                journal.append(&write(index as u64, &[&command])).unwrap();
                journal.sync().unwrap();
            }
        }
        let last = (1..).take_while(|number| segment(directory.path(), *number).exists()).count();
        assert_eq!(last, 15, "two to a segment");
        for number in 1..=last as u64 {
            assert!(fs::metadata(segment(directory.path(), number)).unwrap().len() <= 1000);
        }
        assert_eq!(recover(directory.path()).unwrap().entries.len(), 30);
    }

    #[test]
    fn a_batch_longer_than_a_segment_gets_one_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path()).unwrap().with_segment_bytes_max(100);
        journal.recover().unwrap();
        for index in 1..=2 {
            journal.append(&write(index, &[&[1; 1000]])).unwrap();
            journal.sync().unwrap();
        }
        drop(journal);
        assert!(segment(directory.path(), 2).exists() && !segment(directory.path(), 3).exists());
        assert_eq!(recover(directory.path()).unwrap().entries.len(), 2);
    }

    #[test]
    fn it_is_recovered_once_and_before_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path()).unwrap();
        assert!(matches!(journal.append(&write(1, &[])), Err(JournalError::NotRecovered)));
        assert!(matches!(journal.sync(), Err(JournalError::NotRecovered)));
        journal.recover().unwrap();
        journal.append(&write(1, &[])).unwrap();
        assert!(matches!(journal.recover(), Err(JournalError::NotRecovered)));
    }

    #[test]
    fn a_write_that_cannot_follow_never_reaches_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path()).unwrap();
        journal.recover().unwrap();
        for _ in 0..2 {
            let result = journal.append(&write(2, &[b"gap"]));
            assert!(matches!(result, Err(JournalError::Inconsistent { .. })));
        }
        drop(journal);
        assert_eq!(recover(directory.path()).unwrap().entries, []);
    }
}

mod crash {
    use super::*;

    /// Data of every kind, of several sectors, and zeros, which must not look as if they had never been written.
    fn commands() -> [Vec<u8>; 3] {
        [b"first".to_vec(), vec![0; 700], [vec![0; 600], vec![3; 900], vec![0; 1100]].concat()]
    }

    #[test]
    fn a_last_frame_that_ends_early_is_cut_off_wherever_it_ends() {
        let (directory, frames) = journal_of(&[b"first", &[0; 850], &[0; 100]]);
        let content = fs::read(segment(directory.path(), 1)).unwrap();
        for end in frames[2]..frames[3] {
            let restored = recover_content(directory.path(), &content[..end]).unwrap();
            assert_eq!(restored.entries.len(), 2, "cut at {end}");
            let length = fs::metadata(segment(directory.path(), 1)).unwrap().len() as usize;
            assert_eq!(length, frames[2], "cut at {end}");
        }
        // What is written behind the cut is found again.
        let mut journal = open(directory.path()).unwrap();
        journal.recover().unwrap();
        journal.append(&write(3, &[b"again"])).unwrap();
        journal.sync().unwrap();
        drop(journal);
        assert_eq!(recover(directory.path()).unwrap().entries.len(), 3);
    }

    /// The file grew before its data arrived, and the data arrived in any order: each set of sectors is tried.
    #[test]
    fn a_last_frame_of_which_any_sectors_were_never_written_is_cut_off() {
        let commands = commands();
        let (directory, frames) = journal_of(&commands.each_ref().map(Vec::as_slice));
        let content = fs::read(segment(directory.path(), 1)).unwrap();
        let frame = frames[2]..frames[3];
        let sectors = frame.start / SECTOR_BYTES..frame.end.div_ceil(SECTOR_BYTES);
        assert!(sectors.len() > 5);
        for unwritten in 0..1u32 << sectors.len() {
            let mut content = content.clone();
            for (bit, sector) in sectors.clone().enumerate() {
                let start = frame.start.max(sector * SECTOR_BYTES);
                let end = frame.end.min((sector + 1) * SECTOR_BYTES);
                if unwritten & 1 << bit != 0 {
                    content[start..end].fill(0);
                }
            }
            let restored = recover_content(directory.path(), &content).unwrap();
            let expected = if unwritten == 0 { 3 } else { 2 };
            assert_eq!(restored.entries.len(), expected, "sectors {unwritten:b}");
        }
    }

    #[test]
    fn zeros_behind_the_last_frame_are_cut_off() {
        let (directory, frames) = journal_of(&[b"a", b"b"]);
        let content = fs::read(segment(directory.path(), 1)).unwrap();
        for zeros in (1..20).chain([511, 512, 513, 4096, 100_000]) {
            let grown = [content.clone(), vec![0; zeros]].concat();
            let restored = recover_content(directory.path(), &grown).unwrap();
            assert_eq!(restored.entries.len(), 2, "{zeros} zeros");
            let length = fs::metadata(segment(directory.path(), 1)).unwrap().len() as usize;
            assert_eq!(length, *frames.last().unwrap());
        }
    }

    #[test]
    fn a_segment_that_was_not_finished_is_made_again() {
        let (directory, _) = journal_of(&[b"kept"]);
        let unfinished = segment(directory.path(), 2).with_extension("new");
        for content in [&b""[..], b"half a preamble", &[0; 4096]] {
            fs::write(&unfinished, content).unwrap();
            assert_eq!(recover(directory.path()).unwrap().entries.len(), 1);
        }
        let mut journal = open(directory.path()).unwrap().with_segment_bytes_max(1);
        journal.recover().unwrap();
        journal.append(&write(2, &[b"in the second"])).unwrap();
        journal.sync().unwrap();
        drop(journal);
        assert!(segment(directory.path(), 2).exists() && !unfinished.exists());
        assert_eq!(recover(directory.path()).unwrap().entries.len(), 2);
    }

    #[test]
    fn a_segment_that_was_finished_and_never_used_is_used() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        let mut journal = open(directory.path()).unwrap().with_segment_bytes_max(1);
        journal.recover().unwrap();
        for index in 1..=2 {
            journal.append(&write(index, &[b"a"])).unwrap();
            journal.sync().unwrap();
        }
        drop(journal);
        let second = fs::read(segment(directory.path(), 2)).unwrap();
        for end in frame_ends(&second)[1]..second.len() {
            fs::write(segment(directory.path(), 2), &second[..end]).unwrap();
            assert_eq!(recover(directory.path()).unwrap().entries.len(), 1, "cut at {end}");
        }
    }
}

mod damage {
    use super::*;

    /// Every byte of a journal is damaged in every way that a bit can flip, and in some more.
    #[test]
    fn no_damaged_byte_loses_a_synced_write() {
        let zeros = [0; 2 * SECTOR_BYTES];
        let (directory, frames) = journal_of(&[b"first", &[0; 40], b"", &[0x80; 40], &zeros]);
        let file = segment(directory.path(), 1);
        let content = fs::read(&file).unwrap();
        for at in 0..content.len() {
            let flips = (0..8).map(|bit| 1 << bit).chain([0xFF, content[at]]);
            for flip in flips.filter(|flip| *flip != 0) {
                let mut content = content.clone();
                content[at] ^= flip;
                let frame = frames.iter().rev().find(|start| **start <= at).unwrap_or(&0);
                let what = format!("byte {at} by {flip:#x}");
                assert_damaged(recover_content(directory.path(), &content), &file, *frame, &what);
            }
        }
    }

    #[test]
    fn a_lost_sector_with_whole_frames_behind_is_no_crash() {
        let (directory, frames) = journal_of(&[&[1; 1000], &[2; 3000], &[3; 1000]]);
        let file = segment(directory.path(), 1);
        let content = fs::read(&file).unwrap();
        for sector in 0..frames[2] / SECTOR_BYTES {
            let mut content = content.clone();
            content[sector * SECTOR_BYTES..][..SECTOR_BYTES].fill(0);
            let end = (sector + 1) * SECTOR_BYTES;
            let first_hit = frames.iter().rev().find(|start| **start <= sector * SECTOR_BYTES);
            let at = if sector == 0 { 0 } else { *first_hit.unwrap() };
            let what = format!("zeros up to {end}");
            assert_damaged(recover_content(directory.path(), &content), &file, at, &what);
        }
    }

    /// The same, where the frame before the lost part is whole.
    #[test]
    fn a_lost_header_with_whole_frames_behind_is_no_crash() {
        let (directory, frames) = journal_of(&[&[1; 1000], &[2; 3000], &[3; 1000]]);
        let file = segment(directory.path(), 1);
        let content = fs::read(&file).unwrap();
        for sectors in 0..4 {
            let mut content = content.clone();
            let end = frames[1].next_multiple_of(SECTOR_BYTES) + sectors * SECTOR_BYTES;
            content[frames[1]..end].fill(0);
            let what = format!("zeros up to {end}");
            assert_damaged(recover_content(directory.path(), &content), &file, frames[1], &what);
            // Without the frame behind, it is the end that a crash left.
            content.truncate(frames[2]);
            assert_eq!(recover_content(directory.path(), &content).unwrap().entries.len(), 1);
        }
    }

    #[test]
    fn a_segment_that_is_not_the_last_must_be_whole() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path()).unwrap().with_segment_bytes_max(1);
        journal.recover().unwrap();
        for index in 1..=3 {
            journal.append(&write(index, &[b"a"])).unwrap();
            journal.sync().unwrap();
        }
        drop(journal);
        let file = segment(directory.path(), 2);
        let content = fs::read(&file).unwrap();
        let ends = frame_ends(&content);
        assert_eq!(ends.len(), 3);
        for end in ends[0] + 1..content.len() {
            fs::write(&file, &content[..end]).unwrap();
            let frame = ends.iter().rev().find(|start| **start <= end).unwrap();
            if *frame < end {
                assert_damaged(recover(directory.path()), &file, *frame, "cut short");
            }
        }
        // Cut between two frames it is whole in itself; what follows does not fit.
        fs::write(&file, &content[..ends[1]]).unwrap();
        let third = segment(directory.path(), 3);
        assert_damaged(recover(directory.path()), &third, ends[0], "emptied");
        fs::remove_file(&file).unwrap();
        let error = recover(directory.path()).unwrap_err();
        assert!(
            matches!(&error, JournalError::SegmentMissing { path } if *path == file),
            "{error}"
        );
    }

    /// A checksum proves that somebody meant it, not that it makes sense.
    #[test]
    fn what_no_node_writes_is_refused_behind_a_right_checksum() {
        let (directory, frames) = journal_of(&[b"first"]);
        let file = segment(directory.path(), 1);
        let content = fs::read(&file).unwrap();
        let again = &content[frames[0]..];
        let garbage: [&[u8]; 4] = [b"", b"\xA2\xA2", &[0xFF; 600], &[0xA2; 30]];
        let mut frames_behind = vec![again.to_vec()];
        for payload in garbage {
            let mut frame = Vec::new();
            frame::encode(&mut frame, 1000, |out| out.extend_from_slice(payload)).unwrap();
            frames_behind.push(frame);
        }
        for (case, frame) in frames_behind.iter().enumerate() {
            let content = [&content[..], frame].concat();
            let what = format!("case {case}");
            assert_damaged(recover_content(directory.path(), &content), &file, frames[1], &what);
        }
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let (directory, _) = journal_of(&[b"a"]);
        let file = segment(directory.path(), 1);
        for content in [&b""[..], b"short", &[b'x'; 100], &[0; 100]] {
            assert_damaged(recover_content(directory.path(), content), &file, 0, "not ours");
        }
        let framed = |payload: &[u8]| {
            let mut frame = Vec::new();
            frame::encode(&mut frame, 100, |out| out.extend_from_slice(payload)).unwrap();
            frame
        };
        let other = framed(&[b'x'; 44]);
        assert_damaged(recover_content(directory.path(), &other), &file, 0, "wrong magic");
        let short = framed(b"raftjrnl\x02\0\0\0short");
        assert_damaged(recover_content(directory.path(), &short), &file, 0, "wrong length");
        let newer = framed(b"raftjrnl\x03\0\0\0unknown");
        let error = recover_content(directory.path(), &newer).unwrap_err();
        assert!(matches!(error, JournalError::UnknownVersion { version: 3, .. }), "{error}");
    }
}

mod owner {
    use super::*;

    #[test]
    fn another_nodes_or_clusters_journal_is_refused() {
        let (directory, _) = journal_of(&[b"a"]);
        for (cluster, node) in [(8, 1), (7, 2)] {
            let (cluster, node) = (ClusterId::new(cluster), NodeId::new(node));
            let error = FileJournal::open(directory.path(), cluster, node).unwrap_err();
            assert!(matches!(error, JournalError::Foreign { .. }), "{error}");
            let message = error.to_string();
            assert!(
                message.contains("node 1 of cluster 0x7") && message.contains("check"),
                "{message}"
            );
        }
        assert!(recover(directory.path()).is_ok());
    }

    #[test]
    fn segments_of_two_journals_are_not_mixed() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&first, &second] {
            let mut journal = open(directory.path()).unwrap().with_segment_bytes_max(1);
            journal.recover().unwrap();
            for index in 1..=2 {
                journal.append(&write(index, &[b"a"])).unwrap();
                journal.sync().unwrap();
            }
        }
        let file = segment(first.path(), 2);
        fs::copy(segment(second.path(), 2), &file).unwrap();
        assert_damaged(recover(first.path()), &file, 0, "of another incarnation");
        fs::copy(segment(first.path(), 1), &file).unwrap();
        assert_damaged(recover(first.path()), &file, 0, "under another's name");
    }

    #[test]
    fn a_journal_in_use_is_refused_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(directory.path()).unwrap();
        let error = open(directory.path()).unwrap_err();
        assert!(
            matches!(&error, JournalError::InUse { process: Some(process), .. } if *process == std::process::id())
        );
        let message = error.to_string();
        assert!(
            message.contains("this process") && message.contains("stop that node"),
            "{message}"
        );
        drop(journal);
        open(directory.path()).unwrap();
    }
}

/// A disk that is really full: a file system of 1 MiB in memory. Needs the right to mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_really_full_stops_the_journal_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(directory.path())
        .output();
    if !mount.is_ok_and(|mount| mount.status.success()) {
        eprintln!(
            "SKIPPED a_disk_that_is_really_full: a tmpfs cannot be mounted here (needs root)"
        );
        return;
    }
    let result = std::panic::catch_unwind(|| fill(&directory.path().join("journal")));
    let unmount = Command::new("umount").arg(directory.path()).status();
    assert!(unmount.is_ok_and(|status| status.success()));
    result.unwrap();
}

/// Writes until the disk is full, then checks that all that was acknowledged is there.
#[cfg(target_os = "linux")]
fn fill(directory: &Path) {
    let mut journal = open(directory).unwrap().with_segment_bytes_max(200 << 10);
    journal.recover().unwrap();
    let mut acknowledged = 0;
    let error = loop {
        let appended = journal.append(&write(acknowledged + 1, &[&[5; 30_000]]));
        match appended.and_then(|()| journal.sync()) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::DiskFull { .. }), "{error}");
    assert!(acknowledged > 20, "{acknowledged} writes fit");
    assert_eq!(journal.sync().unwrap_err().to_string(), error.to_string());
    drop(journal);

    let mut journal = open(directory).unwrap();
    assert_eq!(journal.recover().unwrap().entries.len() as u64, acknowledged);
}

mod memory {
    use super::*;

    #[test]
    fn a_restart_finds_what_was_synced_and_nothing_else() {
        let disk = MemoryJournal::new();
        let mut journal = disk.clone();
        journal.recover().unwrap();
        journal.append(&write(1, &[b"kept"])).unwrap();
        journal.sync().unwrap();
        journal.append(&write(2, &[b"lost"])).unwrap();

        let mut journal = disk.clone();
        let restored = journal.recover().unwrap();
        assert_eq!(restored.entries, write(1, &[b"kept"]).entries.into_vec());
        assert_eq!(disk.syncs(), 1);
        journal.append(&write(2, &[b"other"])).unwrap();
        journal.sync().unwrap();
        let restored = disk.clone().recover().unwrap();
        assert_eq!(restored.entries, write(1, &[b"kept", b"other"]).entries.into_vec());
    }

    #[test]
    fn a_failure_is_final_until_the_restart() {
        let disk = MemoryJournal::new();
        let mut journal = disk.clone();
        journal.recover().unwrap();
        disk.fail();
        for _ in 0..2 {
            assert!(matches!(journal.append(&write(1, &[b"a"])), Err(JournalError::Injected)));
            assert!(matches!(journal.sync(), Err(JournalError::Injected)));
        }
        assert_eq!(disk.clone().recover().unwrap().entries, []);
    }

    #[test]
    fn only_the_newest_life_may_write() {
        let mut journal = MemoryJournal::new();
        assert!(matches!(journal.append(&write(1, &[b"a"])), Err(JournalError::NotRecovered)));
        journal.recover().unwrap();
        let mut next = journal.clone();
        next.recover().unwrap();
        assert!(matches!(journal.sync(), Err(JournalError::NotRecovered)));
        assert_eq!(next.incarnation(), journal.incarnation());
        assert_ne!(MemoryJournal::new().incarnation(), journal.incarnation());
    }

    #[test]
    fn a_write_that_cannot_follow_is_refused() {
        let mut journal = MemoryJournal::new();
        journal.recover().unwrap();
        journal.append(&write(2, &[b"gap"])).unwrap();
        for _ in 0..2 {
            assert!(matches!(journal.sync(), Err(JournalError::Inconsistent { .. })));
        }
    }
}

mod compaction {
    use std::sync::Arc;

    use raft_core::host::SnapshotStore;
    use raft_core::{LogId, Membership, SnapshotMeta};

    use super::*;

    fn id(index: u64) -> LogId {
        LogId::new(Term::new(1), Index::new(index))
    }

    /// One entry and a segment for each; those up to `base` are compacted by the last write, with a snapshot of `base`.
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
                next.compact_to = Some(id(base));
            }
            journal.append(&next).unwrap();
            journal.sync().unwrap();
        }
    }

    /// A snapshot as it lies on the disk, of an empty state.
    fn put(store: &Arc<dyn SnapshotStore>, snapshot: &SnapshotMeta) {
        let mut file = store.create(snapshot.last, false).unwrap();
        let named =
            Write::<Bytes> { snapshot: Some(Box::new(snapshot.clone())), ..Write::default() };
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
            let compact_to = Some(id(4));
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
            let JournalError::SegmentMissing { path } = &error else { panic!("{error}") };
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
            let JournalError::SnapshotDamaged { path, .. } = &error else { panic!("{error}") };
            assert_eq!(*path, file);
            assert!(error.to_string().contains("a new server"), "{error}");
        }
        fs::remove_file(&file).unwrap();
        let error = recover(directory.path()).unwrap_err();
        assert!(matches!(error, JournalError::SnapshotMissing { path } if path == file));
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
}

mod survivor {
    use raft_core::{Change, LogId, Membership};

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
        assert!(matches!(in_use, Err(JournalError::InUse { .. })));
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
            assert!(matches!(error, JournalError::NothingThere { .. }), "{error}");
        }
        assert!(!nowhere.exists() && fs::read_dir(directory.path()).unwrap().next().is_none());
        let (strange, _) = journal_of(&[b"without members"]);
        let error = FileJournal::restore_from_survivor(strange.path(), CLUSTER, NODE);
        assert!(matches!(error, Err(JournalError::NothingThere { .. })));
        let other = FileJournal::restore_from_survivor(strange.path(), CLUSTER, NodeId::new(2));
        assert!(matches!(other, Err(JournalError::Foreign { .. })));
    }
}
