//! raft-core under measurement, with the loop of every host: step, tick, poll.

use bytes::Bytes;
use raft_core::{
    Command, Config, Entry, Instant, Message, NodeId, Output, Payload, Raft, Restored,
};
use rand_core::SeedableRng;
use rand_pcg::Pcg32;
use std::fmt::Debug;
use std::hint::black_box;

use super::{COMMAND_BYTES, Server, received};

/// A command type that can be measured.
pub trait Sample: Command + Debug {
    /// A command of [`COMMAND_BYTES`], as it comes out of what a client's connection has received.
    fn sample(received: &Bytes) -> Self;
}

impl Sample for [u8; COMMAND_BYTES] {
    fn sample(received: &Bytes) -> Self {
        *received.first_chunk().expect("a whole command was received")
    }
}

impl Sample for Bytes {
    fn sample(received: &Bytes) -> Self {
        received.slice(..COMMAND_BYTES)
    }
}

/// One server of raft-core. Its configuration is the default one.
pub struct CoreServer<C> {
    raft: Raft<C, Pcg32>,
    now: Instant,
    received: Bytes,
    commands_applied: usize,
}

impl<C: Sample> CoreServer<C> {
    fn new(position: usize, voters: usize, pre_vote: bool) -> Self {
        let ids = (0..voters).map(id_of);
        let config = Config { pre_vote, ..Config::new(id_of(position), ids) };
        let rng = Pcg32::seed_from_u64(position as u64);
        let raft = Raft::new(config, Restored::default(), rng).expect("the defaults are valid");
        Self { raft, now: Instant::ZERO, received: received(), commands_applied: 0 }
    }
}

impl<C: Sample> Server for CoreServer<C> {
    type Message = Message<C>;

    fn cluster(voters: usize, pre_vote: bool) -> Vec<Self> {
        let mut servers: Vec<_> =
            (0..voters).map(|position| Self::new(position, voters, pre_vote)).collect();
        servers.iter_mut().for_each(|server| server.raft.tick(server.now));
        servers
    }

    /// The first whose election timeout ends. Until then time passes for all, in which nothing is
    /// heard of the leader; that it steps down meanwhile for want of a quorum is no part of the
    /// election. It wakes for each of its deadlines, as on a host: a leader that slept past them
    /// would listen before it gives up.
    fn next_candidate(servers: &mut [Self], leader: usize) -> usize {
        let leads = servers[leader].leader() == Some(leader);
        let deadlines = servers.iter().map(|server| server.raft.next_deadline());
        let others = deadlines.enumerate().filter(|(position, _)| !leads || *position != leader);
        let next = others.filter_map(|(position, at)| Some((at?, position))).min();
        let (deadline, candidate) = next.expect("a follower has a deadline");
        servers.iter_mut().for_each(|server| server.now = deadline);
        if leads {
            let server = &mut servers[leader];
            while let Some(at) = server.raft.next_deadline().filter(|at| *at <= deadline) {
                server.now = at;
                server.turn(&mut Vec::new(), &mut |_, _| {});
            }
            server.now = deadline;
        }
        candidate
    }

    fn campaign(&mut self) {
        self.raft.tick(self.now);
    }

    fn propose(&mut self, commands: usize) {
        for _ in 0..commands {
            self.raft.propose(C::sample(&self.received)).expect("the leader has room");
        }
    }

    fn turn(
        &mut self,
        inbox: &mut Vec<Self::Message>,
        send: &mut impl FnMut(usize, Self::Message),
    ) {
        inbox.drain(..).for_each(|message| self.raft.step(message));
        self.raft.tick(self.now);
        while let Some(output) = self.raft.poll_outbox() {
            match output {
                Output::Persist(write) => self.raft.persisted(black_box(&write).id),
                Output::Send(message) => send(position_of(message.to), message),
                Output::Apply { from, through } => {
                    for entry in self.raft.entries(from, through) {
                        self.commands_applied += usize::from(is_command(black_box(entry)));
                    }
                    self.raft.applied(through);
                }
                Output::ReadReady { .. }
                | Output::ReadLost { .. }
                | Output::Forwarded { .. }
                | Output::RoleChanged { .. }
                | _ => {}
            }
        }
    }

    fn leader(&self) -> Option<usize> {
        self.raft.leader().map(position_of)
    }

    fn commands_applied(&self) -> usize {
        self.commands_applied
    }

    fn commit_index(&self) -> u64 {
        self.raft.status().commit_index.get()
    }
}

fn is_command<C>(entry: &Entry<C>) -> bool {
    matches!(entry.payload, Payload::Command(_))
}

fn id_of(position: usize) -> NodeId {
    NodeId::new(position as u64 + 1)
}

fn position_of(id: NodeId) -> usize {
    id.get() as usize - 1
}
