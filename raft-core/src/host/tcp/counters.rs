//! What a TCP transport counts.

#[cfg(feature = "prometheus")]
mod prometheus;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::warnings::{Cause, Warnings};
use crate::host::metrics::{Counter, Family};
use crate::types::NodeId;

macro_rules! counters {
    ($($family:literal, $label:literal, $help:literal {
        $($(#[$doc:meta])* $name:ident = $value:literal,)+
    })+) => {
        /// What a transport has counted since it was made.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        #[non_exhaustive]
        pub struct Counts {
            $($($(#[$doc])* pub $name: u64,)+)+
        }

        #[derive(Default, Debug)]
        pub(super) struct Cells {
            $($(pub(super) $name: Cell,)+)+
        }

        impl Cells {
            fn read(&self) -> Counts {
                Counts { $($($name: self.$name.0.load(Relaxed),)+)+ }
            }
        }

        #[allow(dead_code, reason = "read by the exporter, which is a feature")]
        pub(super) const COUNTS: &[Family<Counts>] = &[$(Family {
            name: $family,
            label: $label,
            help: $help,
            counters: &[$(Counter { value: $value, read: |counts| counts.$name }),+],
        }),+];
    };
}

// The fields of `Counts`, the cells behind them, and the names under which a monitoring system
// finds them. The guide's page on monitoring lists the names.
counters! {
    "tcp_messages_sent", "", "Messages written to connections; they may still be lost" {
        /// Messages written to a connection. They may still be lost.
        messages_sent = "",
    }
    "tcp_bytes_sent", "", "Bytes written to connections, keepalives and handshakes excluded" {
        /// Bytes written to connections, keepalives and handshakes excluded.
        bytes_sent = "",
    }
    "tcp_messages_received", "", "Messages received and handed to the node" {
        /// Messages received and handed to the node.
        messages_received = "",
    }
    "tcp_bytes_received", "", "Bytes of the received messages" {
        /// Bytes of the received messages.
        bytes_received = "",
    }
    "tcp_messages_dropped", "reason", "Messages that the transport dropped" {
        /// Messages dropped because the peer's queue was full.
        dropped_full = "queue_full",
        /// Messages dropped because the peer could not be reached, or its connection broke.
        dropped_unreachable = "unreachable",
        /// Messages dropped because they are longer than `frame_bytes_max`.
        dropped_too_long = "too_long",
        /// Messages dropped because they are for a node that is no member and not connected.
        dropped_unknown_peer = "unknown_peer",
        /// Messages received and dropped because only a newer version understands them.
        dropped_from_newer = "from_newer",
    }
    "tcp_connections", "direction", "Connections made to peers, and accepted from them" {
        /// Connections made to peers.
        connected = "outgoing",
        /// Connections accepted from peers.
        accepted = "incoming",
    }
    "tcp_connect_failures", "", "Attempts to connect that failed, refusals included" {
        /// Attempts to connect that failed, refusals included.
        connect_failed = "",
    }
    "tcp_peers_suspected", "", "Peers whose process seemed to be gone" {
        /// Peers whose process seemed to be gone: a connection was closed, and the next refused.
        suspected = "",
    }
    "tcp_refused", "", "Incoming connections refused in the handshake" {
        /// Incoming connections refused in the handshake.
        refused = "",
    }
    "tcp_refused_other_store", "",
    "Connections refused or closed because a member has another store than the cluster knows" {
        /// Connections refused, or closed, by either side because a member's store is not the one
        /// that the cluster knows.
        refused_other_store = "",
    }
    "tcp_closed", "reason", "Connections that this node closed for a reason" {
        /// Connections closed because the data that arrived was damaged, too long, cut, or meant
        /// nothing.
        closed_damaged = "damaged",
        /// Connections closed because a message was not from the peer, or not for this node.
        closed_misaddressed = "misaddressed",
        /// Connections, incoming ones and dialed ones, closed because TLS failed: the other side
        /// showed no certificate or a wrong one, or what arrived was not TLS.
        closed_tls = "tls",
        /// Connections closed because the other side was silent or took nothing for
        /// `idle_timeout`.
        closed_idle = "idle",
        /// Incoming connections closed because the peer came back on a new one.
        closed_replaced = "replaced",
    }
}

/// A handle on the counters of a transport. It stays readable when the transport has moved into a
/// node. Cheap to clone.
///
/// With the feature `prometheus` it is a collector for a registry of the crate `prometheus_client`,
/// beside the [`MetricsReader`](crate::host::MetricsReader) of the node. Its names begin with
/// `raft_tcp_`, and there are samples from when the transport starts, because they name its node.
#[derive(Clone, Default, Debug)]
pub struct Counters(Arc<SharedCells>);

#[derive(Default, Debug)]
struct SharedCells {
    cells: Cells,
    /// The node of the transport, once the transport has started.
    node: OnceLock<NodeId>,
    warnings: Warnings,
}

impl Counters {
    /// The counts at this moment.
    pub fn read(&self) -> Counts {
        self.0.cells.read()
    }

    /// Counts a connection that a peer accepted.
    pub fn count_connected(&self) {
        self.0.cells.connected.add(1);
    }

    /// Counts a connection accepted from a peer.
    pub fn count_accepted(&self) {
        self.0.cells.accepted.add(1);
    }

    /// Counts an attempt to connect that failed.
    pub fn count_connect_failed(&self) {
        self.0.cells.connect_failed.add(1);
    }

    /// Counts a message for a node that is no member and not connected.
    pub fn count_unknown_peer(&self) {
        self.0.cells.dropped_unknown_peer.add(1);
    }

    /// Warns, now and then, that the system gives no more sockets for incoming connections.
    pub fn warn_not_accepting(&self, error: &io::Error) {
        let node = self.node();
        match self.may_warn(Cause::Accept, None) {
            Some(left_out) => {
                tracing::warn!(node, %error, left_out, "cannot accept connections: look for a limit on open files");
            }
            None => tracing::debug!(node, %error, "cannot accept connections"),
        }
    }

    /// Warns, now and then, that no thread dials a peer because the system gives none. The
    /// transport tries again.
    pub fn warn_not_dialing(&self, peer: NodeId, error: &io::Error) {
        let node = self.node();
        let peer_id = peer.get();
        match self.may_warn(Cause::Spawn, Some(peer)) {
            Some(left_out) => {
                tracing::warn!(node, peer = peer_id, %error, left_out, "no thread to dial a peer: look for a limit on threads");
            }
            None => tracing::debug!(node, peer = peer_id, %error, "no thread to dial a peer"),
        }
    }

    /// Sets the node that log lines name for these counters.
    pub(super) fn belong_to(&self, node: NodeId) {
        // A transport belongs to one node for as long as it exists.
        let _ = self.0.node.set(node);
    }

    /// The node of the transport, as log lines name it.
    pub(super) fn node(&self) -> Option<u64> {
        self.0.node.get().map(|node| node.get())
    }

    pub(super) fn cells(&self) -> &Cells {
        &self.0.cells
    }

    /// Whether to log this warning: the number of similar warnings left out before it, or `None` to
    /// leave it out.
    pub(super) fn may_warn(&self, cause: Cause, peer: Option<NodeId>) -> Option<u64> {
        self.0.warnings.may_warn(cause, peer, Instant::now())
    }
}

#[derive(Default, Debug)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.load(Relaxed) == 0
    }
}
