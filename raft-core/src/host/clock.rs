//! The host's clock, microseconds since the node started, and how long a loop waits.

use std::time::{Duration, Instant as StdInstant};

use crate::time::Instant;

/// A monotonic clock whose origin is the moment it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: StdInstant,
}

/// What an adapter's loop does after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Inputs are left: let other tasks run, then turn again.
    Again,
    /// Turn again when woken, or at this moment at the latest. Do not turn earlier without being
    /// woken, and turn as little later as the runtime can. `None` means never.
    Wait(Option<StdInstant>),
    /// The node has stopped: drop the driver.
    Stop,
}

impl Clock {
    /// A clock that shows zero now.
    pub fn new() -> Self {
        Self { origin: StdInstant::now() }
    }

    /// The time since the clock was made, rounded down.
    pub fn now(&self) -> Instant {
        self.at(StdInstant::now())
    }

    /// `moment` of the system's clock on this clock, rounded down; zero if the clock was made after
    /// it.
    pub(super) fn at(&self, moment: StdInstant) -> Instant {
        let micros = moment.saturating_duration_since(self.origin).as_micros();
        Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// `moment` on the system's clock: from then on, [`Clock::now`] returns at least `moment`.
    /// `None` if the system's clock cannot represent that moment, which then never comes.
    pub fn system_time(&self, moment: Instant) -> Option<StdInstant> {
        self.origin.checked_add(Duration::from_micros(moment.as_micros()))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_come_once_the_system_says_so() {
        let clock = Clock::new();
        let deadline = clock.now() + Duration::from_micros(300);
        let system = clock.system_time(deadline).unwrap();
        while StdInstant::now() < system {}
        assert!(clock.now() >= deadline);
    }
}
