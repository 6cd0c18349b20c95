//! What is replicated: the user's state machine, and a small one of our own.

use core::fmt::Debug;

use crate::types::{Command, Index};

/// A state machine that a simulated server applies commands to.
///
/// The default value is the state of a server that starts; a restart begins with it and applies the log again.
///
/// # Example
///
/// ```
/// use raft_core::Index;
/// use raft_core::sim::StateMachine;
///
/// /// Counts the bytes that the cluster has agreed upon.
/// #[derive(Default)]
/// struct Total(u64);
///
/// impl StateMachine for Total {
///     type Command = Vec<u8>;
///     type Query = ();
///     type Reply = u64;
///
///     fn apply(&mut self, _index: Index, command: &Vec<u8>) -> u64 {
///         self.0 += command.len() as u64;
///         self.0
///     }
///
///     fn query(&self, _query: &()) -> u64 {
///         self.0
///     }
/// }
/// ```
pub trait StateMachine: Default {
    /// What changes the state.
    type Command: Command + Eq + Debug;
    /// What asks for a part of the state, and changes nothing.
    type Query: Clone + Debug;
    /// The answer to either.
    type Reply: Clone + Debug;

    /// Applies a committed command. Called by rising index; indexes are missing where Raft keeps entries of its own. What it
    /// does must follow from the commands alone.
    fn apply(&mut self, index: Index, command: &Self::Command) -> Self::Reply;

    /// Answers a linearizable read.
    fn query(&self, query: &Self::Query) -> Self::Reply;
}

/// A state machine whose clients are simulated as well.
pub trait Workload: StateMachine {
    /// What a client asks for. Must follow from the arguments alone: `client` numbers the clients from 0, `draw` is random and
    /// different for every request of a run.
    fn request(client: u64, draw: u64) -> Request<Self::Command, Self::Query>;
}

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request<C, Q> {
    /// A command, to be replicated.
    Command(C),
    /// A linearizable read.
    Query(Q),
}

/// How many registers there are: few, so that clients meet.
pub const REGISTERS: usize = 4;

/// A few registers that clients read and swap.
///
/// A swap returns what it replaced, and every value is written once. So a history tells almost by itself in which order its
/// operations took effect, and each register is checked on its own.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Registers([u64; REGISTERS]);

/// Puts a value into a register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Swap([u8; 9]);

impl Swap {
    /// A swap of the register with this number, counted around if it is beyond the last.
    pub fn new(register: usize, value: u64) -> Self {
        let mut bytes = [0; 9];
        bytes[0] = (register % REGISTERS) as u8;
        bytes[1..].copy_from_slice(&value.to_be_bytes());
        Self(bytes)
    }

    /// Which register it is for, from 0.
    pub fn register(&self) -> usize {
        usize::from(self.0[0]) % REGISTERS
    }

    /// What it puts there.
    pub fn value(&self) -> u64 {
        let [_, value @ ..] = self.0;
        u64::from_be_bytes(value)
    }
}

impl AsRef<[u8]> for Swap {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl StateMachine for Registers {
    type Command = Swap;
    /// The number of a register.
    type Query = usize;
    type Reply = u64;

    fn apply(&mut self, _index: Index, swap: &Swap) -> u64 {
        core::mem::replace(&mut self.0[swap.register()], swap.value())
    }

    fn query(&self, register: &usize) -> u64 {
        self.0[register % REGISTERS]
    }
}

impl Workload for Registers {
    /// One read for every two swaps.
    fn request(_client: u64, draw: u64) -> Request<Swap, usize> {
        let register = (draw >> 8) as usize % REGISTERS;
        match draw % 3 {
            0 => Request::Query(register),
            // Zero is what a register holds that was never written.
            _ => Request::Command(Swap::new(register, draw | 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_returns_what_it_replaced() {
        let mut registers = Registers::default();
        assert_eq!(registers.apply(Index::new(1), &Swap::new(2, 7)), 0);
        assert_eq!(registers.apply(Index::new(2), &Swap::new(2, 8)), 7);
        assert_eq!((registers.query(&2), registers.query(&1)), (8, 0));
    }
}
