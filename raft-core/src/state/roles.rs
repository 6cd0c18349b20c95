//! The roles of a server (Figure 4), each with the state that only it owns.

use core::mem::discriminant;

use crate::checkpoint::stored;
use crate::config::TimeoutInForce;
use crate::message::AppendResult;
use crate::quorum::{MemberSet, Quorum};
use crate::role::Role;
use crate::state::election_timeout::LeaderTimeout;
use crate::state::lease::LeaseState;
use crate::state::members::Members;
use crate::state::peers::Peers;
use crate::time::Instant;
use crate::types::{Index, LogId, NodeId, Round, Session, Term};

/// A role with its state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum RoleState {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Leader),
}

stored! {
    enum RoleState {
        0 Follower { 0: a },
        1 PreCandidate { 0: a },
        2 Candidate { 0: a },
        3 Leader { 0: a },
    }
}

impl RoleState {
    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Follower(_) => Role::Follower,
            Self::PreCandidate(_) => Role::PreCandidate,
            Self::Candidate(_) => Role::Candidate,
            Self::Leader(_) => Role::Leader,
        }
    }
}

/// A follower: answers leaders and candidates.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Follower {
    /// The leader of the current term, and what was said to it; none until it speaks.
    pub(crate) leader: Option<KnownLeader>,
    /// The leader seems to be gone: when to stand is to be drawn anew.
    pub(crate) suspicion: Option<Suspicion>,
}

stored! { struct Follower { leader, suspicion } }

/// A hint that the leader is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Suspicion {
    /// This server's place in the line of successors.
    pub(crate) rank: Option<u8>,
    /// The leader's timeout in force.
    pub(crate) timeout_in_force: TimeoutInForce,
}

stored! { struct Suspicion { rank, timeout_in_force } }

/// When a follower last heard its leader. `step` has no clock, so it cannot know the time of a
/// message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Heard {
    /// Since the last tick. The next tick puts its own time in place of this.
    SinceTick,
    /// At this moment.
    At(Instant),
}

stored! { enum Heard { 0 SinceTick {}, 1 At { 0: a }, } }

impl Heard {
    /// The moment, of which `now` is an upper bound.
    pub(crate) fn at(self, now: Instant) -> Instant {
        match self {
            Self::SinceTick => now,
            Self::At(moment) => moment,
        }
    }
}

/// What a follower knows of its leader, and owes it. Ends with the term.
///
/// | Field | changes with |
/// |---|---|
/// | `id`, `session` | the leader's first message of the term, or of a newer session |
/// | `heard` | every message of the leader; the next tick puts its time in |
/// | `listens_until` | a late tick; none again with the leader's next message |
/// | `rank`, `timeout_in_force`, `takes_proposals` | every AppendEntries |
/// | `round`, `reply_due` | every AppendEntries; a reply that leaves clears `reply_due` |
/// | `rejection` | an AppendEntries that does not fit; the reply that leaves clears it |
/// | `matched` | an AppendEntries that fits, or a snapshot; falls with a truncation |
/// | `acknowledged` | a reply that leaves; falls with a truncation |
/// | `refused` | a pre-vote that is refused |
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct KnownLeader {
    pub(crate) id: NodeId,
    /// When the leader was last heard.
    pub(crate) heard: Heard,
    /// Until when this server listens for the leader, after a tick that came late; none since the
    /// leader was heard.
    pub(crate) listens_until: Option<Instant>,
    /// The leader's replication session and newest round, echoed in replies.
    pub(crate) session: Session,
    pub(crate) round: Round,
    /// This server's place in the line of successors.
    pub(crate) rank: Option<u8>,
    /// Whether the leader takes commands that this server forwards.
    pub(crate) takes_proposals: bool,
    /// The leader's timeout in force.
    pub(crate) timeout_in_force: TimeoutInForce,
    /// A pre-vote that was refused for this leader's sake alone.
    pub(crate) refused: Option<VoteRequest>,
    /// The log is known to be the leader's up to here.
    pub(crate) matched: Index,
    /// The leader was told that the log is durable up to here.
    pub(crate) acknowledged: Index,
    /// A round or a repeated append asks for an answer, even if it brings no news.
    pub(crate) reply_due: bool,
    /// An append that did not fit and is yet to be rejected.
    pub(crate) rejection: Option<AppendResult>,
}

stored! {
    struct KnownLeader {
        id, heard, listens_until, session, round, rank, timeout_in_force, takes_proposals, refused,
        matched, acknowledged, reply_due, rejection,
    }
}

/// A pre-candidate: asks whether it could win (thesis 9.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PreCandidate {
    /// Numbers the attempt; answers echo it.
    pub(crate) campaign: u64,
    pub(crate) ballot: Ballot,
}

stored! { struct PreCandidate { campaign, ballot } }

/// A candidate: stands for election (§5.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Candidate {
    pub(crate) ballot: Ballot,
    /// The leader asked for this election (thesis 3.10).
    pub(crate) transfer: bool,
}

stored! { struct Candidate { ballot, transfer } }

/// The votes for a candidate, or the pre-votes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ballot {
    /// Voters to whom the request has yet to be sent.
    pub(crate) to_send: MemberSet,
    /// Voters that have not answered; they are asked again while the ballot lasts.
    pub(crate) unanswered: MemberSet,
    /// Voters that granted, the candidate among them.
    pub(crate) granted: MemberSet,
}

stored! { struct Ballot { to_send, unanswered, granted } }

impl Ballot {
    /// A candidate is for itself, and asks the others.
    pub(crate) fn new(members: &Members) -> Self {
        let others = members.other_voters();
        Self { to_send: others, unanswered: others, granted: members.own.into_iter().collect() }
    }

    /// A voter's answer. One that comes twice counts once.
    pub(crate) fn count(&mut self, voter: usize, granted: bool) {
        self.unanswered.remove(voter);
        self.to_send.remove(voter);
        if granted {
            self.granted.insert(voter);
        }
    }

    /// Asks the voters again that have not answered (§5.1: "servers retry RPCs if they do not
    /// receive a response in a timely manner").
    pub(crate) fn ask_again(&mut self) {
        self.to_send = self.unanswered;
    }

    pub(crate) fn is_won(&self, quorum: Quorum) -> bool {
        quorum.is_reached_by(self.granted)
    }
}

/// A leader: accepts commands and replicates them (§5.3).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leader {
    pub(crate) peers: Peers,
    /// Peers for whom there may be something to send.
    pub(crate) pending: MemberSet,
    /// Peers that are owed an answer to their request to append commands.
    pub(crate) to_answer: MemberSet,
    /// Peers that may be catching up, by a snapshot or by the log.
    pub(crate) lagging: MemberSet,
    /// Peers heard of since the last tick.
    pub(crate) heard: MemberSet,
    /// The newest heartbeat round.
    pub(crate) round: Round,
    /// The newest replication session.
    pub(crate) session: Session,
    /// Until when reads need no round (thesis 6.4.1).
    pub(crate) lease: LeaseState,
    /// Which timeouts are in force.
    pub(crate) timeout: LeaderTimeout,
    /// The transfer of leadership under way (thesis 3.10).
    pub(crate) transfer: Option<Transfer>,
    /// Until when this leader has listened for its quorum, after a tick that came late.
    pub(crate) listened_after: Option<Instant>,
    /// When this leader looks for one of higher priority, at the earliest.
    pub(crate) preference_after: Instant,
}

stored! {
    struct Leader {
        peers, pending, lagging, heard, to_answer, round, session, lease, timeout, transfer,
        listened_after, preference_after,
    }
}

/// A transfer under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Transfer {
    /// The server that is to lead.
    pub(crate) to: NodeId,
    /// Whether TimeoutNow was sent to it since the last heartbeat.
    pub(crate) timeout_now_sent: bool,
}

stored! { struct Transfer { to, timeout_now_sent } }

/// A vote request that waits for the next tick, which knows whether the leader is still alive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct VoteRequest {
    pub(crate) candidate: NodeId,
    pub(crate) term: Term,
    pub(crate) last_log: LogId,
    pub(crate) kind: VoteKind,
}

stored! { struct VoteRequest { candidate, term, last_log, kind } }

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum VoteKind {
    PreVote { campaign: u64 },
    Vote { transfer: bool },
}

stored! { enum VoteKind { 0 PreVote { campaign: campaign }, 1 Vote { transfer: transfer }, } }

impl VoteRequest {
    pub(crate) fn new(candidate: NodeId, term: Term, last_log: LogId, kind: VoteKind) -> Self {
        Self { candidate, term, last_log, kind }
    }

    /// Whether both are votes, or both pre-votes, for the same server.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.candidate == other.candidate && discriminant(&self.kind) == discriminant(&other.kind)
    }
}
