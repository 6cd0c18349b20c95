//! A server's own clock: ahead or behind, fast or slow, and sometimes it jumps.

use core::time::Duration;

use crate::time::{Instant, micros};

/// The rate of a clock that keeps time, in millionths.
pub const TRUE_RATE_PPM: u32 = 1_000_000;

/// A line through (`global`, `local`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    global: u64,
    local: u64,
    rate_ppm: u64,
}

impl Clock {
    /// A clock that keeps time from this offset on.
    pub(super) fn new(offset: Duration) -> Self {
        Self { global: 0, local: micros(offset), rate_ppm: u64::from(TRUE_RATE_PPM) }
    }

    /// What the clock shows at the moment `now` of virtual time.
    pub(super) fn local(&self, now: Instant) -> Instant {
        let passed = now.as_micros().saturating_sub(self.global);
        Instant::from_micros(self.local.saturating_add(self.scaled(passed)))
    }

    /// The first moment of virtual time at which the clock shows `local` or more.
    pub(super) fn global(&self, local: Instant) -> u64 {
        let ahead = local.as_micros().saturating_sub(self.local);
        let span = if self.rate_ppm == u64::from(TRUE_RATE_PPM) {
            ahead
        } else {
            let wide = u128::from(ahead) * u128::from(TRUE_RATE_PPM);
            u64::try_from(wide.div_ceil(u128::from(self.rate_ppm))).unwrap_or(u64::MAX)
        };
        self.global.saturating_add(span)
    }

    /// From `now` on the clock runs at this rate, in millionths of true time; at least 1.
    pub(super) fn set_rate(&mut self, now: Instant, rate_ppm: u32) {
        self.rebase(now);
        self.rate_ppm = u64::from(rate_ppm.max(1));
    }

    /// The clock jumps by so many microseconds, forward or back.
    pub(super) fn jump(&mut self, now: Instant, by_micros: i64) {
        self.rebase(now);
        self.local = self.local.saturating_add_signed(by_micros);
    }

    /// The clock is set to at least `local`.
    pub(super) fn advance_to(&mut self, now: Instant, local: Instant) {
        self.rebase(now);
        self.local = self.local.max(local.as_micros());
    }

    fn rebase(&mut self, now: Instant) {
        self.local = self.local(now).as_micros();
        self.global = now.as_micros();
    }

    fn scaled(&self, span: u64) -> u64 {
        if self.rate_ppm == u64::from(TRUE_RATE_PPM) {
            return span;
        }
        let wide = u128::from(span) * u128::from(self.rate_ppm) / u128::from(TRUE_RATE_PPM);
        u64::try_from(wide).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn a_deadline_comes_at_the_first_moment_that_shows_it() {
        let mut clock = Clock::new(Duration::from_micros(7));
        for rate in [1_000_000, 1_300_000, 700_003, 1] {
            clock.set_rate(at(100), rate);
            for local in 107..150 {
                let moment = clock.global(at(local));
                assert!(clock.local(at(moment)) >= at(local));
                assert!(moment == 100 || clock.local(at(moment - 1)) < at(local));
            }
        }
    }

    #[test]
    fn a_clock_jumps_and_goes_on() {
        let mut clock = Clock::new(Duration::ZERO);
        clock.jump(at(50), -20);
        assert_eq!(clock.local(at(60)), at(40));
        clock.advance_to(at(60), at(100));
        assert_eq!(clock.local(at(61)), at(101));
    }
}
