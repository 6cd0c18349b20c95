//! A transfer of leadership (thesis 3.10): which clients wait for it, and the commands that arrive
//! meanwhile.
//!
//! A leader that hands over accepts no commands. The commands are parked here in their order until
//! the attempt is over. If the attempt was given up, they are appended. If it succeeded, they are
//! given back with the name of the new leader.
//!
//! A leader hands over before it stops, also if its state machine has panicked, because its log,
//! its vote and its messages are as good as before.

use std::collections::VecDeque;
use std::mem;
use std::vec::Vec;

use super::inbox::{Limits, ProposeRequest, TransferReply};
use super::inputs::Core;
use super::meter::Meter;
use crate::error::TransferRefused;
use crate::host::error::{ProposeError, Stopped, TransferError};
use crate::host::state_machine::StateMachine;
use crate::host::threads::panics::answer;
use crate::role::Role;
use crate::time::Instant;
use crate::types::NodeId;

/// The clients that wait for the end of a transfer.
pub(super) struct Handover<S: StateMachine> {
    /// The clients that asked for the transfer under way, and its target.
    asked: Vec<TransferReply>,
    to: Option<NodeId>,
    parked: VecDeque<ProposeRequest<S>>,
    parked_bytes: usize,
    limits: Limits,
    /// Until when parked commands wait for the name of a leader.
    leaderless_until: Option<Instant>,
    /// Until when a node that is to stop may still hand over.
    stops_by: Option<Instant>,
}

impl<S: StateMachine> Handover<S> {
    /// No clients; at most as many parked commands as `limits` allow.
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

    /// Begins a transfer, or joins the one that is under way to the same node, or returns why that
    /// is not possible.
    pub(super) fn begin(
        &mut self,
        raft: &mut Core,
        to: Option<NodeId>,
        reply: TransferReply,
    ) -> Result<(), (TransferReply, TransferError)> {
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
            Err(refused) => return Err((reply, refused.into())),
        }
        Ok(())
    }

    /// Parks a command until the transfer is over, if there is room.
    pub(super) fn park(&mut self, proposal: ProposeRequest<S>, meter: &Meter) {
        let bytes = proposal.command.len();
        if !self.limits.admit(self.parked.len(), self.parked_bytes, bytes) {
            let ProposeRequest { command, reply, .. } = proposal;
            meter.cells().totals.proposals_refused_busy.add(1);
            return answer(reply, Err(ProposeError::Busy { command }));
        }
        self.parked_bytes = self.parked_bytes.saturating_add(bytes);
        self.parked.push_back(proposal);
    }

    /// If the transfer is over, answers the clients that wait for it, and returns the parked
    /// commands to be proposed again.
    ///
    /// A transfer also ends if the leader steps down without a successor. Then the answer waits for
    /// the name of a leader, for `election_timeout_max` at most.
    pub(super) fn settle(&mut self, raft: &Core, now: Instant) -> VecDeque<ProposeRequest<S>> {
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
                None => Err(TransferError::NotLeader { leader: None, address: None }),
            };
            answer(reply, result);
        }
        self.leaderless_until = None;
        self.parked_bytes = 0;
        mem::take(&mut self.parked)
    }

    /// Whether a node that is to stop goes on for now because it hands over first. It does so for
    /// an election timeout at most.
    pub(super) fn delays_stop(&mut self, raft: &mut Core, now: Instant) -> bool {
        let leads = raft.role() == Role::Leader;
        let Some(stops_by) = self.stops_by else {
            if leads {
                // An error means that no server can take over, or that a transfer is under way
                // already.
                let _ = raft.transfer_leadership(None);
            }
            self.stops_by = Some(now + raft.config().election_timeout_max);
            return raft.transferring().is_some();
        };
        // The successor may need this node's vote, so the node stays until there is a new leader.
        let is_leaderless = !leads && raft.leader().is_none();
        now < stops_by && (raft.transferring().is_some() || is_leaderless)
    }

    /// The next moment at which a transfer needs a turn.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = !self.asked.is_empty() || !self.parked.is_empty();
        let leaderless = if waits { self.leaderless_until } else { None };
        [leaderless, self.stops_by].into_iter().flatten().min()
    }

    /// Tells every client that the node has stopped. None of their commands was appended.
    pub(super) fn stop(&mut self, stopped: &Stopped) {
        for reply in self.asked.drain(..) {
            answer(reply, Err(stopped.clone().into()));
        }
        for ProposeRequest { command, reply, .. } in self.parked.drain(..) {
            let reason = stopped.reason.clone();
            answer(reply, Err(ProposeError::Stopped { reason, command: Some(command) }));
        }
    }
}
