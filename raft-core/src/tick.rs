//! Deadlines that a step touches and the next tick arms.
//!
//! `step` has no clock. It marks a timer as touched; [`tick`](crate::Raft::tick) arms what was
//! touched from the true time before anything fires. So an election never starts while the
//! heartbeat that forbids it waits in the inbox.
//!
//! A tick that comes later than its own deadline tells that this host stood still, and maybe all
//! others with it: a paused virtual machine, a suspended laptop, all processes of one host stopped.
//! The clock ran on, and the words that would forbid the election are yet to be sent. So a tick
//! that is late by [`LATE_MIN`] or more listens first: a follower gives its leader, and a leader
//! its quorum and its disk, as much time again as the tick was late, and at most one heartbeat
//! interval. It does so once, until somebody is heard; a host that is always late elects no later
//! than twice as late.

use core::time::Duration;

use rand_core::Rng;

use crate::raft::{Following, Leading, Raft};
use crate::state::roles::{Follower, Heard, KnownLeader, RoleState, Suspicion};
use crate::state::server::Server;
use crate::state::timers::Timer;
use crate::status::Wake;
use crate::time::{Instant, micros};
use crate::types::Command;

/// How late a tick is at least that listens before it gives somebody up. Timers of a host that is
/// well wake within less.
const LATE_MIN: Duration = Duration::from_millis(1);

impl<C: Command, R: Rng> Raft<C, R> {
    /// Arms what was touched, from the true time.
    pub(crate) fn arm_timers(&mut self) {
        self.note_who_was_heard();
        self.server.durable.on_tick(self.server.now);
        if self.server.timers.election == Timer::Touched {
            // A promise that keeps this server from voting for others keeps it from standing as
            // well, because a lease may rest on its own vote, too.
            let bound_until = self.bound_until();
            let deadline = self.server.now.plus_micros(self.draw_election_timeout(bound_until));
            self.server.timers.election = Timer::Armed(deadline.max(bound_until));
        }
        if self.server.timers.heartbeat == Timer::Touched {
            self.server.timers.heartbeat =
                Timer::Armed(self.server.now + self.heartbeat_interval());
        }
        if self.server.timers.transfer == Timer::Touched {
            self.server.timers.transfer =
                Timer::Armed(self.server.now + self.server.config.election_timeout_min);
        }
        if self.server.timers.quorum == Timer::Touched {
            if let RoleState::Leader(leader) = &self.role {
                self.server.timers.quorum = Timer::Armed(self.server.gives_up_at(leader));
            }
        }
    }

    /// Whether this server listens before it gives its leader, or its quorum, up at this late
    /// moment. See the module docs.
    pub(crate) fn listens_first(&mut self, deadline: Timer) -> bool {
        let Timer::Armed(deadline) = deadline else { return false };
        if let Some(mut leading) = self.leading() {
            return leading.listens_first(deadline);
        }
        self.following().is_some_and(|mut following| following.listens_first(deadline))
    }

    /// Stamps every peer heard from since the last tick with the current time, because `step` has
    /// no clock.
    fn note_who_was_heard(&mut self) {
        let (now, longest) = (self.server.now, self.server.config.election_timeout_min);
        if let Some(Following { known, .. }) = self.following() {
            known.heard = Heard::At(known.heard.at(now));
        }
        let Some(mut leading) = self.leading() else { return };
        for position in core::mem::take(&mut leading.leader.heard).iter() {
            if let Some(peer) = leading.leader.peers.get_mut(position) {
                peer.on_heard(now);
                peer.measure_round_trip(now, longest);
                if peer.has_backlog(leading.server.commit_index) {
                    leading.leader.lagging.insert(position);
                }
            }
        }
        leading.pace_followers();
    }

    /// When the first pause ends between two windows of what a follower is sent to catch up.
    fn follower_resumes_at(&self) -> Option<Instant> {
        let RoleState::Leader(leader) = &self.role else { return None };
        let paused = |position| leader.peers.get(position)?.paused_until();
        leader.lagging.iter().filter_map(paused).min()
    }

    /// A leader's heartbeats follow the timeout in force. A candidate asks again after the
    /// configured interval.
    fn heartbeat_interval(&self) -> Duration {
        match &self.role {
            RoleState::Leader(leader) => {
                self.server.config.heartbeat_interval_at(leader.timeout.beat())
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.server.config.heartbeat_interval
            }
        }
    }

    /// Whether this leader heard of a follower since the last tick.
    fn has_heard(&self) -> bool {
        match &self.role {
            RoleState::Leader(leader) => leader.heard.first().is_some(),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => false,
        }
    }

    /// Drawn anew for every arming, in microseconds. A follower that its leader has ranked waits
    /// for its slot, any other server for a random time from the configured range (§5.2), or from
    /// what the timeout in force makes of it. A server that suspects that the leader is gone waits
    /// for what goes beyond the smallest timeout, or as if it had heard the leader, if it is bound
    /// by a promise; a cluster of one waits for nobody.
    fn draw_election_timeout(&mut self, bound_until: Instant) -> u64 {
        let timeout_in_force = self.timeout_in_force();
        let min = timeout_in_force.micros();
        let is_last_term = self.server.current_term.next() == self.server.current_term;
        // While a vote is on its way to the disk nobody stands, and to try again at once would
        // never end.
        let stands_at_once =
            self.server.members.is_sole_voter() && !is_last_term && !self.server.is_voting();
        let (min, rank) = match &self.role {
            RoleState::Follower(_) if stands_at_once => {
                return 0;
            }
            RoleState::Follower(Follower { leader: Some(KnownLeader { rank, .. }), .. }) => {
                (min, *rank)
            }
            RoleState::Follower(Follower { suspicion, .. }) => match suspicion {
                Some(Suspicion { rank, .. }) => {
                    let mut bound = micros(bound_until.saturating_duration_since(self.server.now));
                    if bound > 0 {
                        // Others may have heard the leader's last words a little later: they are
                        // bound for so much longer.
                        let slot = self.server.config.rank_slot_at(timeout_in_force).unwrap_or(0);
                        bound = bound.saturating_add(slot);
                    }
                    (bound, *rank)
                }
                None => (min, None),
            },
            RoleState::PreCandidate(_) | RoleState::Candidate(_) | RoleState::Leader(_) => {
                (min, None)
            }
        };
        self.forget_suspicion();
        let slot = self.server.config.rank_slot_at(timeout_in_force);
        if let (Some(slot), Some(rank)) = (slot, rank) {
            let wait = slot.saturating_mul(u64::from(rank));
            return min.saturating_add(wait);
        }
        let spread = self.server.config.spread_at(timeout_in_force);
        let drawn = self.server.rng.next_u64().checked_rem(spread).unwrap_or(0);
        min.saturating_add(drawn)
    }

    /// What the next tick is for, and when.
    pub(crate) fn wake(&self) -> Option<(Instant, Wake)> {
        let waits = !self.server.vote_requests.is_empty()
            || self.server.durable.has_answered()
            || self.has_heard();
        let leads = matches!(self.role, RoleState::Leader(_));
        let beat = if leads { Wake::Heartbeat } else { Wake::AskAgain };
        let mut first = None;
        for (timer, wake) in [
            (self.server.timers.election, Wake::Election),
            (self.server.timers.heartbeat, beat),
            (self.server.timers.quorum, Wake::Quorum),
            (self.server.timers.transfer, Wake::Transfer),
        ] {
            let wake = if timer == Timer::Touched { Wake::Step } else { wake };
            let Some(at) = timer.deadline(self.server.now) else { continue };
            if first.is_none_or(|(earliest, _)| at < earliest) {
                first = Some((at, wake));
            }
        }
        if let Some(at) = self.follower_resumes_at() {
            if first.is_none_or(|(earliest, _)| at < earliest) {
                first = Some((at, Wake::CatchUp));
            }
        }
        if waits && first.is_none_or(|(earliest, _)| self.server.now < earliest) {
            first = Some((self.server.now, Wake::Step));
        }
        first
    }
}

impl<C: Command, R: Rng> Following<'_, C, R> {
    fn listens_first(&mut self, deadline: Instant) -> bool {
        let Some(until) = self.server.listens_until(deadline) else { return false };
        if self.known.listens_until.is_some() {
            return false;
        }
        self.known.listens_until = Some(until);
        self.server.timers.election = Timer::Armed(until);
        true
    }
}

impl<C: Command, R: Rng> Leading<'_, C, R> {
    /// With each tick: pauses between windows of what followers are sent to catch up.
    fn pace_followers(&mut self) {
        let Leading { leader, server } = self;
        for position in leader.lagging.iter() {
            let Some(peer) = leader.peers.get_mut(position) else { continue };
            let paused = peer.paused_until();
            peer.pace(server.now, server.commit_index, &server.log, &server.config);
            if paused.is_some() && peer.paused_until().is_none() {
                leader.pending.insert(position);
            }
            if peer.sending.is_none() && !peer.has_backlog(server.commit_index) {
                leader.lagging.remove(position);
            }
        }
    }

    fn listens_first(&mut self, deadline: Instant) -> bool {
        // What was heard since the timer was armed puts off when this leader gives up.
        let deadline = deadline.max(self.server.gives_up_at(self.leader));
        let Some(until) = self.server.listens_until(deadline) else { return false };
        if self.leader.listened_after == Some(deadline) {
            return false;
        }
        self.leader.listened_after = Some(until);
        self.server.timers.quorum = Timer::Armed(until);
        true
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// Until when a tick listens that is late by this deadline; none if it is in time.
    fn listens_until(&self, deadline: Instant) -> Option<Instant> {
        let late = self.now.saturating_duration_since(deadline);
        (late >= LATE_MIN).then(|| self.now + late.min(self.config.heartbeat_interval))
    }
}
