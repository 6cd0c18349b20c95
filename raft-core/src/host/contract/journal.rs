//! The contract of a journal.

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use bytes::Bytes;
use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};

use crate::entries::{Entry, Payload};
use crate::host::journal::Journal;
use crate::membership::Membership;
use crate::output::{Restored, Write};
use crate::types::{HardState, Index, LogId, NodeId, Term};

/// How many writes are made, and how often the journal is opened again, on average.
const WRITES: u64 = 300;
const WRITES_PER_LIFE: u64 = 12;

/// Checks a journal. `open` opens the same journal each time, empty the first time, as a process
/// does that starts; by then the one before was dropped.
///
/// # Panics
///
/// If the journal breaks its contract.
pub fn journal<J: Journal>(mut open: impl FnMut() -> J) {
    let mut journal = open();
    let store = journal.store_id();
    let recovered = journal.recover().expect("a new journal can be recovered");
    assert_eq!(recovered, Restored::default(), "a new journal is empty");
    let mut writer = Writer::new();
    for number in 0..WRITES {
        if writer.rng.next_u64() % WRITES_PER_LIFE == 0 {
            drop(journal);
            journal = open();
            assert_eq!(journal.store_id(), store, "a store keeps its id");
            let recovered = journal.recover().expect("a journal that was dropped is recovered");
            writer.check_recovered(number, recovered);
        }
        let write = writer.next_write();
        journal.append(&write).expect("there is room");
        writer.appended(write);
        // Several writes share a sync.
        if writer.rng.next_u64() % 3 == 0 {
            journal.sync().expect("there is room");
            writer.synced();
        }
    }
    journal.sync().expect("there is room");
    writer.synced();
    drop(journal);
    let recovered = open().recover().expect("a journal that was dropped is recovered");
    writer.check_recovered(WRITES, recovered);
}

/// Makes writes as a node does, and knows what they add up to.
struct Writer {
    rng: Pcg32,
    /// What is durable, and behind it what each write since has made of it.
    states: Vec<Restored<Bytes>>,
}

impl Writer {
    fn new() -> Self {
        Self { rng: Pcg32::seed_from_u64(1), states: vec![Restored::default()] }
    }

    fn newest(&self) -> &Restored<Bytes> {
        &self.states[self.states.len() - 1]
    }

    fn appended(&mut self, write: Write<Bytes>) {
        let mut state = self.newest().clone();
        state.replay(write);
        self.states.push(state);
    }

    fn synced(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// Whole writes may be missing at the end if they were never synced, and nothing else.
    fn check_recovered(&mut self, number: u64, recovered: Restored<Bytes>) {
        let at = self.states.iter().position(|state| is_same(&recovered, state));
        let Some(at) = at else {
            let (durable, newest) = (summary(&self.states[0]), summary(self.newest()));
            let recovered = summary(&recovered);
            panic!(
                "after {number} writes: what is recovered is the sum of all synced writes and perhaps of some that follow: \
                 {recovered}, and not between {durable} and {newest}"
            );
        };
        // A node that starts goes on from what it was given.
        self.states = vec![self.states[at].clone()];
    }

    fn next_write(&mut self) -> Write<Bytes> {
        let newest = self.newest();
        let (hard_state, held) = (newest.hard_state, newest.entries.len() as u64);
        let last = newest.entries.last().map_or(newest.base, Entry::id);
        let first = newest == &Restored::default();
        let mut write = Write::default();
        if first || self.rng.next_u64() % 4 == 0 {
            let current_term = Term::new(hard_state.current_term.get() + self.rng.next_u64() % 3);
            let current_term = current_term.max(Term::new(1)).max(last.term);
            // A server votes once in a term.
            let earlier = hard_state.voted_for.filter(|_| current_term == hard_state.current_term);
            let votes = self.rng.next_u64() % 2 == 0;
            let voted_for = earlier.or(votes.then_some(NodeId::new(2)));
            write.hard_state = Some(HardState { current_term, voted_for, ..hard_state });
        }
        let term = write.hard_state.unwrap_or(hard_state).current_term;
        let mut next = last.index.next();
        // Entries that are not committed may be replaced.
        if held > 0 && self.rng.next_u64() % 6 == 0 {
            let back = self.rng.next_u64() % held.min(5);
            next = Index::new(last.index.get() - back);
            write.truncate_from = Some(next);
        }
        let count = self.rng.next_u64() % 4;
        let entries = (0..count).map(|more| {
            let index = Index::new(next.get() + more);
            Entry { term, index, payload: payload(&mut self.rng) }
        });
        write.entries = entries.collect();
        write
    }
}

fn payload(rng: &mut Pcg32) -> Payload<Bytes> {
    match rng.next_u64() % 8 {
        0 => Payload::Noop,
        1 => Payload::Configuration(Membership::of_voters([1, 2, 3].map(NodeId::new)).into()),
        2 => Payload::Command(Bytes::new()),
        3 => Payload::Command(Bytes::from(vec![7; 100_000])),
        _ => Payload::Command(Bytes::from(vec![rng.next_u64() as u8; 20])),
    }
}

/// Whether both are the same to a node. A journal may keep entries that are needed no more.
fn is_same(found: &Restored<Bytes>, expected: &Restored<Bytes>) -> bool {
    let from = expected.base.index;
    found.hard_state == expected.hard_state
        && found.snapshot == expected.snapshot
        && found.base.index <= from
        && found.entries.iter().filter(|entry| entry.index > from).eq(&expected.entries)
}

fn summary(restored: &Restored<Bytes>) -> String {
    let Restored { hard_state, base, entries, .. } = restored;
    let last: LogId = entries.last().map_or(*base, Entry::id);
    let HardState { current_term, voted_for, .. } = hard_state;
    format!("term {current_term}, vote {voted_for:?}, {} entries to {last}", entries.len())
}
