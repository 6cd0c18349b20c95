//! How long to wait before dialing again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// Waits that double with each failure in a row. Each wait is a random part of the doubled time, so
/// that nodes which lost each other at the same time do not come back at the same time.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits of up to `min` at first and up to `max` in the end.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// The next wait: at least half of the doubled time.
    pub fn next_wait(&mut self) -> Duration {
        let half = self.next / 2;
        self.next = self.max.min(self.next.saturating_mul(2));
        // This is the standard library's only source of randomness, and it is good enough for
        // jitter.
        let random = RandomState::new().hash_one(()) as u32;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Begins anew after a connection that lasted for `lifetime`, and returns whether it does; then
    /// one attempt needs no wait. A connection that broke sooner than the longest wait changes
    /// nothing. Otherwise a peer that accepts and closes would be dialed as fast as possible for
    /// ever.
    pub fn connected_for(&mut self, lifetime: Duration) -> bool {
        let lasted = lifetime >= self.max;
        if lasted {
            self.next = self.min;
        }
        lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_begin_anew() {
        let (min, max) = (Duration::from_millis(10), Duration::from_millis(80));
        let mut backoff = Backoff::new(min, max);
        for bound in [10, 20, 40, 80, 80].map(Duration::from_millis) {
            let wait = backoff.next_wait();
            assert!(bound / 2 <= wait && wait <= bound, "{wait:?} of {bound:?}");
        }
        assert!(!backoff.connected_for(max / 2));
        assert!(backoff.next_wait() >= max / 2);
        assert!(backoff.connected_for(max));
        assert!(backoff.next_wait() <= min);
    }
}
