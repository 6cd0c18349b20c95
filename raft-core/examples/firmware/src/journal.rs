//! A journal of the core's writes in NOR flash: records behind each other, in one of two halves.
//!
//! ```text
//! half    generation │ CRC-32 of magic and it │ record │ record │ .. │ erased
//! record  length, u16 │ its complement │ content, padded with ff │ CRC-32 of all before │ 0
//! content a write of the core, or (length's highest bit set) a snapshot: its last entry's term and
//!         index, its bytes
//! ```
//!
//! Flash is programmed word by word, in order, and only once; it is erased in pages, to ones. When
//! a half is full, what still counts is copied into the other: of the log what follows the last
//! compaction, the snapshot in use, the newest one. That one's header is written last, and then the
//! old one is erased. So of all moments in which the power can fail, none loses a write that was
//! answered for:
//!
//! - in a record: it is the last one and cut short. Opening finds that, cuts it off and says so;
//! - in a copy: its header is missing, and the old half is whole;
//! - in the erasure behind a copy: both halves are whole, or the old one's header is gone. The
//!   later generation counts.
//!
//! The zero that ends a record is programmed after it and before it is answered for. So damage that
//! comes later is told from a write cut short, and is an error: a server that forgot what it
//! answered for must not go on.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use embedded_storage::nor_flash::NorFlash;
use raft_core::codec::{self, DecodeError};
use raft_core::{HardState, Index, LogId, Restored, SnapshotMeta, Term, Write};

use crate::limits::{BATCH_BYTES_MAX, LOG_ENTRIES_MAX, SNAPSHOT_BYTES_MAX};
use crate::line::BODY_BYTES_MAX;
use crate::sum::crc32;
use crate::{Command, command};

/// The most bytes of an encoded write: entries that count [`BATCH_BYTES_MAX`], and its head.
pub const WRITE_BYTES_MAX: usize = BATCH_BYTES_MAX + 256;

const WORD: usize = 4;
const ERASED: u8 = 0xff;
/// Part of the checksum of a half's header. Without it an erased half would check out: the CRC-32
/// of four ff is four ff.
const MAGIC: &[u8] = b"raft journal 1";
/// Generation and checksum.
const HALF_HEADER_BYTES: u32 = 8;
/// The most bytes of a record.
const RECORD_BYTES_MAX: usize = WORD + WRITE_BYTES_MAX.next_multiple_of(WORD) + 2 * WORD;
/// In a record's length: it holds a snapshot.
const SNAPSHOT: u16 = 1 << 15;
/// A snapshot's last entry.
const ID_BYTES: usize = 16;

const _: () = assert!(ID_BYTES + SNAPSHOT_BYTES_MAX <= WRITE_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX <= RECORD_BYTES_MAX);

/// A journal that was found whole, and is ready for the next write.
#[derive(Debug)]
pub struct Journal<F> {
    flash: F,
    /// Where the half in use begins.
    active: u32,
    generation: u32,
    /// Where the next record goes.
    end: u32,
    rewrites: u32,
    /// A record on its way from or to the flash.
    record: Vec<u8>,
}

/// What [`Journal::open`] found.
#[derive(Debug)]
pub struct Opened<F> {
    /// The journal.
    pub journal: Journal<F>,
    /// The sum of all its writes.
    pub restored: Restored<Command>,
    /// The last write had been cut short, and never answered for. It was cut off.
    pub torn: bool,
}

/// Why a journal cannot be used, or not any more. Stop the node: nothing that depends on the write
/// has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JournalError<E> {
    /// The flash failed.
    Flash(E),
    /// What is at this offset is not what was written: replace the node under a new id.
    Damaged {
        /// In bytes, from the beginning of the flash.
        offset: u32,
    },
    /// All that the journal holds still counts, and there is no room for more: give it more flash,
    /// or the log less.
    Full,
    /// The flash is too small, or a write is longer than [`WRITE_BYTES_MAX`].
    TooSmall,
}

impl<E> From<E> for JournalError<E> {
    fn from(error: E) -> Self {
        Self::Flash(error)
    }
}

impl<E: fmt::Debug> fmt::Display for JournalError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash(error) => write!(f, "journal: the flash failed: {error:?}"),
            Self::Damaged { offset } => {
                write!(f, "journal: damaged at {offset:#x}: replace the node under a new id")
            }
            Self::Full => f.write_str("journal: full: give it more flash, or the log less"),
            Self::TooSmall => f.write_str("journal: the flash is too small for one write"),
        }
    }
}

/// What counts of the records of a half, besides entries.
#[derive(Default)]
struct Sum {
    hard_state: Option<HardState>,
    /// The snapshot in use.
    snapshot: Option<Box<SnapshotMeta>>,
    compact_to: Option<LogId>,
    /// Where the newest snapshot is: it may be in use soon.
    newest: Option<u32>,
    /// Which records truncate the log from where on; but for those that a later one makes
    /// irrelevant, so that both rise.
    truncations: Vec<(u32, Index)>,
}

/// What is where a record could be.
enum Found {
    /// A record of a write, now in the buffer.
    Write,
    /// A record of a snapshot, now in the buffer.
    Snapshot(LogId),
    /// Nothing, from here to the end of the half.
    End,
    /// The beginning of a record, and nothing behind it.
    Torn,
}

impl<F: NorFlash> Journal<F> {
    /// Reads the journal, or begins one if the flash is erased.
    ///
    /// # Errors
    ///
    /// If the flash fails, holds something else, or has been damaged.
    pub fn open(flash: F) -> Result<Opened<F>, JournalError<F::Error>> {
        const { assert!(WORD.is_multiple_of(F::WRITE_SIZE) && WORD.is_multiple_of(F::READ_SIZE)) };
        let record = Vec::with_capacity(RECORD_BYTES_MAX);
        let mut journal = Self { flash, active: 0, generation: 0, end: 0, rewrites: 0, record };
        journal.choose_half()?;
        let mut restored = Restored::default();
        // The core takes over this memory for its log, which therefore need not grow.
        restored.entries.reserve_exact(LOG_ENTRIES_MAX);
        let torn = loop {
            match journal.find_record(journal.end)? {
                Found::Write => restored.replay(journal.decode()?),
                Found::Snapshot(_) => {}
                Found::End => break false,
                Found::Torn => break true,
            }
            journal.end += journal.record_bytes();
        };
        if torn {
            // What was programmed cannot be programmed again.
            journal.rewrite()?;
        }
        if let Some(last) = restored.snapshot.as_ref().map(|snapshot| snapshot.last) {
            if last > LogId::ZERO && journal.snapshot(last)?.is_none() {
                return Err(JournalError::Damaged { offset: journal.active });
            }
        }
        Ok(Opened { journal, restored, torn })
    }

    /// Makes a write durable.
    ///
    /// # Errors
    ///
    /// The node must stop: whether the write is there, only opening the journal again will tell.
    pub fn write(&mut self, write: &Write<Command>) -> Result<(), JournalError<F::Error>> {
        self.append(|journal| journal.encode(write))
    }

    /// Makes a snapshot durable, which the core may then be told of. The one in use stays until a
    /// write names another.
    ///
    /// # Errors
    ///
    /// As for [`Journal::write`]; `encode` appends at most [`SNAPSHOT_BYTES_MAX`] bytes.
    pub fn write_snapshot(
        &mut self,
        last: LogId,
        encode: impl Fn(&mut Vec<u8>),
    ) -> Result<(), JournalError<F::Error>> {
        self.append(|journal| {
            journal.record(SNAPSHOT, |content| {
                content.extend_from_slice(&last.term.get().to_le_bytes());
                content.extend_from_slice(&last.index.get().to_le_bytes());
                encode(content);
            })
        })
    }

    /// An empty buffer for [`WRITE_BYTES_MAX`] bytes, for whatever is not needed when the journal
    /// is used next. So one suffices.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.record.clear();
        &mut self.record
    }

    /// The bytes of the snapshot up to this entry, if there is one.
    ///
    /// # Errors
    ///
    /// If the flash fails, or has been damaged.
    pub fn snapshot(&mut self, last: LogId) -> Result<Option<&[u8]>, JournalError<F::Error>> {
        let mut at = self.active + HALF_HEADER_BYTES;
        loop {
            match self.find_record(at)? {
                Found::Snapshot(found) if found == last => {
                    return Ok(self.content().get(ID_BYTES..));
                }
                Found::Snapshot(_) | Found::Write => at += self.record_bytes(),
                Found::End | Found::Torn => return Ok(None),
            }
        }
    }

    /// How often the journal was copied into its other half since it was opened.
    pub fn rewrites(&self) -> u32 {
        self.rewrites
    }

    /// The flash itself.
    #[cfg(test)]
    pub(crate) fn flash_mut(&mut self) -> &mut F {
        &mut self.flash
    }

    /// Gives the flash back.
    pub fn into_flash(self) -> F {
        self.flash
    }

    /// Finds the half in use; begins the first if all is erased.
    fn choose_half(&mut self) -> Result<(), JournalError<F::Error>> {
        let pages = self.flash.capacity() / 2 / F::ERASE_SIZE;
        self.half_bytes().filter(|_| pages > 0).ok_or(JournalError::TooSmall)?;
        let second = self.half_end(0);
        let generations = [self.generation_at(0)?, self.generation_at(second)?];
        (self.active, self.generation) = match generations {
            [Some(first), Some(other)] if first < other => (second, other),
            [None, Some(other)] => (second, other),
            [Some(first), _] => (0, first),
            [None, None] => {
                // The header of the first generation may itself have been cut short; there is
                // nothing else yet.
                self.expect_erased(HALF_HEADER_BYTES, second)?;
                self.expect_erased(second, self.half_end(second))?;
                self.erase(0)?;
                self.program_header(0, 1)?;
                (0, 1)
            }
        };
        self.end = self.active + HALF_HEADER_BYTES;
        Ok(())
    }

    /// Programs the record that `encode` puts into the buffer behind all others.
    fn append(
        &mut self,
        encode: impl Fn(&mut Self) -> Result<(), JournalError<F::Error>>,
    ) -> Result<(), JournalError<F::Error>> {
        encode(self)?;
        if self.end + self.record_bytes() > self.half_end(self.active) {
            self.rewrite()?;
            encode(self)?;
        }
        self.end = self.program_record(self.end, self.active)?;
        Ok(())
    }

    /// Copies what still counts into the other half, and goes on there.
    fn rewrite(&mut self) -> Result<(), JournalError<F::Error>> {
        let (old, new) = (self.active, self.other_half());
        let Sum { hard_state, snapshot, compact_to, newest, truncations } = self.sum()?;
        let in_use = snapshot.as_ref().map(|snapshot| snapshot.last);
        self.erase(new)?;
        let (mut from, mut to) = (old + HALF_HEADER_BYTES, new + HALF_HEADER_BYTES);
        if compact_to.is_some() {
            // From an empty log on, this says where the entries begin.
            let compact_to = compact_to.map(Box::new);
            self.encode(&Write { compact_to, ..Write::default() })?;
            to = self.program_record(to, new)?;
        }
        loop {
            let found = self.find_record(from)?;
            let next = from + self.record_bytes();
            let counts = match found {
                Found::Write => {
                    let removed = truncations.iter().find(|(at, _)| *at > from);
                    self.strip(compact_to, removed.map(|(_, index)| *index))?
                }
                Found::Snapshot(last) => in_use == Some(last) || newest == Some(from),
                Found::End | Found::Torn => break,
            };
            if counts {
                to = self.program_record(to, new)?;
            }
            from = next;
        }
        if hard_state.is_some() || snapshot.is_some() {
            // Behind the entries, for a snapshot that the log does not reach replaces the log.
            self.encode(&Write { hard_state, snapshot, ..Write::default() })?;
            to = self.program_record(to, new)?;
        }
        let generation = self.generation.checked_add(1).ok_or(JournalError::Full)?;
        self.program_header(new, generation)?;
        self.erase(old)?;
        (self.active, self.generation, self.end) = (new, generation, to);
        self.rewrites = self.rewrites.saturating_add(1);
        Ok(())
    }

    /// What all records of the half in use say together, but for entries.
    fn sum(&mut self) -> Result<Sum, JournalError<F::Error>> {
        let mut sum = Sum::default();
        let mut at = self.active + HALF_HEADER_BYTES;
        loop {
            match self.find_record(at)? {
                Found::Write => {
                    let write = self.decode()?;
                    sum.hard_state = write.hard_state.or(sum.hard_state);
                    sum.snapshot = write.snapshot.or(sum.snapshot);
                    sum.compact_to = write.compact_to.map(|base| *base).max(sum.compact_to);
                    if let Some(from) = write.truncate_from {
                        sum.truncations.retain(|(_, earlier)| *earlier < from);
                        sum.truncations.push((at, from));
                    }
                }
                Found::Snapshot(_) => sum.newest = Some(at),
                Found::End | Found::Torn => return Ok(sum),
            }
            at += self.record_bytes();
        }
    }

    /// Leaves of the write in the buffer the entries that are still part of the log: behind `base`,
    /// and before what a later write has `removed`. Returns whether there are any.
    fn strip(
        &mut self,
        base: Option<LogId>,
        removed: Option<Index>,
    ) -> Result<bool, JournalError<F::Error>> {
        let mut entries = self.decode()?.entries.into_vec();
        let base = base.map_or(Index::ZERO, |base| base.index);
        let counts = |index| index > base && removed.is_none_or(|removed| index < removed);
        entries.retain(|entry| counts(entry.index));
        let any = !entries.is_empty();
        self.encode(&Write { entries: entries.into(), ..Write::default() })?;
        Ok(any)
    }

    /// Reads what is at `at` into the buffer.
    fn find_record(&mut self, at: u32) -> Result<Found, JournalError<F::Error>> {
        let end = self.half_end(self.active);
        let head_end = at + WORD as u32;
        if head_end > end {
            return Ok(Found::End);
        }
        let head = self.word_at(at)?;
        if head == [ERASED; WORD] {
            self.expect_erased(at, end)?;
            return Ok(Found::End);
        }
        let [low, high, low_complement, high_complement] = head;
        let length = u16::from_le_bytes([low, high]);
        let is_snapshot = length & SNAPSHOT != 0;
        let length = usize::from(length & !SNAPSHOT);
        let known = [low, high] == [!low_complement, !high_complement];
        let bytes = WORD + length.next_multiple_of(WORD) + 2 * WORD;
        let record_end = at + bytes as u32;
        if !known || length > WRITE_BYTES_MAX || record_end > end {
            self.expect_erased(head_end, end)?;
            return Ok(Found::Torn);
        }
        self.record.resize(bytes, ERASED);
        self.flash.read(at, &mut self.record)?;
        if let Some((content, mark)) = self.record.split_last_chunk::<WORD>() {
            if is_intact(content) {
                return Ok(if is_snapshot { Found::Snapshot(self.id()) } else { Found::Write });
            }
            if *mark == [0; WORD] {
                return Err(JournalError::Damaged { offset: at });
            }
        }
        self.expect_erased(record_end, end)?;
        Ok(Found::Torn)
    }

    /// The write in the buffer.
    fn decode(&self) -> Result<Write<Command>, JournalError<F::Error>> {
        let damaged = |_: DecodeError| JournalError::Damaged { offset: self.end };
        codec::decode_write(self.content(), command).map_err(damaged)
    }

    /// The content of the record in the buffer, without what pads it.
    fn content(&self) -> &[u8] {
        let length = self.record.first_chunk().map_or(0, |length| u16::from_le_bytes(*length));
        let end = WORD + usize::from(length & !SNAPSHOT);
        self.record.get(WORD..end).unwrap_or_default()
    }

    /// The last entry of the snapshot in the buffer.
    fn id(&self) -> LogId {
        let number = |at| {
            let bytes = self.content().get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        LogId::new(Term::new(number(0)), Index::new(number(ID_BYTES / 2)))
    }

    /// Makes a record of the write, in the buffer.
    fn encode(&mut self, write: &Write<Command>) -> Result<(), JournalError<F::Error>> {
        self.record(0, |content| codec::encode_write(write, content))
    }

    /// Makes a record of this kind and content, in the buffer.
    fn record(
        &mut self,
        kind: u16,
        content: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), JournalError<F::Error>> {
        self.record.clear();
        self.record.resize(WORD, ERASED);
        content(&mut self.record);
        let length = self.record.len() - WORD;
        let length = u16::try_from(length).ok().filter(|_| length <= WRITE_BYTES_MAX);
        let [low, high] = (length.ok_or(JournalError::TooSmall)? | kind).to_le_bytes();
        if let Some(head) = self.record.first_chunk_mut() {
            *head = [low, high, !low, !high];
        }
        self.record.resize(self.record.len().next_multiple_of(WORD), ERASED);
        let crc = crc32(&[&self.record]);
        self.record.extend_from_slice(&crc.to_le_bytes());
        self.record.extend_from_slice(&[0; WORD]);
        Ok(())
    }

    fn record_bytes(&self) -> u32 {
        self.record.len() as u32
    }

    /// Programs the record in the buffer, in this half. Returns where the next one goes.
    fn program_record(&mut self, at: u32, half: u32) -> Result<u32, JournalError<F::Error>> {
        let end = at + self.record_bytes();
        if end > self.half_end(half) {
            return Err(JournalError::Full);
        }
        self.flash.write(at, &self.record)?;
        Ok(end)
    }

    fn program_header(&mut self, half: u32, generation: u32) -> Result<(), JournalError<F::Error>> {
        let generation = generation.to_le_bytes();
        let mut header = [0; HALF_HEADER_BYTES as usize];
        let (first, second) = header.split_at_mut(WORD);
        first.copy_from_slice(&generation);
        second.copy_from_slice(&crc32(&[MAGIC, &generation]).to_le_bytes());
        Ok(self.flash.write(half, &header)?)
    }

    fn generation_at(&mut self, half: u32) -> Result<Option<u32>, JournalError<F::Error>> {
        let (generation, crc) = (self.word_at(half)?, self.word_at(half + WORD as u32)?);
        let known = crc32(&[MAGIC, &generation]) == u32::from_le_bytes(crc);
        Ok(known.then_some(u32::from_le_bytes(generation)))
    }

    fn word_at(&mut self, at: u32) -> Result<[u8; WORD], JournalError<F::Error>> {
        let mut word = [0; WORD];
        self.flash.read(at, &mut word)?;
        Ok(word)
    }

    fn expect_erased(&mut self, from: u32, to: u32) -> Result<(), JournalError<F::Error>> {
        let mut bytes = [0; 64];
        for offset in (from..to).step_by(bytes.len()) {
            let count = bytes.len().min((to - offset) as usize);
            self.flash.read(offset, &mut bytes[..count])?;
            if bytes[..count].iter().any(|byte| *byte != ERASED) {
                return Err(JournalError::Damaged { offset });
            }
        }
        Ok(())
    }

    fn erase(&mut self, half: u32) -> Result<(), JournalError<F::Error>> {
        Ok(self.flash.erase(half, self.half_end(half))?)
    }

    fn other_half(&self) -> u32 {
        if self.active == 0 { self.half_end(0) } else { 0 }
    }

    /// Where the half that begins there ends. Halves are of whole pages.
    fn half_end(&self, half: u32) -> u32 {
        half + self.half_bytes().unwrap_or_default()
    }

    fn half_bytes(&self) -> Option<u32> {
        let pages = self.flash.capacity() / 2 / F::ERASE_SIZE;
        u32::try_from(pages * F::ERASE_SIZE).ok()
    }
}

/// Whether the checksum behind these bytes is theirs.
fn is_intact(content: &[u8]) -> bool {
    let split = content.split_last_chunk::<WORD>();
    split.is_some_and(|(content, crc)| crc32(&[content]) == u32::from_le_bytes(*crc))
}

#[cfg(test)]
mod tests;
