//! Damaged journals: the journal refuses to start, names what is damaged and says what to do.

use std::fs;

use raft_core::host::{Journal, StorageError, frame};

use super::files::*;

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
    assert!(matches!(&error, StorageError::SegmentMissing { path } if *path == file), "{error}");
}

/// A checksum proves that somebody meant it, not that it makes sense.
#[test]
fn what_no_node_writes_is_refused_behind_a_right_checksum() {
    let (directory, frames) = journal_of(&[b"first"]);
    let file = segment(directory.path(), 1);
    let content = fs::read(&file).unwrap();
    let again = &content[frames[0] + frame::HEADER_BYTES..];
    let garbage: [&[u8]; 5] = [again, b"", b"\xA2\xA2", &[0xFF; 600], &[0xA2; 30]];
    let behind = |payload: &[u8]| salted_frame(directory.path(), frames[1], payload);
    let frames_behind = garbage.map(behind);
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
    let other = plain_frame(&[b'x'; 48]);
    assert_damaged(recover_content(directory.path(), &other), &file, 0, "wrong magic");
    for version in [2, 3] {
        let short = plain_frame(&[b"raftjrnl", &[version, 0, 0, 0][..], b"short"].concat());
        assert_damaged(recover_content(directory.path(), &short), &file, 0, "wrong length");
    }
}
