//! The follower's side of a snapshot (§7, Figure 13): chunks that come from the leader, and the log
//! that the whole of them replaces.

use rand_core::Rng;

use crate::message::{Body, InstallSnapshot, InstallSnapshotReply};
use crate::output::{Output, WriteSnapshot};
use crate::raft::{Following, Raft};
use crate::state::memberships::Memberships;
use crate::state::server::Server;
use crate::state::snapshots::{Receiving, Snapshots};
use crate::status::count;
use crate::types::{Command, Index, InstallId, LogId, NodeId, Session};

impl<C: Command, R: Rng> Raft<C, R> {
    /// InstallSnapshot of the current term, receiver implementation (Figure 13).
    pub(crate) fn on_install_snapshot(&mut self, from: NodeId, install: InstallSnapshot<C>) {
        let length = install.chunk.as_ref().len() as u64;
        let end = install.offset.checked_add(length);
        let well_formed = install.snapshot.membership.validate().is_ok()
            && install.snapshot.last.term <= self.server.current_term
            && (length > 0 || install.done);
        let (Some(end), true) = (end, well_formed) else {
            count(&mut self.server.counters.malformed);
            return;
        };
        if !self.follow(from, install.session, None) {
            return;
        }
        if let Some(mut following) = self.following() {
            following.receive_chunk(install, end);
        }
    }

    /// The host has written the snapshot that comes by this attempt up to `written` bytes, as
    /// [`Output::WriteSnapshot`] asked; if that is the whole, it is durable, and is installed. What
    /// is said of an earlier attempt counts for nothing.
    ///
    /// If the host could not write it, call [`snapshot_unwritable`](Self::snapshot_unwritable). A
    /// host that passes 0 instead is taken at that word, unless 0 bytes are the whole snapshot.
    pub fn snapshot_written(&mut self, install: InstallId, written: u64) {
        if let Some(mut following) = self.receiver(install) {
            following.on_snapshot_written(written);
        }
        self.check_invariants();
    }

    /// The host could not write what comes by this attempt, and has thrown away what it had of it:
    /// the leader sends the snapshot again from the beginning. What is said of an earlier attempt
    /// counts for nothing.
    pub fn snapshot_unwritable(&mut self, install: InstallId) {
        if let Some(mut following) = self.receiver(install) {
            following.on_snapshot_unwritable();
        }
        self.check_invariants();
    }

    /// This follower, if the leader that sends what comes by this attempt is followed still; else
    /// the attempt is forgotten.
    fn receiver(&mut self, install: InstallId) -> Option<Following<'_, C, R>> {
        let session = self.following().map(|following| following.known.session);
        let receiving = self.server.snapshots.receiving.as_ref()?;
        if receiving.id != install || receiving.term != self.server.current_term {
            return None;
        }
        if Some(receiving.session) != session {
            self.server.snapshots.receiving = None;
            return None;
        }
        self.following()
    }
}

impl<C: Command, R: Rng> Following<'_, C, R> {
    /// Takes a chunk of the leader's snapshot that ends at `end`, if that is the next one.
    fn receive_chunk(&mut self, install: InstallSnapshot<C>, end: u64) {
        let InstallSnapshot { session, snapshot, offset, chunk, done } = install;
        let snapshot = *snapshot;
        self.server.timers.election.touch();

        let last = snapshot.last;
        let is_old = last.index <= self.server.commit_index;
        if is_old && last.index >= self.server.log.base().index && !self.server.log.contains(last) {
            // Only a leader without a committed entry could hold it, and none is ever elected.
            count(&mut self.server.counters.protocol_violations);
            return;
        }
        if is_old || self.server.log.contains(last) {
            self.server.snapshots.receiving = None;
            self.note_match(last.index);
            self.known.reply_due = true;
            return;
        }
        let term = self.server.current_term;
        let Some(receiving) = self.server.snapshots.receive(term, session, &snapshot, offset)
        else {
            return self.server.reply_received(self.known.id, session, last, 0);
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
            self.server.reply_received(self.known.id, session, last, written);
        }
    }

    fn on_snapshot_written(&mut self, written: u64) {
        let Some(receiving) = self.server.snapshots.receiving.as_mut() else { return };
        if written > receiving.received {
            return;
        }
        let is_whole = receiving.size == Some(written);
        if written == 0 && !is_whole {
            return self.on_snapshot_unwritable();
        }
        receiving.written = written;
        let done = receiving.unwritten.partition_point(|end| *end <= written);
        receiving.unwritten.drain(..done);
        let last = receiving.snapshot.last;
        if is_whole {
            self.install_received();
        } else {
            self.server.reply_received(self.known.id, self.known.session, last, written);
        }
    }

    fn on_snapshot_unwritable(&mut self) {
        if let Some(receiving) = self.server.snapshots.receiving.take() {
            let last = receiving.snapshot.last;
            self.server.reply_received(self.known.id, self.known.session, last, 0);
        }
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
        self.server.update_members();
    }

    /// The log is the leader's up to this committed index, as far as it goes.
    fn note_match(&mut self, index: Index) {
        let matched = index.min(self.server.log.last().index);
        self.advance_commit_to(matched);
        self.known.matched = self.known.matched.max(matched);
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// The next chunk for the host to write.
    pub(crate) fn next_snapshot_to_write(&mut self) -> Option<Output<C>> {
        self.snapshots.receiving.as_mut()?.chunks.pop_front().map(Output::WriteSnapshot)
    }

    /// The installed snapshot, once the write that put it in place of the log is durable, and the
    /// state machine has answered for the one before.
    pub(crate) fn next_restore(&mut self) -> Option<Output<C>> {
        let last = self.snapshots.last.last.index;
        let is_busy = self.last_applied < self.snapshots.restored;
        if !self.snapshots.restoring || self.durable.index() < last || is_busy {
            return None;
        }
        (self.snapshots.restoring, self.snapshots.restored) = (false, last);
        self.apply_sent = last;
        self.inflight_applies.push(last, 0);
        Some(Output::Restore(self.snapshots.last.clone()))
    }

    fn reply_received(&mut self, to: NodeId, session: Session, snapshot: LogId, received: u64) {
        let reply = InstallSnapshotReply { session, snapshot, received };
        self.hold_reply(to, Body::InstallSnapshotReply(reply));
    }
}
