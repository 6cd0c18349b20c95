//! Membership churn: what an operator might ask of the leader, drawn from a number and the
//! membership as it is then.

use alloc::vec;
use alloc::vec::Vec;

use super::action::Churn;
use super::cluster::Cluster;
use super::state_machine::StateMachine;
use crate::change::Change;
use crate::membership::{Membership, Suffrage};
use crate::types::NodeId;

/// The most servers of a run, all that were ever started together.
pub(super) const SERVERS_MAX: u64 = 20;
/// The most members of a cluster, unless the cluster began with more.
const MEMBERS_MANY: usize = 8;

impl<S: StateMachine> Cluster<S> {
    /// Asks the leader for a change, if there is one.
    pub(super) fn churn(&mut self, churn: Churn, draw: u64) {
        self.retire_one(draw);
        let Some(leader) = self.newest_leader() else { return };
        let Some(membership) = self.raft(leader).map(|raft| raft.membership().clone()) else {
            return;
        };
        let changes = self.changes(&membership, churn, draw);
        if changes.is_empty() {
            return;
        }
        let count = match self.change_membership(leader, &changes) {
            Ok(_) if changes.len() > 1 => {
                self.counts.changes += 1;
                &mut self.counts.replacements
            }
            Ok(_) => &mut self.counts.changes,
            Err(_) => &mut self.counts.changes_refused,
        };
        *count += 1;
    }

    /// Asks the leader to hand over, to one of its members or to a successor of its choice.
    pub(super) fn ask_for_transfer(&mut self, draw: u64) {
        let Some(leader) = self.newest_leader() else { return };
        let members = self.raft(leader).map(|raft| raft.membership().clone());
        let members = members.unwrap_or_default();
        let to = pick(draw >> 8, members.voters().collect()).filter(|_| draw % 3 > 0);
        let asked = self.transfer_leadership(leader, to);
        self.counts.transfers += u64::from(asked.is_ok());
    }

    /// Switches off servers that are no longer members and will not be again, unless pre-vote and
    /// check-quorum protect the others from their requests for votes.
    pub(super) fn retire_removed(&mut self) {
        for at in 0..self.ids.len() {
            let server = &self.servers[at];
            let config = server
                .raft
                .as_ref()
                .map(|raft| (raft.server.config.pre_vote, raft.server.config.check_quorum));
            if config != Some((true, true)) && self.is_removed(self.ids[at]) {
                self.counts.retired += 1;
                self.retire(self.ids[at]);
            }
        }
    }

    /// An operator switches off one of the servers that were removed.
    fn retire_one(&mut self, draw: u64) {
        let removed = self
            .ids
            .iter()
            .copied()
            .filter(|id| !self.servers[self.at(*id)].is_retired && self.is_removed(*id));
        if let Some(id) = pick(draw >> 16, removed.collect()).filter(|_| draw % 2 == 0) {
            self.counts.retired += 1;
            self.retire(id);
        }
    }

    /// Whether a server was a member and no longer is, by the committed configurations. An id is
    /// used once, but a server that was removed before its first write may be added again.
    fn is_removed(&self, id: NodeId) -> bool {
        let is_member = self.observer.membership().suffrage(id).is_some();
        let comes_again = self.servers.iter().any(|server| {
            server.raft.as_ref().is_some_and(|raft| raft.membership().suffrage(id).is_some())
        });
        !is_member && !comes_again && self.observer.was_member(id)
    }

    fn changes(&mut self, membership: &Membership, churn: Churn, draw: u64) -> Vec<Change> {
        let of_suffrage = |of: fn(Suffrage) -> bool, draw: u64| {
            let members = membership.members().iter().filter(|member| of(member.suffrage));
            pick(draw, members.map(|member| member.id).collect())
        };
        let voter = of_suffrage(Suffrage::is_voter, draw >> 8);
        let learner = of_suffrage(|suffrage| !suffrage.is_voter(), draw >> 16);
        let member = of_suffrage(|_| true, draw >> 24);
        match churn {
            Churn::Join if membership.members().len() >= MEMBERS_MANY => vec![],
            Churn::Join => self.joiner(membership).into_iter().collect(),
            Churn::Promote => learner.map(Change::Promote).into_iter().collect(),
            Churn::Demote => voter.map(Change::Demote).into_iter().collect(),
            Churn::Remove => member.map(Change::Remove).into_iter().collect(),
            Churn::Replace => {
                let (promoted, removed) = (learner.map(Change::Promote), voter.map(Change::Remove));
                let (Some(promoted), Some(removed)) = (promoted, removed) else { return vec![] };
                let joiner = self.joiner(membership);
                [promoted, removed].into_iter().chain(joiner).collect()
            }
            Churn::Prioritise => {
                let priority = (draw % 3) as u8;
                let change = member.map(|id| Change::Prioritise { id, priority });
                change.into_iter().collect()
            }
        }
    }

    /// Adds a server that was started and never added, or else a new one.
    fn joiner(&mut self, membership: &Membership) -> Option<Change> {
        let idle = self.ids.iter().copied().find(|id| {
            let server = &self.servers[self.at(*id)];
            let is_new =
                !server.is_founder && server.disk.stored.hard_state.current_term.get() == 0;
            is_new && !server.is_retired && membership.suffrage(*id).is_none()
        });
        let id = match idle {
            Some(id) => id,
            None if self.ids.len() as u64 >= SERVERS_MAX => return None,
            None => {
                self.counts.joiners += 1;
                self.start_new()
            }
        };
        Some(Change::add_learner(id, "joiner"))
    }
}

fn pick(draw: u64, mut from: Vec<NodeId>) -> Option<NodeId> {
    let at = draw.checked_rem(from.len() as u64)?;
    Some(from.swap_remove(at as usize))
}
