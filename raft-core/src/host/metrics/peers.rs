//! What a node counts for each of its peers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::vec::Vec;

use bytes::Bytes;

use super::cells::Cell;
use crate::message::{Body, Message};
use crate::time::Instant;
use crate::types::NodeId;

/// The kinds of messages, by their number.
const KINDS: [&str; 13] = [
    "request_pre_vote",
    "request_pre_vote_reply",
    "request_vote",
    "request_vote_reply",
    "append_entries",
    "append_entries_reply",
    "install_snapshot",
    "install_snapshot_reply",
    "timeout_now",
    "read_index",
    "read_index_reply",
    "propose",
    "propose_reply",
];

/// For `heard_micros` and `lag`: not known.
const UNKNOWN: u64 = u64::MAX;

/// A member as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PeerMetrics {
    /// The member; `None` for all other nodes together.
    pub id: Option<NodeId>,
    /// How many entries of this leader's log the peer is not known to hold durably. `None` unless
    /// this node leads.
    pub lag: Option<u64>,
    /// For how long nothing was heard of the peer. A leader knows it of each member, a follower of
    /// its leader.
    pub silent_for: Option<Duration>,
    /// Messages to the peer, by kind.
    pub sent: Vec<MessageMetrics>,
    /// Messages from the peer, by kind.
    pub received: Vec<MessageMetrics>,
}

/// Messages of one kind, in one direction, since the node started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MessageMetrics {
    /// The kind, in lower case with underscores: `append_entries`.
    pub kind: &'static str,
    /// How many were sent or received. A heartbeat is an `append_entries`.
    pub messages: u64,
    /// What they carried: entries, forwarded commands, pieces of snapshots. Headers do not count.
    pub bytes: u64,
}

/// The peers for which numbers are kept. The lock is taken when members change and when the numbers
/// are read.
#[derive(Default, Debug)]
pub(super) struct PeerTable {
    peers: Mutex<Vec<Arc<PeerCells>>>,
}

/// The numbers of one peer.
#[derive(Debug)]
pub(in crate::host) struct PeerCells {
    id: Option<NodeId>,
    lag: Cell,
    /// When the peer was last heard of, on the node's clock.
    heard_micros: Cell,
    sent: [KindCells; KINDS.len()],
    received: [KindCells; KINDS.len()],
}

#[derive(Default, Debug)]
struct KindCells {
    messages: Cell,
    bytes: Cell,
}

impl PeerTable {
    /// Keeps numbers for these members from now on. A member that was there keeps its numbers.
    /// Returns the members in this order, and last the cells of all other nodes.
    pub(super) fn keep(&self, members: impl Iterator<Item = NodeId>) -> Vec<Arc<PeerCells>> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |id| peers.iter().find(|peer| peer.id == id).map(Arc::clone);
        let cells = |id| known(id).unwrap_or_else(|| Arc::new(PeerCells::new(id)));
        let kept: Vec<_> = members.map(Some).chain([None]).map(cells).collect();
        peers.clone_from(&kept);
        kept
    }

    pub(super) fn read(&self, now: Instant) -> Vec<PeerMetrics> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.iter().map(|peer| peer.read(now)).collect()
    }
}

impl PeerCells {
    fn new(id: Option<NodeId>) -> Self {
        let cells = Self {
            id,
            lag: Cell::default(),
            heard_micros: Cell::default(),
            sent: Default::default(),
            received: Default::default(),
        };
        cells.publish(None, None);
        cells
    }

    pub(in crate::host) fn id(&self) -> Option<NodeId> {
        self.id
    }

    pub(in crate::host) fn count_sent(&self, message: &Message<Bytes>) {
        self.sent[kind(&message.body)].count(message);
    }

    pub(in crate::host) fn count_received(&self, message: &Message<Bytes>) {
        self.received[kind(&message.body)].count(message);
    }

    /// Publishes what the node knows of the peer.
    pub(in crate::host) fn publish(&self, lag: Option<u64>, heard_at: Option<Instant>) {
        self.lag.set(lag.unwrap_or(UNKNOWN));
        self.heard_micros.set(heard_at.map_or(UNKNOWN, Instant::as_micros));
    }

    fn read(&self, now: Instant) -> PeerMetrics {
        let known = |cell: &Cell| Some(cell.get()).filter(|value| *value != UNKNOWN);
        let heard_at = known(&self.heard_micros).map(Instant::from_micros);
        let read = |(kind, cells): (&'static str, &KindCells)| {
            let (messages, bytes) = (cells.messages.get(), cells.bytes.get());
            MessageMetrics { kind, messages, bytes }
        };
        PeerMetrics {
            id: self.id,
            lag: known(&self.lag),
            silent_for: heard_at.map(|at| now.saturating_duration_since(at)),
            sent: KINDS.into_iter().zip(&self.sent).map(read).collect(),
            received: KINDS.into_iter().zip(&self.received).map(read).collect(),
        }
    }
}

impl KindCells {
    fn count(&self, message: &Message<Bytes>) {
        self.messages.add_alone(1);
        self.bytes.add_alone(message.size() as u64);
    }
}

/// The number of a message's kind.
fn kind(body: &Body<Bytes>) -> usize {
    match body {
        Body::RequestPreVote(_) => 0,
        Body::RequestPreVoteReply(_) => 1,
        Body::RequestVote(_) => 2,
        Body::RequestVoteReply(_) => 3,
        Body::AppendEntries(_) => 4,
        Body::AppendEntriesReply(_) => 5,
        Body::InstallSnapshot(_) => 6,
        Body::InstallSnapshotReply(_) => 7,
        Body::TimeoutNow(_) => 8,
        Body::ReadIndex(_) => 9,
        Body::ReadIndexReply(_) => 10,
        Body::Propose(_) => 11,
        Body::ProposeReply(_) => 12,
    }
}
