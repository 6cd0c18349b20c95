//! Commands that a follower forwards to its leader (§8, thesis 6.2: "the server can forward the
//! request to the leader"), so that clients may talk to any server.
//!
//! The leader appends a forwarded command as if its own client had proposed it, and says where. The
//! follower waits for the entry at that index: it applies the entry itself, and so has the reply of
//! its own state machine.
//!
//! **A leader takes each request once.** Messages may be repeated and overtaken, and a command must
//! not be applied twice for that. A follower has one request on its way, with all commands that
//! came meanwhile in the next one, and sends it again after a heartbeat interval without an answer.
//! A leader takes a request only in the replication session of the moment, and only if its key, the
//! pair of round and number, is above all keys that it took. The round is the newest that the
//! follower had seen from this leader, so the keys rise also when the follower has started again
//! and numbers anew:
//!
//! ```text
//! follower          leader
//!   (4, 17) ──────►   takes it, appends at 9; the answer is lost
//!   (4, 17) ──────►   the same key: says again "at 9"
//!   restarts
//!   (7, 3)  ──────►   takes it
//!   (4, 17) ──────►   a late copy: below (7, 3), so it is dropped
//! ```
//!
//! The first number of a life is random, so that no two lives share a key. If a request of a new
//! life has a key that is too low, because its round is not new, the leader drops it, and the
//! follower gives it up after `election_timeout_max`.
//!
//! **A command is forwarded once.** A server that does not lead drops the request: it neither
//! appends the commands nor sends them on. So two servers that each take the other for the leader
//! do no harm, and nor does a leader that has stepped down. The follower gives up what it sent
//! when the term ends, or when it misses its leader for an election timeout.
//!
//! What a follower can no longer tell, it calls unknown: the command may have been committed, or
//! may yet be. What it never sent, and what the leader refused, comes back.
//!
//! The leader's answer waits for no write: the index and the term say what the command is in *this*
//! leader's log, and that stays true if the leader forgets it.

use rand_core::Rng;

use crate::error::ProposeError;
use crate::message::{Body, Message, Propose, ProposeRefusal, ProposeReply};
use crate::raft::{Following, Leading, Raft};
use crate::state::forwards::Taken;
use crate::state::server::Server;
use crate::status::count;
use crate::types::{Command, NodeId, ProposalId};

impl<C: Command, R: Rng> Raft<C, R> {
    pub(crate) fn accept_forward(&mut self, command: C) -> Result<ProposalId, ProposeError<C>> {
        let following = self.following().map(|following| following.known.takes_proposals);
        if following != Some(true) {
            return Err(ProposeError::NotLeader { leader: self.leader(), command });
        }
        let config = &self.server.config;
        let (bytes, bytes_max) = (command.as_ref().len(), config.command_bytes_max);
        if bytes > bytes_max {
            return Err(ProposeError::TooLarge { bytes, bytes_max, command });
        }
        let (waiting_max, bytes_max) = (config.forwards_waiting_max, config.forwards_bytes_max);
        if self.server.forwards.len() >= waiting_max {
            return Err(ProposeError::TooManyForwarded { command });
        }
        let pushed = self.server.forwards.push(command, bytes_max);
        pushed.map_err(|command| ProposeError::TooManyForwarded { command })
    }

    /// The leader's answer.
    pub(crate) fn on_propose_reply(&mut self, from: NodeId, reply: ProposeReply) {
        let (term, handed_out) = (self.server.current_term, self.server.apply_sent);
        let is_leader = self.following().is_some_and(|following| following.known.id == from);
        if !is_leader || !self.server.forwards.on_reply(reply, from, term, handed_out) {
            count(&mut self.server.counters.stale_replies);
        }
    }
}

impl<C: Command, R: Rng> Following<'_, C, R> {
    /// A follower's request to its leader: the commands that wait, or the last ones again.
    pub(crate) fn next_propose(&mut self) -> Option<Message<C>> {
        if !self.server.forwards.wait_for_leader() {
            return None;
        }
        let patience = self.server.config.heartbeat_interval_at(self.known.timeout_in_force);
        let since = (self.known.session, self.known.round);
        let (now, bytes_max) = (self.server.now, self.server.config.append_bytes_max);
        let request = self.server.forwards.next_request(now, patience, since, bytes_max)?;
        Some(self.server.message(self.known.id, Body::Propose(request)))
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// A leader that is heard of and does not answer is not waited for any longer; with each tick.
    /// A follower ticks at least as often as it hears a heartbeat, and else its election timer
    /// fires.
    pub(crate) fn give_up_forwards(&mut self) {
        let patience = self.config.election_timeout_max;
        self.forwards.give_up(self.now, patience);
    }
}

impl<C: Command, R: Rng> Leading<'_, C, R> {
    /// A follower's request to append commands for its clients.
    pub(crate) fn on_propose(&mut self, from: NodeId, request: Propose<C>) {
        let Propose { round, session, id, commands } = request;
        let position = self.server.members.position(from);
        let Leading { leader, server } = self;
        let peer = position.and_then(|position| Some((position, leader.peers.get(position)?)));
        let Some((position, peer)) = peer else {
            count(&mut server.counters.unknown_sender);
            return;
        };
        let (key, newest) = ((round, id), peer.taken.key);
        if session != peer.session() || key <= newest {
            count(&mut server.counters.stale_forwards);
            if session == peer.session() && key == newest {
                leader.to_answer.insert(position);
            }
            return;
        }
        let first = server.log.last().index.next();
        let mut taken = Taken { key, first, appended: 0, refusal: None };
        let asked = commands.len() as u64;
        for command in commands {
            match self.propose(command) {
                Ok(_) => taken.appended = taken.appended.saturating_add(1),
                Err(error) => {
                    taken.refusal = Some(refusal(&error));
                    break;
                }
            }
        }
        let Leading { leader, server } = self;
        let appended = u64::from(taken.appended);
        let counters = &mut server.counters;
        counters.forwards_taken = counters.forwards_taken.saturating_add(appended);
        let refused = asked.saturating_sub(appended);
        counters.forwards_refused = counters.forwards_refused.saturating_add(refused);
        if let Some(peer) = leader.peers.get_mut(position) {
            peer.taken = taken;
            leader.to_answer.insert(position);
        }
    }

    /// The answer to a follower whose commands this leader took.
    #[inline]
    pub(crate) fn next_propose_reply(&mut self) -> Option<Message<C>> {
        let position = self.leader.to_answer.first()?;
        self.leader.to_answer.remove(position);
        let to = self.server.members.id(position)?;
        let Taken { key, first, appended, refusal } = self.leader.peers.get(position)?.taken;
        let reply = ProposeReply { id: key.1, first, appended, refusal };
        Some(self.server.message(to, Body::ProposeReply(reply)))
    }
}

/// The number of a reason that no version names.
const OTHER: u64 = u64::MAX;

fn refusal<C>(error: &ProposeError<C>) -> ProposeRefusal {
    match error {
        ProposeError::TooLarge { bytes_max, .. } => ProposeRefusal::TooLarge(*bytes_max as u64),
        ProposeError::LogFull { bytes_max, .. } => ProposeRefusal::LogFull(*bytes_max as u64),
        ProposeError::TooManyUncommitted { bytes_max, .. } => {
            ProposeRefusal::TooManyUncommitted(*bytes_max as u64)
        }
        ProposeError::Transferring { to, .. } => ProposeRefusal::Transferring(*to),
        // A leader gives no other reason.
        ProposeError::NotLeader { .. } | ProposeError::TooManyForwarded { .. } => {
            ProposeRefusal::Other(OTHER)
        }
    }
}
