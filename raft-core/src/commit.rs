//! The commit index (§5.3, §5.4.2) and what it lets through to the state machine.
//!
//! A leader commits by counting only entries of its own term; older ones commit with them (Figure
//! 8). Its own copy counts like any other: once it is durable. What is handed to the state machine
//! is committed, and durable here as well, so that no restart finds a state machine ahead of its
//! log.

use rand_core::Rng;

use crate::quorum::MemberSet;
use crate::raft::{Leading, Next};
use crate::state::progress::Progress;
use crate::state::server::Server;
use crate::types::{Command, Index};

impl<C: Command, R: Rng> Leading<'_, C, R> {
    /// Commits what a majority holds, if it is of this leader's own term.
    pub(crate) fn advance_commit(&mut self) -> Next {
        let quorum = self.server.members.quorum;
        let held = self.leader.peers.each(
            &self.server.members,
            self.server.durable.index(),
            Progress::match_index,
        );
        let ahead =
            quorum.voters().iter().filter(|position| held(*position) > self.server.commit_index);
        if !quorum.is_reached_by(ahead.collect::<MemberSet>()) {
            return Next::Stay;
        }
        let index = quorum.reached(held);
        if self.server.log.term_at(index) != Some(self.server.current_term) {
            return Next::Stay;
        }
        let committed = self.server.log.bytes_between(self.server.commit_index.next(), index);
        self.server.uncommitted_bytes = self.server.uncommitted_bytes.saturating_sub(committed);
        if self.server.advance_commit_to(index) {
            self.update_members();
            self.server.note_removal();
        }
        self.send_to_everyone();
        self.complete_change()
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// Commits up to `index`, which this log holds; never takes a commit back. Returns whether the
    /// configuration in force is committed with it, so that members that were leaving may go.
    pub(crate) fn advance_commit_to(&mut self, index: Index) -> bool {
        debug_assert!(index <= self.log.last().index);
        let before = self.commit_index;
        self.commit_index = before.max(index);
        let configuration = self.memberships.index();
        before < configuration && configuration <= index
    }

    /// The disk keeps that this server was removed, if the configuration just committed says so.
    pub(crate) fn note_removal(&mut self) {
        if self.removed_at().is_some() {
            self.durable.on_hard_state_changed();
        }
    }

    /// The next batch for the state machine: its first entry and its last. A snapshot that waits to
    /// be restored is in place of the log, which then holds none of the entries up to it.
    pub(crate) fn next_apply(&mut self) -> Option<(Index, Index)> {
        let through = self.commit_index.min(self.durable.index());
        let is_full = self.inflight_applies.len() >= self.config.inflight_applies_max;
        if self.apply_sent >= through || is_full {
            return None;
        }
        let (from, bytes_max) = (self.apply_sent.next(), self.config.apply_bytes_max);
        let (last, bytes) = self.log.last_fitting(from, through, bytes_max)?;
        self.apply_sent = last;
        self.inflight_applies.push(last, bytes);
        self.snapshots.bytes_since = self.snapshots.bytes_since.saturating_add(bytes);
        Some((from, last))
    }

    /// Whether this leader has committed an entry of its own term, and so knows of every commit
    /// before it (§8).
    pub(crate) fn has_committed_in_term(&self) -> bool {
        self.log.term_at(self.commit_index) == Some(self.current_term)
    }
}
