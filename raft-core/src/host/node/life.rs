//! The life of an entry, as events of the crate `tracing`: accepted, durable, committed, applied.
//!
//! The events have the target [`TARGET`] and the level `TRACE`. While no subscriber wants them,
//! each costs one comparison.

use crate::types::{Index, LogId, NodeId};

/// The target of the events.
const TARGET: &str = "raft_core::entry";

/// This leader has appended the entry for a client of its own.
pub(super) fn accepted(node: NodeId, entry: LogId) {
    let LogId { term, index } = entry;
    tracing::trace!(
        target: TARGET, node = node.get(), term = term.get(), index = index.get(), "accepted"
    );
}

/// The entries after `before` and up to `last` are durable on this node.
pub(super) fn durable(node: NodeId, before: Index, last: Index) {
    if tracing::enabled!(target: TARGET, tracing::Level::TRACE) {
        for index in before.get() + 1..=last.get() {
            tracing::trace!(target: TARGET, node = node.get(), index, "durable");
        }
    }
}

/// This node knows that a quorum holds these entries.
pub(super) fn committed(node: NodeId, entries: impl IntoIterator<Item = LogId>) {
    if tracing::enabled!(target: TARGET, tracing::Level::TRACE) {
        for LogId { term, index } in entries {
            tracing::trace!(
                target: TARGET, node = node.get(), term = term.get(), index = index.get(), "committed"
            );
        }
    }
}

/// The state machine has applied the entry.
pub(super) fn applied(node: NodeId, index: Index) {
    tracing::trace!(target: TARGET, node = node.get(), index = index.get(), "applied");
}
