//! The one door to the core: every input of a node's [`Raft`] passes here.
//!
//! The core is a pure function of its first state, its inputs and its random numbers. The recorder
//! of these stands at this door. Everyone else reads the core and cannot change it past the door,
//! because there is no `DerefMut`.

use std::boxed::Box;
use std::ops::Deref;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;

use super::meter::RoleMeter;
use super::trace::Trace;
use crate::change::Change;
use crate::error::{ChangeRefused, NothingToSnapshot, ProposeError, ReadRefused, TransferRefused};
use crate::host::metrics::MetricCells;
use crate::host::recorder::{Input, Random, Tape};
use crate::message::Message;
use crate::output::Output;
use crate::raft::Raft;
use crate::time::Instant;
use crate::types::{Index, InstallId, LogId, NodeId, ProposalId, ReadId, Term, WriteId};

/// The core of a node. Each method is the input of that name of [`Raft`]. An input is recorded
/// before the core gets it, so that a recording ends with the input at which the core panicked.
pub(super) struct Core {
    raft: Raft<Bytes, Random>,
    tape: Option<Box<Tape>>,
    trace: Trace,
    roles: RoleMeter,
}

impl Core {
    pub(super) fn new(
        raft: Raft<Bytes, Random>,
        tape: Option<Box<Tape>>,
        mut trace: Trace,
        metrics: Arc<MetricCells>,
    ) -> Self {
        trace.look(&raft);
        let roles = RoleMeter::new(metrics, &raft);
        Self { raft, tape, trace, roles }
    }

    pub(super) fn step(&mut self, message: Message<Bytes>) {
        if let Some(tape) = &mut self.tape {
            tape.step(&self.raft, &message);
        }
        self.raft.step(message);
        self.look();
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(tape) = &mut self.tape {
            tape.tick(&self.raft, now);
        }
        self.raft.tick(now);
        self.look();
    }

    pub(super) fn poll_outbox(&mut self) -> Option<Output<Bytes>> {
        if let Some(tape) = &mut self.tape {
            tape.before_poll();
        }
        let output = self.raft.poll_outbox();
        self.look();
        if let Some(output) = &output {
            self.trace.polled(output);
        }
        if let (None, Some(tape)) = (&output, &mut self.tape) {
            tape.polled_all();
        }
        output
    }

    pub(super) fn propose(&mut self, command: Bytes) -> Result<(Term, Index), ProposeError<Bytes>> {
        if let Some(tape) = &mut self.tape {
            tape.propose(&self.raft, &command);
        }
        let proposed = self.raft.propose(command);
        self.look();
        proposed
    }

    pub(super) fn forward(&mut self, command: Bytes) -> Result<ProposalId, ProposeError<Bytes>> {
        self.record(|| Input::Forward(command.clone()));
        self.raft.forward(command)
    }

    pub(super) fn read(&mut self) -> Result<ReadId, ReadRefused> {
        self.record(|| Input::Read);
        let read = self.raft.read()?;
        self.trace.asked(read);
        Ok(read)
    }

    pub(super) fn persisted(&mut self, id: WriteId) {
        self.record(|| Input::Persisted(id));
        self.raft.persisted(id);
        self.trace.persisted(id, &self.raft);
        self.roles.look(&self.raft);
    }

    pub(super) fn applied(&mut self, index: Index) {
        self.record(|| Input::Applied(index));
        self.raft.applied(index);
    }

    pub(super) fn suspect_leader(&mut self, leader: NodeId) {
        self.record(|| Input::SuspectLeader(leader));
        self.raft.suspect_leader(leader);
        self.look();
    }

    pub(super) fn transfer_leadership(
        &mut self,
        to: Option<NodeId>,
    ) -> Result<NodeId, TransferRefused> {
        self.record(|| Input::TransferLeadership(to));
        self.raft.transfer_leadership(to)
    }

    pub(super) fn change_membership(
        &mut self,
        changes: &[Change],
    ) -> Result<(Term, Index), ChangeRefused> {
        self.record(|| Input::ChangeMembership(changes.to_vec()));
        let changed = self.raft.change_membership(changes);
        self.look();
        changed
    }

    pub(super) fn abstain(&mut self, abstains: bool) {
        self.record(|| Input::Abstain(abstains));
        self.raft.abstain(abstains);
        self.roles.look(&self.raft);
    }

    pub(super) fn take_snapshot(&mut self) -> Result<(), NothingToSnapshot> {
        self.record(|| Input::TakeSnapshot);
        self.raft.take_snapshot()
    }

    pub(super) fn snapshot_taken(&mut self, index: Index) {
        self.record(|| Input::SnapshotTaken(index));
        self.raft.snapshot_taken(index);
        self.look();
    }

    pub(super) fn snapshot_failed(&mut self) {
        self.record(|| Input::SnapshotFailed);
        self.raft.snapshot_failed();
    }

    pub(super) fn snapshot_damaged(&mut self, snapshot: LogId) {
        self.record(|| Input::SnapshotDamaged(snapshot));
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
        self.record(|| Input::SnapshotRead { to, snapshot, offset, chunk: chunk.clone(), done });
        self.raft.snapshot_read(to, snapshot, offset, chunk, done);
    }

    pub(super) fn snapshot_unreadable(&mut self, to: NodeId, snapshot: LogId) {
        self.record(|| Input::SnapshotUnreadable { to, snapshot });
        self.raft.snapshot_unreadable(to, snapshot);
    }

    pub(super) fn snapshot_written(&mut self, install: InstallId, written: u64) {
        self.record(|| Input::SnapshotWritten { install, written });
        self.raft.snapshot_written(install, written);
        self.look();
    }

    /// Notes the last state, and waits for a bounded time until the recording is written. Nothing
    /// is recorded afterwards. A core that panicked has no state worth noting.
    pub(super) fn end_recording(&mut self) {
        let Some(mut tape) = self.tape.take() else { return };
        if !thread::panicking() {
            tape.end(&self.raft);
        }
    }

    fn look(&mut self) {
        self.trace.look(&self.raft);
        self.roles.look(&self.raft);
    }

    fn record(&mut self, input: impl FnOnce() -> Input<Bytes>) {
        if let Some(tape) = &mut self.tape {
            tape.input(&self.raft, &input());
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.end_recording();
    }
}

impl Deref for Core {
    type Target = Raft<Bytes, Random>;

    fn deref(&self) -> &Self::Target {
        &self.raft
    }
}
