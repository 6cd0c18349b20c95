//! A journal that was damaged while nobody looked.
//!
//! What was synced is found, or the journal refuses to open. The one thing that it may drop without
//! an error is what looks like the end of a write that was never finished: nobody was promised any
//! of that. A crash's own traces it must never refuse. What was compacted may be gone, if the
//! snapshot that stands for it is whole.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use arbitrary::Arbitrary;
use bytes::Bytes;
use raft_core::host::frame::{self, HEADER_BYTES, PAYLOAD_BYTES_LIMIT};
use raft_core::host::{ClusterId, FileJournal, Journal, StorageError};
use raft_core::{
    Entry, HardState, LogId, Membership, NodeId, Payload, Restored, SnapshotMeta, Term, Write,
    WriteId, codec,
};
use tempfile::TempDir;

use crate::memory;

const CLUSTER: ClusterId = ClusterId::new(7);
const NODE: NodeId = NodeId::new(1);
const SECTOR_BYTES: usize = 512;
/// Limits on what is written, so that many journals are written in a second.
const BATCHES_MAX: usize = 8;
const WRITES_MAX: usize = 4;
const ENTRIES_MAX: usize = 4;
const COMMAND_BYTES_MAX: u16 = 1_500;
/// Commands filled with at least this hold frames instead: the end of the journal itself, as a
/// client may store it.
const HOLDS_FRAMES: u8 = 0xE0;
/// Where the first frame of a segment has the version of the segment.
const VERSION_AT: usize = HEADER_BYTES + 8;
/// What recovery may hold in memory besides the log, in bytes: the buffers through which it reads.
const BUFFERS_BYTES_MAX: u64 = 2 << 20;
/// A file system in memory, where there is one.
const MEMORY_DIRECTORY: &str = "/dev/shm";

/// What is written, and what happens to it.
#[derive(Arbitrary, Debug)]
pub struct Input {
    segment_bytes_max: u16,
    batches: Vec<Vec<AnyWrite>>,
    damages: Vec<Damage>,
}

#[derive(Arbitrary, Debug)]
struct AnyWrite {
    term_rise: u8,
    vote: Option<u8>,
    /// How many entries are replaced.
    back: u8,
    entries: Vec<AnyEntry>,
    snapshot: Option<AnySnapshot>,
}

#[derive(Arbitrary, Debug)]
struct AnySnapshot {
    /// Which entry of the log is its last.
    last: u8,
    /// How many of the entries that it stands for are kept.
    tail: u8,
}

#[derive(Arbitrary, Debug)]
struct AnyEntry {
    term_rise: u8,
    bytes: Option<u16>,
    with: u8,
}

#[derive(Arbitrary, Debug)]
enum Damage {
    /// The last segment loses its end.
    Cut {
        bytes: u16,
    },
    /// Sectors of the last frame never arrived, or of one before.
    Tear {
        sectors: u8,
        back: u8,
    },
    /// The last segment has grown, and nothing has arrived there.
    Grow {
        bytes: u16,
    },
    Flip {
        segment: u8,
        at: u16,
        xor: u8,
    },
    Overwrite {
        segment: u8,
        at: u16,
        bytes: Vec<u8>,
    },
    Append {
        bytes: Vec<u8>,
    },
    Remove {
        segment: u8,
    },
    Swap {
        one: u8,
        other: u8,
    },
    FlipSnapshot {
        snapshot: u8,
        at: u16,
        xor: u8,
    },
    RemoveSnapshot {
        snapshot: u8,
    },
    /// A newer version has written a segment.
    Newer {
        segment: u8,
    },
}

/// A journal as it was written.
struct Written {
    /// Those that compaction has deleted have no content.
    segments: Vec<Segment>,
    snapshots: Vec<(LogId, File)>,
    /// One for each sync, in order.
    frames: Vec<Frame>,
    /// What there is after so many syncs.
    states: Vec<Restored<Bytes>>,
}

struct Segment {
    file: File,
    /// Where the first batch begins, behind the preamble and the checkpoint.
    head_bytes: usize,
}

struct File {
    path: PathBuf,
    content: Vec<u8>,
}

struct Frame {
    segment: usize,
    range: Range<usize>,
    /// Once it was durable, segments were deleted: no crash takes it back.
    deletes: bool,
}

/// Writes, damages, and recovers.
pub fn run(input: Input) {
    let directory = temporary_directory();
    let Input { segment_bytes_max, batches, damages } = input;
    let written = write(directory.path(), segment_bytes_max.into(), &batches);
    damages.iter().for_each(|damage| damage.apply(&written));
    let damaged: Vec<_> = written.segments.iter().map(|s| fs::read(&s.file.path).ok()).collect();

    let (recovered, peak) = memory::peak(|| recover(directory.path()));
    let bytes: usize = damaged.iter().flatten().map(Vec::len).sum();
    let peak_max = BUFFERS_BYTES_MAX + 8 * bytes as u64;
    assert!(peak <= peak_max, "{peak} bytes of memory for {bytes} bytes");

    match recovered {
        Ok(restored) => {
            check_restored(&written, &damaged, &restored);
            check_goes_on(directory.path(), restored);
        }
        Err(error) => check_error(&written, &damages, &damaged, &error),
    }
}

fn temporary_directory() -> TempDir {
    let memory = Path::new(MEMORY_DIRECTORY);
    let directory =
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    directory.expect("a temporary directory can be created")
}

fn recover(directory: &Path) -> Result<Restored<Bytes>, StorageError> {
    FileJournal::open(directory, CLUSTER, NODE)?.recover()
}

fn write(directory: &Path, segment_bytes_max: u64, batches: &[Vec<AnyWrite>]) -> Written {
    let journal = FileJournal::open(directory, CLUSTER, NODE).expect("a new journal");
    let mut journal = journal.with_segment_bytes_max(segment_bytes_max);
    let mut state = journal.recover().expect("an empty journal");
    let path = |number: usize| directory.join(format!("{number:020}.journal"));
    let read = |segment: usize| fs::read(path(segment + 1)).unwrap_or_default();

    // It ends with zeros, and has no reserve yet.
    let preamble_bytes = fs::read(path(1)).map_or(0, |preamble| preamble.len());
    let (mut heads, mut end) = (vec![preamble_bytes], preamble_bytes);
    let (mut frames, mut states) = (Vec::new(), vec![state.clone()]);
    let mut snapshots = Vec::new();
    for batch in batches.iter().take(BATCHES_MAX) {
        for any in batch.iter().take(WRITES_MAX) {
            let write = any.to_write(&state, &read(heads.len() - 1));
            if let Some(snapshot) = &write.snapshot {
                snapshots.push(put(&mut journal, directory, snapshot));
            }
            journal.append(&write).expect("a write that follows");
            state.replay(write);
        }
        let kept = || (0..heads.len()).filter(|segment| path(segment + 1).exists()).count();
        let before = kept();
        journal.sync().expect("a disk that works");
        let deletes = kept() < before;
        if path(heads.len() + 1).exists() {
            end = head_bytes(&read(heads.len()), preamble_bytes);
            heads.push(end);
        }
        let segment = heads.len() - 1;
        let range = end..read(segment).len();
        end = range.end;
        if !range.is_empty() {
            frames.push(Frame { segment, range, deletes });
            states.push(state.clone());
        }
    }
    let segments = heads.into_iter().enumerate().map(|(segment, head_bytes)| {
        let file = File { path: path(segment + 1), content: read(segment) };
        Segment { file, head_bytes }
    });
    Written { segments: segments.collect(), snapshots, frames, states }
}

/// A snapshot as it lies on the disk, of an empty state.
fn put(journal: &mut FileJournal, directory: &Path, snapshot: &SnapshotMeta) -> (LogId, File) {
    let store = journal.snapshots().expect("files are kept");
    let mut writer = store.create(snapshot.last, false).expect("room for a file");
    let named = Write::<Bytes> { snapshot: Some(Box::new(snapshot.clone())), ..Write::default() };
    let mut content = Vec::new();
    let head = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"Hraftsnap\x01\0\0\0");
        out.extend_from_slice(&CLUSTER.get().to_le_bytes());
        codec::encode_write(&named, out);
    };
    frame::encode(&mut content, PAYLOAD_BYTES_LIMIT, head).expect("a short frame");
    let end = |out: &mut Vec<u8>| out.extend_from_slice(&[&b"E"[..], &[0; 20]].concat());
    frame::encode(&mut content, PAYLOAD_BYTES_LIMIT, end).expect("a short frame");
    writer.write(&content).expect("room for a file");
    writer.finish().expect("a disk that works");
    let (term, index) = (snapshot.last.term.get(), snapshot.last.index.get());
    let path = directory.join(format!("{term:020}-{index:020}.snapshot"));
    (snapshot.last, File { path, content })
}

/// Where the checkpoint ends with which a segment begins that is not the first.
fn head_bytes(content: &[u8], preamble_bytes: usize) -> usize {
    // Not checked: a frame behind the first is salted with its place.
    let length = content[preamble_bytes..].first_chunk().expect("a checkpoint");
    preamble_bytes + HEADER_BYTES + u32::from_le_bytes(*length) as usize
}

impl Written {
    fn last(&self) -> &Segment {
        self.segments.last().expect("a journal has at least one segment")
    }

    /// One of the files that are still there.
    fn file(&self, number: u8) -> &File {
        let kept = || self.segments.iter().filter(|segment| !segment.file.content.is_empty());
        let place = usize::from(number) % kept().count();
        &kept().nth(place).expect("the last is there").file
    }

    fn snapshot(&self, number: u8) -> Option<&File> {
        let place = usize::from(number).checked_rem(self.snapshots.len())?;
        self.snapshots.get(place).map(|(_, file)| file)
    }

    /// Whether a frame is as it was written.
    fn is_intact(&self, frame: &Frame, damaged: &[Option<Vec<u8>>]) -> bool {
        let Frame { segment, range, .. } = frame;
        let found = damaged[*segment].as_ref().and_then(|content| content.get(range.clone()));
        found.is_some() && found == self.segments[*segment].file.content.get(range.clone())
    }
}

/// What was found is what was written, up to a frame that looks as if it had never been finished;
/// behind that, nothing is whole.
fn check_restored(written: &Written, damaged: &[Option<Vec<u8>>], restored: &Restored<Bytes>) {
    let intact = |frame: &Frame| written.is_intact(frame, damaged);
    // The first segments may be gone, but not the last: what they held must turn out to be needed
    // no more.
    let present = damaged.iter().rposition(Option::is_some).unwrap_or_default();
    let first = damaged[..present].iter().rposition(Option::is_none).map_or(0, |gone| gone + 1);
    let explained = |kept: usize| {
        let (whole, lost) = written.frames.split_at(kept);
        written.states[kept] == *restored
            && whole.iter().all(|frame| frame.segment < first || intact(frame))
            && !lost.iter().any(intact)
            && lost.first().is_none_or(|frame| is_torn(frame, damaged))
    };
    assert!((0..written.states.len()).any(explained), "lost without a word");
    let kept = written.segments.iter().zip(damaged).filter(|(s, _)| !s.file.content.is_empty());
    let flipped = kept.map(|(s, d)| flipped(&s.file.content, d.as_deref()));
    let flipped = flipped.fold(0, usize::saturating_add);
    assert!(flipped != 1, "a single byte changed, and nobody noticed");
    let used = restored.snapshot.as_ref().map(|snapshot| snapshot.last);
    for (_, file) in written.snapshots.iter().filter(|(last, _)| Some(*last) == used) {
        let found = fs::read(&file.path).expect("a snapshot in use is there");
        assert!(found == file.content, "a snapshot in use is damaged");
    }
}

/// Whether a write that was cut short could look like this: the file ends before the frame, or a
/// sector of it is all zeros.
fn is_torn(frame: &Frame, damaged: &[Option<Vec<u8>>]) -> bool {
    let Frame { segment, range, .. } = frame;
    let Some(content) = &damaged[*segment] else { return true };
    match content.get(range.clone()) {
        None => true,
        Some(_) => sectors(range).any(|part| content[part].iter().all(|byte| *byte == 0)),
    }
}

fn sectors(range: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let Range { start, end } = *range;
    (start / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES))
        .map(move |sector| start.max(sector * SECTOR_BYTES)..end.min((sector + 1) * SECTOR_BYTES))
}

/// How many bytes of a file are others, if it is as long as it was.
fn flipped(before: &[u8], after: Option<&[u8]>) -> usize {
    match after {
        Some(after) if after.len() == before.len() => {
            before.iter().zip(after).filter(|(before, after)| before != after).count()
        }
        _ => usize::MAX,
    }
}

/// A journal that was recovered can be written, and what is written then is found.
fn check_goes_on(directory: &Path, mut restored: Restored<Bytes>) {
    let mut journal =
        FileJournal::open(directory, CLUSTER, NODE).expect("it could be opened before");
    assert_eq!(journal.recover().expect("it was recovered before"), restored);
    let any =
        AnyWrite { term_rise: 1, vote: Some(1), back: 1, entries: Vec::new(), snapshot: None };
    let write = any.to_write(&restored, &[]);
    journal.append(&write).expect("a write that follows");
    journal.sync().expect("a disk that works");
    drop(journal);
    restored.replay(write);
    assert_eq!(recover(directory).expect("nothing was damaged since"), restored);
}

fn check_error(
    written: &Written,
    damages: &[Damage],
    damaged: &[Option<Vec<u8>>],
    error: &StorageError,
) {
    match error {
        StorageError::Damaged { .. }
        | StorageError::SegmentMissing { .. }
        | StorageError::SnapshotMissing { .. }
        | StorageError::SnapshotDamaged { .. }
        | StorageError::Foreign { .. }
        | StorageError::UnknownVersion { .. }
        | StorageError::FromNewer { .. } => {}
        error => panic!("the wrong error: {error}"),
    }
    if let [Damage::Newer { .. }] = damages {
        let is_newer = matches!(error, StorageError::UnknownVersion { .. });
        assert!(is_newer, "a newer version is called something else: {error}");
        assert!(error.to_string().contains("nothing is damaged"), "{error}");
    }
    let last = written.last();
    let number = written.segments.len() - 1;
    let frames = written.frames.iter().filter(|frame| frame.segment == number);
    let by_crash = match damages {
        [] | [Damage::Grow { .. }] => true,
        [Damage::Tear { back: 0, .. }] => !frames.last().is_some_and(|frame| frame.deletes),
        [Damage::Cut { .. }] => {
            let length = damaged.last().and_then(Option::as_ref).map_or(0, Vec::len);
            let mut cut = frames.filter(|frame| frame.range.end > length);
            length >= last.head_bytes && !cut.any(|frame| frame.deletes)
        }
        _ => false,
    };
    assert!(!by_crash, "a crash's trace is refused: {error}");
}

impl Damage {
    fn apply(&self, written: &Written) {
        let last = &written.last().file;
        match self {
            Self::Cut { bytes } => change(&last.path, |content| {
                content.truncate(content.len().saturating_sub(usize::from(*bytes)));
            }),
            Self::Tear { sectors: which, back } => change(&last.path, |content| {
                let number = written.segments.len() - 1;
                let mut frames = written.frames.iter().rev().filter(|f| f.segment == number);
                let Some(frame) = frames.nth(usize::from(back % 4)) else { return };
                let lost = |at: &usize| which & (1 << (at % 8)) != 0;
                for (_, part) in sectors(&frame.range).enumerate().filter(|(at, _)| lost(at)) {
                    if let Some(part) = content.get_mut(part) {
                        part.fill(0);
                    }
                }
            }),
            Self::Grow { bytes } => change(&last.path, |content| {
                content.resize(content.len() + usize::from(*bytes), 0);
            }),
            Self::Flip { segment: number, at, xor } => {
                change(&written.file(*number).path, |content| {
                    let length = content.len().max(1);
                    if let Some(byte) = content.get_mut(usize::from(*at) % length) {
                        *byte ^= xor;
                    }
                })
            }
            Self::Overwrite { segment: number, at, bytes } => {
                change(&written.file(*number).path, |content| {
                    let at = usize::from(*at) % content.len().max(1);
                    content.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old = *new);
                });
            }
            Self::Append { bytes } => change(&last.path, |content| content.extend(bytes)),
            Self::Remove { segment: number } => {
                // It may be gone already.
                let _ = fs::remove_file(&written.file(*number).path);
            }
            Self::Swap { one, other } => {
                let (one, other) = (&written.file(*one).path, &written.file(*other).path);
                if let (Ok(first), Ok(second)) = (fs::read(one), fs::read(other)) {
                    change(one, |content| *content = second);
                    change(other, |content| *content = first);
                }
            }
            Self::FlipSnapshot { snapshot, at, xor } => {
                if let Some(file) = written.snapshot(*snapshot) {
                    change(&file.path, |content| {
                        let length = content.len().max(1);
                        if let Some(byte) = content.get_mut(usize::from(*at) % length) {
                            *byte ^= xor;
                        }
                    });
                }
            }
            Self::Newer { segment: number } => change(&written.file(*number).path, |content| {
                let length = content.first_chunk().map_or(0, |l| u32::from_le_bytes(*l)) as usize;
                let end = HEADER_BYTES + length;
                let Some(mut payload) = content.get(HEADER_BYTES..end).map(Vec::from) else {
                    return;
                };
                if let Some(version) = payload.get_mut(VERSION_AT - HEADER_BYTES) {
                    *version = version.saturating_add(1);
                }
                let mut newer = Vec::new();
                frame::encode(&mut newer, PAYLOAD_BYTES_LIMIT, |out| out.append(&mut payload))
                    .expect("a short frame");
                content.splice(..end, newer);
            }),
            Self::RemoveSnapshot { snapshot } => {
                if let Some(file) = written.snapshot(*snapshot) {
                    // It may be gone already.
                    let _ = fs::remove_file(&file.path);
                }
            }
        }
    }
}

/// Changes a file, if it is still there.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    if let Ok(mut content) = fs::read(path) {
        change(&mut content);
        fs::write(path, content).expect("a temporary file can be written");
    }
}

impl AnyWrite {
    /// The write that a server could ask for whose disk holds `state`. Some commands hold the end
    /// of `segment`.
    fn to_write(&self, state: &Restored<Bytes>, segment: &[u8]) -> Write<Bytes> {
        let HardState { current_term, voted_for, .. } = state.hard_state;
        let term = Term::new(current_term.get() + u64::from(self.term_rise % 3));
        let voted_for = if term > current_term { None } else { voted_for };
        let vote = self.vote.map(|node| NodeId::new(u64::from(node)));
        let next =
            HardState { current_term: term, voted_for: voted_for.or(vote), ..state.hard_state };

        let snapshot = self.snapshot.as_ref().and_then(|any| any.to_snapshot(state));
        let begin = state.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let settled = snapshot.as_ref().map_or(begin, |(snapshot, _)| snapshot.last).index;
        let held = state.entries.len();
        let open = state.entries.iter().filter(|entry| entry.index > settled).count();
        let kept = held - usize::from(self.back % 4).min(open);
        let before = kept.checked_sub(1).and_then(|at| state.entries.get(at));
        let mut last = before.map_or(state.base, Entry::id);
        let truncate_from = (kept < held).then(|| last.index.next());
        let entries = self.entries.iter().take(ENTRIES_MAX).map(|any| {
            let entry = any.to_entry(last, term, segment);
            last = entry.id();
            entry
        });
        Write {
            id: WriteId::default(),
            hard_state: (next != state.hard_state).then_some(next),
            entries: entries.collect(),
            truncate_from,
            compact_to: snapshot.as_ref().map(|(_, base)| Box::new(*base)),
            snapshot: snapshot.map(|(snapshot, _)| Box::new(snapshot)),
        }
    }
}

impl AnySnapshot {
    /// One that is newer than the last, and the base of the log behind it.
    fn to_snapshot(&self, state: &Restored<Bytes>) -> Option<(SnapshotMeta, LogId)> {
        let begin = state.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let newer: Vec<_> = state.entries.iter().filter(|e| e.index > begin.index).collect();
        let place = usize::from(self.last).checked_rem(newer.len())?;
        let last = newer[place].id();
        let covered = state.entries.iter().filter(|entry| entry.index <= last.index);
        let base = covered.rev().nth(usize::from(self.tail % 4)).map_or(state.base, Entry::id);
        Some((SnapshotMeta { last, membership: Membership::of_voters([NODE]) }, base))
    }
}

impl AnyEntry {
    fn to_entry(&self, last: LogId, current_term: Term, segment: &[u8]) -> Entry<Bytes> {
        let rise = u64::from(self.term_rise % 3);
        let payload = match self.bytes {
            None => Payload::Noop,
            Some(bytes) => {
                let bytes = usize::from(bytes % COMMAND_BYTES_MAX);
                let mut command = Vec::with_capacity(bytes);
                if self.with >= HOLDS_FRAMES {
                    command.extend_from_slice(&segment[segment.len().saturating_sub(bytes)..]);
                }
                command.resize(bytes, self.with);
                Payload::Command(Bytes::from(command))
            }
        };
        let term = current_term.min(Term::new(last.term.get() + rise));
        Entry { term, index: last.index.next(), payload }
    }
}
