//! Errors: one small enum per verb, each saying what to do next, each giving back what was moved
//! in.

use core::fmt;

use crate::change::MembershipError;
use crate::checkpoint::stored;
use crate::types::{Index, NodeId};

/// Why a command was not accepted. It was not appended anywhere and comes back unchanged.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ProposeError<C> {
    /// Only the leader accepts commands: send it there.
    NotLeader {
        /// The leader of the current term, if this server knows it.
        leader: Option<NodeId>,
        /// The command.
        command: C,
    },
    /// The command is longer than [`Config::command_bytes_max`](crate::Config::command_bytes_max):
    /// split it.
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
        /// The command.
        command: C,
    },
    /// The log has reached [`Config::log_bytes_max`](crate::Config::log_bytes_max): try again once
    /// it has been compacted.
    LogFull {
        /// The limit in bytes.
        bytes_max: usize,
        /// The command.
        command: C,
    },
    /// [`Config::uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max) bytes wait to be
    /// committed: try again when some are.
    TooManyUncommitted {
        /// The limit in bytes.
        bytes_max: usize,
        /// The command.
        command: C,
    },
    /// Leadership is being handed over: wait for the new leader, or until this server has given up
    /// the attempt.
    Transferring {
        /// The server that is to lead.
        to: NodeId,
        /// The command.
        command: C,
    },
    /// As many commands wait to be forwarded to the leader as
    /// [`Config::forwards_waiting_max`](crate::Config::forwards_waiting_max) and
    /// [`Config::forwards_bytes_max`](crate::Config::forwards_bytes_max) allow: try again later.
    TooManyForwarded {
        /// The command.
        command: C,
    },
}

stored! {
    enum ProposeError<C> {
        0 NotLeader { leader: leader, command: command },
        1 TooLarge { bytes: bytes, bytes_max: bytes_max, command: command },
        2 LogFull { bytes_max: bytes_max, command: command },
        3 TooManyUncommitted { bytes_max: bytes_max, command: command },
        4 Transferring { to: to, command: command },
        5 TooManyForwarded { command: command },
    }
}

impl<C> ProposeError<C> {
    /// The command that was refused.
    pub fn into_command(self) -> C {
        match self {
            Self::NotLeader { command, .. }
            | Self::TooLarge { command, .. }
            | Self::LogFull { command, .. }
            | Self::TooManyUncommitted { command, .. }
            | Self::Transferring { command, .. }
            | Self::TooManyForwarded { command } => command,
        }
    }
}

impl<C> fmt::Display for ProposeError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader, .. } => not_leader(f, *leader),
            Self::TooLarge { bytes, bytes_max, .. } => {
                write!(f, "the command has {bytes} bytes, more than the {bytes_max} allowed")
            }
            Self::LogFull { bytes_max, .. } => {
                write!(f, "the log has reached its limit of {bytes_max} bytes")
            }
            Self::TooManyUncommitted { bytes_max, .. } => {
                write!(f, "more than {bytes_max} bytes wait to be committed")
            }
            Self::Transferring { to, .. } => transferring(f, *to),
            Self::TooManyForwarded { .. } => {
                f.write_str("too many commands wait for the leader's answer already")
            }
        }
    }
}

impl<C: fmt::Debug> core::error::Error for ProposeError<C> {}

/// Why a read was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReadRefused {
    /// Only a server that knows the leader can tell: ask another one, or try again after the next
    /// election.
    NoLeader,
    /// [`Config::reads_waiting_max`](crate::Config::reads_waiting_max) reads wait already: try
    /// again later.
    TooManyReads {
        /// The limit.
        waiting_max: usize,
    },
}

impl fmt::Display for ReadRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLeader => f.write_str("this server knows no leader yet"),
            Self::TooManyReads { waiting_max } => {
                write!(f, "{waiting_max} reads are waiting already")
            }
        }
    }
}

impl core::error::Error for ReadRefused {}

/// Why the membership was not changed. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ChangeRefused {
    /// Only the leader does this: ask it.
    NotLeader {
        /// The leader of the current term, if this server knows it.
        leader: Option<NodeId>,
    },
    /// This leader has yet to commit an entry of its own term (§8): try again in a moment.
    NotReady,
    /// The configuration at this index is not committed yet, or joint: try again when it is
    /// committed and left.
    ChangePending {
        /// Where the configuration stands.
        index: Index,
    },
    /// The server would count before it holds the log: wait until it has caught up.
    NotCaughtUp {
        /// The server to be promoted.
        id: NodeId,
    },
    /// Leadership is being handed over: ask the new leader.
    Transferring {
        /// The server that is to lead.
        to: NodeId,
    },
    /// The membership cannot be changed so.
    Invalid(MembershipError),
}

impl fmt::Display for ChangeRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader } => not_leader(f, *leader),
            Self::NotReady => {
                f.write_str("this leader has yet to commit an entry of its own term: try again")
            }
            Self::ChangePending { index } => {
                write!(f, "the change of membership at index {index} is not complete: try again")
            }
            Self::NotCaughtUp { id } => {
                write!(f, "server {id} has not caught up with the log: promote it when it has")
            }
            Self::Transferring { to } => transferring(f, *to),
            Self::Invalid(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ChangeRefused {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Invalid(error) => error.source(),
            Self::NotLeader { .. }
            | Self::NotReady
            | Self::ChangePending { .. }
            | Self::NotCaughtUp { .. }
            | Self::Transferring { .. } => None,
        }
    }
}

/// Why leadership was not handed over. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TransferRefused {
    /// Only the leader can: ask it.
    NotLeader {
        /// The leader of the current term, if this server knows it.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over already.
    Transferring {
        /// The server that is to lead.
        to: NodeId,
    },
    /// Nobody could take over: the server named is no other voter, or no voter has been heard of.
    NoSuccessor,
}

impl fmt::Display for TransferRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader } => not_leader(f, *leader),
            Self::Transferring { to } => transferring(f, *to),
            Self::NoSuccessor => f.write_str("there is no other voter that could take over"),
        }
    }
}

impl core::error::Error for TransferRefused {}

/// A snapshot is being taken already, or nothing was applied since the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NothingToSnapshot;

impl fmt::Display for NothingToSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a snapshot is being taken, or nothing was applied since the last")
    }
}

impl core::error::Error for NothingToSnapshot {}

pub(crate) fn not_leader(f: &mut fmt::Formatter<'_>, leader: Option<NodeId>) -> fmt::Result {
    match leader {
        Some(leader) => write!(f, "this server does not lead; server {leader} does"),
        None => f.write_str("this server does not lead, and knows no leader yet"),
    }
}

fn transferring(f: &mut fmt::Formatter<'_>, to: NodeId) -> fmt::Result {
    write!(f, "leadership is being handed over to server {to}")
}
