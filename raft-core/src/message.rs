//! What servers say to each other (Figures 2 and 13): remote procedure calls as one-way messages.
//!
//! Every message carries its sender's current term. A request and its reply are two messages:
//! either may be lost, repeated or overtaken, and a reply names what it answers.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::checkpoint::stored;
use crate::entries::{Entries, Entry};
use crate::membership::Membership;
use crate::types::{Command, Index, LogId, NodeId, ProposalId, ReadId, Round, Session, Term};

/// A message from one server to another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Message<C> {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's current term when it was sent.
    pub term: Term,
    /// What it says.
    pub body: Body<C>,
}

stored! { struct Message<C> { from, to, term, body } }

impl<C: Command> Message<C> {
    /// What the message counts towards limits in bytes: its entries, the commands that it forwards,
    /// or its piece of a snapshot.
    pub fn size(&self) -> usize {
        match &self.body {
            Body::AppendEntries(append) => append.entries.iter().map(Entry::size).sum(),
            Body::InstallSnapshot(install) => install.chunk.as_ref().len(),
            Body::Propose(propose) => {
                propose.commands.iter().map(|command| Entry::<C>::size_of(command)).sum()
            }
            Body::RequestPreVote(_)
            | Body::RequestPreVoteReply(_)
            | Body::RequestVote(_)
            | Body::RequestVoteReply(_)
            | Body::AppendEntriesReply(_)
            | Body::InstallSnapshotReply(_)
            | Body::TimeoutNow(_)
            | Body::ReadIndex(_)
            | Body::ReadIndexReply(_)
            | Body::ProposeReply(_) => 0,
        }
    }
}

/// What a [`Message`] says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Body<C> {
    /// "Would you vote for me in the term after mine?" (thesis 9.6). Changes nothing at the voter.
    RequestPreVote(RequestPreVote),
    /// The answer to a pre-vote. Never counts as a vote.
    RequestPreVoteReply(RequestPreVoteReply),
    /// "Vote for me in this term" (§5.2).
    RequestVote(RequestVote),
    /// The answer to a vote request.
    RequestVoteReply(RequestVoteReply),
    /// New entries, a heartbeat, or word of a new commit index (§5.3).
    AppendEntries(AppendEntries<C>),
    /// The answer to AppendEntries.
    AppendEntriesReply(AppendEntriesReply),
    /// A piece of a snapshot, for a follower that needs entries which its leader has compacted
    /// (§7).
    InstallSnapshot(InstallSnapshot<C>),
    /// How much of a snapshot has come.
    InstallSnapshotReply(InstallSnapshotReply),
    /// "Stand for election now" (thesis 3.10).
    TimeoutNow(TimeoutNow),
    /// "From which index on may I serve a read?" (thesis 6.4)
    ReadIndex(ReadIndex),
    /// The answer to ReadIndex.
    ReadIndexReply(ReadIndexReply),
    /// "Append these commands for my clients."
    Propose(Propose<C>),
    /// The answer to Propose.
    ProposeReply(ProposeReply),
}

stored! {
    enum Body<C> {
        0 RequestPreVote { 0: a },
        1 RequestPreVoteReply { 0: a },
        2 RequestVote { 0: a },
        3 RequestVoteReply { 0: a },
        4 AppendEntries { 0: a },
        5 AppendEntriesReply { 0: a },
        6 InstallSnapshot { 0: a },
        7 InstallSnapshotReply { 0: a },
        8 TimeoutNow { 0: a },
        9 ReadIndex { 0: a },
        10 ReadIndexReply { 0: a },
        11 Propose { 0: a },
        12 ProposeReply { 0: a },
    }
}

/// Arguments of a pre-vote request (thesis 9.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestPreVote {
    /// The last entry of the sender's log.
    pub last_log: LogId,
    /// Numbers the sender's pre-votes, so that a late answer to an earlier one counts for nothing.
    pub campaign: u64,
}

stored! { struct RequestPreVote { last_log, campaign } }

/// The answer to [`RequestPreVote`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestPreVoteReply {
    /// Whether the voter would vote for the sender in the term after the one asked in.
    pub granted: bool,
    /// The request's `campaign`, echoed.
    pub campaign: u64,
}

stored! { struct RequestPreVoteReply { granted, campaign } }

/// Arguments of RequestVote (§5.2, §5.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestVote {
    /// The last entry of the candidate's log.
    pub last_log: LogId,
    /// The leader asked for this election, so no voter needs to stick to it (thesis 4.2.3).
    pub transfer: bool,
}

stored! { struct RequestVote { last_log, transfer } }

/// The answer to [`RequestVote`]. A grant is durable before it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestVoteReply {
    /// Whether the candidate got the vote.
    pub granted: bool,
    /// The request's `last_log`, echoed. A vote is given to a log, not only to a candidate: see the
    /// module `election` for why it must be.
    pub last_log: LogId,
}

stored! { struct RequestVoteReply { granted, last_log } }

/// Arguments of AppendEntries (§5.3).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AppendEntries<C> {
    /// The replication session that this message belongs to; echoed in the reply.
    pub session: Session,
    /// The newest heartbeat round; a round that is new to the follower is answered at once.
    pub round: Round,
    /// The entry right before `entries`: the follower must hold it, or it rejects.
    pub prev_log: LogId,
    /// Entries that follow `prev_log` without a gap; may be none.
    pub entries: Entries<C>,
    /// Everything up to here is committed; never beyond what this follower is known to hold.
    pub leader_commit: Index,
    /// The follower's rank among the successors, from 0: in this order they stand for election when
    /// the leader is gone. None if the follower has no rank.
    pub rank: Option<u8>,
    /// The smallest election timeout in force with this leader, in microseconds. The follower's
    /// deadlines and its stickiness follow it. None without
    /// [`Config::adaptive`](crate::Config::adaptive). A `NonZeroU32` fits into the padding beside
    /// the rank: growing the message cost 5 % of all speed.
    pub election_timeout_micros: Option<NonZeroU32>,
    /// Whether the leader takes [`Propose`]. Versions that do not know that message say nothing of
    /// it, and a follower forwards nothing to them. It fits into the padding beside the rank.
    pub takes_proposals: bool,
}

stored! {
    struct AppendEntries<C> {
        session, round, prev_log, entries, leader_commit, rank, election_timeout_micros,
        takes_proposals,
    }
}

/// The answer to [`AppendEntries`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AppendEntriesReply {
    /// The request's session, echoed.
    pub session: Session,
    /// The newest round seen from this leader.
    pub round: Round,
    /// What the follower found.
    pub result: AppendResult,
    /// For how long the follower elects nobody else (thesis 6.4.1), in microseconds from when it
    /// heard `round`; 0 if it has no [`Lease`](crate::Lease), or runs a version without promises.
    /// The leader's lease is the least that a quorum promises.
    pub promise_micros: u32,
    /// What the follower's state was after some entry, for the leader's host to compare; now and
    /// then, and none if the host has no digests. Raft itself neither sets nor reads it.
    pub state: Option<StateDigest>,
}

stored! { struct AppendEntriesReply { session, round, result, promise_micros, state } }

/// A digest of the state machine's state right after it applied the entry at `index`.
///
/// Two servers that have applied the same entries have the same state (State Machine Safety,
/// Figure 3), and so the same digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StateDigest {
    /// The last entry that the state includes.
    pub index: Index,
    /// The digest, by a function on which all servers agree.
    pub digest: u64,
}

stored! { struct StateDigest { index, digest } }

/// How a follower's log compares with what [`AppendEntries`] asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AppendResult {
    /// The follower holds the leader's log up to this index, durably.
    Matched(Index),
    /// The follower does not hold `prev_log`.
    Rejected {
        /// The index of the `prev_log` that was rejected, echoed: tells a fresh rejection from a
        /// stale one.
        prev_log_index: Index,
        /// The last entry of the follower that the leader could have too (§5.3, "one RPC per
        /// conflicting term"): the newest one at or before the rejected index whose term is not
        /// beyond the rejected one's.
        hint: LogId,
    },
}

stored! {
    enum AppendResult {
        0 Matched { 0: a },
        1 Rejected { prev_log_index: prev_log_index, hint: hint },
    }
}

/// What a snapshot stands for (§7): the state after an entry, and the members at that entry.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct SnapshotMeta {
    /// The last entry that the snapshot includes.
    pub last: LogId,
    /// The configuration in force at that entry.
    pub membership: Membership,
}

stored! { struct SnapshotMeta { last, membership } }

/// Arguments of InstallSnapshot (§7, Figure 13).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InstallSnapshot<C> {
    /// The replication session, as in [`AppendEntries`].
    pub session: Session,
    /// Which snapshot. Boxed, because every message is as large as the largest kind of message.
    pub snapshot: Box<SnapshotMeta>,
    /// Where the chunk begins, in bytes.
    pub offset: u64,
    /// A piece of the snapshot.
    pub chunk: C,
    /// Whether the snapshot ends with this chunk.
    pub done: bool,
}

stored! { struct InstallSnapshot<C> { session, snapshot, offset, chunk, done } }

/// The answer to [`InstallSnapshot`]. That the whole is installed, an [`AppendEntriesReply`] says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct InstallSnapshotReply {
    /// The request's session, echoed.
    pub session: Session,
    /// Which snapshot.
    pub snapshot: LogId,
    /// The follower has written it up to here, in bytes, and wants what follows.
    pub received: u64,
}

stored! { struct InstallSnapshotReply { session, snapshot, received } }

/// Arguments of TimeoutNow (thesis 3.10).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimeoutNow {
    /// The last entry of the leader's log. A follower that does not hold it yet does not stand,
    /// because it could not win.
    pub last_log: LogId,
}

stored! { struct TimeoutNow { last_log } }

/// A follower's request for a read index. Asks for all reads that came to the follower before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReadIndex {
    /// Numbers the follower's requests.
    pub id: ReadId,
}

stored! { struct ReadIndex { id } }

/// The answer to [`ReadIndex`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReadIndexReply {
    /// The request's id, echoed.
    pub id: ReadId,
    /// A state that includes this entry includes all that was committed when the request came.
    pub index: Index,
}

stored! { struct ReadIndexReply { id, index } }

/// Commands that a follower forwards to its leader.
///
/// A follower has one such request on its way at a time, and sends it again until it is answered.
/// The leader takes each request once, because in one session the pair of `round` and `id` rises
/// with every request that it takes, also when the follower has started again.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Propose<C> {
    /// The newest round that the follower had seen from this leader when it made the request.
    pub round: Round,
    /// The replication session in which the follower had seen it. A server that was removed and
    /// added again has a new one.
    pub session: Session,
    /// The follower's number for the first command; the others follow it.
    pub id: ProposalId,
    /// The commands, in the order in which they came to the follower.
    pub commands: Vec<C>,
}

stored! { struct Propose<C> { round, session, id, commands } }

/// The answer to [`Propose`]: what the leader has appended, in its current term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProposeReply {
    /// The request's id, echoed.
    pub id: ProposalId,
    /// Where the first command stands in the leader's log.
    pub first: Index,
    /// How many of the commands were appended, one behind the other.
    pub appended: u32,
    /// Why the command behind these was not appended; none if all were.
    pub refusal: Option<ProposeRefusal>,
}

stored! { struct ProposeReply { id, first, appended, refusal } }

/// Why a leader did not append a forwarded command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ProposeRefusal {
    /// It is longer than the leader's
    /// [`command_bytes_max`](crate::Config::command_bytes_max), which is named here. The commands
    /// behind it were not looked at; for all other reasons they were refused as well.
    TooLarge(u64),
    /// The leader's log has reached its [`log_bytes_max`](crate::Config::log_bytes_max).
    LogFull(u64),
    /// [`uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max) bytes wait to be committed.
    TooManyUncommitted(u64),
    /// The leader is handing over to this server.
    Transferring(NodeId),
    /// A reason that this version does not know, by its number on the wire.
    Other(u64),
}

stored! {
    enum ProposeRefusal {
        0 TooLarge { 0: a },
        1 LogFull { 0: a },
        2 TooManyUncommitted { 0: a },
        3 Transferring { 0: a },
        4 Other { 0: a },
    }
}
