//! A journal that was damaged while nobody looked.
//!
//! What was synced is found, or the journal refuses to open. The one thing that it may drop without an error is what looks like the end
//! of a write that was never finished: nobody was promised any of that. A crash's own traces it must never refuse.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use arbitrary::Arbitrary;
use bytes::Bytes;
use raft_core::host::{ClusterId, FileJournal, Journal, JournalError};
use raft_core::{Entry, HardState, LogId, NodeId, Payload, Restored, Term, Write, WriteId};
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
}

/// A journal as it was written.
struct Written {
    segments: Vec<Segment>,
    /// One for each sync, in order.
    frames: Vec<Frame>,
    /// What there is after so many syncs.
    states: Vec<Restored<Bytes>>,
}

struct Segment {
    path: PathBuf,
    content: Vec<u8>,
    /// Where the first frame begins.
    preamble_bytes: usize,
}

struct Frame {
    segment: usize,
    range: Range<usize>,
}

/// Writes, damages, and recovers.
pub fn run(input: Input) {
    let directory = temporary_directory();
    let Input { segment_bytes_max, batches, damages } = input;
    let written = write(directory.path(), segment_bytes_max.into(), &batches);
    damages.iter().for_each(|damage| damage.apply(&written));
    let damaged: Vec<_> = written.segments.iter().map(|s| fs::read(&s.path).ok()).collect();

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

fn recover(directory: &Path) -> Result<Restored<Bytes>, JournalError> {
    FileJournal::open(directory, CLUSTER, NODE)?.recover()
}

fn write(directory: &Path, segment_bytes_max: u64, batches: &[Vec<AnyWrite>]) -> Written {
    let journal = FileJournal::open(directory, CLUSTER, NODE).expect("a new journal");
    let mut journal = journal.with_segment_bytes_max(segment_bytes_max);
    let mut state = journal.recover().expect("an empty journal");
    let path = |number: usize| directory.join(format!("{number:020}.journal"));
    let length = |segment: usize| fs::metadata(path(segment + 1)).map_or(0, |m| m.len() as usize);

    let preamble_bytes = length(0);
    let (mut segment, mut end) = (0, preamble_bytes);
    let (mut frames, mut states) = (Vec::new(), vec![state.clone()]);
    for batch in batches.iter().take(BATCHES_MAX) {
        for any in batch.iter().take(WRITES_MAX) {
            let write = any.to_write(&state);
            journal.append(&write).expect("a write that follows");
            state.replay(write);
        }
        journal.sync().expect("a disk that works");
        if path(segment + 2).exists() {
            (segment, end) = (segment + 1, preamble_bytes);
        }
        let range = end..length(segment);
        end = range.end;
        if !range.is_empty() {
            frames.push(Frame { segment, range });
            states.push(state.clone());
        }
    }
    let segments = (0..=segment).map(|segment| {
        let path = path(segment + 1);
        let content = fs::read(&path).expect("a segment that was written");
        Segment { path, content, preamble_bytes }
    });
    Written { segments: segments.collect(), frames, states }
}

impl Written {
    fn last(&self) -> &Segment {
        self.segments.last().expect("a journal has at least one segment")
    }

    /// Whether a frame is as it was written.
    fn is_intact(&self, frame: &Frame, damaged: &[Option<Vec<u8>>]) -> bool {
        let Frame { segment, range } = frame;
        let found = damaged[*segment].as_ref().and_then(|content| content.get(range.clone()));
        found == Some(&self.segments[*segment].content[range.clone()])
    }
}

/// What was found is what was written, up to a frame that looks as if it had never been finished; behind that, nothing is whole.
fn check_restored(written: &Written, damaged: &[Option<Vec<u8>>], restored: &Restored<Bytes>) {
    let intact = |frame: &Frame| written.is_intact(frame, damaged);
    // The first segments may be gone, but not the last: what they held must turn out to be needed no more.
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
    let flipped =
        written.segments.iter().zip(damaged).map(|(s, d)| flipped(&s.content, d.as_deref()));
    let flipped = flipped.fold(0, usize::saturating_add);
    assert!(flipped != 1, "a single byte changed, and nobody noticed");
}

/// Whether a write that was cut short could look like this: the file ends before the frame, or a sector of it is all zeros.
fn is_torn(frame: &Frame, damaged: &[Option<Vec<u8>>]) -> bool {
    let Frame { segment, range } = frame;
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
    let any = AnyWrite { term_rise: 1, vote: Some(1), back: 1, entries: Vec::new() };
    let write = any.to_write(&restored);
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
    error: &JournalError,
) {
    match error {
        JournalError::Damaged { .. }
        | JournalError::SegmentMissing { .. }
        | JournalError::Foreign { .. }
        | JournalError::UnknownVersion { .. } => {}
        error => panic!("the wrong error: {error}"),
    }
    let last = written.last();
    let by_crash = match damages {
        [] => true,
        [Damage::Grow { .. } | Damage::Tear { back: 0, .. }] => true,
        [Damage::Cut { .. }] => {
            damaged.last().and_then(Option::as_ref).is_some_and(|d| d.len() >= last.preamble_bytes)
        }
        _ => false,
    };
    assert!(!by_crash, "a crash's trace is refused: {error}");
}

impl Damage {
    fn apply(&self, written: &Written) {
        let segment = |number: u8| &written.segments[usize::from(number) % written.segments.len()];
        let last = written.last();
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
            Self::Flip { segment: number, at, xor } => change(&segment(*number).path, |content| {
                let length = content.len().max(1);
                if let Some(byte) = content.get_mut(usize::from(*at) % length) {
                    *byte ^= xor;
                }
            }),
            Self::Overwrite { segment: number, at, bytes } => {
                change(&segment(*number).path, |content| {
                    let at = usize::from(*at) % content.len().max(1);
                    content.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old = *new);
                });
            }
            Self::Append { bytes } => change(&last.path, |content| content.extend(bytes)),
            Self::Remove { segment: number } => {
                // It may be gone already.
                let _ = fs::remove_file(&segment(*number).path);
            }
            Self::Swap { one, other } => {
                let (one, other) = (&segment(*one).path, &segment(*other).path);
                if let (Ok(first), Ok(second)) = (fs::read(one), fs::read(other)) {
                    change(one, |content| *content = second);
                    change(other, |content| *content = first);
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
    /// The write that a server could ask for whose disk holds `state`.
    fn to_write(&self, state: &Restored<Bytes>) -> Write<Bytes> {
        let HardState { current_term, voted_for } = state.hard_state;
        let term = Term::new(current_term.get() + u64::from(self.term_rise % 3));
        let voted_for = if term > current_term { None } else { voted_for };
        let vote = self.vote.map(|node| NodeId::new(u64::from(node)));
        let next = HardState { current_term: term, voted_for: voted_for.or(vote) };

        let held = state.entries.len();
        let kept = held - usize::from(self.back % 4).min(held);
        let before = kept.checked_sub(1).and_then(|at| state.entries.get(at));
        let mut last = before.map_or(LogId::ZERO, Entry::id);
        let truncate_from = (kept < held).then(|| last.index.next());
        let entries = self.entries.iter().take(ENTRIES_MAX).map(|any| {
            let entry = any.to_entry(last, term);
            last = entry.id();
            entry
        });
        Write {
            id: WriteId::default(),
            hard_state: (next != state.hard_state).then_some(next),
            entries: entries.collect(),
            truncate_from,
            ..Write::default()
        }
    }
}

impl AnyEntry {
    fn to_entry(&self, last: LogId, current_term: Term) -> Entry<Bytes> {
        let rise = u64::from(self.term_rise % 3);
        let payload = match self.bytes {
            None => Payload::Noop,
            Some(bytes) => {
                let bytes = usize::from(bytes % COMMAND_BYTES_MAX);
                Payload::Command(Bytes::from(vec![self.with; bytes]))
            }
        };
        let term = current_term.min(Term::new(last.term.get() + rise));
        Entry { term, index: last.index.next(), payload }
    }
}
