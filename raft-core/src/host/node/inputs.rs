//! The one door to the core: every input of a node's [`Raft`] passes here.
//!
//! The core is a pure function of its first state, its inputs and its random numbers. Whatever
//! wants to know them all, such as a recorder, stands at this door. It reads the core as it likes
//! and cannot change it, because the door has no `DerefMut`.

use std::ops::Deref;

use bytes::Bytes;
use rand_pcg::Pcg32;

use super::trace::Trace;
use crate::change::Change;
use crate::error::{ChangeRefused, NothingToSnapshot, ProposeError, ReadRefused, TransferRefused};
use crate::message::Message;
use crate::output::Output;
use crate::raft::Raft;
use crate::time::Instant;
use crate::types::{Index, InstallId, LogId, NodeId, ProposalId, ReadId, Term, WriteId};

/// The core of a node. Each method is the input of that name of [`Raft`].
pub(super) struct Core {
    raft: Raft<Bytes, Pcg32>,
    trace: Trace,
}

impl Core {
    pub(super) fn new(raft: Raft<Bytes, Pcg32>, mut trace: Trace) -> Self {
        trace.look(&raft);
        Self { raft, trace }
    }

    pub(super) fn step(&mut self, message: Message<Bytes>) {
        self.raft.step(message);
        self.trace.look(&self.raft);
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.raft.tick(now);
        self.trace.look(&self.raft);
    }

    pub(super) fn poll_outbox(&mut self) -> Option<Output<Bytes>> {
        let output = self.raft.poll_outbox();
        self.trace.look(&self.raft);
        if let Some(Output::Persist(write)) = &output {
            self.trace.handed(write);
        }
        output
    }

    pub(super) fn propose(&mut self, command: Bytes) -> Result<(Term, Index), ProposeError<Bytes>> {
        let proposed = self.raft.propose(command);
        self.trace.look(&self.raft);
        proposed
    }

    pub(super) fn forward(&mut self, command: Bytes) -> Result<ProposalId, ProposeError<Bytes>> {
        self.raft.forward(command)
    }

    pub(super) fn read(&mut self) -> Result<ReadId, ReadRefused> {
        self.raft.read()
    }

    pub(super) fn persisted(&mut self, id: WriteId) {
        self.raft.persisted(id);
        self.trace.persisted(id, &self.raft);
    }

    pub(super) fn applied(&mut self, index: Index) {
        self.raft.applied(index);
    }

    pub(super) fn suspect_leader(&mut self, leader: NodeId) {
        self.raft.suspect_leader(leader);
        self.trace.look(&self.raft);
    }

    pub(super) fn transfer_leadership(
        &mut self,
        to: Option<NodeId>,
    ) -> Result<NodeId, TransferRefused> {
        self.raft.transfer_leadership(to)
    }

    pub(super) fn change_membership(
        &mut self,
        changes: &[Change],
    ) -> Result<(Term, Index), ChangeRefused> {
        let changed = self.raft.change_membership(changes);
        self.trace.look(&self.raft);
        changed
    }

    pub(super) fn abstain(&mut self, abstains: bool) {
        self.raft.abstain(abstains);
    }

    pub(super) fn take_snapshot(&mut self) -> Result<(), NothingToSnapshot> {
        self.raft.take_snapshot()
    }

    pub(super) fn snapshot_taken(&mut self, index: Index) {
        self.raft.snapshot_taken(index);
        self.trace.look(&self.raft);
    }

    pub(super) fn snapshot_failed(&mut self) {
        self.raft.snapshot_failed();
    }

    pub(super) fn snapshot_damaged(&mut self, snapshot: LogId) {
        self.raft.snapshot_damaged(snapshot);
    }

    pub(super) fn snapshot_read(
        &mut self,
        to: NodeId,
        snapshot: LogId,
        offset: u64,
        chunk: Bytes,
        done: bool,
    ) {
        self.raft.snapshot_read(to, snapshot, offset, chunk, done);
    }

    pub(super) fn snapshot_unreadable(&mut self, to: NodeId, snapshot: LogId) {
        self.raft.snapshot_unreadable(to, snapshot);
    }

    pub(super) fn snapshot_written(&mut self, install: InstallId, written: u64) {
        self.raft.snapshot_written(install, written);
        self.trace.look(&self.raft);
    }
}

impl Deref for Core {
    type Target = Raft<Bytes, Pcg32>;

    fn deref(&self) -> &Self::Target {
        &self.raft
    }
}
