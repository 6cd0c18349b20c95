//! Checks that a write can follow the writes before it. If no node ever writes it, it is damage,
//! whatever its checksum says.
//!
//! For this check a journal knows the shape of the stored log without its commands: where the log
//! begins, and up to which entry each term reaches. A segment begins with this knowledge
//! ([`checkpoint`](super::checkpoint)), so that the segments before it can be deleted.

use std::collections::VecDeque;
use std::format;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use bytes::Bytes;

use crate::entries::Entry;
use crate::message::SnapshotMeta;
use crate::output::{Restored, Write};
use crate::types::{HardState, Index, LogId, Term};

/// The writes so far: their shape, and the entries.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Replay {
    position: Position,
    /// The last entries of the log. The entries before them were in segments that are gone, and
    /// must be compacted.
    entries: Vec<Entry<Bytes>>,
}

impl Replay {
    /// The state of a journal whose first segments are gone: its shape, and none of its entries.
    pub(super) fn from_position(position: Position) -> Self {
        Self { position, entries: Vec::new() }
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// Adds a write. The error says why it cannot be the next one, and is final.
    pub(super) fn follow(&mut self, write: Write<Bytes>) -> Result<(), String> {
        let base = self.position.base;
        self.position.follow(&write)?;
        if self.position.base != base {
            self.entries.drain(..self.entries_before(self.position.base.index.next()));
        }
        // Entries from here on were replaced, with their log or by a truncation.
        let kept = write.entries.first().map_or(self.position.last().index.next(), |e| e.index);
        self.entries.truncate(self.entries_before(kept));
        self.entries.extend(write.entries);
        Ok(())
    }

    /// How many entries come before this index. The entries have no gaps.
    fn entries_before(&self, index: Index) -> usize {
        let first = self.entries.first().map_or(index, |entry| entry.index);
        let count = index.get().saturating_sub(first.get());
        usize::try_from(count).map_or(self.entries.len(), |count| count.min(self.entries.len()))
    }

    /// The result of all writes. `None` if entries are missing.
    pub(super) fn into_restored(self) -> Option<Restored<Bytes>> {
        let last = self.position.last();
        let Position { hard_state, snapshot, base, .. } = self.position;
        let first = self.entries.first().map_or(last.index.next(), |entry| entry.index);
        let snapshot = snapshot.map(Arc::unwrap_or_clone);
        let is_whole = first == base.index.next();
        is_whole.then_some(Restored { hard_state, snapshot, base, entries: self.entries })
    }
}

/// What the next write must fit: term, vote, snapshot, and the shape of the log.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Position {
    pub(super) hard_state: HardState,
    /// Shared, because it can be long and is copied with each sync.
    pub(super) snapshot: Option<Arc<SnapshotMeta>>,
    /// The position before the first entry of the log.
    pub(super) base: LogId,
    /// The last entry of each term that the log holds, in order.
    pub(super) term_ends: VecDeque<LogId>,
}

impl Position {
    /// The last entry.
    pub(super) fn last(&self) -> LogId {
        self.term_ends.back().copied().unwrap_or(self.base)
    }

    /// Moves behind a write. The error says why it cannot be the next one, and is final.
    pub(super) fn follow(&mut self, write: &Write<Bytes>) -> Result<(), String> {
        if let Some(hard_state) = write.hard_state {
            self.follow_hard_state(hard_state)?;
        }
        if let Some(snapshot) = &write.snapshot {
            self.follow_snapshot(snapshot)?;
        }
        if let Some(base) = write.compact_to.as_deref() {
            self.compact(*base)?;
        }
        if let Some(from) = write.truncate_from {
            self.truncate(from)?;
        }
        write.entries.iter().try_for_each(|entry| self.follow_entry(entry.id()))
    }

    /// Checks that the term only grows, and that a vote once given in a term stays (§5.2).
    fn follow_hard_state(&mut self, next: HardState) -> Result<(), String> {
        let HardState { current_term, voted_for, .. } = self.hard_state;
        if next.current_term < current_term {
            return Err(format!("term {} after term {current_term}", next.current_term));
        }
        let same_term = next.current_term == current_term;
        if same_term && voted_for.is_some() && next.voted_for != voted_for {
            return Err(format!("another vote in term {current_term}"));
        }
        self.hard_state = next;
        Ok(())
    }

    /// Checks that snapshots only grow (§7). If the log does not hold the snapshot's last entry,
    /// the snapshot replaces the log.
    fn follow_snapshot(&mut self, next: &SnapshotMeta) -> Result<(), String> {
        let current_term = self.hard_state.current_term;
        if let Some(before) = &self.snapshot {
            if next.last.index <= before.last.index {
                return Err(format!("a snapshot of {} after one of {}", next.last, before.last));
            }
        }
        if next.last.term > current_term {
            return Err(format!("a snapshot of {} in term {current_term}", next.last));
        }
        if next.membership.validate().is_err() {
            return Err(format!("a snapshot of {} with members that cannot be", next.last));
        }
        if self.term_at(next.last.index) != Some(next.last.term) {
            self.base = next.last;
            self.term_ends.clear();
        }
        self.snapshot = Some(Arc::new(next.clone()));
        Ok(())
    }

    /// Checks that only entries which a snapshot includes are compacted (§7).
    fn compact(&mut self, base: LogId) -> Result<(), String> {
        let snapshot = self.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let is_held = self.term_at(base.index) == Some(base.term);
        if !is_held || base.index > snapshot.index {
            return Err(format!("entries up to {base} compacted, with a snapshot of {snapshot}"));
        }
        let gone = self.term_ends.partition_point(|end| end.index <= base.index);
        self.term_ends.drain(..gone);
        self.base = base;
        Ok(())
    }

    /// Checks that no entry which a snapshot includes is removed, because it is committed.
    fn truncate(&mut self, from: Index) -> Result<(), String> {
        let last = self.last();
        let snapshot = self.snapshot.as_ref().map_or(Index::ZERO, |snapshot| snapshot.last.index);
        if from <= self.base.index.max(snapshot) || from > last.index.next() {
            return Err(format!("entries from {from} removed behind {last}"));
        }
        let kept = self.term_ends.partition_point(|end| end.index < from);
        let cut = self.term_ends.get(kept).copied();
        self.term_ends.truncate(kept);
        match cut {
            Some(cut) if self.last().index < from.previous() => {
                self.term_ends.push_back(LogId::new(cut.term, from.previous()));
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Checks that the log has no gaps, and that its terms neither decrease (§5.3) nor exceed the
    /// server's own term.
    pub(super) fn follow_entry(&mut self, entry: LogId) -> Result<(), String> {
        let last = self.last();
        let current_term = self.hard_state.current_term;
        let follows = entry.index == last.index.next() && entry.term >= last.term;
        if !follows || entry.term > current_term {
            return Err(format!("entry {entry} after {last} in term {current_term}"));
        }
        match self.term_ends.back_mut().filter(|end| end.term == entry.term) {
            Some(end) => *end = entry,
            None => self.term_ends.push_back(entry),
        }
        Ok(())
    }

    /// The term of the entry at that index, or of the base.
    fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index {
            return None;
        }
        let at = self.term_ends.partition_point(|end| end.index < index);
        self.term_ends.get(at).map(|end| end.term)
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::*;
    use crate::entries::Payload;
    use crate::membership::Membership;
    use crate::types::{NodeId, WriteId};

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term::new(term), Index::new(index))
    }

    fn write(vote: Option<(u64, u64)>, cut: Option<u64>, entries: &[(u64, u64)]) -> Write<Bytes> {
        let entry = |&(term, index): &(u64, u64)| Entry {
            term: Term::new(term),
            index: Index::new(index),
            payload: Payload::Noop,
        };
        Write {
            id: WriteId::new(1),
            hard_state: vote.map(|(term, node)| HardState {
                current_term: Term::new(term),
                voted_for: (node > 0).then(|| NodeId::new(node)),
                ..HardState::default()
            }),
            truncate_from: cut.map(Index::new),
            entries: entries.iter().map(entry).collect(),
            ..Write::default()
        }
    }

    fn snapshot(last: LogId, compact_to: Option<LogId>) -> Write<Bytes> {
        let membership = Membership::of_voters([NodeId::new(1)]);
        let snapshot = Some(Box::new(SnapshotMeta { last, membership }));
        Write { snapshot, compact_to: compact_to.map(Box::new), ..Write::default() }
    }

    /// Term 3 with a vote for node 1, and the entries 1.1, 1.2, 3.3.
    fn replay() -> Replay {
        let mut replay = Replay::default();
        replay.follow(write(Some((3, 1)), None, &[(1, 1), (1, 2), (3, 3)])).unwrap();
        replay
    }

    fn terms(replay: &Replay) -> Vec<u64> {
        let restored = replay.clone().into_restored().unwrap();
        restored.entries.iter().map(|entry| entry.term.get()).collect()
    }

    #[test]
    fn what_a_node_writes_is_replayed() {
        let mut replay = replay();
        replay.follow(write(Some((4, 0)), None, &[])).unwrap();
        replay.follow(write(Some((4, 2)), Some(2), &[(2, 2), (4, 3)])).unwrap();
        replay.follow(write(None, Some(4), &[(4, 4)])).unwrap();
        assert_eq!(terms(&replay), [1, 2, 4, 4]);
    }

    /// The core's own replay, which simulators use, and the journal's are the same.
    #[test]
    fn snapshots_and_compaction_are_replayed_as_the_core_does() {
        let writes = [
            write(Some((3, 1)), None, &[(1, 1), (1, 2), (3, 3), (3, 4)]),
            snapshot(id(1, 2), None),
            snapshot(id(3, 3), Some(id(1, 1))),
            Write { compact_to: Some(Box::new(id(3, 3))), ..Write::default() },
            write(None, Some(4), &[(3, 4), (3, 5)]),
            // Not in the log, behind its end, and behind it again.
            snapshot(id(2, 5), Some(id(2, 5))),
            write(None, None, &[(3, 6)]),
            snapshot(id(3, 9), Some(id(3, 9))),
            write(Some((4, 0)), None, &[(4, 10)]),
        ];
        let mut replay = Replay::default();
        let mut expected = Restored::default();
        for write in writes {
            replay.follow(write.clone()).unwrap();
            expected.replay(write);
            assert_eq!(replay.clone().into_restored().as_ref(), Some(&expected));
        }
    }

    #[test]
    fn what_no_node_writes_is_damage() {
        let mut compacted = replay();
        compacted.follow(snapshot(id(1, 2), Some(id(1, 1)))).unwrap();
        let impossible = [
            ("term back", write(Some((2, 1)), None, &[])),
            ("vote changed", write(Some((3, 2)), None, &[])),
            ("vote withdrawn", write(Some((3, 0)), None, &[])),
            ("gap", write(None, None, &[(3, 5)])),
            ("repeated", write(None, None, &[(3, 3)])),
            ("gap inside", write(None, None, &[(3, 4), (3, 6)])),
            ("term down", write(None, None, &[(2, 4)])),
            ("term down after a cut", write(None, Some(3), &[(1, 3), (3, 4), (2, 5)])),
            ("term not yet seen", write(None, None, &[(4, 4)])),
            ("cut at nothing", write(None, Some(0), &[])),
            ("cut beyond the end", write(None, Some(5), &[])),
            ("cut what was compacted", write(None, Some(1), &[])),
            ("cut what the snapshot holds", write(None, Some(2), &[])),
            ("snapshot back", snapshot(id(1, 1), None)),
            ("snapshot again", snapshot(id(1, 2), None)),
            ("snapshot of a term not yet seen", snapshot(id(4, 9), None)),
            ("compacted beyond the snapshot", snapshot(id(3, 3), Some(id(3, 4)))),
            ("compacted to another log", snapshot(id(3, 3), Some(id(2, 2)))),
            ("compacted back", snapshot(id(3, 3), Some(LogId::ZERO))),
        ];
        for (what, write) in impossible {
            assert!(compacted.clone().follow(write).is_err(), "{what}");
        }
    }

    #[test]
    fn entries_of_segments_that_are_gone_must_turn_out_to_be_compacted() {
        let mut position = Position::default();
        position.follow(&write(Some((3, 1)), None, &[(1, 1), (1, 2), (3, 3)])).unwrap();
        let mut replay = Replay::from_position(position);
        assert_eq!(replay.clone().into_restored(), None);
        replay.follow(write(None, Some(3), &[(3, 3), (3, 4)])).unwrap();
        assert_eq!(replay.clone().into_restored(), None);
        replay.follow(snapshot(id(3, 3), Some(id(1, 1)))).unwrap();
        assert_eq!(replay.clone().into_restored(), None, "1.2 is missing");
        replay.follow(Write { compact_to: Some(Box::new(id(1, 2))), ..Write::default() }).unwrap();
        assert_eq!(terms(&replay), [3, 3]);
    }
}
