//! Why a node stopped.

use std::fmt;
use std::sync::Arc;

use super::storage_error::StorageError;
use super::worker_kind::WorkerKind;
use crate::types::{Index, LogId};

/// Why a node stopped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// It was asked to, or its last handle was dropped.
    Shutdown,
    /// A write to the journal failed. What it was to hold was never acknowledged; free the disk or
    /// replace it, then start again.
    JournalFailed(StorageError),
    /// The journal panicked.
    JournalPanicked {
        /// What the panic said.
        message: Arc<str>,
    },
    /// The state machine panicked. It will again after a restart, for it gets the same command:
    /// correct it first.
    StateMachinePanicked {
        /// The command that it was given.
        index: Index,
        /// What the panic said.
        message: Arc<str>,
    },
    /// The state machine [does not understand](super::StateMachine::understands) a committed
    /// command, so this server applies neither that command nor any after it. Nothing is lost:
    /// start a version of the program that understands it, on the same data.
    CommandNotUnderstood {
        /// The command. It is committed: other servers apply it.
        index: Index,
        /// What the state machine said.
        message: Arc<str>,
    },
    /// The state machine could not be restored from the snapshot that the leader sent.
    RestoreFailed(RestoreError),
    /// A thread of the node panicked outside of the application's code. This is a bug in this
    /// library: please report it. The data is whole, and the node can be started again.
    WorkerPanicked {
        /// Which thread.
        worker: WorkerKind,
        /// What the panic said.
        message: Arc<str>,
    },
    /// The runtime that drove the node ended, or its task panicked.
    Abandoned,
}

/// Why a state machine could not be restored from a snapshot.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RestoreError {
    /// The snapshot is damaged or cannot be read.
    Unreadable(StorageError),
    /// The state machine does not understand the snapshot: it returned
    /// [`NotUnderstood`](super::NotUnderstood). Start a version of the program that does, on the
    /// same data.
    NotUnderstood {
        /// The last entry that the snapshot includes.
        last: LogId,
        /// What the state machine said.
        message: Arc<str>,
    },
    /// The state machine did not take it, or panicked: does this version of it understand what the
    /// one wrote that took the snapshot?
    Refused {
        /// The last entry that the snapshot includes.
        last: LogId,
        /// What the state machine said.
        message: Arc<str>,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::NotUnderstood { last, message } => write!(
                f,
                "this version of the program does not understand the snapshot of {last}: {message}; start a version that does, on the \
                 same data"
            ),
            Self::Refused { last, message } => write!(
                f,
                "the state machine cannot be restored from the snapshot of {last}: {message}; start the version of the program that \
                 took it"
            ),
        }
    }
}

impl std::error::Error for RestoreError {}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("it was shut down"),
            Self::JournalFailed(error) => write!(f, "its journal failed: {error}"),
            Self::JournalPanicked { message } => write!(f, "its journal panicked: {message}"),
            Self::StateMachinePanicked { index, message } => {
                write!(f, "its state machine panicked at the command with index {index}: {message}")
            }
            Self::CommandNotUnderstood { index, message } => write!(
                f,
                "this version of the program does not understand the committed command with index {index}: {message}; the command was not \
                 skipped: start a version that understands it, on the same data"
            ),
            Self::RestoreFailed(error) => error.fmt(f),
            Self::WorkerPanicked { worker, message } => write!(
                f,
                "its thread for the {worker} panicked: {message}; please report this bug, and start the node again: its data is whole"
            ),
            Self::Abandoned => f.write_str("the runtime that drove it ended"),
        }
    }
}

/// The node has stopped: start it again, or ask another one.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Why.
    pub reason: StopReason,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the node has stopped: {}", self.reason)
    }
}

impl std::error::Error for Stopped {}
