//! Errors: one small enum per verb, each saying what to do next, each giving back what was moved in.

use alloc::string::String;
use core::fmt;

use crate::types::NodeId;

/// Why a command was not accepted. It was not appended anywhere and comes back unchanged.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProposeError<C> {
    /// Only the leader accepts commands: send it there.
    NotLeader {
        /// The leader of the current term, if this server knows it.
        leader: Option<NodeId>,
        /// The command.
        command: C,
    },
    /// The command is longer than [`Config::command_bytes_max`](crate::Config::command_bytes_max): split it.
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
        /// The command.
        command: C,
    },
    /// The log has reached [`Config::log_bytes_max`](crate::Config::log_bytes_max): try again once it has been compacted.
    LogFull {
        /// The limit in bytes.
        bytes_max: usize,
        /// The command.
        command: C,
    },
}

impl<C> ProposeError<C> {
    /// The command that was refused.
    pub fn into_command(self) -> C {
        match self {
            Self::NotLeader { command, .. }
            | Self::TooLarge { command, .. }
            | Self::LogFull { command, .. } => command,
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
        }
    }
}

impl<C: fmt::Debug> core::error::Error for ProposeError<C> {}

/// Why a request was refused. Nothing has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refused {
    /// Only the leader does this: ask it.
    NotLeader {
        /// The leader of the current term, if this server knows it.
        leader: Option<NodeId>,
    },
    /// [`Config::reads_waiting_max`](crate::Config::reads_waiting_max) reads wait already: try again later.
    TooManyReads {
        /// The limit.
        waiting_max: usize,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader } => not_leader(f, *leader),
            Self::TooManyReads { waiting_max } => {
                write!(f, "{waiting_max} reads are waiting already")
            }
        }
    }
}

impl core::error::Error for Refused {}

pub(crate) fn not_leader(f: &mut fmt::Formatter<'_>, leader: Option<NodeId>) -> fmt::Result {
    match leader {
        Some(leader) => write!(f, "this server does not lead; server {leader} does"),
        None => f.write_str("this server does not lead, and knows no leader yet"),
    }
}

/// A configuration or a restored state with which no server can run, and what would work instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(pub(crate) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for ConfigError {}
