//! Deadlines that a step touches and the next tick arms. `step` has no clock, so it only marks a
//! timer as touched. The rules are in `tick.rs`.

use crate::checkpoint::stored;
use crate::time::Instant;

/// One deadline.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Timer {
    /// Never fires.
    Off,
    /// To be armed by the next tick, which is due at once.
    Touched,
    /// Fires once the time has come.
    Armed(Instant),
}

stored! { enum Timer { 0 Off {}, 1 Touched {}, 2 Armed { 0: a }, } }

impl Timer {
    pub(crate) fn touch(&mut self) {
        *self = Self::Touched;
    }

    pub(crate) fn stop(&mut self) {
        *self = Self::Off;
    }

    pub(crate) fn is_due(self, now: Instant) -> bool {
        match self {
            Self::Armed(deadline) => deadline <= now,
            Self::Off | Self::Touched => false,
        }
    }

    /// When a tick has something to do here.
    pub(crate) fn deadline(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Off => None,
            Self::Touched => Some(now),
            Self::Armed(deadline) => Some(deadline),
        }
    }
}

/// A server's deadlines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Timers {
    /// Stand for election, or stand again (§5.2). Off while leading.
    pub(crate) election: Timer,
    /// Send heartbeats (§5.2), or ask silent voters again (§5.1). On while leading or standing for
    /// election.
    pub(crate) heartbeat: Timer,
    /// Step down for want of a quorum (thesis 6.2). On while leading with `check_quorum` or
    /// `pre_vote`.
    pub(crate) quorum: Timer,
    /// Give up a transfer of leadership (thesis 3.10). On while handing over.
    pub(crate) transfer: Timer,
}

stored! { struct Timers { election, heartbeat, quorum, transfer } }

impl Timers {
    pub(crate) fn new() -> Self {
        let off = Timer::Off;
        Self { election: Timer::Touched, heartbeat: off, quorum: off, transfer: off }
    }

    pub(crate) fn any_is_due(&self, now: Instant) -> bool {
        let timers = [self.election, self.heartbeat, self.quorum, self.transfer];
        timers.into_iter().any(|timer| timer.is_due(now))
    }
}
