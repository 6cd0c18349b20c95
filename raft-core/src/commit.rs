//! The commit index (§5.3, §5.4.2) and what it lets through to the state machine.
//!
//! A leader commits by counting only entries of its own term; older ones commit with them (Figure
//! 8). Its own copy counts like any other: once it is durable. What is handed to the state machine
//! is committed, and durable here as well, so that no restart finds a state machine ahead of its
//! log.

use rand_core::Rng;

use crate::entries::Entries;
use crate::quorum::MemberSet;
use crate::raft::Raft;
use crate::state::progress::Progress;
use crate::state::roles::RoleState;
use crate::state::server::Server;
use crate::types::{Command, Index};

impl<C: Command, R: Rng> Raft<C, R> {
    /// Commits what a majority holds, if it is of this leader's own term.
    pub(crate) fn advance_commit(&mut self) {
        let RoleState::Leader(leader) = &self.role else { return };
        let quorum = self.server.members.quorum;
        let held = leader.peers.each(
            &self.server.members,
            self.server.durable.index(),
            Progress::match_index,
        );
        let ahead =
            quorum.voters().iter().filter(|position| held(*position) > self.server.commit_index);
        if !quorum.is_reached_by(ahead.collect::<MemberSet>()) {
            return;
        }
        let index = quorum.reached(held);
        if self.server.log.term_at(index) == Some(self.server.current_term) {
            let committed = self.server.log.bytes_between(self.server.commit_index.next(), index);
            self.server.uncommitted_bytes = self.server.uncommitted_bytes.saturating_sub(committed);
            self.advance_commit_to(index);
            self.send_to_everyone();
            self.complete_change();
        }
    }

    /// Commits up to `index`, which this log holds; never takes a commit back.
    pub(crate) fn advance_commit_to(&mut self, index: Index) {
        debug_assert!(index <= self.server.log.last().index);
        let before = self.server.commit_index;
        self.server.commit_index = before.max(index);
        let configuration = self.server.memberships.index();
        if before < configuration && configuration <= index {
            self.update_members();
            if self.removed_at().is_some() {
                self.server.durable.on_hard_state_changed();
            }
        }
    }

    /// The next batch for the state machine.
    pub(crate) fn next_apply(&mut self) -> Option<Entries<C>> {
        let through = self.server.commit_index.min(self.server.durable.index());
        let is_full = self.server.inflight_applies.len() >= self.server.config.inflight_applies_max;
        if self.server.apply_sent >= through || is_full || self.server.snapshots.is_restore_due() {
            return None;
        }
        let (from, bytes_max) = (self.server.apply_sent.next(), self.server.config.apply_bytes_max);
        let (entries, bytes) = self.server.log.slice(from, through, bytes_max);
        self.server.apply_sent = entries.last()?.index;
        self.server.inflight_applies.push(self.server.apply_sent, bytes);
        self.server.snapshots.bytes_since = self.server.snapshots.bytes_since.saturating_add(bytes);
        Some(entries)
    }
}

impl<C: Command, R> Server<C, R> {
    /// Whether this leader has committed an entry of its own term, and so knows of every commit
    /// before it (§8).
    pub(crate) fn has_committed_in_term(&self) -> bool {
        self.log.term_at(self.commit_index) == Some(self.current_term)
    }
}
