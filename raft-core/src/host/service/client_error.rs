//! Why a client's command was not answered, and what is known of the command.

use std::fmt;

use super::format::FormatError;
use super::table::SessionRefused;
use crate::host::error::ProposeError;

/// Why a command was not answered. [`ClientError::may_have_been_applied`] says what is known of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// No answer came within the client's timeout.
    TimedOut {
        /// Whether the command may have been applied, or may yet be.
        may_have_been_applied: bool,
    },
    /// The session does not admit the command. If the session expired before the command was first
    /// sent, the client opens another by itself and this is no error.
    Session {
        /// Why.
        refused: SessionRefused,
        /// Whether the command may have been applied, or may yet be.
        may_have_been_applied: bool,
    },
    /// The node does not admit the command, and will not if asked again.
    Node {
        /// Why.
        error: ProposeError,
        /// Whether the command may have been applied, or may yet be.
        may_have_been_applied: bool,
    },
    /// The command cannot be encoded.
    NotEncodable(FormatError),
}

impl ClientError {
    /// Whether the command may have been applied, or may yet be. If not, it is safe to propose it
    /// again as a new command.
    pub fn may_have_been_applied(&self) -> bool {
        match self {
            Self::TimedOut { may_have_been_applied }
            | Self::Session { may_have_been_applied, .. }
            | Self::Node { may_have_been_applied, .. } => *may_have_been_applied,
            Self::NotEncodable(_) => false,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut { .. } => f.write_str("no answer came in time")?,
            Self::Session { refused, .. } => refused.fmt(f)?,
            Self::Node { error, .. } => error.fmt(f)?,
            Self::NotEncodable(error) => write!(f, "the command cannot be encoded: {error}")?,
        }
        f.write_str(match self.may_have_been_applied() {
            true => "; in all, the command may have been applied",
            false => "; in all, the command was not applied",
        })
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TimedOut { .. } => None,
            Self::Session { refused, .. } => Some(refused),
            Self::Node { error, .. } => Some(error),
            Self::NotEncodable(error) => Some(error),
        }
    }
}
