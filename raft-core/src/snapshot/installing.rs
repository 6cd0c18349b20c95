//! The follower's side of a snapshot (§7, Figure 13): chunks that come from the leader, and the log
//! that the whole of them replaces.

use rand_core::Rng;

use crate::message::{Body, InstallSnapshot, InstallSnapshotReply};
use crate::output::{Output, WriteSnapshot};
use crate::raft::Raft;
use crate::state::memberships::Memberships;
use crate::state::snapshots::{Receiving, Snapshots};
use crate::types::{Command, Index, InstallId, LogId, NodeId, Session};

impl<C: Command, R: Rng> Raft<C, R> {
    /// InstallSnapshot of the current term, receiver implementation (Figure 13).
    pub(crate) fn on_install_snapshot(&mut self, from: NodeId, install: InstallSnapshot<C>) {
        let InstallSnapshot { session, snapshot, offset, chunk, done } = install;
        let snapshot = *snapshot;
        let length = chunk.as_ref().len() as u64;
        let end = offset.checked_add(length);
        let well_formed = snapshot.membership.validate().is_ok()
            && snapshot.last.term <= self.server.current_term
            && (length > 0 || done);
        let (Some(end), true) = (end, well_formed) else {
            self.server.counters.malformed = self.server.counters.malformed.saturating_add(1);
            return;
        };
        if !self.follow(from, session, None) {
            return;
        }
        self.server.timers.election.touch();

        let last = snapshot.last;
        let is_old = last.index <= self.server.commit_index;
        if is_old && last.index >= self.server.log.base().index && !self.server.log.contains(last) {
            // Only a leader without a committed entry could hold it, and none is ever elected.
            self.server.counters.protocol_violations =
                self.server.counters.protocol_violations.saturating_add(1);
            return;
        }
        if is_old || self.server.log.contains(last) {
            self.server.snapshots.receiving = None;
            self.note_match(last.index);
            if let Some(following) = self.following() {
                following.reply_due = true;
            }
            return;
        }
        let term = self.server.current_term;
        let Some(receiving) = self.server.snapshots.receive(term, session, &snapshot, offset)
        else {
            return self.reply_received(from, session, last, 0);
        };
        let has_room = receiving.unwritten.len() < self.server.config.inflight_chunks_max;
        if offset == receiving.received && has_room && receiving.size.is_none() {
            receiving.received = end;
            receiving.unwritten.push_back(end);
            if done {
                receiving.size = Some(end);
            }
            let install = receiving.id;
            receiving.chunks.push_back(WriteSnapshot { install, snapshot, offset, chunk, done });
        } else if receiving.size != Some(0) {
            // Of a snapshot of no bytes, 0 would say that it is lost; the answer follows once it is
            // written.
            let written = receiving.written;
            self.reply_received(from, session, last, written);
        }
    }

    /// The host has written the snapshot that comes by this attempt up to `written` bytes, as
    /// [`Output::WriteSnapshot`] asked; if that is the whole, it is durable, and is installed. What
    /// is said of an earlier attempt counts for nothing.
    ///
    /// If the host could not write it, call [`snapshot_unwritable`](Self::snapshot_unwritable). A
    /// host that passes 0 instead is taken at that word, unless 0 bytes are the whole snapshot.
    pub fn snapshot_written(&mut self, install: InstallId, written: u64) {
        let Some(receiving) = self.receiving(install) else { return };
        if written > receiving.received {
            return;
        }
        let is_whole = receiving.size == Some(written);
        if written == 0 && !is_whole {
            return self.snapshot_unwritable(install);
        }
        receiving.written = written;
        let done = receiving.unwritten.partition_point(|end| *end <= written);
        receiving.unwritten.drain(..done);
        let last = receiving.snapshot.last;
        if is_whole {
            self.install_received();
        } else if let Some((leader, session)) = self.leader_and_session() {
            self.reply_received(leader, session, last, written);
        }
        self.check_invariants();
    }

    /// The host could not write what comes by this attempt, and has thrown away what it had of it:
    /// the leader sends the snapshot again from the beginning. What is said of an earlier attempt
    /// counts for nothing.
    pub fn snapshot_unwritable(&mut self, install: InstallId) {
        let Some(receiving) = self.receiving(install) else { return };
        let last = receiving.snapshot.last;
        self.server.snapshots.receiving = None;
        if let Some((leader, session)) = self.leader_and_session() {
            self.reply_received(leader, session, last, 0);
        }
        self.check_invariants();
    }

    /// What comes by this attempt, if the leader that sends it is followed still; else it is
    /// forgotten.
    fn receiving(&mut self, install: InstallId) -> Option<&mut Receiving<C>> {
        let session = self.leader_and_session().map(|(_, session)| session);
        let term = self.server.current_term;
        let receiving = self.server.snapshots.receiving.as_ref();
        let receiving = receiving.filter(|r| r.id == install && r.term == term)?;
        if Some(receiving.session) != session {
            self.server.snapshots.receiving = None;
        }
        self.server.snapshots.receiving.as_mut()
    }

    fn leader_and_session(&mut self) -> Option<(NodeId, Session)> {
        self.following().map(|following| (following.leader, following.session))
    }

    /// The next chunk for the host to write.
    pub(crate) fn next_snapshot_to_write(&mut self) -> Option<Output<C>> {
        self.server.snapshots.receiving.as_mut()?.chunks.pop_front().map(Output::WriteSnapshot)
    }

    /// The installed snapshot, once the write that put it in place of the log is durable, and the
    /// state machine has answered for the one before.
    pub(crate) fn next_restore(&mut self) -> Option<Output<C>> {
        let last = self.server.snapshots.last.last.index;
        let is_busy = self.server.last_applied < self.server.snapshots.restored;
        if !self.server.snapshots.restoring || self.server.durable.index() < last || is_busy {
            return None;
        }
        (self.server.snapshots.restoring, self.server.snapshots.restored) = (false, last);
        self.server.apply_sent = last;
        self.server.inflight_applies.push(last, 0);
        Some(Output::Restore(self.server.snapshots.last.clone()))
    }

    fn install_received(&mut self) {
        let Some(Receiving { snapshot, .. }) = self.server.snapshots.receiving.take() else {
            return;
        };
        let last = snapshot.last;
        if last.index <= self.server.commit_index || self.server.log.contains(last) {
            // The log has come meanwhile, and is as good.
            return self.note_match(last.index);
        }
        self.server.durable.on_log_replaced(self.server.commit_index, last.index);
        self.server.log.replace(last);
        self.server.commit_index = last.index;
        self.server.membership_changed |=
            *self.server.memberships.in_force() != snapshot.membership;
        self.server.memberships = Memberships::new(last.index, snapshot.membership.clone());
        let Snapshots { installs, restored, .. } = self.server.snapshots;
        self.server.snapshots =
            Snapshots { restoring: true, restored, installs, ..Snapshots::new(snapshot) };
        self.on_log_truncated(self.server.durable.index().next());
        self.note_match(last.index);
        self.update_members();
    }

    /// The log is the leader's up to this committed index, as far as it goes.
    fn note_match(&mut self, index: Index) {
        let matched = index.min(self.server.log.last().index);
        self.advance_commit_to(matched);
        if let Some(following) = self.following() {
            following.matched = following.matched.max(matched);
        }
    }

    fn reply_received(&mut self, to: NodeId, session: Session, snapshot: LogId, received: u64) {
        let reply = InstallSnapshotReply { session, snapshot, received };
        self.server.hold_reply(to, Body::InstallSnapshotReply(reply));
    }
}
