//! Why an acceptor does not let a dialer in, with a text that says what to do about it.

use std::error::Error;
use std::fmt;

use crate::host::identity::{ClusterId, StoreId};
use crate::identity::ClusterIdentity;
use crate::types::NodeId;

/// Why an acceptor does not let a dialer in. The text says what to do about it, in words that hold
/// on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Refusal {
    /// The dialer's first bytes were not a [`Hello`](super::Hello).
    NotAHello,
    /// No version of the protocol is known to both.
    Version {
        /// The oldest version that the acceptor speaks.
        min: u16,
        /// The newest version that the acceptor speaks.
        max: u16,
    },
    /// The dialer belongs to another cluster.
    Cluster {
        /// The acceptor's cluster.
        cluster: ClusterId,
    },
    /// The dialer looks for another node.
    NotMe {
        /// The acceptor.
        node: NodeId,
    },
    /// The dialer is no member of the cluster as the acceptor knows it, and the most such peers
    /// that the acceptor allows are connected.
    UnknownPeer,
    /// The dialer has the acceptor's own id.
    Itself {
        /// The id.
        node: NodeId,
    },
    /// Another node with the dialer's id, but with another store, is connected.
    Duplicate {
        /// The store of the connected node.
        store_id: StoreId,
    },
    /// The dialer has the id of a member, but another store: it has lost the member's memory.
    OtherStore {
        /// The id.
        node: NodeId,
    },
    /// The store of a node holds the history of another cluster.
    OtherHistory {
        /// The node.
        node: NodeId,
        /// The cluster of the node that refuses it.
        cluster: ClusterIdentity,
        /// The other cluster, if it has an identity.
        its: Option<ClusterIdentity>,
    },
    /// The dialer may send a message that the acceptor does not take. Such a message would be lost
    /// each time it is sent, and nothing behind it would ever commit.
    LongMessages {
        /// The dialer.
        from: NodeId,
        /// The longest [`Message::size`](crate::Message::size) that the dialer sends, in bytes.
        sends: u64,
        /// The acceptor.
        to: NodeId,
        /// The longest that the acceptor takes, in bytes.
        takes: u64,
    },
    /// The dialer's certificate does not name the node that the dialer says it is.
    Certificate {
        /// The node that the dialer says it is.
        node: NodeId,
    },
    /// A reason that only newer versions know.
    Other {
        /// Its number.
        code: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAHello => f.write_str(
                "the dialer does not speak the protocol of Raft nodes: check which program uses this address",
            ),
            Self::Version { min, max } => write!(
                f,
                "the acceptor speaks versions {min} to {max} of the protocol and the dialer none of them: \
                 upgrade the older node"
            ),
            Self::Cluster { cluster } => write!(
                f,
                "the acceptor belongs to cluster {cluster} and the dialer to another: check the cluster ids \
                 and the addresses of the peers"
            ),
            Self::NotMe { node } => write!(
                f,
                "the acceptor is node {node}, not the one that the dialer looks for: correct the address in \
                 the dialer's list of peers"
            ),
            Self::UnknownPeer => f.write_str(
                "the dialer is no member of the cluster, and too many such are connected: add it to the cluster, \
                 correct its node id, or stop the others",
            ),
            Self::Itself { node } => write!(
                f,
                "the dialer has the acceptor's own id {node}: two nodes have the same id, or an address in \
                 the list of peers leads back to the node itself"
            ),
            Self::Duplicate { store_id } => write!(
                f,
                "a node with the dialer's id and store {store_id} is connected: stop one of the two, or \
                 wait until its connection is gone if it was replaced"
            ),
            Self::OtherStore { node } => other_store(f, *node),
            Self::OtherHistory { node, cluster, its } => {
                write!(f, "node {node}'s store holds the history of ")?;
                match its {
                    Some(its) => write!(f, "cluster {its}")?,
                    None => f.write_str("a cluster without an identity")?,
                }
                write!(
                    f,
                    ", and the node that refuses it belongs to cluster {cluster}: correct the addresses of the peers, or empty the \
                     store of the server that is in the wrong cluster before it is added as a learner"
                )
            }
            Self::LongMessages { from, sends, to, takes } => write!(
                f,
                "node {from} may send messages of {sends} bytes and node {to} takes {takes}: raise \
                 frame_bytes_max on node {to} by {} at least, or lower append_bytes_max or \
                 snapshot_chunk_bytes on node {from}, whichever is above {takes}",
                sends.saturating_sub(*takes)
            ),
            Self::Certificate { node } => write!(
                f,
                "the dialer says it is node {node}, and its certificate does not name this node of the \
                 acceptor's cluster: give each node the certificate made for it"
            ),
            Self::Other { code } => {
                write!(f, "the acceptor gives reason {code}, which only newer versions know: see its log")
            }
        }
    }
}

/// Why a dialer was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The acceptor said no.
    Refused(Refusal),
    /// The bytes that came back are no [`Answer`](super::Answer) to the hello.
    NotAnAnswer,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::NotAnAnswer => f.write_str(
                "the answer is not that of a Raft node: check the peer's address and which program uses it",
            ),
        }
    }
}

impl Error for HandshakeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::NotAnAnswer => None,
        }
    }
}

/// A refusal is why a connection, or a change of membership, failed.
impl Error for Refusal {}

/// Writes what to do about a member that has lost its memory, in words that hold on both sides.
pub(in crate::host) fn other_store(f: &mut fmt::Formatter<'_>, node: NodeId) -> fmt::Result {
    write!(
        f,
        "node {node}'s store is not the one that the cluster knows: its disk was wiped or replaced; remove node {node} from \
         the cluster and add it again as a learner"
    )
}
