//! What a picture of a cluster shows: single events, messages on their way, logs, what the gate
//! holds, and which links are cut.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::cluster::Cluster;
use super::event::Event;
use super::state_machine::StateMachine;
use super::trace::Record;
use super::violation::Failure;
use crate::entries::Entry;
use crate::message::Message;
use crate::time::Instant;
use crate::types::{NodeId, WriteId};

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub struct InFlight<'a, C> {
    /// Tells this message from all others of the run; later messages have higher numbers.
    pub number: u64,
    /// When it arrives, unless its link is cut by then.
    pub arrives: Instant,
    /// The message.
    pub message: &'a Message<C>,
}

impl<S: StateMachine> Cluster<S> {
    /// Lets the next event happen, and time pass until then. Returns false if no event is planned.
    ///
    /// # Errors
    ///
    /// If a check failed, now or earlier.
    pub fn step(&mut self) -> Result<bool, Box<Failure>> {
        self.verdict()?;
        let happened = self.next_event(u64::MAX);
        self.verdict()?;
        Ok(happened)
    }

    /// When the next event happens; none if nothing is planned.
    pub fn next_at(&self) -> Option<Instant> {
        let timer = self.due.iter().copied().min().unwrap_or(u64::MAX);
        let next = self.queue.next_at().min(timer);
        (next != u64::MAX).then(|| self.now.max(Instant::from_micros(next)))
    }

    /// Takes the records kept since the last call; see [`keep_trace`](Self::keep_trace).
    pub fn take_trace(&mut self) -> Vec<Record> {
        self.trace.all.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// The messages on their way, in no order.
    pub fn in_flight(&self) -> impl Iterator<Item = InFlight<'_, S::Command>> {
        self.queue.iter().filter_map(|(number, arrives, event)| match event {
            Event::Arrival(message) => Some(InFlight { number, arrives, message }),
            Event::SyncEnds { .. }
            | Event::FileDone { .. }
            | Event::WorkDone { .. }
            | Event::Relief(_) => None,
        })
    }

    /// The replies that a running server holds back, each with the write that it waits for.
    pub fn held(&self, id: NodeId) -> impl Iterator<Item = (WriteId, &Message<S::Command>)> {
        self.raft(id).into_iter().flat_map(|raft| raft.server.outbox.held())
    }

    /// The log of a running server, as it is in memory.
    pub fn log(&self, id: NodeId) -> impl Iterator<Item = &Entry<S::Command>> {
        self.raft(id).into_iter().flat_map(|raft| raft.server.log.iter())
    }

    /// Whether a server stands still.
    pub fn is_paused(&self, id: NodeId) -> bool {
        self.servers[self.at(id)].is_paused
    }

    /// Whether messages pass from one server to another.
    pub fn passes(&self, from: NodeId, to: NodeId) -> bool {
        self.links.passes(self.at(from), self.at(to))
    }
}
