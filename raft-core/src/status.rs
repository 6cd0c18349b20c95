//! What can be seen from outside.

use alloc::vec::Vec;
use core::time::Duration;

use crate::checkpoint::stored;
use crate::membership::Membership;
use crate::reason::{RefusedVote, SteppedDown};
use crate::role::Role;
use crate::state::progress::{Progress, ProgressState};
use crate::time::Instant;
use crate::types::{Index, LogId, NodeId, Term};

/// A server's state at one moment, for operators, tests and metrics. From
/// [`Raft::status`](crate::Raft::status).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Status {
    /// This server.
    pub id: NodeId,
    /// The present, on the host's clock: when its last tick was. [`PeerStatus::heard_at`] and
    /// [`Status::wake`] are to be compared with it.
    pub now: Instant,
    /// What it is.
    pub role: Role,
    /// The latest term that it has seen.
    pub current_term: Term,
    /// The candidate that it voted for in that term.
    pub voted_for: Option<NodeId>,
    /// The leader of that term, if known.
    pub leader: Option<NodeId>,
    /// The smallest election timeout in force here: the configured one, unless [timeouts
    /// adapt](crate::Config::adaptive).
    pub election_timeout: Duration,
    /// The last entry of its log.
    pub last_log: LogId,
    /// The last entry that is durable here.
    pub durable_index: Index,
    /// The last entry known to be committed.
    pub commit_index: Index,
    /// The last entry that the state machine has answered for.
    pub last_applied: Index,
    /// The size of the log in memory, in bytes.
    pub log_bytes: usize,
    /// The position before the first entry that the log holds.
    pub log_base: LogId,
    /// The last entry that its newest snapshot includes.
    pub snapshot: LogId,
    /// The configuration in force.
    pub membership: Membership,
    /// Writes that the disk has not acknowledged yet.
    pub writes_in_flight: usize,
    /// Reads that wait for confirmation or for the state machine.
    pub reads_waiting: usize,
    /// Commands that this server forwards to its leader and that the leader has not answered yet.
    pub forwards_waiting: usize,
    /// How far each follower is; empty unless this server leads.
    pub peers: Vec<PeerStatus>,
    /// What came in that should not have.
    pub counters: Counters,
    /// Why this server last stopped leading or standing for election, since it started.
    pub stepped_down: Option<SteppedDown>,
    /// The last vote or pre-vote that this server refused since it started, and why.
    pub refused_vote: Option<RefusedVote>,
    /// When [`Raft::tick`](crate::Raft::tick) has something to do, and what.
    pub wake: Option<(Instant, Wake)>,
}

/// A leader's view of a follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PeerStatus {
    /// The follower.
    pub id: NodeId,
    /// It holds the leader's log up to here, durably.
    pub match_index: Index,
    /// The next entry to send to it.
    pub next_index: Index,
    /// How entries are sent to it.
    pub state: ProgressState,
    /// When it was last heard of, on the host's clock:
    /// `status.now.saturating_duration_since(peer.heard_at)` ago.
    pub heard_at: Instant,
    /// How long it takes to answer a heartbeat, on average; measured only if [timeouts
    /// adapt](crate::Config::adaptive).
    pub round_trip: Option<Duration>,
}

impl PeerStatus {
    pub(crate) fn new(id: NodeId, progress: &Progress) -> Self {
        Self {
            id,
            match_index: progress.match_index(),
            next_index: progress.next_index(),
            state: progress.state(),
            heard_at: progress.heard_at(),
            round_trip: progress.round_trip.srtt(),
        }
    }
}

/// Oddities of the network, each counted and dropped. They only grow; a restart begins at zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counters {
    /// Messages for another server.
    pub misrouted: u64,
    /// Replies from a server that is not a member, requests of more such servers than are heard at
    /// a time, and messages from this server itself.
    pub unknown_sender: u64,
    /// Messages that contradict themselves or this leader's log.
    pub malformed: u64,
    /// Messages of an earlier term.
    pub stale_term: u64,
    /// Replies of an earlier replication session, or to a message that later ones made irrelevant.
    pub stale_replies: u64,
    /// Vote requests not heard because a leader is known to live (thesis 4.2.3).
    pub sticky_refusals: u64,
    /// Commands that followers forwarded here and that this server has appended while it led.
    pub forwards_taken: u64,
    /// Commands that followers forwarded here and that this server refused while it led.
    pub forwards_refused: u64,
    /// Requests of followers to append commands that came again, or too late to be taken.
    pub stale_forwards: u64,
    /// Entries that found the log at its limit.
    pub log_full: u64,
    /// Messages that no correct cluster can bring about: two leaders in a term, a conflict below
    /// the commit index. If this grows, some server has lost what it had promised to keep.
    pub protocol_violations: u64,
    /// Acknowledgements by the host of writes or entries that were never handed out: a mistake in
    /// the host.
    pub api_misuse: u64,
}

stored! {
    struct Counters {
        misrouted, unknown_sender, malformed, stale_term, stale_replies, sticky_refusals, forwards_taken,
        forwards_refused, stale_forwards, log_full, protocol_violations, api_misuse,
    }
}

/// Counts one more, up to the greatest number there is.
pub(crate) fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}

/// Why a server will wake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Wake {
    /// A step left work for the tick.
    Step,
    /// To stand for election.
    Election,
    /// To send heartbeats.
    Heartbeat,
    /// To ask the voters again that have not answered.
    AskAgain,
    /// To see whether a quorum was heard of.
    Quorum,
    /// To give up a transfer of leadership.
    Transfer,
    /// To send more to a follower that catches up.
    CatchUp,
}
