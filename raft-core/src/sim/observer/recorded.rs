//! Servers of which recordings tell: what is not on a recording is taken to be well.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use rand_core::Rng;

use super::in_force::InForce;
use super::{Observer, Watched};
use crate::message::SnapshotMeta;
use crate::output::Restored;
use crate::raft::Raft;
use crate::sim::violation::{Verdict, hold};
use crate::types::{Command, HardState, Index, LogId, NodeId};

impl<C: Command + Eq> Observer<C> {
    /// A life begins after one that ended at a time of which nothing is known but what the disk
    /// holds now: a recording does not tell which of the last writes survived.
    pub fn on_restart(&mut self, id: NodeId, restored: &Restored<C>) -> Verdict {
        let disk = &self.server(id).disk;
        let survives = |kept: &usize| disk.clone().holds_after_crash(*kept, restored);
        // If no number of writes explains the disk, then its start says what is wrong.
        let kept = (0..=disk.pending()).find(survives).unwrap_or_default();
        self.on_crash(id, kept)?;
        self.on_start(id, restored)
    }

    /// A member lost its disk, and begins anew under its old id. Others may still count on what it
    /// has held and on its votes, so these are kept beside what the server does from now on. A
    /// second leader of a term or a leader without a committed entry is a violation all the same.
    pub fn on_lost_disk(&mut self, id: NodeId) {
        let server = self.server_mut(id);
        let lost = Some(Box::new(core::mem::take(&mut server.disk)));
        *server = Watched { lost, ..Watched::new(id) };
        let (lost, kept) = core::mem::take(&mut self.votes)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|((_, voter), _)| *voter == id);
        self.votes = kept;
        let lost = lost.into_iter().map(|((term, voter), candidate)| (term, voter, candidate));
        self.lost_votes.extend(lost);
    }

    /// A server replaces its state by an installed snapshot whose content is not known.
    pub fn on_restore_unseen(&mut self, id: NodeId, meta: &SnapshotMeta) -> Verdict {
        let server = self.server(id);
        let (applied, last) = (server.applied, meta.last);
        hold!(
            last.index > applied,
            StateMachineSafety,
            "server {id} goes back from {applied} to the snapshot {last}"
        );
        hold!(
            server.disk.snapshot() == Some(meta),
            Durability,
            "server {id} restores the snapshot {last}, which is not on its disk"
        );
        self.check_snapshot(id, meta)?;
        self.server_mut(id).applied = last.index;
        Ok(())
    }

    /// A server is seen for the first time while it runs. All writes that it has asked for are
    /// taken to be done.
    pub fn on_resume<R: Rng>(&mut self, raft: &Raft<C, R>) -> Verdict {
        let (id, server) = (raft.id(), &raft.server);
        let (base, last) = (server.log.base(), server.log.last());
        // What waits to be written comes with a later write.
        let waiting = server.durable.next_write(last.index).map(|next| next.entries_from);
        let through = waiting.map_or(last.index, Index::previous);
        let (entries, _) = server.log.slice(base.index.next(), through, usize::MAX);
        let hard_state = HardState {
            current_term: server.current_term,
            voted_for: server.voted_for,
            promise_micros: server.promise.stored_micros(),
            committed: Index::ZERO,
        };
        let snapshot = Some(server.snapshots.last.clone());
        let restored = Restored { hard_state, snapshot, base, entries: entries.into_vec() };
        *self.server_mut(id) = Watched::new(id);
        self.on_start(id, &restored)?;
        if let Some(candidate) = server.voted_for {
            self.note_vote(server.current_term, id, candidate)?;
        }
        for index in base.index.get() + 1..=server.commit_index.get() {
            let index = Index::new(index);
            let Some(term) = server.log.term_at(index) else { continue };
            self.note_committed(id, LogId::new(term, index), server.current_term)?;
        }
        let membership = raft.membership().clone();
        let members = InForce { index: server.memberships.index(), membership };
        if self.members.membership.is_empty() {
            self.members = members.clone();
        }
        let seen = self.server_mut(id);
        (seen.role, seen.term, seen.commit_index) = (raft.role(), raft.term(), server.commit_index);
        (seen.last, seen.members, seen.applied) = (last, members, server.apply_sent);
        Ok(())
    }
}

impl Watched {
    /// Whether this server's disk holds a committed entry, or the one that it has lost did.
    pub(super) fn holds(&self, entry: LogId) -> bool {
        self.disk.holds(entry) || self.lost.as_ref().is_some_and(|lost| lost.holds(entry))
    }

    /// The last entry that others may count on.
    #[inline]
    pub(super) fn last_held(&self) -> Index {
        let lost = self.lost.as_ref().map_or(Index::ZERO, |lost| lost.last().index);
        self.disk.last().index.max(lost)
    }
}
