//! Pauses of a leader between what it sends to a follower that catches up (§7), so that its clients
//! have a share of what it shares with the follower: a processor, a network, a disk.

use crate::checkpoint::stored;
use crate::time::Instant;
use crate::types::Index;

/// How fast a follower catches up at least before the leader pauses between windows, in bytes a
/// microsecond: 160 MiB a second.
const PACED_RATE_MIN: u64 = 168;

/// A pause is this many times as long as the window before it took.
const PAUSE_FACTOR: u64 = 2;

/// The bytes between two pauses, and the pause before them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pace {
    /// When the window began, and with which byte.
    began: Instant,
    from: u64,
    /// The end of the leader's log at that time, as the next tick saw it.
    last_index: Option<Index>,
    /// It followed a pause: what follows it waits until the follower has written all of it.
    is_closed: bool,
    /// Nothing is sent before that.
    paused_until: Option<Instant>,
}

stored! { struct Pace { began, from, last_index, is_closed, paused_until } }

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { began: now, from: 0, last_index: None, is_closed: false, paused_until: None }
    }

    /// When the pause between two windows ends.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Whether what begins with the byte `next` waits.
    pub(crate) fn holds_back(&self, next: u64, window_bytes: u64) -> bool {
        let is_closed = self.is_closed && next >= self.from.saturating_add(window_bytes);
        is_closed || self.paused_until.is_some()
    }

    /// With each tick: pauses after a window that the follower has written, which holds all up to
    /// `acknowledged`, if commands came meanwhile, twice as long as the window took; but not so
    /// long that less than [`PACED_RATE_MIN`] goes on average. So a leader has time for its clients
    /// beside a follower that catches up, and where the network or a disk is slow nothing is paced.
    pub(crate) fn on_tick(
        &mut self,
        now: Instant,
        acknowledged: u64,
        window_bytes: u64,
        last_index: Index,
    ) {
        self.paused_until = self.paused_until.filter(|until| *until > now);
        let began_at = *self.last_index.get_or_insert(last_index);
        let end = self.from.saturating_add(window_bytes);
        if self.paused_until.is_some() || acknowledged < end {
            return;
        }
        let took = now.as_micros().saturating_sub(self.began.as_micros());
        let written = acknowledged.saturating_sub(self.from);
        let slowest = written / PACED_RATE_MIN;
        let pause = match last_index > began_at {
            true => took.saturating_mul(PAUSE_FACTOR).min(slowest.saturating_sub(took)),
            false => 0,
        };
        let resumed = now.plus_micros(pause);
        let is_closed = resumed > now;
        *self = Self {
            began: resumed,
            from: acknowledged,
            last_index: Some(last_index),
            is_closed,
            paused_until: is_closed.then_some(resumed),
        };
    }

    /// The follower has lost what follows `acknowledged`.
    pub(crate) fn go_back(&mut self, acknowledged: u64) {
        self.from = self.from.min(acknowledged);
    }
}
