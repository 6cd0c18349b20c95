//! Journals of other versions: an older one is read, a newer one is called newer and never damaged.

use std::fs;

use raft_core::codec;
use raft_core::host::{Journal, StorageError, frame};

use super::files::*;

/// The version of segments that this version writes.
const VERSION: u32 = 3;
/// A segment as version 0.1.0 of this library wrote it, with three writes of one command each. It
/// stays as it is: every later version opens it.
const SEGMENT_OF_VERSION_3: &[u8] = include_bytes!("version_3.journal");
/// Behind the frame's header and the magic.
const VERSION_AT: usize = frame::HEADER_BYTES + 8;
/// Behind version, cluster, node, store id and segment.
const CODEC_AT: usize = VERSION_AT + 4 + 4 * 8;

/// Another first frame of a segment: what `change` makes of its payload.
fn with_preamble(content: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let end = frame_ends(content)[0];
    let mut payload = content[frame::HEADER_BYTES..end].to_vec();
    change(&mut payload);
    [&plain_frame(&payload)[..], &content[end..]].concat()
}

fn put(payload: &mut [u8], at: usize, number: u32) {
    payload[at - frame::HEADER_BYTES..][..4].copy_from_slice(&number.to_le_bytes());
}

/// A write with a field more than this version knows, as the batch of a sync.
fn newer_batch() -> Vec<u8> {
    let mut item = Vec::new();
    codec::encode_write(&write(2, &[b"second"]), &mut item);
    assert_eq!(item[0], 0x86, "an array of six");
    item[0] = 0x87;
    item.push(0x01);
    let length = (item.len() as u32).to_le_bytes();
    // No patches, and two bytes of padding.
    [&length[..], &item, &0u32.to_le_bytes(), &[0xA2, 0xA2]].concat()
}

fn assert_keeps_the_file(error: &StorageError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts.iter().chain(&["nothing is damaged", "keep the file", "run "]) {
        assert!(text.contains(part), "{text} names {part}");
    }
    for advice in ["remove this server", "empty its", "is damaged at"] {
        assert!(!text.contains(advice), "{text}");
    }
}

#[test]
fn a_newer_version_is_called_newer_and_both_versions_are_named() {
    let (directory, _) = journal_of(&[b"a"]);
    let content = fs::read(segment(directory.path(), 1)).unwrap();
    let newer = with_preamble(&content, |payload| put(payload, VERSION_AT, VERSION + 1));
    let error = recover_content(directory.path(), &newer).unwrap_err();
    assert!(matches!(&error, StorageError::UnknownVersion { version: 4, .. }), "{error}");
    assert_keeps_the_file(&error, &["a newer version", "version 4", "reads 2 to 3", "later one"]);

    let codec = u32::from(codec::VERSION) + 1;
    let newer = with_preamble(&content, |payload| put(payload, CODEC_AT, codec));
    let error = recover_content(directory.path(), &newer).unwrap_err();
    assert!(matches!(&error, StorageError::UnknownVersion { version, .. } if *version == codec));
    assert_keeps_the_file(&error, &["a newer version", "journal entry format"]);

    let older = with_preamble(&content, |payload| put(payload, VERSION_AT, 1));
    let error = recover_content(directory.path(), &older).unwrap_err();
    assert_keeps_the_file(&error, &["an older version", "version 1", "reads 2 to 3"]);
    assert!(recover_content(directory.path(), &content).is_ok(), "as it was");
}

#[test]
fn a_field_that_only_a_newer_version_knows_is_called_that() {
    let (directory, frames) = journal_of(&[b"first"]);
    let mut content = fs::read(segment(directory.path(), 1)).unwrap();
    content.extend(salted_frame(directory.path(), frames[1], &newer_batch()));
    let error = recover_content(directory.path(), &content).unwrap_err();
    let StorageError::FromNewer { offset, .. } = &error else { panic!("{error}") };
    assert_eq!(*offset, frames[1] as u64);
    assert_keeps_the_file(&error, &["a newer version", "field 6"]);
}

/// What may be ignored goes to the end of the first frame, behind what this version knows.
#[test]
fn further_fields_of_the_first_frame_are_ignored() {
    let (directory, _) = journal_of(&[b"first"]);
    let content = fs::read(segment(directory.path(), 1)).unwrap();
    let more = with_preamble(&content, |payload| payload.extend_from_slice(b"more"));
    // The frames behind moved by four bytes: they are salted with where they were.
    let empty = &more[..frame_ends(&more)[0]];
    assert_eq!(recover_content(directory.path(), empty).unwrap().entries.len(), 0);
}

#[test]
fn a_journal_that_version_3_wrote_opens() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(segment(directory.path(), 1), SEGMENT_OF_VERSION_3).unwrap();
    let restored = recover(directory.path()).unwrap();
    let commands: [&[u8]; 3] = [b"first", b"", &[b'x'; 600]];
    assert_eq!(restored.entries, write(1, &commands).entries.to_vec());
    assert_eq!(restored.hard_state, write(1, &[]).hard_state.unwrap());

    let mut journal = open(directory.path()).unwrap();
    journal.recover().unwrap();
    journal.append(&write(4, &[b"more"])).unwrap();
    journal.sync().unwrap();
    drop(journal);
    let file = fs::read(segment(directory.path(), 1)).unwrap();
    assert!(file.starts_with(SEGMENT_OF_VERSION_3), "what it wrote stays");
    assert_eq!(recover(directory.path()).unwrap().entries.len(), 4);
}

/// A journal of version 2, as it was written before frames were salted. It is read, written on in
/// segments of this version, and read again.
#[test]
fn an_older_journal_opens_and_is_written_on_in_a_segment_of_this_version() {
    let (directory, _) = journal_of(&[b"first", &[0; 700]]);
    let file = segment(directory.path(), 1);
    let content = fs::read(&file).unwrap();
    let ends = frame_ends(&content);
    let mut older = with_preamble(&content[..ends[0]], |payload| {
        payload.truncate(CODEC_AT - frame::HEADER_BYTES);
        put(payload, VERSION_AT, 2);
    });
    // Offsets differ by the four bytes that the first frame lacks; batches of a few bytes do not
    // mind.
    for pair in ends.windows(2) {
        older.extend(plain_frame(&content[pair[0] + frame::HEADER_BYTES..pair[1]]));
    }
    let restored = recover_content(directory.path(), &older).unwrap();
    assert_eq!(restored.entries.len(), 2);

    for index in 3..=4 {
        let mut journal = open(directory.path()).unwrap();
        journal.recover().unwrap();
        journal.append(&write(index, &[b"more"])).unwrap();
        journal.sync().unwrap();
    }
    assert_eq!(fs::read(&file).unwrap(), older, "the old segment stays as it was");
    assert!(segment(directory.path(), 2).exists() && !segment(directory.path(), 3).exists());
    assert_eq!(recover(directory.path()).unwrap().entries.len(), 4);
}

/// A write that power cut short, of a command that holds whole frames: one that is valid anywhere,
/// one of this very journal, and all of the journal. Any of its sectors may be missing.
#[test]
fn a_torn_write_of_a_command_that_holds_frames_is_cut_off() {
    let (directory, _) = journal_of(&[b"first", b"second"]);
    let file = segment(directory.path(), 1);
    let before = fs::read(&file).unwrap();
    for held in [plain_frame(b"a frame"), before.clone(), plain_frame(&before)] {
        let command = [vec![7; 900], held, vec![9; 900]].concat();
        recover_content(directory.path(), &before).unwrap();
        let mut journal = open(directory.path()).unwrap();
        journal.recover().unwrap();
        journal.append(&write(3, &[&command])).unwrap();
        journal.sync().unwrap();
        drop(journal);
        let content = fs::read(&file).unwrap();
        assert_eq!(recover(directory.path()).unwrap().entries.len(), 3);
        let first = before.len() / SECTOR_BYTES;
        for missing in first..content.len().div_ceil(SECTOR_BYTES) {
            for all in [false, true] {
                let mut torn = content.clone();
                let from = if all { first } else { missing };
                let start = before.len().max(from * SECTOR_BYTES);
                let end = torn.len().min((missing + 1) * SECTOR_BYTES);
                torn[start..end].fill(0);
                let restored = recover_content(directory.path(), &torn).unwrap();
                assert_eq!(restored.entries.len(), 2, "sector {missing}");
            }
        }
    }
}
