//! The option of adaptive timeouts (§5.6), and all times scaled to the election timeout in force.
//! What a leader makes of it is in the module `adaptive`.

use core::num::NonZeroU32;
use core::time::Duration;

use super::Config;
use crate::checkpoint::stored;
use crate::config_error::{ConfigError, TimeFault};
use crate::time::micros;

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

stored! { struct Adaptive { election_timeout_floor } }

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
            return Err(TimeFault::AdaptiveWithLease.into());
        }
        if !config.pre_vote || !config.check_quorum {
            return Err(TimeFault::AdaptiveWithoutQuorum.into());
        }
        if max > TIMEOUT_MAX {
            return Err(TimeFault::AdaptiveTooLong { max, timeout_max: TIMEOUT_MAX }.into());
        }
        if micros(floor) == 0 || floor > min {
            return Err(TimeFault::Floor { floor, min }.into());
        }
        if config.heartbeat_interval_at(TimeoutInForce(micros(floor))) < HEARTBEAT_MIN {
            let beats = micros(min).checked_div(micros(config.heartbeat_interval)).unwrap_or(1);
            let works = HEARTBEAT_MIN.saturating_mul(u32::try_from(beats).unwrap_or(u32::MAX));
            let works = works.saturating_add(HEARTBEAT_MIN);
            let heartbeat_min = HEARTBEAT_MIN;
            return Err(TimeFault::FloorTooLow { floor, heartbeat_min, works }.into());
        }
        Ok(())
    }
}

/// The smallest election timeout in force, in microseconds. All other times follow it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct TimeoutInForce(pub(crate) u64);

stored! { struct TimeoutInForce(_) }

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

    /// All times keep their proportions, and are as configured at the configured timeout.
    #[test]
    fn times_are_scaled() {
        let config = config();
        let times = |timeout| (config.heartbeat_interval_at(timeout), config.spread_at(timeout));
        assert_eq!(times(config.configured_timeout()), (Duration::from_millis(50), 150 * MS));
        assert_eq!(times(TimeoutInForce(75 * MS)), (Duration::from_millis(25), 75 * MS));
        assert_eq!(config.stickiness_at(TimeoutInForce(75 * MS)), (75 - 5) * MS);
    }
}
