//! While leadership is handed over (thesis 3.10): who waits for that, and the commands that come
//! meanwhile.
//!
//! A leader that hands over accepts no commands. They are parked here, in their order, and resolved
//! when the attempt is over: appended if it was given up, given back with the name of the new
//! leader if it succeeded.
//!
//! A leader that stops hands over first, be it asked to or because its state machine has panicked:
//! the log, its vote and what it sends are as good as before.

use std::collections::VecDeque;
use std::mem;
use std::vec::Vec;

use bytes::Bytes;
use rand_pcg::Pcg32;

use super::inbox::{Limits, Reply, TransferReply};
use crate::error::TransferRefused;
use crate::host::error::{ProposeError, Stopped, TransferError};
use crate::host::state_machine::StateMachine;
use crate::host::threads::panics::answer;
use crate::raft::Raft;
use crate::role::Role;
use crate::time::Instant;
use crate::types::NodeId;

/// Everyone who waits for the end of a transfer.
pub(super) struct Handover<S: StateMachine> {
    /// Who asked for the transfer under way, and whom it is to.
    asked: Vec<TransferReply>,
    to: Option<NodeId>,
    parked: VecDeque<(Bytes, Reply<S>)>,
    parked_bytes: usize,
    limits: Limits,
    /// Until when those who are parked wait for the name of a leader.
    leaderless_until: Option<Instant>,
    /// Until when a node that stops may still hand over.
    stops_by: Option<Instant>,
}

/// A command, and who waits for it.
pub(super) type Parked<S> = (Bytes, Reply<S>);

impl<S: StateMachine> Handover<S> {
    /// Nobody waits. As many commands may as `limits` say.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            asked: Vec::new(),
            to: None,
            parked: VecDeque::new(),
            parked_bytes: 0,
            limits,
            leaderless_until: None,
            stops_by: None,
        }
    }

    /// How many commands are parked.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Begins a transfer, or joins the one that is under way to the same node.
    pub(super) fn begin(
        &mut self,
        raft: &mut Raft<Bytes, Pcg32>,
        to: Option<NodeId>,
        reply: TransferReply,
    ) {
        match raft.transfer_leadership(to) {
            Ok(successor) => {
                self.to = Some(successor);
                self.asked.push(reply);
            }
            Err(TransferRefused::Transferring { to: other })
                if to.is_none_or(|to| to == other) && self.asked.len() < self.limits.inputs_max =>
            {
                self.to = Some(other);
                self.asked.push(reply);
            }
            Err(refused) => answer(reply, Err(refused.into())),
        }
    }

    /// Keeps a command until the transfer is over, if there is room.
    pub(super) fn park(&mut self, command: Bytes, reply: Reply<S>) {
        let bytes = command.len();
        if !self.limits.admit(self.parked.len(), self.parked_bytes, bytes) {
            return answer(reply, Err(ProposeError::Busy { command }));
        }
        self.parked_bytes = self.parked_bytes.saturating_add(bytes);
        self.parked.push_back((command, reply));
    }

    /// Answers those who wait for a transfer that is over. The commands that were parked come back,
    /// to be proposed again.
    ///
    /// A leader that steps down without a successor ends a transfer as well. Then the answer waits
    /// for the name of a leader, for `election_timeout_max` at most.
    pub(super) fn settle(
        &mut self,
        raft: &Raft<Bytes, Pcg32>,
        now: Instant,
    ) -> VecDeque<Parked<S>> {
        let waits = !self.asked.is_empty() || !self.parked.is_empty();
        if !waits || raft.transferring().is_some() {
            return VecDeque::new();
        }
        let patience = raft.config().election_timeout_max;
        let until = *self.leaderless_until.get_or_insert_with(|| now + patience);
        let leader = raft.leader();
        if leader.is_none() && now < until {
            return VecDeque::new();
        }
        let to = self.to.take();
        for reply in mem::take(&mut self.asked) {
            let result = match leader {
                Some(leader) if leader == raft.id() => {
                    Err(TransferError::GivenUp { to: to.unwrap_or(leader) })
                }
                Some(leader) => Ok(leader),
                None => Err(TransferError::NotLeader { leader: None }),
            };
            answer(reply, result);
        }
        self.leaderless_until = None;
        self.parked_bytes = 0;
        mem::take(&mut self.parked)
    }

    /// Whether a node that is to stop goes on for now, because it hands over first. Bounded by an
    /// election timeout.
    pub(super) fn delays_stop(&mut self, raft: &mut Raft<Bytes, Pcg32>, now: Instant) -> bool {
        let leads = raft.role() == Role::Leader;
        let Some(stops_by) = self.stops_by else {
            if leads {
                // If nobody can take over, or somebody is about to, that is as well.
                let _ = raft.transfer_leadership(None);
            }
            self.stops_by = Some(now + raft.config().election_timeout_max);
            return raft.transferring().is_some();
        };
        // The vote that the successor needs may be this node's: it stays until there is a new
        // leader.
        let is_leaderless = !leads && raft.leader().is_none();
        now < stops_by && (raft.transferring().is_some() || is_leaderless)
    }

    /// The next moment at which something is to be done here.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = !self.asked.is_empty() || !self.parked.is_empty();
        let leaderless = if waits { self.leaderless_until } else { None };
        [leaderless, self.stops_by].into_iter().flatten().min()
    }

    /// Tells everyone that the node has stopped; no command was appended.
    pub(super) fn stop(&mut self, stopped: &Stopped) {
        for reply in self.asked.drain(..) {
            answer(reply, Err(stopped.clone().into()));
        }
        for (command, reply) in self.parked.drain(..) {
            let reason = stopped.reason.clone();
            answer(reply, Err(ProposeError::Stopped { reason, command: Some(command) }));
        }
    }
}
