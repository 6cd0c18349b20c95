//! The configurations that the log holds (§6), and which of them is in force.

use alloc::collections::VecDeque;

use crate::checkpoint::stored;
use crate::membership::Membership;
use crate::types::{Index, NodeId};

/// The configurations that the log holds. The newest is in force from the moment it is appended,
/// committed or not (§6).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Memberships {
    /// The oldest. It is committed, so only compaction up to a newer one removes it.
    first: (Index, Membership),
    /// The configurations that follow the oldest, by rising index.
    later: VecDeque<(Index, Membership)>,
}

stored! { struct Memberships { first, later } }

impl Memberships {
    pub(crate) fn new(index: Index, membership: Membership) -> Self {
        Self { first: (index, membership), later: VecDeque::new() }
    }

    /// The configuration in force.
    pub(crate) fn in_force(&self) -> &Membership {
        &self.newest().1
    }

    /// Where it stands in the log.
    pub(crate) fn index(&self) -> Index {
        self.newest().0
    }

    /// The one before the configuration in force, if both are still in the log.
    pub(crate) fn previous(&self) -> Option<&Membership> {
        let before = self.later.len().checked_sub(1)?.checked_sub(1);
        let before = before.and_then(|before| self.later.get(before)).unwrap_or(&self.first);
        Some(&before.1)
    }

    /// The configuration that was in force at that index of the log.
    pub(crate) fn at(&self, index: Index) -> &Membership {
        let newest = self.later.iter().rev().find(|(at, _)| *at <= index);
        &newest.unwrap_or(&self.first).1
    }

    /// Where the oldest configuration is without this server, if all that follow are without it and
    /// one before had it; as far as the log knows.
    pub(crate) fn left_at(&self, id: NodeId) -> Option<Index> {
        let mut left_at = None;
        for (index, membership) in self.later.iter().rev().chain([&self.first]) {
            if membership.suffrage(id).is_some() {
                return left_at;
            }
            left_at = Some(*index);
        }
        None
    }

    pub(crate) fn append(&mut self, index: Index, membership: Membership) {
        debug_assert!(index > self.index());
        self.later.push_back((index, membership));
    }

    /// The log was truncated. Returns whether another configuration is in force now.
    pub(crate) fn truncate_from(&mut self, from: Index) -> bool {
        let keep = self.later.partition_point(|(at, _)| *at < from);
        let changed = keep < self.later.len();
        self.later.truncate(keep);
        changed
    }

    /// The log was compacted: what was in force at `index` is now the first.
    pub(crate) fn compact_to(&mut self, index: Index) {
        let compacted = self.later.partition_point(|(at, _)| *at <= index);
        for _ in 0..compacted {
            if let Some(next) = self.later.pop_front() {
                self.first = next;
            }
        }
    }

    fn newest(&self) -> &(Index, Membership) {
        self.later.back().unwrap_or(&self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number)
    }

    fn voters(ids: &[u64]) -> Membership {
        Membership::of_voters(ids.iter().copied().map(NodeId::new))
    }

    #[test]
    fn truncation_brings_an_older_configuration_back_into_force() {
        let mut memberships = Memberships::new(Index::ZERO, voters(&[1]));
        memberships.append(Index::new(4), voters(&[1, 2]));
        memberships.append(Index::new(6), voters(&[1, 2, 3]));
        assert_eq!(memberships.at(Index::new(5)), &voters(&[1, 2]));
        assert_eq!(memberships.left_at(id(2)), None, "a member");
        memberships.append(Index::new(8), voters(&[1, 2]));
        memberships.append(Index::new(9), voters(&[1]));
        assert_eq!(memberships.left_at(id(3)), Some(Index::new(8)));
        assert_eq!(memberships.left_at(id(2)), Some(Index::new(9)));
        assert_eq!(memberships.left_at(id(4)), None, "never a member");
        memberships.truncate_from(Index::new(8));
        assert!(!memberships.truncate_from(Index::new(7)));
        assert!(memberships.truncate_from(Index::new(6)));
        assert_eq!(
            (memberships.in_force(), memberships.index()),
            (&voters(&[1, 2]), Index::new(4))
        );
        memberships.compact_to(Index::new(5));
        assert_eq!(memberships.previous(), None);
        assert!(!memberships.truncate_from(Index::new(4)), "the first is committed");
    }
}
