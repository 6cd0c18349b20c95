//! Whole clusters in one thread, without disk or network: what the benches measure, the same for
//! raft-core and for raft-rs.
//!
//! A [`Cluster`] passes messages from server to server in a fixed order, one turn of a server at a
//! time. A turn is what every host does: take all messages that have come, then do what the library
//! asks until it asks nothing more. A write is durable at once and costs nothing on either side
//! beyond what the library itself does with it.

pub mod core_server;
pub mod raft_rs_server;

use std::mem;

use bytes::Bytes;

pub use core_server::CoreServer;
pub use raft_rs_server::RaftRsServer;

/// The length of each command, in bytes.
pub const COMMAND_BYTES: usize = 16;

/// A server of the library under measurement. Servers are known by their position in the cluster.
pub trait Server: Sized {
    /// What servers send to each other.
    type Message;

    /// The servers of a new cluster, none of which leads.
    fn cluster(voters: usize, pre_vote: bool) -> Vec<Self>;

    /// Chooses the server that stands for election next, after `leader` has fallen silent: nothing
    /// that it says is heard any more.
    fn next_candidate(servers: &mut [Self], leader: usize) -> usize;

    /// Stands for election.
    fn campaign(&mut self);

    /// Proposes that many commands to this server, which leads.
    fn propose(&mut self, commands: usize);

    /// Takes all messages from `inbox`, then does what the library asks; `send` takes the
    /// receiver's position.
    fn turn(&mut self, inbox: &mut Vec<Self::Message>, send: &mut impl FnMut(usize, Self::Message));

    /// The leader of this server's term, if it knows one.
    fn leader(&self) -> Option<usize>;

    /// How many commands the state machine was given, without no-ops.
    fn commands_applied(&self) -> usize;

    /// The last entry known to be committed.
    fn commit_index(&self) -> u64;
}

/// A cluster and the messages on their way in it.
pub struct Cluster<S: Server> {
    servers: Vec<S>,
    inboxes: Vec<Vec<S::Message>>,
    /// Memory for the messages of the present turn.
    hand: Vec<S::Message>,
    /// The last leader; before the first election, the first server.
    leader: usize,
    /// How many commands were proposed in all.
    proposed: usize,
}

impl<S: Server> Cluster<S> {
    /// A cluster after its first election, at rest.
    pub fn elected(voters: usize, pre_vote: bool) -> Self {
        let servers = S::cluster(voters, pre_vote);
        let inboxes = servers.iter().map(|_| Vec::new()).collect();
        let mut cluster = Self { servers, inboxes, hand: Vec::new(), leader: 0, proposed: 0 };
        let candidate = cluster.lose_leader();
        cluster.elect(candidate);
        cluster.settle();
        cluster
    }

    /// The leader falls silent. Returns the server that stands for election.
    pub fn lose_leader(&mut self) -> usize {
        S::next_candidate(&mut self.servers, self.leader)
    }

    /// An election: from the moment the candidate stands until every server knows that it leads.
    pub fn elect(&mut self, candidate: usize) {
        self.servers[candidate].campaign();
        self.leader = candidate;
        self.turn(candidate);
        while self.servers.iter().any(|server| server.leader() != Some(candidate)) {
            self.sweep();
        }
    }

    /// Runs until nothing is on its way.
    pub fn settle(&mut self) {
        while self.inboxes.iter().any(|inbox| !inbox.is_empty()) {
            self.sweep();
        }
    }

    /// Replication: from the moment the leader is given the commands until every server has applied
    /// them all.
    pub fn replicate(&mut self, commands: usize) {
        self.servers[self.leader].propose(commands);
        self.proposed += commands;
        self.turn(self.leader);
        while self.servers.iter().any(|server| server.commands_applied() < self.proposed) {
            self.sweep();
        }
    }

    /// The last entry that every server knows to be committed.
    pub fn commit_index(&self) -> u64 {
        self.servers.iter().map(S::commit_index).min().unwrap_or_default()
    }

    /// A turn for each server that has messages, the leader last: what it sent last round is
    /// answered by then.
    fn sweep(&mut self) {
        let voters = self.servers.len();
        for step in 1..=voters {
            let position = (self.leader + step) % voters;
            if !self.inboxes[position].is_empty() {
                self.turn(position);
            }
        }
    }

    fn turn(&mut self, position: usize) {
        let Self { servers, inboxes, hand, .. } = self;
        mem::swap(&mut inboxes[position], hand);
        servers[position].turn(hand, &mut |to, message| inboxes[to].push(message));
        debug_assert!(hand.is_empty());
    }
}

/// What a client's connection has received: more than one command, in memory that they share.
fn received() -> Bytes {
    Bytes::from(vec![7; 2 * COMMAND_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elects_and_replicates<S: Server>(voters: usize, pre_vote: bool) {
        let mut cluster = Cluster::<S>::elected(voters, pre_vote);
        assert_eq!(cluster.commit_index(), 1);
        let candidate = cluster.lose_leader();
        cluster.elect(candidate);
        cluster.settle();
        assert_eq!(cluster.commit_index(), 2, "the no-op of each term is committed by all");
        for commands in [1, 64, 1024] {
            cluster.replicate(commands);
        }
        cluster.settle();
        assert_eq!(cluster.commit_index(), 2 + 1 + 64 + 1024);
        let applied = cluster.servers.iter().map(S::commands_applied);
        assert!(applied.into_iter().all(|applied| applied == 1 + 64 + 1024));
    }

    #[test]
    fn every_measured_cluster_does_the_same_work() {
        for (voters, pre_vote) in [(3, true), (3, false), (5, true), (51, true)] {
            elects_and_replicates::<CoreServer<[u8; COMMAND_BYTES]>>(voters, pre_vote);
            elects_and_replicates::<CoreServer<Bytes>>(voters, pre_vote);
            elects_and_replicates::<RaftRsServer<false>>(voters, pre_vote);
            elects_and_replicates::<RaftRsServer<true>>(voters, pre_vote);
        }
    }
}
