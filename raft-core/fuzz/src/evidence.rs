//! What a server was told and has said in one term, as far as it backs what the server does next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Entry, Index, Instant, LogId, Membership,
    NodeId, ReadId, Round, Session, Term,
};

use crate::disk::is_quorum;

/// What ends with a term.
#[derive(Default)]
pub(crate) struct Evidence {
    pub(crate) term: Term,
    /// What each leader of the term claimed to have in its log.
    claims: BTreeMap<NodeId, BTreeMap<Index, BTreeSet<Term>>>,
    /// The newest commit index that the server was told.
    pub(crate) told_commit: Index,
    /// Who voted for this server as it is.
    pub(crate) grants: BTreeSet<NodeId>,
    pub(crate) followers: Followers,
    /// Reads on behalf of followers.
    pub(crate) remote_reads: BTreeMap<(NodeId, ReadId), Read>,
}

/// What ends with leadership: what its followers told a leader, in each session.
#[derive(Default)]
pub(crate) struct Followers {
    sessions: BTreeMap<NodeId, BTreeMap<Session, Follower>>,
    left_at: BTreeMap<Round, Instant>,
    /// A successor was told to stand: there is no lease any more.
    pub(crate) handed_over: bool,
}

#[derive(Default)]
struct Follower {
    /// Whether anything was sent in this session.
    began: bool,
    matched: Index,
    round_sent: Round,
    round_echoed: Round,
    /// Until when its answers promise to elect nobody else, by the leader's clock.
    promised_until: Instant,
}

/// A read that the server has accepted.
pub(crate) struct Read {
    /// The newest round that had left by then.
    pub(crate) asked_after: Round,
    /// What was committed by then, as far as the server knew.
    pub(crate) commit: Index,
    /// A follower's request for it.
    pub(crate) request: Option<ReadId>,
    /// Whether a majority has echoed a later round, a lease allows it, or the leader has answered.
    pub(crate) confirmed: bool,
}

impl Evidence {
    pub(crate) fn new(term: Term) -> Self {
        Self { term, ..Self::default() }
    }

    pub(crate) fn on_append(&mut self, leader: NodeId, append: &AppendEntries<Vec<u8>>) {
        let ids = append.entries.iter().map(Entry::id);
        ids.chain([append.prev_log]).for_each(|id| self.claim(leader, id));
        self.told_commit = self.told_commit.max(append.leader_commit);
    }

    /// What a snapshot includes is committed.
    pub(crate) fn on_install(&mut self, leader: NodeId, last: LogId) {
        self.claim(leader, last);
        self.told_commit = self.told_commit.max(last.index);
    }

    fn claim(&mut self, leader: NodeId, id: LogId) {
        let claims = self.claims.entry(leader).or_default();
        claims.entry(id.index).or_default().insert(id.term);
    }

    /// Whether the leader said that it has this entry: either so, or by naming a later one, for who
    /// shares that shares all before (Log Matching).
    pub(crate) fn has_claimed(&self, leader: NodeId, index: Index, term: Option<Term>) -> bool {
        self.claims.get(&leader).is_some_and(|claims| {
            let here = claims.get(&index).zip(term);
            let later = claims.range(index.next()..).next();
            here.is_some_and(|(terms, term)| terms.contains(&term)) || later.is_some()
        })
    }
}

impl Followers {
    /// Something leaves in this session, in this round if it tells of one.
    pub(crate) fn on_sent(
        &mut self,
        to: NodeId,
        session: Session,
        round: Option<Round>,
        now: Instant,
    ) {
        let sessions = self.sessions.entry(to).or_default();
        let newest = sessions.iter().rev().find(|(_, follower)| follower.began);
        assert!(newest.is_none_or(|(newest, _)| *newest <= session), "an earlier session");
        let follower = sessions.entry(session).or_default();
        follower.began = true;
        if let Some(round) = round {
            follower.round_sent = follower.round_sent.max(round);
            self.left_at.entry(round).or_insert(now);
        }
    }

    /// An answer counts in its own session.
    pub(crate) fn on_reply(
        &mut self,
        from: NodeId,
        reply: &AppendEntriesReply,
        last: Index,
        lease: impl Fn(u32) -> Duration,
    ) {
        let sessions = self.sessions.entry(from).or_default();
        let follower = sessions.entry(reply.session).or_default();
        let round = reply.round.min(follower.round_sent);
        follower.round_echoed = follower.round_echoed.max(round);
        if let Some(left_at) = self.left_at.get(&round) {
            let until = *left_at + lease(reply.promise_micros);
            follower.promised_until = follower.promised_until.max(until);
        }
        match reply.result {
            AppendResult::Matched(index) if index <= last => {
                follower.matched = follower.matched.max(index);
            }
            AppendResult::Matched(_) | AppendResult::Rejected { .. } => {}
        }
    }

    /// The newest session in which anything was sent to that server.
    pub(crate) fn session(&self, of: NodeId) -> Option<Session> {
        let newest = self.sessions.get(&of)?.iter().rev().find(|(_, follower)| follower.began);
        newest.map(|(session, _)| *session)
    }

    /// The newest round that left.
    pub(crate) fn round_sent(&self) -> Round {
        self.left_at.last_key_value().map_or_else(Round::default, |(round, _)| *round)
    }

    /// What that server holds. An earlier session than the last counts for nothing.
    pub(crate) fn matched(&self, id: NodeId) -> Index {
        self.in_session(id).map(|follower| follower.matched).max().unwrap_or_default()
    }

    fn echoed(&self, id: NodeId) -> Round {
        self.in_session(id).map(|follower| follower.round_echoed).max().unwrap_or_default()
    }

    fn in_session(&self, id: NodeId) -> impl Iterator<Item = &Follower> {
        let newest = self.session(id);
        let sessions = self.sessions.get(&id).into_iter().flatten();
        sessions.filter(move |(session, _)| Some(**session) >= newest).map(|(_, follower)| follower)
    }

    /// Whether enough servers have echoed a later round than this.
    pub(crate) fn have_echoed(&self, own: NodeId, after: Round, membership: &Membership) -> bool {
        is_quorum(membership, |id| id == own || self.echoed(id) > after)
    }

    /// Whether enough servers have promised to elect nobody else by now.
    pub(crate) fn hold_lease(&self, own: NodeId, membership: &Membership, now: Instant) -> bool {
        let promised = |id| self.in_session(id).any(|follower| now < follower.promised_until);
        !self.handed_over && is_quorum(membership, |id| id == own || promised(id))
    }
}
