//! The one place a message leaves: what promises something waits here until the promise is durable.
//!
//! A node never says what it could forget. Every reply rests on this server's term, and a grant on
//! its vote as well, so a reply waits for the write that holds both. What promises nothing about
//! its sender does not pass through here: a leader's AppendEntries (thesis 10.2.1) and a
//! candidate's requests are built when polled and leave beside the write.

use alloc::collections::VecDeque;
use core::mem::discriminant;

use crate::checkpoint::stored;
use crate::message::Message;
use crate::quorum::MEMBERS_MAX;
use crate::state::durable::Durable;
use crate::types::WriteId;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Outbox<C> {
    /// In the order of their gates.
    held: VecDeque<Held<C>>,
    /// Messages that promise nothing: they leave in the order in which they come.
    ungated: VecDeque<Message<C>>,
}

stored! { struct Outbox<C> { held, ungated } }

/// The most replies held at a time: each kind, to each member. More come only from servers that are
/// no members.
const HELD_MAX: usize = 4 * MEMBERS_MAX;

/// A reply and the write that must be durable before it may leave.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Held<C> {
    gate: WriteId,
    message: Message<C>,
}

stored! { struct Held<C> { gate, message } }

impl<C> Outbox<C> {
    pub(crate) fn new() -> Self {
        Self { held: VecDeque::new(), ungated: VecDeque::new() }
    }

    /// Holds a reply until the current term and vote are durable. It replaces an earlier one of its
    /// kind to the same server: the newer says all that the older did, and the outbox stays as
    /// small as the cluster.
    pub(crate) fn hold(&mut self, message: Message<C>, durable: &Durable) {
        let earlier = self.held.iter().position(|Held { message: earlier, .. }| {
            earlier.to == message.to && discriminant(&earlier.body) == discriminant(&message.body)
        });
        if let Some(earlier) = earlier {
            self.held.remove(earlier);
        }
        self.held.push_back(Held { gate: durable.hard_state_gate(), message });
        if self.held.len() > HELD_MAX {
            self.held.pop_front();
        }
    }

    /// Sends a message that promises nothing. The caller bounds how many there are.
    pub(crate) fn send_ungated(&mut self, message: Message<C>) {
        self.ungated.push_back(message);
    }

    /// The next reply whose promise is durable, or a message that makes none.
    pub(crate) fn next_ready(&mut self, durable: &Durable) -> Option<Message<C>> {
        if let Some(message) = self.ungated.pop_front() {
            return Some(message);
        }
        let ready = durable.is_durable(self.held.front()?.gate);
        if ready { self.held.pop_front().map(|held| held.message) } else { None }
    }

    /// The replies held, each with the write that it waits for.
    #[cfg(feature = "sim")]
    pub(crate) fn held(&self) -> impl Iterator<Item = (WriteId, &Message<C>)> {
        self.held.iter().map(|held| (held.gate, &held.message))
    }

    /// Counts gates from the last write that is durable. See `canonical`.
    pub(crate) fn renumber(&mut self, acknowledged: WriteId) {
        self.held.iter_mut().for_each(|held| held.gate = held.gate.after(acknowledged));
    }

    /// Forgets all replies: they spoke for a term that is over.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        self.ungated.clear();
    }
}
