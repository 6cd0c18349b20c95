//! What the core asks of its host.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::checkpoint::stored;
use crate::config_error::{ConfigError, ConfigFault};
use crate::entries::{Entries, Entry};
use crate::error::ProposeError;
use crate::membership::Membership;
use crate::message::{Message, SnapshotMeta};
use crate::role::Role;
use crate::types::{HardState, Index, InstallId, LogId, NodeId, ProposalId, ReadId, Term, WriteId};

/// One thing for the host to do. Take them in order, from
/// [`Raft::poll_outbox`](crate::Raft::poll_outbox) until `None`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Output<C> {
    /// Make this durable, after all writes before it; then call
    /// [`Raft::persisted`](crate::Raft::persisted). If it fails, stop the node: nothing that
    /// depends on the write has left, and nothing may.
    Persist(Write<C>),
    /// Send this. It may be lost, repeated or overtaken by others. What it promises is durable
    /// already.
    Send(Message<C>),
    /// Apply these entries to the state machine: committed, durable here, each once in the life of
    /// the process, without gaps. [`Raft::entries`](crate::Raft::entries) lends them; a host that
    /// applies them later clones what it needs. Then call [`Raft::applied`](crate::Raft::applied).
    Apply {
        /// The first entry.
        from: Index,
        /// The last entry.
        through: Index,
    },
    /// Take a snapshot of the state machine (§7) as the entries handed out so far have made it,
    /// while the node works on. Once it is durable, call
    /// [`Raft::snapshot_taken`](crate::Raft::snapshot_taken); if it cannot be had,
    /// [`Raft::snapshot_failed`](crate::Raft::snapshot_failed). A host without snapshots ignores
    /// this.
    TakeSnapshot(SnapshotMeta),
    /// Read a piece of a snapshot, to be sent to a follower; then call
    /// [`Raft::snapshot_read`](crate::Raft::snapshot_read).
    ReadSnapshot(ReadSnapshot),
    /// Write a piece of a snapshot that the leader sends, apart from the one in use; then call
    /// [`Raft::snapshot_written`](crate::Raft::snapshot_written). Pieces follow each other without
    /// gaps; offset 0 begins anew. What the last one completes must be durable before it is
    /// answered for. If it cannot be written, call
    /// [`Raft::snapshot_unwritable`](crate::Raft::snapshot_unwritable). A snapshot of no bytes is
    /// one empty piece.
    WriteSnapshot(WriteSnapshot<C>),
    /// Replace the state of the state machine by this snapshot, which is durable here, before
    /// anything else is applied; then call [`Raft::applied`](crate::Raft::applied) with its last
    /// index. No other restore is asked for before that; a host that takes its time keeps this
    /// snapshot until then, also when a newer one is in use.
    Restore(SnapshotMeta),
    /// These are the members now (§6): connections may be opened and closed.
    MembershipChanged(Membership),
    /// The read may be served from any state that includes `index`. All entries up to it were
    /// handed out before. The core counts it no longer: a host that does not serve it at once
    /// bounds how many wait.
    ReadReady {
        /// The read, as [`Raft::read`](crate::Raft::read) named it.
        id: ReadId,
        /// What the state must include.
        index: Index,
    },
    /// What became of a command that was [forwarded](crate::Raft::forward).
    Forwarded {
        /// The command, as [`Raft::forward`](crate::Raft::forward) named it.
        id: ProposalId,
        /// The answer.
        outcome: ForwardOutcome<C>,
    },
    /// Leadership was lost before the read was confirmed: ask the new leader.
    ReadLost {
        /// The read, as [`Raft::read`](crate::Raft::read) named it.
        id: ReadId,
    },
    /// Role, term or known leader are no longer what the last `RoleChanged` said. What lay between
    /// may be left out.
    RoleChanged {
        /// What this server is now.
        role: Role,
        /// Its current term.
        term: Term,
        /// The leader of that term, if known.
        leader: Option<NodeId>,
    },
}

/// What became of a command that was forwarded to the leader. See [`Output::Forwarded`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ForwardOutcome<C> {
    /// The leader appended it, and has yet to commit it: if the entry that is applied at this index
    /// has this term, it is the command, and else the command is lost. No entry at this index was
    /// handed out before.
    Appended(LogId),
    /// The command was certainly not appended on any server, and comes back.
    Refused(ProposeError<C>),
    /// This server can no longer tell: the leader is gone or gave no answer in time, or its answer
    /// came when an entry at that index had been handed out. The command may have been committed,
    /// or may yet be.
    Unknown,
}

stored! { enum ForwardOutcome<C> { 0 Appended { 0: a }, 1 Refused { 0: a }, 2 Unknown {}, } }

/// One atomic write. After a crash either all of it is there or none; and none of a later one if
/// this one is missing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Write<C> {
    /// Names the write in [`Raft::persisted`](crate::Raft::persisted).
    pub id: WriteId,
    /// Replaces the stored term and vote.
    pub hard_state: Option<HardState>,
    /// From here on a restart begins with this snapshot, which is durable already; or, if it ends
    /// at [`LogId::ZERO`], with an empty state and these members. A stored log that does not hold
    /// the snapshot's last entry is replaced by it: nothing of that log remains.
    pub snapshot: Option<Box<SnapshotMeta>>,
    /// Stored entries up to this one are needed no more, and may be deleted.
    ///
    /// Boxed as the snapshot is: both are rare, and a [`Write`] is moved with every entry.
    pub compact_to: Option<Box<LogId>>,
    /// Removes this entry and all that follow it from the stored log, before `entries` are
    /// appended.
    pub truncate_from: Option<Index>,
    /// Entries to append, in order and without a gap.
    pub entries: Entries<C>,
}

impl<C> Default for Write<C> {
    /// A write of nothing.
    fn default() -> Self {
        Self {
            id: WriteId::default(),
            hard_state: None,
            snapshot: None,
            compact_to: None,
            truncate_from: None,
            entries: Entries::new(),
        }
    }
}

/// Which piece of a snapshot to read. See [`Output::ReadSnapshot`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct ReadSnapshot {
    /// The follower it is for.
    pub to: NodeId,
    /// The snapshot.
    pub snapshot: LogId,
    /// Where the piece begins, in bytes.
    pub offset: u64,
    /// The most bytes to read:
    /// [`Config::snapshot_chunk_bytes`](crate::Config::snapshot_chunk_bytes). At least one, unless
    /// the snapshot ends before.
    pub bytes_max: usize,
}

/// Which piece of a snapshot to write. See [`Output::WriteSnapshot`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct WriteSnapshot<C> {
    /// The attempt to receive it, which [`Raft::snapshot_written`](crate::Raft::snapshot_written)
    /// names: two attempts at one snapshot, from two leaders, may cut it into other pieces.
    pub install: InstallId,
    /// The snapshot.
    pub snapshot: SnapshotMeta,
    /// Where the piece begins, in bytes.
    pub offset: u64,
    /// The piece.
    pub chunk: C,
    /// Whether the snapshot ends with it.
    pub done: bool,
}

stored! { struct WriteSnapshot<C> { install, snapshot, offset, chunk, done } }

/// What a server finds on its disk when it starts: the sum of all its writes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Restored<C> {
    /// The last term and vote written.
    pub hard_state: HardState,
    /// The last snapshot written; none if the server is new, or has joined a cluster and holds its
    /// log from the beginning. The host gives it to its state machine before the server starts.
    pub snapshot: Option<SnapshotMeta>,
    /// The position before the first entry of the log.
    pub base: LogId,
    /// The log.
    pub entries: Vec<Entry<C>>,
}

stored! { struct Restored<C> { hard_state, snapshot, base, entries } }

impl<C> Default for Restored<C> {
    /// A server that has never run.
    fn default() -> Self {
        Self {
            hard_state: HardState::default(),
            snapshot: None,
            base: LogId::ZERO,
            entries: Vec::new(),
        }
    }
}

impl<C> Restored<C> {
    /// Adds a write that followed all those before. Journals replay their content through this.
    pub fn replay(&mut self, write: Write<C>) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(snapshot) = write.snapshot {
            if !self.holds(snapshot.last) {
                self.entries.clear();
                self.base = snapshot.last;
            }
            self.snapshot = Some(*snapshot);
        }
        if let Some(base) = write.compact_to.filter(|base| base.index > self.base.index) {
            self.entries.drain(..self.entries.partition_point(|entry| entry.index <= base.index));
            self.base = *base;
        }
        if let Some(from) = write.truncate_from {
            self.entries.truncate(self.entries.partition_point(|entry| entry.index < from));
        }
        self.entries.extend(write.entries);
    }

    /// Whether a server has run with this disk. A stored term is a past, and so is a log or a
    /// snapshot: then the disk decides who the members are, and not what the server is told at its
    /// start.
    pub(crate) fn has_run(&self) -> bool {
        self.hard_state.current_term > Term::ZERO
            || self.snapshot.is_some()
            || !self.entries.is_empty()
    }

    /// Whether the log holds that entry, or begins right behind it.
    fn holds(&self, id: LogId) -> bool {
        let at = self.entries.partition_point(|entry| entry.index < id.index);
        id == self.base || self.entries.get(at).is_some_and(|entry| entry.id() == id)
    }

    /// Whether a correct server could have written this.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let snapshot = self.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        if !self.holds(snapshot) {
            return Err(ConfigFault::LogBehindSnapshot { base: self.base, snapshot }.into());
        }
        let mut last = self.base;
        for entry in &self.entries {
            if entry.index != last.index.next() || entry.term < last.term {
                return Err(ConfigFault::LogOutOfOrder { entry: entry.id(), last }.into());
            }
            last = entry.id();
        }
        let current_term = self.hard_state.current_term;
        if last.term > current_term {
            return Err(ConfigFault::LogOfLaterTerm { last, current_term }.into());
        }
        Ok(())
    }
}
