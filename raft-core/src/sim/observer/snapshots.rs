//! Snapshots (§7): each is what the committed entries up to its last one have made, and names the
//! members at that entry. It is used only once it is whole and durable, and takes the place of what
//! it includes, never of more.

use super::super::draw::mix;
use super::super::state_machine::StateMachine;
use super::super::violation::{Verdict, hold};
use super::Observer;
use super::in_force::InForce;
use crate::message::{InstallSnapshot, SnapshotMeta};
use crate::types::{Command, Index, LogId, NodeId};

impl<C: Command + Eq> Observer<C> {
    /// A server captures its state, which includes the entries up to `applied`, as it is asked to.
    pub fn on_take_snapshot(
        &mut self,
        id: NodeId,
        meta: &SnapshotMeta,
        applied: Index,
        state: &[u8],
    ) -> Verdict {
        hold!(
            meta.last.index == applied,
            SnapshotContent,
            "server {id} calls a snapshot {} whose state includes {applied}",
            meta.last
        );
        self.check_snapshot(id, meta)?;
        self.check_state(id, meta.last, state)
    }

    /// A server that starts gives its state machine this state, if its disk names a snapshot.
    pub fn on_state(&mut self, id: NodeId, snapshot: LogId, state: Option<&[u8]>) -> Verdict {
        if snapshot == LogId::ZERO {
            return Ok(());
        }
        hold!(state.is_some(), Durability, "server {id} starts without its snapshot {snapshot}");
        state.map_or(Ok(()), |state| self.check_state(id, snapshot, state))
    }

    /// A server replaces its state by an installed snapshot.
    pub fn on_restore(&mut self, id: NodeId, meta: &SnapshotMeta, state: Option<&[u8]>) -> Verdict {
        let last = meta.last;
        hold!(state.is_some(), Durability, "server {id} restores the snapshot {last} without it");
        self.on_restore_unseen(id, meta)?;
        state.map_or(Ok(()), |state| self.check_state(id, last, state))
    }

    /// A server's state machine has applied the entries up to this one. States at one index are the
    /// same everywhere.
    pub fn on_applied<S: StateMachine>(
        &mut self,
        id: NodeId,
        index: Index,
        machine: &S,
    ) -> Verdict {
        let digest = digest(&machine.snapshot());
        let known = *self.digests.entry(index).or_insert(digest);
        hold!(
            known == digest,
            StateMachineSafety,
            "the state of server {id} after index {index} differs from that of another server"
        );
        Ok(())
    }

    /// A leader sends a piece of a snapshot.
    pub(super) fn check_install(&self, id: NodeId, install: &InstallSnapshot<C>) -> Verdict {
        self.check_snapshot(id, &install.snapshot)?;
        let last = install.snapshot.last;
        let Some(state) = self.states.get(&last) else { return Ok(()) };
        let offset = usize::try_from(install.offset).unwrap_or(usize::MAX);
        let piece = install.chunk.as_ref();
        let rest = state.get(offset..).unwrap_or_default();
        hold!(
            rest.starts_with(piece) && install.done == (rest.len() == piece.len()),
            SnapshotContent,
            "server {id} sends another piece of the snapshot {last} than there is at {offset}"
        );
        Ok(())
    }

    /// A snapshot ends with a committed entry, and names the members at that entry.
    pub(super) fn check_snapshot(&self, id: NodeId, meta: &SnapshotMeta) -> Verdict {
        let last = meta.last;
        let committed = last.index == Index::ZERO || self.committed_at(last.index) == Some(last);
        hold!(committed, SnapshotContent, "the snapshot {last} of server {id} is not committed");
        let Some(InForce { index, membership }) = self.members_at(last.index) else {
            return Ok(());
        };
        hold!(
            meta.membership == *membership,
            SnapshotContent,
            "the snapshot {last} of server {id} names {:?}; by the entry at {index} it is {membership:?}",
            meta.membership
        );
        Ok(())
    }

    /// What ends with the same entry is the same, wherever it was taken.
    fn check_state(&mut self, id: NodeId, last: LogId, state: &[u8]) -> Verdict {
        let known = self.states.entry(last).or_insert_with(|| state.into());
        hold!(**known == *state, SnapshotContent, "server {id} has another snapshot {last}");
        Ok(())
    }
}

/// A number that tells one state from another, but for a chance in 2^64.
fn digest(state: &[u8]) -> u64 {
    let words =
        state.chunks(8).map(|word| word.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)));
    words.fold(state.len() as u64, |digest, word| mix(digest ^ word))
}
