//! A node: Raft, its journal, its transport and its state machine, run by one task.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;

use bytes::Bytes;
use futures_lite::FutureExt;
use raft_core::host::{
    ChangeError, Driver, Handle, Journal, Lead, LeadershipWatch, NodeConfig, NodeStatus,
    ProposeError, ReadError, SnapshotError, StartError, StateMachine, StopReason, Stopped,
    TransferError, Transport, WorkerStatus,
};
use raft_core::{Change, LogId, Membership, NodeId};

use crate::executor::Executor;
use crate::wait::{Notify, drive};

/// A running node. A clone is another handle to it. When the last clone is dropped, the node shuts
/// down cleanly.
///
/// Its methods may be called on any executor. Only its loop runs on `E`.
pub struct Node<S: StateMachine, E> {
    handle: Handle<S>,
    executor: PhantomData<fn() -> E>,
}

impl<S: StateMachine, E: Executor> Node<S, E> {
    /// Starts a node: reads the journal, then joins its cluster.
    ///
    /// # Errors
    ///
    /// The configuration, the journal or the transport cannot be used; [`StartError`] says which
    /// and why.
    pub async fn start(
        config: NodeConfig,
        state_machine: S,
        journal: impl Journal,
        transport: impl Transport,
    ) -> Result<Self, StartError> {
        let woken = Notify::new();
        let waker = woken.clone();
        let start = move || {
            let journal = Box::new(journal);
            let transport = Box::new(transport);
            Driver::start(config, state_machine, journal, transport, move || waker.notify())
        };
        // Reading a long journal blocks for long.
        let started = AssertUnwindSafe(blocking::unblock(start)).catch_unwind().await;
        let panicked = |_| io::Error::other("the journal or the transport panicked at the start");
        let (handle, mut driver) =
            started.map_err(|panic| StartError::System(panicked(panic)))??;
        // If the executor ends first, dropping the driver ends the node.
        E::spawn(drive(move || driver.turn(), woken));
        Ok(Self { handle, executor: PhantomData })
    }
}

impl<S: StateMachine, E> Node<S, E> {
    /// The requests that are queued at once and answered later: each returns a
    /// [`Pending`](crate::Pending) answer to be awaited. So one task can have many commands under
    /// way, in its order.
    pub fn handle(&self) -> &Handle<S> {
        &self.handle
    }

    /// Replicates a command and returns the state machine's reply to it, once it is committed and
    /// applied on this node.
    ///
    /// Dropping the future does not take the command back.
    ///
    /// # Errors
    ///
    /// [`ProposeError`] says what to do next; [`ProposeError::may_commit`] whether the command may
    /// have been committed nevertheless.
    pub async fn propose(&self, command: impl Into<Bytes>) -> Result<S::Reply, ProposeError> {
        self.handle.propose(command.into())?.await
    }

    /// Reads the state machine, linearizably (§8): `read` sees every command that was answered
    /// before the call, on any node.
    ///
    /// It runs on the state machine's thread, so it should be quick.
    ///
    /// # Errors
    ///
    /// [`ReadError`] says what to do next. It is always safe to read again.
    pub async fn read<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&S) -> T + Send + 'static,
    {
        self.handle.read(read)?.await
    }

    /// Watches who leads.
    pub fn leadership(&self) -> LeadershipWatch {
        self.handle.leadership()
    }

    /// Waits until this node leads. The guard's term is a fencing token, and the guard knows when
    /// the leadership is lost.
    ///
    /// # Errors
    ///
    /// The node has stopped.
    pub async fn lead(&self) -> Result<Lead, Stopped> {
        self.handle.lead().await
    }

    /// Changes the membership (§6), all of it or nothing: for example adds servers as learners,
    /// promotes learners that have caught up, and removes servers. Returns the members once the
    /// change is complete. A [`Label`](crate::Label) tells the others where a new server is
    /// reached.
    ///
    /// Dropping the future does not take the change back.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] says what to do next, and [`ChangeError::may_take_effect`] whether the
    /// change may have been made nevertheless.
    pub async fn change_membership(&self, changes: Vec<Change>) -> Result<Membership, ChangeError> {
        self.handle.change_membership(changes)?.await
    }

    /// Hands leadership over (thesis 3.10) to this node. If none is named, the leader chooses the
    /// voter whose log is most up to date. Returns the new leader.
    ///
    /// # Errors
    ///
    /// [`TransferError`] says why leadership was not handed over.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        self.handle.transfer_leadership(to)?.await
    }

    /// Takes a snapshot of the state machine now (§7), so that the log before it can be removed.
    /// Without this call the node takes one when the log has grown. Returns the last entry that the
    /// snapshot includes.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] says why no snapshot was taken. The node goes on.
    pub async fn take_snapshot(&self) -> Result<LogId, SnapshotError> {
        self.handle.take_snapshot()?.await
    }

    /// The members of the cluster as this node knows them (§6): the newest configuration in its
    /// log, committed or not. The leader's configuration is the newest, and other nodes may be
    /// behind.
    pub fn membership(&self) -> Membership {
        self.handle.membership()
    }

    /// What the node knows about itself.
    ///
    /// # Errors
    ///
    /// [`ReadError::Busy`] or [`ReadError::Stopped`].
    pub async fn status(&self) -> Result<NodeStatus, ReadError> {
        self.handle.status()?.await
    }

    /// Stops the node. Returns the reason why it stopped once nothing of it is left: all requests
    /// are answered, the journal is synced and closed, its threads have ended, and the transport's
    /// addresses are free. Other handles stay valid, as handles of a stopped node.
    pub async fn shutdown(&self) -> StopReason {
        self.handle.shutdown().await.unwrap_or_else(|stopped| stopped.reason)
    }

    /// Waits until the node has stopped and nothing of it is left, and returns why.
    pub async fn stopped(&self) -> StopReason {
        self.handle.stopped().await.unwrap_or_else(|stopped| stopped.reason)
    }

    /// The threads that the node left behind because they hung when it stopped: see
    /// [`NodeConfig::shutdown_max`](raft_core::host::NodeConfig::shutdown_max). Empty while the
    /// node runs.
    pub fn left_behind(&self) -> Vec<WorkerStatus> {
        self.handle.left_behind()
    }

    /// Why the node has stopped, if it has.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.handle.stop_reason()
    }
}

impl<S: StateMachine, E> Clone for Node<S, E> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), executor: PhantomData }
    }
}

impl<S: StateMachine, E> fmt::Debug for Node<S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("handle", &self.handle).finish()
    }
}
