//! The election timeout in force with a leader, and the round trips from which it follows (§5.6,
//! RFC 6298). The rule that adapts it is in `adaptive.rs`.

use core::num::NonZeroU32;
use core::time::Duration;

use crate::checkpoint::stored;
use crate::config::{Config, TimeoutInForce};
use crate::time::{Instant, micros};
use crate::types::Round;

/// The timeout must be so many times the broadcast time: an order of magnitude (§5.6).
const ROUND_TRIPS: u32 = 10;

/// A round trip takes at most `srtt` and so many times `rttvar` (RFC 6298, K).
const DEVIATIONS: u32 = 4;

/// A follower's round trip counts as known after so many samples in a term. Until then the
/// configured timeout is in force.
const SAMPLES_MIN: u8 = 16;

/// With each heartbeat the timeout in force falls by this part of the way to what is wanted. It
/// rises at once, because too long a timeout costs milliseconds, and too short a one an election.
const FALLS_BY: u64 = 16;

/// The timeout in force with a leader, and the shortest ones that it told lately.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct LeaderTimeout {
    pub(crate) in_force: TimeoutInForce,
    /// The shortest that was told within a span of the configured timeout, and within the span
    /// before.
    shortest: [TimeoutInForce; 2],
    span_ends: Instant,
}

stored! { struct LeaderTimeout { in_force, shortest, span_ends } }

impl LeaderTimeout {
    /// A term begins with the configured timeout.
    pub(crate) fn new(configured: TimeoutInForce, now: Instant) -> Self {
        Self { in_force: configured, shortest: [configured; 2], span_ends: now }
    }

    /// What followers are told; nothing without the option.
    pub(crate) fn told(&self, config: &Config) -> Option<NonZeroU32> {
        config.adaptive.and_then(|_| NonZeroU32::new(u32::try_from(self.in_force.0).ok()?))
    }

    /// The timeout by which to send heartbeats: the shortest that a follower may still believe in.
    pub(crate) fn beat(&self) -> TimeoutInForce {
        let [recent, earlier] = self.shortest;
        recent.min(earlier)
    }

    /// Moves the timeout in force towards `wanted`. A heartbeat that tells the result leaves now.
    pub(crate) fn approach(&mut self, wanted: TimeoutInForce, span: Duration, now: Instant) {
        let falls_by = self.in_force.0.saturating_sub(wanted.0) / FALLS_BY;
        self.in_force = TimeoutInForce(self.in_force.0.saturating_sub(falls_by)).max(wanted);
        if self.span_ends <= now {
            self.shortest = [self.in_force, self.shortest[0]];
            self.span_ends = now + span;
        }
        self.shortest[0] = self.shortest[0].min(self.in_force);
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`](crate::Raft::canonical).
    pub(crate) fn move_in_time(&mut self, future: impl Fn(Instant) -> Instant) {
        self.span_ends = future(self.span_ends);
    }
}

/// How long a follower takes to answer a round, smoothed (RFC 6298), in microseconds.
///
/// The time of the network and of the follower's loop counts. The time of its disk does not,
/// because a follower answers a round without a write, and no disk delays the next heartbeat, which
/// is what a timeout waits for. A lost round that comes with the next append counts as late: losses
/// lengthen timeouts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct RoundTrip {
    /// The round whose answer is timed, and when it left.
    timed: Option<(Round, Instant)>,
    samples: u8,
    srtt: u32,
    rttvar: u32,
}

stored! { struct RoundTrip { timed, samples, srtt, rttvar } }

impl RoundTrip {
    /// A round leaves that is new to the follower. One is timed at a time.
    pub(crate) fn on_sent(&mut self, round: Round, now: Instant) {
        self.timed.get_or_insert((round, now));
    }

    /// Takes a sample if the timed round was echoed. If a later round was echoed, the answer to the
    /// timed one is lost or overtaken, or will never come, so it is no sample (Karn's rule).
    pub(crate) fn on_echoed(&mut self, echoed: Round, now: Instant, longest: Duration) {
        let Some((round, left_at)) = self.timed.filter(|(round, _)| *round <= echoed) else {
            return;
        };
        self.timed = None;
        if round == echoed {
            let took = micros(now.saturating_duration_since(left_at).min(longest));
            self.on_measured(u32::try_from(took).unwrap_or(u32::MAX));
        }
    }

    fn on_measured(&mut self, sample: u32) {
        if self.samples == 0 {
            (self.srtt, self.rttvar) = (sample, sample / 2);
        } else {
            let (srtt, rttvar) = (self.srtt, self.rttvar);
            let deviates = srtt.abs_diff(sample);
            self.rttvar = rttvar.saturating_sub(rttvar / 4).saturating_add(deviates / 4);
            self.srtt = srtt.saturating_sub(srtt / 8).saturating_add(sample / 8);
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// The smoothed round-trip time, once a round was measured.
    pub(crate) fn srtt(&self) -> Option<Duration> {
        (self.samples > 0).then(|| Duration::from_micros(self.srtt.into()))
    }

    /// The timeout that this follower's round trips allow; none until it has enough samples.
    pub(crate) fn timeout(&self) -> Option<TimeoutInForce> {
        let longest = self.srtt.saturating_add(self.rttvar.saturating_mul(DEVIATIONS));
        (self.samples >= SAMPLES_MIN)
            .then(|| TimeoutInForce(longest.saturating_mul(ROUND_TRIPS).into()))
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`](crate::Raft::canonical).
    pub(crate) fn move_in_time(&mut self, past: impl Fn(Instant) -> Instant) {
        self.timed = self.timed.map(|(round, left_at)| (round, past(left_at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1000;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    /// "When the first RTT measurement R is made": the mean is R, the deviation half of it; and
    /// then by parts of 8 and of 4.
    #[test]
    fn round_trips_are_smoothed_as_in_rfc_6298() {
        let mut round_trip = RoundTrip::default();
        round_trip.on_measured(800);
        assert_eq!((round_trip.srtt, round_trip.rttvar), (800, 400));
        round_trip.on_measured(1600);
        assert_eq!((round_trip.srtt, round_trip.rttvar), (900, 500));
        assert_eq!(round_trip.timeout(), None);
        (0..SAMPLES_MIN).for_each(|_| round_trip.on_measured(u32::MAX));
        assert_eq!(
            round_trip.timeout(),
            Some(TimeoutInForce(u32::MAX.into())),
            "no time is too long"
        );
    }

    /// However often the timeout changes, heartbeats go by the shortest that was told within the
    /// span.
    #[test]
    fn heartbeats_go_by_the_shortest_that_was_told_lately() {
        let span = Duration::from_micros(150 * MS);
        let mut timeout = LeaderTimeout::new(TimeoutInForce(150 * MS), at(0));
        let mut told = alloc::vec![(at(0), TimeoutInForce(150 * MS))];
        let mut slowed_down = false;
        for beat in 1..10_000_u64 {
            let now = at(beat * 10 * MS);
            let shortest = timeout.beat();
            timeout.approach(TimeoutInForce((50 + beat * beat % 101) * MS), span, now);
            told.push((now, timeout.in_force));
            told.retain(|(at, _)| now <= *at + span);
            assert!(told.iter().all(|(_, earlier)| timeout.beat() <= *earlier));
            slowed_down |= timeout.beat() > shortest;
        }
        assert!(slowed_down);
    }
}
