//! What a node knows about itself.

use std::time::Instant;
use std::vec::Vec;

use super::digests::StateDifference;
use super::finding::Finding;
use crate::host::wire::handshake::Refusal;
use crate::host::worker_kind::WorkerStatus;
use crate::status::Status;
use crate::types::NodeId;

/// A node's state at one moment.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct NodeStatus {
    /// What stands in the way of a leader, a commit or an answer, as far as this node knows it,
    /// what weighs most first, and last what does not yet, such as timeouts that differ. Empty if
    /// there is nothing. Each says in plain words what to do.
    pub findings: Vec<Finding>,
    /// What Raft knows.
    pub raft: Status,
    /// When the node's loop turns by itself at the latest, on the system's clock. `raft.wake` says
    /// the same on the node's own clock, and `serde` leaves this one out.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub wakes_at: Option<Instant>,
    /// Proposals that wait to be committed.
    pub proposals_waiting: usize,
    /// Proposals that wait for the end of a transfer of leadership.
    pub proposals_parked: usize,
    /// Commands that this node has forwarded and whose clients wait for an answer. What the core
    /// knows of them is in `raft.forwards_waiting`.
    pub forwards_waiting: usize,
    /// Changes of membership that wait to be begun or completed.
    pub changes_waiting: usize,
    /// Whether a snapshot is being taken.
    pub takes_snapshot: bool,
    /// The peers that this node refuses at present for what they say of themselves, and why.
    pub refused_peers: Vec<(NodeId, Refusal)>,
    /// Whether this node neither votes nor stands for election because its store is empty and a
    /// peer says that the node is not the member that it believes to be.
    pub told_not_to_vote: bool,
    /// Reads that wait to be confirmed.
    pub reads_waiting: usize,
    /// Reads that were confirmed and wait for the state machine.
    pub reads_queued: usize,
    /// Threads that have been at one unit of work for longer than
    /// [`NodeConfig::stuck_after`](crate::host::NodeConfig::stuck_after).
    pub stuck: Vec<WorkerStatus>,
    /// The servers whose states differ from this server's after the same entry, as far as this node
    /// knows: see [`StateMachine::digest`](crate::host::StateMachine::digest).
    pub state_differences: Vec<StateDifference>,
    /// How many digests of other servers' states this node has compared with its own. Only a leader
    /// compares.
    pub states_compared: u64,
    /// Panics of code that waited for an answer: a waker, or the drop of a reply.
    pub client_panics: u64,
    /// Messages dropped because the inbox was full.
    pub messages_dropped: u64,
    /// Requests refused because the inbox was full.
    pub requests_refused: u64,
}
