//! Log compaction (§7): snapshots are taken by the host, sent in chunks, and installed in one write.
//!
//! The core holds no snapshot: it knows which there is ([`SnapshotMeta`]), and passes chunks through. The host takes a
//! snapshot while the node works on; once that is durable, the log before it may go, but for a tail that spares followers that
//! are a little behind a snapshot of their own.
//!
//! ```text
//! leader                                   follower
//!   ReadSnapshot  ──► host reads
//!   snapshot_read ──► InstallSnapshot ───►   WriteSnapshot    ──► host writes beside what it has
//!                  ◄─ InstallSnapshotReply   snapshot_written ◄── written
//!                     ...                      the last one is durable: Persist replaces the log, then Restore
//!                  ◄─ AppendEntriesReply     matched, up to the snapshot's last entry
//! ```
//!
//! A window of chunks is on its way at a time. What is lost is sent again, from where the
//! follower's file ends. A follower that has not been heard of for an election timeout is sent no
//! chunk, only heartbeats: its answer to one shows that it is there again.
//!
//! A follower installs a snapshot only if its log does not hold the snapshot's last entry: else that entry is committed, and the log
//! is as good as the snapshot. So no entry that was acknowledged is ever taken back. And the log is replaced in memory first, on the
//! disk next, in the state machine last: a crash in between begins with the old snapshot and the old log.

use alloc::collections::VecDeque;
use core::time::Duration;

use rand_core::Rng;

use crate::config::Config;
use crate::error::NothingToSnapshot;
use crate::memberships::Memberships;
use crate::message::{Body, InstallSnapshot, InstallSnapshotReply};
use crate::output::{Output, ReadSnapshot, SnapshotMeta, WriteSnapshot};
use crate::raft::Raft;
use crate::role::RoleState;
use crate::time::Instant;
use crate::types::{Command, Index, InstallId, LogId, NodeId, Session, Term};

/// What a server knows of its own snapshots.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Snapshots<C> {
    /// The last one taken or installed.
    pub(crate) last: SnapshotMeta,
    /// What the state machine was given since, or since one was tried last, in bytes of entries.
    pub(crate) bytes_since: usize,
    /// Where the one that was tried last would end.
    tried: Index,
    /// One was due, and none has been taken since.
    owed: bool,
    /// How many have failed in a row since it was due, and when the next is tried though nothing
    /// more has come.
    failures: u32,
    retry_at: Option<Instant>,
    /// The application asked for one.
    wanted: bool,
    /// The host cannot read `last` any more, so that another one is worth taking even of the same
    /// entry.
    damaged: bool,
    /// The host is taking this one.
    taking: Option<SnapshotMeta>,
    /// `last` was installed, and the state machine has yet to be told.
    restoring: bool,
    /// What the leader sends, and how many times anything came since the start.
    receiving: Option<Receiving<C>>,
    installs: InstallId,
}

/// A snapshot that comes from the leader.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Receiving<C> {
    id: InstallId,
    term: Term,
    session: Session,
    snapshot: SnapshotMeta,
    /// Chunks that the host has yet to be given.
    chunks: VecDeque<WriteSnapshot<C>>,
    /// Up to where chunks have come, and been written.
    received: u64,
    written: u64,
    /// Where those chunks end that have come and are not written; no more of them than the leader has on its way.
    unwritten: VecDeque<u64>,
    /// Where the snapshot ends, once that is known.
    size: Option<u64>,
}

/// A snapshot on its way to a follower.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Sending {
    snapshot: SnapshotMeta,
    /// The follower has written it up to here; and what it said last, which is less if that came late or its file is lost.
    acknowledged: u64,
    said: u64,
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

impl<C> Snapshots<C> {
    pub(crate) fn new(last: SnapshotMeta) -> Self {
        Self {
            tried: last.last.index,
            last,
            bytes_since: 0,
            owed: false,
            failures: 0,
            retry_at: None,
            wanted: false,
            damaged: false,
            taking: None,
            restoring: false,
            receiving: None,
            installs: InstallId::default(),
        }
    }

    /// Whether a snapshot is due, being taken, or could not be taken when it was due.
    pub(crate) fn is_due(&self, config: &Config) -> bool {
        self.owed || self.taking.is_some() || self.bytes_since >= config.snapshot_log_bytes
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`].
    pub(crate) fn move_in_time(&mut self, future: impl Fn(Instant) -> Instant) {
        self.retry_at = self.retry_at.map(future);
    }
}

/// A snapshot that was due and failed is tried again when as much again has come, or after so long:
/// at first, and, twice as long after each failure, at most. So a log that has grown full meanwhile
/// is compacted when the disk is well again.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

impl Sending {
    pub(crate) fn new(snapshot: SnapshotMeta, now: Instant) -> Self {
        Self {
            snapshot,
            acknowledged: 0,
            said: 0,
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
            self.said = 0;
            if self.acknowledged > 0 || !self.in_vain {
                self.begin_again();
            }
        } else if self.size.is_none_or(|size| received <= size) {
            // Replies may come late, and say less than is known.
            self.said = received;
            self.in_vain &= received <= self.acknowledged;
            self.acknowledged = self.acknowledged.max(received);
            self.next = self.next.max(received);
        }
    }

    /// Goes back to what the follower said last.
    fn begin_again(&mut self) {
        self.acknowledged = self.said;
        self.next = self.said;
        self.in_vain = true;
        if self.size == Some(self.next) {
            // All that is missing is an empty last chunk, as is all of a snapshot of no bytes: it is to
            // be sent again.
            self.size = None;
        }
    }

    /// Begins again if the follower has taken nothing for too long. Returns whether it did.
    fn retry_if_stuck(&mut self, now: Instant, config: &Config) -> bool {
        // The follower has all bytes, and was to be told with an empty chunk that there are no more.
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

// A snapshot of one's own.

impl<C: Command, R: Rng> Raft<C, R> {
    /// Asks for a snapshot now, whatever the log's size. [`Output::TakeSnapshot`] follows.
    ///
    /// # Errors
    ///
    /// If one is being taken already, or none could say more than the last.
    pub fn take_snapshot(&mut self) -> Result<(), NothingToSnapshot> {
        let is_news = self.handed_out > self.snapshots.last.last.index || self.snapshots.damaged;
        if !is_news || self.snapshots.taking.is_some() || self.snapshots.restoring {
            return Err(NothingToSnapshot);
        }
        self.snapshots.wanted = true;
        Ok(())
    }

    /// The host holds the snapshot that ends at `index`, durably. Compacts the log.
    pub fn snapshot_taken(&mut self, index: Index) {
        let taken = self.snapshots.taking.take_if(|taking| taking.last.index == index);
        let Some(taken) = taken else { return };
        if taken.last != self.snapshots.last.last {
            self.durable.on_snapshot();
        }
        self.snapshots.last = taken;
        self.snapshots.damaged = false;
        self.snapshots.owed = false;
        self.snapshots.failures = 0;
        self.log.compact_to(index, self.config.log_tail_bytes);
        self.memberships.compact_to(index);
        self.check_invariants();
    }

    /// The host has found this snapshot damaged, or lost it. If it is the newest, another one is
    /// taken in its place, be it of the same entry: the state machine is whole.
    /// [`Output::TakeSnapshot`] follows.
    ///
    /// A follower that was sent a part of the damaged one may get the rest from the new one, which
    /// has the same name. A host whose state does not always take the same bytes ends a snapshot with
    /// a checksum of all of it, as the module `host` does, and calls
    /// [`snapshot_unwritable`](Self::snapshot_unwritable) where that does not fit.
    pub fn snapshot_damaged(&mut self, snapshot: LogId) {
        let Snapshots { last, taking, restoring, .. } = &self.snapshots;
        if last.last == snapshot && taking.is_none() && !restoring {
            (self.snapshots.damaged, self.snapshots.wanted) = (true, true);
        }
    }

    /// The host has no snapshot to offer. If one was due, the host is asked again when as much
    /// again has been applied, or after a second; after two, four and so on if it fails again, and
    /// after a minute at most.
    pub fn snapshot_failed(&mut self) {
        let snapshots = &mut self.snapshots;
        snapshots.taking = None;
        if snapshots.owed {
            let doubled = 1u32.checked_shl(snapshots.failures).unwrap_or(u32::MAX);
            let wait = RETRY_AFTER_MIN.saturating_mul(doubled).min(RETRY_AFTER_MAX);
            snapshots.failures = snapshots.failures.saturating_add(1);
            snapshots.retry_at = Some(self.now + wait);
        }
    }

    /// A snapshot, if it is time for one.
    pub(crate) fn next_snapshot_to_take(&mut self) -> Option<Output<C>> {
        let snapshots = &self.snapshots;
        let entries = self.handed_out.get().saturating_sub(snapshots.tried.get());
        let is_due = snapshots.bytes_since >= self.config.snapshot_log_bytes
            || entries >= self.config.snapshot_log_entries;
        let is_retry = snapshots.retry_at.is_some_and(|retry_at| retry_at <= self.now);
        let is_time = snapshots.wanted || is_due || is_retry;
        let is_news = self.handed_out > snapshots.last.last.index || snapshots.damaged;
        if !is_time || !is_news || snapshots.taking.is_some() || snapshots.restoring {
            return None;
        }
        let last = LogId::new(self.log.term_at(self.handed_out)?, self.handed_out);
        let membership = self.memberships.at(self.handed_out).clone();
        if membership.is_empty() {
            // A server that joins has yet to come to the entry that says who the members are: no restart could begin without.
            return None;
        }
        let taking = SnapshotMeta { last, membership };
        self.snapshots.taking = Some(taking.clone());
        self.snapshots.wanted = false;
        self.snapshots.owed |= is_due;
        self.snapshots.retry_at = None;
        (self.snapshots.bytes_since, self.snapshots.tried) = (0, self.handed_out);
        Some(Output::TakeSnapshot(taking))
    }
}

/// What a host that keeps files must know of them.
#[cfg(feature = "std")]
impl<C: Command, R: Rng> Raft<C, R> {
    /// The newest snapshot: durable, and named by a write that may be on its way.
    pub(crate) fn newest_snapshot(&self) -> LogId {
        self.snapshots.last.last
    }

    /// The snapshot that the host was asked to take and that is still wanted.
    pub(crate) fn snapshot_being_taken(&self) -> Option<LogId> {
        self.snapshots.taking.as_ref().map(|taking| taking.last)
    }

    /// Whether the host will be asked to take one.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.snapshots.wanted
    }

    /// The attempt by which a snapshot comes from the leader.
    pub(crate) fn installing(&self) -> Option<InstallId> {
        self.snapshots.receiving.as_ref().map(|receiving| receiving.id)
    }
}

// The leader's side.

impl<C: Command, R: Rng> Raft<C, R> {
    /// The host's answer to [`Output::ReadSnapshot`]: what begins at `offset`, at most as long as was asked, and whether the
    /// snapshot ends with it.
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
        let snapshot = sending.snapshot.clone();
        let body =
            Body::InstallSnapshot(InstallSnapshot { session, snapshot, offset, chunk, done });
        let message = self.message(to, body);
        self.outbox.send(message);
    }

    /// The host cannot read the snapshot that was to be sent. The newest one is sent instead, from its beginning.
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

// The follower's side.

impl<C: Command, R: Rng> Raft<C, R> {
    /// InstallSnapshot of the current term, receiver implementation (Figure 13).
    pub(crate) fn on_install_snapshot(&mut self, from: NodeId, install: InstallSnapshot<C>) {
        let InstallSnapshot { session, snapshot, offset, chunk, done } = install;
        let length = chunk.as_ref().len() as u64;
        let end = offset.checked_add(length);
        let well_formed = snapshot.membership.validate().is_ok()
            && snapshot.last.term <= self.current_term
            && (length > 0 || done);
        let Some(end) = end.filter(|_| well_formed) else {
            self.counters.malformed = self.counters.malformed.saturating_add(1);
            return;
        };
        if !self.follow(from, session, None) {
            return;
        }
        self.timers.election.touch();

        let last = snapshot.last;
        let is_old = last.index <= self.commit_index;
        if is_old && last.index >= self.log.base().index && !self.log.contains(last) {
            // Only a leader without a committed entry could hold it, and none is ever elected.
            self.counters.impossible = self.counters.impossible.saturating_add(1);
            return;
        }
        if is_old || self.log.contains(last) {
            self.snapshots.receiving = None;
            self.verify(last.index);
            if let Some(following) = self.following() {
                following.reply_due = true;
            }
            return;
        }
        let fits = |receiving: &Receiving<C>| {
            let of = (receiving.term, receiving.session, receiving.snapshot.last);
            of == (self.current_term, session, last)
        };
        if offset == 0 && !self.snapshots.receiving.as_ref().is_some_and(fits) {
            self.snapshots.installs = self.snapshots.installs.next();
            self.snapshots.receiving = Some(Receiving {
                id: self.snapshots.installs,
                term: self.current_term,
                session,
                snapshot: snapshot.clone(),
                chunks: VecDeque::new(),
                received: 0,
                written: 0,
                unwritten: VecDeque::new(),
                size: None,
            });
        }
        let receiving = self.snapshots.receiving.as_mut().filter(|receiving| fits(receiving));
        let Some(receiving) = receiving else {
            return self.reply_received(from, session, last, 0);
        };
        let has_room = receiving.unwritten.len() < self.config.inflight_chunks_max;
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

    /// The host has written the snapshot that comes by this attempt up to `written` bytes, as [`Output::WriteSnapshot`] asked; if that
    /// is the whole, it is durable, and is installed. What is said of an earlier attempt counts for nothing.
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
        self.snapshots.receiving = None;
        if let Some((leader, session)) = self.leader_and_session() {
            self.reply_received(leader, session, last, 0);
        }
        self.check_invariants();
    }

    /// What comes by this attempt, if the leader that sends it is followed still; else it is
    /// forgotten.
    fn receiving(&mut self, install: InstallId) -> Option<&mut Receiving<C>> {
        let session = self.leader_and_session().map(|(_, session)| session);
        let term = self.current_term;
        let receiving = self.snapshots.receiving.as_ref();
        let receiving = receiving.filter(|r| r.id == install && r.term == term)?;
        if Some(receiving.session) != session {
            self.snapshots.receiving = None;
        }
        self.snapshots.receiving.as_mut()
    }

    fn leader_and_session(&mut self) -> Option<(NodeId, Session)> {
        self.following().map(|following| (following.leader, following.session))
    }

    /// The next chunk for the host to write.
    pub(crate) fn next_snapshot_to_write(&mut self) -> Option<Output<C>> {
        self.snapshots.receiving.as_mut()?.chunks.pop_front().map(Output::WriteSnapshot)
    }

    /// The installed snapshot, once the write that put it in place of the log is durable.
    pub(crate) fn next_restore(&mut self) -> Option<Output<C>> {
        let last = self.snapshots.last.last.index;
        if !self.snapshots.restoring || self.durable.index() < last {
            return None;
        }
        self.snapshots.restoring = false;
        self.handed_out = last;
        self.applying.push(last, 0);
        Some(Output::Restore(self.snapshots.last.clone()))
    }

    fn install_received(&mut self) {
        let Some(Receiving { snapshot, .. }) = self.snapshots.receiving.take() else { return };
        let last = snapshot.last;
        if last.index <= self.commit_index || self.log.contains(last) {
            // The log has come meanwhile, and is as good.
            return self.verify(last.index);
        }
        self.durable.on_log_replaced(self.commit_index, last.index);
        self.log.replace(last);
        self.commit_index = last.index;
        self.membership_changed |= *self.memberships.in_force() != snapshot.membership;
        self.memberships = Memberships::new(last.index, snapshot.membership.clone());
        let installs = self.snapshots.installs;
        self.snapshots = Snapshots { restoring: true, installs, ..Snapshots::new(snapshot) };
        self.on_log_truncated(self.durable.index().next());
        self.verify(last.index);
        self.update_members();
    }

    /// The log is the leader's up to this committed index, as far as it goes.
    fn verify(&mut self, index: Index) {
        let verified = index.min(self.log.last().index);
        self.advance_commit_to(verified);
        if let Some(following) = self.following() {
            following.verified = following.verified.max(verified);
        }
    }

    fn reply_received(&mut self, to: NodeId, session: Session, snapshot: LogId, received: u64) {
        let reply = InstallSnapshotReply { session, snapshot, received };
        self.reply(to, Body::InstallSnapshotReply(reply));
    }
}
