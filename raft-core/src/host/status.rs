//! What a node knows about itself.

use std::time::Instant;

use super::handshake::Refusal;
use crate::status::Status;
use crate::types::NodeId;
use std::vec::Vec;

/// A node's state at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeStatus {
    /// What Raft knows.
    pub raft: Status,
    /// When the node's loop turns by itself at the latest, on the system's clock: what `raft.wake` says on the node's own.
    pub wakes_at: Option<Instant>,
    /// Proposals that wait to be committed.
    pub proposals_waiting: usize,
    /// Proposals that wait for the end of a transfer of leadership.
    pub proposals_parked: usize,
    /// Changes of membership that wait to be begun or completed.
    pub changes_waiting: usize,
    /// Whether a snapshot is being taken.
    pub takes_snapshot: bool,
    /// The peers that this node refuses at present for what they say of themselves, and why.
    pub refused_peers: Vec<(NodeId, Refusal)>,
    /// Whether this node neither votes nor stands for election because its store is empty and a peer says that it is not the
    /// member that it takes itself for.
    pub told_not_to_vote: bool,
    /// Reads that wait to be confirmed.
    pub reads_waiting: usize,
    /// Messages dropped because the inbox was full.
    pub messages_dropped: u64,
    /// Requests refused because the inbox was full.
    pub requests_refused: u64,
}
