//! Whether what clients were told is linearizable, by `stateright`'s tester: each register on its own.

use std::collections::BTreeSet;

use raft_core::sim::{OperationOf, Outcome, REGISTERS, Registers, Request};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// One register, as it would be without servers and failures.
#[derive(Clone, Default, Debug)]
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

enum Event<'a> {
    Invoke(&'a OperationOf<Registers>),
    Return(&'a OperationOf<Registers>, u64),
}

/// Returns how many operations were checked; or says which register's history is not linearizable.
pub(crate) fn check(history: &[OperationOf<Registers>]) -> Result<u64, String> {
    (0..REGISTERS).map(|register| check_register(register, history)).sum()
}

fn check_register(register: usize, history: &[OperationOf<Registers>]) -> Result<u64, String> {
    let operations: Vec<_> = history.iter().filter(|o| register_of(o) == register).collect();
    let seen: BTreeSet<u64> = operations.iter().filter_map(|o| returned(o)).collect();
    let counts = |operation: &OperationOf<Registers>| match &operation.outcome {
        Outcome::Returned { .. } => true,
        // A swap whose value nobody saw may as well never have happened: to leave it out is right if it did not, and if it did,
        // then whoever came next is one of unknown outcome too, and may follow on what was there before.
        Outcome::Unknown => match &operation.request {
            Request::Command(swap) => seen.contains(&swap.value()),
            Request::Query(_) => false,
        },
        _ => false,
    };
    let mut events = Vec::new();
    for operation in operations.into_iter().filter(|operation| counts(operation)) {
        events.push((operation.invoked.order, Event::Invoke(operation)));
        if let Outcome::Returned { reply, at } = &operation.outcome {
            events.push((at.order, Event::Return(operation, *reply)));
        }
    }
    events.sort_by_key(|(order, _)| *order);

    let mut tester = LinearizabilityTester::new(Register::default());
    let mut checked = 0;
    for (_, event) in events {
        match event {
            Event::Invoke(operation) => {
                let op = match &operation.request {
                    Request::Command(swap) => Op::Swap(swap.value()),
                    Request::Query(_) => Op::Read,
                };
                tester.on_invoke(operation.process, op)?;
                checked += 1;
            }
            Event::Return(operation, reply) => {
                tester.on_return(operation.process, reply)?;
            }
        }
    }
    match tester.is_consistent() {
        true => Ok(checked),
        false => Err(format!("register {register}: {tester:?}")),
    }
}

fn register_of(operation: &OperationOf<Registers>) -> usize {
    match &operation.request {
        Request::Command(swap) => swap.register(),
        Request::Query(register) => *register,
    }
}

fn returned(operation: &OperationOf<Registers>) -> Option<u64> {
    match &operation.outcome {
        Outcome::Returned { reply, .. } => Some(*reply),
        _ => None,
    }
}
