//! The names of a node's threads, and of what each of them may be doing.

use std::fmt;
use std::time::Instant;

use crate::types::Index;

/// One of a node's threads, beside the one that runs its loop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum WorkerKind {
    /// Makes writes durable.
    Journal,
    /// Applies commands, serves reads, restores snapshots.
    StateMachine,
    /// Reads and writes pieces of snapshots, and removes old ones.
    Snapshots,
    /// Writes out a captured state.
    Capture,
}

/// What a worker is doing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum WorkerTask {
    /// The journal appends writes and syncs.
    Write,
    /// The state machine applies the command with this index.
    Apply,
    /// The state machine serves a read.
    Read,
    /// The state machine is captured for the snapshot that ends at this index, or the captured
    /// state is written out.
    TakeSnapshot,
    /// The state machine is restored from the snapshot that ends at this index.
    Restore,
    /// A piece of a snapshot is read, to be sent.
    ReadSnapshot,
    /// A piece of a snapshot that the leader sends is written.
    WriteSnapshot,
    /// Snapshots that nothing needs any more are removed.
    RemoveSnapshots,
    /// The journal's thread waits for the threads of the snapshots before it gives up the
    /// directory, because they write to the same directory.
    Close,
}

/// What a worker of a node is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Which thread.
    pub worker: WorkerKind,
    /// What it is doing.
    pub task: WorkerTask,
    /// The entry that the task is about, if it is about one.
    pub index: Option<Index>,
    /// When the node's loop first saw the worker at this unit: up to a second late. With `serde`
    /// the span from then until now, under the name `busy_for`.
    #[cfg_attr(feature = "serde", serde(rename = "busy_for", serialize_with = "until_now"))]
    pub since: Instant,
}

#[cfg(feature = "serde")]
fn until_now<S: serde::Serializer>(since: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&since.elapsed(), serializer)
}

impl fmt::Display for WorkerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.worker, self.task)?;
        if let Some(index) = self.index {
            write!(f, ", index {index}")?;
        }
        write!(f, ", for {:?}", self.since.elapsed())
    }
}

impl WorkerKind {
    pub(super) fn thread_name(self) -> &'static str {
        match self {
            Self::Journal => "raft-journal",
            Self::StateMachine => "raft-state-machine",
            Self::Snapshots => "raft-snapshots",
            Self::Capture => "raft-take-snapshot",
        }
    }
}

impl WorkerTask {
    pub(super) const ALL: [Self; 9] = [
        Self::Write,
        Self::Apply,
        Self::Read,
        Self::TakeSnapshot,
        Self::Restore,
        Self::ReadSnapshot,
        Self::WriteSnapshot,
        Self::RemoveSnapshots,
        Self::Close,
    ];

    pub(super) fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

impl fmt::Display for WorkerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Journal => "journal",
            Self::StateMachine => "state machine",
            Self::Snapshots => "snapshots",
            Self::Capture => "capture",
        })
    }
}

impl fmt::Display for WorkerTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "writing",
            Self::Apply => "applying",
            Self::Read => "reading",
            Self::TakeSnapshot => "taking the snapshot",
            Self::Restore => "restoring the snapshot",
            Self::ReadSnapshot => "reading the snapshot",
            Self::WriteSnapshot => "writing the snapshot",
            Self::RemoveSnapshots => "removing old snapshots",
            Self::Close => "waiting for the snapshots' threads",
        })
    }
}
