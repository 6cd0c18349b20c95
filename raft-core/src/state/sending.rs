//! A snapshot on its way to a follower (§7): which chunk is next, and which is sent again.

use alloc::collections::VecDeque;

use crate::checkpoint::stored;
use crate::config::Config;
use crate::message::SnapshotMeta;
use crate::time::Instant;
use crate::types::{Index, LogId};

/// How fast a snapshot goes at least before the leader pauses between windows, in bytes a
/// microsecond: 160 MiB a second.
const PACED_RATE_MIN: u64 = 168;

/// A pause is this many times as long as the window before it took.
const PAUSE_FACTOR: u64 = 2;

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
    window: Window,
    /// No chunk is read before that.
    paused_until: Option<Instant>,
}

stored! {
    struct Sending {
        snapshot, acknowledged, last_reported, next, sent, inflight, size, reading, in_vain,
        progress, window, paused_until,
    }
}

/// The chunks between two pauses, as many as may be on their way at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Window {
    /// When it began, and with which byte.
    began: Instant,
    from: u64,
    /// The end of the leader's log at that time, as the next tick saw it.
    last_index: Option<Index>,
    /// It followed a pause: what follows it waits until the follower has written all of it.
    is_closed: bool,
}

stored! { struct Window { began, from, last_index, is_closed } }

impl Window {
    fn end(&self, config: &Config) -> u64 {
        let bytes = config.snapshot_chunk_bytes.saturating_mul(config.inflight_chunks_max);
        self.from.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX))
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
            window: Window { began: now, from: 0, last_index: None, is_closed: false },
            paused_until: None,
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
        let is_closed = self.window.is_closed && self.next >= self.window.end(config);
        let pauses = is_closed || self.paused_until.is_some();
        !self.reading && is_left && !waits && !pauses && !self.is_full(config)
    }

    /// When the pause between two windows ends.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// With each tick: pauses after a window of chunks that the follower has written, if commands
    /// came meanwhile, twice as long as the window took; but not so long that less than
    /// [`PACED_RATE_MIN`] goes on average. So a leader has time for its clients beside a follower
    /// that catches up, and where the network or a disk is slow nothing is paced.
    pub(crate) fn pace(&mut self, now: Instant, last_index: Index, config: &Config) {
        self.paused_until = self.paused_until.filter(|until| *until > now);
        let began_at = *self.window.last_index.get_or_insert(last_index);
        let end = self.window.end(config);
        if self.paused_until.is_some() || self.acknowledged < end {
            return;
        }
        let took = now.as_micros().saturating_sub(self.window.began.as_micros());
        let written = self.acknowledged.saturating_sub(self.window.from);
        let slowest = written / PACED_RATE_MIN;
        let pause = match last_index > began_at {
            true => took.saturating_mul(PAUSE_FACTOR).min(slowest.saturating_sub(took)),
            false => 0,
        };
        let resumed = now.plus_micros(pause);
        let is_closed = resumed > now;
        self.paused_until = is_closed.then_some(resumed);
        let (from, last_index) = (self.acknowledged, Some(last_index));
        self.window = Window { began: resumed, from, last_index, is_closed };
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
        self.window.from = self.window.from.min(self.acknowledged);
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
