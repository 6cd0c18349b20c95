//! A snapshot on its way to a follower (§7): which chunk is next, and which is sent again.

use alloc::collections::VecDeque;

use crate::checkpoint::stored;
use crate::config::Config;
use crate::message::SnapshotMeta;
use crate::state::log::Log;
use crate::state::pace::{Pace, Sent};
use crate::time::Instant;
use crate::types::{Command, Index, LogId};

/// A snapshot on its way to a follower.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Sending {
    pub(crate) snapshot: SnapshotMeta,
    /// The follower has written it up to here.
    pub(crate) acknowledged: u64,
    /// What the follower reported last: less than that, if the reply came late or its file is lost.
    last_reported: u64,
    /// Where the next chunk begins, and where the furthest that was sent ends.
    pub(crate) next: u64,
    sent: u64,
    /// Where those chunks end that were sent and that the follower has not written.
    inflight: VecDeque<u64>,
    /// Where it ends, once that is known.
    pub(crate) size: Option<u64>,
    /// The host reads the next chunk.
    pub(crate) reading: bool,
    /// It was begun again, and the follower has taken nothing since.
    in_vain: bool,
    /// The moment and the place of the last progress seen.
    progress: (Instant, u64),
    pace: Pace,
}

stored! {
    struct Sending {
        snapshot, acknowledged, last_reported, next, sent, inflight, size, reading, in_vain,
        progress, pace,
    }
}

impl Sending {
    pub(crate) fn new(snapshot: SnapshotMeta, now: Instant) -> Self {
        Self {
            snapshot,
            acknowledged: 0,
            last_reported: 0,
            next: 0,
            sent: 0,
            inflight: VecDeque::new(),
            size: None,
            reading: false,
            in_vain: false,
            progress: (now, 0),
            pace: Pace::new(now),
        }
    }

    /// The last entry that the snapshot includes.
    pub(crate) fn last(&self) -> LogId {
        self.snapshot.last
    }

    /// Whether the next chunk is to be read now. One chunk at a time goes to a follower that has
    /// taken nothing since it was begun again. Chunks are counted, as the follower counts them: the
    /// host reads less than a whole one where a block of its file ends.
    pub(crate) fn wants_chunk(&self, config: &Config) -> bool {
        let is_left = self.size.is_none_or(|size| self.next < size);
        let waits = self.in_vain && !self.inflight.is_empty();
        let pauses = self.pace.holds_back(self.sent(config));
        !self.reading && is_left && !waits && !pauses && !self.is_full(config)
    }

    /// When the pause between two windows ends.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.pace.paused_until()
    }

    /// With each tick: pauses between windows of chunks.
    pub(crate) fn pace<C: Command>(
        &mut self,
        now: Instant,
        commit_index: Index,
        log: &Log<C>,
        config: &Config,
    ) {
        self.pace.on_tick(now, self.sent(config), commit_index, log);
    }

    /// A window is as much as may be on its way at a time.
    fn sent(&self, config: &Config) -> Sent {
        let window = config.snapshot_chunk_bytes.saturating_mul(config.inflight_chunks_max);
        let window = u64::try_from(window).unwrap_or(u64::MAX);
        Sent { acknowledged: self.acknowledged, next: self.next, window }
    }

    /// Whether as many chunks are on their way as may be.
    pub(crate) fn is_full(&self, config: &Config) -> bool {
        self.inflight.len() >= config.inflight_chunks_max
    }

    /// A chunk of this length was read and leaves; the snapshot ends with it if it is `done`.
    pub(crate) fn on_sent(&mut self, length: u64, done: bool) {
        self.next = self.next.saturating_add(length);
        self.sent = self.sent.max(self.next);
        self.inflight.push_back(self.next);
        if done {
            self.size = Some(self.next);
        }
    }

    /// The follower wants what follows `received`. It wants nothing but the beginning if it has
    /// lost what it had, or lacks the first chunk: then it is sent that at once, and if that was in
    /// vain, when it is retried.
    ///
    /// It is taken to hold no more than it was sent here, whatever it says.
    pub(crate) fn on_received(&mut self, received: u64) {
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
            while self.inflight.front().is_some_and(|end| *end <= self.acknowledged) {
                self.inflight.pop_front();
            }
        }
    }

    /// Goes back to what the follower reported last.
    pub(crate) fn begin_again(&mut self) {
        self.acknowledged = self.last_reported;
        self.next = self.last_reported;
        self.inflight.clear();
        self.pace.go_back(self.acknowledged);
        self.in_vain = true;
        if self.size == Some(self.next) {
            // All that is missing is an empty last chunk, as is all of a snapshot of no bytes: it
            // is to be sent again.
            self.size = None;
        }
    }

    /// Begins again if the follower has taken nothing for too long. Returns whether it did.
    pub(crate) fn retry_if_stuck(&mut self, now: Instant, config: &Config) -> bool {
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
