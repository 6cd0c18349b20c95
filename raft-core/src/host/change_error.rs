//! Why a change of membership was not completed.

use std::fmt;
use std::sync::Arc;

use super::error::{WAITS_FOR_ITSELF, not_leader};
use super::stop_reason::{StopReason, Stopped};
use super::versions::Versions;
use crate::change::MembershipError;
use crate::host::wire::handshake::Refusal;
use crate::types::NodeId;

/// Why a change of membership was not completed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChangeError {
    /// Only the leader changes the membership: ask the leader. Nothing has changed.
    NotLeader {
        /// The leader of the current term, if this node knows it.
        leader: Option<NodeId>,
        /// Where the other nodes reach that leader, if this node knows it.
        address: Option<Arc<str>>,
    },
    /// The membership cannot be changed in this way. Nothing has changed.
    Invalid(MembershipError),
    /// This node does not talk to the server that is to be added or promoted: the server has
    /// introduced itself, and its store is not the one that the cluster knows, or holds another
    /// cluster's history. Nothing has changed.
    Refused {
        /// The server.
        id: NodeId,
        /// Why, and what to do about it.
        refusal: Refusal,
    },
    /// A member, or the server that is to be added, does not understand the version of the
    /// application that would be in force, or does not say so. Nothing has changed.
    VersionNotUnderstood {
        /// The server.
        id: NodeId,
        /// The version.
        version: u32,
        /// What the server understands. `None` if it is not connected to this node, or runs a
        /// version of this library that says nothing of versions.
        understands: Option<Versions>,
    },
    /// Too many requests wait already: try again a little later. Nothing has changed.
    Busy,
    /// The node lost its leadership before the change was complete: ask the new leader what the
    /// members are.
    LeadershipLost {
        /// Whether the change may yet take effect. If not, it was never begun.
        may_take_effect: bool,
    },
    /// The state machine waits for its own node from inside of a call, and so for itself: return
    /// first, and ask from another thread. The node has taken the change, which may take effect.
    WaitsForItself,
    /// The node has stopped: start it again, or ask another one.
    Stopped {
        /// Why.
        reason: StopReason,
        /// Whether the change may yet take effect. If not, it was never begun.
        may_take_effect: bool,
    },
}

impl ChangeError {
    /// Whether the change may have taken effect, or may yet.
    pub fn may_take_effect(&self) -> bool {
        match self {
            Self::NotLeader { .. }
            | Self::Invalid(_)
            | Self::Refused { .. }
            | Self::VersionNotUnderstood { .. }
            | Self::Busy => false,
            Self::WaitsForItself => true,
            Self::LeadershipLost { may_take_effect } | Self::Stopped { may_take_effect, .. } => {
                *may_take_effect
            }
        }
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = if self.may_take_effect() {
            "the change may yet take effect"
        } else {
            "the change was not begun"
        };
        match self {
            Self::NotLeader { leader, address } => not_leader(f, *leader, address.as_deref()),
            Self::Invalid(error) => error.fmt(f),
            Self::Refused { refusal, .. } => refusal.fmt(f),
            Self::VersionNotUnderstood { id, version, understands: Some(versions) } => write!(
                f,
                "server {id} understands versions {versions} of the application, and not {version}: upgrade it first"
            ),
            Self::VersionNotUnderstood { id, version, understands: None } => write!(
                f,
                "server {id} does not say that it understands version {version} of the application: start it if it is down, and \
                 upgrade it"
            ),
            Self::Busy => f.write_str("too many requests wait already"),
            Self::LeadershipLost { .. } => write!(f, "leadership was lost; {effect}"),
            Self::WaitsForItself => f.write_str(WAITS_FOR_ITSELF),
            Self::Stopped { reason, .. } => write!(f, "the node has stopped: {reason}; {effect}"),
        }
    }
}

impl std::error::Error for ChangeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Stopped { reason, .. } => Some(reason),
            Self::Invalid(error) => error.source(),
            Self::Refused { refusal, .. } => refusal.source(),
            Self::NotLeader { .. }
            | Self::VersionNotUnderstood { .. }
            | Self::Busy
            | Self::LeadershipLost { .. }
            | Self::WaitsForItself => None,
        }
    }
}

impl From<Stopped> for ChangeError {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped { reason: stopped.reason, may_take_effect: true }
    }
}
