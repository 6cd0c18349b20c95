//! Majorities (§6): a decision needs a majority of the voters of the configuration in force, and of
//! the old voters as well while that configuration is joint. The newest configuration in a server's
//! log is in force there.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::Rng;

use super::super::violation::{Verdict, hold};
use super::disk::Removed;
use super::in_force::InForce;
use super::{Observer, position};
use crate::entries::Payload;
use crate::membership::{Membership, Suffrage};
use crate::raft::Raft;
use crate::role::Role;
use crate::types::{Command, Index, LogId, NodeId};

/// Whether these servers are enough to decide.
pub(super) fn decide(membership: &Membership, agrees: impl Fn(NodeId) -> bool) -> bool {
    let outgoing = !membership.is_joint() || is_majority(membership, is_old_voter, &agrees);
    outgoing && is_majority(membership, is_new_voter, agrees)
}

fn is_majority(
    membership: &Membership,
    votes: fn(Suffrage) -> bool,
    agrees: impl Fn(NodeId) -> bool,
) -> bool {
    let (mut voters, mut agree) = (0, 0);
    for member in membership.members().iter().filter(|member| votes(member.suffrage)) {
        voters += 1;
        agree += usize::from(agrees(member.id));
    }
    agree * 2 > voters
}

/// Written here again on purpose, because the core's own rule is what is checked.
fn is_new_voter(suffrage: Suffrage) -> bool {
    match suffrage {
        Suffrage::Voter | Suffrage::Incoming => true,
        Suffrage::Learner | Suffrage::Outgoing | Suffrage::Demoted => false,
    }
}

fn is_old_voter(suffrage: Suffrage) -> bool {
    match suffrage {
        Suffrage::Voter | Suffrage::Outgoing | Suffrage::Demoted => true,
        Suffrage::Learner | Suffrage::Incoming => false,
    }
}

impl<C: Command + Eq> Observer<C> {
    /// Looks for a newer configuration in what a server's log has got since its last turn, and
    /// compares it with what the server takes to be in force. Returns what was in force before.
    pub(super) fn follow_members<R: Rng>(
        &mut self,
        raft: &Raft<C, R>,
    ) -> Result<Option<InForce>, alloc::boxed::Box<super::Violation>> {
        let id = raft.id();
        let at = position(&self.servers, id);
        let seen = &self.servers[at];
        let (last, base) = (raft.server.log.last(), raft.server.log.base());
        if last == seen.last {
            return Ok(None);
        }
        let is_first = seen.members.membership.is_empty();
        let grows =
            seen.last.index >= base.index && raft.server.log.contains(seen.last) && !is_first;
        let (mut newest, from) = match grows {
            true => (seen.members.clone(), seen.last.index),
            false => {
                let snapshot = &raft.server.snapshots.last;
                let membership = snapshot.membership.clone();
                (InForce { index: snapshot.last.index, membership }, base.index)
            }
        };
        let (entries, _) = raft.server.log.slice(from.next(), last.index, usize::MAX);
        for entry in &entries {
            if let Payload::Configuration(membership) = &entry.payload {
                self.members_change = true;
                if entry.index > newest.index {
                    newest = InForce { index: entry.index, membership: (**membership).clone() };
                }
            }
        }
        hold!(
            newest.membership == *raft.membership(),
            MembersByLog,
            "the newest configuration in the log of server {id} is {:?}, in force is {:?}",
            newest.membership,
            raft.membership()
        );
        let before = core::mem::replace(&mut self.servers[at].members, newest);
        Ok(Some(before).filter(|_| !is_first))
    }

    /// A server that won an election has the votes of a majority.
    pub(super) fn check_elected<R: Rng>(&self, raft: &Raft<C, R>, in_force: &InForce) -> Verdict {
        let (id, term) = (raft.id(), raft.term());
        let voted = |voter| {
            self.votes.get(&(term, voter)) == Some(&id)
                || self.lost_votes.contains(&(term, voter, id))
        };
        hold!(
            decide(&in_force.membership, voted),
            ElectionSafety,
            "server {id} leads term {term} without a majority of {:?}",
            in_force.membership
        );
        Ok(())
    }

    /// An entry that a leader commits is on the disks of a majority, by the configuration that was
    /// in force before this turn, or by the next one once that one is committed.
    pub(super) fn check_majority<R: Rng>(
        &self,
        raft: &Raft<C, R>,
        before: Option<&InForce>,
    ) -> Verdict {
        let (id, index) = (raft.id(), raft.server.commit_index);
        let Some(term) = raft.server.log.term_at(index) else { return Ok(()) };
        let now = &self.server(id).members;
        let before = before.unwrap_or(now);
        let held = |membership, entry| decide(membership, |server| self.holds(server, entry));
        let committed = LogId::new(term, index);
        let configuration =
            raft.server.log.term_at(before.index).map(|of| LogId::new(of, before.index));
        let by_both = held(&now.membership, committed)
            && configuration.is_none_or(|at| held(&before.membership, at));
        hold!(
            held(&before.membership, committed) || by_both,
            LeaderCompleteness,
            "leader {id} takes {committed} for committed, which is on the disks of {} alone",
            self.holders(committed)
        );
        Ok(())
    }

    /// A server may replace an entry that is committed without its knowledge: a leader of an
    /// earlier term sent the entry, and a late message of another earlier leader removes it. But a
    /// majority keeps the entry.
    pub(super) fn check_removed(&self, id: NodeId, removed: Option<Removed>) -> Verdict {
        let Some(Removed { from, through }) = removed else { return Ok(()) };
        for index in from.get()..=through.get().min(self.committed().get()) {
            let Some(committed) = self.committed_at(Index::new(index)) else { continue };
            // The old voters of a joint configuration may have left already, although no server has
            // reported that.
            let kept = is_majority(&self.members.membership, is_new_voter, |server| {
                self.holds(server, committed)
            });
            hold!(
                kept,
                LeaderCompleteness,
                "server {id} removes the committed entry {index}, which is left on the disks of {} alone",
                self.holders(committed)
            );
        }
        Ok(())
    }

    fn holds(&self, id: NodeId, entry: LogId) -> bool {
        let found = self.find(id);
        found.is_some_and(|server| server.holds(entry))
    }

    /// The servers whose disks hold this committed entry.
    fn holders(&self, entry: LogId) -> String {
        let holders = self.servers.iter().filter(|server| server.holds(entry));
        let names: Vec<_> = holders.map(|server| format!("server {}", server.id)).collect();
        if names.is_empty() { String::from("no server") } else { names.join(", ") }
    }

    /// Messages to or from a server that is no member are expected once members come and go.
    pub(super) fn check_counters<R: Rng>(&self, raft: &Raft<C, R>) -> Verdict {
        let counters = &raft.server.counters;
        let unknown = counters.unknown_sender > 0 && !self.members_change;
        let strange = counters.misrouted > 0 || unknown;
        let odd = counters.protocol_violations | counters.malformed | counters.api_misuse;
        let fine = odd == 0 && (!strange || self.tolerates_strangers);
        hold!(fine, NoImpossibleInput, "server {} counts {counters:?}", raft.id());
        Ok(())
    }

    /// Whether this server led this term when it was last seen.
    pub(super) fn led(&self, id: NodeId, term: crate::Term) -> bool {
        let seen = self.server(id);
        seen.role == Role::Leader && seen.term == term
    }
}
