//! Whether a write can follow those before it. What no node ever writes is damage, whatever its checksum says.

use bytes::Bytes;
use std::format;
use std::string::String;

use crate::entries::Entry;
use crate::output::{Restored, Write};
use crate::types::{HardState, Index, LogId, Term};

/// Adds a write to what was restored so far; the error says why it cannot be the next one.
pub(super) fn replay(restored: &mut Restored<Bytes>, write: Write<Bytes>) -> Result<(), String> {
    let entries = &restored.entries;
    let term_before = |from| {
        let kept = entries.partition_point(|entry| entry.index < from);
        entries[..kept].last().map_or(Term::ZERO, |entry| entry.term)
    };
    Position::after(restored).follow(&write, term_before)?;
    restored.replay(write);
    Ok(())
}

/// What the next write has to fit: term, vote, and the end of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    hard_state: HardState,
    last: LogId,
}

impl Position {
    pub(super) fn after(restored: &Restored<Bytes>) -> Self {
        let last = restored.entries.last().map_or(LogId::ZERO, Entry::id);
        Self { hard_state: restored.hard_state, last }
    }

    /// Moves behind a write; the error says why it cannot be the next one. `term_before` tells the term of the entry before an
    /// index, or one that is no higher.
    pub(super) fn follow(
        &mut self,
        write: &Write<Bytes>,
        term_before: impl FnOnce(Index) -> Term,
    ) -> Result<(), String> {
        if let Some(hard_state) = write.hard_state {
            self.follow_hard_state(hard_state)?;
        }
        if let Some(from) = write.truncate_from {
            if from == Index::ZERO || from > self.last.index.next() {
                return Err(format!("entries from {from} removed behind {}", self.last));
            }
            self.last = LogId::new(term_before(from), from.previous());
        }
        write.entries.iter().try_for_each(|entry| self.follow_entry(entry))
    }

    /// The term only grows, and a vote once given in a term stays (§5.2).
    fn follow_hard_state(&mut self, next: HardState) -> Result<(), String> {
        let HardState { current_term, voted_for } = self.hard_state;
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

    /// The log has no gaps, and its terms never go down (§5.3), nor beyond the server's own.
    fn follow_entry(&mut self, entry: &Entry<Bytes>) -> Result<(), String> {
        let (last, current_term) = (self.last, self.hard_state.current_term);
        let follows = entry.index == last.index.next() && entry.term >= last.term;
        if !follows || entry.term > current_term {
            return Err(format!("entry {} after {last} in term {current_term}", entry.id()));
        }
        self.last = entry.id();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::Payload;
    use crate::types::{NodeId, WriteId};
    use std::vec::Vec;

    fn write(vote: Option<(u64, u64)>, cut: Option<u64>, entries: &[(u64, u64)]) -> Write<Bytes> {
        let entry = |&(term, index)| Entry {
            term: Term::new(term),
            index: Index::new(index),
            payload: Payload::Noop,
        };
        Write {
            id: WriteId::new(1),
            hard_state: vote.map(|(term, node)| HardState {
                current_term: Term::new(term),
                voted_for: (node > 0).then(|| NodeId::new(node)),
            }),
            truncate_from: cut.map(Index::new),
            entries: entries.iter().map(entry).collect(),
            ..Write::default()
        }
    }

    /// Term 3 with a vote for node 1, and the entries 1.1, 1.2, 3.3.
    fn restored() -> Restored<Bytes> {
        let mut restored = Restored::default();
        replay(&mut restored, write(Some((3, 1)), None, &[(1, 1), (1, 2), (3, 3)])).unwrap();
        restored
    }

    #[test]
    fn what_a_node_writes_is_replayed() {
        let mut restored = restored();
        replay(&mut restored, write(Some((4, 0)), None, &[])).unwrap();
        replay(&mut restored, write(Some((4, 2)), Some(2), &[(2, 2), (4, 3)])).unwrap();
        replay(&mut restored, write(None, Some(4), &[(4, 4)])).unwrap();
        let ids: Vec<_> = restored.entries.iter().map(|entry| entry.id().term.get()).collect();
        assert_eq!(ids, [1, 2, 4, 4]);
    }

    #[test]
    fn what_no_node_writes_is_damage_and_changes_nothing() {
        let impossible = [
            ("term back", write(Some((2, 1)), None, &[])),
            ("vote changed", write(Some((3, 2)), None, &[])),
            ("vote withdrawn", write(Some((3, 0)), None, &[])),
            ("gap", write(None, None, &[(3, 5)])),
            ("repeated", write(None, None, &[(3, 3)])),
            ("gap inside", write(None, None, &[(3, 4), (3, 6)])),
            ("term down", write(None, None, &[(2, 4)])),
            ("term down after a cut", write(None, Some(3), &[(3, 3), (2, 4)])),
            ("term not yet seen", write(None, None, &[(4, 4)])),
            ("cut at nothing", write(None, Some(0), &[])),
            ("cut beyond the end", write(None, Some(5), &[])),
        ];
        for (what, write) in impossible {
            let mut after = restored();
            assert!(replay(&mut after, write).is_err(), "{what}");
            assert_eq!(after, restored(), "{what}");
        }
    }
}
