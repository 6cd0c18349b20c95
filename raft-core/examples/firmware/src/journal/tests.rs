//! The journal in a flash whose power fails at every word that is programmed and every page that is
//! erased.

use super::*;
use crate::ram_flash::{PowerLoss, RamFlash};
use raft_core::{Entry, Membership, NodeId, Payload};
use std::vec;

/// Small, so that it is rewritten often.
const FLASH_BYTES: usize = 2048;

fn open(flash: RamFlash) -> Result<Opened<RamFlash>, JournalError<PowerLoss>> {
    Journal::open(flash)
}

/// What a journal is asked to make durable.
#[derive(Clone, Debug)]
enum Step {
    Write(Write<Command>),
    Snapshot(LogId),
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term::new(term), Index::new(index))
}

fn bytes_of(snapshot: LogId) -> Vec<u8> {
    vec![snapshot.index.get() as u8; 40]
}

fn vote(term: u64, node: u64) -> Write<Command> {
    let voted_for = Some(NodeId::new(node));
    let hard_state =
        Some(HardState { current_term: Term::new(term), voted_for, ..Default::default() });
    Write { hard_state, ..Write::default() }
}

fn entry(term: u64, index: u64) -> Entry<Command> {
    let payload = Payload::Command(vec![index as u8; 5 + index as usize % 7].into());
    Entry { term: Term::new(term), index: Index::new(index), payload }
}

fn append(entries: Vec<Entry<Command>>) -> Write<Command> {
    Write { entries: entries.into(), ..Write::default() }
}

/// From here on this snapshot is in use, and the log begins behind `base`.
fn compact(snapshot: LogId, base: LogId) -> Write<Command> {
    let membership = Membership::of_voters([1, 2, 3].map(NodeId::new));
    let snapshot = Some(Box::new(SnapshotMeta { last: snapshot, membership }));
    Write { snapshot, compact_to: Some(Box::new(base)), ..Write::default() }
}

/// Elections, entries, a truncation, and more elections than a half has room for. Then snapshots:
/// of the server's own, with a tail of the log behind them or none, one in place of a log that does
/// not reach it, and one that is never used.
fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut write = |write| steps.push(Step::Write(write));
    write(vote(1, 2));
    write(append(vec![entry(1, 1), entry(1, 2), entry(1, 3)]));
    write(append(vec![entry(1, 4)]));
    for term in 2..30 {
        write(vote(term, term % 3));
    }
    write(Write { truncate_from: Some(Index::new(3)), ..append(vec![entry(29, 3)]) });
    for term in 30..60 {
        let entries = if term % 10 == 0 { vec![entry(term, term / 10 + 1)] } else { vec![] };
        write(Write { entries: entries.into(), ..vote(term, 1) });
    }
    for last in 7..40 {
        steps.push(Step::Write(append(vec![entry(60, last), entry(60, last + 1)])));
        steps.push(Step::Write(Write {
            truncate_from: Some(Index::new(last + 1)),
            ..Write::default()
        }));
        if last % 3 == 0 {
            let snapshot = id(60, last);
            steps.push(Step::Snapshot(snapshot));
            let base = if last % 2 == 0 { snapshot } else { id(60, last - 2) };
            let entries = vec![entry(60, last + 1), entry(60, last + 2)].into();
            steps.push(Step::Write(Write { entries, ..compact(snapshot, base) }));
            let truncate_from = Some(Index::new(last + 1));
            steps.push(Step::Write(Write { truncate_from, ..Write::default() }));
        }
    }
    for term in 61..100 {
        steps.push(Step::Write(vote(term, 3)));
        let first = 50 * (term - 60);
        if term % 5 == 0 {
            // The log does not reach so far, and what it holds goes.
            let snapshot = id(term, first);
            steps.push(Step::Snapshot(snapshot));
            let truncate_from = Some(Index::new(first + 1));
            steps.push(Step::Write(Write { truncate_from, ..compact(snapshot, snapshot) }));
            steps.push(Step::Write(append(vec![entry(term, first + 1), entry(term, first + 2)])));
            steps.push(Step::Snapshot(id(term, first + 9)));
        }
    }
    steps
}

/// What all steps up to each of them add up to; nothing at first.
fn states(steps: &[Step]) -> Vec<Restored<Command>> {
    let mut states = vec![Restored::default()];
    for step in steps {
        let mut next = states[states.len() - 1].clone();
        if let Step::Write(write) = step {
            next.replay(write.clone());
        }
        states.push(next);
    }
    states
}

fn take(journal: &mut Journal<RamFlash>, step: &Step) -> Result<(), JournalError<PowerLoss>> {
    match step {
        Step::Write(write) => journal.write(write),
        Step::Snapshot(last) => journal.write_snapshot(*last, |out| out.extend(bytes_of(*last))),
    }
}

/// The snapshot in use is there, and is what was written.
fn expect_snapshot(opened: &mut Opened<RamFlash>) {
    let last = opened.restored.snapshot.as_ref().map(|snapshot| snapshot.last);
    if let Some(last) = last.filter(|last| *last > LogId::ZERO) {
        let bytes = opened.journal.snapshot(last).unwrap().map(<[u8]>::to_vec);
        assert_eq!(bytes, Some(bytes_of(last)));
    }
}

/// Takes steps until the power fails. Returns how many were answered for.
fn run(flash: RamFlash, steps: &[Step]) -> (RamFlash, usize) {
    let before = flash.clone();
    let Ok(Opened { mut journal, .. }) = open(flash) else {
        unreachable!("handled by the caller: {}", before.changes_left)
    };
    let failed = steps.iter().position(|step| take(&mut journal, step).is_err());
    (journal.into_flash(), failed.unwrap_or(steps.len()))
}

#[test]
fn what_was_written_is_found_again() {
    let steps = steps();
    let states = states(&steps);
    let mut flash = RamFlash::new(FLASH_BYTES);
    let mut rewrites = 0;
    for (step, state) in steps.iter().zip(&states) {
        let mut opened = open(flash).unwrap();
        expect_snapshot(&mut opened);
        let Opened { mut journal, restored, torn } = opened;
        assert_eq!((&restored, torn), (state, false));
        take(&mut journal, step).unwrap();
        rewrites += journal.rewrites();
        flash = journal.into_flash();
    }
    assert_eq!(open(flash).unwrap().restored, states[steps.len()]);
    assert!(rewrites >= 2, "{rewrites}");
}

/// Whatever the power's failure interrupts, every write that was answered for is there, and at most
/// the next one besides; also when the power fails again while that is found out.
#[test]
fn the_power_may_fail_at_every_word() {
    let steps = steps();
    let states = states(&steps);
    let begun = open(RamFlash::new(FLASH_BYTES)).unwrap().journal.into_flash();
    let (mut torn_tails, mut cut) = (0, 0);
    loop {
        let (flash, answered) = run(RamFlash { changes_left: cut, ..begun.clone() }, &steps);
        if answered == steps.len() {
            break;
        }
        for again in (cut % 5..).step_by(5) {
            let Err(error) = open(RamFlash { changes_left: again, ..flash.clone() }) else { break };
            assert_eq!(error, JournalError::Flash(PowerLoss), "after {cut} and {again}");
            let flash = failed_open(RamFlash { changes_left: again, ..flash.clone() });
            let restored = open(flash).unwrap().restored;
            assert!(states[answered..=answered + 1].contains(&restored), "after {cut}, {again}");
        }
        let mut opened = open(RamFlash { changes_left: usize::MAX, ..flash }).unwrap();
        expect_snapshot(&mut opened);
        assert!(states[answered..=answered + 1].contains(&opened.restored), "after {cut}");
        torn_tails += usize::from(opened.torn);
        // And it takes the rest.
        let rest = if opened.restored == states[answered] { answered } else { answered + 1 };
        let (flash, took) = run(opened.journal.into_flash(), &steps[rest..]);
        assert_eq!(took, steps.len() - rest, "after {cut}");
        assert_eq!(open(flash).unwrap().restored, states[steps.len()], "after {cut}");
        cut += 1;
    }
    assert!(cut > 500 && torn_tails > 100, "{torn_tails} of {cut}");
}

/// The flash after an attempt to open it that fails.
fn failed_open(mut flash: RamFlash) -> RamFlash {
    let result = Journal::open(&mut flash);
    assert!(result.is_err());
    drop(result);
    RamFlash { changes_left: usize::MAX, ..flash }
}

#[test]
fn a_journal_may_be_begun_more_than_once() {
    for cut in 0.. {
        let flash = RamFlash { changes_left: cut, ..RamFlash::new(FLASH_BYTES) };
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
    let steps = steps();
    let (flash, answered) = run(RamFlash::new(FLASH_BYTES), &steps[..30]);
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
    let Opened { mut journal, .. } = open(RamFlash::new(FLASH_BYTES)).unwrap();
    let mut held = Restored::default();
    let error = (1..).find_map(|index| {
        let payload = Payload::Command(vec![7; 64].into());
        let entry = Entry { term: Term::new(1), index: Index::new(index), payload };
        let write = append(vec![entry]);
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
    let mut flash = RamFlash::new(FLASH_BYTES);
    flash.bytes[..1000].fill(b'x');
    assert!(matches!(open(flash), Err(JournalError::Damaged { .. })));
}
