//! The identity of a cluster and of the stores of its members, as the configuration keeps them
//! (§6).
//!
//! Both are opaque to Raft: a host draws the numbers, compares them and refuses what does not
//! match. They stand in the configuration because that is replicated, durable and part of every
//! snapshot.
//!
//! Two rules live in [`Membership::after`](crate::Membership::after):
//!
//! - A cluster is identified once. Equal indexes and terms do not prove that two logs are of one
//!   cluster; this number does.
//! - A member's store is recorded once. Only to leave and to be added again changes it, in two
//!   changes, so that the leader replicates to the new store from its beginning and no vote passes
//!   from one store to another.

use crate::checkpoint::stored;
use core::fmt;
use core::num::ParseIntError;
use core::str::FromStr;

/// The longest [`Member::label`](crate::Member::label), in bytes.
pub const LABEL_BYTES_MAX: usize = 1024;

/// The identity of a cluster: 128 bits that a host draws at random when the cluster begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterIdentity(u128);

stored! { struct ClusterIdentity(_) }

impl ClusterIdentity {
    /// The identity with this number.
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// The number inside.
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl fmt::Display for ClusterIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Reads what `Display` writes: a number in hexadecimal digits.
impl FromStr for ClusterIdentity {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// What a configuration says of its cluster as a whole.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct ClusterFacts {
    pub(crate) identity: Option<ClusterIdentity>,
    pub(crate) version: u32,
}

stored! { struct ClusterFacts { identity, version } }

/// What the configuration says of a member's store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum MemberStore {
    /// The member is one with which the cluster began, or was added by an older version: any store
    /// is taken for its own until one is recorded.
    #[default]
    Unrecorded,
    /// The member was added: its store is empty, or of this cluster.
    New,
    /// The member's store has this number.
    Recorded(u64),
}

stored! { enum MemberStore { 0 Unrecorded {}, 1 New {}, 2 Recorded { 0: a }, } }

impl MemberStore {
    /// The number of the store, if it is recorded.
    pub const fn recorded(self) -> Option<u64> {
        match self {
            Self::Unrecorded | Self::New => None,
            Self::Recorded(store) => Some(store),
        }
    }
}
