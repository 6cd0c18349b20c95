//! The roles that a server can have (Figure 4).

use core::fmt;

use crate::checkpoint::stored;

/// What a server is.
///
/// ```text
///               times out                 a majority would             a majority's
///   ┌──────────┐ ──────────► ┌──────────────┐ vote ──► ┌───────────┐ votes ──► ┌────────┐
///   │ Follower │             │ PreCandidate │          │ Candidate │           │ Leader │
///   └──────────┘ ◄────────── └──────────────┘          └───────────┘           └────────┘
///        ▲         sees a leader, or a higher term           │                      │
///        └───────────────────────────────────────────────────┴──────────────────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Role {
    /// Answers leaders and candidates.
    #[default]
    Follower,
    /// Asks whether it could win an election (thesis 9.6).
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Accepts commands and replicates them.
    Leader,
}

stored! { enum Role { 0 Follower {}, 1 PreCandidate {}, 2 Candidate {}, 3 Leader {}, } }

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}
