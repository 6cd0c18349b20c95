//! The configuration of one server: its id, the first voters, its timeouts and its limits.

mod adaptive;

use alloc::vec::Vec;
use core::time::Duration;

use crate::checkpoint::stored;
use crate::config_error::{ConfigError, ConfigFault, TimeFault};
use crate::entries::Entry;
use crate::quorum::MEMBERS_MAX;
use crate::time::micros;
use crate::types::NodeId;

pub use adaptive::Adaptive;
pub(crate) use adaptive::TimeoutInForce;

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
    /// The voters with which a new cluster begins, this server among them; at most [`MEMBERS_MAX`].
    /// Empty for a server that joins a cluster: it waits to be [added](crate::Change::AddLearner).
    /// What the disk holds goes before it, so that it matters only until the first write.
    pub voters: Vec<NodeId>,
    /// A follower that has heard nothing for a random time of at least this long stands for
    /// election (§5.2). Also how long a voter stays true to a leader that it heard from, and a
    /// leader leads without hearing from a quorum (thesis 4.2.3, 6.2). Microseconds count; what is
    /// finer is cut off.
    pub election_timeout_min: Duration,
    /// The end of the range, itself excluded, from which election timeouts are drawn. The wider the
    /// range against the network's latency, the rarer are split votes.
    pub election_timeout_max: Duration,
    /// Followers that lose their leader stand one after the other, in the order in which the leader
    /// has ranked them: the first after `election_timeout_min`, each next one so much later (at
    /// least four one-way latencies, or two stand at once; at most a quarter of
    /// `election_timeout_min`). A follower that has tried in vain, or has no rank, waits for a
    /// random time. Ranks change only when a server stands for election: votes and terms do not
    /// depend on them. `None`: all wait for random times, as in the paper.
    pub rank_slot: Option<Duration>,
    /// How often a leader says that it lives. At most half of `election_timeout_min`, as in Figure
    /// 16, or a heartbeat that is only a little late elects somebody. For a lost round to elect
    /// nobody, two intervals, a round trip and what hosts wake late must fit into
    /// `election_timeout_min`: a third of it, as by default, is enough for that, and exactly half
    /// is not.
    pub heartbeat_interval: Duration,
    /// A leader steps down if its disk owes an answer and gives none for this long, and tells its
    /// best follower to stand at once. Every answer starts the time anew, so what counts is the
    /// slowest single sync: choose ten times what one sync of
    /// [`write_bytes_max`](Config::write_bytes_max) takes, hiccups included. A leader never steps
    /// down sooner than after `election_timeout_min`. Microseconds count.
    pub disk_timeout: Duration,
    /// Ask before standing whether one could win (thesis 9.6), so that a server that was cut off
    /// does not disturb on return.
    pub pre_vote: bool,
    /// A leader that hears from no quorum steps down (thesis 6.2), and voters that hear from a
    /// leader ignore candidates (thesis 4.2.3). With `pre_vote` leaders step down in any case:
    /// voters refuse pre-votes while they hear a leader, so one that hears no quorum, but is heard,
    /// would keep all others from leading for ever.
    pub check_quorum: bool,
    /// The longest command accepted, in bytes.
    pub command_bytes_max: usize,
    /// The most bytes of entries in one AppendEntries; a single entry may exceed it by its
    /// overhead.
    pub append_bytes_max: usize,
    /// The most AppendEntries with entries on their way to one peer.
    pub inflight_appends_max: usize,
    /// The most bytes of entries on their way to one peer; reached by the message that crosses it.
    pub inflight_bytes_max: usize,
    /// The most bytes of entries in one write. A host ends one sync of its disk with the write that
    /// reaches this number, so that a sync holds less than twice as much.
    pub write_bytes_max: usize,
    /// The most writes that the disk has yet to answer for; what comes meanwhile goes into the next
    /// ones.
    pub inflight_writes_max: usize,
    /// The most bytes of entries in one [`Output::Apply`](crate::Output::Apply).
    pub apply_bytes_max: usize,
    /// The most `Apply` batches that the state machine has yet to answer for.
    pub inflight_applies_max: usize,
    /// The log's size in memory at which commands are refused, in bytes. At least `log_tail_bytes`
    /// and `snapshot_log_bytes`, which stay in the log until the next snapshot, and one command
    /// with its overhead.
    pub log_bytes_max: usize,
    /// The size of the entries not yet committed at which a leader refuses commands, in bytes; no
    /// more is in force than `log_bytes_max` leaves beside `log_tail_bytes` and
    /// `snapshot_log_bytes`. One command always fits.
    pub uncommitted_bytes_max: usize,
    /// The most reads that wait: to be confirmed, and then for the entries that they must see to be
    /// handed out. A host that does not serve a read at once counts it until it is served, as the
    /// module `host` does.
    pub reads_waiting_max: usize,
    /// The most commands that this server forwards to its leader at a time and that the leader has
    /// yet to answer for. A host may count a forwarded command until it has answered its client, as
    /// the module `host` does.
    pub forwards_waiting_max: usize,
    /// The most bytes of such commands, each with [`Entry::OVERHEAD_BYTES`]. One command always
    /// fits.
    pub forwards_bytes_max: usize,
    /// A snapshot is taken when the state machine was given so many bytes of entries since the last
    /// one (§7).
    pub snapshot_log_bytes: usize,
    /// A snapshot is taken when the state machine was given so many entries since the last one.
    pub snapshot_log_entries: u64,
    /// The most bytes of entries kept behind a snapshot, for followers that are a little behind.
    pub log_tail_bytes: usize,
    /// The most bytes of a snapshot in one message.
    pub snapshot_chunk_bytes: usize,
    /// The most chunks of a snapshot on their way to one peer.
    pub inflight_chunks_max: usize,
    /// How many entries a learner may be behind the commit index when it is promoted.
    pub promotion_lag_max: u64,
    /// Serve reads by a lease instead of a round of heartbeats (thesis 6.4.1). See [`Lease`] for
    /// what it assumes.
    pub lease: Option<Lease>,
    /// Shorten the election timeouts, and with them the heartbeats, to what the measured network
    /// allows; the configured ones are then the longest. None: they are always as configured.
    pub adaptive: Option<Adaptive>,
}

stored! {
    struct Config {
        id, voters, election_timeout_min, election_timeout_max, rank_slot,
        heartbeat_interval, disk_timeout, pre_vote, check_quorum, command_bytes_max,
        append_bytes_max, inflight_appends_max, inflight_bytes_max, write_bytes_max,
        inflight_writes_max, apply_bytes_max, inflight_applies_max, log_bytes_max,
        uncommitted_bytes_max, reads_waiting_max, forwards_waiting_max, forwards_bytes_max, snapshot_log_bytes, snapshot_log_entries,
        log_tail_bytes, snapshot_chunk_bytes, inflight_chunks_max, promotion_lag_max, lease,
        adaptive,
    }
}

/// What a leader assumes when it serves reads without asking a quorum each time (thesis 6.4.1).
///
/// A voter with a lease tells its leader for how long it elects nobody else:
/// `election_timeout_min`, less a `rank_slot`, on its own clock. The leader serves reads for the
/// least of what a quorum has promised, and never longer than its own configuration would promise,
/// counted on its own clock from when the heartbeat left, less the drift between the two clocks.
/// **A clock that drifts further, or stands still while others run, makes reads stale.**
///
/// Servers may be given leases, or other timeouts, one after the other: voters without one promise
/// nothing, and until a quorum promises, reads cost a round as ever. A voter that restarts honours
/// what it promised, for its disk holds how long that is; its first votes wait for so long. The
/// lease ends when leadership is transferred. While voters are bound by promises nobody can be
/// elected, also if the leader's process is known to be gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lease {
    /// How many microseconds in a second two clocks may differ in speed at most, below a million.
    /// 500 is an ordinary bound for crystals under a time daemon's care.
    pub drift_ppm_max: u32,
}

stored! { struct Lease { drift_ppm_max } }

impl Config {
    /// The defaults: for servers in one building, with timeouts of 150-300 ms, heartbeats of 50 ms
    /// and ranks 5 ms apart.
    pub fn new(id: NodeId, voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            id,
            voters: voters.into_iter().collect(),
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            rank_slot: Some(Duration::from_millis(5)),
            heartbeat_interval: Duration::from_millis(50),
            disk_timeout: Duration::from_millis(500),
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
            uncommitted_bytes_max: 128 << 20,
            reads_waiting_max: 4096,
            forwards_waiting_max: 4096,
            forwards_bytes_max: 16 << 20,
            snapshot_log_bytes: 64 << 20,
            snapshot_log_entries: 1 << 20,
            log_tail_bytes: 16 << 20,
            snapshot_chunk_bytes: 1 << 20,
            inflight_chunks_max: 8,
            promotion_lag_max: 4096,
            lease: None,
            adaptive: None,
        }
    }

    /// How long a leader waits for an answer of its disk before it steps down.
    pub(crate) fn disk_patience(&self) -> Duration {
        self.disk_timeout.max(self.election_timeout_min)
    }

    /// How long this leader relies on a voter's promise of so many microseconds, counted from when
    /// the round left: never longer than it would be bound itself.
    pub(crate) fn lease_span(&self, lease: Lease, promise_micros: u32) -> Duration {
        const MILLION: u64 = 1_000_000;
        let certain = MILLION.saturating_sub(u64::from(lease.drift_ppm_max));
        let promised = u64::from(promise_micros.min(self.promise_micros()));
        Duration::from_micros(promised.saturating_mul(certain) / MILLION)
    }

    /// Whether a leader that hears from no quorum steps down (thesis 6.2). Where voters refuse
    /// pre-votes for a leader's sake, that leader must deserve it:
    ///
    /// ```text
    /// B leads, is heard by A and hears nobody;  A and C hear each other
    /// C asks A for a pre-vote: refused, for A hears B; and B commits nothing
    /// ```
    pub(crate) fn leader_needs_quorum(&self) -> bool {
        self.check_quorum || self.pre_vote
    }

    /// Whether a server can run with this; the error says what would work instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let voters = &self.voters;
        let mut earlier = voters.iter().enumerate();
        if let Some((_, twice)) = earlier.find(|(at, id)| voters.iter().take(*at).any(|v| v == *id))
        {
            return Err(ConfigFault::VoterListedTwice(*twice).into());
        }
        if !voters.is_empty() && !voters.contains(&self.id) {
            return Err(ConfigFault::NoVoter(self.id).into());
        }
        if voters.len() > MEMBERS_MAX {
            return Err(ConfigFault::TooManyVoters { count: voters.len() }.into());
        }
        self.validate_times()?;
        self.validate_limits()
    }

    fn validate_times(&self) -> Result<(), ConfigError> {
        let Self { election_timeout_min: min, election_timeout_max: max, .. } = *self;
        let heartbeat = self.heartbeat_interval;
        if micros(heartbeat) == 0 {
            return Err(TimeFault::NoHeartbeat.into());
        }
        if micros(heartbeat) > micros(min) / 2 {
            return Err(TimeFault::HeartbeatTooLong { heartbeat, min }.into());
        }
        if micros(max) <= micros(min) {
            return Err(TimeFault::NoSpread { min, max }.into());
        }
        if let Some(slot) =
            self.rank_slot.filter(|slot| !(1..=micros(min) / 4).contains(&micros(*slot)))
        {
            return Err(TimeFault::RankSlot { slot, min }.into());
        }
        self.lease.map_or(Ok(()), |lease| self.validate_lease(lease))?;
        self.adaptive.map_or(Ok(()), |adaptive| adaptive.validate(self))
    }

    fn validate_lease(&self, lease: Lease) -> Result<(), ConfigError> {
        if !self.check_quorum {
            return Err(TimeFault::LeaseWithoutQuorum.into());
        }
        if self.lease_span(lease, u32::MAX) <= self.heartbeat_interval {
            let drift_ppm_max = lease.drift_ppm_max;
            return Err(TimeFault::LeaseTooShort { drift_ppm_max }.into());
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
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("reads_waiting_max", self.reads_waiting_max),
            ("forwards_waiting_max", self.forwards_waiting_max),
            ("forwards_bytes_max", self.forwards_bytes_max),
            ("snapshot_log_bytes", self.snapshot_log_bytes),
            ("snapshot_chunk_bytes", self.snapshot_chunk_bytes),
            ("inflight_chunks_max", self.inflight_chunks_max),
        ];
        if let Some((name, _)) = limits.iter().find(|(_, limit)| *limit == 0) {
            return Err(ConfigFault::ZeroLimit { name }.into());
        }
        let (command, append) = (self.command_bytes_max, self.append_bytes_max);
        if command > append {
            return Err(ConfigFault::CommandAboveAppend { command, append }.into());
        }
        // The no-op of a new term may stand before the command.
        let longest = command.saturating_add(Entry::<()>::OVERHEAD_BYTES.saturating_mul(2));
        if longest > self.log_room() {
            let (log, tail) = (self.log_bytes_max, self.log_tail_bytes);
            let snapshot_log = self.snapshot_log_bytes;
            let needed = longest.saturating_add(tail).saturating_add(snapshot_log);
            return Err(
                ConfigFault::LogTooSmall { log, needed, tail, snapshot_log, command }.into()
            );
        }
        Ok(())
    }

    /// The longest [`Message::size`](crate::Message::size) that a server with this sends, in bytes;
    /// but for an entry that is a configuration.
    #[cfg(feature = "std")]
    pub(crate) fn message_bytes_max(&self) -> usize {
        let append = self.append_bytes_max.saturating_add(Entry::<()>::OVERHEAD_BYTES);
        append.max(self.snapshot_chunk_bytes)
    }

    /// What the log has room for beside all that stays in it until the next snapshot, in bytes.
    ///
    /// An applied entry stays until a snapshot includes it, and none is due before
    /// [`snapshot_log_bytes`](Self::snapshot_log_bytes) of them have been applied. So a log in
    /// which more than this room is not committed may be full for good: it could be compacted only
    /// after a commit, and commit only with what does not fit.
    pub(crate) fn log_room(&self) -> usize {
        self.log_bytes_max
            .saturating_sub(self.log_tail_bytes)
            .saturating_sub(self.snapshot_log_bytes)
    }
}
