//! Random draws from a seed: integers only, so that every machine draws the same.

use core::time::Duration;

use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

use crate::time::micros;

/// What draws are for: each purpose has its own.
pub(super) mod purpose {
    pub(in crate::sim) const LINK: u64 = 1;
    pub(in crate::sim) const DISK: u64 = 2;
    pub(in crate::sim) const RAFT: u64 = 3;
    pub(in crate::sim) const CLUSTER: u64 = 4;
    pub(in crate::sim) const SWARM: u64 = 5;
    pub(in crate::sim) const FILES: u64 = 6;
    pub(in crate::sim) const WORKER: u64 = 7;
}

/// Draws of one purpose. Each link, disk and server has its own, so that one draw more or less in
/// one place changes nothing in another: a plan that was cut still brings about much the same run.
#[derive(Clone, Debug)]
pub(super) struct Draw(Pcg32);

impl Draw {
    /// The draws that `seed` yields for the purpose with these numbers.
    pub(super) fn new(seed: u64, purpose: u64, number: u64) -> Self {
        let mixed = mix(seed ^ mix(purpose ^ mix(number)));
        Self(Pcg32::seed_from_u64(mixed))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.number()) * u128::from(end);
        (wide >> 64) as u64
    }

    pub(super) fn between(&mut self, min: u64, max: u64) -> u64 {
        min.saturating_add(self.below(max.saturating_sub(min).saturating_add(1)))
    }

    /// Whether a chance of so many in 1000 comes true.
    pub(super) fn per_mille(&mut self, chances: u32) -> bool {
        chances > 0 && self.below(1000) < u64::from(chances)
    }

    pub(super) fn one_in(&mut self, in_all: u64) -> bool {
        self.below(in_all) == 0
    }

    pub(super) fn span(&mut self, min: Duration, max: Duration) -> Duration {
        Duration::from_micros(self.between(micros(min), micros(max)))
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// A span of an exponential distribution with this mean.
    ///
    /// The logarithm of a uniform number is its leading zeros and, between two powers of two, a
    /// straight line; it is off by less than one part in ten anywhere, and right on average to one
    /// in a hundred.
    pub(super) fn exponential(&mut self, mean: Duration) -> Duration {
        const LN_2: u128 = 45_426; // in units of 2^-16
        let number = self.number() | 1;
        let zeros = number.leading_zeros();
        let mantissa = (number << zeros) & (u64::MAX >> 1);
        let log2 = (u128::from(zeros) << 16) + ((1 << 16) - u128::from(mantissa >> 47));
        let span = u128::from(micros(mean)).saturating_mul(log2 * LN_2) >> 32;
        Duration::from_micros(u64::try_from(span).unwrap_or(u64::MAX))
    }
}

/// A number in which every bit depends on every bit of `number`.
pub(super) const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_spans_have_their_mean() {
        let mut draw = Draw::new(1, 2, 3);
        let mean = Duration::from_micros(10_000);
        let sum: Duration = (0..100_000).map(|_| draw.exponential(mean)).sum();
        let found = sum.as_micros() / 100_000;
        assert!((9_500..10_500).contains(&found), "{found}");
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut draw = Draw::new(1, 1, 1);
        let seen: alloc::collections::BTreeSet<_> = (0..1000).map(|_| draw.between(3, 6)).collect();
        assert_eq!(seen.into_iter().collect::<alloc::vec::Vec<_>>(), [3, 4, 5, 6]);
        assert!(!draw.per_mille(0) && draw.per_mille(1000));
    }
}
