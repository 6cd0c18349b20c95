//! Changes of membership (§6), as joint consensus.
//!
//! The configuration in force is the newest in the log, from the moment it is appended. One change
//! is made at a time: the next one waits until the last is committed and its joint configuration
//! left. And a leader changes nothing before it has committed an entry of its own term: else two
//! leaders of different terms could each put a configuration in force that the other does not know
//! of.
//!
//! The leader that finds a joint configuration committed leaves it. A leader that goes leads until
//! the configuration without it is committed, without counting itself.
//!
//! # A server that goes
//!
//! A server that is removed must learn that it is, and can lead no more:
//!
//! - It is replicated to until the configuration without it is committed, and no further than up to
//!   that configuration. With the commit it is told of it, with what it was not sent yet; no
//!   acknowledgement is waited for, because the commit does not wait for one either.
//! - It stands for election until it knows of the commit (thesis 4.2.2): it may be the only server
//!   that holds the change. Its vote counts for nothing then.
//! - A voter grants nothing to a server whose log is the same as its own and has no vote by that
//!   log's newest configuration. The voter can stand itself, and every server that would vote for
//!   the other would vote for the voter, so nothing is lost. Since a server that goes holds nothing
//!   behind the configuration without it, it gets votes only from servers that do not hold that
//!   configuration. Once that is committed those are no majority: such a server never leads again.
//!   A leader that goes is the exception, for it appends until the commit: if it crashes before its
//!   disk holds that, its log may be the longest, and it may lead once more, until its no-op is
//!   committed.
//! - A server that asks for votes, because word of the commit was lost or it was away, is told by
//!   the leader, if the leader's log still knows it as a member and goes on where its log ends, and
//!   if its term is not newer than the leader's. With pre-vote it hardly ever is.
//! - The commit is part of what its disk keeps ([`HardState::committed`](crate::HardState)), so
//!   that a restart does not make it stand again.

use rand_core::Rng;

use crate::change::Change;
use crate::entries::Payload;
use crate::error::ChangeRefused;
use crate::membership::{Membership, Suffrage};
use crate::message::{AppendEntries, Body, Message};
use crate::quorum::MemberSet;
use crate::raft::{Leading, Next, Raft};
use crate::reason::StepDown;
use crate::state::log::Log;
use crate::state::members::Members;
use crate::state::progress::{Progress, ProgressState};
use crate::state::roles::RoleState;
use crate::state::server::Server;
use crate::types::{Command, Index, LogId, NodeId, Round, Session, Term};

impl<C: Command, R: Rng> Raft<C, R> {
    /// Changes the membership (§6): applies all of these changes, or none. Returns where the first
    /// configuration on the way is in the log; the change is complete when
    /// [`Output::Apply`](crate::Output::Apply) hands out a configuration from there on that is not
    /// [joint](Membership::is_joint).
    ///
    /// A server that is to vote is first [added as a learner](Change::AddLearner), and
    /// [promoted](Change::Promote) once it has caught up.
    ///
    /// # Errors
    ///
    /// [`ChangeRefused`] says why not now, or why not at all; nothing has changed then.
    pub fn change_membership(
        &mut self,
        changes: &[Change],
    ) -> Result<(Term, Index), ChangeRefused> {
        let known = self.leader();
        let Some(mut leading) = self.leading() else {
            return Err(ChangeRefused::NotLeader { leader: known });
        };
        let index = leading.change_membership(changes)?;
        self.check_invariants();
        Ok((self.server.current_term, index))
    }

    /// The configuration in force.
    pub fn membership(&self) -> &Membership {
        self.server.memberships.in_force()
    }

    /// Whether the configuration in force is committed, so that it stays.
    pub fn is_membership_committed(&self) -> bool {
        self.server.memberships.index() <= self.server.commit_index
    }

    /// Keeps this server from voting and from standing for election, or lets it again. For a host
    /// that finds that its disk is not the one with which it became a member: it has forgotten its
    /// votes, so it must not vote as that member. It still takes entries, and with them the
    /// configuration that makes it another one.
    pub fn abstain(&mut self, abstains: bool) {
        if self.server.members.abstains == abstains {
            return;
        }
        self.server.members.abstains = abstains;
        match self.role {
            RoleState::PreCandidate(_) | RoleState::Candidate(_) | RoleState::Leader(_) => {
                self.step_down(self.server.current_term, StepDown::Abstains);
            }
            RoleState::Follower(_) => {}
        }
        self.server.timers.election.touch();
        self.check_invariants();
    }
}

impl<C: Command, R: Rng> Leading<'_, C, R> {
    fn change_membership(&mut self, changes: &[Change]) -> Result<Index, ChangeRefused> {
        if let Some(transfer) = &self.leader.transfer {
            return Err(ChangeRefused::Transferring { to: transfer.to });
        }
        if !self.server.has_committed_in_term() {
            return Err(ChangeRefused::NotReady);
        }
        let (in_force, index) =
            (self.server.memberships.in_force(), self.server.memberships.index());
        if index > self.server.commit_index || in_force.is_joint() {
            return Err(ChangeRefused::ChangePending { index });
        }
        let target = in_force.after(changes).map_err(ChangeRefused::Invalid)?;
        let is_behind = |id: &NodeId| {
            let gains_vote = in_force.suffrage(*id).is_none_or(|suffrage| !suffrage.is_voter());
            gains_vote && !self.has_caught_up(*id)
        };
        if let Some(id) = target.voters().find(is_behind) {
            return Err(ChangeRefused::NotCaughtUp { id });
        }
        let next = in_force.towards(&target);
        next.validate().map_err(ChangeRefused::Invalid)?;
        Ok(self.append(Payload::Configuration(next.into())))
    }

    /// A leader tells a server that asks for votes that it was removed, because word of that was
    /// lost or the server was away. It is sent what it lacks up to the configuration without it,
    /// one message for each request.
    pub(crate) fn repeat_removal_notice(&mut self, candidate: NodeId, last_log: LogId) {
        let is_gone =
            self.server.members.position(candidate).is_none() && self.server.log.contains(last_log);
        if !is_gone {
            return;
        }
        let left_at = self.server.memberships.left_at(candidate);
        let notice = left_at.and_then(|last| {
            let (session, bytes_max) = (self.leader.session, self.server.config.append_bytes_max);
            removal_notice(&self.server.log, last_log.index, last, session, bytes_max)
        });
        if let Some(notice) = notice {
            self.server
                .outbox
                .send_ungated(self.server.message(candidate, Body::AppendEntries(notice)));
        }
    }

    /// Leaves a joint configuration once it is committed, or once a transfer that kept it from that
    /// is given up; steps down once a configuration without this server is.
    pub(crate) fn complete_change(&mut self) -> Next {
        let is_complete = self.server.memberships.index() <= self.server.commit_index;
        if !is_complete || !self.server.has_committed_in_term() {
            return Next::Stay;
        }
        if self.server.memberships.in_force().is_joint() {
            if self.leader.transfer.is_some() {
                // A leader that hands over appends nothing. See `transfer`.
                return Next::Stay;
            }
            let next = self.server.memberships.in_force().after_joint();
            self.append(Payload::Configuration(next.into()));
        } else if !self.server.members.is_voter() {
            self.hand_over();
            return Next::Follow(StepDown::NotAMember);
        }
        Next::Stay
    }

    /// The same for a leader, which keeps its progress with each member that stays, and begins a
    /// session with each new member.
    pub(crate) fn update_members(&mut self) {
        let Some(before) = self.server.update_members() else { return };
        let is_committed = self.server.memberships.index() <= self.server.commit_index;
        let Leading { leader, server } = self;
        let next_index = server.log.last().index.next();
        let mut peers = leader.peers.take();
        let last = server.memberships.index();
        for (old, id) in before.ids.iter().enumerate() {
            let goes = server.members.position(*id).is_none() && before.own != Some(old);
            let peer = if goes && is_committed { peers.get(old) } else { None };
            // A server that is sent a snapshot is still far from this entry.
            let peer = peer.filter(|peer| peer.state() != ProgressState::Snapshot);
            let notice = peer.and_then(|peer| {
                let (prev, bytes_max) =
                    (peer.next_index().previous(), server.config.append_bytes_max);
                removal_notice(&server.log, prev.min(last), last, peer.session(), bytes_max)
            });
            if let Some(body) = notice.map(Body::AppendEntries) {
                let (from, term) = (server.config.id, server.current_term);
                server.outbox.send_ungated(Message { from, to: *id, term, body });
            }
        }
        let progress = |id: &NodeId| match before.position(*id).and_then(|old| peers.get_mut(old)) {
            Some(known) => core::mem::replace(known, Progress::new()),
            None => {
                leader.session = leader.session.next();
                let mut progress = Progress::new();
                progress.begin(leader.session, next_index, server.now);
                progress
            }
        };
        leader.peers = server.members.ids.iter().map(progress).collect();
        // A member that is sent no snapshot drops out when the next chunk is looked for.
        leader.lagging = server.members.everyone_else();
        leader.pending = server.members.everyone_else();
        let moved = |set: MemberSet| {
            let ids = set.iter().filter_map(|old| before.id(old));
            ids.filter_map(|id| server.members.position(id)).collect()
        };
        leader.heard = moved(leader.heard);
        leader.to_answer = moved(leader.to_answer);
        server.watch_quorum();
        // The last server that could have confirmed a read may have left.
        self.confirm_reads();
    }

    /// Whether this server holds nearly all that is committed, as far as the leader knows, and the
    /// configuration in force for certain: a server that knows of no cluster votes for nobody,
    /// though its vote may be needed.
    fn has_caught_up(&self, id: NodeId) -> bool {
        self.progress(id).is_some_and(|progress| {
            let lag = self.server.commit_index.get().saturating_sub(progress.match_index().get());
            let knows_members = progress.match_index() >= self.server.memberships.index();
            let follows = progress.state() == ProgressState::Replicate;
            follows && knows_members && lag <= self.server.config.promotion_lag_max
        })
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// Whether this server may stand for election: it votes; or it did until a change that may not
    /// be committed. It could be the only one that holds that change, and until others do, they
    /// cannot win without it (thesis 4.2.2). Its own vote counts for nothing then.
    pub(crate) fn may_stand(&self) -> bool {
        let leaves = self.memberships.index() > self.commit_index && {
            let before = self.memberships.previous();
            before
                .and_then(|before| before.suffrage(self.config.id))
                .is_some_and(Suffrage::is_voter)
        };
        self.members.is_voter() || (leaves && !self.members.abstains)
    }

    /// Where the configuration in force is in the log, if it is committed and this server has no
    /// vote by it.
    pub(crate) fn removed_at(&self) -> Option<Index> {
        let index = self.memberships.index();
        let votes =
            self.memberships.in_force().suffrage(self.config.id).is_some_and(Suffrage::is_voter);
        (!votes && index <= self.commit_index).then_some(index)
    }

    /// Whether the candidate's log is the same as this one, and gives the candidate no vote. Before
    /// the first entry logs that are the same prove nothing: the configuration is none of theirs.
    pub(crate) fn has_no_vote(&self, candidate: NodeId, last_log: LogId) -> bool {
        let votes =
            || self.memberships.in_force().suffrage(candidate).is_some_and(Suffrage::is_voter);
        last_log == self.log.last() && self.memberships.index() > Index::ZERO && !votes()
    }

    /// Takes another configuration into force, or lets members go that were leaving. Returns the
    /// members before, if they were others.
    pub(crate) fn update_members(&mut self) -> Option<Members> {
        let is_committed = self.memberships.index() <= self.commit_index;
        let leaving = if is_committed { None } else { self.memberships.previous() };
        let mut members = Members::new(self.config.id, self.memberships.in_force(), leaving);
        members.abstains = self.members.abstains;
        if members == self.members {
            return None;
        }
        Some(core::mem::replace(&mut self.members, members))
    }
}

/// The last word to a server that leaves, whose log is the leader's up to `prev`: that the
/// configuration without it, the entry `last`, is committed. Brings the entries in between, as far
/// as one message holds them. It asks for no answer: no round is new to a server that has heard of
/// the first.
fn removal_notice<C: Command>(
    log: &Log<C>,
    prev: Index,
    last: Index,
    session: Session,
    bytes_max: usize,
) -> Option<AppendEntries<C>> {
    let (entries, _) = log.slice(prev.next(), last, bytes_max);
    Some(AppendEntries {
        session,
        round: Round::new(0),
        prev_log: LogId::new(log.term_at(prev)?, prev),
        leader_commit: entries.last().map_or(prev.min(last), |entry| entry.index),
        entries,
        rank: None,
        election_timeout_micros: None,
        takes_proposals: true,
    })
}
