//! One server on the stage. Nothing of it moves by itself.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::server::SimRaft;
use super::{Command, tell};
use crate::{Entry, Index, Instant, LogId, NodeId, Restored, SnapshotMeta, Write, WriteId};

/// A server on the stage, with its disk, its state machine and its clock.
#[derive(Debug)]
pub struct Host {
    pub(super) id: NodeId,
    /// None while it is down.
    pub(super) raft: Option<SimRaft<Command>>,
    /// Why it is down, if by its own decision.
    pub(super) stopped: bool,
    /// Counts its starts.
    pub(super) life: u64,
    pub(super) now: Instant,
    /// While true, it takes in what it is told, and neither ticks nor acts.
    pub(super) paused: bool,

    /// What the disk holds: what a restart would find.
    pub(super) stored: Restored<Command>,
    /// What the disk will hold once it has done all writes.
    pub(super) written: Restored<Command>,
    /// Writes that the disk has not done, in order.
    pub(super) writes: VecDeque<Write<Command>>,
    /// The last write that was done and not reported.
    pub(super) unreported: Option<WriteId>,
    /// While true, the disk does nothing by itself.
    pub(super) disk_held: bool,
    /// Whether the next write fails.
    pub(super) disk_fails: bool,

    /// Entries that the state machine was handed and has not applied.
    pub(super) handed: VecDeque<Entry<Command>>,
    /// The last entry that it was handed in this life.
    pub(super) handed_out: Index,
    pub(super) state_machine_held: bool,
    /// The commands that it has applied, in this life or in a snapshot that it began with.
    pub(super) applied: Vec<Command>,

    /// The snapshots on the disk.
    pub(super) snapshots: BTreeMap<LogId, Vec<u8>>,
    /// The snapshot being taken.
    pub(super) taking: Option<(SnapshotMeta, Vec<u8>)>,
    /// While true, a snapshot that is being taken is not done by itself.
    pub(super) snapshots_held: bool,
    /// What has come of a snapshot from the leader.
    pub(super) receiving: Vec<u8>,
}

impl Host {
    /// Its core, while it runs.
    pub fn raft(&self) -> Option<&SimRaft<Vec<u8>>> {
        self.raft.as_ref()
    }

    /// What its disk holds: what a restart would find.
    pub fn stored(&self) -> &Restored<Vec<u8>> {
        &self.stored
    }

    /// The writes that its disk has not done, in order.
    pub fn writes(&self) -> impl ExactSizeIterator<Item = &Write<Vec<u8>>> {
        self.writes.iter()
    }

    /// The commands that its state machine has applied, in this life or in a snapshot that it began
    /// with.
    pub fn applied(&self) -> &[Vec<u8>] {
        &self.applied
    }

    /// Whether it takes a snapshot that is not done.
    pub fn takes_snapshot(&self) -> bool {
        self.taking.is_some()
    }

    /// A server that has never run.
    pub(super) fn new(id: NodeId) -> Self {
        Self {
            id,
            raft: None,
            stopped: false,
            life: 0,
            now: Instant::ZERO,
            paused: false,
            stored: Restored::default(),
            written: Restored::default(),
            writes: VecDeque::new(),
            unreported: None,
            disk_held: false,
            disk_fails: false,
            handed: VecDeque::new(),
            handed_out: Index::ZERO,
            state_machine_held: false,
            applied: Vec::new(),
            snapshots: BTreeMap::new(),
            taking: None,
            snapshots_held: false,
            receiving: Vec::new(),
        }
    }

    /// The process is gone, and with it all that the disk has not done but its first `kept` writes.
    pub(super) fn end(&mut self, kept: usize) {
        self.raft = None;
        let writes = core::mem::take(&mut self.writes);
        writes.into_iter().take(kept).for_each(|write| self.stored.replay(write));
        self.written = self.stored.clone();
        self.unreported = None;
        self.disk_held = false;
        self.disk_fails = false;
        self.paused = false;
        self.handed.clear();
        self.handed_out = Index::ZERO;
        self.state_machine_held = false;
        self.applied.clear();
        self.taking = None;
        self.snapshots_held = false;
        self.receiving.clear();
    }

    /// The state machine begins with a snapshot that is on the disk.
    pub(super) fn restore(&mut self, last: LogId) -> Result<(), String> {
        self.handed.clear();
        self.handed_out = last.index;
        self.applied.clear();
        if last != LogId::ZERO {
            let found = self.snapshots.get(&last);
            let bytes = found.ok_or_else(|| format!("{} has no snapshot {last}", self.id))?;
            self.applied = decode(bytes);
        }
        Ok(())
    }

    /// What a snapshot of the state machine holds now.
    pub(super) fn encode(&self) -> Vec<u8> {
        self.applied.join(&b'\n')
    }

    /// The server's state in one line.
    pub(super) fn describe(&self) -> String {
        let Self { id, stored, writes, .. } = self;
        let disk = format!(
            "disk: {}, {}{}{}",
            tell::hard_state(&stored.hard_state),
            if stored.base == LogId::ZERO {
                String::new()
            } else {
                format!("after {} ", stored.base)
            },
            tell::entries(&stored.entries),
            match writes.len() {
                0 => String::new(),
                n => format!(", {n} to do: {}", describe_writes(writes)),
            }
        );
        let Some(raft) = &self.raft else {
            let how = if self.stopped { "stopped after a failed write" } else { "down" };
            return format!("{id}  {how}; {disk}");
        };
        let status = raft.status();
        let vote = status.voted_for.map_or("no vote".into(), |id| format!("vote for {id}"));
        let leader = status.leader.map_or("no leader".into(), |id| format!("leader {id}"));
        let state = format!(
            "{} in term {}, {vote}, {leader}; {}; log {}; commit {}, applied {}; {disk}; clock {}",
            tell::role(status.role),
            status.current_term,
            tell::membership(&status.membership),
            tell::entries(&self.written.entries),
            status.commit_index,
            tell::commands(&self.applied),
            self.now,
        );
        format!("{id}  {state}")
    }
}

fn decode(bytes: &[u8]) -> Vec<Command> {
    let commands = bytes.split(|byte| *byte == b'\n').filter(|command| !command.is_empty());
    commands.map(<[u8]>::to_vec).collect()
}

fn describe_writes(writes: &VecDeque<Write<Command>>) -> String {
    let words: Vec<_> = writes.iter().map(|write| format!("[{}]", tell::write(write))).collect();
    words.join(" ")
}

/// The entry at an index of a log that need not begin with the first.
pub(super) fn entry_at(log: &Restored<Command>, index: Index) -> Option<&Entry<Command>> {
    let at = log.entries.binary_search_by_key(&index, |entry| entry.index).ok()?;
    log.entries.get(at)
}

/// Whether a log holds that entry, or has compacted it; what was compacted was committed.
pub(super) fn holds(log: &Restored<Command>, id: LogId) -> bool {
    id.index <= log.base.index || entry_at(log, id.index).is_some_and(|entry| entry.id() == id)
}
