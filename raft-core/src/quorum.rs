//! Majorities (§5.2), over the positions of servers in a sorted list of voters.

/// The most voters in a cluster.
pub const VOTERS_MAX: usize = 64;

/// A set of voters by their position. Copied freely, never allocates.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct VoterSet(u64);

impl VoterSet {
    /// The first `count` positions.
    pub(crate) fn all(count: usize) -> Self {
        debug_assert!(count <= VOTERS_MAX);
        Self(if count >= VOTERS_MAX { u64::MAX } else { (1 << count) - 1 })
    }

    pub(crate) fn insert(&mut self, position: usize) {
        self.0 |= 1 << position;
    }

    pub(crate) fn remove(&mut self, position: usize) {
        self.0 &= !(1 << position);
    }

    pub(crate) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// How many of `voters` servers are a majority.
pub(crate) const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The greatest value that a majority of voters has reached, given what each has reached.
pub(crate) fn reached_by_majority<T: Copy + Ord + Default>(
    values: impl ExactSizeIterator<Item = T>,
) -> T {
    let voters = values.len();
    debug_assert!(0 < voters && voters <= VOTERS_MAX);
    let mut reached = [T::default(); VOTERS_MAX];
    for (slot, value) in reached.iter_mut().zip(values) {
        *slot = value;
    }
    let reached = &mut reached[..voters];
    reached.sort_unstable();
    reached[voters - majority(voters)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn what_a_majority_reached_is_the_median_or_the_lower_of_two() {
        assert_eq!(reached_by_majority([7].into_iter()), 7);
        assert_eq!(reached_by_majority([9, 1, 5].into_iter()), 5);
        assert_eq!(reached_by_majority([9, 1, 5, 4].into_iter()), 4);
    }

    #[test]
    fn a_set_holds_every_position() {
        let mut set = VoterSet::all(VOTERS_MAX);
        assert_eq!(set.len(), VOTERS_MAX);
        set.remove(0);
        assert_eq!(set.first(), Some(1));
        set = VoterSet::default();
        set.insert(63);
        assert_eq!((set.first(), set.len()), (Some(63), 1));
    }
}
