#![doc = include_str!("../docs/timeouts.md")]

use core::time::Duration;

use crate::config::Config;
use crate::time::micros;

/// What a choice of timeouts costs when a leader fails in silence, on average. From
/// [`Config::forecast`].
///
/// # Source
///
/// Thesis 9.3: the smallest of `s` deadlines from `[T, T + R)` is at `T + R / (s + 1)`, counted
/// from the last heartbeat, which is half an interval old when the leader fails. From then on an
/// election takes `2L + W`, and `2L` more with pre-vote, for the candidate's own write overlaps the
/// round trip.
///
/// A ballot is split if `k` rivals wake before the first request reaches them, `k` being how many
/// votes the first can spare. Between the first and the `k + 1`st of `s` even deadlines lies a part
/// of the range that is Beta-distributed, so that happens with the probability that at least `k` of
/// `s` draws fall within `L / R`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Forecast {
    /// From the failure until the first follower stands.
    pub detection: Duration,
    /// From then until it leads, if the ballot is not split.
    pub election: Duration,
    /// How many of a million first ballots are split.
    pub split_ppm: u32,
    /// What each split ballot adds: a random timeout, and another election.
    pub retry: Duration,
}

impl Forecast {
    /// From the failure until another server leads, on average; [`Duration::MAX`] if every ballot
    /// is split.
    pub fn downtime(&self) -> Duration {
        let (split, held) = (self.split_ppm, MILLION.saturating_sub(self.split_ppm));
        if held == 0 {
            return Duration::MAX;
        }
        let retries = u128::from(micros(self.retry)) * u128::from(split) / u128::from(held);
        let retries = Duration::from_micros(u64::try_from(retries).unwrap_or(u64::MAX));
        self.detection.saturating_add(self.election).saturating_add(retries)
    }
}

impl Config {
    /// What these timeouts cost on a network whose messages take `latency` one way, with disks
    /// whose writes take `write`. `None` with fewer than three voters, of whom none can fail.
    ///
    /// It assumes that all followers live, hold the same log, and wake on time; with
    /// [`rank_slot`](Config::rank_slot), that they have their ranks.
    ///
    /// # Example
    ///
    /// ```
    /// use core::time::Duration;
    /// use raft_core::{Config, NodeId};
    ///
    /// let (latency, write) = (Duration::from_micros(500), Duration::from_millis(1));
    /// let ranked = Config::new(NodeId::new(1), (1..=5).map(NodeId::new));
    /// let random = Config { rank_slot: None, ..ranked.clone() };
    ///
    /// let random = random.forecast(latency, write).expect("five voters");
    /// let ranked = ranked.forecast(latency, write).expect("five voters");
    /// assert_eq!(random.detection, Duration::from_micros(150_000 + 150_000 / 5 - 25_000 + 500));
    /// assert_eq!(ranked.detection, Duration::from_micros(150_000 - 25_000 + 500));
    /// assert_eq!(random.election, 4 * latency + write);
    /// assert_eq!((random.split_ppm, ranked.split_ppm), (66, 0));
    /// ```
    pub fn forecast(&self, latency: Duration, write: Duration) -> Option<Forecast> {
        let voters = u32::try_from(self.voters.len()).ok().filter(|voters| *voters >= 3)?;
        let live = voters - 1;
        let spread = self.election_timeout_max.saturating_sub(self.election_timeout_min);
        let drawn = self.election_timeout_min.saturating_add(spread / (live + 1));
        let first = self.rank_slot.map_or(drawn, |_| self.election_timeout_min);
        let election = latency.saturating_mul(if self.pre_vote { 4 } else { 2 });
        let election = election.saturating_add(write);
        Some(Forecast {
            detection: first.saturating_add(latency).saturating_sub(self.heartbeat_interval / 2),
            election,
            split_ppm: self.split_ppm(live, latency, spread),
            retry: drawn.saturating_add(election),
        })
    }

    fn split_ppm(&self, live: u32, latency: Duration, spread: Duration) -> u32 {
        let majority = self.voters.len() as u32 / 2 + 1;
        let (latency, spread) = (micros(latency), micros(spread));
        // So many rivals leave the first candidate without a majority.
        let rivals = live - majority + 1;
        match self.rank_slot {
            Some(slot) => {
                let in_time = latency.saturating_sub(1) / micros(slot).max(1);
                if in_time >= u64::from(rivals) { MILLION } else { 0 }
            }
            None => at_least(rivals, live, share(latency, spread)),
        }
    }
}

/// One, in parts.
const MILLION: u32 = 1_000_000;

/// One, as a probability with 31 binary places.
const ONE: u64 = 1 << 31;

/// `part / whole` as a probability.
fn share(part: u64, whole: u64) -> u64 {
    if part >= whole {
        return ONE;
    }
    let share = u128::from(part) * u128::from(ONE) / u128::from(whole);
    u64::try_from(share).unwrap_or(ONE)
}

/// The probability, in parts per million, that at least `wanted` of `draws` come true, each with
/// this probability.
fn at_least(wanted: u32, draws: u32, probability: u64) -> u32 {
    let mut fewer = [0; crate::MEMBERS_MAX + 1];
    fewer[0] = ONE;
    let wanted = (wanted as usize).min(fewer.len());
    for _ in 0..draws {
        for count in (0..wanted).rev() {
            let stays = fewer[count] * (ONE - probability);
            let comes = if count == 0 { 0 } else { fewer[count - 1] * probability };
            fewer[count] = (stays + comes) / ONE;
        }
    }
    let fewer: u64 = fewer[..wanted].iter().sum();
    let ppm = (ONE.saturating_sub(fewer) * u64::from(MILLION) + ONE / 2) / ONE;
    u32::try_from(ppm).unwrap_or(MILLION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    fn config(voters: u64) -> Config {
        Config { rank_slot: None, ..Config::new(NodeId::new(1), (1..=voters).map(NodeId::new)) }
    }

    fn split_ppm(voters: u64, latency: Duration) -> u32 {
        config(voters).forecast(latency, Duration::ZERO).expect("three or more").split_ppm
    }

    /// With one percent of the spread: two draws of 1 % each, `1 - 0.99²`; of four draws two, `6 ·
    /// 0.01² - 8 · 0.01³ + 3 · 0.01⁴`.
    #[test]
    fn the_split_rate_is_binomial() {
        let percent = Duration::from_micros(1500);
        assert_eq!(split_ppm(3, percent), 19_900);
        assert_eq!(split_ppm(5, percent), 592);
        assert_eq!(split_ppm(3, Duration::ZERO), 0);
        assert_eq!(split_ppm(51, percent), 0);
        for voters in 3..=crate::MEMBERS_MAX as u64 {
            assert_eq!(split_ppm(voters, Duration::from_millis(150)), MILLION, "{voters} voters");
        }
    }

    #[test]
    fn ranks_split_only_if_slots_are_shorter_than_the_way() {
        let slot = Duration::from_millis(2);
        let config = Config { rank_slot: Some(slot), ..config(5) };
        let split = |latency| config.forecast(latency, Duration::ZERO).expect("five").split_ppm;
        assert_eq!(split(slot), 0);
        assert_eq!(split(slot * 2), 0, "one rival leaves three votes");
        assert_eq!(split(slot * 2 + Duration::from_micros(1)), MILLION);
    }

    #[test]
    fn nobody_succeeds_among_two() {
        assert_eq!(config(2).forecast(Duration::ZERO, Duration::ZERO), None);
    }

    #[test]
    fn no_time_is_too_long() {
        let config = Config {
            election_timeout_max: Duration::MAX,
            heartbeat_interval: Duration::MAX,
            ..config(3)
        };
        let forecast = config.forecast(Duration::MAX, Duration::MAX).expect("three");
        assert_eq!(forecast.downtime(), Duration::MAX);
        let hopeless = Forecast { split_ppm: MILLION, ..forecast };
        assert_eq!(hopeless.downtime(), Duration::MAX);
    }
}
