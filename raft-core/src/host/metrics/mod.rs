//! What a node measures, always: totals, gauges and histograms.
//!
//! The threads of a node write the numbers into cells, one thread at a time into each, without
//! locks and without allocation. The loop publishes its state at the end of each turn. A reader
//! asks no thread of the node, so it gets an answer also while the node is overloaded, stuck or
//! stopped.
//!
//! The numbers of one reading are each exact, and may be of moments a turn apart.

mod cells;
mod family;
mod gauges;
mod histogram;
mod peers;
#[cfg(feature = "prometheus")]
pub(in crate::host) mod prometheus;
mod totals;

use std::fmt;
use std::sync::Arc;
use std::time::Instant as StdInstant;
use std::vec::Vec;

use self::cells::Cell;
use self::gauges::GaugeCells;
use self::histogram::HistogramCells;
use self::peers::PeerTable;
use self::totals::TotalCells;
use super::clock::Clock;
use crate::role::Role;
use crate::time::Instant;
use crate::types::NodeId;

pub use gauges::Gauges;
pub use histogram::Histogram;
pub use peers::{MessageMetrics, PeerMetrics};
pub use totals::Totals;

pub(in crate::host) use family::{Counter, Family};
pub(in crate::host) use peers::PeerCells;

/// What a node has measured, at one moment. From [`Handle::metrics`](crate::host::Handle::metrics).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Metrics {
    /// The node.
    pub id: NodeId,
    /// Whether the node runs. If it has stopped, `gauges` and `peers` are its last ones.
    pub running: bool,
    /// What the node is. A node that has stopped follows.
    pub role: Role,
    /// The leader of its term, if the node knows it and runs.
    pub leader: Option<NodeId>,
    /// What it has counted.
    pub totals: Totals,
    /// What it was at the end of its last turn.
    pub gauges: Gauges,
    /// How long things took.
    pub histograms: Histograms,
    /// Its members but for itself, by rising id, and last all other nodes together.
    pub peers: Vec<PeerMetrics>,
}

/// A histogram as a monitoring system finds it.
#[allow(dead_code, reason = "read by the exporter, which is a feature")]
struct NamedHistogram {
    name: &'static str,
    help: &'static str,
    read: fn(&Histograms) -> &Histogram,
}

macro_rules! histograms {
    ($($(#[$doc:meta])* $name:ident: $help:literal,)+) => {
        /// How long things took on a node.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[non_exhaustive]
        pub struct Histograms {
            $($(#[$doc])* pub $name: Histogram,)+
        }

        #[derive(Default, Debug)]
        pub(in crate::host) struct AllHistogramCells {
            $(pub(in crate::host) $name: HistogramCells,)+
        }

        impl AllHistogramCells {
            fn read(&self) -> Histograms {
                Histograms { $($name: self.$name.read(),)+ }
            }
        }

        #[allow(dead_code, reason = "read by the exporter, which is a feature")]
        const HISTOGRAMS: &[NamedHistogram] = &[$(NamedHistogram {
            name: stringify!($name),
            help: $help,
            read: |histograms| &histograms.$name,
        }),+];
    };
}

histograms! {
    /// From when the loop hands a write to the journal until the loop hears that the write is
    /// durable.
    append_to_durable: "From handing a write to the journal until its report",
    /// What one sync of the journal took.
    journal_sync: "One sync of the journal",
    /// From when this leader appends a command of its own clients until the command is committed.
    proposal_to_commit: "From appending a command to its commit",
    /// From when this leader appends a command of its own clients until the state machine has
    /// applied the commands that the node took in the same turn.
    proposal_to_applied: "From appending a command until the state machine has applied it",
    /// What the state machine took for one batch of committed entries.
    apply: "One batch of entries in the state machine",
    /// From when a snapshot is due until it is durable.
    snapshot: "From when a snapshot is due until it is durable",
    /// How much later than it asked for the loop turned.
    loop_lateness: "How much later than it asked for the loop turned",
}

/// The cells of a node.
pub(in crate::host) struct MetricCells {
    id: NodeId,
    clock: Clock,
    stopped: Cell,
    role: Cell,
    /// Zero if no leader is known, and otherwise one.
    knows_leader: Cell,
    leader: Cell,
    pub(in crate::host) totals: TotalCells,
    pub(in crate::host) gauges: GaugeCells,
    pub(in crate::host) histograms: AllHistogramCells,
    peers: PeerTable,
}

impl MetricCells {
    /// The cells of a node that is about to start; `clock` is the clock of its loop.
    pub(in crate::host) fn new(id: NodeId, clock: Clock) -> Self {
        Self {
            id,
            clock,
            stopped: Cell::default(),
            role: Cell::default(),
            knows_leader: Cell::default(),
            leader: Cell::default(),
            totals: TotalCells::default(),
            gauges: GaugeCells::default(),
            histograms: AllHistogramCells::default(),
            peers: PeerTable::default(),
        }
    }

    pub(in crate::host) fn publish_role(&self, role: Role, leader: Option<NodeId>) {
        self.role.set(match role {
            Role::Follower => 0,
            Role::PreCandidate => 1,
            Role::Candidate => 2,
            Role::Leader => 3,
        });
        self.leader.set(leader.map_or(0, NodeId::get));
        self.knows_leader.set(u64::from(leader.is_some()));
    }

    /// Keeps numbers for these members but for this node itself. Returns the cells of each, and
    /// last the cells of all other nodes.
    pub(in crate::host) fn keep_peers(
        &self,
        members: impl Iterator<Item = NodeId>,
    ) -> Vec<Arc<PeerCells>> {
        self.peers.keep(members.filter(|id| *id != self.id))
    }

    /// The moment, on the clock of the node's loop.
    pub(in crate::host) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// This moment of the system's clock, on the clock of the node's loop.
    pub(in crate::host) fn at(&self, moment: StdInstant) -> Instant {
        self.clock.at(moment)
    }

    /// To be called when the node has stopped.
    pub(in crate::host) fn stop(&self) {
        self.publish_role(Role::Follower, None);
        self.stopped.set(1);
    }

    fn read(&self) -> Metrics {
        let role = match self.role.get() {
            0 => Role::Follower,
            1 => Role::PreCandidate,
            2 => Role::Candidate,
            _ => Role::Leader,
        };
        let leader = (self.knows_leader.get() > 0).then(|| NodeId::new(self.leader.get()));
        Metrics {
            id: self.id,
            running: self.stopped.get() == 0,
            role,
            leader,
            totals: self.totals.read(),
            gauges: self.gauges.read(),
            histograms: self.histograms.read(),
            peers: self.peers.read(self.clock.now()),
        }
    }
}

/// Reads the metrics of a node at any time, also after the node has stopped. It does not keep the
/// node running. Cheap to clone.
#[derive(Clone)]
pub struct MetricsReader {
    cells: Arc<MetricCells>,
}

impl MetricsReader {
    pub(in crate::host) fn new(cells: Arc<MetricCells>) -> Self {
        Self { cells }
    }

    /// The metrics at this moment. Never waits for the node.
    pub fn read(&self) -> Metrics {
        self.cells.read()
    }

    pub(in crate::host) fn cells(&self) -> &MetricCells {
        &self.cells
    }
}

impl fmt::Debug for MetricsReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsReader").field("id", &self.cells.id).finish_non_exhaustive()
    }
}
