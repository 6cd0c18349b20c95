//! What the loop publishes and counts for a monitoring system.

use super::NodeLoop;
use crate::error::ReadRefused;
use crate::host::metrics::Gauges;
use crate::host::node::awaited::Proposer;
use crate::host::node::inbox::Freshness;
use crate::host::state_machine::StateMachine;

impl<S: StateMachine> NodeLoop<S> {
    /// Publishes the node's state. Called at the end of each turn.
    pub(super) fn publish_metrics(&mut self) {
        let (base, last) = self.raft.log_range();
        let (proposals_waiting, reads_waiting) = self.waiters.len();
        let server = &self.raft.server;
        let membership = self.raft.membership();
        let gauges = Gauges {
            term: server.current_term.get(),
            last_log_index: last.index.get(),
            durable_index: server.durable.index().get(),
            commit_index: server.commit_index.get(),
            applied_index: server.last_applied.get(),
            snapshot_index: server.snapshots.last.last.index.get(),
            log_entries: last.index.get().saturating_sub(base.index.get()),
            log_bytes: server.log.bytes() as u64,
            members: membership.members().len() as u64,
            voters: membership.voters().count() as u64,
            writes_in_flight: server.durable.writes_in_flight() as u64,
            proposals_waiting: proposals_waiting as u64,
            proposals_parked: self.handover.parked() as u64,
            forwards_waiting: self.forwards.len() as u64,
            reads_waiting: reads_waiting as u64,
            reads_queued: self.state_machine.awaited().reads() as u64,
            changes_waiting: self.changes.len() as u64,
            workers_stuck: self.watch.stuck().len() as u64,
            states_differing: self.states.differences().len() as u64,
        };
        let totals = &self.meter.cells().totals;
        totals.messages_dropped_inbox_full.set(self.inbox.messages_dropped());
        totals.requests_refused.set(self.inbox.requests_refused());
        totals.client_panics.set(self.lifecycle.panics());
        self.meter.publish(&self.raft, &gauges);
    }

    /// Counts committed entries, and measures how long their proposers have waited. The commands of
    /// one turn were appended at the same moment, so they are measured together.
    pub(super) fn count_committed(&self, entries: usize, proposers: &[Proposer<S>]) {
        let cells = self.meter.cells();
        cells.totals.entries_committed.add_alone(entries as u64);
        for together in proposers.chunk_by(|one, next| one.proposed_at == next.proposed_at) {
            let proposed_at = together.first().and_then(|proposer| proposer.proposed_at);
            if let Some(proposed_at) = proposed_at {
                let span = self.meter.now().saturating_duration_since(proposed_at);
                cells.histograms.proposal_to_commit.record_many(span, together.len() as u64);
            }
        }
    }

    pub(super) fn count_read(&self, freshness: Freshness) {
        let totals = &self.meter.cells().totals;
        let counter = match freshness {
            Freshness::Linearizable => &totals.reads_linearizable,
            Freshness::AtMost(_) => &totals.reads_stale,
            Freshness::Local => &totals.reads_local,
        };
        counter.add_alone(1);
    }

    pub(super) fn count_refused_read(&self, refused: ReadRefused) {
        let totals = &self.meter.cells().totals;
        let counter = match refused {
            ReadRefused::NoLeader => &totals.reads_refused_no_leader,
            ReadRefused::TooManyReads { .. } => &totals.reads_refused_busy,
        };
        counter.add_alone(1);
    }
}
