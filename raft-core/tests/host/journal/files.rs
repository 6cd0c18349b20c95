//! A journal's files, for the tests of journals.
#![allow(unreachable_pub)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use raft_core::host::frame;
use raft_core::host::{ClusterId, FileJournal, Journal, StorageError};
use raft_core::{Entry, HardState, Index, NodeId, Payload, Restored, Term, Write, WriteId};
use tempfile::TempDir;

pub const CLUSTER: ClusterId = ClusterId::new(7);
pub const NODE: NodeId = NodeId::new(1);
pub const SECTOR_BYTES: usize = 512;

/// A write with entries of term 1 that hold these commands, from `index`.
pub fn write(index: u64, commands: &[&[u8]]) -> Write<Bytes> {
    let entry = |(index, command): (u64, &&[u8])| Entry {
        term: Term::new(1),
        index: Index::new(index),
        payload: Payload::Command(Bytes::copy_from_slice(command)),
    };
    Write {
        id: WriteId::new(index),
        hard_state: Some(HardState {
            current_term: Term::new(1),
            voted_for: None,
            ..Default::default()
        }),
        truncate_from: None,
        entries: (index..).zip(commands).map(entry).collect(),
        ..Write::default()
    }
}

pub fn open(directory: &Path) -> Result<FileJournal, StorageError> {
    FileJournal::open(directory, CLUSTER, NODE)
}

pub fn recover(directory: &Path) -> Result<Restored<Bytes>, StorageError> {
    open(directory)?.recover()
}

pub fn segment(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.journal"))
}

/// A journal of one segment whose syncs each hold one command; returns where each sync's frame
/// begins, and the file's end.
pub fn journal_of(commands: &[&[u8]]) -> (TempDir, Vec<usize>) {
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
pub fn frame_ends(mut content: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut end = 0;
    while let Some((header, rest)) = content.split_first_chunk::<{ frame::HEADER_BYTES }>() {
        // Not checked: all but the first are salted.
        let bytes = u32::from_le_bytes(*header.first_chunk().unwrap()) as usize;
        end += frame::HEADER_BYTES + bytes;
        ends.push(end);
        content = &rest[bytes..];
    }
    ends
}

/// Recovers a journal whose only segment has this content.
pub fn recover_content(directory: &Path, content: &[u8]) -> Result<Restored<Bytes>, StorageError> {
    // In place: file systems write a file that was emptied and filled again to disk when it is
    // closed, which takes long.
    let mut file = OpenOptions::new().write(true).open(segment(directory, 1)).unwrap();
    file.write_all(content).unwrap();
    file.set_len(content.len() as u64).unwrap();
    drop(file);
    recover(directory)
}

pub fn assert_damaged(
    result: Result<Restored<Bytes>, StorageError>,
    file: &Path,
    at: usize,
    why: &str,
) {
    match result {
        Err(error @ StorageError::Damaged { .. }) => {
            let message = error.to_string();
            let named =
                [file.display().to_string(), format!("byte {at}:"), "again as a learner".into()];
            for part in named {
                assert!(message.contains(&part), "{why}: {message} names {part}");
            }
        }
        Err(error) => panic!("{why}: {error}"),
        Ok(restored) => panic!("{why}: found {} entries", restored.entries.len()),
    }
}

/// A frame as the first segment of this directory's journal has it at `offset`.
pub fn salted_frame(directory: &Path, offset: usize, payload: &[u8]) -> Vec<u8> {
    let store_id = open(directory).unwrap().store_id().get();
    let salt = frame::Salt::of_place(&[store_id, 1, offset as u64]);
    let mut out = Vec::new();
    let start = frame::begin(&mut out);
    out.extend_from_slice(payload);
    frame::finish_salted(&mut out, start, usize::MAX, salt).unwrap();
    out
}

/// A frame that is valid anywhere.
pub fn plain_frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(&mut out, usize::MAX, |out| out.extend_from_slice(payload)).unwrap();
    out
}
