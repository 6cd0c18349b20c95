//! What is written, what is being written, and what is durable.
//!
//! The host answers for writes by their id, in order, and may answer for several at once. It never
//! answers by index, for an index can name two entries:
//!
//! ```text
//! write 1: entries 5 6 7 of term 2      leader of term 3 replaces 6:
//! write 2: truncate from 6, entry 6'    now "write 1 is durable" makes 5 durable, not 6 or 6'
//! ```
//!
//! So a truncation clamps what every write still on its way will make durable, and an
//! acknowledgement raises the durable index to what is left of the claim.

use alloc::collections::VecDeque;

use crate::checkpoint::stored;
use crate::time::Instant;
use crate::types::{Index, WriteId};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Durable {
    /// The last entry that is durable.
    index: Index,
    /// All writes up to this one are durable.
    acknowledged: WriteId,
    /// Writes handed to the host and not acknowledged, in order.
    in_flight: VecDeque<InFlight>,
    /// Since when the disk has owed an answer and given none; none if it owes none.
    silent_since: Option<Instant>,
    /// It has answered since the last tick, but not for all.
    answered: bool,
    /// The id that the next write gets.
    next_write: WriteId,
    /// Whether term or vote changed since the last write that took them along.
    hard_state_changed: bool,
    /// The last write that took term and vote along.
    hard_state_write: WriteId,
    /// Whether there is a snapshot that no write has told of, and whether that is worth a write of
    /// its own.
    snapshot: Untold,
    /// What the next write removes from the stored log first.
    truncate_from: Option<Index>,
    /// The first entry that no write has taken along.
    unwritten_from: Index,
}

stored! {
    struct Durable {
        index, acknowledged, in_flight, silent_since, answered, next_write,
        hard_state_changed, hard_state_write, snapshot, truncate_from, unwritten_from,
    }
}

/// What the disk has yet to be told of the snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Untold {
    Nothing,
    /// The state in which a cluster begins: told of with the first write, whatever that is.
    Beginning,
    /// A new snapshot.
    Snapshot,
}

stored! { enum Untold { 0 Nothing {}, 1 Beginning {}, 2 Snapshot {}, } }

/// A write that the host has yet to acknowledge.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct InFlight {
    id: WriteId,
    /// The last entry that is durable once this write is.
    last_index: Index,
}

stored! { struct InFlight { id, last_index } }

/// The head of the next write: everything but its entries.
pub(crate) struct NextWrite {
    pub(crate) id: WriteId,
    pub(crate) with_hard_state: bool,
    pub(crate) with_snapshot: bool,
    pub(crate) truncate_from: Option<Index>,
    pub(crate) entries_from: Index,
}

impl Durable {
    /// After a restart: everything up to `last_index` was read from the disk, unless the server has
    /// never run.
    pub(crate) fn new(last_index: Index, has_never_run: bool) -> Self {
        Self {
            index: last_index,
            acknowledged: WriteId::new(0),
            in_flight: VecDeque::new(),
            silent_since: None,
            answered: false,
            next_write: WriteId::new(1),
            hard_state_changed: false,
            hard_state_write: WriteId::new(0),
            snapshot: if has_never_run { Untold::Beginning } else { Untold::Nothing },
            truncate_from: None,
            unwritten_from: last_index.next(),
        }
    }

    /// The last entry that is durable.
    pub(crate) fn index(&self) -> Index {
        self.index
    }

    /// Writes handed out and not acknowledged.
    pub(crate) fn writes_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Since when the disk has owed an answer and given none, as the ticks saw it.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        self.silent_since
    }

    /// Whether the next tick has something to note.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered
    }

    /// A disk that has answered since the last tick has been silent only since now.
    pub(crate) fn on_tick(&mut self, now: Instant) {
        if self.answered {
            self.silent_since = Some(now);
            self.answered = false;
        }
    }

    /// Whether a crash now would lose neither term nor vote.
    pub(crate) fn hard_state_is_durable(&self) -> bool {
        self.is_durable(self.hard_state_gate())
    }

    /// The write that must be durable before anyone may hear of the current term and vote.
    pub(crate) fn hard_state_gate(&self) -> WriteId {
        if self.hard_state_changed { self.next_write } else { self.hard_state_write }
    }

    pub(crate) fn is_durable(&self, write: WriteId) -> bool {
        write <= self.acknowledged
    }

    pub(crate) fn on_hard_state_changed(&mut self) {
        self.hard_state_changed = true;
    }

    /// There is a new snapshot, which the host holds already.
    pub(crate) fn on_snapshot(&mut self) {
        self.snapshot = Untold::Snapshot;
    }

    /// The log was replaced by a snapshot: of what the disk held, only what was `committed` is
    /// certain to be part of it.
    pub(crate) fn on_log_replaced(&mut self, committed: Index, snapshot: Index) {
        self.snapshot = Untold::Snapshot;
        self.index = self.index.min(committed);
        for write in &mut self.in_flight {
            write.last_index = write.last_index.min(committed);
        }
        // A truncation that no write took along may have removed the snapshot's last entry from
        // memory alone. Then the stored log holds it, and is kept up to there and no further.
        self.truncate_from = Some(snapshot.next());
        self.unwritten_from = snapshot.next();
    }

    /// The log was truncated: neither the disk nor any write on its way counts for what was
    /// removed.
    pub(crate) fn on_truncated(&mut self, from: Index) {
        let keep = from.previous();
        self.index = self.index.min(keep);
        for write in &mut self.in_flight {
            write.last_index = write.last_index.min(keep);
        }
        if from < self.unwritten_from {
            self.unwritten_from = from;
            self.truncate_from = Some(self.truncate_from.map_or(from, |earlier| earlier.min(from)));
        }
    }

    /// Counts ids from the last write that is durable, which it returns, and moves the one moment
    /// kept here. See `canonical`.
    pub(crate) fn renumber(&mut self, moved: impl Fn(Instant) -> Instant) -> WriteId {
        let acknowledged = self.acknowledged;
        for write in &mut self.in_flight {
            write.id = write.id.after(acknowledged);
        }
        self.next_write = self.next_write.after(acknowledged);
        self.hard_state_write = self.hard_state_write.after(acknowledged);
        self.acknowledged = WriteId::new(0);
        self.silent_since = self.silent_since.map(moved);
        acknowledged
    }

    /// What the next write must hold, or `None` if there is nothing to write.
    pub(crate) fn next_write(&self, last_index: Index) -> Option<NextWrite> {
        let entries = self.unwritten_from <= last_index;
        let needed = self.hard_state_changed
            || self.snapshot == Untold::Snapshot
            || self.truncate_from.is_some()
            || entries;
        needed.then_some(NextWrite {
            id: self.next_write,
            with_hard_state: self.hard_state_changed,
            with_snapshot: self.snapshot != Untold::Nothing,
            truncate_from: self.truncate_from,
            entries_from: self.unwritten_from,
        })
    }

    /// The next write was handed out, with entries up to `last_index`.
    pub(crate) fn on_written(&mut self, last_index: Index, now: Instant) {
        self.silent_since.get_or_insert(now);
        let id = self.next_write;
        if self.hard_state_changed {
            self.hard_state_changed = false;
            self.hard_state_write = id;
        }
        self.snapshot = Untold::Nothing;
        self.truncate_from = None;
        self.unwritten_from = last_index.next();
        self.next_write = id.next();
        self.in_flight.push_back(InFlight { id, last_index });
    }

    /// This write and all before it are durable. Returns false if no such write was handed out.
    pub(crate) fn on_persisted(&mut self, id: WriteId) -> bool {
        if id >= self.next_write {
            return false;
        }
        while let Some(write) = self.in_flight.front().filter(|write| write.id <= id) {
            self.index = self.index.max(write.last_index);
            self.acknowledged = write.id;
            self.answered = true;
            self.in_flight.pop_front();
        }
        if self.in_flight.is_empty() {
            self.silent_since = None;
            self.answered = false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(n: u64) -> Index {
        Index::new(n)
    }

    #[test]
    fn a_later_acknowledgement_covers_the_writes_before_it() {
        let mut durable = Durable::new(Index::ZERO, false);
        durable.on_written(index(2), Instant::ZERO);
        durable.on_written(index(5), Instant::ZERO);
        assert!(durable.on_persisted(WriteId::new(2)));
        assert_eq!((durable.index(), durable.writes_in_flight()), (index(5), 0));
    }

    #[test]
    fn an_acknowledgement_does_not_count_for_entries_replaced_meanwhile() {
        let mut durable = Durable::new(Index::ZERO, false);
        durable.on_written(index(7), Instant::ZERO);
        durable.on_truncated(index(6));
        durable.on_written(index(6), Instant::ZERO);
        durable.on_persisted(WriteId::new(1));
        assert_eq!(durable.index(), index(5));
        durable.on_persisted(WriteId::new(2));
        assert_eq!(durable.index(), index(6));
    }

    #[test]
    fn entries_that_no_write_took_along_need_no_truncation() {
        let mut durable = Durable::new(index(3), false);
        durable.on_truncated(index(4));
        assert!(durable.next_write(index(3)).is_none());
        durable.on_truncated(index(2));
        assert_eq!(durable.next_write(index(1)).and_then(|w| w.truncate_from), Some(index(2)));
    }

    #[test]
    fn a_snapshot_in_place_of_the_log_leaves_nothing_behind_it() {
        let mut durable = Durable::new(index(9), false);
        durable.on_truncated(index(4));
        durable.on_log_replaced(index(3), index(7));
        assert_eq!(durable.next_write(index(7)).and_then(|w| w.truncate_from), Some(index(8)));
    }

    #[test]
    fn a_write_that_was_never_handed_out_is_not_durable() {
        let mut durable = Durable::new(Index::ZERO, false);
        assert!(!durable.on_persisted(WriteId::new(1)));
        durable.on_hard_state_changed();
        assert!(!durable.hard_state_is_durable());
        durable.on_written(Index::ZERO, Instant::ZERO);
        assert!(!durable.hard_state_is_durable());
        assert!(durable.on_persisted(WriteId::new(1)) && durable.hard_state_is_durable());
    }
}
