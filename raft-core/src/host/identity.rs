//! Who a node is, as the other nodes and its own journal know it.

use std::fmt;
use std::string::String;

use bytes::Bytes;

use super::timeouts::Timeouts;
use super::versions::Versions;
use crate::identity::ClusterIdentity;
use crate::types::{LogId, NodeId};

/// Names a cluster. Nodes of different clusters refuse each other, so a wrong address in a list of
/// peers does no harm.
///
/// Choose any number that no other cluster nearby uses. All nodes of a cluster are started with the
/// same number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ClusterId(u64);

impl ClusterId {
    /// The cluster with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number inside.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a node's store, which is its journal: drawn at random when the journal is created, and
/// kept for as long as the journal exists.
///
/// It tells a node that came back from another node with the same [`NodeId`], and from the same
/// node with an empty store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StoreId(u64);

impl StoreId {
    /// The id with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number inside.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Who a node is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its number in the cluster.
    pub node: NodeId,
    /// Its store.
    pub store_id: StoreId,
}

/// What a store holds, as its node says when it introduces itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Past {
    /// The node does not say: it runs an older version.
    #[default]
    Unknown,
    /// No entries.
    Blank,
    /// Entries of a cluster that has no identity yet, or of an older version.
    Unnamed,
    /// Entries of a cluster whose identity may not be committed, as far as the node knows.
    Begun(ClusterIdentity),
    /// Entries of this cluster.
    Of(ClusterIdentity),
}

/// What a node says of itself to a peer before its first message. Transports carry it; the host
/// judges it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Introduction {
    /// The node.
    pub node: NodeId,
    /// Its store.
    pub store: StoreId,
    /// What the store holds.
    pub past: Past,
    /// Whether the node knows its peer as a member of its cluster. `None` if it does not say.
    pub knows_you: Option<bool>,
    /// Where the node is reached, if it says.
    pub address: Option<String>,
    /// What the application says of the node: [`NodeConfig::note`](super::NodeConfig::note).
    pub note: Bytes,
    /// The longest [`Message::size`](crate::Message::size) that the node sends, in bytes, as its
    /// [`Config`](crate::Config) says. `None` if it does not say.
    pub sends_bytes_max: Option<u64>,
    /// The committed entry of the node's log by which it is a member with this store. `None` if
    /// there is none, or if the node does not say. A node that lacks this entry does not know whose
    /// store is whose.
    pub named_at: Option<LogId>,
    /// The versions of the application that the node understands. `None` if it does not say.
    pub versions: Option<Versions>,
    /// The timeouts that the node is configured with. `None` if it does not say.
    pub timeouts: Option<Timeouts>,
}

impl Introduction {
    /// Of that node with that store, which says nothing else.
    pub fn new(node: NodeId, store: StoreId) -> Self {
        Self {
            node,
            store,
            past: Past::Unknown,
            knows_you: None,
            address: None,
            note: Bytes::new(),
            sends_bytes_max: None,
            named_at: None,
            versions: None,
            timeouts: None,
        }
    }
}
