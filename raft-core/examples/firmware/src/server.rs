//! A server between a line, a flash chip and a clock: the core, its journal, its state machine, and
//! what it refuses for want of memory.
//!
//! The state machine counts commands and keeps a digest of them, so that eight bytes say whether
//! two servers did the same.

use core::fmt;

use embedded_storage::nor_flash::NorFlash;
use raft_core::{
    ConfigError, Index, Instant, LogId, Message, NodeId, Output, Payload, Raft, ReadSnapshot,
    SnapshotMeta, WriteSnapshot, codec,
};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;

use crate::bounds;
use crate::journal::{Journal, JournalError, Opened};
use crate::limits::{self, SNAPSHOT_BYTES_MAX};
use crate::report::digest;
use crate::snapshot;
use crate::{Command, command};

/// What one message and all that follows from it may take of the heap, in one piece. With less left
/// nothing is heard; `make.sh bounds` measures how much it takes at most.
pub const RESERVE_BYTES: usize = 1536;

/// One server of the cluster 1, 2, 3.
pub struct Server<F> {
    raft: Raft<Command, Pcg32>,
    journal: Journal<F>,
    state: State,
    counts: Counts,
}

/// The state machine: how many commands there were, and a digest of them all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct State {
    /// The last entry applied.
    pub applied: u64,
    /// How many of those held commands.
    pub commands: u32,
    /// The digest of those commands: see [`digest`].
    pub digest: u32,
}

/// What came in and could not be done, and what was done about a long log; the counts only grow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Bodies that held no message, or one of more items than any server sends.
    pub undecodable: u32,
    /// Messages dropped because the memory would not have sufficed.
    pub starved: u32,
    /// Proposals refused, because another node leads, or for want of memory.
    pub refused: u32,
    /// Snapshots taken.
    pub taken: u32,
    /// Snapshots installed in place of the log.
    pub installed: u32,
}

/// Why a server cannot start, or must not go on.
#[derive(Debug)]
pub enum Stopped<E> {
    /// The journal failed.
    Journal(JournalError<E>),
    /// The journal holds what no server could have written.
    Restored(ConfigError),
    /// The snapshot in use is none of this cluster.
    Snapshot(LogId),
}

impl<E> From<JournalError<E>> for Stopped<E> {
    fn from(error: JournalError<E>) -> Self {
        Self::Journal(error)
    }
}

impl<E: fmt::Debug> fmt::Display for Stopped<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(error) => error.fmt(f),
            // The texts of all that can be wrong would take 3.4 KB of flash.
            Self::Restored(_) => f.write_str("no server starts with what the journal holds"),
            Self::Snapshot(last) => write!(f, "the snapshot {last} is none of this cluster"),
        }
    }
}

impl State {
    fn encode(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.commands.to_le_bytes());
        bytes[4..].copy_from_slice(&self.digest.to_le_bytes());
        bytes
    }

    /// The state in a snapshot's bytes.
    fn decode(bytes: &[u8], last: LogId) -> Option<Self> {
        let state: [u8; 8] = snapshot::decode(bytes, last)?.try_into().ok()?;
        let [commands @ .., _, _, _, _] = state;
        let [_, _, _, _, digest @ ..] = state;
        let (commands, digest) = (u32::from_le_bytes(commands), u32::from_le_bytes(digest));
        Some(Self { applied: last.index.get(), commands, digest })
    }
}

impl<F: NorFlash> Server<F> {
    /// Starts where its journal ends.
    ///
    /// # Errors
    ///
    /// If what the journal holds makes no server.
    pub fn new(id: NodeId, opened: Opened<F>, seed: u64) -> Result<Self, Stopped<F::Error>> {
        let Opened { mut journal, restored, .. } = opened;
        let mut state = State::default();
        if let Some(last) = restored.snapshot.as_ref().map(|snapshot| snapshot.last) {
            if last > LogId::ZERO {
                let bytes = journal.snapshot(last)?.unwrap_or_default();
                state = State::decode(bytes, last).ok_or(Stopped::Snapshot(last))?;
            }
        }
        let config = limits::config(id, [1, 2, 3].map(NodeId::new));
        let raft = Raft::new(config, restored, Pcg32::seed_from_u64(seed));
        Ok(Self {
            raft: raft.map_err(Stopped::Restored)?,
            journal,
            state,
            counts: Counts::default(),
        })
    }

    /// Takes a message off the line. `has_memory` says whether the heap has [`RESERVE_BYTES`] left.
    pub fn hear(&mut self, body: &[u8], has_memory: bool) {
        let count = if bounds::items(body).is_none_or(|items| items > bounds::ITEMS_MAX) {
            &mut self.counts.undecodable
        } else if !has_memory {
            &mut self.counts.starved
        } else {
            match codec::decode_message(body, command) {
                Ok(message) if bounds::fits(&message, self.raft.log_range()) => {
                    return self.raft.step(message);
                }
                Ok(_) => &mut self.counts.starved,
                Err(_) => &mut self.counts.undecodable,
            }
        };
        *count = count.saturating_add(1);
    }

    /// Proposes a command, if this server leads and has room for it.
    pub fn propose(&mut self, command: &[u8], has_memory: bool) {
        if !has_memory || self.raft.propose(command.into()).is_err() {
            self.counts.refused = self.counts.refused.saturating_add(1);
        }
    }

    /// Says what time it is, and does all that is to be done. `send` puts a message on the line.
    ///
    /// # Errors
    ///
    /// The server must stop. What depends on a write that failed has not been sent, and must not
    /// be.
    pub fn turn(
        &mut self,
        now: Instant,
        mut send: impl FnMut(NodeId, &[u8]),
    ) -> Result<(), Stopped<F::Error>> {
        self.raft.tick(now);
        while let Some(output) = self.raft.poll_outbox() {
            match output {
                Output::Persist(write) => {
                    self.journal.write(&write)?;
                    self.raft.persisted(write.id);
                }
                Output::Send(message) => send(message.to, self.encode(&message)),
                Output::Apply { from, through } => self.apply(from, through),
                Output::TakeSnapshot(snapshot) => self.take_snapshot(snapshot)?,
                Output::ReadSnapshot(piece) => self.read_snapshot(piece)?,
                Output::WriteSnapshot(piece) => self.write_snapshot(&piece)?,
                Output::Restore(snapshot) => self.restore(snapshot.last)?,
                // Who leads can be asked; reads and members are not this node's business.
                _ => {}
            }
        }
        Ok(())
    }

    /// The core.
    pub fn raft(&self) -> &Raft<Command, Pcg32> {
        &self.raft
    }

    /// The state machine.
    pub fn state(&self) -> State {
        self.state
    }

    /// What came in and could not be done.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How often the journal was rewritten.
    pub fn rewrites(&self) -> u32 {
        self.journal.rewrites()
    }

    /// The power fails: what is left.
    pub fn into_flash(self) -> F {
        self.journal.into_flash()
    }

    fn encode(&mut self, message: &Message<Command>) -> &[u8] {
        let encoded = self.journal.buffer();
        codec::encode_message(message, encoded);
        encoded
    }

    fn apply(&mut self, from: Index, through: Index) {
        for entry in self.raft.entries(from, through) {
            self.state.applied = entry.index.get();
            if let Payload::Command(command) = &entry.payload {
                self.state.commands = self.state.commands.wrapping_add(1);
                self.state.digest = digest(self.state.digest, command);
            }
        }
        self.raft.applied(through);
    }

    /// Writes the state down; the log before it goes.
    fn take_snapshot(&mut self, snapshot: SnapshotMeta) -> Result<(), Stopped<F::Error>> {
        let last = snapshot.last;
        let state = self.state.encode();
        self.journal.write_snapshot(last, |out| snapshot::encode(&snapshot, &state, out))?;
        self.raft.snapshot_taken(last.index);
        self.counts.taken = self.counts.taken.saturating_add(1);
        Ok(())
    }

    /// Sends the snapshot to a server that needs what the log no longer holds. All of it is one
    /// piece.
    fn read_snapshot(&mut self, piece: ReadSnapshot) -> Result<(), Stopped<F::Error>> {
        let ReadSnapshot { to, snapshot, offset, .. } = piece;
        match self.journal.snapshot(snapshot)?.filter(|_| offset == 0) {
            Some(bytes) => self.raft.snapshot_read(to, snapshot, 0, bytes.into(), true),
            None => self.raft.snapshot_unreadable(to, snapshot),
        }
        Ok(())
    }

    /// Keeps a snapshot that the leader sends. The core then has it take the log's place.
    fn write_snapshot(&mut self, piece: &WriteSnapshot<Command>) -> Result<(), Stopped<F::Error>> {
        let (last, bytes) = (piece.snapshot.last, &*piece.chunk);
        // With the same limits everywhere it comes whole.
        let is_whole = piece.offset == 0
            && piece.done
            && bytes.len() <= SNAPSHOT_BYTES_MAX
            && State::decode(bytes, last).is_some();
        if is_whole {
            self.journal.write_snapshot(last, |out| out.extend_from_slice(bytes))?;
            self.raft.snapshot_written(piece.install, bytes.len() as u64);
        } else {
            self.raft.snapshot_unwritable(piece.install);
        }
        Ok(())
    }

    /// Takes the state of the snapshot that has taken the log's place.
    fn restore(&mut self, last: LogId) -> Result<(), Stopped<F::Error>> {
        let bytes = self.journal.snapshot(last)?.unwrap_or_default();
        self.state = State::decode(bytes, last).ok_or(Stopped::Snapshot(last))?;
        self.raft.applied(last.index);
        self.counts.installed = self.counts.installed.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
