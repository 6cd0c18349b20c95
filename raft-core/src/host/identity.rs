//! Who a node is.

use crate::types::NodeId;

/// Names a cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
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

/// Names the life of a journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The incarnation with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number inside.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Who a node is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its number in the cluster.
    pub node: NodeId,
    /// Its journal.
    pub incarnation: Incarnation,
}
