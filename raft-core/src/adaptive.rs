//! Timeouts that adapt (§5.6): short on a network that answers fast, the configured ones on a network that does not.
//!
//! The broadcast time must be an order of magnitude below the election timeout, and who configures a timeout must think of the worst
//! that the network will ever do. With this option a leader measures what it does today. It times its heartbeat rounds, smooths
//! each follower's mean and deviation as TCP does (RFC 6298), and tells its followers with every AppendEntries which smallest election
//! timeout is in force: the *timeout in force*. The idea is that of Dynatune.
//!
//! Only *when* somebody stands depends on it. Votes, terms and logs do not, so no word about the timeout in force can do worse than cost an
//! election; and what a message says is never believed below the follower's own floor or above what it is configured to.
//!
//! The timeout in force belongs to a leader and is forgotten with it: a new leader begins at the configured one, and so does each try of a candidate.
//! If the network has become slower than the timeouts, the first try may fail; the next has all the time that is configured. For the same
//! reason a leader that hears from no quorum steps down after the configured time: whoever is cut off with it waits no longer than
//! without the option, and a network that is suddenly slow first lengthens the timeouts.
//!
//! # Heartbeats
//!
//! They are as much faster as the timeouts are shorter, and must never be slower than the shortest timeout that a follower may still
//! believe in, though the word of a longer one was lost:
//!
//! ```text
//! leader     50 ms, beats every 16 ms     150 ms, beats every 50 ms
//! follower   50 ms                        the word is lost; stands after 50 ms, for nothing
//! ```
//!
//! So a leader beats at the quickest timeout in force that it told within the last configured timeout. Whoever missed every beat of that time has
//! given it up anyway.

use alloc::format;
use core::num::NonZeroU32;
use core::time::Duration;

use rand_core::Rng;

use crate::config::Config;
use crate::error::ConfigError;
use crate::raft::Raft;
use crate::role::{Follower, RoleState};
use crate::time::{Instant, micros};
use crate::types::{Command, Round};

/// Election timeouts that follow the network, from this floor up to what is configured. See [`timing`](crate::timing) for
/// when not to use it.
///
/// # Example
///
/// ```
/// use core::time::Duration;
/// use raft_core::{Adaptive, Config, NodeId};
///
/// let config = Config {
///     adaptive: Some(Adaptive { election_timeout_floor: Duration::from_millis(50) }),
///     ..Config::new(NodeId::new(1), [1, 2, 3].map(NodeId::new))
/// };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Adaptive {
    /// The smallest that `election_timeout_min` can become. Ten durable writes at least, and longer than the longest pause that
    /// servers make without being dead: neither shows in the round trips of heartbeats. Microseconds count.
    pub election_timeout_floor: Duration,
}

/// The timeout must be so many times the broadcast time: an order of magnitude (§5.6).
const ROUND_TRIPS: u32 = 10;

/// A round trip takes at most the mean and so many mean deviations (RFC 6298, K).
const DEVIATIONS: u32 = 4;

/// A follower's round trip counts as known after so many measurements in a term; until then the configured timeouts are in force.
const SAMPLES_MIN: u8 = 16;

/// With each heartbeat the timeout in force falls by this part of what it is to fall by. It rises at once: too long a timeout costs
/// milliseconds, too short a one an election.
const FALLS_BY: u64 = 16;

/// The shortest interval between heartbeats that the floor may lead to.
const HEARTBEAT_MIN: Duration = Duration::from_millis(1);

/// The longest timeout that can be told and scaled: in microseconds it fits 32 bits, and products of two 64.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

impl Adaptive {
    pub(crate) fn validate(self, config: &Config) -> Result<(), ConfigError> {
        let Config { election_timeout_min: min, election_timeout_max: max, .. } = *config;
        let floor = self.election_timeout_floor;
        if config.lease.is_some() {
            return Err(ConfigError(
                "adaptive timeouts and a lease exclude each other: a lease rests on a timeout that all voters hold; leave one out"
                    .into(),
            ));
        }
        if !config.pre_vote || !config.check_quorum {
            return Err(ConfigError(
                "adaptive timeouts need pre_vote and check_quorum: without them one server whose timeout has become too \
                 short deposes a leader that all others hear"
                    .into(),
            ));
        }
        if max > TIMEOUT_MAX {
            return Err(ConfigError(format!(
                "election_timeout_max {max:?} is too long for adaptive timeouts: at most {TIMEOUT_MAX:?}"
            )));
        }
        if micros(floor) == 0 || floor > min {
            return Err(ConfigError(format!(
                "election_timeout_floor {floor:?} must be above zero and at most election_timeout_min {min:?}"
            )));
        }
        let timeout_in_force = TimeoutInForce(micros(floor));
        if config.heartbeat_interval_at(timeout_in_force) < HEARTBEAT_MIN {
            let beats = micros(min).checked_div(micros(config.heartbeat_interval)).unwrap_or(1);
            let works = HEARTBEAT_MIN.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX));
            return Err(ConfigError(format!(
                "election_timeout_floor {floor:?} would have heartbeats follow each other within less than {HEARTBEAT_MIN:?}: \
                 raise it to {:?}, or raise heartbeat_interval",
                works.saturating_add(HEARTBEAT_MIN)
            )));
        }
        Ok(())
    }
}

/// The smallest election timeout in force, in microseconds. All other times follow it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct TimeoutInForce(u64);

impl TimeoutInForce {
    pub(crate) fn election_timeout(self) -> Duration {
        Duration::from_micros(self.0)
    }

    pub(crate) fn micros(self) -> u64 {
        self.0
    }
}

impl Config {
    /// The slowest timeout in force, and the only one without the option.
    pub(crate) fn configured_timeout(&self) -> TimeoutInForce {
        TimeoutInForce(micros(self.election_timeout_min))
    }

    /// What a leader's word comes to here: nothing without the option, and never what this server's own bounds do not allow.
    pub(crate) fn timeout_told(&self, micros: Option<NonZeroU32>) -> TimeoutInForce {
        match (self.adaptive, micros) {
            (Some(adaptive), Some(told)) => {
                self.bounded(adaptive, TimeoutInForce(told.get().into()))
            }
            (None, _) | (_, None) => self.configured_timeout(),
        }
    }

    pub(crate) fn bounded(
        &self,
        adaptive: Adaptive,
        timeout_in_force: TimeoutInForce,
    ) -> TimeoutInForce {
        timeout_in_force
            .max(TimeoutInForce(micros(adaptive.election_timeout_floor)))
            .min(self.configured_timeout())
    }

    /// Election timeouts are drawn from a range of this width above the smallest, in microseconds.
    pub(crate) fn spread_at(&self, timeout_in_force: TimeoutInForce) -> u64 {
        let (min, max) = (micros(self.election_timeout_min), micros(self.election_timeout_max));
        self.scaled(max.saturating_sub(min), timeout_in_force)
    }

    pub(crate) fn heartbeat_interval_at(&self, timeout_in_force: TimeoutInForce) -> Duration {
        Duration::from_micros(self.scaled(micros(self.heartbeat_interval), timeout_in_force))
    }

    /// How far successors stand apart, in microseconds. Latencies decide that, not timeouts; so it stays what it is, up to a quarter of the
    /// timeout. That is above two round trips still, by which timeouts are ten.
    pub(crate) fn rank_slot_at(&self, timeout_in_force: TimeoutInForce) -> Option<u64> {
        self.rank_slot.map(|slot| micros(slot).min(timeout_in_force.0 / 4))
    }

    /// How long a voter that heard from a leader sticks to it, in microseconds. With ranks a slot less than the smallest timeout, so that the first in
    /// line is granted what it asks for even by those who heard the last heartbeat a little later.
    pub(crate) fn stickiness_at(&self, timeout_in_force: TimeoutInForce) -> u64 {
        let slot = self.rank_slot_at(timeout_in_force).unwrap_or(0);
        timeout_in_force.0.saturating_sub(slot)
    }

    fn scaled(&self, micros: u64, timeout_in_force: TimeoutInForce) -> u64 {
        let configured = self.configured_timeout();
        if timeout_in_force == configured {
            return micros;
        }
        micros.saturating_mul(timeout_in_force.0).checked_div(configured.0).unwrap_or(micros)
    }
}

/// A leader's timeout in force.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct LeaderTimeout {
    in_force: TimeoutInForce,
    /// The quickest that was told within a span of the configured timeout, and within the one before.
    quickest: [TimeoutInForce; 2],
    span_ends: Instant,
}

impl LeaderTimeout {
    /// A term begins at the configured timeout in force.
    pub(crate) fn new(configured: TimeoutInForce, now: Instant) -> Self {
        Self { in_force: configured, quickest: [configured; 2], span_ends: now }
    }

    /// What followers are told; nothing without the option.
    pub(crate) fn told(&self, config: &Config) -> Option<NonZeroU32> {
        config.adaptive.and_then(|_| NonZeroU32::new(u32::try_from(self.in_force.0).ok()?))
    }

    /// The timeout in force at which to send heartbeats.
    pub(crate) fn beat(&self) -> TimeoutInForce {
        let [recent, earlier] = self.quickest;
        recent.min(earlier)
    }

    /// This timeout in force is wanted; a heartbeat that tells of what comes of it leaves now.
    fn approach(&mut self, wanted: TimeoutInForce, span: Duration, now: Instant) {
        let falls_by = self.in_force.0.saturating_sub(wanted.0) / FALLS_BY;
        self.in_force = TimeoutInForce(self.in_force.0.saturating_sub(falls_by)).max(wanted);
        if self.span_ends <= now {
            self.quickest = [self.in_force, self.quickest[0]];
            self.span_ends = now + span;
        }
        self.quickest[0] = self.quickest[0].min(self.in_force);
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`].
    pub(crate) fn move_in_time(&mut self, future: impl Fn(Instant) -> Instant) {
        self.span_ends = future(self.span_ends);
    }
}

/// How long a follower takes to answer a round, smoothed (RFC 6298), in microseconds.
///
/// The network and the follower's loop are in it, and its disk is not: rounds are answered without a write. Nor does a disk delay the
/// next heartbeat, which is what a timeout waits for. A round that is lost and comes with the next append is late, and counts as that:
/// losses lengthen timeouts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct RoundTrip {
    /// The round whose answer is timed, and when it left.
    timed: Option<(Round, Instant)>,
    samples: u8,
    srtt: u32,
    rttvar: u32,
}

impl RoundTrip {
    /// A round leaves that is new to the follower. One is timed at a time.
    pub(crate) fn on_sent(&mut self, round: Round, now: Instant) {
        self.timed.get_or_insert((round, now));
    }

    /// The follower has echoed this round by now. If it is a later one, the answer to the timed one is lost or overtaken, or will
    /// never come, and says nothing (Karn's rule).
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

    /// The timeout in force that this follower can keep; none as long as too little is known of it.
    fn timeout(&self) -> Option<TimeoutInForce> {
        let longest = self.srtt.saturating_add(self.rttvar.saturating_mul(DEVIATIONS));
        (self.samples >= SAMPLES_MIN)
            .then(|| TimeoutInForce(longest.saturating_mul(ROUND_TRIPS).into()))
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`].
    pub(crate) fn move_in_time(&mut self, past: impl Fn(Instant) -> Instant) {
        self.timed = self.timed.map(|(round, left_at)| (round, past(left_at)));
    }
}

impl<C: Command, R: Rng> Raft<C, R> {
    /// The timeout in force by which this server goes: its leader's, as long as it knows one or only suspects that it is gone.
    pub(crate) fn timeout_in_force(&self) -> TimeoutInForce {
        let told = match &self.role {
            RoleState::Follower(Follower { following, suspicion }) => {
                let told = following.as_ref().map(|following| following.timeout_in_force);
                told.or(suspicion.map(|suspicion| suspicion.timeout_in_force))
            }
            RoleState::Leader(leader) => Some(leader.timeout.in_force),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        };
        told.unwrap_or_else(|| self.config.configured_timeout())
    }

    /// Finds the timeout in force for the next heartbeat, which is about to leave: that of the slowest voter that answers. One that is silent
    /// has no say, and one that is new has the last.
    ///
    /// A quorum could do with its own slowest voter. But whoever stands for nothing serves no reads meanwhile.
    pub(crate) fn adapt_timeout(&mut self) {
        let Some(adaptive) = self.config.adaptive else { return };
        let (now, configured) = (self.now, self.config.configured_timeout());
        let RoleState::Leader(leader) = &mut self.role else { return };
        let patience = leader.timeout.in_force.election_timeout();
        let voters = self.members.other_voters();
        let peers = voters.iter().filter_map(|position| leader.peers.get(position));
        let answering =
            peers.filter(|peer| now.saturating_duration_since(peer.heard_at()) < patience);
        let slowest = answering.map(|peer| peer.round_trip.timeout().unwrap_or(configured)).max();
        let wanted = self.config.bounded(adaptive, slowest.unwrap_or(configured));
        leader.timeout.approach(wanted, configured.election_timeout(), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    const MS: u64 = 1000;

    fn config() -> Config {
        let adaptive = Adaptive { election_timeout_floor: Duration::from_millis(50) };
        let voters = [1, 2, 3].map(NodeId::new);
        Config { adaptive: Some(adaptive), ..Config::new(voters[0], voters) }
    }

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    /// "When the first RTT measurement R is made": the mean is R, the deviation half of it; and then by parts of 8 and of 4.
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

    /// All times keep their proportions at any timeout in force, and are what is configured at the slowest.
    #[test]
    fn times_are_scaled() {
        let config = config();
        let times = |timeout_in_force| {
            (config.heartbeat_interval_at(timeout_in_force), config.spread_at(timeout_in_force))
        };
        assert_eq!(times(config.configured_timeout()), (Duration::from_millis(50), 150 * MS));
        assert_eq!(times(TimeoutInForce(75 * MS)), (Duration::from_millis(25), 75 * MS));
        assert_eq!(config.stickiness_at(TimeoutInForce(75 * MS)), (75 - 5) * MS);
    }

    /// However often the timeout in force changes: heartbeats go by the quickest that was told within the last span.
    #[test]
    fn heartbeats_go_by_the_quickest_pace_that_was_told_lately() {
        let span = Duration::from_micros(150 * MS);
        let mut timeout = LeaderTimeout::new(TimeoutInForce(150 * MS), at(0));
        let mut told = alloc::vec![(at(0), TimeoutInForce(150 * MS))];
        let mut slowed_down = false;
        for beat in 1..10_000_u64 {
            let now = at(beat * 10 * MS);
            let quickest = timeout.beat();
            timeout.approach(TimeoutInForce((50 + beat * beat % 101) * MS), span, now);
            told.push((now, timeout.in_force));
            told.retain(|(at, _)| now <= *at + span);
            assert!(told.iter().all(|(_, timeout_in_force)| timeout.beat() <= *timeout_in_force));
            slowed_down |= timeout.beat() > quickest;
        }
        assert!(slowed_down);
    }
}
