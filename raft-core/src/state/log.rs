//! The log (§5.3): in memory, from where it was last compacted (§7), counted in bytes.
//!
//! Invariant: entries follow `base` without a gap and their terms never fall, so a term is found by
//! its index in constant time and the last entry of a term by binary search.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

#[cfg(feature = "std")]
use crate::checkpoint::{Damaged, In, Out, Stored};
use crate::entries::{Entries, Entry};
use crate::types::{Command, Index, LogId, Term};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Log<C> {
    /// The position right before the first entry: committed, and the same on every server.
    base: LogId,
    entries: VecDeque<Entry<C>>,
    bytes: usize,
}

/// The entries are left out if they are not asked for.
#[cfg(feature = "std")]
impl<C: Stored> Stored for Log<C> {
    fn put(&self, out: &mut Out<'_>) {
        let Self { base, entries, bytes } = self;
        base.put(out);
        bytes.put(out);
        if out.entries {
            entries.put(out);
        } else {
            entries.len().put(out);
            entries.back().map(|last| last.term).put(out);
        }
    }

    fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
        let (base, bytes) = (Stored::take(from)?, Stored::take(from)?);
        Ok(Self { base, entries: Stored::take(from)?, bytes })
    }
}

impl<C: Command> Log<C> {
    /// What a disk held: entries that follow `base` without a gap, as was checked before. Takes
    /// over their memory, so that a start needs no more of it than the log itself.
    pub(crate) fn of_entries(base: LogId, entries: Vec<Entry<C>>) -> Self {
        let bytes = entries.iter().map(Entry::size).fold(0, usize::saturating_add);
        Self { base, entries: entries.into(), bytes }
    }

    /// The position before the first entry that is held.
    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    /// The last entry, or `base` if there is none.
    pub(crate) fn last(&self) -> LogId {
        self.entries.back().map_or(self.base, Entry::id)
    }

    /// All entries that are held.
    #[cfg(feature = "sim")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry<C>> {
        self.entries.iter()
    }

    /// The size of all entries, in bytes, as [`Entry::size`] counts.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The term of the entry at `index`, if it is held or is `base`.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// Whether this log holds that entry; then it holds the same entries before it, too (Log
    /// Matching).
    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The newest entry at or before `limit.index` whose term is not beyond `limit.term`. Two
    /// servers that exchange these skip a whole conflicting term with each message (§5.3).
    pub(crate) fn newest_within(&self, limit: LogId) -> LogId {
        let held = limit.index.get().saturating_sub(self.base.index.get());
        let held = usize::try_from(held).unwrap_or(usize::MAX).min(self.entries.len());
        let fitting = self.entries.partition_point(|entry| entry.term <= limit.term).min(held);
        match fitting.checked_sub(1).and_then(|offset| self.entries.get(offset)) {
            Some(entry) => entry.id(),
            None => self.base,
        }
    }

    /// Forgets all entries, for a snapshot takes their place, and goes on behind `base`. Keeps
    /// their memory.
    pub(crate) fn replace(&mut self, base: LogId) {
        self.entries.clear();
        self.bytes = 0;
        self.base = base;
    }

    /// Appends an entry right behind the last.
    pub(crate) fn append(&mut self, entry: Entry<C>) {
        let last = self.last();
        assert!(entry.index == last.index.next(), "log: gap before entry {}", entry.id());
        assert!(entry.term >= last.term, "log: the term falls at entry {}", entry.id());
        self.bytes = self.bytes.saturating_add(entry.size());
        self.entries.push_back(entry);
    }

    /// Removes the entry at `from` and all that follow it.
    pub(crate) fn truncate_from(&mut self, from: Index) {
        let Some(keep) = self.offset(from) else { return };
        let removed: usize = self.entries.iter().skip(keep).map(Entry::size).sum();
        self.bytes = self.bytes.saturating_sub(removed);
        self.entries.truncate(keep);
    }

    /// The size of the entries from `from` to `through`, in bytes.
    pub(crate) fn bytes_between(&self, from: Index, through: Index) -> usize {
        self.range(from, through).map(Entry::size).sum()
    }

    /// Forgets the entries up to `index`, which a snapshot replaces, but for the last of them that
    /// fit into `tail_bytes`, and those behind `held`. Returns whether entries are left that do not
    /// fit into `tail_bytes`.
    pub(crate) fn compact_to(&mut self, index: Index, tail_bytes: usize, held: Index) -> bool {
        let Some(through) = self.offset(index.next()) else { return false };
        let mut tail = 0usize;
        let fits = |entry: &&Entry<C>| {
            tail = tail.saturating_add(entry.size());
            tail <= tail_bytes
        };
        let kept = self.entries.iter().take(through).rev().take_while(fits).count();
        let end = through.saturating_sub(kept);
        let removed = end.min(self.offset(held.next()).unwrap_or(0));
        // `drain` would take 600 bytes more of a microcontroller's flash.
        for _ in 0..removed {
            let Some(entry) = self.entries.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(entry.size());
            self.base = entry.id();
        }
        removed < end
    }

    /// The entries from `from` to `through` that are held, in order; none if the first is not.
    pub(crate) fn range(&self, from: Index, through: Index) -> impl Iterator<Item = &Entry<C>> {
        let start = self.offset(from).unwrap_or(usize::MAX);
        let end = self.offset(through.next()).unwrap_or(0);
        self.entries.iter().take(end).skip(start)
    }

    /// The last of the entries from `from` to `through` that fit into `bytes_max`, and the size of
    /// all up to it. The first entry always fits; none if it is not held.
    pub(crate) fn last_fitting(
        &self,
        from: Index,
        through: Index,
        bytes_max: usize,
    ) -> Option<(Index, usize)> {
        // No entry, or one alone, is the commonest case, and spared the counting.
        let first = self.get(from)?;
        if from == through {
            return Some((from, first.size()));
        }
        let mut bytes = 0usize;
        let fits = |entry: &&Entry<C>| {
            let sum = bytes.saturating_add(entry.size());
            let fits = bytes == 0 || sum <= bytes_max;
            if fits {
                bytes = sum;
            }
            fits
        };
        let last = self.range(from, through).take_while(fits).last()?;
        Some((last.index, bytes))
    }

    /// Clones of the entries from `from` to `through`, as many as fit into `bytes_max` but at least
    /// one; and their size.
    pub(crate) fn slice(
        &self,
        from: Index,
        through: Index,
        bytes_max: usize,
    ) -> (Entries<C>, usize) {
        let Some((last, bytes)) = self.last_fitting(from, through, bytes_max) else {
            return Default::default();
        };
        let entries = match self.get(from) {
            Some(alone) if from == last => Entries::one(alone.clone()),
            Some(_) | None => self.range(from, last).cloned().collect(),
        };
        (entries, bytes)
    }

    fn get(&self, index: Index) -> Option<&Entry<C>> {
        self.entries.get(self.offset(index)?)
    }

    /// Where the entry at `index` is, or would be, in `entries`; none if it is at or below `base`.
    fn offset(&self, index: Index) -> Option<usize> {
        let offset = index.get().checked_sub(self.base.index.get())?.checked_sub(1)?;
        usize::try_from(offset).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::Payload;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term::new(term), Index::new(index))
    }

    fn log(terms: &[u64]) -> Log<Vec<u8>> {
        let mut log = Log::of_entries(LogId::ZERO, Vec::new());
        for (term, index) in terms.iter().zip(1..) {
            let payload = Payload::Command(alloc::vec![0; 8]);
            log.append(Entry { term: Term::new(*term), index: Index::new(index), payload });
        }
        log
    }

    #[test]
    fn an_empty_log_holds_the_position_before_its_first_entry() {
        let log = log(&[]);
        assert_eq!(log.last(), LogId::ZERO);
        assert!(log.contains(LogId::ZERO) && !log.contains(id(1, 1)));
        assert_eq!(log.newest_within(id(9, 9)), LogId::ZERO);
    }

    #[test]
    fn backtracking_skips_whole_terms() {
        let log = log(&[1, 1, 4, 4, 6, 6]);
        assert_eq!(log.newest_within(id(5, 6)), id(4, 4));
        assert_eq!(log.newest_within(id(6, 5)), id(6, 5));
        assert_eq!(log.newest_within(id(3, 9)), id(1, 2));
        assert_eq!(log.newest_within(id(0, 9)), LogId::ZERO);
    }

    #[test]
    fn a_slice_keeps_to_its_bytes_but_always_moves_on() {
        let log = log(&[1, 1, 1]);
        let size = Entry::<Vec<u8>>::OVERHEAD_BYTES + 8;
        let (entries, bytes) = log.slice(Index::new(1), Index::new(3), 2 * size);
        assert_eq!((entries.len(), bytes), (2, 2 * size));
        assert_eq!(log.slice(Index::new(2), Index::new(3), 1).0.len(), 1);
        assert!(log.slice(Index::new(4), Index::new(3), size).0.is_empty());
    }

    #[test]
    fn compaction_keeps_a_tail_and_the_position_before_it() {
        let mut log = log(&[1, 1, 2, 3]);
        let size = Entry::<Vec<u8>>::OVERHEAD_BYTES + 8;
        log.compact_to(Index::new(3), 2 * size, Index::new(3));
        assert_eq!((log.base(), log.bytes()), (id(1, 1), 3 * size));
        log.compact_to(Index::new(3), 0, Index::new(3));
        assert_eq!((log.base(), log.last(), log.bytes()), (id(2, 3), id(3, 4), size));
        assert!(log.contains(id(2, 3)) && log.term_at(Index::new(2)).is_none());
        log.compact_to(Index::new(2), 0, Index::new(2));
        assert_eq!(log.base(), id(2, 3));
    }

    #[test]
    fn a_log_that_is_replaced_keeps_its_memory_and_nothing_else() {
        let mut log = log(&[1, 1, 2]);
        let capacity = log.entries.capacity();
        log.replace(id(3, 9));
        assert_eq!((log.base(), log.last(), log.bytes()), (id(3, 9), id(3, 9), 0));
        assert_eq!(log.entries.capacity(), capacity);
    }

    #[test]
    fn truncation_gives_the_bytes_back() {
        let mut log = log(&[1, 1, 2]);
        log.truncate_from(Index::new(2));
        assert_eq!(log.last(), id(1, 1));
        assert_eq!(log.bytes(), Entry::<Vec<u8>>::OVERHEAD_BYTES + 8);
        log.truncate_from(Index::new(9));
        assert_eq!(log.last(), id(1, 1));
    }
}
