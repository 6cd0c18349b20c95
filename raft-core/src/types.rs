//! The nouns of the paper as newtypes: servers, terms, positions in the log, and the numbers that
//! hosts echo.

use crate::checkpoint::stored;
use core::fmt;
use core::num::ParseIntError;
use core::str::FromStr;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(u64);

        impl $name {
            /// The value with this number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number inside.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The value that follows this one; the greatest follows itself.
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        stored! { struct $name(_) }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A server's identity: unique in its cluster, never used for another server again.
    NodeId
}

number! {
    /// A term (§5.1): time as Raft counts it. At most one leader is elected in each; it only grows.
    Term
}

number! {
    /// A position in the log. The first entry has index 1; [`Index::ZERO`] is the position before
    /// it.
    Index
}

number! {
    /// Numbers the writes of one process, from 1 and without gaps. See [`Write`](crate::Write).
    WriteId
}

number! {
    /// Numbers the linearizable reads of one process. See [`Raft::read`](crate::Raft::read).
    ReadId
}

number! {
    /// Numbers the proposals that one process forwards to its leaders. See
    /// [`Raft::forward`](crate::Raft::forward).
    ProposalId
}

number! {
    /// Numbers the attempts of one process to receive a snapshot. See
    /// [`WriteSnapshot`](crate::WriteSnapshot).
    InstallId
}

number! {
    /// Numbers a leader's heartbeat rounds within its term. A follower echoes the newest that it
    /// has seen; a round that a quorum has echoed proves that nobody else led when it left (thesis
    /// 6.4).
    Round
}

number! {
    /// A replication session: from the moment a leader starts to replicate to a peer until that
    /// peer is removed, or the term ends. An acknowledgement counts only in the session that asked
    /// for it, so that one which comes late, after the peer was removed and added again, cannot
    /// pass for a fresh one.
    Session
}

impl From<u64> for NodeId {
    fn from(number: u64) -> Self {
        Self::new(number)
    }
}

/// Reads a decimal number, as flags and files have it.
impl FromStr for NodeId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self::new)
    }
}

impl Term {
    /// Before the first election.
    pub const ZERO: Self = Self(0);
}

impl WriteId {
    /// This id counted from another; zero if it is not after it.
    pub(crate) const fn after(self, base: Self) -> Self {
        Self(self.0.saturating_sub(base.0))
    }
}

impl Index {
    /// The position before the first entry: nothing is there, and everyone agrees on it.
    pub const ZERO: Self = Self(0);

    /// The position before this one; [`Index::ZERO`] stays where it is.
    pub(crate) const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The position of an entry together with the term in which it was created.
///
/// Two logs that hold the same `LogId` are the same up to it (Log Matching, §5.3). The order is the
/// one of §5.4.1, by which a voter judges whether a candidate's log is up to date: later term
/// first, longer log second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LogId {
    /// The term of the entry; compared first.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

stored! { struct LogId { term, index } }

impl LogId {
    /// The position before the first entry.
    pub const ZERO: Self = Self { term: Term::ZERO, index: Index::ZERO };

    /// The entry of this term at this index.
    pub const fn new(term: Term, index: Index) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

/// What must survive a crash besides the log (Figure 2, "Persistent state"). Written whole, or not
/// at all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HardState {
    /// The latest term that this server has seen.
    pub current_term: Term,
    /// The candidate that got this server's vote in that term.
    pub voted_for: Option<NodeId>,
    /// The longest time for which this server may have promised a leader to elect nobody else
    /// (thesis 6.4.1), in microseconds. A server that starts votes for nobody before so much time
    /// has passed, whatever its configuration says by then. 0 without leases.
    pub promise_micros: u32,
    /// Where the configuration in force is in the log, if it is committed and gives this server no
    /// vote; else zero. Figure 2 keeps no commit index. A server that was removed keeps this one,
    /// or it would take its removal for uncommitted after a restart, and stand for election
    /// (thesis 4.2.2).
    pub committed: Index,
}

stored! { struct HardState { current_term, voted_for, promise_micros, committed } }

/// What a client asks the replicated state machine to do: opaque bytes to Raft, which only asks how
/// many they are.
///
/// Cloned for the disk and for each peer, so a type with a cheap clone is a good choice:
/// `bytes::Bytes`, `Rc<[u8]>`, `Arc<[u8]>`, or an array.
pub trait Command: Clone + AsRef<[u8]> {}

impl<C: Clone + AsRef<[u8]>> Command for C {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_is_read_as_it_is_written() {
        let seven: NodeId = "7".parse().unwrap();
        assert_eq!((seven, seven), (NodeId::from(7), NodeId::new(7)));
        assert!("-7".parse::<NodeId>().is_err());
    }

    #[test]
    fn logs_compare_by_last_term_then_by_length() {
        let id = |term, index| LogId::new(Term::new(term), Index::new(index));
        assert!(id(2, 1) > id(1, 9));
        assert!(id(2, 3) > id(2, 2));
        assert!(id(1, 1) > LogId::ZERO);
    }
}
