//! The observer's picture of a server's disk: terms alone, for term and index name an entry.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::super::violation::{self, Verdict, Violation};
use crate::entries::Entry;
use crate::output::{Restored, Write};
use crate::types::{HardState, Index, LogId, Term, WriteId};

#[derive(Clone, Default, Debug)]
pub(super) struct Disk {
    hard_state: HardState,
    /// What is stored for certain.
    stored: Terms,
    /// What all writes make of it, synced or not.
    written: Terms,
    pending: VecDeque<Pending>,
    /// The terms of the entries in pending writes, in order.
    pending_terms: VecDeque<Term>,
}

/// A write that is not synced.
#[derive(Clone, Copy, Debug)]
struct Pending {
    id: WriteId,
    hard_state: Option<HardState>,
    truncate_from: Option<Index>,
    entries: usize,
}

/// Indexes at which a disk no longer holds what it held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removed {
    pub(super) from: Index,
    pub(super) through: Index,
}

impl Removed {
    fn both(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (Some(a), Some(b)) = (one, other) else { return one.or(other) };
        Some(Self { from: a.from.min(b.from), through: a.through.max(b.through) })
    }
}

/// The terms of a log's entries, from index 1.
#[derive(Clone, Default, Debug)]
struct Terms(Vec<Term>);

impl Terms {
    fn get(&self, index: Index) -> Option<Term> {
        self.0.get(terms_of(index)).copied()
    }

    fn last(&self) -> LogId {
        let last = self.0.last().copied().unwrap_or(Term::ZERO);
        LogId::new(last, Index::new(self.0.len() as u64))
    }

    fn keep(&mut self, truncate_from: Option<Index>) {
        if let Some(from) = truncate_from {
            self.0.truncate(terms_of(from));
        }
    }
}

/// Where the term of the entry at this index is; beyond everything for index 0, where no entry is.
pub(super) fn terms_of(index: Index) -> usize {
    usize::try_from(index.get()).unwrap_or(usize::MAX).wrapping_sub(1)
}

impl Disk {
    /// A disk that holds this from the beginning.
    pub(super) fn holding<C>(restored: &Restored<C>) -> Self {
        let terms = Terms(restored.entries.iter().map(|entry| entry.term).collect());
        Self {
            hard_state: restored.hard_state,
            stored: terms.clone(),
            written: terms,
            ..Self::default()
        }
    }

    #[inline]
    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The last entry stored.
    #[inline]
    pub(super) fn last(&self) -> LogId {
        self.stored.last()
    }

    /// The term of the stored entry at this index.
    #[inline]
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        self.stored.get(index)
    }

    /// The same, of all that was written.
    #[inline]
    pub(super) fn written_term_at(&self, index: Index) -> Option<Term> {
        self.written.get(index)
    }

    /// The entry behind which a write puts its own.
    pub(super) fn previous_of<C>(&self, write: &Write<C>) -> LogId {
        match write.truncate_from {
            None => self.written.last(),
            Some(from) => {
                let index = from.previous();
                LogId::new(self.written.get(index).unwrap_or(Term::ZERO), index)
            }
        }
    }

    pub(super) fn write<C>(&mut self, write: &Write<C>) -> Verdict {
        let held = self.written.last().index;
        let beyond = write.truncate_from.is_some_and(|from| from > held.next());
        violation::hold!(!beyond, LogMatching, "a write removes behind {held}, where nothing is");
        self.written.keep(write.truncate_from);
        let terms = write.entries.iter().map(|entry: &Entry<C>| entry.term);
        self.written.0.extend(terms.clone());
        self.pending_terms.extend(terms);
        self.pending.push_back(Pending {
            id: write.id,
            hard_state: write.hard_state,
            truncate_from: write.truncate_from,
            entries: write.entries.len(),
        });
        Ok(())
    }

    /// This write and all before it are stored. Returns where entries were removed, if any were.
    pub(super) fn sync(&mut self, id: WriteId) -> Result<Option<Removed>, Box<Violation>> {
        let mut removed = None;
        while let Some(write) = self.pending.front().copied().filter(|write| write.id <= id) {
            self.pending.pop_front();
            removed = Removed::both(removed, self.store(write)?);
        }
        Ok(removed)
    }

    /// The first `kept` unsynced writes survive, the others do not. Returns where entries were removed, if any were.
    pub(super) fn crash(&mut self, kept: usize) -> Result<Option<Removed>, Box<Violation>> {
        let mut removed = None;
        for _ in 0..kept {
            let Some(write) = self.pending.pop_front() else { break };
            removed = Removed::both(removed, self.store(write)?);
        }
        self.pending.clear();
        self.pending_terms.clear();
        self.written.0.clone_from(&self.stored.0);
        Ok(removed)
    }

    fn store(&mut self, write: Pending) -> Result<Option<Removed>, Box<Violation>> {
        if let Some(hard_state) = write.hard_state {
            self.check_hard_state(hard_state)?;
            self.hard_state = hard_state;
        }
        let through = self.stored.last().index;
        let removed = write.truncate_from.filter(|from| *from <= through);
        self.stored.keep(write.truncate_from);
        self.stored.0.extend(self.pending_terms.drain(..write.entries));
        Ok(removed.map(|from| Removed { from, through }))
    }

    fn check_hard_state(&self, new: HardState) -> Verdict {
        let old = self.hard_state;
        let kept = new.current_term > old.current_term
            || old.voted_for.is_none()
            || new.voted_for == old.voted_for;
        violation::hold!(
            new.current_term >= old.current_term && kept,
            Monotonicity,
            "a disk that held {old:?} gets {new:?}"
        );
        Ok(())
    }
}
