//! The journal in a flash whose power fails at every word that is programmed and every page that is erased.

use super::*;
use embedded_storage::nor_flash::{ErrorType, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use raft_core::{Entry, Index, NodeId, Payload, Term};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;
use std::vec;

const PAGE: usize = 256;
const PAGES: usize = 8;

type Command = Vec<u8>;

/// NOR flash in memory: programmed only once between erasures, and only as long as there is power.
#[derive(Clone, Debug)]
struct RamFlash {
    bytes: Vec<u8>,
    /// How many words and pages can be changed before the power fails.
    changes_left: usize,
    rng: Pcg32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PowerLoss;

impl NorFlashError for PowerLoss {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl ErrorType for RamFlash {
    type Error = PowerLoss;
}

impl RamFlash {
    fn new() -> Self {
        let bytes = vec![ERASED; PAGE * PAGES];
        Self { bytes, changes_left: usize::MAX, rng: Pcg32::seed_from_u64(1) }
    }

    /// Changes a word or page, or leaves it in between if the power fails.
    fn change(&mut self, at: usize, new: &[u8]) -> Result<(), PowerLoss> {
        let lost = self.changes_left == 0;
        self.changes_left = self.changes_left.saturating_sub(1);
        for (old, new) in self.bytes[at..].iter_mut().zip(new) {
            let mask = if lost { self.rng.next_u32() as u8 } else { 0xff };
            *old = (*old & !mask) | (new & mask);
        }
        if lost { Err(PowerLoss) } else { Ok(()) }
    }
}

impl ReadNorFlash for RamFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PowerLoss> {
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for RamFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerLoss> {
        assert!((from as usize).is_multiple_of(PAGE) && (to as usize).is_multiple_of(PAGE));
        (from..to).step_by(PAGE).try_for_each(|at| self.change(at as usize, &[ERASED; PAGE]))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerLoss> {
        assert!((offset as usize).is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD));
        for (word, at) in bytes.chunks(WORD).zip((offset as usize..).step_by(WORD)) {
            assert!(self.bytes[at..at + WORD] == [ERASED; WORD], "programmed twice at {at:#x}");
            self.change(at, word)?;
        }
        Ok(())
    }
}

fn open(flash: RamFlash) -> Result<Opened<RamFlash, Command>, JournalError<PowerLoss>> {
    Journal::open(flash, <[u8]>::to_vec)
}

/// Elections, entries, a truncation, and more elections than a half has room for.
fn writes() -> Vec<Write<Command>> {
    let mut writes = Vec::new();
    let vote = |term, node| {
        let current_term = Term::new(term);
        Some(HardState { current_term, voted_for: Some(NodeId::new(node)) })
    };
    let entry = |term, index: u64| {
        let payload = Payload::Command(vec![index as u8; 5 + index as usize % 7]);
        Entry { term: Term::new(term), index: Index::new(index), payload }
    };
    let mut write = |hard_state, truncate_from: Option<u64>, entries: Vec<Entry<Command>>| {
        let truncate_from = truncate_from.map(Index::new);
        let id = WriteId::default();
        let (entries, snapshot, compact_to) = (entries.into(), None, None);
        writes.push(Write { id, hard_state, truncate_from, entries, snapshot, compact_to });
    };
    write(vote(1, 2), None, vec![]);
    write(None, None, vec![entry(1, 1), entry(1, 2), entry(1, 3)]);
    write(None, None, vec![entry(1, 4)]);
    for term in 2..40 {
        write(vote(term, term % 3), None, vec![]);
    }
    write(None, Some(3), vec![entry(39, 3)]);
    for term in 40..90 {
        write(
            vote(term, 1),
            None,
            if term % 10 == 0 { vec![entry(term, term / 10)] } else { vec![] },
        );
    }
    writes
}

/// What all writes up to each of them add up to; nothing at first.
fn states(writes: &[Write<Command>]) -> Vec<Restored<Command>> {
    let mut states = vec![Restored::default()];
    for write in writes {
        let mut next = states[states.len() - 1].clone();
        next.replay(write.clone());
        states.push(next);
    }
    states
}

/// Writes until the power fails. Returns how many writes were answered for.
fn run(flash: RamFlash, writes: &[Write<Command>]) -> (RamFlash, usize) {
    let before = flash.clone();
    let Ok(Opened { mut journal, .. }) = open(flash) else {
        unreachable!("handled by the caller: {}", before.changes_left)
    };
    let failed = writes.iter().position(|write| journal.write(write).is_err());
    (journal.into_flash(), failed.unwrap_or(writes.len()))
}

#[test]
fn what_was_written_is_found_again() {
    let writes = writes();
    let states = states(&writes);
    let mut flash = RamFlash::new();
    let mut rewrites = 0;
    for (write, state) in writes.iter().zip(&states) {
        let Opened { mut journal, restored, torn } = open(flash).unwrap();
        assert_eq!((&restored, torn), (state, false));
        journal.write(write).unwrap();
        rewrites += journal.rewrites();
        flash = journal.into_flash();
    }
    assert_eq!(open(flash).unwrap().restored, states[writes.len()]);
    assert!(rewrites >= 2, "{rewrites}");
}

/// Whatever the power's failure interrupts, every write that was answered for is there, and at most the next one besides; also
/// when the power fails again while that is found out.
#[test]
fn the_power_may_fail_at_every_word() {
    let writes = writes();
    let states = states(&writes);
    let begun = open(RamFlash::new()).unwrap().journal.into_flash();
    let (mut torn_tails, mut cut) = (0, 0);
    loop {
        let (flash, answered) = run(RamFlash { changes_left: cut, ..begun.clone() }, &writes);
        if answered == writes.len() {
            break;
        }
        for again in 0.. {
            let Err(error) = open(RamFlash { changes_left: again, ..flash.clone() }) else { break };
            assert_eq!(error, JournalError::Flash(PowerLoss), "after {cut} and {again}");
            let flash = failed_open(RamFlash { changes_left: again, ..flash.clone() });
            let restored = open(flash).unwrap().restored;
            assert!(states[answered..=answered + 1].contains(&restored), "after {cut}, {again}");
        }
        let opened = open(RamFlash { changes_left: usize::MAX, ..flash }).unwrap();
        assert!(states[answered..=answered + 1].contains(&opened.restored), "after {cut}");
        torn_tails += usize::from(opened.torn);
        // And it takes the rest.
        let rest = if opened.restored == states[answered] { answered } else { answered + 1 };
        let (flash, took) = run(opened.journal.into_flash(), &writes[rest..]);
        assert_eq!(took, writes.len() - rest, "after {cut}");
        assert_eq!(open(flash).unwrap().restored, states[writes.len()], "after {cut}");
        cut += 1;
    }
    assert!(cut > 500 && torn_tails > 100, "{torn_tails} of {cut}");
}

/// The flash after an attempt to open it that fails.
fn failed_open(mut flash: RamFlash) -> RamFlash {
    let result = Journal::open(&mut flash, |_| ());
    assert!(result.is_err());
    drop(result);
    RamFlash { changes_left: usize::MAX, ..flash }
}

#[test]
fn a_journal_may_be_begun_more_than_once() {
    for cut in 0.. {
        let flash = RamFlash { changes_left: cut, ..RamFlash::new() };
        if open(flash.clone()).is_ok() {
            assert!(cut > 0);
            break;
        }
        assert_eq!(open(failed_open(flash)).unwrap().restored, Restored::default());
    }
}

/// Damage to what was answered for is never taken for a write cut short.
#[test]
fn damage_is_an_error_and_not_an_older_state() {
    let writes = writes();
    let (flash, answered) = run(RamFlash::new(), &writes[..30]);
    let whole = open(flash.clone()).unwrap();
    assert_eq!(answered, 30);
    let mut errors = 0;
    for bit in 0..whole.journal.end as usize * 8 {
        let mut damaged = flash.clone();
        damaged.bytes[bit / 8] ^= 1 << (bit % 8);
        match open(damaged) {
            Ok(opened) => assert_eq!(opened.restored, whole.restored, "bit {bit}"),
            Err(error) => {
                assert!(matches!(error, JournalError::Damaged { .. }), "bit {bit}: {error}");
                errors += 1;
            }
        }
    }
    // Only the zeros that end the records do not matter while what they follow is whole.
    assert_eq!(errors, whole.journal.end as usize * 8 - answered * WORD * 8);
}

#[test]
fn a_journal_whose_content_all_counts_is_full_and_says_so() {
    let Opened { mut journal, .. } = open(RamFlash::new()).unwrap();
    let mut held = Restored::default();
    let error = (1..).find_map(|index| {
        let payload = Payload::Command(vec![7; 64]);
        let entry = Entry { term: Term::new(1), index: Index::new(index), payload };
        let (id, hard_state) = (WriteId::default(), None);
        let entries = vec![entry].into();
        let (truncate_from, snapshot, compact_to) = (None, None, None);
        let write = Write { id, hard_state, truncate_from, entries, snapshot, compact_to };
        let result = journal.write(&write);
        held.replay(write);
        result.err()
    });
    assert_eq!(error, Some(JournalError::Full));
    held.entries.pop();
    assert_eq!(open(journal.into_flash()).unwrap().restored, held, "and all of it is still there");
}

#[test]
fn a_flash_with_something_else_in_it_is_refused() {
    let mut flash = RamFlash::new();
    flash.bytes[..1000].fill(b'x');
    assert!(matches!(open(flash), Err(JournalError::Damaged { .. })));
}
