//! How a node ends: every waiting client is told why, and another thread waits for the node's
//! threads.

use std::boxed::Box;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::NodeLoop;
use crate::host::error::{ChangeError, ProposeError, StopReason, Stopped};
use crate::host::identity::Identity;
use crate::host::node::inbox::{NodeRequest, ProposeRequest};
use crate::host::state_machine::StateMachine;
use crate::host::threads::ending::Ending;
use crate::host::threads::panics::answer;
use crate::host::threads::watch::Watch;
use crate::host::threads::worker::Thread;
use crate::host::transport::{MessageInbox, Running, RunningEnd, Transport};
use crate::host::worker_kind::WorkerKind;

impl<S: StateMachine> NodeLoop<S> {
    /// Hands the rest of the end to another thread, because the loop must not block.
    fn end(
        &mut self,
        state_machine: Option<Thread>,
        snapshots: Option<Thread>,
        transport: RunningEnd,
        stopped: Stopped,
    ) {
        let lifecycle = Arc::clone(&self.lifecycle);
        let awaited = Arc::clone(self.state_machine.awaited());
        let refuse_rest = move || {
            awaited.stop(&stopped, None);
            lifecycle.refuse_running_read(|| stopped.into());
        };
        let ending = Ending {
            threads: state_machine.into_iter().chain(self.journal.thread()).collect(),
            transport,
            watch: mem::replace(&mut self.watch, Watch::new(self.raft.id(), Duration::ZERO)),
            lifecycle: Arc::clone(&self.lifecycle),
            refuse_rest: Box::new(refuse_rest),
            patience: self.shutdown_max,
        };
        let ending = ending.begin().map(|ending| Ending {
            // The journal's thread waits for the others, and not for itself.
            threads: ending
                .threads
                .into_iter()
                .filter(|t| t.kind() != WorkerKind::Journal)
                .collect(),
            ..ending
        });
        self.journal.close(snapshots.into_iter().collect(), ending);
    }
}

impl<S: StateMachine> Drop for NodeLoop<S> {
    /// Ends the node: every waiting client is told why, and the workers finish what must be
    /// finished.
    fn drop(&mut self) {
        self.lifecycle.end(StopReason::Abandoned);
        let stopped = self.lifecycle.stopped();
        let node = self.raft.id();
        match &stopped.reason {
            StopReason::Shutdown => {
                tracing::info!(node = node.get(), "the node stops: it was asked to");
            }
            reason @ (StopReason::JournalFailed(_)
            | StopReason::JournalPanicked { .. }
            | StopReason::StateMachinePanicked { .. }
            | StopReason::CommandNotUnderstood { .. }
            | StopReason::VersionNotUnderstood { .. }
            | StopReason::RestoreFailed(_)
            | StopReason::WorkerPanicked { .. }
            | StopReason::Abandoned) => {
                tracing::error!(node = node.get(), %reason, "the node stops");
            }
        }
        self.publish_metrics();
        self.meter.cells().stop();
        self.leadership_state.close();
        self.members.close();
        let (running, transport) = Running::new();
        self.transport.stop(running);
        // The transport is dropped only now, so that it was asked to stop first.
        self.transport = Box::new(Nowhere);
        let left = self.inbox.close().requests;
        for request in mem::take(&mut self.arrived.requests).into_iter().chain(left) {
            refuse(request, &stopped);
        }
        self.waiters.stop(&stopped);
        self.forwards.stop(&stopped);
        self.changes.stop(&stopped);
        self.handover.stop(&stopped);
        self.snapshots.stop(&stopped);
        let state_machine = self.state_machine.finish(&stopped);
        let snapshots = self.snapshots.finish();
        // The node is over once its threads are, and its recording is complete by then.
        self.raft.end_recording();
        self.end(state_machine, snapshots, transport, stopped);
    }
}

/// The transport of a node that has stopped.
struct Nowhere;

impl Transport for Nowhere {
    fn start(&mut self, _identity: Identity, _inbox: MessageInbox) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, _message: crate::message::Message<Bytes>) {}
}

/// Answers a request that the node did not come to. A command among them was not appended.
fn refuse<S: StateMachine>(request: NodeRequest<S>, stopped: &Stopped) {
    match request {
        NodeRequest::Propose(ProposeRequest { command, reply, .. }) => {
            let reason = stopped.reason.clone();
            answer(reply, Err(ProposeError::Stopped { reason, command: Some(command) }));
        }
        NodeRequest::Read { query, .. } => query.refuse(stopped.clone().into()),
        NodeRequest::Status(reply) => answer(reply, Err(stopped.clone().into())),
        NodeRequest::Change { reply, .. } => {
            let reason = stopped.reason.clone();
            let may_take_effect = false;
            answer(reply, Err(ChangeError::Stopped { reason, may_take_effect }));
        }
        NodeRequest::Transfer { reply, .. } => answer(reply, Err(stopped.clone().into())),
        NodeRequest::TakeSnapshot(reply) => answer(reply, Err(stopped.clone().into())),
    }
}
