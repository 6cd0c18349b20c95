//! Journals: what was durable is there after a restart, or the journal refuses to start and says
//! what to do.

use std::fs;
use std::path::Path;
use std::process::Command;

use raft_core::host::{ClusterId, FileJournal, Journal, MemoryJournal, StorageError};
use raft_core::{HardState, Index, NodeId, Restored, Term, Write};

mod damage;
mod files;
mod snapshots;
mod versions;

use files::*;

mod restart {
    use super::*;

    #[test]
    fn a_restart_finds_all_that_was_synced_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut expected = Restored::default();
        let mut stores = Vec::new();
        for life in 0..4 {
            let mut journal = open(directory.path()).unwrap();
            stores.push(journal.store_id());
            assert_eq!(journal.recover().unwrap(), expected);
            let next = expected.entries.len() as u64 + 1;
            let vote = HardState {
                current_term: Term::new(life + 1),
                voted_for: Some(NODE),
                ..Default::default()
            };
            let truncated = Write {
                hard_state: Some(vote),
                truncate_from: Some(Index::new(next - next / 3)),
                ..write(next - next / 3, &[b"replaced", b"", &[0; 5000]])
            };
            let only_vote = Write { entries: [].into_iter().collect(), ..truncated.clone() };
            let vote_later = HardState {
                current_term: Term::new(life + 1),
                voted_for: Some(NODE),
                ..Default::default()
            };
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
        assert!(stores.iter().all(|store_id| *store_id == stores[0]));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(open(other.path()).unwrap().store_id(), stores[0]);
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
        assert!(matches!(journal.append(&write(1, &[])), Err(StorageError::NotRecovered)));
        assert!(matches!(journal.sync(), Err(StorageError::NotRecovered)));
        journal.recover().unwrap();
        journal.append(&write(1, &[])).unwrap();
        assert!(matches!(journal.recover(), Err(StorageError::NotRecovered)));
    }

    #[test]
    fn a_write_that_cannot_follow_never_reaches_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = open(directory.path()).unwrap();
        journal.recover().unwrap();
        for _ in 0..2 {
            let result = journal.append(&write(2, &[b"gap"]));
            assert!(matches!(result, Err(StorageError::Inconsistent { .. })));
        }
        drop(journal);
        assert_eq!(recover(directory.path()).unwrap().entries, []);
    }
}

mod crash {
    use super::*;

    /// Data of every kind, of several sectors, and zeros, which must not look as if they had never
    /// been written.
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

    /// The file grew before its data arrived, and the data arrived in any order: each set of
    /// sectors is tried.
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

mod owner {
    use super::*;

    #[test]
    fn another_nodes_or_clusters_journal_is_refused() {
        let (directory, _) = journal_of(&[b"a"]);
        for (cluster, node) in [(8, 1), (7, 2)] {
            let (cluster, node) = (ClusterId::new(cluster), NodeId::new(node));
            let error = FileJournal::open(directory.path(), cluster, node).unwrap_err();
            assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
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
        assert_damaged(recover(first.path()), &file, 0, "of another store_id");
        fs::copy(segment(first.path(), 1), &file).unwrap();
        assert_damaged(recover(first.path()), &file, 0, "under another's name");
    }

    #[test]
    fn a_journal_in_use_is_refused_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(directory.path()).unwrap();
        let error = open(directory.path()).unwrap_err();
        assert!(
            matches!(&error, StorageError::InUse { process: Some(process), .. } if *process == std::process::id())
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
    assert!(matches!(error, StorageError::DiskFull { .. }), "{error}");
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
            assert!(matches!(journal.append(&write(1, &[b"a"])), Err(StorageError::Injected)));
            assert!(matches!(journal.sync(), Err(StorageError::Injected)));
        }
        assert_eq!(disk.clone().recover().unwrap().entries, []);
    }

    #[test]
    fn only_the_newest_life_may_write() {
        let mut journal = MemoryJournal::new();
        assert!(matches!(journal.append(&write(1, &[b"a"])), Err(StorageError::NotRecovered)));
        journal.recover().unwrap();
        let mut next = journal.clone();
        next.recover().unwrap();
        assert!(matches!(journal.sync(), Err(StorageError::NotRecovered)));
        assert_eq!(next.store_id(), journal.store_id());
        assert_ne!(MemoryJournal::new().store_id(), journal.store_id());
    }

    #[test]
    fn a_write_that_cannot_follow_is_refused() {
        let mut journal = MemoryJournal::new();
        journal.recover().unwrap();
        journal.append(&write(2, &[b"gap"])).unwrap();
        for _ in 0..2 {
            assert!(matches!(journal.sync(), Err(StorageError::Inconsistent { .. })));
        }
    }
}
