//! Log Matching (§5.3): what leaders send, and what followers say that they share with them.

use super::Observer;
use crate::entries::{Entry, Payload};
use crate::message::AppendEntries;
use crate::sim::violation::{Verdict, hold};
use crate::types::{Command, Index, LogId, NodeId, Term};

impl<C: Command + Eq> Observer<C> {
    /// Each entry has the same predecessor and the same content wherever it is seen.
    pub(super) fn match_entries(&mut self, mut previous: LogId, entries: &[Entry<C>]) -> Verdict {
        for entry in entries {
            let at = entry.id();
            hold!(
                at.index == previous.index.next(),
                LogMatching,
                "{at} comes right after {previous}"
            );
            let known = self.entries.first_seen(at, previous.term, &entry.payload);
            hold!(known.1 == entry.payload, LogMatching, "two different entries are {at}");
            hold!(
                known.0 == previous.term,
                LogMatching,
                "{at} follows an entry of term {} here, and of term {} elsewhere",
                previous.term,
                known.0
            );
            previous = at;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn check_append(
        &mut self,
        from: NodeId,
        to: NodeId,
        term: Term,
        append: &AppendEntries<C>,
    ) -> Verdict {
        // A leader is known after its first turn. In the turn of its election it is not known yet.
        if !self.led(from, term) {
            self.note_leader(from, term)?;
        }
        if !append.entries.is_empty() {
            self.match_entries(append.prev_log, &append.entries)?;
        }
        // The leader commits this far only because the follower has the entry on its disk.
        let (commit, mut held) = (append.leader_commit, self.server(to).last_held());
        let removes = |entry: &Entry<C>| match &entry.payload {
            Payload::Configuration(membership) => membership.suffrage(to).is_none(),
            Payload::Noop | Payload::Command(_) => false,
        };
        let is_gone = self.server(from).members.membership.suffrage(to).is_none();
        if is_gone || append.entries.iter().any(removes) {
            // A leader sends the removal notice without waiting for an answer of the removed
            // server. A recording may show it before the end of the turn that removed it.
            let end = append.entries.last().map_or(append.prev_log.index, |last| last.index);
            held = held.max(end);
        }
        hold!(
            commit <= held,
            Durability,
            "leader {from} tells {to} of commit index {commit}, which holds {held}"
        );
        Ok(())
    }

    /// An entry that a follower acknowledges is on its disk, and is the same in the leader's log.
    #[inline]
    pub(super) fn check_match(
        &self,
        from: NodeId,
        to: NodeId,
        term: Term,
        index: Index,
    ) -> Verdict {
        if index == Index::ZERO {
            return Ok(());
        }
        let disk = &self.server(from).disk;
        if index < disk.base().index {
            return Ok(());
        }
        let held = disk.term_at(index);
        hold!(
            held.is_some(),
            Durability,
            "server {from} acknowledges {index}, which is not on its disk"
        );
        if self.led(to, term) {
            let own = self.server(to).disk.written_term_at(index);
            hold!(
                own.is_none() || own == held,
                LogMatching,
                "server {from} acknowledges {index} of term {held:?}, and its leader has {own:?}"
            );
        }
        Ok(())
    }
}
