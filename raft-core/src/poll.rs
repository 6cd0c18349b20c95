//! What a server asks of its host next, and in which order. Each output is built from the state
//! when it is polled, so no sequence of messages can make a queue grow. Replies wait in the outbox
//! (`state/outbox.rs`) until what they promise is durable.

use alloc::boxed::Box;

use rand_core::Rng;

use crate::message::{Message, SnapshotMeta};
use crate::output::{Output, Write};
use crate::raft::Raft;
use crate::state::durable::NextWrite;
use crate::state::server::Server;
use crate::types::{Command, HardState, LogId};

impl<C: Command, R: Rng> Raft<C, R> {
    /// In this order: what ended, what to write, what to say, what to apply. Writes come before
    /// messages, so that the disk works while the messages travel.
    ///
    /// Not in line, so that it writes its result where the caller of `poll_outbox` wants it:
    /// else each output is copied once more, a sixth of what an entry costs.
    #[inline(never)]
    pub(crate) fn next_output(&mut self) -> Option<Output<C>> {
        if let Some(changed) = self.next_role_change() {
            return Some(changed);
        }
        if let Some((id, outcome)) = self.server.forwards.next_answer() {
            return Some(Output::Forwarded { id, outcome });
        }
        if let Some(id) = self.server.reads.next_lost() {
            return Some(Output::ReadLost { id });
        }
        if core::mem::take(&mut self.server.membership_changed) {
            return Some(Output::MembershipChanged(self.membership().clone()));
        }
        if let Some(write) = self.server.next_write() {
            return Some(Output::Persist(write));
        }
        if let Some(mut leading) = self.leading() {
            leading.begin_read_round();
        }
        if let Some(message) = self.next_message() {
            return Some(Output::Send(message));
        }
        let snapshots = self
            .server
            .next_snapshot_to_write()
            .or_else(|| self.leading()?.next_snapshot_to_read());
        if let Some(output) = snapshots.or_else(|| self.server.next_restore()) {
            return Some(output);
        }
        if let Some((from, through)) = self.server.next_apply() {
            return Some(Output::Apply { from, through });
        }
        if let Some(output) = self.server.next_snapshot_to_take() {
            return Some(output);
        }
        self.server
            .reads
            .next_ready(self.server.apply_sent)
            .map(|(id, index)| Output::ReadReady { id, index })
    }

    fn next_role_change(&mut self) -> Option<Output<C>> {
        let (role, term, leader) = (self.role(), self.server.current_term, self.leader());
        if self.server.reported == (role, term, leader) {
            return None;
        }
        self.server.reported = (role, term, leader);
        Some(Output::RoleChanged { role, term, leader })
    }

    fn next_message(&mut self) -> Option<Message<C>> {
        if let Some(reply) = self.server.outbox.next_ready(&self.server.durable) {
            return Some(reply);
        }
        if let Some(mut leading) = self.leading() {
            return leading
                .next_propose_reply()
                .or_else(|| leading.next_append())
                .or_else(|| leading.next_timeout_now());
        }
        if let Some(mut following) = self.following() {
            return following
                .next_append_reply()
                .or_else(|| following.next_read_index())
                .or_else(|| following.next_propose());
        }
        self.standing()?.next_vote_request()
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// The next write for the disk.
    fn next_write(&mut self) -> Option<Write<C>> {
        if self.durable.writes_in_flight() >= self.config.inflight_writes_max {
            return None;
        }
        let last_index = self.log.last().index;
        let next = self.durable.next_write(last_index)?;
        let (entries, _) =
            self.log.slice(next.entries_from, last_index, self.config.write_bytes_max);
        let through = entries.last().map_or(next.entries_from.previous(), |last| last.index);
        self.durable.on_written(through, self.now);
        Some(Write {
            id: next.id,
            hard_state: next.with_hard_state.then(|| self.hard_state()),
            snapshot: self.snapshot_to_write(&next),
            compact_to: self.base_to_write(&next),
            truncate_from: next.truncate_from,
            entries,
        })
    }

    /// What the disk keeps besides the log (Figure 2).
    fn hard_state(&self) -> HardState {
        HardState {
            current_term: self.current_term,
            voted_for: self.voted_for,
            promise_micros: self.promise.stored_micros(),
            committed: self.removed_at().unwrap_or_default(),
        }
    }

    /// The snapshot in use, if the disk has yet to hear of it. A server that knows no cluster has
    /// none.
    fn snapshot_to_write(&self, next: &NextWrite) -> Option<Box<SnapshotMeta>> {
        let snapshot = &self.snapshots.last;
        let is_told = next.with_snapshot && !snapshot.membership.is_empty();
        is_told.then(|| Box::new(snapshot.clone()))
    }

    /// Where the log begins, if the disk has yet to hear of the snapshot that replaces what was
    /// before.
    fn base_to_write(&self, next: &NextWrite) -> Option<Box<LogId>> {
        let base = self.log.base();
        let is_told = next.with_snapshot && base > LogId::ZERO;
        is_told.then(|| Box::new(base))
    }
}
