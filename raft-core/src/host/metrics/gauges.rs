//! What a node publishes at the end of each turn, in one table.

use super::cells::Cell;

/// A number that a monitoring system shows as it is.
#[derive(Debug)]
#[allow(dead_code, reason = "read by the exporter, which is a feature")]
pub(super) struct Gauge {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) value: fn(&Gauges) -> u64,
}

macro_rules! gauges {
    ($($(#[$doc:meta])* $name:ident: $help:literal,)+) => {
        /// A node's state at the end of its last turn.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[non_exhaustive]
        pub struct Gauges {
            $($(#[$doc])* pub $name: u64,)+
        }

        #[derive(Default, Debug)]
        pub(in crate::host) struct GaugeCells {
            $($name: Cell,)+
        }

        impl GaugeCells {
            pub(super) fn read(&self) -> Gauges {
                Gauges { $($name: self.$name.get(),)+ }
            }

            pub(in crate::host) fn publish(&self, gauges: &Gauges) {
                $(self.$name.set(gauges.$name);)+
            }
        }

        #[allow(dead_code, reason = "read by the exporter, which is a feature")]
        pub(super) const GAUGES: &[Gauge] = &[$(Gauge {
            name: stringify!($name),
            help: $help,
            value: |gauges| gauges.$name,
        }),+];
    };
}

gauges! {
    /// The latest term that the node has seen.
    term: "Latest term that this node has seen",
    /// The index of the last entry of the log.
    last_log_index: "Last entry of the log",
    /// The last entry that is durable here.
    durable_index: "Last entry that is durable here",
    /// The last entry known to be committed.
    commit_index: "Last entry known to be committed",
    /// The last entry that the state machine has answered for.
    applied_index: "Last entry that the state machine has answered for",
    /// The last entry that the newest snapshot includes.
    snapshot_index: "Last entry that the newest snapshot includes",
    /// Entries that the log in memory holds.
    log_entries: "Entries that the log in memory holds",
    /// The size of the log in memory, in bytes.
    log_bytes: "Size of the log in memory",
    /// Members of the cluster, learners included, as this node knows them.
    members: "Members of the cluster, learners included",
    /// Members that vote.
    voters: "Members of the cluster that vote",
    /// Writes that the disk has not acknowledged yet.
    writes_in_flight: "Writes that the disk has not acknowledged yet",
    /// Proposals that wait to be committed.
    proposals_waiting: "Proposals that wait to be committed",
    /// Proposals that wait for the end of a transfer of leadership.
    proposals_parked: "Proposals that wait for the end of a transfer of leadership",
    /// Commands that the node has forwarded and whose clients wait for an answer.
    forwards_waiting: "Forwarded commands whose clients wait for an answer",
    /// Reads that wait to be confirmed.
    reads_waiting: "Reads that wait to be confirmed",
    /// Reads that were confirmed and wait for the state machine.
    reads_queued: "Reads that wait for the state machine",
    /// Changes of membership that wait to be begun or completed.
    changes_waiting: "Changes of membership that wait to be completed",
    /// Threads of the node that have been at one unit of work for too long.
    workers_stuck: "Threads of this node that are stuck",
    /// Servers whose states differ from this server's after the same entry.
    states_differing: "Servers whose states differ from this one: alert on the first",
}
