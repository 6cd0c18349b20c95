//! Clients: each makes one request at a time, to the server that it takes for the leader, and gives
//! up after a while.

use alloc::vec::Vec;
use core::time::Duration;

use super::cluster::Cluster;
use super::history::Outcome;
use super::state_machine::{Request, Workload};
use super::trace::What;
use crate::error::ProposeError;
use crate::role::Role;
use crate::time::Instant;

/// How long a client waits for an answer before it continues under another number.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(1);

/// The clients of a run.
pub(super) struct Clients {
    clients: Vec<Client>,
    /// The number under which the next client that gives up continues.
    next_process: u64,
}

#[derive(Clone, Copy)]
struct Client {
    process: u64,
    /// What it waits for, and since when.
    waits: Option<(usize, Instant)>,
    /// The position of the server that led last, as far as it knows.
    leader: usize,
}

impl Clients {
    pub(super) fn new(count: u64) -> Self {
        let client = |process| Client { process, waits: None, leader: 0 };
        Self { clients: (0..count).map(client).collect(), next_process: count }
    }

    /// A client asks for something, unless it still waits. It tries one server after the other
    /// until one accepts.
    pub(super) fn ask<S: Workload>(&mut self, cluster: &mut Cluster<S>, number: u64, draw: u64) {
        let Some(client) = self.clients.get_mut(number as usize) else { return };
        if let Some((operation, since)) = client.waits {
            match cluster.history.operations[operation].outcome {
                Outcome::Returned { .. } | Outcome::Lost => client.waits = None,
                Outcome::Unknown => {
                    if cluster.now < since + CLIENT_PATIENCE {
                        return;
                    }
                    client.waits = None;
                    client.process = self.next_process;
                    self.next_process += 1;
                }
            }
        }
        // No two operations may write the same value, and a plan may draw a number twice.
        let draw = super::draw::mix(draw ^ cluster.history.operations.len() as u64);
        let request = S::request(number, draw);
        let servers = cluster.ids.len();
        // Half of the time the client asks a random server first, which may be a former leader that
        // does not know yet of its successor.
        let first = if draw & 64 == 0 { client.leader } else { (draw >> 32) as usize };
        // A quarter of all commands may be forwarded by a server that does not lead.
        let forwards = draw & (3 << 7) == 0;
        for at in (0..servers).map(|more| first.wrapping_add(more) % servers) {
            if let Some(operation) = cluster.request(at, client.process, &request, forwards) {
                client.leader = at;
                client.waits = Some((operation, cluster.now));
                return;
            }
        }
    }
}

impl<S: Workload> Cluster<S> {
    /// Gives a client's request to a server; returns the operation if it was accepted. A command is
    /// forwarded by a server that does not lead, if `forwards`.
    fn request(
        &mut self,
        at: usize,
        process: u64,
        request: &Request<S::Command, S::Query>,
        forwards: bool,
    ) -> Option<usize> {
        let now = self.now;
        let server = &mut self.servers[at];
        let raft = server.raft.as_mut().filter(|_| !server.is_paused)?;
        let (what, operation) = match request {
            Request::Command(command) => {
                let command = match raft.propose(command.clone()) {
                    Ok((term, index)) => {
                        let operation = self.history.invoke(now, process, request.clone());
                        server.application.wait(term, index, operation);
                        return Some(self.accepted(at, What::Proposed(term, index), operation));
                    }
                    Err(ProposeError::NotLeader { command, .. }) if forwards => command,
                    Err(_) => return None,
                };
                let id = raft.forward(command).ok()?;
                self.counts.forwards += 1;
                let operation = self.history.invoke(now, process, request.clone());
                server.application.wait_for_leader(id, operation);
                (What::Forwards, operation)
            }
            Request::Query(_) => {
                let read = raft.read().ok()?;
                self.counts.follower_reads += u64::from(raft.role() != Role::Leader);
                self.observer.on_read(server.id, read);
                let operation = self.history.invoke(now, process, request.clone());
                server.application.wait_for_read(read, operation);
                (What::AskedToRead, operation)
            }
        };
        Some(self.accepted(at, what, operation))
    }

    fn accepted(&mut self, at: usize, what: What, operation: usize) -> usize {
        self.counts.operations += 1;
        self.trace.note(self.now, self.ids[at], what);
        self.turn(at);
        operation
    }
}
