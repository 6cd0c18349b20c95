//! Leading: what a server does when it has won (§5.2, §8), and when it has to stop (thesis 6.2).
//!
//! A leader begins its term with an entry of its own, for a log commits only by entries of the
//! current term. It leads as long as a quorum answers and its own disk does: a leader that nobody
//! hears, or that can keep nothing, only keeps others from leading.
//!
//! The two have a patience each, because they have different reasons to be late. A quorum has
//! `election_timeout_min`, after which its voters elect somebody else anyway. The disk has
//! [`disk_timeout`](crate::Config::disk_timeout), an order of magnitude above one unit of its work:
//! a disk that is slower than a network, or takes a second breath now and then, still commits, and
//! an election would only give the same work to the next disk. A leader that gives up its disk
//! tells its best follower to stand, for the followers hear it well and would wait for nothing.

use rand_core::Rng;

use crate::entries::{Entry, Payload};
use crate::error::ProposeError;
use crate::quorum::MemberSet;
use crate::raft::{Leading, Next, Raft};
use crate::reason::StepDown;
use crate::state::election_timeout::LeaderTimeout;
use crate::state::lease::LeaseState;
use crate::state::progress::Progress;
use crate::state::roles::{Leader, RoleState};
use crate::state::server::Server;
use crate::state::timers::Timer;
use crate::time::Instant;
use crate::types::{Command, Index, Round, Session};

impl<C: Command, R: Rng> Raft<C, R> {
    /// Leads the current term, whose votes are won and durable, and begins it with a no-op (§8).
    pub(crate) fn become_leader(&mut self) {
        debug_assert!(self.server.durable.hard_state_is_durable());
        let mut peers = self.server.idle_peers.take();
        let (session, next_index) = (Session::new(1), self.server.log.last().index.next());
        peers.resize(self.server.members.ids.len());
        peers.iter_mut().for_each(|peer| peer.begin(session, next_index, self.server.now));
        let everyone = self.server.members.everyone_else();
        self.change_role(RoleState::Leader(Leader {
            peers,
            pending: everyone,
            to_answer: MemberSet::default(),
            lagging: MemberSet::default(),
            heard: everyone,
            round: Round::new(1),
            session,
            lease: LeaseState::default(),
            timeout: LeaderTimeout::new(self.server.config.configured_timeout(), self.server.now),
            transfer: None,
            listened_after: None,
            preference_after: self.server.now,
        }));
        let (first, last) = (self.server.commit_index.next(), self.server.log.last().index);
        self.server.uncommitted_bytes = self.server.log.bytes_between(first, last);
        self.server.timers.election.stop();
        self.server.timers.heartbeat.touch();
        self.server.watch_quorum();
        if let Some(mut leading) = self.leading() {
            leading.append(Payload::Noop);
        }
    }
}

impl<C: Command, R: Rng> Leading<'_, C, R> {
    /// A leader that has not heard from a quorum for an election timeout steps down (thesis 6.2),
    /// and so does one that has not heard from its own disk for that disk's timeout: it would keep
    /// the others from electing one that works.
    pub(crate) fn on_quorum_timeout(&mut self) -> Next {
        if self.server.members.is_sole_voter() {
            // The others have left meanwhile.
            self.server.timers.quorum.stop();
            return Next::Stay;
        }
        if self.server.quorum_lost_at(self.leader) <= self.server.now {
            return Next::Follow(StepDown::NoQuorum);
        }
        if self.server.disk_lost_at().is_some_and(|lost_at| lost_at <= self.server.now) {
            self.hand_over();
            return Next::Follow(StepDown::DiskSilent);
        }
        self.server.timers.quorum.touch();
        Next::Stay
    }

    /// Appends a command, if nothing forbids it. Returns where.
    pub(crate) fn propose(&mut self, command: C) -> Result<Index, ProposeError<C>> {
        if let Some(transfer) = &self.leader.transfer {
            return Err(ProposeError::Transferring { to: transfer.to, command });
        }
        let (bytes, bytes_max) = (command.as_ref().len(), self.server.config.command_bytes_max);
        if bytes > bytes_max {
            return Err(ProposeError::TooLarge { bytes, bytes_max, command });
        }
        let size = bytes.saturating_add(Entry::<C>::OVERHEAD_BYTES);
        self.server.make_room(size);
        let config = &self.server.config;
        // A leader's no-op and configurations are never refused, or no term could begin.
        if self.server.log.bytes().saturating_add(size) > config.log_bytes_max {
            return Err(ProposeError::LogFull { bytes_max: config.log_bytes_max, command });
        }
        let bytes_max = config.uncommitted_bytes_max.min(config.log_room());
        let uncommitted_bytes = self.server.uncommitted_bytes;
        if uncommitted_bytes > 0 && uncommitted_bytes.saturating_add(size) > bytes_max {
            return Err(ProposeError::TooManyUncommitted { bytes_max, command });
        }
        Ok(self.append(Payload::Command(command)))
    }

    /// A leader never changes its log but by appending (Figure 3); the entry is of the term in
    /// which it leads.
    pub(crate) fn append(&mut self, payload: Payload<C>) -> Index {
        self.send_to_everyone();
        let index = self.server.log.last().index.next();
        let configuration = match &payload {
            Payload::Noop | Payload::Command(_) => None,
            Payload::Configuration(membership) => Some((**membership).clone()),
        };
        let entry = Entry { term: self.server.current_term, index, payload };
        self.server.uncommitted_bytes = self.server.uncommitted_bytes.saturating_add(entry.size());
        self.server.log.append(entry);
        if let Some(membership) = configuration {
            self.server.memberships.append(index, membership);
            self.server.membership_changed = true;
            self.update_members();
        }
        index
    }

    /// There may be something to send to every follower.
    pub(crate) fn send_to_everyone(&mut self) {
        self.leader.pending = self.server.members.everyone_else();
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// From now on this leader looks whether a quorum answers, unless it does already. A cluster of
    /// one has nobody to step down for, however slow its disk.
    pub(crate) fn watch_quorum(&mut self) {
        let is_off = self.timers.quorum == Timer::Off;
        if is_off && self.config.leader_needs_quorum() && !self.members.is_sole_voter() {
            self.timers.quorum.touch();
        }
    }

    /// When this leader gives up, if it hears nothing more from its voters or from its disk.
    pub(crate) fn gives_up_at(&self, leader: &Leader) -> Instant {
        let quorum = self.quorum_lost_at(leader);
        self.disk_lost_at().map_or(quorum, |disk| disk.min(quorum))
    }

    fn quorum_lost_at(&self, leader: &Leader) -> Instant {
        self.quorum_heard_at(leader) + self.config.election_timeout_min
    }

    /// None while the disk owes no answer.
    fn disk_lost_at(&self) -> Option<Instant> {
        Some(self.durable.silent_since()? + self.config.disk_patience())
    }

    /// The last time by which a quorum had been heard.
    pub(crate) fn quorum_heard_at(&self, leader: &Leader) -> Instant {
        let heard = leader.peers.each(&self.members, self.now, Progress::heard_at);
        self.members.quorum.reached(heard)
    }
}
