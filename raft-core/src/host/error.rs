//! Errors of a running node: one enum per verb, each saying what to do next. Why a node stopped is
//! a [`StopReason`].

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::storage_error::StorageError;
use super::versions::{Versions, not_understood};
use crate::config_error::ConfigError;
use crate::error::{self, ReadRefused, TransferRefused};
use crate::types::NodeId;

pub use super::change_error::ChangeError;
pub use super::stop_reason::{RestoreError, StopReason, Stopped};

pub(super) const WAITS_FOR_ITSELF: &str = "the state machine waits for its own node, and so for itself: return from apply, read, snapshot or \
     restore first, and ask from another thread";

/// An error that may name the leader, and where it is reached.
pub(super) trait NamesLeader {
    /// The leader, and the place for its address.
    fn leader_mut(&mut self) -> Option<(NodeId, &mut Option<Arc<str>>)>;
}

macro_rules! names_leader {
    ($($error:ident,)+) => {$(
        impl NamesLeader for $error {
            fn leader_mut(&mut self) -> Option<(NodeId, &mut Option<Arc<str>>)> {
                if let Self::NotLeader { leader: Some(leader), address, .. } = self {
                    return Some((*leader, address));
                }
                None
            }
        }
    )+};
}

names_leader! { ProposeError, ChangeError, TransferError, }

pub(super) fn not_leader(
    f: &mut fmt::Formatter<'_>,
    leader: Option<NodeId>,
    address: Option<&str>,
) -> fmt::Result {
    error::not_leader(f, leader)?;
    if let (Some(_), Some(address)) = (leader, address) {
        write!(f, ", at {address}")?;
    }
    Ok(())
}

/// Why a node did not start. Nothing of it is left running.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// No node can run with this configuration, or with what the journal holds.
    Config(ConfigError),
    /// The journal could not be read.
    Journal(StorageError),
    /// A version of the application is in force that this program does not understand: start one
    /// that does, on the same data.
    VersionNotUnderstood {
        /// The version in force, as the journal says.
        version: u32,
        /// What this program [understands](super::NodeConfig::versions).
        versions: Versions,
    },
    /// The state machine could not be restored from the snapshot that the journal begins with.
    Restore(RestoreError),
    /// The transport could not begin to receive.
    Transport(io::Error),
    /// The operating system gave no thread, no timer or no random seed.
    System(io::Error),
    /// The recorder could not begin its recording.
    Recorder(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "the node cannot run like this: {error}"),
            Self::Journal(error) => error.fmt(f),
            Self::VersionNotUnderstood { version, versions } => {
                not_understood(f, *version, *versions)
            }
            Self::Restore(error) => error.fmt(f),
            Self::Transport(error) => write!(f, "the transport cannot receive: {error}"),
            Self::System(error) => write!(f, "the operating system refused: {error}"),
            Self::Recorder(error) => write!(f, "the recorder cannot begin: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            // Their texts are this error's own.
            Self::Journal(error) => error.source(),
            Self::Restore(error) => error.source(),
            Self::VersionNotUnderstood { .. } => None,
            Self::Transport(error) | Self::System(error) | Self::Recorder(error) => Some(error),
        }
    }
}

/// Why a proposal was not answered. If an error returns the command, the command was certainly not
/// appended on any server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProposeError {
    /// Only the leader accepts commands: send it there.
    NotLeader {
        /// The leader of the current term, if this node knows it.
        leader: Option<NodeId>,
        /// Where the other nodes reach that leader, if this node knows it.
        address: Option<Arc<str>>,
        /// The command.
        command: Bytes,
    },
    /// The command is longer than [`Config::command_bytes_max`](crate::Config::command_bytes_max):
    /// split it.
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
        /// The command.
        command: Bytes,
    },
    /// The log has reached [`Config::log_bytes_max`](crate::Config::log_bytes_max): try again once
    /// it has been compacted.
    LogFull {
        /// The limit in bytes.
        bytes_max: usize,
        /// The command.
        command: Bytes,
    },
    /// [`Config::uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max) bytes wait to be
    /// committed: try again when some are.
    TooManyUncommitted {
        /// The limit in bytes.
        bytes_max: usize,
        /// The command.
        command: Bytes,
    },
    /// More requests wait than [`NodeConfig`](super::NodeConfig) allows: try again a little later.
    Busy {
        /// The command.
        command: Bytes,
    },
    /// The node lost its leadership before it knew that the command was committed.
    LeadershipLost {
        /// Whether another leader may yet commit the command. If so, propose the command again only
        /// if it does no harm twice.
        may_commit: bool,
    },
    /// The node forwarded the command to its leader, and has lost track of it: the leader was lost
    /// or gave no answer in time, or the entry was part of a snapshot or applied before the answer
    /// came.
    ForwardLost {
        /// Whether the command may have been committed, or may yet be. If so, propose it again only
        /// if it does no harm twice.
        may_commit: bool,
    },
    /// The state machine waits for its own node from inside of a call, and so for itself: return
    /// first, and propose from another thread. The node has taken the command, which may be
    /// committed.
    WaitsForItself,
    /// The command cannot be encoded, by the decision of its own type.
    NotEncodable {
        /// What the encoder said.
        message: Arc<str>,
    },
    /// The node has stopped: start it again, or ask another one.
    Stopped {
        /// Why.
        reason: StopReason,
        /// The command, if it was certainly not appended. If there is none, the command may yet be
        /// committed.
        command: Option<Bytes>,
    },
}

impl ProposeError {
    /// Whether the command may have been committed, or may yet be. If not, it is safe to propose it
    /// again.
    pub fn may_commit(&self) -> bool {
        match self {
            Self::NotLeader { .. }
            | Self::TooLarge { .. }
            | Self::LogFull { .. }
            | Self::TooManyUncommitted { .. }
            | Self::Busy { .. }
            | Self::NotEncodable { .. } => false,
            Self::LeadershipLost { may_commit } | Self::ForwardLost { may_commit } => *may_commit,
            Self::WaitsForItself => true,
            Self::Stopped { command, .. } => command.is_none(),
        }
    }

    /// The command, if it comes back.
    pub fn into_command(self) -> Option<Bytes> {
        match self {
            Self::NotLeader { command, .. }
            | Self::TooLarge { command, .. }
            | Self::LogFull { command, .. }
            | Self::TooManyUncommitted { command, .. }
            | Self::Busy { command } => Some(command),
            Self::LeadershipLost { .. }
            | Self::ForwardLost { .. }
            | Self::WaitsForItself
            | Self::NotEncodable { .. } => None,
            Self::Stopped { command, .. } => command,
        }
    }
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader, address, .. } => not_leader(f, *leader, address.as_deref()),
            Self::TooLarge { bytes, bytes_max, .. } => {
                write!(f, "the command has {bytes} bytes, more than the {bytes_max} allowed")
            }
            Self::LogFull { bytes_max, .. } => {
                write!(f, "the log has reached its limit of {bytes_max} bytes")
            }
            Self::TooManyUncommitted { bytes_max, .. } => {
                write!(f, "more than {bytes_max} bytes wait to be committed")
            }
            Self::Busy { .. } => f.write_str("too many requests wait already"),
            Self::LeadershipLost { may_commit: true } => {
                f.write_str("leadership was lost; the command may yet be committed")
            }
            Self::LeadershipLost { may_commit: false } => {
                f.write_str("leadership was lost; the command was not committed")
            }
            Self::ForwardLost { may_commit: true } => f.write_str(
                "the node forwarded the command and lost track of it; the command may be committed",
            ),
            Self::ForwardLost { may_commit: false } => {
                f.write_str("the node forwarded the command; the command was not committed")
            }
            Self::WaitsForItself => f.write_str(WAITS_FOR_ITSELF),
            Self::NotEncodable { message } => {
                write!(f, "the command cannot be encoded: {message}")
            }
            Self::Stopped { reason, command: Some(_) } => {
                write!(f, "the node has stopped: {reason}; the command was not appended")
            }
            Self::Stopped { reason, command: None } => {
                write!(f, "the node has stopped: {reason}; the command may yet be committed")
            }
        }
    }
}

impl std::error::Error for ProposeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stopped { reason, .. } => Some(reason),
            Self::NotLeader { .. }
            | Self::TooLarge { .. }
            | Self::LogFull { .. }
            | Self::TooManyUncommitted { .. }
            | Self::Busy { .. }
            | Self::LeadershipLost { .. }
            | Self::ForwardLost { .. }
            | Self::NotEncodable { .. }
            | Self::WaitsForItself => None,
        }
    }
}

impl From<error::ProposeError<Bytes>> for ProposeError {
    fn from(error: error::ProposeError<Bytes>) -> Self {
        match error {
            error::ProposeError::NotLeader { leader, command } => {
                Self::NotLeader { leader, address: None, command }
            }
            error::ProposeError::TooLarge { bytes, bytes_max, command } => {
                Self::TooLarge { bytes, bytes_max, command }
            }
            error::ProposeError::LogFull { bytes_max, command } => {
                Self::LogFull { bytes_max, command }
            }
            error::ProposeError::TooManyUncommitted { bytes_max, command } => {
                Self::TooManyUncommitted { bytes_max, command }
            }
            // The host lets these wait for the end of the transfer, up to its limit.
            error::ProposeError::Transferring { command, .. }
            | error::ProposeError::TooManyForwarded { command } => Self::Busy { command },
        }
    }
}

impl From<Stopped> for ProposeError {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped { reason: stopped.reason, command: None }
    }
}

/// Why a read was not answered. A read changes nothing, so it may always be asked again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// Every node answers reads, but the leader must confirm them, and this node knows no leader at
    /// present: try again after the next election, or ask another node.
    NoLeader,
    /// Too many requests wait already: try again a little later.
    Busy,
    /// The node lost its leadership before it could be sure of its answer: ask again.
    LeadershipLost,
    /// The closure that reads panicked.
    Panicked {
        /// What the panic said.
        message: Arc<str>,
    },
    /// The node's state machine has been at one command, or one read, for longer than
    /// [`NodeConfig::stuck_after`](super::NodeConfig::stuck_after): ask another node.
    Stuck,
    /// The state machine asked its own node from inside of a call, and would wait for itself:
    /// return first, and ask from another thread.
    WaitsForItself,
    /// The node has stopped: start it again, or ask another one.
    Stopped {
        /// Why.
        reason: StopReason,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => f.write_str(
                "this node knows no leader that could confirm the read: try again a little later, or ask another node",
            ),
            Self::Busy => f.write_str("too many requests wait already: try again a little later"),
            Self::LeadershipLost => f.write_str("leadership was lost: ask again"),
            Self::Panicked { message } => write!(f, "the read panicked: {message}"),
            Self::Stuck => f.write_str("the node's state machine is stuck; ask another node"),
            Self::WaitsForItself => f.write_str(WAITS_FOR_ITSELF),
            Self::Stopped { reason } => write!(f, "the node has stopped: {reason}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stopped { reason, .. } => Some(reason),
            Self::NoLeader
            | Self::Busy
            | Self::LeadershipLost
            | Self::Panicked { .. }
            | Self::Stuck
            | Self::WaitsForItself => None,
        }
    }
}

impl From<ReadRefused> for ReadError {
    fn from(refused: ReadRefused) -> Self {
        match refused {
            ReadRefused::NoLeader => Self::NoLeader,
            ReadRefused::TooManyReads { .. } => Self::Busy,
        }
    }
}

impl From<Stopped> for ReadError {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped { reason: stopped.reason }
    }
}

/// Why leadership was not handed over.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TransferError {
    /// Only the leader can hand leadership over: ask the leader.
    NotLeader {
        /// The leader of the current term, if this node knows it.
        leader: Option<NodeId>,
        /// Where the other nodes reach that leader, if this node knows it.
        address: Option<Arc<str>>,
    },
    /// Leadership is being handed over to another node already: wait for the end of that transfer.
    Transferring {
        /// The node that is to lead.
        to: NodeId,
    },
    /// No server can take over: the node named is no other voter, or the leader has heard of no
    /// voter.
    NoSuccessor,
    /// The other node did not take over in time, and this node leads on: try again, or choose
    /// another node.
    GivenUp {
        /// The node that was to lead.
        to: NodeId,
    },
    /// The state machine waits for its own node from inside of a call, and so for itself: return
    /// first, and ask from another thread. The node has taken the request.
    WaitsForItself,
    /// Too many requests wait already: try again a little later.
    Busy,
    /// The node has stopped: start it again, or ask another one.
    Stopped {
        /// Why.
        reason: StopReason,
    },
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader, address } => not_leader(f, *leader, address.as_deref()),
            Self::Transferring { to } => TransferRefused::Transferring { to: *to }.fmt(f),
            Self::NoSuccessor => TransferRefused::NoSuccessor.fmt(f),
            Self::GivenUp { to } => write!(f, "server {to} did not take over in time"),
            Self::WaitsForItself => f.write_str(WAITS_FOR_ITSELF),
            Self::Busy => f.write_str("too many requests wait already"),
            Self::Stopped { reason } => write!(f, "the node has stopped: {reason}"),
        }
    }
}

impl std::error::Error for TransferError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stopped { reason, .. } => Some(reason),
            Self::NotLeader { .. }
            | Self::Transferring { .. }
            | Self::NoSuccessor
            | Self::GivenUp { .. }
            | Self::WaitsForItself
            | Self::Busy => None,
        }
    }
}

impl From<TransferRefused> for TransferError {
    fn from(refused: TransferRefused) -> Self {
        match refused {
            TransferRefused::NotLeader { leader } => Self::NotLeader { leader, address: None },
            TransferRefused::Transferring { to } => Self::Transferring { to },
            TransferRefused::NoSuccessor => Self::NoSuccessor,
        }
    }
}

impl From<Stopped> for TransferError {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped { reason: stopped.reason }
    }
}

/// Why there is no backup. The node goes on, and it is always safe to ask again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BackupError {
    /// The node does not answer, as for a read. If it knows no leader, or a quorum is lost, a
    /// backup of what this node has applied is left:
    /// [`Handle::backup_local`](super::Handle::backup_local).
    Refused(ReadError),
    /// Nothing has been applied here yet, a snapshot from the leader is being installed, or the
    /// state machine has a [disk of its own](super::StateMachine::applied_index) and is ahead of
    /// the log that is replayed: try again a little later, or ask another node.
    NotReady,
    /// The state machine takes no snapshots
    /// ([`StateMachine::snapshot`](super::StateMachine::snapshot)), so there are no backups.
    Unsupported,
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error @ (ReadError::NoLeader | ReadError::LeadershipLost)) => write!(
                f,
                "no leader confirms that the backup would hold everything acknowledged: {error}; a local backup holds what this node \
                 itself has applied, and needs no leader"
            ),
            Self::Refused(error) => error.fmt(f),
            Self::NotReady => f.write_str(
                "nothing has been applied here yet, a snapshot is being installed, or the log is being replayed: try again a little later, or ask another node",
            ),
            Self::Unsupported => {
                f.write_str("the state machine takes no snapshots, so there are no backups")
            }
        }
    }
}

impl std::error::Error for BackupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(error) => error.source(),
            Self::NotReady | Self::Unsupported => None,
        }
    }
}

impl From<ReadError> for BackupError {
    fn from(error: ReadError) -> Self {
        Self::Refused(error)
    }
}

impl From<Stopped> for BackupError {
    fn from(stopped: Stopped) -> Self {
        Self::Refused(stopped.into())
    }
}

/// Why no snapshot was taken. The node goes on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Nothing has been applied yet.
    Nothing,
    /// The state machine takes no snapshots, or the journal keeps none.
    Unsupported,
    /// The snapshot could not be written: make sure that there is room, then try again.
    Failed {
        /// What went wrong.
        message: Arc<str>,
    },
    /// The state machine waits for its own node from inside of a call, and so for itself: return
    /// first, and ask from another thread. The node has taken the request.
    WaitsForItself,
    /// Too many requests wait already: try again a little later.
    Busy,
    /// The node has stopped: start it again.
    Stopped {
        /// Why.
        reason: StopReason,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing has been applied yet"),
            Self::Unsupported => {
                f.write_str("the state machine takes no snapshots, or the journal keeps none")
            }
            Self::Failed { message } => write!(f, "the snapshot could not be taken: {message}"),
            Self::WaitsForItself => f.write_str(WAITS_FOR_ITSELF),
            Self::Busy => f.write_str("too many requests wait already"),
            Self::Stopped { reason } => write!(f, "the node has stopped: {reason}"),
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stopped { reason, .. } => Some(reason),
            Self::Nothing
            | Self::Unsupported
            | Self::Failed { .. }
            | Self::WaitsForItself
            | Self::Busy => None,
        }
    }
}

impl From<Stopped> for SnapshotError {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped { reason: stopped.reason }
    }
}
