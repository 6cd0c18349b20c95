//! What the core asks of its host.

use alloc::format;
use alloc::vec::Vec;

use crate::entries::{Entries, Entry};
use crate::error::ConfigError;
use crate::message::Message;
use crate::role::Role;
use crate::types::{HardState, Index, LogId, NodeId, ReadId, Term, WriteId};

/// One thing for the host to do. Take them in order, from [`Raft::poll_outbox`](crate::Raft::poll_outbox) until `None`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Output<C> {
    /// Make this durable, after all writes before it; then call [`Raft::persisted`](crate::Raft::persisted). If it fails, stop
    /// the node: nothing that depends on the write has left, and nothing may.
    Persist(Write<C>),
    /// Send this. It may be lost, repeated or overtaken by others. What it promises is durable already.
    Send(Message<C>),
    /// Apply these to the state machine: committed, durable here, each once in the life of the process, without gaps. Then
    /// call [`Raft::applied`](crate::Raft::applied).
    Apply(Entries<C>),
    /// The read may be served from any state that includes `index`. All entries up to it were handed out before.
    ReadReady {
        /// The read, as [`Raft::read`](crate::Raft::read) named it.
        id: ReadId,
        /// What the state must include.
        index: Index,
    },
    /// Leadership was lost before the read was confirmed: ask the new leader.
    ReadLost {
        /// The read, as [`Raft::read`](crate::Raft::read) named it.
        id: ReadId,
    },
    /// Role, term or known leader are no longer what the last `RoleChanged` said. What lay between may be left out.
    RoleChanged {
        /// What this server is now.
        role: Role,
        /// Its current term.
        term: Term,
        /// The leader of that term, if known.
        leader: Option<NodeId>,
    },
}

/// One atomic write. After a crash either all of it is there or none; and none of a later one if this one is missing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Write<C> {
    /// Names the write in [`Raft::persisted`](crate::Raft::persisted).
    pub id: WriteId,
    /// Replaces the stored term and vote.
    pub hard_state: Option<HardState>,
    /// Removes this entry and all that follow it from the stored log, before `entries` are appended.
    pub truncate_from: Option<Index>,
    /// Entries to append, in order and without a gap.
    pub entries: Entries<C>,
}

/// What a server finds on its disk when it starts: the sum of all its writes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Restored<C> {
    /// The last term and vote written.
    pub hard_state: HardState,
    /// The log, from its first entry.
    pub entries: Vec<Entry<C>>,
}

impl<C> Default for Restored<C> {
    /// A server that has never run.
    fn default() -> Self {
        Self { hard_state: HardState::default(), entries: Vec::new() }
    }
}

impl<C> Restored<C> {
    /// Adds a write that followed all those before. Journals replay their content through this.
    pub fn replay(&mut self, write: Write<C>) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.entries.truncate(self.entries.partition_point(|entry| entry.index < from));
        }
        self.entries.extend(write.entries);
    }

    /// Whether a correct server could have written this.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let mut last = LogId::ZERO;
        for entry in &self.entries {
            if entry.index != last.index.next() || entry.term < last.term {
                let id = entry.id();
                return Err(ConfigError(format!("restored log: entry {id} cannot follow {last}")));
            }
            last = entry.id();
        }
        let current_term = self.hard_state.current_term;
        if last.term > current_term {
            return Err(ConfigError(format!(
                "restored log: its last entry {last} is of a later term than the stored {current_term}"
            )));
        }
        Ok(())
    }
}
