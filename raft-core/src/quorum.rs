//! Majorities (§5.2), single and joint (§6), over the positions of servers in a sorted list of
//! members.

use crate::checkpoint::stored;

/// The most members of a cluster, voters and learners together.
pub const MEMBERS_MAX: usize = 64;

/// A set of members by their position. Copied freely, never allocates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct MemberSet(u64);

stored! { struct MemberSet(_) }

impl MemberSet {
    /// The first `count` positions.
    pub(crate) fn all(count: usize) -> Self {
        debug_assert!(count <= MEMBERS_MAX);
        let others = u32::try_from(count).ok().and_then(|count| u64::MAX.checked_shl(count));
        Self(!others.unwrap_or(0))
    }

    pub(crate) fn insert(&mut self, position: usize) {
        self.0 |= 1 << position;
    }

    pub(crate) fn remove(&mut self, position: usize) {
        self.0 &= !(1 << position);
    }

    pub(crate) fn contains(self, position: usize) -> bool {
        self.0 & (1 << position) != 0
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The positions, in rising order.
    pub(crate) fn iter(mut self) -> impl Iterator<Item = usize> {
        core::iter::from_fn(move || {
            let position = self.first()?;
            self.remove(position);
            Some(position)
        })
    }

    /// The positions that both sets hold.
    pub(crate) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromIterator<usize> for MemberSet {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut set = Self::default();
        positions.into_iter().for_each(|position| set.insert(position));
        set
    }
}

/// The voters that must agree: a majority of them, and during a change of membership also a
/// majority of the outgoing voters (§6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Quorum {
    /// The voters of the configuration; of the new one, if it is joint.
    pub(crate) incoming: MemberSet,
    /// The voters of the old configuration; none, unless it is joint.
    pub(crate) outgoing: MemberSet,
}

stored! { struct Quorum { incoming, outgoing } }

impl Quorum {
    /// All members with a vote.
    pub(crate) fn voters(self) -> MemberSet {
        self.incoming.union(self.outgoing)
    }

    /// Whether these are enough to decide. Without voters nobody can.
    pub(crate) fn is_reached_by(self, members: MemberSet) -> bool {
        let agree =
            |voters: MemberSet| voters.intersection(members).len() >= majority(voters.len());
        agree(self.incoming) && (self.outgoing.is_empty() || agree(self.outgoing))
    }

    /// The greatest value that a quorum has reached, given what each member has reached.
    pub(crate) fn reached<T: Copy + Ord + Default>(self, value: impl Fn(usize) -> T) -> T {
        let incoming = reached_by_majority(self.incoming, &value);
        match self.outgoing.is_empty() {
            true => incoming,
            false => incoming.min(reached_by_majority(self.outgoing, &value)),
        }
    }
}

/// How many of `voters` servers are a majority.
const fn majority(voters: usize) -> usize {
    (voters / 2).saturating_add(1)
}

/// The greatest value that a majority of the voters has reached.
///
/// Counts instead of sorting: voters are few, and a sort takes 5 KiB of a microcontroller's flash
/// for each type.
fn reached_by_majority<T: Copy + Ord + Default>(
    voters: MemberSet,
    value: impl Fn(usize) -> T,
) -> T {
    let majority = majority(voters.len());
    let reached_by = |least| voters.iter().filter(|voter| value(*voter) >= least).count();
    let mut reached = T::default();
    for candidate in voters.iter().map(&value) {
        // Most often all are alike, and one count settles it.
        if candidate > reached && reached_by(candidate) >= majority {
            reached = candidate;
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(positions: &[usize]) -> MemberSet {
        positions.iter().copied().collect()
    }

    fn single(voters: usize) -> Quorum {
        Quorum { incoming: MemberSet::all(voters), outgoing: MemberSet::default() }
    }

    #[test]
    fn a_majority_is_more_than_half() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn what_a_majority_reached_is_the_median_or_the_lower_of_two() {
        assert_eq!(single(1).reached(|_| 7), 7);
        assert_eq!(single(3).reached(|at| [9, 1, 5][at]), 5);
        assert_eq!(single(4).reached(|at| [9, 1, 5, 4][at]), 4);
    }

    #[test]
    fn a_joint_quorum_needs_a_majority_of_each() {
        let joint = Quorum { incoming: set(&[0, 1, 2]), outgoing: set(&[2, 3, 4]) };
        assert!(!joint.is_reached_by(set(&[0, 1, 2])));
        assert!(!joint.is_reached_by(set(&[2, 3, 4])));
        assert!(joint.is_reached_by(set(&[0, 2, 3])));
        assert_eq!(joint.reached(|at| [9, 9, 9, 1, 2][at]), 2);
    }

    #[test]
    fn nobody_decides_where_nobody_votes() {
        assert!(!Quorum::default().is_reached_by(MemberSet::all(3)));
        assert_eq!(Quorum::default().reached(|_| 7), 0);
    }

    #[test]
    fn a_set_holds_every_position() {
        let mut set = MemberSet::all(MEMBERS_MAX);
        assert_eq!(set.len(), MEMBERS_MAX);
        set.remove(0);
        assert_eq!(set.first(), Some(1));
        set = MemberSet::default();
        set.insert(63);
        assert_eq!((set.first(), set.len()), (Some(63), 1));
        assert!(set.contains(63) && !set.contains(0));
    }
}
