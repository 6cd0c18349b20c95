//! A host's snapshots: those that it holds, the one that it is asked to take, and the one that
//! comes from a leader.

use std::collections::{BTreeMap, VecDeque};

use raft_core::{InstallId, LogId, ReadSnapshot, SnapshotMeta, WriteSnapshot};

/// How many pieces the host is about to read; older requests it forgets.
const READS_MAX: usize = 4;
/// How many snapshots it remembers; older ones it can no longer read.
const HELD_MAX: usize = 3;
/// The length of every snapshot, in bytes.
pub(crate) const SNAPSHOT_BYTES: u64 = 25;

#[derive(Default)]
pub(crate) struct Files {
    /// Durable and whole.
    held: BTreeMap<LogId, SnapshotMeta>,
    /// It is to be taken.
    pub(crate) taking: Option<SnapshotMeta>,
    /// Pieces to be read.
    pub(crate) reads: VecDeque<ReadSnapshot>,
    /// Pieces to be written.
    pub(crate) writes: VecDeque<WriteSnapshot<Vec<u8>>>,
    /// The snapshot that comes, and up to where it is written.
    incoming: Option<(InstallId, SnapshotMeta, u64)>,
}

impl Files {
    /// A restart: files stay, what was under way is gone.
    pub(crate) fn on_crash(&mut self) {
        *self = Self { held: core::mem::take(&mut self.held), ..Self::default() };
    }

    pub(crate) fn hold(&mut self, snapshot: SnapshotMeta) {
        self.held.insert(snapshot.last, snapshot);
        while self.held.len() > HELD_MAX {
            self.held.pop_first();
        }
    }

    pub(crate) fn holds(&self, snapshot: &SnapshotMeta) -> bool {
        self.held.get(&snapshot.last) == Some(snapshot)
    }

    pub(crate) fn held(&self, last: LogId) -> Option<&SnapshotMeta> {
        self.held.get(&last)
    }

    pub(crate) fn on_read(&mut self, read: ReadSnapshot) {
        if self.reads.len() == READS_MAX {
            self.reads.pop_front();
        }
        self.reads.push_back(read);
    }

    /// The end of what has come of the snapshot that a leader sends.
    pub(crate) fn incoming_bytes(&self) -> u64 {
        self.writes.back().map_or_else(
            || self.incoming.as_ref().map_or(0, |(.., bytes)| *bytes),
            |write| write.offset + write.chunk.len() as u64,
        )
    }

    pub(crate) fn incoming(&self) -> Option<LogId> {
        let waiting = self.writes.back().map(|write| write.snapshot.last);
        waiting.or(self.incoming.as_ref().map(|(_, snapshot, _)| snapshot.last))
    }

    /// Writes the oldest piece. Returns what to answer.
    pub(crate) fn write(&mut self) -> Option<(InstallId, u64)> {
        let WriteSnapshot { install, snapshot, offset, chunk, done, .. } =
            self.writes.pop_front()?;
        let written = self.incoming.take().filter(|(of, ..)| *of == install);
        let written = written.map_or(0, |(.., bytes)| bytes);
        assert!(offset == 0 || offset == written, "a piece at {offset} behind {written}");
        let end = offset + chunk.len() as u64;
        if done {
            self.hold(snapshot);
        } else {
            self.incoming = Some((install, snapshot, end));
        }
        Some((install, end))
    }

    /// The oldest piece cannot be written: nothing of that snapshot is left.
    pub(crate) fn fail_to_write(&mut self) -> Option<InstallId> {
        let install = self.writes.pop_front()?.install;
        self.writes.retain(|write| write.install != install);
        self.incoming = None;
        Some(install)
    }
}
