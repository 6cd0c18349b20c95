//! The conditions of the classic leader-election laboratory: heartbeats ten times a second,
//! timeouts of 500-800 ms, and a network that is reliable, unreliable, or reorders over seconds.

use std::time::Duration;

use raft_core::{Config, NodeId, Raft, Role};

use super::{Cluster, Host, Network, ms};

/// What the laboratory's network is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conditions {
    Reliable,
    Unreliable,
    LongReordering,
}

impl Conditions {
    fn network(self) -> Network {
        match self {
            Self::Reliable => Network::reliable(ms(1)),
            Self::Unreliable => Network::unreliable(),
            Self::LongReordering => Network::long_reordering(),
        }
    }

    /// By when a leader must stand whom a majority can reach: five seconds, says the laboratory of
    /// its reliable network. Where answers are lost or come seconds late, whole ballots fail, and a
    /// bound is a matter of odds; these are our own.
    pub fn election_max(self) -> Duration {
        match self {
            Self::Reliable => ms(5000),
            Self::Unreliable => ms(5000),
            Self::LongReordering => ms(30_000),
        }
    }
}

impl Cluster {
    pub fn laboratory(servers: u64, seed: u64) -> Self {
        Self::laboratory_under(Conditions::Reliable, servers, seed)
    }

    pub fn laboratory_under(conditions: Conditions, servers: u64, seed: u64) -> Self {
        let mut cluster = Self::with(servers, seed, configure);
        cluster.network = conditions.network();
        cluster
    }

    /// The same with pre-vote and check-quorum on or off, as the seed has it: no rule's safety may
    /// rest on either.
    pub fn laboratory_at_odds(conditions: Conditions, servers: u64, seed: u64) -> Self {
        let mut cluster = Self::with(servers, seed, move |config| {
            configure(config);
            config.pre_vote = seed % 2 == 0;
            config.check_quorum = seed % 4 < 2;
        });
        cluster.network = conditions.network();
        cluster
    }

    /// Servers that believe to lead, reachable or not.
    pub fn believed_leaders(&self) -> Vec<NodeId> {
        let running = self.hosts.iter().filter_map(|host| host.raft.as_ref());
        running.filter(|raft| raft.role() == Role::Leader).map(Raft::id).collect()
    }

    /// Lets the given time pass, in which this leader must lead alone, in the same term, followed
    /// by all who are reachable.
    pub fn assert_steady(&mut self, leader: NodeId, span: Duration) {
        let term = self.raft(leader).term();
        let end = self.now + span;
        while self.now < end {
            self.run_for(ms(50));
            for raft in self.hosts.iter().filter_map(Host::reachable) {
                let seen = (raft.leader(), raft.term());
                assert_eq!(seen, (Some(leader), term), "server {} at {}", raft.id(), self.now);
            }
        }
    }

    /// The servers other than these.
    pub fn others(&self, than: &[NodeId]) -> Vec<NodeId> {
        self.ids().filter(|id| !than.contains(id)).collect()
    }
}

fn configure(config: &mut Config) {
    config.election_timeout_min = ms(500);
    config.election_timeout_max = ms(800);
    config.heartbeat_interval = ms(100);
}
