//! What clients asked for and what they were told, to be checked for linearizability.

use alloc::vec::Vec;

use super::state_machine::{Request, StateMachine};
use crate::time::Instant;

/// A moment in a history. `order` tells apart what happened at the same time; it grows by one with
/// every moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment {
    /// Virtual time.
    pub at: Instant,
    /// The number of this moment in the history, from 1.
    pub order: u64,
}

/// Something that a client asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation<C, Q, Y> {
    /// The client that asked. A client that gives up continues under another number, so no client
    /// waits for two operations.
    pub process: u64,
    /// What it asked for.
    pub request: Request<C, Q>,
    /// When.
    pub invoked: Moment,
    /// What came of it.
    pub outcome: Outcome<Y>,
}

/// What came of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<Y> {
    /// It was answered.
    Returned {
        /// The answer.
        reply: Y,
        /// When it came.
        at: Moment,
    },
    /// It took no effect and never will: another entry has its place in the log, or it was a read.
    Lost,
    /// Unknown: the operation may have taken effect, may take effect later, or never.
    Unknown,
}

/// The operation of a state machine's client.
pub type OperationOf<S> =
    Operation<<S as StateMachine>::Command, <S as StateMachine>::Query, <S as StateMachine>::Reply>;

/// All that clients asked for, in the order of asking.
pub(super) struct History<S: StateMachine> {
    pub(super) operations: Vec<OperationOf<S>>,
    order: u64,
}

impl<S: StateMachine> History<S> {
    pub(super) fn new() -> Self {
        Self { operations: Vec::new(), order: 0 }
    }

    /// An operation begins; returns its number.
    pub(super) fn invoke(
        &mut self,
        at: Instant,
        process: u64,
        request: Request<S::Command, S::Query>,
    ) -> usize {
        let invoked = self.moment(at);
        self.operations.push(Operation { process, request, invoked, outcome: Outcome::Unknown });
        self.operations.len() - 1
    }

    pub(super) fn returned(&mut self, operation: usize, at: Instant, reply: S::Reply) {
        let at = self.moment(at);
        self.operations[operation].outcome = Outcome::Returned { reply, at };
    }

    pub(super) fn lost(&mut self, operation: usize) {
        self.operations[operation].outcome = Outcome::Lost;
    }

    fn moment(&mut self, at: Instant) -> Moment {
        self.order += 1;
        Moment { at, order: self.order }
    }
}
