//! A leader's view of all its followers, by their positions among the members.

use alloc::vec::Vec;

use crate::checkpoint::stored;
use crate::state::members::Members;
use crate::state::progress::Progress;

/// One for each member; the leader's own place is unused.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Peers(Vec<Progress>);

stored! { struct Peers(_) }

impl Peers {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The peer at that position, which is always there: positions come from [`Members`].
    pub(crate) fn get(&self, position: usize) -> Option<&Progress> {
        debug_assert!(position < self.len(), "a peer for each member");
        self.0.get(position)
    }

    /// See [`Peers::get`].
    pub(crate) fn get_mut(&mut self, position: usize) -> Option<&mut Progress> {
        debug_assert!(position < self.len(), "a peer for each member");
        self.0.get_mut(position)
    }

    /// In the order of positions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Progress> {
        self.0.iter()
    }

    /// In the order of positions.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Progress> {
        self.0.iter_mut()
    }

    /// What each member has, by its position, for
    /// [`Quorum::reached`](crate::quorum::Quorum::reached): the leader its own, and a peer what its
    /// progress says.
    pub(crate) fn each<T: Copy + Default>(
        &self,
        members: &Members,
        own: T,
        of: impl Fn(&Progress) -> T,
    ) -> impl Fn(usize) -> T {
        let leader = members.own;
        move |position| match Some(position) == leader {
            true => own,
            false => self.get(position).map(&of).unwrap_or_default(),
        }
    }

    /// So many as there are members. Keeps the memory.
    pub(crate) fn resize(&mut self, members: usize) {
        self.0.resize_with(members, Progress::new);
    }

    /// Leaves nobody, and no memory in use.
    pub(crate) fn take(&mut self) -> Self {
        Self(core::mem::take(&mut self.0))
    }
}

impl FromIterator<Progress> for Peers {
    fn from_iter<I: IntoIterator<Item = Progress>>(peers: I) -> Self {
        Self(peers.into_iter().collect())
    }
}
