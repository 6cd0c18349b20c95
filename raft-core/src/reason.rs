//! Why a server stopped leading or standing for election, and why it refused a vote.
//!
//! The core writes no log, so the reasons leave it as data: the last of each is in
//! [`Status`](crate::Status). A host compares them with what it has reported, and so reports each
//! of them once. Nothing in the core depends on them.

#[cfg(feature = "std")]
use alloc::vec::Vec;

use crate::checkpoint::stored;
use crate::role::Role;
use crate::types::{NodeId, Term};

/// Why a server stopped leading or standing for election.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum StepDown {
    /// A message of a higher term came (§5.1).
    HigherTerm,
    /// Another server leads this term (§5.2).
    OtherLeader,
    /// This server voted for another candidate before it stood itself (§5.2).
    GaveVote,
    /// This leader handed leadership over, and its successor stands (thesis 3.10).
    HandedOver,
    /// This leader heard from no quorum for an election timeout (thesis 6.2).
    NoQuorum,
    /// The disk of this leader did not answer within
    /// [`Config::disk_timeout`](crate::Config::disk_timeout).
    DiskSilent,
    /// This server has no vote in the configuration in force (§6).
    NotAMember,
    /// The host told this server to abstain: see [`Raft::abstain`](crate::Raft::abstain).
    Abstains,
}

stored! {
    enum StepDown {
        0 HigherTerm {},
        1 OtherLeader {},
        2 GaveVote {},
        3 HandedOver {},
        4 NoQuorum {},
        5 DiskSilent {},
        6 NotAMember {},
        7 Abstains {},
    }
}

/// The end of a leadership, a candidacy or a pre-vote.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SteppedDown {
    /// What the server was.
    pub role: Role,
    /// The term in which it was that.
    pub term: Term,
    /// Why it is that no longer.
    pub reason: StepDown,
}

stored! { struct SteppedDown { role, term, reason } }

/// Why a server refused a vote or a pre-vote.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum VoteRefusal {
    /// This server leads, or hears a leader, or has promised one not to vote (thesis 4.2.3, 6.4.1).
    BoundToLeader,
    /// The candidate's log is behind this server's (§5.4.1).
    ShorterLog,
    /// This server voted for another candidate in that term (§5.2).
    AlreadyVoted,
    /// This server votes for nobody: it knows no cluster yet, or its host told it to
    /// [abstain](crate::Raft::abstain).
    Abstains,
    /// The candidate has no vote in the configuration in force (§6).
    CandidateNotAMember,
    /// The candidate's term is over (§5.1).
    OldTerm,
}

stored! {
    enum VoteRefusal {
        0 BoundToLeader {},
        1 ShorterLog {},
        2 AlreadyVoted {},
        3 Abstains {},
        4 CandidateNotAMember {},
        5 OldTerm {},
    }
}

/// A vote or a pre-vote that a server refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RefusedVote {
    /// The server that asked.
    pub candidate: NodeId,
    /// The term in which it asked.
    pub term: Term,
    /// Why it was refused.
    pub reason: VoteRefusal,
}

stored! { struct RefusedVote { candidate, term, reason } }

/// The last of each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Reasons {
    pub(crate) stepped_down: Option<SteppedDown>,
    pub(crate) refused_vote: Option<RefusedVote>,
}

stored! { struct Reasons { stepped_down, refused_vote } }

/// How the voters answered an attempt to be elected, or a pre-vote, that no quorum granted in time.
#[cfg(feature = "std")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct InVain {
    /// The other voters that granted.
    pub(crate) granted: Vec<NodeId>,
    /// The voters that refused.
    pub(crate) refused: Vec<NodeId>,
    /// The voters that did not answer.
    pub(crate) silent: Vec<NodeId>,
    /// Whether so many answered that they could have elected this server.
    pub(crate) quorum_answered: bool,
    /// The server's own vote is not on its disk yet.
    pub(crate) waits_for_disk: bool,
}
