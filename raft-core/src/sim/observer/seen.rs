//! Every entry that was ever seen anywhere, found by its term and index.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::entries::Payload;
use crate::types::{Index, LogId, Term};

/// An entry's content, and the term of its predecessor.
type Content<C> = (Term, Payload<C>);

/// Entries of one term mostly come one after another, because one leader appends them. These lie in
/// a row, so that an entry is found without a search among all of them.
#[derive(Clone, Debug)]
pub(super) struct Seen<C> {
    rows: BTreeMap<Term, Row<C>>,
    /// What fits into no row.
    others: BTreeMap<LogId, Content<C>>,
}

/// Consecutive entries of one term.
#[derive(Clone, Debug)]
struct Row<C> {
    first: Index,
    entries: Vec<Content<C>>,
}

impl<C> Row<C> {
    /// Where an entry of this index lies. `None` if it is before the row.
    #[inline]
    fn offset(&self, index: Index) -> Option<usize> {
        usize::try_from(index.get().checked_sub(self.first.get())?).ok()
    }
}

impl<C: Clone> Seen<C> {
    pub(super) fn new() -> Self {
        Self { rows: BTreeMap::new(), others: BTreeMap::new() }
    }

    #[inline]
    pub(super) fn get(&self, entry: LogId) -> Option<&Content<C>> {
        let row = self.rows.get(&entry.term);
        let in_row = row.and_then(|row| row.entries.get(row.offset(entry.index)?));
        in_row.or_else(|| self.others.get(&entry))
    }

    /// What this entry was when it was first seen: this, if that is now.
    #[inline]
    pub(super) fn first_seen(
        &mut self,
        entry: LogId,
        previous: Term,
        payload: &Payload<C>,
    ) -> &Content<C> {
        let begin = || Row { first: entry.index, entries: Vec::new() };
        let row = self.rows.entry(entry.term).or_insert_with(begin);
        let content = || (previous, payload.clone());
        match row.offset(entry.index) {
            Some(at) if at < row.entries.len() => &row.entries[at],
            Some(at) if at == row.entries.len() && !self.others.contains_key(&entry) => {
                row.entries.push(content());
                &row.entries[at]
            }
            Some(_) | None => self.others.entry(entry).or_insert_with(content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(number: u8) -> Payload<Vec<u8>> {
        Payload::Command([number].into())
    }

    #[test]
    fn an_entry_is_known_as_it_was_first_seen_in_whatever_order_they_come() {
        let mut seen = Seen::new();
        let at = |index| LogId::new(Term::new(3), Index::new(index));
        // In a row, behind a gap, before the row, and where the row meets what came before it did.
        for (number, index) in [5, 6, 9, 2, 7, 8, 9, 10].into_iter().enumerate() {
            seen.first_seen(at(index), Term::new(3), &command(number as u8));
        }
        let known = |index| seen.get(at(index)).map(|(_, payload)| payload.clone());
        let numbers = [(2, 3), (5, 0), (6, 1), (7, 4), (8, 5), (9, 2), (10, 7)];
        for (index, number) in numbers {
            assert_eq!(known(index), Some(command(number)), "{index}");
        }
        assert_eq!((known(1), known(3), known(11)), (None, None, None));
        let other = LogId::new(Term::new(2), Index::new(5));
        assert!(seen.get(other).is_none(), "an entry of another term");
    }
}
