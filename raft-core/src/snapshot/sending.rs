//! The leader's side of a snapshot (§7): its chunks on their way to a follower that lags behind the
//! log.

use alloc::boxed::Box;

use rand_core::Rng;

use crate::config::Config;
use crate::message::{Body, InstallSnapshot, InstallSnapshotReply};
use crate::output::{Output, ReadSnapshot, SnapshotMeta};
use crate::raft::Raft;
use crate::role::RoleState;
use crate::time::Instant;
use crate::types::{Command, LogId, NodeId};

/// A snapshot on its way to a follower.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Sending {
    snapshot: SnapshotMeta,
    /// The follower has written it up to here.
    acknowledged: u64,
    /// What the follower reported last: less than that, if the reply came late or its file is lost.
    last_reported: u64,
    /// Where the next chunk begins, and where the furthest that was sent ends.
    next: u64,
    sent: u64,
    /// Where it ends, once that is known.
    size: Option<u64>,
    /// The host reads the next chunk.
    reading: bool,
    /// It was begun again, and the follower has taken nothing since.
    in_vain: bool,
    /// The moment and the place of the last progress seen.
    progress: (Instant, u64),
}

impl Sending {
    pub(crate) fn new(snapshot: SnapshotMeta, now: Instant) -> Self {
        Self {
            snapshot,
            acknowledged: 0,
            last_reported: 0,
            next: 0,
            sent: 0,
            size: None,
            reading: false,
            in_vain: false,
            progress: (now, 0),
        }
    }

    /// The last entry that the snapshot includes.
    pub(crate) fn last(&self) -> LogId {
        self.snapshot.last
    }

    /// Whether the next chunk is to be read now. One chunk at a time goes to a follower that has
    /// taken nothing since it was begun again.
    fn wants_chunk(&self, config: &Config) -> bool {
        let chunks = if self.in_vain { 1 } else { config.inflight_chunks_max };
        let window = config.snapshot_chunk_bytes.saturating_mul(chunks);
        let inflight = self.next.saturating_sub(self.acknowledged);
        let is_left = self.size.is_none_or(|size| self.next < size);
        !self.reading && is_left && inflight < u64::try_from(window).unwrap_or(u64::MAX)
    }

    /// The follower wants what follows `received`. It wants nothing but the beginning if it has
    /// lost what it had, or lacks the first chunk: then it is sent that at once, and if that was in
    /// vain, when it is retried.
    ///
    /// It is taken to hold no more than it was sent here, whatever it says.
    fn on_received(&mut self, received: u64) {
        let received = received.min(self.sent);
        if received == 0 {
            self.last_reported = 0;
            if self.acknowledged > 0 || !self.in_vain {
                self.begin_again();
            }
        } else if self.size.is_none_or(|size| received <= size) {
            // Replies may come late, and say less than is known.
            self.last_reported = received;
            self.in_vain &= received <= self.acknowledged;
            self.acknowledged = self.acknowledged.max(received);
            self.next = self.next.max(received);
        }
    }

    /// Goes back to what the follower reported last.
    fn begin_again(&mut self) {
        self.acknowledged = self.last_reported;
        self.next = self.last_reported;
        self.in_vain = true;
        if self.size == Some(self.next) {
            // All that is missing is an empty last chunk, as is all of a snapshot of no bytes: it
            // is to be sent again.
            self.size = None;
        }
    }

    /// Begins again if the follower has taken nothing for too long. Returns whether it did.
    fn retry_if_stuck(&mut self, now: Instant, config: &Config) -> bool {
        // The follower has all bytes, and was to be told with an empty chunk that there are no
        // more.
        let is_sent = self.size == Some(self.acknowledged);
        let waits_for_nothing = self.next == self.acknowledged && !self.reading && !is_sent;
        if self.progress.1 != self.acknowledged || waits_for_nothing {
            self.progress = (now, self.acknowledged);
        }
        let stuck = now.saturating_duration_since(self.progress.0) >= config.election_timeout_min;
        if stuck {
            self.begin_again();
            self.progress = (now, self.acknowledged);
            self.reading = false;
        }
        stuck
    }
}

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
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(position) = self.members.position(to) else { return };
        let Some(peer) = leader.peers.get_mut(position) else { return };
        let session = peer.session();
        let Some(sending) = peer.sending.as_mut().filter(|s| s.snapshot.last == snapshot) else {
            return;
        };
        sending.reading = false;
        leader.pending.insert(position);
        let length = chunk.as_ref().len() as u64;
        if sending.next != offset || (length == 0 && !done) {
            return;
        }
        sending.next = offset.saturating_add(length);
        sending.sent = sending.sent.max(sending.next);
        if done {
            sending.size = Some(sending.next);
        }
        let snapshot = Box::new(sending.snapshot.clone());
        let body =
            Body::InstallSnapshot(InstallSnapshot { session, snapshot, offset, chunk, done });
        let message = self.message(to, body);
        self.outbox.send_ungated(message);
    }

    /// The host cannot read the snapshot that was to be sent. The newest one is sent instead, from
    /// its beginning.
    pub fn snapshot_unreadable(&mut self, to: NodeId, snapshot: LogId) {
        let (newest, now) = (self.snapshots.last.clone(), self.now);
        let Some(position) = self.members.position(to) else { return };
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peers.get_mut(position) else { return };
        // If there is no newer one, the next attempt is that of `retry_if_stuck`.
        let outdated = newest.last != snapshot;
        let sending = peer.sending.as_mut().filter(|s| outdated && s.snapshot.last == snapshot);
        if let Some(sending) = sending {
            *sending = Sending::new(newest, now);
            leader.pending.insert(position);
        }
    }

    /// The next chunk that this leader wants to send.
    pub(crate) fn next_snapshot_to_read(&mut self) -> Option<Output<C>> {
        let RoleState::Leader(leader) = &mut self.role else { return None };
        for position in leader.sending.iter() {
            let (peer, to) = (leader.peers.get_mut(position)?, self.members.id(position)?);
            let heard_at = peer.heard_at();
            let Some(sending) = &mut peer.sending else {
                leader.sending.remove(position);
                continue;
            };
            let silent = self.now.saturating_duration_since(heard_at);
            let is_heard =
                leader.heard.contains(position) || silent < self.config.election_timeout_min;
            if is_heard && sending.wants_chunk(&self.config) {
                sending.reading = true;
                return Some(Output::ReadSnapshot(ReadSnapshot {
                    to,
                    snapshot: sending.snapshot.last,
                    offset: sending.next,
                    bytes_max: self.config.snapshot_chunk_bytes,
                }));
            }
        }
        None
    }

    pub(crate) fn on_install_snapshot_reply(&mut self, from: usize, reply: InstallSnapshotReply) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        let Some(peer) = leader.peers.get_mut(from) else { return };
        let is_fresh = reply.session == peer.session();
        let sending = peer.sending.as_mut();
        match sending.filter(|sending| is_fresh && sending.snapshot.last == reply.snapshot) {
            Some(sending) => {
                leader.heard.insert(from);
                sending.on_received(reply.received);
            }
            None => {
                self.counters.stale_replies = self.counters.stale_replies.saturating_add(1);
            }
        }
    }

    /// With each heartbeat: chunks that were lost are sent again.
    pub(crate) fn retry_snapshots(&mut self) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        for position in leader.sending.iter() {
            let newest = &self.snapshots.last;
            let sending = leader.peers.get_mut(position).and_then(|peer| peer.sending.as_mut());
            let Some(sending) = sending else { continue };
            let stuck = sending.retry_if_stuck(self.now, &self.config);
            if stuck && sending.acknowledged == 0 && sending.snapshot.last < newest.last {
                *sending = Sending::new(newest.clone(), self.now);
            }
        }
    }
}
