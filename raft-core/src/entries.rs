//! Log entries, and the sequence in which they travel.

use alloc::boxed::Box;
use alloc::vec::{self, Vec};
use core::iter::Chain;
use core::option;

use crate::checkpoint::stored;
#[cfg(feature = "std")]
use crate::checkpoint::{Damaged, In, Out, Stored};
use crate::membership::Membership;
use crate::types::{Command, Index, LogId, Term};

/// One entry of the log (§5.3).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry<C> {
    /// The term in which a leader created it.
    pub term: Term,
    /// Its position.
    pub index: Index,
    /// What it holds.
    pub payload: Payload<C>,
}

stored! { struct Entry<C> { term, index, payload } }

/// What an [`Entry`] holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Payload<C> {
    /// Nothing: the entry with which a leader begins its term (§8), for a log commits only by
    /// entries of the current term.
    Noop,
    /// A client's command, for the state machine.
    Command(C),
    /// The cluster's members (§6), in force on each server as soon as its log holds the entry.
    Configuration(Box<Membership>),
}

stored! { enum Payload<C> { 0 Noop {}, 1 Command { 0: a }, 2 Configuration { 0: a }, } }

impl<C> Entry<C> {
    /// What an entry costs besides its command's bytes, in every limit that counts bytes.
    pub const OVERHEAD_BYTES: usize = 32;

    /// Term and index.
    pub fn id(&self) -> LogId {
        LogId::new(self.term, self.index)
    }

    /// Whether the entry holds nothing.
    pub(crate) fn is_noop(&self) -> bool {
        matches!(self.payload, Payload::Noop)
    }
}

impl<C: Command> Entry<C> {
    /// What this entry counts towards limits in bytes: [`Entry::OVERHEAD_BYTES`] and the command or
    /// the configuration.
    pub fn size(&self) -> usize {
        match &self.payload {
            Payload::Noop => Self::OVERHEAD_BYTES,
            Payload::Command(command) => Self::size_of(command),
            Payload::Configuration(membership) => {
                Self::OVERHEAD_BYTES.saturating_add(membership.size())
            }
        }
    }

    /// What an entry of this command counts towards limits in bytes.
    pub(crate) fn size_of(command: &C) -> usize {
        Self::OVERHEAD_BYTES.saturating_add(command.as_ref().len())
    }
}

/// A sequence of entries that keeps up to one of them in place, so that small messages and writes
/// allocate nothing.
#[derive(Clone, Debug)]
pub struct Entries<C>(Repr<C>);

#[derive(Clone, Debug)]
enum Repr<C> {
    Inline(Option<Entry<C>>),
    Heap(Vec<Entry<C>>),
}

impl<C> Entries<C> {
    /// No entries.
    pub const fn new() -> Self {
        Self(Repr::Inline(None))
    }

    /// One entry.
    pub(crate) const fn one(entry: Entry<C>) -> Self {
        Self(Repr::Inline(Some(entry)))
    }

    /// The entries, in order.
    pub fn as_slice(&self) -> &[Entry<C>] {
        match &self.0 {
            Repr::Inline(entry) => entry.as_slice(),
            Repr::Heap(entries) => entries,
        }
    }

    /// The entries as a vector of their own.
    pub fn into_vec(self) -> Vec<Entry<C>> {
        match self.0 {
            Repr::Inline(entry) => entry.into_iter().collect(),
            Repr::Heap(entries) => entries,
        }
    }
}

#[cfg(feature = "std")]
impl<C: Stored> Stored for Entries<C> {
    fn put(&self, out: &mut Out<'_>) {
        self.len().put(out);
        self.iter().for_each(|entry| entry.put(out));
    }

    fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
        Vec::take(from).map(|entries| entries.into_iter().collect())
    }
}

impl<C> Default for Entries<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> core::ops::Deref for Entries<C> {
    type Target = [Entry<C>];

    fn deref(&self) -> &[Entry<C>] {
        self.as_slice()
    }
}

impl<C: PartialEq> PartialEq for Entries<C> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<C: Eq> Eq for Entries<C> {}

impl<C: core::hash::Hash> core::hash::Hash for Entries<C> {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl<C> From<Vec<Entry<C>>> for Entries<C> {
    fn from(mut entries: Vec<Entry<C>>) -> Self {
        match entries.len() {
            0 | 1 => Self(Repr::Inline(entries.pop())),
            _ => Self(Repr::Heap(entries)),
        }
    }
}

impl<C> FromIterator<Entry<C>> for Entries<C> {
    fn from_iter<I: IntoIterator<Item = Entry<C>>>(entries: I) -> Self {
        let mut rest = entries.into_iter();
        let Some(first) = rest.next() else { return Self::new() };
        let Some(second) = rest.next() else { return Self(Repr::Inline(Some(first))) };
        let mut entries = Vec::with_capacity(2usize.saturating_add(rest.size_hint().0));
        entries.push(first);
        entries.push(second);
        rest.for_each(|entry| entries.push(entry));
        Self(Repr::Heap(entries))
    }
}

impl<C> IntoIterator for Entries<C> {
    type Item = Entry<C>;
    type IntoIter = Chain<option::IntoIter<Entry<C>>, vec::IntoIter<Entry<C>>>;

    fn into_iter(self) -> Self::IntoIter {
        let (inline, heap) = match self.0 {
            Repr::Inline(entry) => (entry, Vec::new()),
            Repr::Heap(entries) => (None, entries),
        };
        inline.into_iter().chain(heap)
    }
}

impl<'a, C> IntoIterator for &'a Entries<C> {
    type Item = &'a Entry<C>;
    type IntoIter = core::slice::Iter<'a, Entry<C>>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter()
    }
}
