//! Log compaction (§7): snapshots are taken by the host, sent in chunks, and installed in one
//! write.
//!
//! The core holds no snapshot: it knows which there is ([`SnapshotMeta`]), and passes chunks
//! through. The host takes a snapshot while the node works on; once that is durable, the log before
//! it may go, but for a tail that spares followers that are a little behind a snapshot of their
//! own.
//!
//! ```text
//! leader                                   follower
//!   ReadSnapshot  ──► host reads
//!   snapshot_read ──► InstallSnapshot ───►   WriteSnapshot    ──► host writes beside what it has
//!                  ◄─ InstallSnapshotReply   snapshot_written ◄── written
//!                     ...                   the last one is durable: Persist replaces the log,
//!                                           then Restore
//!                  ◄─ AppendEntriesReply     matched, up to the snapshot's last entry
//! ```
//!
//! A window of chunks is on its way at a time. While commands come, the leader pauses between
//! windows, within a bound (`state/sending.rs`). What is lost is sent again, from where the
//! follower's file ends. A follower that has not been heard of for an election timeout is sent no
//! chunk, only heartbeats: its answer to one shows that it is there again.
//!
//! Under load the leader takes its next snapshot before a large one has arrived. It compacts its
//! log no further than to the snapshot on its way, until the follower has caught up: else the
//! follower would lack what follows, and be sent a snapshot again. The leader lets go of these
//! entries if its log is full, or if the follower has been silent for an election timeout.
//!
//! A follower installs a snapshot only if its log does not hold the snapshot's last entry: else
//! that entry is committed, and the log is as good as the snapshot. So no entry that was
//! acknowledged is ever taken back. And the log is replaced in memory first, on the disk next, in
//! the state machine last: a crash in between begins with the old snapshot and the old log.
//!
//! The state machine has one restore at a time. A snapshot that is installed meanwhile waits until
//! that is answered for, and entries wait for the snapshot; a newer one takes its place. So what a
//! slow state machine owes is bounded by `inflight_applies_max` batches and one snapshot, and a
//! host keeps no other snapshots than those being restored, in use and on their way.

mod installing;
mod sending;

use core::time::Duration;

use rand_core::Rng;

use crate::error::NothingToSnapshot;
use crate::message::SnapshotMeta;
use crate::output::Output;
use crate::raft::Raft;
use crate::state::server::Server;
use crate::state::snapshots::Snapshots;
#[cfg(feature = "std")]
use crate::types::InstallId;
use crate::types::{Command, Index, LogId};

/// A snapshot that was due and failed is tried again when as much again has come, or after so long:
/// at first, and, twice as long after each failure of such a try, at most. So a log that has grown
/// full meanwhile is compacted when the disk is well again, no later than twice as late as the disk
/// was; however many tries failed before, because more came.
const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

impl<C: Command, R: Rng> Raft<C, R> {
    /// Asks for a snapshot now, whatever the log's size. [`Output::TakeSnapshot`] follows.
    ///
    /// # Errors
    ///
    /// If one is being taken already, or none could say more than the last.
    pub fn take_snapshot(&mut self) -> Result<(), NothingToSnapshot> {
        let is_news = self.server.apply_sent > self.server.snapshots.last.last.index
            || self.server.snapshots.damaged;
        if !is_news || self.server.snapshots.taking.is_some() || self.server.snapshots.restoring {
            return Err(NothingToSnapshot);
        }
        self.server.snapshots.wanted = true;
        Ok(())
    }

    /// The host holds the snapshot that ends at `index`, durably. Compacts the log.
    pub fn snapshot_taken(&mut self, index: Index) {
        let taken = self.server.snapshots.taking.take_if(|taking| taking.last.index == index);
        let Some(taken) = taken else { return };
        if taken.last != self.server.snapshots.last.last {
            self.server.durable.on_snapshot();
        }
        self.server.snapshots.last = taken;
        self.server.snapshots.damaged = false;
        self.server.snapshots.owed = false;
        self.server.snapshots.failures = 0;
        let held = self.leading().map_or(index, |leading| leading.held_behind(index));
        self.server.compact(held);
        self.server.memberships.compact_to(index);
        self.check_invariants();
    }

    /// The host has found this snapshot damaged, or lost it. If it is the newest, another one is
    /// taken in its place, be it of the same entry: the state machine is whole.
    /// [`Output::TakeSnapshot`] follows.
    ///
    /// A follower that was sent a part of the damaged one may get the rest from the new one, which
    /// has the same name. A host whose state does not always take the same bytes ends a snapshot
    /// with a checksum of all of it, as the module `host` does, and calls
    /// [`snapshot_unwritable`](Self::snapshot_unwritable) where that does not fit.
    pub fn snapshot_damaged(&mut self, snapshot: LogId) {
        let Snapshots { last, taking, restoring, .. } = &self.server.snapshots;
        if last.last == snapshot && taking.is_none() && !restoring {
            (self.server.snapshots.damaged, self.server.snapshots.wanted) = (true, true);
        }
    }

    /// The host has no snapshot to offer. If one was due, the host is asked again when as much
    /// again has been applied, or after a second; after two, four and so on if it fails again, and
    /// after a minute at most.
    pub fn snapshot_failed(&mut self) {
        let snapshots = &mut self.server.snapshots;
        snapshots.taking = None;
        if snapshots.owed {
            let doubled = 1u32.checked_shl(snapshots.failures).unwrap_or(u32::MAX);
            let wait = RETRY_AFTER_MIN.saturating_mul(doubled).min(RETRY_AFTER_MAX);
            snapshots.failures = snapshots.failures.saturating_add(1);
            snapshots.retry_at = Some(self.server.now + wait);
        }
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// Compacts the log up to the newest snapshot, but for its tail and what lies behind `held`.
    fn compact(&mut self, held: Index) {
        let (index, tail_bytes) = (self.snapshots.last.last.index, self.config.log_tail_bytes);
        self.snapshots.holds_log = self.log.compact_to(index, tail_bytes, held);
    }

    /// Lets go of what the log holds for followers that catch up. The disk hears of it with the
    /// next snapshot.
    pub(crate) fn release_log(&mut self) {
        self.compact(self.snapshots.last.last.index);
    }

    /// Lets go of that if the log has no room for so many bytes more.
    pub(crate) fn make_room(&mut self, bytes: usize) {
        let is_full = || self.log.bytes().saturating_add(bytes) > self.config.log_bytes_max;
        if self.snapshots.holds_log && is_full() {
            self.release_log();
        }
    }

    /// A snapshot, if it is time for one.
    pub(crate) fn next_snapshot_to_take(&mut self) -> Option<Output<C>> {
        let snapshots = &self.snapshots;
        let entries = self.apply_sent.get().saturating_sub(snapshots.tried.get());
        let is_due = snapshots.bytes_since >= self.config.snapshot_log_bytes
            || entries >= self.config.snapshot_log_entries;
        let is_retry = snapshots.retry_at.is_some_and(|retry_at| retry_at <= self.now);
        let is_time = snapshots.wanted || is_due || is_retry;
        let is_news = self.apply_sent > snapshots.last.last.index || snapshots.damaged;
        if !is_time || !is_news || snapshots.taking.is_some() || snapshots.restoring {
            return None;
        }
        let taking = self.snapshot_of_applied()?;
        self.snapshots.taking = Some(taking.clone());
        self.snapshots.wanted = false;
        self.snapshots.owed |= is_due;
        self.snapshots.retry_at = None;
        if !is_retry {
            self.snapshots.failures = 0;
        }
        (self.snapshots.bytes_since, self.snapshots.tried) = (0, self.apply_sent);
        Some(Output::TakeSnapshot(taking))
    }

    /// The name of a snapshot of the entries handed out so far.
    fn snapshot_of_applied(&self) -> Option<SnapshotMeta> {
        let last = LogId::new(self.log.term_at(self.apply_sent)?, self.apply_sent);
        let membership = self.memberships.at(self.apply_sent).clone();
        if membership.is_empty() {
            // A server that joins has not yet applied the entry that names the members, and no
            // restart could begin without it.
            return None;
        }
        Some(SnapshotMeta { last, membership })
    }
}

/// What a host that keeps files must know of them.
#[cfg(feature = "std")]
impl<C: Command, R: Rng> Raft<C, R> {
    /// The newest snapshot: durable, and named by a write that may be on its way.
    pub(crate) fn newest_snapshot(&self) -> LogId {
        self.server.snapshots.last.last
    }

    /// The snapshot that the host was asked to take and that is still wanted.
    pub(crate) fn snapshot_being_taken(&self) -> Option<LogId> {
        self.server.snapshots.taking.as_ref().map(|taking| taking.last)
    }

    /// The name of a snapshot of the entries handed out so far, for a backup. `None` if nothing was
    /// handed out yet. `None` also while a snapshot from the leader waits to take the place of the
    /// state, because the log begins behind that snapshot by then.
    pub(crate) fn backup_position(&self) -> Option<SnapshotMeta> {
        if self.server.apply_sent == Index::ZERO {
            return None;
        }
        self.server.snapshot_of_applied()
    }

    /// Whether the host will be asked to take one.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.server.snapshots.wanted
    }

    /// The attempt by which a snapshot comes from the leader.
    pub(crate) fn installing(&self) -> Option<InstallId> {
        self.server.snapshots.receiving.as_ref().map(|receiving| receiving.id)
    }
}
