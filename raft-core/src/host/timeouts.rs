//! The timeouts that a server is configured with, as it says them to its peers.
//!
//! All servers of a cluster should have the same values
//! ([`Config::election_timeout_min`](crate::Config::election_timeout_min)). Nothing breaks if one
//! differs, but elections become strange, and no single server sees why. So each node says its
//! values with each connection, and finds the members that have others
//! ([`Finding::TimeoutsDiffer`](super::Finding::TimeoutsDiffer)).
//!
//! These are the configured values. The timeout in force may be shorter for a while, with
//! [`Config::adaptive`](crate::Config::adaptive); the leader tells that one to its followers with
//! its messages, and two servers differ in it without any harm.

use std::fmt;
use std::time::Duration;

use crate::config::Config;
use crate::time::micros;

/// The election timeouts and the heartbeat interval of a server, as configured, in whole
/// microseconds. What is longer than [`Timeouts::LONGEST`] counts as that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Timeouts {
    /// [`Config::election_timeout_min`](crate::Config::election_timeout_min).
    pub election_timeout_min: Duration,
    /// [`Config::election_timeout_max`](crate::Config::election_timeout_max).
    pub election_timeout_max: Duration,
    /// [`Config::heartbeat_interval`](crate::Config::heartbeat_interval).
    pub heartbeat_interval: Duration,
}

impl Timeouts {
    /// The longest span that a server says: 71 minutes. Its microseconds fit 32 bits.
    pub const LONGEST: Duration = Duration::from_micros(u32::MAX as u64);

    /// Those of this configuration.
    pub fn of(config: &Config) -> Self {
        let said = |span| Duration::from_micros(micros(span)).min(Self::LONGEST);
        Self {
            election_timeout_min: said(config.election_timeout_min),
            election_timeout_max: said(config.election_timeout_max),
            heartbeat_interval: said(config.heartbeat_interval),
        }
    }

    /// Whether a follower with these timeouts may stand for election although a leader with
    /// `leader`'s heartbeats lives, because one heartbeat is only late:
    /// [`Config::validate`](crate::Config::validate) refuses such an interval for the follower's
    /// own heartbeats.
    pub(super) fn are_too_short_for(&self, leader: &Self) -> bool {
        leader.heartbeat_interval > self.election_timeout_min / 2
    }
}

impl fmt::Display for Timeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "election timeouts of {:?} to {:?} and heartbeats every {:?}",
            self.election_timeout_min, self.election_timeout_max, self.heartbeat_interval
        )
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use crate::config::Adaptive;
    use crate::types::NodeId;

    #[test]
    fn what_adapts_is_not_said() {
        let config = Config::new(NodeId::new(1), [1, 2, 3].map(NodeId::new));
        let floor = Adaptive { election_timeout_floor: Duration::from_millis(50) };
        let adaptive = Config { adaptive: Some(floor), ..config.clone() };
        assert_eq!(Timeouts::of(&config), Timeouts::of(&adaptive));
        let said = Timeouts::of(&config).to_string();
        assert_eq!(said, "election timeouts of 150ms to 300ms and heartbeats every 50ms");
    }

    #[test]
    fn microseconds_count_up_to_the_longest() {
        let config = Config::new(NodeId::new(1), [1, 2, 3].map(NodeId::new));
        let finer = config.election_timeout_min + Duration::from_nanos(999);
        let finer = Config { election_timeout_min: finer, ..config.clone() };
        assert_eq!(Timeouts::of(&config), Timeouts::of(&finer));
        let longer = Config { election_timeout_max: Duration::MAX, ..config };
        assert_eq!(Timeouts::of(&longer).election_timeout_max, Timeouts::LONGEST);
    }
}
