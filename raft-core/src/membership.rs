//! Cluster membership (§6): the members of a cluster, and whether each of them votes.
//!
//! Any change of voters passes through a joint configuration, in which decisions need a majority of
//! the old voters and one of the new. Each member holds one suffrage, and a suffrage says both what
//! the member is now and what it becomes when the joint configuration is left; so no configuration
//! can contradict itself.
//!
//! ```text
//!              change                      committed
//!   Voter    ─────────► Outgoing / Demoted ─────────► gone / Learner
//!   Learner  ─────────► Incoming           ─────────► Voter
//!                        (joint)
//! ```
//!
//! Learners are not voters: they come, go and change their labels without a joint configuration.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::change::{Change, MembershipError};
use crate::checkpoint::stored;
use crate::identity::{ClusterFacts, ClusterIdentity, MemberStore};
use crate::insertion_sort::insertion_sort_by_key;
use crate::quorum::MEMBERS_MAX;
use crate::types::NodeId;

pub use crate::identity::LABEL_BYTES_MAX;

/// How a member takes part in decisions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Suffrage {
    /// Votes, and counts towards commits.
    Voter,
    /// Receives the log and counts for nothing: a server that catches up, or one that only reads.
    Learner,
    /// Joint: votes among the new voters alone.
    Incoming,
    /// Joint: votes among the old voters alone, and will be no member.
    Outgoing,
    /// Joint: votes among the old voters alone, and will be a learner.
    Demoted,
}

stored! { enum Suffrage { 0 Voter {}, 1 Learner {}, 2 Incoming {}, 3 Outgoing {}, 4 Demoted {}, } }

impl Suffrage {
    /// Whether the member votes at all.
    pub fn is_voter(self) -> bool {
        self != Self::Learner
    }

    /// Whether it is one of the voters, or of the new voters of a joint configuration.
    pub(crate) fn votes_among_incoming(self) -> bool {
        matches!(self, Self::Voter | Self::Incoming)
    }

    /// Whether it is one of the old voters of a joint configuration.
    pub(crate) fn votes_among_outgoing(self) -> bool {
        matches!(self, Self::Voter | Self::Outgoing | Self::Demoted)
    }

    fn is_joint(self) -> bool {
        matches!(self, Self::Incoming | Self::Outgoing | Self::Demoted)
    }

    /// What becomes of it when the joint configuration is left; none if it goes.
    fn after_joint(self) -> Option<Self> {
        match self {
            Self::Voter | Self::Incoming => Some(Self::Voter),
            Self::Learner | Self::Demoted => Some(Self::Learner),
            Self::Outgoing => None,
        }
    }
}

/// A server in a configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Member {
    /// The server.
    pub id: NodeId,
    /// How it takes part.
    pub suffrage: Suffrage,
    /// A leader hands over to the voter of the highest priority that keeps up (thesis 3.10).
    /// Never keeps a server from leading when no better one can.
    pub priority: u8,
    /// What the host knows the server by, such as an address. Opaque to Raft; at most
    /// [`LABEL_BYTES_MAX`] bytes.
    pub label: Vec<u8>,
    /// Its store. No change of the label touches it.
    pub store: MemberStore,
}

stored! { struct Member { id, suffrage, priority, label, store } }

/// A configuration: the members of a cluster, by rising id.
///
/// # Example
///
/// ```
/// use raft_core::{Change, Membership, NodeId, Suffrage};
///
/// let three = Membership::of_voters([1, 2, 3].map(NodeId::new));
/// let with_learner = three.after(&[Change::add_learner(NodeId::new(4), "host-d:7000")])?;
/// assert_eq!(with_learner.suffrage(NodeId::new(4)), Some(Suffrage::Learner));
/// # Ok::<(), raft_core::MembershipError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Membership {
    members: Vec<Member>,
    /// Boxed, for a message holds a configuration, and larger messages cost speed. `None` says the
    /// same as the default.
    cluster: Option<Box<ClusterFacts>>,
}

stored! { struct Membership { members, cluster } }

impl Membership {
    /// Voters only, with empty labels. Ids that come twice are taken once.
    pub fn of_voters(ids: impl IntoIterator<Item = NodeId>) -> Self {
        let (suffrage, priority, store) = (Suffrage::Voter, 0, MemberStore::Unrecorded);
        let voter = |id| Member { id, suffrage, priority, label: Vec::new(), store };
        let mut members: Vec<_> = ids.into_iter().map(voter).collect();
        insertion_sort_by_key(&mut members, |member| member.id);
        members.dedup_by_key(|member| member.id);
        Self { members, cluster: None }
    }

    /// These members.
    ///
    /// # Errors
    ///
    /// If an id comes twice, nobody votes, there are more than [`MEMBERS_MAX`], or a label is too
    /// long.
    pub fn of_members(members: impl IntoIterator<Item = Member>) -> Result<Self, MembershipError> {
        let mut members: Vec<_> = members.into_iter().collect();
        insertion_sort_by_key(&mut members, |member| member.id);
        let mut pairs = members.iter().zip(members.iter().skip(1));
        if let Some((twice, _)) = pairs.find(|(member, next)| member.id == next.id) {
            return Err(MembershipError::AlreadyMember(twice.id));
        }
        let membership = Self { members, cluster: None };
        membership.validate()?;
        Ok(membership)
    }

    /// The same members in the cluster of that identity.
    #[must_use]
    pub fn identified(self, identity: Option<ClusterIdentity>) -> Self {
        self.with(|cluster| cluster.identity = identity)
    }

    /// The same members, with that version of the application in force.
    #[must_use]
    pub fn at_version(self, version: u32) -> Self {
        self.with(|cluster| cluster.version = version)
    }

    /// The identity of the cluster; `None` until its first leader has written it.
    pub fn identity(&self) -> Option<ClusterIdentity> {
        self.cluster.as_ref()?.identity
    }

    /// The version of the application that is in force: every member understands the commands and
    /// snapshots of this version. It begins at 0 and only ever rises, by
    /// [`Change::RaiseVersion`]. Opaque to Raft; a host lets it rise only if every member
    /// understands it, and stops a server that does not.
    pub fn version(&self) -> u32 {
        self.cluster.as_ref().map_or(0, |cluster| cluster.version)
    }

    /// The members, by rising id.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of that id.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        let at = self.members.binary_search_by_key(&id, |member| member.id).ok()?;
        self.members.get(at)
    }

    /// The suffrage of that server; none if it is no member.
    pub fn suffrage(&self, id: NodeId) -> Option<Suffrage> {
        self.member(id).map(|member| member.suffrage)
    }

    /// Everyone with a vote; during a change the old voters and the new.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(|member| member.suffrage.is_voter()).map(|member| member.id)
    }

    /// Whether a change of voters is under way (§6).
    pub fn is_joint(&self) -> bool {
        self.members.iter().any(|member| member.suffrage.is_joint())
    }

    /// Whether there is nobody: the server has yet to be told of its cluster.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What these changes make of it, in that order, once they are complete.
    ///
    /// # Errors
    ///
    /// As [`MembershipError`] says. A membership that is joint is taken as if that change were
    /// complete.
    pub fn after(&self, changes: &[Change]) -> Result<Self, MembershipError> {
        let start = self.after_joint();
        let mut target = start.clone();
        for change in changes {
            if let Change::AddLearner { id, .. } = change {
                if start.suffrage(*id).is_some() && target.suffrage(*id).is_none() {
                    return Err(MembershipError::RemovedAndAdded(*id));
                }
            }
            target.apply(change)?;
        }
        target.validate()?;
        if target == *self { Err(MembershipError::Nothing) } else { Ok(target) }
    }

    /// The configuration on the way to `target`: joint, if the voters change, else `target` itself.
    pub(crate) fn towards(&self, target: &Self) -> Self {
        let gone = self.members.iter().filter(|member| target.suffrage(member.id).is_none());
        let gone = gone.cloned().map(|member| Member {
            suffrage: if member.suffrage.is_voter() { Suffrage::Outgoing } else { member.suffrage },
            ..member
        });
        let kept = target.members.iter().cloned().map(|member| {
            let was_voter = self.suffrage(member.id).is_some_and(Suffrage::is_voter);
            let suffrage = match (was_voter, member.suffrage.is_voter()) {
                (true, true) => Suffrage::Voter,
                (true, false) => Suffrage::Demoted,
                (false, true) => Suffrage::Incoming,
                (false, false) => Suffrage::Learner,
            };
            Member { suffrage, ..member }
        });
        // A learner that is removed has no vote, so it is no part of the joint configuration.
        let gone = gone.filter(|member| member.suffrage == Suffrage::Outgoing);
        let mut members: Vec<_> = kept.chain(gone).collect();
        insertion_sort_by_key(&mut members, |member| member.id);
        Self { members, cluster: target.cluster.clone() }
    }

    /// The configuration after a joint one: that of the new voters alone.
    pub(crate) fn after_joint(&self) -> Self {
        let members = self.members.iter().filter_map(|member| {
            member.suffrage.after_joint().map(|suffrage| Member { suffrage, ..member.clone() })
        });
        Self { members: members.collect(), cluster: self.cluster.clone() }
    }

    /// What it counts towards limits in bytes.
    pub(crate) fn size(&self) -> usize {
        const MEMBER_OVERHEAD_BYTES: usize = 32;
        let labels = self.members.iter().map(|member| member.label.len());
        labels.map(|label| label.saturating_add(MEMBER_OVERHEAD_BYTES)).sum()
    }

    fn apply(&mut self, change: &Change) -> Result<(), MembershipError> {
        match change {
            Change::AddLearner { id, label } => {
                let Err(at) = self.members.binary_search_by_key(id, |member| member.id) else {
                    return Err(MembershipError::AlreadyMember(*id));
                };
                let (suffrage, label, store) = (Suffrage::Learner, label.clone(), MemberStore::New);
                self.members.insert(at, Member { id: *id, suffrage, priority: 0, label, store });
            }
            Change::Promote(id) => {
                let member = self.member_mut(*id)?;
                if member.suffrage.is_voter() {
                    return Err(MembershipError::NotLearner(*id));
                }
                member.suffrage = Suffrage::Voter;
            }
            Change::Demote(id) => {
                let member = self.member_mut(*id)?;
                if !member.suffrage.is_voter() {
                    return Err(MembershipError::NotVoter(*id));
                }
                member.suffrage = Suffrage::Learner;
            }
            Change::Remove(id) => {
                self.member_mut(*id)?;
                self.members.retain(|member| member.id != *id);
            }
            Change::Relabel { id, label } => self.member_mut(*id)?.label.clone_from(label),
            Change::Prioritise { id, priority } => self.member_mut(*id)?.priority = *priority,
            Change::Identify(identity) => {
                if self.identity().is_some() {
                    return Err(MembershipError::AlreadyIdentified);
                }
                self.change_cluster(|cluster| cluster.identity = Some(*identity));
            }
            Change::RecordStore { id, store } => {
                let member = self.member_mut(*id)?;
                if member.store.recorded().is_some() {
                    return Err(MembershipError::StoreRecorded(*id));
                }
                member.store = MemberStore::Recorded(*store);
            }
            Change::RaiseVersion(version) => {
                if *version <= self.version() {
                    return Err(MembershipError::VersionInForce(self.version()));
                }
                self.change_cluster(|cluster| cluster.version = *version);
            }
        }
        Ok(())
    }

    fn with(mut self, change: impl FnOnce(&mut ClusterFacts)) -> Self {
        self.change_cluster(change);
        self
    }

    fn change_cluster(&mut self, change: impl FnOnce(&mut ClusterFacts)) {
        let mut facts = self.cluster.take().unwrap_or_default();
        change(&mut facts);
        self.cluster = (*facts != ClusterFacts::default()).then_some(facts);
    }

    fn member_mut(&mut self, id: NodeId) -> Result<&mut Member, MembershipError> {
        let member = self.members.iter_mut().find(|member| member.id == id);
        member.ok_or(MembershipError::NotMember(id))
    }

    /// Whether a cluster can be this.
    pub(crate) fn validate(&self) -> Result<(), MembershipError> {
        if self.members.len() > MEMBERS_MAX {
            return Err(MembershipError::TooManyMembers);
        }
        if let Some(long) = self.members.iter().find(|member| member.label.len() > LABEL_BYTES_MAX)
        {
            return Err(MembershipError::LabelTooLong(long.id));
        }
        // A joint configuration comes from one that was valid, and leads to one.
        let someone = |votes: fn(Suffrage) -> bool| self.members.iter().any(|m| votes(m.suffrage));
        let decides = someone(Suffrage::votes_among_incoming)
            && (!self.is_joint() || someone(Suffrage::votes_among_outgoing));
        if decides { Ok(()) } else { Err(MembershipError::NoVoter) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn id(number: u64) -> NodeId {
        NodeId::new(number)
    }

    fn voters(ids: &[u64]) -> Membership {
        Membership::of_voters(ids.iter().copied().map(NodeId::new))
    }

    #[test]
    fn a_change_of_voters_passes_through_a_joint_configuration() {
        let three = voters(&[1, 2, 3]);
        let grown = three.after(&[Change::add_learner(id(4), "d")]).unwrap();
        assert_eq!(three.towards(&grown), grown, "learners come without");

        let target = grown.after(&[Change::Promote(id(4)), Change::Remove(id(1))]).unwrap();
        let joint = grown.towards(&target);
        let suffrages: Vec<_> = joint.members().iter().map(|member| member.suffrage).collect();
        assert_eq!(
            suffrages,
            [Suffrage::Outgoing, Suffrage::Voter, Suffrage::Voter, Suffrage::Incoming]
        );
        assert!(joint.is_joint());
        assert_eq!(joint.after_joint(), target);
        assert_eq!(joint.member(id(4)).map(|member| &*member.label), Some(&b"d"[..]));
    }

    #[test]
    fn a_demoted_voter_ends_as_a_learner() {
        let three = voters(&[1, 2, 3]);
        let target = three.after(&[Change::Demote(id(3))]).unwrap();
        let joint = three.towards(&target);
        assert_eq!(joint.suffrage(id(3)), Some(Suffrage::Demoted));
        assert_eq!(joint.after_joint().suffrage(id(3)), Some(Suffrage::Learner));
    }

    #[test]
    fn a_version_only_rises_and_no_other_change_touches_it() {
        let at_two = voters(&[1, 2]).after(&[Change::RaiseVersion(2)]).unwrap();
        assert_eq!((voters(&[1, 2]).version(), at_two.version()), (0, 2));
        for version in 0..=2 {
            let refused = at_two.after(&[Change::RaiseVersion(version)]);
            assert_eq!(refused, Err(MembershipError::VersionInForce(2)));
        }
        let identify = Change::Identify(ClusterIdentity::new(9));
        let target = at_two.after(&[Change::Remove(id(1)), identify]).unwrap();
        let joint = at_two.towards(&target);
        assert_eq!([joint.version(), joint.after_joint().version()], [2, 2]);
        assert_eq!(at_two.at_version(0), voters(&[1, 2]), "nothing is left of it");
    }

    #[test]
    fn a_store_and_an_identity_are_recorded_once() {
        let record = |id, store| Change::RecordStore { id, store };
        let identify = |number| Change::Identify(ClusterIdentity::new(number));
        let changes = [identify(9), record(id(1), 7), Change::add_learner(id(2), "b")];
        let known = voters(&[1]).after(&changes).unwrap();
        assert_eq!(known.identity(), Some(ClusterIdentity::new(9)));
        let store = |membership: &Membership, number| membership.member(id(number)).unwrap().store;
        assert_eq!(store(&known, 1), MemberStore::Recorded(7));
        assert_eq!(store(&known, 2), MemberStore::New);
        assert_eq!(known.after(&[identify(8)]), Err(MembershipError::AlreadyIdentified));
        assert_eq!(known.after(&[record(id(1), 8)]), Err(MembershipError::StoreRecorded(id(1))));

        let relabel = Change::Relabel { id: id(1), label: b"elsewhere".to_vec() };
        let grown = known.after(&[relabel, record(id(2), 5), Change::Promote(id(2))]).unwrap();
        for membership in [known.towards(&grown), grown] {
            assert_eq!(store(&membership, 1), MemberStore::Recorded(7), "whatever the label says");
            assert_eq!(store(&membership, 2), MemberStore::Recorded(5));
            assert_eq!(membership.identity(), known.identity());
        }
    }

    #[test]
    fn no_member_takes_another_store_within_one_change() {
        let three = voters(&[1, 2, 3]);
        let again = [Change::Remove(id(3)), Change::add_learner(id(3), "c")];
        let promoted = [&again[..], &[Change::Promote(id(3))]].concat();
        for changes in [&again[..], &promoted] {
            assert_eq!(three.after(changes), Err(MembershipError::RemovedAndAdded(id(3))));
        }
        let without = three.after(&[Change::Remove(id(3))]).unwrap();
        assert!(without.after(&[Change::add_learner(id(3), "c")]).is_ok());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let one = voters(&[1]);
        let refused = [
            (vec![Change::add_learner(id(1), "")], MembershipError::AlreadyMember(id(1))),
            (vec![Change::Promote(id(2))], MembershipError::NotMember(id(2))),
            (vec![Change::Promote(id(1))], MembershipError::NotLearner(id(1))),
            (vec![Change::Remove(id(1))], MembershipError::NoVoter),
            (vec![Change::Demote(id(1))], MembershipError::NoVoter),
            (
                vec![Change::add_learner(id(2), [0; LABEL_BYTES_MAX + 1])],
                MembershipError::LabelTooLong(id(2)),
            ),
            (
                (2..66).map(|n| Change::add_learner(id(n), "")).collect(),
                MembershipError::TooManyMembers,
            ),
            (vec![], MembershipError::Nothing),
        ];
        for (changes, error) in refused {
            assert_eq!(one.after(&changes), Err(error));
        }
    }
}
