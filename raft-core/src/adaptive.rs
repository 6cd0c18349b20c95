//! Timeouts that adapt (§5.6): short on a network that answers fast, the configured ones on a
//! network that does not.
//!
//! The broadcast time must be an order of magnitude below the election timeout, so whoever
//! configures a timeout must think of the worst that the network will ever do. With this option a
//! leader measures what the network does today. It times its heartbeat rounds, and smooths each
//! follower's round-trip time (`srtt`) and its variation (`rttvar`) as TCP does (RFC 6298). With
//! every AppendEntries it tells its followers which election timeout is in force. The idea is that
//! of Dynatune.
//!
//! Only *when* a server stands for election depends on the timeout in force. Votes, terms and logs
//! do not, so a wrong timeout costs an election at worst. A follower never believes a timeout below
//! its own floor or above its own configured timeout.
//!
//! The timeout in force belongs to a leader and is forgotten with it: a new leader begins with the
//! configured timeout, and so does each attempt of a candidate. If the network has become slower
//! than the timeouts, the first attempt may fail; the next one has the whole configured timeout.
//! For the same reason a leader that hears from no quorum steps down after the configured timeout:
//! a client that is cut off with it waits no longer than without the option, and a network that is
//! suddenly slow first lengthens the timeouts.
//!
//! # Heartbeats
//!
//! Heartbeats are as much faster as the timeouts are shorter. They must never be slower than the
//! shortest timeout that a follower may still believe in, because the message that told a longer
//! one may be lost:
//!
//! ```text
//! leader     50 ms, beats every 16 ms     150 ms, beats every 50 ms
//! follower   50 ms                        the message is lost; stands after 50 ms, for nothing
//! ```
//!
//! So a leader sends heartbeats by the shortest timeout that it told within the last configured
//! timeout. A follower that missed every heartbeat of that time has given its leader up anyway.

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

/// Election timeouts that follow the network, from this floor up to what is configured. See
/// [`timing`](crate::timing) for when not to use it.
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
    /// The smallest that `election_timeout_min` can become. Ten durable writes at least, and longer
    /// than the longest pause that servers make without being dead: neither shows in the round
    /// trips of heartbeats. Microseconds count.
    pub election_timeout_floor: Duration,
}

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

/// The shortest interval between heartbeats that the floor may lead to.
const HEARTBEAT_MIN: Duration = Duration::from_millis(1);

/// The longest timeout that can be told and scaled: in microseconds it fits 32 bits, and products
/// of two 64.
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
        if config.heartbeat_interval_at(TimeoutInForce(micros(floor))) < HEARTBEAT_MIN {
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
    /// The configured timeout: the longest that can be in force, and the only one without the
    /// option.
    pub(crate) fn configured_timeout(&self) -> TimeoutInForce {
        TimeoutInForce(micros(self.election_timeout_min))
    }

    /// The timeout that a leader told, within this server's own bounds; the configured one if the
    /// leader told none, or without the option.
    pub(crate) fn timeout_told(&self, micros: Option<NonZeroU32>) -> TimeoutInForce {
        match (self.adaptive, micros) {
            (Some(adaptive), Some(told)) => {
                self.bounded(adaptive, TimeoutInForce(told.get().into()))
            }
            (None, _) | (_, None) => self.configured_timeout(),
        }
    }

    pub(crate) fn bounded(&self, adaptive: Adaptive, timeout: TimeoutInForce) -> TimeoutInForce {
        timeout
            .max(TimeoutInForce(micros(adaptive.election_timeout_floor)))
            .min(self.configured_timeout())
    }

    /// Election timeouts are drawn from a range of this width above the smallest, in microseconds.
    pub(crate) fn spread_at(&self, timeout: TimeoutInForce) -> u64 {
        let (min, max) = (micros(self.election_timeout_min), micros(self.election_timeout_max));
        self.scaled(max.saturating_sub(min), timeout)
    }

    pub(crate) fn heartbeat_interval_at(&self, timeout: TimeoutInForce) -> Duration {
        Duration::from_micros(self.scaled(micros(self.heartbeat_interval), timeout))
    }

    /// How far successors stand apart, in microseconds. Latencies decide that, not timeouts. So the
    /// slot stays as configured, up to a quarter of the timeout: that is still above two round
    /// trips, because a timeout is at least ten.
    pub(crate) fn rank_slot_at(&self, timeout: TimeoutInForce) -> Option<u64> {
        self.rank_slot.map(|slot| micros(slot).min(timeout.0 / 4))
    }

    /// How long a voter sticks to a leader that it has heard, in microseconds (thesis 4.2.3). With
    /// ranks this is a slot less than the smallest timeout, so that the first in line gets the
    /// votes also of those that heard the last heartbeat a little later.
    pub(crate) fn stickiness_at(&self, timeout: TimeoutInForce) -> u64 {
        let slot = self.rank_slot_at(timeout).unwrap_or(0);
        timeout.0.saturating_sub(slot)
    }

    fn scaled(&self, micros: u64, timeout: TimeoutInForce) -> u64 {
        let configured = self.configured_timeout();
        if timeout == configured {
            return micros;
        }
        micros.saturating_mul(timeout.0).checked_div(configured.0).unwrap_or(micros)
    }
}

/// The timeout in force with a leader, and the shortest ones that it told lately.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct LeaderTimeout {
    in_force: TimeoutInForce,
    /// The shortest that was told within a span of the configured timeout, and within the span
    /// before.
    shortest: [TimeoutInForce; 2],
    span_ends: Instant,
}

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
    fn approach(&mut self, wanted: TimeoutInForce, span: Duration, now: Instant) {
        let falls_by = self.in_force.0.saturating_sub(wanted.0) / FALLS_BY;
        self.in_force = TimeoutInForce(self.in_force.0.saturating_sub(falls_by)).max(wanted);
        if self.span_ends <= now {
            self.shortest = [self.in_force, self.shortest[0]];
            self.span_ends = now + span;
        }
        self.shortest[0] = self.shortest[0].min(self.in_force);
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`].
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
    /// The election timeout in force at this server: its leader's, as long as the server knows a
    /// leader or only suspects that it is gone; else the configured one.
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

    /// Chooses the timeout that the next heartbeat tells: what the slowest voter that answers can
    /// keep up with. Unresponsive voters are ignored; a voter without enough samples keeps the
    /// configured timeout.
    ///
    /// A quorum could do with its own slowest voter. But a follower that stands for nothing serves
    /// no reads meanwhile.
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

    /// All times keep their proportions, and are as configured at the configured timeout.
    #[test]
    fn times_are_scaled() {
        let config = config();
        let times = |timeout| (config.heartbeat_interval_at(timeout), config.spread_at(timeout));
        assert_eq!(times(config.configured_timeout()), (Duration::from_millis(50), 150 * MS));
        assert_eq!(times(TimeoutInForce(75 * MS)), (Duration::from_millis(25), 75 * MS));
        assert_eq!(config.stickiness_at(TimeoutInForce(75 * MS)), (75 - 5) * MS);
    }

    /// However often the timeout changes, heartbeats go by the shortest that was told within the
    /// span.
    #[test]
    fn heartbeats_go_by_the_shortest_pace_that_was_told_lately() {
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
