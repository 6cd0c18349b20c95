//! Timeouts that adapt (§5.6): short on a network that answers fast, the configured ones on a
//! network that does not.
//!
//! The broadcast time must be an order of magnitude below the election timeout, so a timeout that
//! is configured must allow for the worst that the network will ever do. With this option a
//! leader measures what the network does today. It times its heartbeat rounds, and smooths each
//! follower's round-trip time (`srtt`) and its variation (`rttvar`) as TCP does (RFC 6298). With
//! every AppendEntries it tells its followers which election timeout is in force. The idea is that
//! of Dynatune.
//!
//! Only *when* a server stands for election depends on the timeout in force. Votes, terms and logs
//! do not, so a wrong timeout costs an election at worst. A follower never believes a timeout below
//! its own floor or above its own configured timeout.
//!
//! The timeout in force belongs to a leader and is forgotten with it: a new leader begins with the
//! configured timeout, and so does each attempt of a candidate. If the network has become slower
//! than the timeouts, the first attempt may fail; the next one has the whole configured timeout.
//! For the same reason a leader that hears from no quorum steps down after the configured timeout:
//! a client that is cut off with it waits no longer than without the option, and a network that is
//! suddenly slow first lengthens the timeouts.
//!
//! # Heartbeats
//!
//! Heartbeats are as much faster as the timeouts are shorter. They must never be slower than the
//! shortest timeout that a follower may still believe in, because the message that told a longer
//! one may be lost:
//!
//! ```text
//! leader     50 ms, beats every 16 ms     150 ms, beats every 50 ms
//! follower   50 ms                        the message is lost; stands after 50 ms, for nothing
//! ```
//!
//! So a leader sends heartbeats by the shortest timeout that it told within the last configured
//! timeout. A follower that missed every heartbeat of that time has given its leader up anyway.

use rand_core::Rng;

use crate::config::TimeoutInForce;
use crate::raft::{Leading, Raft};
use crate::state::roles::{Follower, RoleState};
use crate::types::Command;

impl<C: Command, R: Rng> Raft<C, R> {
    /// The election timeout in force at this server: its leader's, as long as the server knows a
    /// leader or only suspects that it is gone; else the configured one.
    pub(crate) fn timeout_in_force(&self) -> TimeoutInForce {
        let told = match &self.role {
            RoleState::Follower(Follower { leader, suspicion }) => {
                let told = leader.as_ref().map(|known| known.timeout_in_force);
                told.or(suspicion.map(|suspicion| suspicion.timeout_in_force))
            }
            RoleState::Leader(leader) => Some(leader.timeout.in_force),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        };
        told.unwrap_or_else(|| self.server.config.configured_timeout())
    }
}

impl<C: Command, R: Rng> Leading<'_, C, R> {
    /// Chooses the timeout that the next heartbeat tells: what the slowest voter that answers can
    /// keep up with. Unresponsive voters are ignored; a voter without enough samples keeps the
    /// configured timeout.
    ///
    /// A quorum could do with its own slowest voter. But a follower that stands for nothing serves
    /// no reads meanwhile.
    pub(crate) fn adapt_timeout(&mut self) {
        let Some(adaptive) = self.server.config.adaptive else { return };
        let (now, configured) = (self.server.now, self.server.config.configured_timeout());
        let patience = self.leader.timeout.in_force.election_timeout();
        let voters = self.server.members.other_voters();
        let peers = voters.iter().filter_map(|position| self.leader.peers.get(position));
        let answering =
            peers.filter(|peer| now.saturating_duration_since(peer.heard_at()) < patience);
        let slowest = answering.map(|peer| peer.round_trip.timeout().unwrap_or(configured)).max();
        let wanted = self.server.config.bounded(adaptive, slowest.unwrap_or(configured));
        self.leader.timeout.approach(wanted, configured.election_timeout(), now);
    }
}
