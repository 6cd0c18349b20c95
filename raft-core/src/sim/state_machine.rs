//! What is replicated: the user's state machine, and a small one of our own.

use alloc::vec::Vec;
use core::fmt::Debug;

use crate::types::{Command, Index};

/// A state machine that a simulated server applies commands to.
///
/// The default value is the state with which a cluster begins. A restart begins with the last
/// snapshot, or with the default if there is none, and applies the log again.
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
///
///     fn snapshot(&self) -> Vec<u8> {
///         self.0.to_be_bytes().to_vec()
///     }
///
///     fn restore(&mut self, snapshot: &[u8]) {
///         self.0 = snapshot.iter().fold(0, |total, byte| total << 8 | u64::from(*byte));
///     }
///
///     fn chunk(snapshot: &[u8]) -> Vec<u8> {
///         snapshot.to_vec()
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

    /// Applies a committed command. Called by rising index; indexes are missing where Raft keeps
    /// entries of its own. What it does must follow from the commands alone.
    fn apply(&mut self, index: Index, command: &Self::Command) -> Self::Reply;

    /// Answers a linearizable read.
    fn query(&self, query: &Self::Query) -> Self::Reply;

    /// The whole state, as bytes; the same bytes for the same state. There may be none.
    fn snapshot(&self) -> Vec<u8>;

    /// Replaces the state by that of a snapshot.
    fn restore(&mut self, snapshot: &[u8]);

    /// A piece of a snapshot as it travels: as many bytes from the beginning of these as one
    /// command holds, at least one if there are any.
    fn chunk(snapshot: &[u8]) -> Self::Command;
}

/// A state machine whose clients are simulated as well.
pub trait Workload: StateMachine {
    /// What a client asks for. Must follow from the arguments alone: `client` numbers the clients
    /// from 0, `draw` is random and different for every request of a run.
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
/// A swap returns what it replaced, and every value is written once. So a history tells almost by
/// itself in which order its operations took effect, and each register is checked on its own.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Registers([u64; REGISTERS]);

/// The most bytes that a [`Swap`] holds.
const SWAP_BYTES_MAX: usize = 15;

/// Puts a value into a register. Or holds a piece of a snapshot, for what travels is always a
/// command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Swap {
    bytes: [u8; SWAP_BYTES_MAX],
    length: u8,
}

impl Swap {
    /// A swap of the register with this number, counted around if it is beyond the last.
    pub fn new(register: usize, value: u64) -> Self {
        let mut bytes = [0; 9];
        bytes[0] = (register % REGISTERS) as u8;
        bytes[1..].copy_from_slice(&value.to_be_bytes());
        Self::holding(&bytes)
    }

    /// As many of these bytes as fit.
    fn holding(from: &[u8]) -> Self {
        let mut bytes = [0; SWAP_BYTES_MAX];
        let length = from.len().min(SWAP_BYTES_MAX);
        bytes[..length].copy_from_slice(&from[..length]);
        Self { bytes, length: length as u8 }
    }

    /// Which register it is for, from 0.
    pub fn register(&self) -> usize {
        usize::from(self.bytes[0]) % REGISTERS
    }

    /// What it puts there.
    pub fn value(&self) -> u64 {
        self.bytes[1..9].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }
}

impl AsRef<[u8]> for Swap {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
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

    /// Has no bytes if nothing was ever written.
    fn snapshot(&self) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        self.0.iter().flat_map(|value| value.to_be_bytes()).collect()
    }

    fn restore(&mut self, snapshot: &[u8]) {
        *self = Self::default();
        for (register, value) in self.0.iter_mut().zip(snapshot.chunks(8)) {
            *register = value.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        }
    }

    fn chunk(snapshot: &[u8]) -> Swap {
        Swap::holding(snapshot)
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

    #[test]
    fn a_snapshot_in_pieces_is_the_state() {
        let mut registers = Registers::default();
        registers.apply(Index::new(1), &Swap::new(3, u64::MAX - 7));
        let (snapshot, mut copy) = (registers.snapshot(), Vec::new());
        while copy.len() < snapshot.len() {
            copy.extend_from_slice(Registers::chunk(&snapshot[copy.len()..]).as_ref());
        }
        let mut other = Registers([9; REGISTERS]);
        other.restore(&copy);
        assert_eq!(other, registers);
    }

    #[test]
    fn registers_that_were_never_written_are_no_bytes() {
        assert!(Registers::default().snapshot().is_empty());
        let mut other = Registers([9; REGISTERS]);
        other.restore(&[]);
        assert_eq!(other, Registers::default());
    }
}
