//! Pauses of a leader between what it sends to a follower that catches up (§7), so that its clients
//! have a share of what it shares with the follower: a processor, a network, a disk.

use crate::checkpoint::stored;
use crate::state::log::Log;
use crate::time::Instant;
use crate::types::{Command, Index};

/// How fast a follower catches up at least before the leader pauses between windows, in bytes a
/// microsecond: 160 MiB a second.
const PACED_RATE_MIN: u64 = 168;

/// A pause is this many times as long as the window before it took.
const PAUSE_FACTOR: u64 = 2;

/// What a follower is sent to catch up, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    /// The follower has written it up to here.
    pub(crate) acknowledged: u64,
    /// The next byte to send.
    pub(crate) next: u64,
    /// How much lies between two pauses.
    pub(crate) window: u64,
}

/// The bytes between two pauses, and the pause before them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pace {
    /// When the window began, and with which byte.
    began: Instant,
    from: u64,
    /// The commit index at that time, as the next tick saw it.
    committed: Option<Index>,
    /// It followed a pause: what follows it waits until the follower has written all of it.
    is_closed: bool,
    /// Nothing is sent before that.
    paused_until: Option<Instant>,
}

stored! { struct Pace { began, from, committed, is_closed, paused_until } }

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { began: now, from: 0, committed: None, is_closed: false, paused_until: None }
    }

    /// When the pause between two windows ends.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Whether the next byte waits.
    pub(crate) fn holds_back(&self, sent: Sent) -> bool {
        let is_closed = self.is_closed && sent.next >= self.end(sent);
        is_closed || self.paused_until.is_some()
    }

    fn end(&self, sent: Sent) -> u64 {
        self.from.saturating_add(sent.window)
    }

    /// With each tick: pauses after a window that the follower has written, twice as long as that
    /// took; but not so long that less than [`PACED_RATE_MIN`] goes on average. So a leader has
    /// time for its clients beside a follower that catches up, and where the network or a disk is
    /// slow nothing is paced. The next window begins with the next byte to send.
    ///
    /// It pauses only if others commit meanwhile, but less than half of what the follower takes: no
    /// client waits for a follower that pauses, and every follower does catch up.
    pub(crate) fn on_tick<C: Command>(
        &mut self,
        now: Instant,
        sent: Sent,
        commit_index: Index,
        log: &Log<C>,
    ) {
        self.paused_until = self.paused_until.filter(|until| *until > now);
        let committed = *self.committed.get_or_insert(commit_index);
        if self.paused_until.is_some() || sent.acknowledged < self.end(sent) {
            return;
        }
        let took = now.as_micros().saturating_sub(self.began.as_micros());
        let bytes = sent.next.saturating_sub(self.from);
        let slowest = bytes / PACED_RATE_MIN;
        let news = log.bytes_between(committed.max(log.base().index).next(), commit_index);
        let half = usize::try_from(bytes / 2).unwrap_or(usize::MAX);
        let pause = match commit_index > committed && news < half {
            true => took.saturating_mul(PAUSE_FACTOR).min(slowest.saturating_sub(took)),
            false => 0,
        };
        let resumed = now.plus_micros(pause);
        let is_closed = resumed > now;
        *self = Self {
            began: resumed,
            from: sent.next,
            committed: Some(commit_index),
            is_closed,
            paused_until: is_closed.then_some(resumed),
        };
    }

    /// The follower has lost what follows `acknowledged`.
    pub(crate) fn go_back(&mut self, acknowledged: u64) {
        self.from = self.from.min(acknowledged);
    }
}
