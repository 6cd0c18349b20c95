//! Leader election (§5.2, §5.4.1), with pre-vote (thesis 9.6). Until when a server is bound to a
//! leader, and so elects nobody, is said in `promise.rs`.
//!
//! A server votes at most once per term; the vote is durable before it is spoken. Granting a vote
//! restarts the election timer, and repeating a grant does not (Figure 2): else a candidate that
//! asks again and again, because it hears no answer, would keep every server that hears it from
//! standing.
//!
//! A server whose vote is still on its way to the disk does not stand: what it has promised, to
//! itself or to another candidate, counts once it is durable, and a new term would take it back. On
//! a disk that is slower than the election timeout no vote would ever count. For the same reason it
//! grants no pre-vote meanwhile: it would be said in the same moment as the vote, and undo it.
//!
//! A candidate's request leaves beside the write of its own term and vote, which takes one fsync
//! out of every election. It promises nothing, for a candidate wins only once its own vote is
//! durable. But a crash can take the term back, and the log's unsynced tail with it; then the same
//! server may stand in the same term again, with a shorter log:
//!
//! ```text
//! A  term 5, log ..9 (9 unsynced)   "vote for me in 6, my log ends at 9" ──► B grants: its log
//!                                   ends at 9, too
//! A  crashes: term 5, log ..8       stands in 6 again, its log ends at 8
//! A  gets B's late grant            and would lead without entry 9, which may be committed
//! ```
//!
//! So a vote is given to a log: the reply echoes the `last_log` that was judged, and a candidate
//! counts a grant only if that is its own log still. Two logs that end with the same entry are the
//! same log (Log Matching), so an echo that fits is as good as a fresh vote. Besides, no server
//! leads a term that it could forget: its second life could fill the same indexes of the same term
//! with other entries.

use core::cmp::Reverse;

use rand_core::Rng;

use crate::insertion_sort::insertion_sort_by_key;
use crate::message::{
    Body, Message, RequestPreVote, RequestPreVoteReply, RequestVote, RequestVoteReply,
};
use crate::quorum::MEMBERS_MAX;
use crate::raft::{Following, Leading, Next, Raft, Standing};
use crate::reason::StepDown;
use crate::state::roles::{
    Ballot, Candidate, Follower, KnownLeader, PreCandidate, RoleState, Suspicion, VoteKind,
    VoteRequest,
};
use crate::state::server::Server;
use crate::status::count;
use crate::types::{Command, NodeId};

/// The most vote requests that wait for a tick: both kinds, from each member. More come only from
/// servers that are no members.
const VOTE_REQUESTS_MAX: usize = 2 * MEMBERS_MAX;

impl<C: Command, R: Rng> Raft<C, R> {
    /// Heard from no leader for too long, or won no election in time (§5.2).
    pub(crate) fn on_election_timeout(&mut self) {
        let forwards_wait = self.server.forwards.on_leader_missed();
        let waits = self.server.reads.on_leader_missed() || forwards_wait;
        if !self.server.may_stand() {
            // It is not its turn; but the leader that it knew is gone.
            self.step_down(self.server.current_term, StepDown::NotAMember);
            self.server.timers.election.stop();
            if waits {
                // Not for ever.
                self.server.timers.election.touch();
            }
        } else if self.server.is_voting() {
            self.server.timers.election.touch();
        } else if self.server.config.pre_vote {
            self.become_pre_candidate();
        } else {
            self.become_candidate(false);
        }
    }

    fn become_pre_candidate(&mut self) {
        self.server.campaigns = self.server.campaigns.wrapping_add(1);
        let ballot = Ballot::new(&self.server.members);
        self.change_role(RoleState::PreCandidate(PreCandidate {
            campaign: self.server.campaigns,
            ballot,
        }));
        self.server.timers.election.touch();
        self.server.timers.heartbeat.touch();
        // A cluster of one.
        self.as_candidate(|standing| standing.count_pre_votes());
    }

    /// Stands for election; on a leader's request if it is a transfer.
    pub(crate) fn become_candidate(&mut self, transfer: bool) {
        self.server.timers.election.touch();
        let term = self.server.current_term.next();
        if term == self.server.current_term {
            // Only a broken peer can have brought the last term there is: nobody can stand any
            // more.
            count(&mut self.server.counters.protocol_violations);
            return;
        }
        self.server.advance_term(term);
        self.server.vote_for(self.id());
        let ballot = Ballot::new(&self.server.members);
        self.change_role(RoleState::Candidate(Candidate { ballot, transfer }));
        self.server.timers.heartbeat.touch();
    }

    /// A hint that this leader is gone: the transport saw its connection die. A follower forgets it
    /// and asks, when its turn comes in the line of successors, whether it could win. Voters that
    /// still hear from the leader refuse, so that a hint that is wrong costs the question, and a
    /// follower that refuses new reads until it hears from its leader again: reads that wait are
    /// kept, and asked again. For want of that question, servers without pre-vote take no hints.
    /// With a [`Lease`](crate::Lease) a follower asks only once it is no longer bound to the
    /// leader, as if there had been no hint.
    ///
    /// A server that noticed it earlier may have asked here already, in vain. It is answered anew.
    pub fn suspect_leader(&mut self, leader: NodeId) {
        let Some(Following { known, server }) = self.following() else { return };
        if known.id != leader || !server.config.pre_vote {
            return;
        }
        let KnownLeader { rank, refused, timeout_in_force, .. } = *known;
        let suspicion = Some(Suspicion { rank, timeout_in_force });
        self.change_role(RoleState::Follower(Follower { leader: None, suspicion }));
        self.server.reads.on_leader_suspected();
        self.server.forwards.on_leader_suspected();
        if let Some(request) = refused {
            // If the same server has asked again since, only the answer to its newer request
            // counts.
            if !self.server.vote_requests.iter().any(|newer| newer.is_like(&request)) {
                self.server.hold_vote_request(request);
            }
        }
        self.server.timers.election.touch();
        self.check_invariants();
    }

    /// Answers the vote requests that came since the last tick.
    pub(crate) fn judge_vote_requests(&mut self) {
        let mut requests = core::mem::take(&mut self.server.vote_requests);
        for request in requests.iter().copied() {
            if let Some(mut leading) = self.leading() {
                leading.repeat_removal_notice(request.candidate, request.last_log);
            }
            match request.kind {
                VoteKind::PreVote { campaign } => self.on_request_pre_vote(request, campaign),
                VoteKind::Vote { transfer } => self.on_request_vote(request, transfer),
            }
        }
        // Their memory is kept: an election allocates nothing.
        requests.clear();
        self.server.vote_requests = requests;
    }

    /// Whether this server would vote for the sender if it stood in its next term. Changes nothing
    /// here: neither the term, nor the vote, nor a timer.
    fn on_request_pre_vote(&mut self, request: VoteRequest, campaign: u64) {
        let could_win = request.term >= self.server.current_term
            && request.last_log >= self.server.log.last()
            && !self.server.has_no_vote(request.candidate, request.last_log)
            && !self.server.may_not_vote();
        let granted =
            could_win && self.server.now >= self.bound_until() && !self.server.is_voting();
        let reply = RequestPreVoteReply { granted, campaign };
        self.server.hold_reply(request.candidate, Body::RequestPreVoteReply(reply));
        if !granted {
            self.server.note_refusal(&request, true);
        }
        if could_win && !granted {
            if let Some(following) = self.following() {
                following.known.refused = Some(request);
            }
        }
        if !granted && request.term == self.server.current_term {
            if let Some(mut leading) = self.leading() {
                leading.show_that_it_leads(request.candidate);
            }
        }
    }

    /// RequestVote, receiver implementation (Figure 2).
    fn on_request_vote(&mut self, request: VoteRequest, transfer: bool) {
        let VoteRequest { candidate, term, last_log, .. } = request;
        let is_sticky = self.server.config.check_quorum && term > self.server.current_term;
        let bound_until = if is_sticky { self.bound_until() } else { self.promised_until() };
        if !transfer && self.server.now < bound_until {
            count(&mut self.server.counters.sticky_refusals);
            self.server.note_refusal(&request, true);
            return;
        }
        if term > self.server.current_term {
            self.step_down(term, StepDown::HigherTerm);
        }
        let granted = term == self.server.current_term
            && self.server.voted_for.unwrap_or(candidate) == candidate
            && self.leader().is_none()
            && last_log >= self.server.log.last()
            && !self.server.has_no_vote(candidate, last_log)
            && !self.server.may_not_vote();
        if granted && self.server.voted_for.is_none() {
            self.step_down(term, StepDown::GaveVote);
            self.server.vote_for(candidate);
            self.server.timers.election.touch();
        }
        if !granted {
            self.server.note_refusal(&request, self.leader().is_some());
        }
        let reply = RequestVoteReply { granted, last_log };
        self.server.hold_reply(candidate, Body::RequestVoteReply(reply));
    }
}

impl<C: Command, R: Rng> Standing<'_, C, R> {
    /// An answer to a pre-vote. It counts in the attempt that asked, and never as a vote.
    pub(crate) fn on_request_pre_vote_reply(
        &mut self,
        from: usize,
        reply: RequestPreVoteReply,
    ) -> Next {
        if self.kind != (VoteKind::PreVote { campaign: reply.campaign }) {
            return Next::Stay;
        }
        self.ballot.count(from, reply.granted);
        self.count_pre_votes()
    }

    fn count_pre_votes(&self) -> Next {
        match self.kind {
            VoteKind::PreVote { .. } if self.ballot.is_won(self.server.members.quorum) => {
                Next::Stand { transfer: false }
            }
            VoteKind::PreVote { .. } | VoteKind::Vote { .. } => Next::Stay,
        }
    }

    /// A vote, given to the log that the reply echoes.
    pub(crate) fn on_request_vote_reply(&mut self, from: usize, reply: RequestVoteReply) -> Next {
        let is_pre_vote = matches!(self.kind, VoteKind::PreVote { .. });
        if is_pre_vote || reply.last_log != self.server.log.last() {
            return Next::Stay;
        }
        self.ballot.count(from, reply.granted);
        self.count_votes()
    }

    /// Leads, if a majority has voted for this server and its own vote is durable.
    pub(crate) fn count_votes(&self) -> Next {
        match self.kind {
            VoteKind::Vote { .. }
                if self.ballot.is_won(self.server.members.quorum)
                    && self.server.durable.hard_state_is_durable() =>
            {
                Next::Lead
            }
            VoteKind::PreVote { .. } | VoteKind::Vote { .. } => Next::Stay,
        }
    }

    /// The next vote request of a campaign.
    pub(crate) fn next_vote_request(&mut self) -> Option<Message<C>> {
        let position = self.ballot.to_send.first()?;
        self.ballot.to_send.remove(position);
        let last_log = self.server.log.last();
        let body = match self.kind {
            VoteKind::PreVote { campaign } => {
                Body::RequestPreVote(RequestPreVote { last_log, campaign })
            }
            VoteKind::Vote { transfer } => Body::RequestVote(RequestVote { last_log, transfer }),
        };
        Some(self.server.message(self.server.members.id(position)?, body))
    }
}

impl<C: Command, R: Rng> Leading<'_, C, R> {
    /// Ranks the voters that would succeed this leader: first those that answer and hold what is
    /// committed, then by priority. The order changes only when one of these changes.
    pub(crate) fn rank_successors(&mut self) {
        if self.server.config.rank_slot.is_none() {
            return;
        }
        let (now, alive, commit) = (
            self.server.now,
            self.leader.timeout.in_force.election_timeout(),
            self.server.commit_index,
        );
        let membership = self.server.memberships.in_force();
        let mut line = [(true, true, Reverse(0), 0); MEMBERS_MAX];
        let voters = self.server.members.other_voters();
        for (place, position) in line.iter_mut().zip(voters.iter()) {
            let Some(peer) = self.leader.peers.get(position) else { continue };
            let silence = now.saturating_duration_since(peer.heard_at());
            let silent = silence.saturating_mul(2) >= alive;
            let member = self.server.members.id(position).and_then(|id| membership.member(id));
            let priority = Reverse(member.map_or(0, |member| member.priority));
            *place = (silent, peer.match_index() < commit, priority, position);
        }
        let line = line.get_mut(..voters.len()).unwrap_or_default();
        insertion_sort_by_key(line, |place| *place);
        for ((.., position), rank) in line.iter().zip(0..) {
            if let Some(peer) = self.leader.peers.get_mut(*position) {
                peer.rank = Some(rank);
            }
        }
    }

    /// Sends a heartbeat at once to a server that asks this leader for a vote, because that server
    /// believes the leader gone, before others do too.
    fn show_that_it_leads(&mut self, to: NodeId) {
        if let Some(position) = self.server.members.position(to) {
            self.leader.round = self.leader.round.next();
            self.leader.pending.insert(position);
        }
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// Whether this server's vote is on its way to the disk.
    pub(crate) fn is_voting(&self) -> bool {
        self.voted_for.is_some() && !self.durable.hard_state_is_durable()
    }

    /// Holds a vote request until the next tick: the newest of its kind from each server.
    pub(crate) fn hold_vote_request(&mut self, request: VoteRequest) {
        let is_full = self.vote_requests.len() >= VOTE_REQUESTS_MAX;
        let earlier = self.vote_requests.iter_mut().find(|earlier| earlier.is_like(&request));
        match earlier {
            Some(earlier) if earlier.term > request.term => {}
            Some(earlier) => *earlier = request,
            None if is_full => {
                count(&mut self.counters.unknown_sender);
            }
            None => self.vote_requests.push(request),
        }
    }

    /// Whether this server votes for no candidate. A server that knows no cluster may have lost its
    /// disk, and with it votes and entries, so it votes only after a leader has brought it into a
    /// cluster. The same holds while the host reports a replaced disk.
    pub(crate) fn may_not_vote(&self) -> bool {
        self.memberships.in_force().is_empty() || self.members.abstains
    }
}
