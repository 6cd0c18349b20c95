//! The observer's picture of a server's disk: where its log begins (§7), and terms alone, for term
//! and index name an entry.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::super::violation::{self, Verdict, Violation};
use crate::entries::Entry;
use crate::message::SnapshotMeta;
use crate::output::{Restored, Write};
use crate::types::{HardState, Index, LogId, Term, WriteId};

#[derive(Clone, Default, Debug)]
pub(super) struct Disk {
    hard_state: HardState,
    /// The snapshot with which a restart begins.
    snapshot: Option<SnapshotMeta>,
    /// What is stored for certain.
    stored: Terms,
    /// What all writes make of it, synced or not; and the end of the snapshot that they name.
    written: Terms,
    written_snapshot: LogId,
    pending: VecDeque<Pending>,
    /// The terms of the entries in pending writes, in order.
    pending_terms: VecDeque<Term>,
}

/// A write that is not synced.
#[derive(Clone, Debug)]
struct Pending {
    id: WriteId,
    hard_state: Option<HardState>,
    snapshot: Option<SnapshotMeta>,
    compact_to: Option<LogId>,
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

/// The terms of a log's entries, behind `base`.
#[derive(Clone, Default, Debug)]
struct Terms {
    base: LogId,
    terms: VecDeque<Term>,
}

impl Terms {
    /// The term at this index, if it is that of an entry or of the base.
    #[inline]
    fn get(&self, index: Index) -> Option<Term> {
        match self.offset(index) {
            Some(0) => Some(self.base.term),
            Some(offset) => self.terms.get(offset - 1).copied(),
            None => None,
        }
    }

    fn last(&self) -> LogId {
        let last = self.terms.back().copied().unwrap_or(self.base.term);
        LogId::new(last, Index::new(self.base.index.get() + self.terms.len() as u64))
    }

    /// A log that does not hold the snapshot's last entry is replaced by it. Returns whether it
    /// was.
    fn begin_with(&mut self, snapshot: LogId) -> bool {
        let replaced = self.get(snapshot.index) != Some(snapshot.term);
        if replaced {
            *self = Self { base: snapshot, terms: VecDeque::new() };
        }
        replaced
    }

    fn compact_to(&mut self, base: LogId) {
        if let Some(offset) = self.offset(base.index) {
            self.terms.drain(..offset.min(self.terms.len()));
            self.base = base;
        }
    }

    fn keep(&mut self, truncate_from: Option<Index>) {
        if let Some(offset) = truncate_from.and_then(|from| self.offset(from)) {
            self.terms.truncate(offset.saturating_sub(1));
        }
    }

    /// How far this is behind the base; none if it is before it.
    #[inline]
    fn offset(&self, index: Index) -> Option<usize> {
        let offset = index.get().checked_sub(self.base.index.get())?;
        usize::try_from(offset).ok()
    }
}

impl Disk {
    /// A disk that holds this from the beginning.
    pub(super) fn holding<C>(restored: &Restored<C>) -> Self {
        let terms = restored.entries.iter().map(|entry| entry.term).collect();
        let terms = Terms { base: restored.base, terms };
        let snapshot = restored.snapshot.clone();
        Self {
            hard_state: restored.hard_state,
            written_snapshot: snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last),
            snapshot,
            stored: terms.clone(),
            written: terms,
            ..Self::default()
        }
    }

    #[inline]
    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The snapshot with which a restart begins.
    pub(super) fn snapshot(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref()
    }

    /// The position before the first entry stored.
    pub(super) fn base(&self) -> LogId {
        self.stored.base
    }

    /// Whether a restart has this committed entry, in the log or in the snapshot.
    #[inline]
    pub(super) fn holds(&self, entry: LogId) -> bool {
        entry.index <= self.stored.base.index || self.stored.get(entry.index) == Some(entry.term)
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

    /// What a write says of snapshots, which comes before its entries.
    pub(super) fn write_head<C>(&mut self, write: &Write<C>) -> Verdict {
        if let Some(snapshot) = &write.snapshot {
            let earlier = self.written_snapshot;
            violation::hold!(
                snapshot.last >= earlier,
                Durability,
                "a snapshot through {} takes the place of one through {earlier}",
                snapshot.last
            );
            self.written.begin_with(snapshot.last);
            self.written_snapshot = snapshot.last;
        }
        if let Some(base) = write.compact_to.as_deref().copied() {
            let end = self.written_snapshot;
            violation::hold!(
                base.index <= end.index
                    && self.written.get(base.index).is_none_or(|t| t == base.term),
                Durability,
                "entries up to {base} may go, and the snapshot ends at {end}"
            );
            self.written.compact_to(base);
        }
        Ok(())
    }

    pub(super) fn write<C>(&mut self, write: &Write<C>) -> Verdict {
        let held = self.written.last().index;
        let beyond = write.truncate_from.is_some_and(|from| from > held.next());
        violation::hold!(!beyond, LogMatching, "a write removes behind {held}, where nothing is");
        self.written.keep(write.truncate_from);
        let terms = write.entries.iter().map(|entry: &Entry<C>| entry.term);
        self.written.terms.extend(terms.clone());
        self.pending_terms.extend(terms);
        self.pending.push_back(Pending {
            id: write.id,
            hard_state: write.hard_state,
            snapshot: write.snapshot.as_deref().cloned(),
            compact_to: write.compact_to.as_deref().copied(),
            truncate_from: write.truncate_from,
            entries: write.entries.len(),
        });
        Ok(())
    }

    /// This write and all before it are stored. Returns where entries were removed, if any were.
    pub(super) fn sync(&mut self, id: WriteId) -> Result<Option<Removed>, Box<Violation>> {
        let mut removed = None;
        while self.pending.front().is_some_and(|write| write.id <= id) {
            let Some(write) = self.pending.pop_front() else { break };
            removed = Removed::both(removed, self.store(write)?);
        }
        Ok(removed)
    }

    /// How many writes are not synced.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether a restart after a crash that kept so many unsynced writes would find this.
    pub(super) fn holds_after_crash<C>(mut self, kept: usize, restored: &Restored<C>) -> bool {
        let last = restored.entries.last().map_or(restored.base, Entry::id);
        self.crash(kept).is_ok()
            && self.hard_state == restored.hard_state
            && (self.base(), self.last()) == (restored.base, last)
            && self.snapshot == restored.snapshot
    }

    /// The first `kept` unsynced writes survive, the others do not. Returns where entries were
    /// removed, if any were.
    pub(super) fn crash(&mut self, kept: usize) -> Result<Option<Removed>, Box<Violation>> {
        let mut removed = None;
        for _ in 0..kept {
            let Some(write) = self.pending.pop_front() else { break };
            removed = Removed::both(removed, self.store(write)?);
        }
        self.pending.clear();
        self.pending_terms.clear();
        self.written.clone_from(&self.stored);
        self.written_snapshot = self.snapshot.as_ref().map_or(LogId::ZERO, |s| s.last);
        Ok(removed)
    }

    fn store(&mut self, write: Pending) -> Result<Option<Removed>, Box<Violation>> {
        if let Some(hard_state) = write.hard_state {
            self.check_hard_state(hard_state)?;
            self.hard_state = hard_state;
        }
        let through = self.stored.last().index;
        let mut removed = write.truncate_from.filter(|from| *from <= through);
        if let Some(snapshot) = write.snapshot {
            let behind = snapshot.last.index.next();
            if self.stored.begin_with(snapshot.last) && behind <= through {
                removed = Some(behind);
            }
            self.snapshot = Some(snapshot);
        }
        if let Some(base) = write.compact_to {
            self.stored.compact_to(base);
        }
        self.stored.keep(write.truncate_from);
        self.stored.terms.extend(self.pending_terms.drain(..write.entries));
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
