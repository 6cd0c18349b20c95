//! Why no server can run with a configuration or with a restored state.
//!
//! An error holds values, and makes its text when it is shown. So firmware that shows none has none
//! of the texts in its flash.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use crate::quorum::MEMBERS_MAX;
use crate::types::{LogId, NodeId, Term};

/// A configuration or a restored state with which no server can run, and what would work instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(pub(crate) ConfigFault);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::error::Error for ConfigError {}

#[cfg(feature = "std")]
impl ConfigError {
    /// What a host finds wrong with its own configuration.
    pub(crate) fn of_host(text: impl Into<String>) -> Self {
        Self(ConfigFault::OfHost(text.into()))
    }
}

impl From<ConfigFault> for ConfigError {
    fn from(fault: ConfigFault) -> Self {
        Self(fault)
    }
}

impl From<TimeFault> for ConfigError {
    fn from(fault: TimeFault) -> Self {
        Self(ConfigFault::Time(fault))
    }
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ConfigFault {
    VoterListedTwice(NodeId),
    NoVoter(NodeId),
    TooManyVoters {
        count: usize,
    },
    Time(TimeFault),
    ZeroLimit {
        name: &'static str,
    },
    CommandAboveAppend {
        command: usize,
        append: usize,
    },
    LogTooSmall {
        log: usize,
        needed: usize,
        tail: usize,
        snapshot_log: usize,
        command: usize,
    },
    LogBehindSnapshot {
        base: LogId,
        snapshot: LogId,
    },
    LogOutOfOrder {
        entry: LogId,
        last: LogId,
    },
    LogOfLaterTerm {
        last: LogId,
        current_term: Term,
    },
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "hosts with `std` make it"))]
    OfHost(String),
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VoterListedTwice(voter) => {
                write!(f, "server {voter} is listed twice among the voters")
            }
            Self::NoVoter(id) => write!(
                f,
                "server {id} is not among the voters: add it, or leave them empty if it joins a cluster"
            ),
            Self::TooManyVoters { count } => {
                write!(f, "{count} voters are more than the {MEMBERS_MAX} allowed")
            }
            Self::Time(fault) => fault.fmt(f),
            Self::ZeroLimit { name } => write!(f, "{name} must not be zero"),
            Self::CommandAboveAppend { command, append } => {
                write!(f, "command_bytes_max {command} must not be above append_bytes_max {append}")
            }
            Self::LogTooSmall { log, needed, tail, snapshot_log, command } => write!(
                f,
                "log_bytes_max {log} must be at least {needed}: log_tail_bytes {tail} and snapshot_log_bytes {snapshot_log} \
                 stay in the log until the next snapshot, and then no command of command_bytes_max {command} would fit; \
                 raise log_bytes_max, or lower the others"
            ),
            Self::LogBehindSnapshot { base, snapshot } => write!(
                f,
                "restored log: it begins behind {base} and does not hold {snapshot}, where the snapshot ends"
            ),
            Self::LogOutOfOrder { entry, last } => {
                write!(f, "restored log: entry {entry} cannot follow {last}")
            }
            Self::LogOfLaterTerm { last, current_term } => write!(
                f,
                "restored log: its last entry {last} is of a later term than the stored {current_term}"
            ),
            Self::OfHost(text) => f.write_str(text),
        }
    }
}

/// What is wrong with the times of a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TimeFault {
    NoHeartbeat,
    HeartbeatTooLong { heartbeat: Duration, min: Duration },
    NoSpread { min: Duration, max: Duration },
    RankSlot { slot: Duration, min: Duration },
    LeaseWithoutQuorum,
    LeaseTooShort { drift_ppm_max: u32 },
    AdaptiveWithLease,
    AdaptiveWithoutQuorum,
    AdaptiveTooLong { max: Duration, timeout_max: Duration },
    Floor { floor: Duration, min: Duration },
    FloorTooLow { floor: Duration, heartbeat_min: Duration, works: Duration },
}

impl fmt::Display for TimeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeartbeat => f.write_str("heartbeat_interval must be at least a microsecond"),
            Self::HeartbeatTooLong { heartbeat, min } => write!(
                f,
                "heartbeat_interval {heartbeat:?} must be at most half of election_timeout_min {min:?}: \
                 or a heartbeat that is only late starts an election; with a third \
                 of it one heartbeat may be lost"
            ),
            Self::NoSpread { min, max } => write!(
                f,
                "election_timeout_max {max:?} must be above election_timeout_min {min:?}: without a \
                 spread every election splits the vote; twice the minimum works"
            ),
            Self::RankSlot { slot, min } => write!(
                f,
                "rank_slot {slot:?} must be at least a microsecond and at most a quarter of election_timeout_min {min:?}: \
                 voters stay true to their leader for a slot less than that; four times the one-way latency is enough"
            ),
            Self::LeaseWithoutQuorum => f.write_str(
                "a lease needs check_quorum: without it voters elect another leader meanwhile",
            ),
            Self::LeaseTooShort { drift_ppm_max } => write!(
                f,
                "a lease with clocks that drift by {drift_ppm_max} parts per million ends before the next heartbeat renews it: \
                 lower the drift or the heartbeat_interval"
            ),
            Self::AdaptiveWithLease => f.write_str(
                "adaptive timeouts and a lease exclude each other: a lease rests on a timeout that all voters hold; leave one out",
            ),
            Self::AdaptiveWithoutQuorum => f.write_str(
                "adaptive timeouts need pre_vote and check_quorum: without them one server whose timeout has become too \
                 short deposes a leader that all others hear",
            ),
            Self::AdaptiveTooLong { max, timeout_max } => write!(
                f,
                "election_timeout_max {max:?} is too long for adaptive timeouts: at most {timeout_max:?}"
            ),
            Self::Floor { floor, min } => write!(
                f,
                "election_timeout_floor {floor:?} must be above zero and at most election_timeout_min {min:?}"
            ),
            Self::FloorTooLow { floor, heartbeat_min, works } => write!(
                f,
                "election_timeout_floor {floor:?} would have heartbeats follow each other within less than {heartbeat_min:?}: \
                 raise it to {works:?}, or raise heartbeat_interval"
            ),
        }
    }
}
