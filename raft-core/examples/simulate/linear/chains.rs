//! An exact check of one register's history in which every value is written once, in time that
//! grows like sorting.
//!
//! A swap names the value that it replaced. Because no value is written twice, a swap that was
//! answered comes directly after the swap that wrote that value, with nothing but reads of it in
//! between. So the answered swaps form chains, and each chain takes effect in one go, as a block:
//!
//! ```text
//! first block   0 ─ reads of 0 ─ swap 0→7 ─ reads of 7 ─ swap 7→3
//! other blocks  swap ?→5 ─ reads of 5 ─ swap 5→9 ─ reads of 9
//! ```
//!
//! The first block begins with the value 0, with which a register starts. Every other block begins
//! with a swap whose answer nobody knows. If somebody saw its value, that swap took effect. If
//! nobody did, it is left out: either it had no effect, or the swap behind it is unknown as well
//! and may follow on what was there before.
//!
//! What remains is to put the blocks into an order that respects real time, where an operation that
//! ended before another began comes first:
//!
//! - Within a block the order is given, so it is only compared with real time.
//! - Block A has to come before block B if an operation of A ended before one of B began: if the
//!   first end in A is before the last begin in B. If these demands form a circle, then two blocks
//!   demand each other: of the blocks in the circle, take the one with the last begin. Every other
//!   block in the circle ends first before some begin, and so before that one. The block that it
//!   demands to come behind it therefore demands the opposite. So it suffices to compare pairs.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// An operation on the register. One operation precedes another if its end is smaller than the
/// other's begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Timed {
    pub(crate) begin: u64,
    /// None for an operation that was never answered: it may take effect at any time after its
    /// begin, or never.
    pub(crate) end: Option<u64>,
    pub(crate) op: Op,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// Writes `value`. `replaced` is the answer; it counts only if there is an end.
    Swap { value: u64, replaced: u64 },
    /// Reads `value`; says nothing without an end.
    Read { value: u64 },
}

/// What the operations of a block say about its place.
struct Block {
    first_value: u64,
    first_end: u64,
    last_begin: u64,
}

/// Whether each value, and 0, is written at most once, so that [`check`] is exact.
pub(crate) fn are_values_unique(operations: &[Timed]) -> bool {
    let mut seen = BTreeSet::from([0]);
    operations.iter().all(|operation| match operation.op {
        Op::Swap { value, .. } => seen.insert(value),
        Op::Read { .. } => true,
    })
}

/// Checks that some order of the operations respects real time and explains every answer. All
/// values must be [unique](are_values_unique). Returns how many operations took effect.
pub(crate) fn check(operations: &[Timed]) -> Result<u64, String> {
    let chains = Chains::of(operations)?;
    let mut blocks = vec![chains.block(0)?];
    for head in &chains.heads {
        blocks.push(chains.block(*head)?);
    }
    let swaps = chains.answered_swaps + chains.heads.len();
    if chains.placed.get() != swaps {
        return Err("swaps replaced each other in a circle".into());
    }
    compare(&blocks)?;
    let reads: usize = chains.readers.values().map(Vec::len).sum();
    Ok((swaps + reads) as u64)
}

/// The operations by the value before which or after which they take effect.
struct Chains {
    /// The swap that wrote each value.
    writers: BTreeMap<u64, Timed>,
    /// The answered swap that replaced each value.
    successors: BTreeMap<u64, u64>,
    /// The answered reads of each value.
    readers: BTreeMap<u64, Vec<Timed>>,
    /// The values of unanswered swaps that somebody saw.
    heads: Vec<u64>,
    answered_swaps: usize,
    /// Swaps that were found in a block.
    placed: Cell<usize>,
}

impl Chains {
    fn of(operations: &[Timed]) -> Result<Self, String> {
        let mut chains = Self {
            writers: BTreeMap::new(),
            successors: BTreeMap::new(),
            readers: BTreeMap::new(),
            heads: Vec::new(),
            answered_swaps: 0,
            placed: 0.into(),
        };
        for operation in operations {
            match (operation.op, operation.end) {
                (Op::Swap { value, replaced }, Some(_)) => {
                    chains.writers.insert(value, *operation);
                    chains.answered_swaps += 1;
                    if let Some(other) = chains.successors.insert(replaced, value) {
                        return Err(format!("{value} and {other} both replaced {replaced}"));
                    }
                }
                (Op::Swap { value, .. }, None) => {
                    chains.writers.insert(value, *operation);
                }
                (Op::Read { value }, Some(_)) => {
                    chains.readers.entry(value).or_default().push(*operation);
                }
                (Op::Read { .. }, None) => {}
            }
        }
        for seen in chains.successors.keys().chain(chains.readers.keys()) {
            if *seen != 0 && !chains.writers.contains_key(seen) {
                return Err(format!("{seen} was seen and never written"));
            }
        }
        let is_seen = |value: &u64| {
            chains.successors.contains_key(value) || chains.readers.contains_key(value)
        };
        let unanswered = chains.writers.iter().filter(|(_, swap)| swap.end.is_none());
        chains.heads = unanswered.map(|(value, _)| *value).filter(|value| is_seen(value)).collect();
        Ok(chains)
    }

    /// The block that begins with this value. Fails if its order contradicts real time.
    fn block(&self, first_value: u64) -> Result<Block, String> {
        let mut block = Block { first_value, first_end: u64::MAX, last_begin: 0 };
        let mut value = first_value;
        loop {
            if let Some(writer) = self.writers.get(&value) {
                self.placed.set(self.placed.get() + 1);
                block.add(&[*writer])?;
            }
            block.add(self.readers.get(&value).map_or(&[], Vec::as_slice))?;
            match self.successors.get(&value) {
                Some(next) => value = *next,
                None => return Ok(block),
            }
        }
    }
}

impl Block {
    /// Adds operations that take effect behind all that were added, in any order among themselves.
    fn add(&mut self, operations: &[Timed]) -> Result<(), String> {
        let ends = operations.iter().filter_map(|operation| operation.end);
        let first_end = ends.min().unwrap_or(u64::MAX);
        if first_end < self.last_begin {
            return Err(format!(
                "behind {}: what takes effect later ended at {first_end}, before {}",
                self.first_value, self.last_begin
            ));
        }
        self.first_end = self.first_end.min(first_end);
        let begins = operations.iter().map(|operation| operation.begin);
        self.last_begin = begins.fold(self.last_begin, u64::max);
        Ok(())
    }

    fn must_precede(&self, other: &Self) -> bool {
        self.first_end < other.last_begin
    }
}

/// Compares all pairs of blocks. The first block is the one with which the register begins.
fn compare(blocks: &[Block]) -> Result<(), String> {
    let Some((first, others)) = blocks.split_first() else { return Ok(()) };
    if let Some(early) = others.iter().find(|block| block.must_precede(first)) {
        return Err(format!("{} was seen before 0 was last seen", early.first_value));
    }
    for (at, one) in others.iter().enumerate() {
        let rest = others.iter().skip(at + 1);
        for other in rest {
            if one.must_precede(other) && other.must_precede(one) {
                let (one, other) = (one.first_value, other.first_value);
                return Err(format!("{one} and {other} must each be written before the other"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand_core::{Rng, SeedableRng};
    use rand_pcg::Pcg32;
    use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

    use super::super::{Op as Asked, Register};
    use super::{Op, Timed, are_values_unique, check};

    /// Histories of each kind that are compared.
    const HISTORIES: u64 = 5_000;

    /// What the search of all orders says, which leaves nothing out.
    fn search(operations: &[Timed]) -> bool {
        let mut events = Vec::new();
        for (process, operation) in operations.iter().enumerate() {
            events.push((operation.begin, false, process));
            events.extend(operation.end.map(|end| (end, true, process)));
        }
        events.sort_unstable();
        let mut tester = LinearizabilityTester::new(Register(0));
        for (_, is_end, process) in events {
            let taken = match (operations[process].op, is_end) {
                (Op::Swap { value, .. }, false) => tester.on_invoke(process, Asked::Swap(value)),
                (Op::Read { .. }, false) => tester.on_invoke(process, Asked::Read),
                (Op::Swap { replaced: reply, .. } | Op::Read { value: reply }, true) => {
                    tester.on_return(process, reply)
                }
            };
            taken.expect("each process asks once");
        }
        tester.is_consistent()
    }

    /// Up to seven operations of a register that works: each takes effect at one moment between its
    /// begin and its end. An unanswered one may take effect at any time or never.
    fn draw_history(rng: &mut Pcg32) -> Vec<Timed> {
        let count = 2 + rng.next_u32() as usize % 6;
        // The begin, the effect and the end of every operation, in a random order.
        let mut moments: Vec<_> = (0..count * 3).map(|moment| moment / 3).collect();
        for at in (1..moments.len()).rev() {
            moments.swap(at, rng.next_u32() as usize % (at + 1));
        }
        let (mut register, mut steps) = (0, vec![0; count]);
        let mut operations = vec![None; count];
        for (moment, which) in (1..).zip(moments) {
            steps[which] += 1;
            let drawn = rng.next_u32();
            let operation: &mut Option<Timed> = &mut operations[which];
            match (steps[which], operation) {
                (1, operation) => {
                    let value = which as u64 + 1;
                    let op = match drawn % 3 {
                        0 => Op::Read { value: 0 },
                        _ => Op::Swap { value, replaced: 0 },
                    };
                    *operation = Some(Timed { begin: moment, end: None, op });
                }
                (2, Some(Timed { op: Op::Read { value }, .. })) => *value = register,
                (2, Some(Timed { op: Op::Swap { value, replaced }, .. })) => {
                    *replaced = std::mem::replace(&mut register, *value);
                }
                (_, Some(operation)) => {
                    operation.end = (drawn % 4 > 0).then_some(moment);
                }
                (_, None) => unreachable!("an operation begins first"),
            }
        }
        let mut operations: Vec<_> = operations.into_iter().flatten().collect();
        // Some unanswered swaps never took effect: nothing may have seen them.
        operations.retain(|operation| operation.end.is_some() || rng.next_u32() % 8 > 0);
        operations
    }

    /// The same with one answer, begin or end changed.
    fn corrupt(operations: &mut [Timed], rng: &mut Pcg32) {
        let count = operations.len() as u32;
        let Some(operation) = operations.get_mut((rng.next_u32() % count.max(1)) as usize) else {
            return;
        };
        let other = u64::from(rng.next_u32() % 8);
        match (rng.next_u32() % 4, &mut operation.op, &mut operation.end) {
            (0 | 1, Op::Swap { replaced: reply, .. } | Op::Read { value: reply }, _) => {
                *reply = other;
            }
            (2, _, end @ Some(_)) => *end = None,
            // Moves an operation behind all others, or before them.
            (3, _, Some(end)) if rng.next_u32() % 2 == 0 => {
                (operation.begin, *end) = (100, 101);
            }
            (_, _, Some(end)) => (operation.begin, *end) = (0, operation.begin),
            (_, _, None) => operation.begin = 100,
        }
    }

    /// Compares `check` with the search, history by history. Returns how many were linearizable.
    fn compare(mut history: impl FnMut(&mut Pcg32) -> Vec<Timed>) -> u64 {
        let mut sound = 0;
        for seed in 0..HISTORIES {
            let operations = history(&mut Pcg32::seed_from_u64(seed));
            assert!(are_values_unique(&operations));
            let (found, expected) = (check(&operations), search(&operations));
            assert_eq!(found.is_ok(), expected, "seed {seed}: {found:?}, {operations:#?}");
            sound += u64::from(expected);
        }
        sound
    }

    #[test]
    fn histories_of_a_register_that_works_are_linearizable() {
        let sound = compare(draw_history);
        // But for those from which an unanswered swap was taken that others saw.
        assert!(sound > HISTORIES * 8 / 10 && sound < HISTORIES, "{sound}");
    }

    #[test]
    fn corrupted_histories_are_judged_as_the_search_judges_them() {
        let sound = compare(|rng| {
            let mut operations = draw_history(rng);
            corrupt(&mut operations, rng);
            if rng.next_u32() % 2 == 0 {
                corrupt(&mut operations, rng);
            }
            operations
        });
        assert!((HISTORIES / 10..HISTORIES * 9 / 10).contains(&sound), "{sound}");
    }

    /// No answer of a corrupted history need be near any order, so all of it is drawn.
    #[test]
    fn histories_of_random_answers_are_judged_as_the_search_judges_them() {
        let sound = compare(|rng| {
            let mut operations = draw_history(rng);
            operations.truncate(4);
            for operation in &mut operations {
                let (Op::Swap { replaced: reply, .. } | Op::Read { value: reply }) =
                    &mut operation.op;
                *reply = u64::from(rng.next_u32() % 4);
            }
            operations
        });
        assert!((HISTORIES / 50..HISTORIES / 2).contains(&sound), "{sound}");
    }

    /// A hundred thousand operations, and then one answer changed.
    #[test]
    fn long_histories_are_judged_in_time() {
        let mut operations: Vec<_> = (1..100_000)
            .map(|value| Timed {
                begin: value,
                end: Some(value + 10),
                op: Op::Swap { value, replaced: value - 1 },
            })
            .collect();
        check(&operations).expect("each swap replaced the value before");
        let late = &mut operations[50_000];
        (late.begin, late.end) = (50_020, Some(50_030));
        check(&operations).expect_err("the swaps behind it ended before it began");
    }
}
