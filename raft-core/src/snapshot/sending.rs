//! The leader's side of a snapshot (§7): its chunks on their way to a follower that lags behind the
//! log.

use alloc::boxed::Box;

use rand_core::Rng;

use crate::message::{Body, InstallSnapshot, InstallSnapshotReply};
use crate::output::{Output, ReadSnapshot};
use crate::raft::{Leading, Raft};
use crate::state::progress::Progress;
use crate::state::sending::Sending;
use crate::status::count;
use crate::types::{Command, Index, LogId, NodeId};

impl<C: Command, R: Rng> Raft<C, R> {
    /// The host's answer to [`Output::ReadSnapshot`]: what begins at `offset`, at most as long as
    /// was asked, and whether the snapshot ends with it.
    pub fn snapshot_read(
        &mut self,
        to: NodeId,
        snapshot: LogId,
        offset: u64,
        chunk: C,
        done: bool,
    ) {
        let Some(Leading { leader, server }) = self.leading() else { return };
        let Some(position) = server.members.position(to) else { return };
        let Some(peer) = leader.peers.get_mut(position) else { return };
        let session = peer.session();
        let Some(sending) = peer.sending.as_mut().filter(|s| s.snapshot.last == snapshot) else {
            return;
        };
        sending.reading = false;
        leader.pending.insert(position);
        let length = chunk.as_ref().len() as u64;
        let fits = sending.next == offset && !sending.is_full(&server.config);
        if !fits || (length == 0 && !done) {
            return;
        }
        sending.on_sent(length, done);
        let snapshot = Box::new(sending.snapshot.clone());
        let body =
            Body::InstallSnapshot(InstallSnapshot { session, snapshot, offset, chunk, done });
        let message = server.message(to, body);
        server.outbox.send_ungated(message);
    }

    /// The host cannot read the snapshot that was to be sent. The newest one is sent instead, from
    /// its beginning.
    pub fn snapshot_unreadable(&mut self, to: NodeId, snapshot: LogId) {
        let (newest, now) = (self.server.snapshots.last.clone(), self.server.now);
        let Some(position) = self.server.members.position(to) else { return };
        let Some(Leading { leader, .. }) = self.leading() else { return };
        let Some(peer) = leader.peers.get_mut(position) else { return };
        // If there is no newer one, the next attempt is that of `retry_if_stuck`.
        let outdated = newest.last != snapshot;
        let sending = peer.sending.as_mut().filter(|s| outdated && s.snapshot.last == snapshot);
        if let Some(sending) = sending {
            *sending = Sending::new(newest, now);
            leader.pending.insert(position);
        }
    }
}

impl<C: Command, R: Rng> Leading<'_, C, R> {
    pub(crate) fn on_install_snapshot_reply(&mut self, from: usize, reply: InstallSnapshotReply) {
        let Leading { leader, server } = self;
        let Some(peer) = leader.peers.get_mut(from) else { return };
        let is_fresh = reply.session == peer.session();
        let sending = peer.sending.as_mut();
        match sending.filter(|sending| is_fresh && sending.snapshot.last == reply.snapshot) {
            Some(sending) => {
                leader.heard.insert(from);
                sending.on_received(reply.received);
            }
            None => {
                count(&mut server.counters.stale_replies);
            }
        }
    }

    /// The entry, this one at most, behind which a follower needs the log that catches up with the
    /// help of a snapshot. A follower that is silent, or lacks what was compacted already, needs
    /// nothing.
    pub(crate) fn held_behind(&self, index: Index) -> Index {
        let base = self.server.log.base().index;
        let others = self.server.members.everyone_else();
        let needed = others.iter().filter_map(|position| {
            let from = self.leader.peers.get(position)?.catches_up_from()?;
            (from >= base && self.is_heard(position)).then_some(from)
        });
        needed.fold(index, Index::min)
    }

    /// Whether this follower was heard of within the last election timeout.
    fn is_heard(&self, position: usize) -> bool {
        let heard_at = self.leader.peers.get(position).map(Progress::heard_at);
        let silent = heard_at.map(|at| self.server.now.saturating_duration_since(at));
        self.leader.heard.contains(position)
            || silent.is_some_and(|silent| silent < self.server.config.election_timeout_min)
    }

    /// The next chunk that this leader wants to send.
    pub(crate) fn next_snapshot_to_read(&mut self) -> Option<Output<C>> {
        for position in self.leader.lagging.iter() {
            let (is_heard, to) = (self.is_heard(position), self.server.members.id(position)?);
            let Some(sending) = &mut self.leader.peers.get_mut(position)?.sending else { continue };
            if is_heard && sending.wants_chunk(&self.server.config) {
                sending.reading = true;
                return Some(Output::ReadSnapshot(ReadSnapshot {
                    to,
                    snapshot: sending.snapshot.last,
                    offset: sending.next,
                    bytes_max: self.server.config.snapshot_chunk_bytes,
                }));
            }
        }
        None
    }

    /// With each heartbeat: lets go of the log that was kept for followers that catch up, once none
    /// of them needs it.
    pub(crate) fn release_log(&mut self) {
        let last = self.server.snapshots.last.last.index;
        if self.server.snapshots.holds_log && self.held_behind(last) == last {
            self.server.release_log();
        }
    }

    /// With each heartbeat: chunks that were lost are sent again.
    pub(crate) fn retry_snapshots(&mut self) {
        for position in self.leader.lagging.iter() {
            let newest = &self.server.snapshots.last;
            let sending =
                self.leader.peers.get_mut(position).and_then(|peer| peer.sending.as_mut());
            let Some(sending) = sending else { continue };
            let stuck = sending.retry_if_stuck(self.server.now, &self.server.config);
            if stuck && sending.acknowledged == 0 && sending.snapshot.last < newest.last {
                *sending = Sending::new(newest.clone(), self.server.now);
            }
        }
    }
}
