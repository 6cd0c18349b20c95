//! What a server is told before it starts: who it is, who the others are, its timeouts and its limits.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use crate::error::ConfigError;
use crate::quorum::VOTERS_MAX;
use crate::time::micros;
use crate::types::NodeId;

/// Everything that can be chosen about a server. Every limit has its name here.
///
/// All servers of a cluster should have the same configuration, but for `id`.
///
/// # Example
///
/// ```
/// use core::time::Duration;
/// use raft_core::{Config, NodeId};
///
/// let voters = [1, 2, 3].map(NodeId::new);
/// let config = Config {
///     election_timeout_min: Duration::from_millis(500),
///     election_timeout_max: Duration::from_millis(1000),
///     ..Config::new(NodeId::new(1), voters)
/// };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// This server.
    pub id: NodeId,
    /// All voting servers, this one among them; at most [`VOTERS_MAX`].
    pub voters: Vec<NodeId>,
    /// A follower that has heard nothing for a random time of at least this long stands for election (§5.2). Also how long a
    /// voter stays true to a leader that it heard from, and a leader leads without hearing from a quorum (thesis 4.2.3, 6.2).
    /// Microseconds count; what is finer is cut off.
    pub election_timeout_min: Duration,
    /// The end of the range, itself excluded, from which election timeouts are drawn. The wider the range against the
    /// network's latency, the rarer are split votes.
    pub election_timeout_max: Duration,
    /// How often a leader says that it lives. At most half of `election_timeout_min`, so that one lost message elects nobody.
    pub heartbeat_interval: Duration,
    /// Ask before standing whether one could win (thesis 9.6), so that a server that was cut off does not disturb on return.
    pub pre_vote: bool,
    /// A leader that hears from no quorum steps down (thesis 6.2), and voters that hear from a leader ignore
    /// candidates (thesis 4.2.3).
    pub check_quorum: bool,
    /// The longest command accepted, in bytes.
    pub command_bytes_max: usize,
    /// The most bytes of entries in one AppendEntries; a single entry may exceed it by its overhead.
    pub append_bytes_max: usize,
    /// The most AppendEntries with entries on their way to one peer.
    pub inflight_appends_max: usize,
    /// The most bytes of entries on their way to one peer; reached by the message that crosses it.
    pub inflight_bytes_max: usize,
    /// The most bytes of entries in one write.
    pub write_bytes_max: usize,
    /// The most writes that the disk has yet to answer for; what comes meanwhile goes into the next ones.
    pub inflight_writes_max: usize,
    /// The most bytes of entries in one [`Output::Apply`](crate::Output::Apply).
    pub apply_bytes_max: usize,
    /// The most `Apply` batches that the state machine has yet to answer for.
    pub inflight_applies_max: usize,
    /// The log's size in memory at which commands are refused, in bytes.
    pub log_bytes_max: usize,
    /// The most reads that wait for confirmation.
    pub reads_waiting_max: usize,
}

impl Config {
    /// The defaults: for servers in one building, with timeouts of 150-300 ms and heartbeats of 50 ms.
    pub fn new(id: NodeId, voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            id,
            voters: voters.into_iter().collect(),
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            heartbeat_interval: Duration::from_millis(50),
            pre_vote: true,
            check_quorum: true,
            command_bytes_max: 1 << 20,
            append_bytes_max: 1 << 20,
            inflight_appends_max: 128,
            inflight_bytes_max: 16 << 20,
            write_bytes_max: 4 << 20,
            inflight_writes_max: 64,
            apply_bytes_max: 1 << 20,
            inflight_applies_max: 4,
            log_bytes_max: 256 << 20,
            reads_waiting_max: 4096,
        }
    }

    /// Whether a server can run with this; the error says what would work instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut voters = self.voters.clone();
        voters.sort_unstable();
        if let Some(twice) = voters.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ConfigError(format!(
                "server {} is listed twice among the voters",
                twice[0]
            )));
        }
        if !voters.contains(&self.id) {
            return Err(ConfigError(format!("server {} is not among the voters: add it", self.id)));
        }
        if voters.len() > VOTERS_MAX {
            let count = voters.len();
            return Err(ConfigError(format!(
                "{count} voters are more than the {VOTERS_MAX} allowed"
            )));
        }
        self.validate_times()?;
        self.validate_limits()
    }

    fn validate_times(&self) -> Result<(), ConfigError> {
        let Self { election_timeout_min: min, election_timeout_max: max, .. } = *self;
        let heartbeat = self.heartbeat_interval;
        if micros(heartbeat) == 0 {
            return Err(ConfigError("heartbeat_interval must be at least a microsecond".into()));
        }
        if micros(heartbeat) > micros(min) / 2 {
            return Err(ConfigError(format!(
                "heartbeat_interval {heartbeat:?} must be at most half of election_timeout_min {min:?}: \
                 or one lost heartbeat starts an election"
            )));
        }
        if micros(max) <= micros(min) {
            return Err(ConfigError(format!(
                "election_timeout_max {max:?} must be above election_timeout_min {min:?}: without a \
                 spread every election splits the vote; twice the minimum works"
            )));
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<(), ConfigError> {
        let limits = [
            ("command_bytes_max", self.command_bytes_max),
            ("append_bytes_max", self.append_bytes_max),
            ("inflight_appends_max", self.inflight_appends_max),
            ("inflight_bytes_max", self.inflight_bytes_max),
            ("write_bytes_max", self.write_bytes_max),
            ("inflight_writes_max", self.inflight_writes_max),
            ("apply_bytes_max", self.apply_bytes_max),
            ("inflight_applies_max", self.inflight_applies_max),
            ("log_bytes_max", self.log_bytes_max),
            ("reads_waiting_max", self.reads_waiting_max),
        ];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == 0) {
            return Err(ConfigError(format!("{name} must not be zero")));
        }
        let (command, append) = (self.command_bytes_max, self.append_bytes_max);
        if command > append {
            return Err(ConfigError(format!(
                "command_bytes_max {command} must not be above append_bytes_max {append}"
            )));
        }
        Ok(())
    }
}
