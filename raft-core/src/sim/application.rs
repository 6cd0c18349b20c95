//! A server's state machine, and the clients that wait for its answers.

use alloc::collections::VecDeque;

use super::counts::Counts;
use super::history::History;
use super::state_machine::{Request, StateMachine};
use crate::entries::{Entries, Payload};
use crate::time::Instant;
use crate::types::{Index, ProposalId, ReadId, Term};

pub(super) struct Application<S> {
    pub(super) machine: S,
    pub(super) applied: Index,
    /// Operations that wait for their entry to be applied here, by rising index.
    waiting: VecDeque<Waiting>,
    /// Operations that wait for the leader's answer.
    forwarding: VecDeque<(ProposalId, usize)>,
    /// Operations that wait for a read to be confirmed.
    reading: VecDeque<(ReadId, usize)>,
}

/// An operation that waits for the entry of this term and index.
#[derive(Clone, Copy)]
struct Waiting {
    term: Term,
    index: Index,
    operation: usize,
}

impl<S: StateMachine> Application<S> {
    pub(super) fn new() -> Self {
        Self {
            machine: S::default(),
            applied: Index::ZERO,
            waiting: VecDeque::new(),
            forwarding: VecDeque::new(),
            reading: VecDeque::new(),
        }
    }

    /// Replaces the state by that of a snapshot. Clients that wait for one of the entries in the
    /// snapshot get no answer, because no server reports these entries any more.
    pub(super) fn restore(&mut self, index: Index, snapshot: &[u8]) {
        self.machine.restore(snapshot);
        self.applied = index;
        while self.waiting.front().is_some_and(|waiting| waiting.index <= index) {
            self.waiting.pop_front();
        }
    }

    /// The server crashed: its clients never learn what became of their operations.
    pub(super) fn forget_clients(&mut self) {
        self.waiting.clear();
        self.forwarding.clear();
        self.reading.clear();
    }

    /// Lets an operation wait for the entry that was just appended. An operation that waits for an
    /// earlier entry at this index gets no answer: that entry is gone from this log, but another
    /// server may still hold it.
    pub(super) fn wait(&mut self, term: Term, index: Index, operation: usize) {
        while self.waiting.back().is_some_and(|waiting| waiting.index >= index) {
            self.waiting.pop_back();
        }
        self.waiting.push_back(Waiting { term, index, operation });
    }

    /// An operation waits for the leader to answer for its command.
    pub(super) fn wait_for_leader(&mut self, id: ProposalId, operation: usize) {
        self.forwarding.push_back((id, operation));
    }

    /// The operation whose command the leader has answered for; it waits no longer.
    pub(super) fn take_forward(&mut self, id: ProposalId) -> Option<usize> {
        let at = self.forwarding.iter().position(|(other, _)| *other == id)?;
        self.forwarding.remove(at).map(|(_, operation)| operation)
    }

    /// An operation waits for a read.
    pub(super) fn wait_for_read(&mut self, read: ReadId, operation: usize) {
        self.reading.push_back((read, operation));
    }

    /// Applies entries and answers the clients that wait for them. Returns the last index.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        entries: Entries<S::Command>,
        history: &mut History<S>,
        counts: &mut Counts,
    ) -> Index {
        for entry in entries {
            self.applied = entry.index;
            let reply = match &entry.payload {
                Payload::Noop | Payload::Configuration(_) => None,
                Payload::Command(command) => Some(self.machine.apply(entry.index, command)),
            };
            let front = self.waiting.front().copied();
            let Some(waiting) = front.filter(|waiting| waiting.index <= entry.index) else {
                continue;
            };
            self.waiting.pop_front();
            match reply.filter(|_| waiting.term == entry.term) {
                Some(reply) => {
                    history.returned(waiting.operation, now, reply);
                    counts.answers += 1;
                }
                None => {
                    history.lost(waiting.operation);
                    counts.lost_operations += 1;
                }
            }
        }
        self.applied
    }

    /// Answers a client's read. Returns false if no client asked for this read.
    pub(super) fn serve_read(
        &mut self,
        now: Instant,
        read: ReadId,
        history: &mut History<S>,
        counts: &mut Counts,
    ) -> bool {
        let Some(operation) = self.take_read(read) else { return false };
        if let Request::Query(query) = &history.operations[operation].request {
            let reply = self.machine.query(query);
            history.returned(operation, now, reply);
            counts.answers += 1;
        }
        true
    }

    /// Removes the operation that waits for this read, and returns it.
    pub(super) fn take_read(&mut self, read: ReadId) -> Option<usize> {
        let at = self.reading.iter().position(|(id, _)| *id == read)?;
        self.reading.remove(at).map(|(_, operation)| operation)
    }
}
