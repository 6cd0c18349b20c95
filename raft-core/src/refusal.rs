//! Why this server refused a vote, and how the voters answered an attempt of its own that was in
//! vain. Nothing in the core depends on either: they are for operators.

use rand_core::Rng;

#[cfg(feature = "std")]
use crate::quorum::MemberSet;
#[cfg(feature = "std")]
use crate::raft::Raft;
#[cfg(feature = "std")]
use crate::reason::InVain;
use crate::reason::{RefusedVote, VoteRefusal};
use crate::state::roles::VoteRequest;
#[cfg(feature = "std")]
use crate::state::roles::{Candidate, PreCandidate, RoleState};
use crate::state::server::Server;
#[cfg(feature = "std")]
use crate::time::Instant;
use crate::types::Command;

#[cfg(feature = "std")]
impl<C: Command, R: Rng> Raft<C, R> {
    /// How the voters answered, if this server asks for votes and its time for that is over now. To
    /// be called before the tick, which begins the next attempt.
    pub(crate) fn asked_in_vain(&self, now: Instant) -> Option<InVain> {
        self.server.timers.election.is_due(now).then(|| self.answers_to_requests())?
    }

    /// How the voters have answered so far, if this server asks for votes.
    pub(crate) fn answers_to_requests(&self) -> Option<InVain> {
        let ballot = match &self.role {
            RoleState::PreCandidate(PreCandidate { ballot, .. })
            | RoleState::Candidate(Candidate { ballot, .. }) => ballot,
            RoleState::Follower(_) | RoleState::Leader(_) => return None,
        };
        let ids = |set: MemberSet| set.iter().filter_map(|at| self.server.members.id(at)).collect();
        let others = self.server.members.other_voters();
        let own: MemberSet = self.server.members.own.into_iter().collect();
        let (mut refused, mut answered) = (MemberSet::default(), own);
        for position in others.iter().filter(|position| !ballot.unanswered.contains(*position)) {
            answered.insert(position);
            if !ballot.granted.contains(position) {
                refused.insert(position);
            }
        }
        Some(InVain {
            granted: ids(ballot.granted.intersection(others)),
            refused: ids(refused),
            silent: ids(ballot.unanswered),
            quorum_answered: self.server.members.quorum.is_reached_by(answered),
            waits_for_disk: self.server.voted_for.is_some()
                && !self.server.durable.hard_state_is_durable(),
        })
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// Keeps why a vote or a pre-vote was refused. `is_bound` says whether a leader was a reason.
    pub(crate) fn note_refusal(&mut self, request: &VoteRequest, is_bound: bool) {
        let VoteRequest { candidate, term, last_log, .. } = *request;
        let reason = if term < self.current_term {
            VoteRefusal::OldTerm
        } else if self.may_not_vote() {
            VoteRefusal::Abstains
        } else if self.has_no_vote(candidate, last_log) {
            VoteRefusal::CandidateNotAMember
        } else if last_log < self.log.last() {
            VoteRefusal::ShorterLog
        } else if is_bound {
            VoteRefusal::BoundToLeader
        } else {
            VoteRefusal::AlreadyVoted
        };
        self.reasons.refused_vote = Some(RefusedVote { candidate, term, reason });
    }
}
