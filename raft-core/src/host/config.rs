//! What a node is told before it starts.

use std::time::Duration;

use bytes::Bytes;

use super::identity::ClusterId;
use crate::config::Config;

/// Everything that can be chosen about a node besides its state machine, journal and transport.
///
/// # Example
///
/// ```
/// use raft_core::host::{ClusterId, NodeConfig};
/// use raft_core::{Config, NodeId};
///
/// let raft = Config::new(NodeId::new(1), [1, 2, 3].map(NodeId::new));
/// let config = NodeConfig { inbox_max: 1024, ..NodeConfig::new(ClusterId::new(7), raft) };
/// # assert_eq!(config.inbox_max, 1024);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// The cluster, so that a message or a journal of another one is never taken for its own.
    pub cluster: ClusterId,
    /// What Raft is told.
    pub raft: Config,
    /// The most requests that wait for the node to look at them, beyond which they are refused as busy; and the most messages,
    /// beyond which they are dropped.
    pub inbox_max: usize,
    /// The same in bytes. A request or a message larger than this passes when nothing else waits.
    pub inbox_bytes_max: usize,
    /// Makes the node draw the same election timeouts each time it starts; for tests. Nodes with one seed still draw
    /// different ones. `None` takes a seed from the operating system.
    pub seed: Option<u64>,
    /// What the application says of this node to its peers, such as the address for clients; at most
    /// [`SAID_NOTE_BYTES_MAX`](super::handshake::SAID_NOTE_BYTES_MAX) bytes. A leader with `records_addresses` keeps the
    /// [note](super::Label::note) in the member's label equal to it. Empty says nothing.
    pub note: Bytes,
    /// Whether this node, while it leads, corrects the address and the note in a member's [`Label`](super::Label) by what the
    /// member says of itself. An address is corrected only if the label names one, the leader reaches the member at another one,
    /// and the member itself says that it is there.
    pub records_addresses: bool,
    /// How long the journal, the state machine or the snapshots may be at one unit of work (a sync,
    /// a command, a read, a block of a snapshot) before that counts as stuck. Then it is logged,
    /// once, and shown in [`NodeStatus::stuck`](super::NodeStatus::stuck); reads that wait for the
    /// state machine are refused, and a leader whose state machine is stuck hands over.
    pub stuck_after: Duration,
    /// How long a node that stops waits for threads that hang. See
    /// [`Handle::left_behind`](super::Handle::left_behind).
    pub shutdown_max: Duration,
}

impl NodeConfig {
    /// The defaults.
    pub fn new(cluster: ClusterId, raft: Config) -> Self {
        Self {
            cluster,
            raft,
            inbox_max: 16_384,
            inbox_bytes_max: 64 << 20,
            seed: None,
            note: Bytes::new(),
            records_addresses: true,
            stuck_after: Duration::from_secs(10),
            shutdown_max: Duration::from_secs(30),
        }
    }
}
