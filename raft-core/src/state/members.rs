//! The members by their positions in every table (§6): their ids, the quorum, and which of them
//! leave.

use alloc::vec::Vec;

use crate::checkpoint::stored;
use crate::insertion_sort::insertion_sort_by_key;
use crate::membership::{Membership, Suffrage};
use crate::quorum::{MEMBERS_MAX, MemberSet, Quorum};
use crate::types::NodeId;

/// The members by their positions in every table: those of the configuration in force, and those
/// that are leaving.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Members {
    /// By rising id.
    pub(crate) ids: Vec<NodeId>,
    /// The voters, and how many of them decide.
    pub(crate) quorum: Quorum,
    /// Those that are leaving: members until a configuration without them is committed.
    pub(crate) leaving: MemberSet,
    /// This server's position; none if it is no member.
    pub(crate) own: Option<usize>,
    /// Whether this server keeps its vote to itself.
    pub(crate) abstains: bool,
}

stored! { struct Members { ids, quorum, leaving, own, abstains } }

impl Members {
    pub(crate) fn new(own: NodeId, in_force: &Membership, leaving: Option<&Membership>) -> Self {
        let leaving = leaving.map_or(&[][..], Membership::members);
        let leaving = leaving.iter().filter(|member| in_force.suffrage(member.id).is_none());
        // If there is no place for all, members that leave get no removal notice.
        let all = in_force.members().iter().chain(leaving).take(MEMBERS_MAX);
        let mut ids: Vec<_> = all.map(|member| member.id).collect();
        insertion_sort_by_key(&mut ids, |id| *id);
        let suffrages = |votes: fn(Suffrage) -> bool| -> MemberSet {
            let with_seats = ids.iter().enumerate();
            let voting = with_seats.filter(|(_, id)| in_force.suffrage(**id).is_some_and(votes));
            voting.map(|(position, _)| position).collect()
        };
        let incoming = suffrages(Suffrage::votes_among_incoming);
        let outgoing = if in_force.is_joint() {
            suffrages(Suffrage::votes_among_outgoing)
        } else {
            MemberSet::default()
        };
        let with_seats = ids.iter().enumerate();
        let leaving = with_seats.filter(|(_, id)| in_force.suffrage(**id).is_none());
        let leaving = leaving.map(|(position, _)| position).collect();
        let own = ids.binary_search(&own).ok();
        Self { quorum: Quorum { incoming, outgoing }, leaving, own, ids, abstains: false }
    }

    pub(crate) fn position(&self, id: NodeId) -> Option<usize> {
        self.ids.binary_search(&id).ok()
    }

    /// The member at that position, which is always there: positions come from here.
    pub(crate) fn id(&self, position: usize) -> Option<NodeId> {
        debug_assert!(position < self.ids.len(), "a member at each position");
        self.ids.get(position).copied()
    }

    /// All positions but this server's.
    pub(crate) fn everyone_else(&self) -> MemberSet {
        self.without_self(MemberSet::all(self.ids.len()))
    }

    /// All voters but this server.
    pub(crate) fn other_voters(&self) -> MemberSet {
        self.without_self(self.quorum.voters())
    }

    /// Whether this server has a vote, and may use it.
    pub(crate) fn is_voter(&self) -> bool {
        !self.abstains && self.own.is_some_and(|own| self.quorum.voters().contains(own))
    }

    /// Whether this server decides alone.
    pub(crate) fn is_sole_voter(&self) -> bool {
        self.is_voter() && self.quorum.voters().len() == 1
    }

    fn without_self(&self, mut set: MemberSet) -> MemberSet {
        if let Some(own) = self.own {
            set.remove(own);
        }
        set
    }
}
