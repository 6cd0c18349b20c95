//! Whether what clients were told is linearizable: each register on its own, by two checks.
//!
//! - [`chains`] is exact and fast because every value is written once.
//! - `stateright`'s tester searches all orders and knows nothing of values. The time that a search
//!   takes grows with everything that could be reordered. So the history is cut wherever nothing is
//!   under way and the last operation ran alone: there the value of the register is known. Pieces
//!   above [`SEARCHED_MAX`] operations are left to the first check.

mod chains;

use std::collections::BTreeMap;

use raft_core::sim::{OperationOf, Outcome, REGISTERS, Registers, Request};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// One register, as it would be without servers and failures.
#[derive(Clone, Debug)]
struct Register(u64);

#[derive(Clone, Debug)]
enum Op {
    Swap(u64),
    Read,
}

impl SequentialSpec for Register {
    type Op = Op;
    type Ret = u64;

    fn invoke(&mut self, op: &Op) -> u64 {
        match op {
            Op::Swap(value) => std::mem::replace(&mut self.0, *value),
            Op::Read => self.0,
        }
    }
}

/// An operation as the tester sees it.
struct Checked {
    process: u64,
    op: Op,
    /// What it returned; none if nobody knows.
    reply: Option<u64>,
}

enum Event<'a> {
    Begin(&'a Checked),
    End(&'a Checked),
}

/// Returns how many operations were checked; or says which register's history is not linearizable.
pub(crate) fn check(history: &[OperationOf<Registers>]) -> Result<u64, String> {
    (0..REGISTERS).map(|register| check_register(register, history)).sum()
}

fn check_register(register: usize, history: &[OperationOf<Registers>]) -> Result<u64, String> {
    let operations: Vec<_> = history.iter().filter(|o| register_of(o) == register).collect();
    let timed: Vec<_> = operations.iter().filter_map(|operation| timed(operation)).collect();
    let name = |text| format!("register {register}: {text}");
    let searched = search(&operations).map_err(name)?;
    if chains::are_values_unique(&timed) {
        return chains::check(&timed).map_err(name);
    }
    Ok(searched)
}

/// An operation as [`chains`] takes it; none if it had no effect.
fn timed(operation: &OperationOf<Registers>) -> Option<chains::Timed> {
    let (end, reply) = match &operation.outcome {
        Outcome::Returned { reply, at } => (Some(at.order), *reply),
        Outcome::Unknown => (None, 0),
        Outcome::Lost => return None,
    };
    let op = match &operation.request {
        Request::Command(swap) => chains::Op::Swap { value: swap.value(), replaced: reply },
        Request::Query(_) => chains::Op::Read { value: reply },
    };
    Some(chains::Timed { begin: operation.invoked.order, end, op })
}

/// Searches for an order of these operations, piece by piece. Returns how many were searched.
fn search(operations: &[&OperationOf<Registers>]) -> Result<u64, String> {
    // When each value was first told to anybody: the swap that wrote it had taken effect by then.
    let mut seen = BTreeMap::<u64, u64>::new();
    for operation in operations {
        if let Outcome::Returned { reply, at } = &operation.outcome {
            let first = seen.entry(*reply).or_insert(at.order);
            *first = (*first).min(at.order);
        }
    }
    let timed = operations.iter().filter_map(|operation| {
        let (op, value) = match &operation.request {
            Request::Command(swap) => (Op::Swap(swap.value()), Some(swap.value())),
            Request::Query(_) => (Op::Read, None),
        };
        let (end, reply) = match &operation.outcome {
            Outcome::Returned { reply, at } => (at.order, Some(*reply)),
            // A swap whose value nobody saw is left out: `chains` says why that is right.
            Outcome::Unknown => (*seen.get(&value?)?, None),
            Outcome::Lost => return None,
        };
        let checked = Checked { process: operation.process, op, reply };
        Some((operation.invoked.order, end, checked))
    });
    let timed: Vec<_> = timed.collect();
    let mut events: Vec<_> = timed
        .iter()
        .flat_map(|(begin, end, op)| [(*begin, Event::Begin(op)), (*end, Event::End(op))])
        .collect();
    events.sort_by_key(|(order, event)| {
        (*order, matches!(event, Event::End(op) if op.reply.is_some()))
    });

    let mut piece = Piece::new(0);
    let mut checked = 0;
    for (_, event) in events {
        piece.take(event)?;
        if piece.under_way == 0 {
            checked += piece.check()?;
        }
    }
    Ok(checked)
}

/// The most operations of a piece that is searched. In one world of ten thousand a piece is longer,
/// and the search would not end within a lifetime.
const SEARCHED_MAX: usize = 100;

/// A piece of a history that begins with a known value.
struct Piece {
    tester: LinearizabilityTester<u64, Register>,
    /// Operations that began since nothing was under way.
    begun: usize,
    under_way: usize,
    /// What the register holds if the last of them ran alone.
    after: Option<u64>,
}

impl Piece {
    fn new(value: u64) -> Self {
        let tester = LinearizabilityTester::new(Register(value));
        Self { tester, begun: 0, under_way: 0, after: None }
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Begin(operation) => {
                self.tester.on_invoke(operation.process, operation.op.clone())?;
                self.begun += 1;
                self.under_way += 1;
                self.after = None;
            }
            Event::End(operation) => {
                self.under_way -= 1;
                if let Some(reply) = operation.reply {
                    self.tester.on_return(operation.process, reply)?;
                    self.after = Some(match operation.op {
                        Op::Swap(value) => value,
                        Op::Read => reply,
                    });
                }
            }
        }
        Ok(())
    }

    /// Nothing is under way: checks what there is, and begins anew if the value is known. Returns
    /// how many operations were checked that were not before.
    fn check(&mut self) -> Result<u64, String> {
        let is_searched = self.tester.len() <= SEARCHED_MAX;
        if is_searched && !self.tester.is_consistent() {
            return Err(format!("{:?}", self.tester));
        }
        let checked = if is_searched { self.begun as u64 } else { 0 };
        if let Some(value) = self.after.filter(|_| self.begun == 1) {
            *self = Self::new(value);
        }
        self.begun = 0;
        Ok(checked)
    }
}

fn register_of(operation: &OperationOf<Registers>) -> usize {
    match &operation.request {
        Request::Command(swap) => swap.register(),
        Request::Query(register) => *register,
    }
}
