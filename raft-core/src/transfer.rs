//! Leadership transfer (thesis 3.10).
//!
//! The leader refuses commands, lets its successor have the rest of the log, and sends TimeoutNow
//! right behind the last append, without waiting for an answer. The successor stands at once,
//! without a pre-vote, and its request says that no voter needs to stick to the leader. An attempt
//! that has not succeeded within an election timeout is given up, and the leader leads on.
//!
//! A leader that hands over appends nothing, not even the entry that leaves a joint configuration:
//! its log would be longer than its successor's, whose vote it then has to refuse though that may
//! be the vote that is needed. The successor leaves the joint configuration, or the leader does
//! when it has given the attempt up.
//!
//! From the first TimeoutNow on the leader holds no lease for the rest of its term: the message may
//! come late, when the attempt has long been given up, and still depose it within what would be a
//! lease.

use rand_core::Rng;

use crate::error::TransferRefused;
use crate::message::{Body, Message, TimeoutNow};
use crate::raft::{Following, Leading, Next, Raft};
use crate::state::progress::{Progress, ProgressState};
use crate::state::roles::{RoleState, Transfer};
use crate::types::{Command, LogId, NodeId};

impl<C: Command, R: Rng> Raft<C, R> {
    /// Hands leadership over, to this voter or, if none is named, to the one that is furthest.
    /// Commands are refused until [`Output::RoleChanged`](crate::Output::RoleChanged) tells of the
    /// new leader, or the attempt is given up after
    /// [`Config::election_timeout_min`](crate::Config::election_timeout_min).
    ///
    /// # Errors
    ///
    /// [`TransferRefused`] says why not; nothing has changed then.
    pub fn transfer_leadership(&mut self, to: Option<NodeId>) -> Result<NodeId, TransferRefused> {
        let known = self.leader();
        let Some(mut leading) = self.leading() else {
            return Err(TransferRefused::NotLeader { leader: known });
        };
        if let Some(transfer) = &leading.leader.transfer {
            return Err(TransferRefused::Transferring { to: transfer.to });
        }
        let to = match to {
            Some(to) => leading.is_successor(to).then_some(to),
            None => leading.best_successor(),
        };
        let to = to.ok_or(TransferRefused::NoSuccessor)?;
        leading.begin_transfer(to);
        self.check_invariants();
        Ok(to)
    }

    /// The server to which this leader is handing over.
    pub fn transferring(&self) -> Option<NodeId> {
        match &self.role {
            RoleState::Leader(leader) => leader.transfer.map(|transfer| transfer.to),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }
}

impl<C: Command, R: Rng> Following<'_, C, R> {
    /// TimeoutNow: the leader asks this server to stand for election. A server that lacks an entry
    /// could not win, and waits to be asked again.
    pub(crate) fn on_timeout_now(&mut self, from: NodeId, request: TimeoutNow) -> Next {
        let could_win =
            self.server.members.is_voter() && self.server.log.last() >= request.last_log;
        if self.known.id == from && could_win { Next::Stand { transfer: true } } else { Next::Stay }
    }
}

impl<C: Command, R: Rng> Leading<'_, C, R> {
    /// The attempt has not succeeded in time: lead on.
    pub(crate) fn on_transfer_timeout(&mut self) -> Next {
        self.leader.transfer = None;
        let pause = self.server.config.election_timeout_max.saturating_mul(PREFERENCE_PAUSE);
        self.leader.preference_after = self.server.now + pause;
        self.complete_change()
    }

    /// This leader must go, because it is no member any more or its disk is stuck: the best voter
    /// takes over at once, rather than after a timeout.
    ///
    /// The successor is sent what it lacks first, and TimeoutNow names no entry that it was not
    /// sent: a follower that waits for such an entry would wait for a leader that leads no more.
    pub(crate) fn hand_over(&mut self) {
        let under_way =
            self.leader.transfer.map(|transfer| transfer.to).filter(|to| self.follows(*to));
        if let Some(successor) = under_way.or_else(|| self.best_successor()) {
            let append = self.server.members.position(successor).and_then(|at| self.append_to(at));
            if let Some(append) = append {
                self.server.outbox.send_ungated(append);
            }
            if let Some(last_log) = self.sent_to(successor) {
                let body = Body::TimeoutNow(TimeoutNow { last_log });
                let message = self.server.message(successor, body);
                self.server.outbox.send_ungated(message);
            }
        }
    }

    /// TimeoutNow, once everything else has been sent to the successor.
    pub(crate) fn next_timeout_now(&mut self) -> Option<Message<C>> {
        let last_log = self.server.log.last();
        let transfer =
            self.leader.transfer.as_mut().filter(|transfer| !transfer.timeout_now_sent)?;
        let to = transfer.to;
        let peer = self.leader.peers.get(self.server.members.position(to)?)?;
        if peer.state() != ProgressState::Replicate || peer.next_index() <= last_log.index {
            return None;
        }
        transfer.timeout_now_sent = true;
        self.leader.lease.end();
        Some(self.server.message(to, Body::TimeoutNow(TimeoutNow { last_log })))
    }

    /// With each heartbeat: the successor is told again, for the message may have been lost or have
    /// come too early. And a leader of less than the highest priority looks for a better one.
    pub(crate) fn retry_transfer(&mut self) {
        let now = self.server.now;
        if let Some(transfer) = &mut self.leader.transfer {
            transfer.timeout_now_sent = false;
        } else if self.leader.preference_after <= now && self.server.has_committed_in_term() {
            if let Some(preferred) = self.preferred_successor() {
                self.begin_transfer(preferred);
            }
        }
    }

    fn begin_transfer(&mut self, to: NodeId) {
        self.leader.transfer = Some(Transfer { to, timeout_now_sent: false });
        if let Some(position) = self.server.members.position(to) {
            self.leader.pending.insert(position);
        }
        self.server.timers.transfer.touch();
    }

    /// Whether this follower's log is known to be the leader's, as far as it goes.
    fn follows(&self, id: NodeId) -> bool {
        self.progress(id).is_some_and(|peer| peer.state() == ProgressState::Replicate)
    }

    /// The last entry that this follower was sent.
    fn sent_to(&self, id: NodeId) -> Option<LogId> {
        let last = self.progress(id)?.next_index().previous();
        Some(LogId::new(self.server.log.term_at(last)?, last))
    }

    pub(crate) fn progress(&self, id: NodeId) -> Option<&Progress> {
        self.leader.peers.get(self.server.members.position(id)?)
    }

    /// Whether this server could lead: it votes, and is not this one.
    fn is_successor(&self, id: NodeId) -> bool {
        let position = self.server.members.position(id);
        position.is_some_and(|position| {
            self.server.members.other_voters().contains(position)
                && self.server.members.quorum.incoming.contains(position)
        })
    }

    /// The voter that is furthest with the log, and among equals the one heard of last.
    fn best_successor(&self) -> Option<NodeId> {
        let voters =
            self.server.members.other_voters().intersection(self.server.members.quorum.incoming);
        let peers = voters
            .iter()
            .filter_map(|at| Some((self.server.members.id(at)?, self.leader.peers.get(at)?)));
        let candidates = peers.filter(|(_, peer)| peer.state() == ProgressState::Replicate);
        let best = candidates.max_by_key(|(_, peer)| (peer.match_index(), peer.heard_at()));
        best.map(|(id, _)| id)
    }

    /// The voter of the highest priority that keeps up, if that priority is above this leader's
    /// own. A voter that is silent or behind bars no other one.
    fn preferred_successor(&self) -> Option<NodeId> {
        let own = self
            .server
            .memberships
            .in_force()
            .member(self.server.config.id)
            .map_or(0, |member| member.priority);
        let members = self.server.memberships.in_force().members().iter();
        let better = members.filter(|member| member.priority > own);
        let fit = better.filter(|member| self.is_successor(member.id) && self.keeps_up(member.id));
        fit.max_by_key(|member| member.priority).map(|member| member.id)
    }

    /// Whether this follower lives and holds all that is committed.
    fn keeps_up(&self, id: NodeId) -> bool {
        self.progress(id).is_some_and(|peer| {
            let silent = self.server.now.saturating_duration_since(peer.heard_at());
            peer.state() == ProgressState::Replicate
                && peer.match_index() >= self.server.commit_index
                && silent < self.leader.timeout.in_force.election_timeout()
        })
    }
}

/// After a transfer that did not succeed, a leader looks for a server of higher priority again
/// after so many election timeouts.
const PREFERENCE_PAUSE: u32 = 10;
