//! Changes of membership (§6): the steps that a caller can ask for, and why one is refused.

use alloc::vec::Vec;
use core::fmt;

use crate::checkpoint::stored;
use crate::identity::{ClusterIdentity, LABEL_BYTES_MAX};
use crate::quorum::MEMBERS_MAX;
use crate::types::NodeId;

/// One step of a change of membership; several are taken together. See
/// [`Raft::change_membership`](crate::Raft::change_membership).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Change {
    /// A new server receives the log, and counts for nothing yet.
    AddLearner {
        /// The server, by an id that no other server ever had.
        id: NodeId,
        /// Its [`Member::label`](crate::Member::label).
        label: Vec<u8>,
    },
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A voter becomes a learner.
    Demote(NodeId),
    /// A member leaves.
    Remove(NodeId),
    /// A member is known by another [`Member::label`](crate::Member::label).
    Relabel {
        /// The member.
        id: NodeId,
        /// Its new label.
        label: Vec<u8>,
    },
    /// A member's [`Member::priority`](crate::Member::priority).
    Prioritise {
        /// The member.
        id: NodeId,
        /// Its new priority; 0 to begin with.
        priority: u8,
    },
    /// The cluster is given its identity. For hosts, which do so when a cluster begins.
    Identify(ClusterIdentity),
    /// A member's store is recorded. For hosts, which do so when they first hear the member.
    RecordStore {
        /// The member.
        id: NodeId,
        /// The number of its store.
        store: u64,
    },
    /// A higher [version](crate::Membership::version) of the application is in force from here on.
    RaiseVersion(u32),
}

stored! {
    enum Change {
        0 AddLearner { id: id, label: label },
        1 Promote { 0: a },
        2 Demote { 0: a },
        3 Remove { 0: a },
        4 Relabel { id: id, label: label },
        5 Prioritise { id: id, priority: priority },
        6 Identify { 0: a },
        7 RecordStore { id: id, store: store },
        8 RaiseVersion { 0: a },
    }
}

impl Change {
    /// A new learner of that id, known by that label.
    pub fn add_learner(id: NodeId, label: impl AsRef<[u8]>) -> Self {
        Self::AddLearner { id, label: label.as_ref().to_vec() }
    }
}

/// Why a membership cannot be changed so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum MembershipError {
    /// The server to be added is a member already.
    AlreadyMember(NodeId),
    /// The server is no member: add it as a learner first.
    NotMember(NodeId),
    /// The server to be promoted is no learner.
    NotLearner(NodeId),
    /// The server to be demoted is no voter.
    NotVoter(NodeId),
    /// Nobody would be left to vote: promote another server first.
    NoVoter,
    /// More members than [`MEMBERS_MAX`], voters who are to leave included.
    TooManyMembers,
    /// The label is longer than [`LABEL_BYTES_MAX`].
    LabelTooLong(NodeId),
    /// The server is removed and added in one change: add it in a second change, once the first is
    /// complete. Otherwise the leader would take what the old store holds for what the new store
    /// holds.
    RemovedAndAdded(NodeId),
    /// The cluster has an identity already, which never changes.
    AlreadyIdentified,
    /// The member's store is recorded already: remove the member and add it again.
    StoreRecorded(NodeId),
    /// This version, or a higher one, is in force already, and no version is ever taken back.
    VersionInForce(u32),
    /// Nothing would change.
    Nothing,
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyMember(id) => write!(f, "server {id} is a member already"),
            Self::NotMember(id) => {
                write!(f, "server {id} is no member: add it as a learner first")
            }
            Self::NotLearner(id) => {
                write!(f, "server {id} is no learner, so it cannot be promoted")
            }
            Self::NotVoter(id) => write!(f, "server {id} is no voter, so it cannot be demoted"),
            Self::NoVoter => {
                f.write_str("no voter would be left: promote another server in the same change")
            }
            Self::TooManyMembers => write!(f, "a cluster has at most {MEMBERS_MAX} members"),
            Self::LabelTooLong(id) => {
                write!(f, "the label of server {id} is longer than {LABEL_BYTES_MAX} bytes")
            }
            Self::RemovedAndAdded(id) => write!(
                f,
                "server {id} cannot be removed and added in one change: remove it, and add it once that is complete"
            ),
            Self::AlreadyIdentified => f.write_str("the cluster has an identity already"),
            Self::StoreRecorded(id) => write!(
                f,
                "the store of server {id} is recorded already: remove the server, and add it once that is complete"
            ),
            Self::VersionInForce(version) => {
                write!(f, "version {version} is in force already, and no version is taken back")
            }
            Self::Nothing => f.write_str("the membership is this already"),
        }
    }
}

impl core::error::Error for MembershipError {}
