//! Why a node stopped.

use std::fmt;
use std::sync::Arc;

use super::storage_error::StorageError;
use super::versions::{Versions, not_understood};
use super::worker_kind::WorkerKind;
use crate::types::{Index, LogId};

/// Why a node stopped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// The application asked the node to stop, or dropped its last handle.
    Shutdown,
    /// A write to the journal failed. The node never acknowledged what that write held. Free the
    /// disk or replace it, then start the node again.
    JournalFailed(StorageError),
    /// The journal panicked.
    JournalPanicked {
        /// What the panic said.
        message: Arc<str>,
    },
    /// The state machine panicked. It will panic again after a restart, because it gets the same
    /// command: correct it first.
    StateMachinePanicked {
        /// The index of the command that the state machine was given.
        index: Index,
        /// What the panic said.
        message: Arc<str>,
    },
    /// The state machine [does not understand](super::StateMachine::understands) a committed
    /// command, so this server applies neither that command nor any command after it. Nothing is
    /// lost: start a version of the program that understands the command, on the same data.
    CommandNotUnderstood {
        /// The index of the command. The command is committed, and other servers apply it.
        index: Index,
        /// What the state machine said.
        message: Arc<str>,
    },
    /// A version of the application came into force that this program does not understand. Nothing
    /// is lost: start a program that understands it, on the same data.
    VersionNotUnderstood {
        /// The version in force.
        version: u32,
        /// What this program [understands](super::NodeConfig::versions).
        versions: Versions,
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
    /// The runtime that drove the node ended, or the task that drove it panicked.
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
    /// The state machine did not take the snapshot, or panicked. Does this version of the state
    /// machine understand what the version wrote that took the snapshot?
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

impl std::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error) => error.source(),
            Self::NotUnderstood { .. } | Self::Refused { .. } => None,
        }
    }
}

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
            Self::VersionNotUnderstood { version, versions } => {
                not_understood(f, *version, *versions)
            }
            Self::RestoreFailed(error) => error.fmt(f),
            Self::WorkerPanicked { worker, message } => write!(
                f,
                "its thread for the {worker} panicked: {message}; please report this bug, and start the node again: its data is whole"
            ),
            Self::Abandoned => f.write_str("the runtime that drove it ended"),
        }
    }
}

impl std::error::Error for StopReason {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::JournalFailed(error) => Some(error),
            Self::RestoreFailed(error) => error.source(),
            Self::Shutdown
            | Self::JournalPanicked { .. }
            | Self::StateMachinePanicked { .. }
            | Self::CommandNotUnderstood { .. }
            | Self::VersionNotUnderstood { .. }
            | Self::WorkerPanicked { .. }
            | Self::Abandoned => None,
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

impl std::error::Error for Stopped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.reason)
    }
}
