//! What a node knows about itself.

use std::time::Instant;

use crate::status::Status;

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
    /// Reads that wait to be confirmed.
    pub reads_waiting: usize,
    /// Messages dropped because the inbox was full.
    pub messages_dropped: u64,
    /// Requests refused because the inbox was full.
    pub requests_refused: u64,
}
