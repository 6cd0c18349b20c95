//! Whether a write can follow those before it. What no node ever writes is damage, whatever its checksum says.

use bytes::Bytes;
use std::format;
use std::string::String;

use crate::output::{Restored, Write};
use crate::types::{HardState, LogId};

/// Adds a write to what was restored so far; the error says why it cannot be the next one.
pub(super) fn replay(restored: &mut Restored<Bytes>, write: Write<Bytes>) -> Result<(), String> {
    check_hard_state(restored.hard_state, write.hard_state)?;
    check_entries(restored, &write)?;
    restored.replay(write);
    Ok(())
}

/// The term only grows, and a vote once given in a term stays (§5.2).
fn check_hard_state(stored: HardState, written: Option<HardState>) -> Result<(), String> {
    let Some(written) = written else { return Ok(()) };
    if written.current_term < stored.current_term {
        let (from, to) = (stored.current_term, written.current_term);
        return Err(format!("the term goes back from {from} to {to}"));
    }
    let same_term = written.current_term == stored.current_term;
    if same_term && stored.voted_for.is_some() && written.voted_for != stored.voted_for {
        return Err(format!("the vote in term {} changes", written.current_term));
    }
    Ok(())
}

/// The log has no gaps, and its terms never go down (§5.3).
fn check_entries(restored: &Restored<Bytes>, write: &Write<Bytes>) -> Result<(), String> {
    let current_term = write.hard_state.unwrap_or(restored.hard_state).current_term;
    let mut last = restored.entries.last().map_or(LogId::ZERO, crate::Entry::id);
    if let Some(from) = write.truncate_from {
        if from.get() == 0 || from > last.index.next() {
            return Err(format!("the log is cut from index {from}, but ends at {}", last.index));
        }
        let kept = restored.entries.partition_point(|entry| entry.index < from);
        last = restored.entries[..kept].last().map_or(LogId::ZERO, crate::Entry::id);
    }
    for entry in &write.entries {
        if entry.index != last.index.next() {
            return Err(format!("entry {} follows entry {last}", entry.id()));
        }
        if entry.term < last.term || entry.term > current_term {
            return Err(format!(
                "entry {} follows entry {last} in term {current_term}",
                entry.id()
            ));
        }
        last = entry.id();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::{Entry, Payload};
    use crate::types::{Index, NodeId, Term, WriteId};
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
