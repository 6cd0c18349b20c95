//! A node: Raft, its journal, its transport and its state machine, run by threads.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use raft_core::host::{
    ChangeError, Driver, Handle, Journal, Lead, Leadership, LeadershipWatch, NodeConfig,
    NodeStatus, ProposeError, ReadError, SnapshotError, StartError, StateMachine, StopReason,
    Stopped, TransferError, Transport, WaitError, WorkerStatus,
};
use raft_core::{Change, LogId, Membership, NodeId};

use crate::wait::{self, Signal};

/// A running node. A clone is another handle to it, for another thread. When the last clone is
/// dropped, the node shuts down cleanly.
///
/// Every method that waits has a twin, `…_timeout`, which gives up after a while.
pub struct Node<S: StateMachine> {
    handle: Handle<S>,
}

impl<S: StateMachine> Node<S> {
    /// Starts a node: reads the journal, then joins its cluster.
    ///
    /// # Errors
    ///
    /// The configuration, the journal or the transport cannot be used; [`StartError`] says which
    /// and why.
    pub fn start(
        config: NodeConfig,
        state_machine: S,
        journal: impl Journal,
        transport: impl Transport,
    ) -> Result<Self, StartError> {
        let signal = Arc::new(Signal::default());
        let waker = Arc::clone(&signal);
        let journal = Box::new(journal);
        let transport = Box::new(transport);
        let (handle, mut driver) =
            Driver::start(config, state_machine, journal, transport, move || waker.wake())?;
        let looping = thread::Builder::new()
            .name("raft-node".into())
            .spawn(move || wait::run(&signal, move || driver.turn()));
        match looping {
            Ok(_) => Ok(Self { handle }),
            Err(error) => {
                // The driver was dropped with the thread that did not start. The answer is never an
                // error, and says less than the one above.
                let _ = handle.stopped().wait();
                Err(StartError::System(error))
            }
        }
    }

    /// The requests that do not wait: each returns a [`Pending`](crate::Pending) answer, to be
    /// waited for later. So one thread can have many commands under way, or hand their answers to
    /// other threads.
    pub fn handle(&self) -> &Handle<S> {
        &self.handle
    }

    /// Replicates a command and returns the state machine's reply to it, once it is committed and
    /// applied on this node.
    ///
    /// # Errors
    ///
    /// [`ProposeError`] says what to do next; [`ProposeError::may_commit`] whether the command may
    /// have been committed nevertheless.
    pub fn propose(&self, command: impl Into<Bytes>) -> Result<S::Reply, ProposeError> {
        self.handle.propose(command.into())?.wait()
    }

    /// Like [`Node::propose`], for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`]: the command is not taken back, and may yet be committed. Otherwise
    /// as [`Node::propose`].
    pub fn propose_timeout(
        &self,
        command: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<S::Reply, WaitError<ProposeError>> {
        self.handle.propose(command.into())?.wait_timeout(timeout)
    }

    /// Reads the state machine, linearizably (§8): `read` sees every command that was answered
    /// before the call, on any node.
    ///
    /// It runs on the state machine's thread, so it should be quick.
    ///
    /// # Errors
    ///
    /// [`ReadError`] says what to do next. It is always safe to read again.
    pub fn read<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&S) -> T + Send + 'static,
    {
        self.handle.read(read)?.wait()
    }

    /// Like [`Node::read`], for `timeout` at most. After that, `read` may run all the same.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or as [`Node::read`].
    pub fn read_timeout<T, F>(&self, read: F, timeout: Duration) -> Result<T, WaitError<ReadError>>
    where
        T: Send + 'static,
        F: FnOnce(&S) -> T + Send + 'static,
    {
        self.handle.read(read)?.wait_timeout(timeout)
    }

    /// Watches who leads. See also [`Node::leaderships`].
    pub fn leadership(&self) -> LeadershipWatch {
        self.handle.leadership()
    }

    /// What the node knows of its cluster's leader: now, and then after each change, for which the
    /// iterator blocks. Changes in quick succession may show as one. The iterator ends with the
    /// node, and does not keep the node running.
    pub fn leaderships(&self) -> impl Iterator<Item = Leadership> + Send + use<S> {
        let watch = self.leadership();
        let mut seen: Option<Leadership> = None;
        std::iter::from_fn(move || {
            let now = match seen {
                None => watch.current(),
                Some(seen) => watch.changed_from(seen).wait().ok()?,
            };
            seen = Some(now);
            seen
        })
    }

    /// Waits until this node leads. The guard's term is a fencing token, and the guard knows when
    /// the leadership is lost.
    ///
    /// # Errors
    ///
    /// The node has stopped.
    pub fn lead(&self) -> Result<Lead, Stopped> {
        self.handle.lead().wait()
    }

    /// Like [`Node::lead`], for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or as [`Node::lead`].
    pub fn lead_timeout(&self, timeout: Duration) -> Result<Lead, WaitError<Stopped>> {
        self.handle.lead().wait_timeout(timeout)
    }

    /// Changes the membership (§6), all of it or nothing: for example adds servers as learners,
    /// promotes learners that have caught up, and removes servers. Returns the members once the
    /// change is complete. A [`Label`](crate::Label) tells the others where a new server is
    /// reached.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] says what to do next, and [`ChangeError::may_take_effect`] whether the
    /// change may have been made nevertheless.
    pub fn change_membership(&self, changes: Vec<Change>) -> Result<Membership, ChangeError> {
        self.handle.change_membership(changes)?.wait()
    }

    /// Like [`Node::change_membership`], for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or as [`Node::change_membership`].
    pub fn change_membership_timeout(
        &self,
        changes: Vec<Change>,
        timeout: Duration,
    ) -> Result<Membership, WaitError<ChangeError>> {
        self.handle.change_membership(changes)?.wait_timeout(timeout)
    }

    /// Hands leadership over (thesis 3.10) to this node. If none is named, the leader chooses the
    /// voter whose log is most up to date. Returns the new leader.
    ///
    /// # Errors
    ///
    /// [`TransferError`] says why leadership was not handed over.
    pub fn transfer_leadership(&self, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        self.handle.transfer_leadership(to)?.wait()
    }

    /// Like [`Node::transfer_leadership`], for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or as [`Node::transfer_leadership`].
    pub fn transfer_leadership_timeout(
        &self,
        to: Option<NodeId>,
        timeout: Duration,
    ) -> Result<NodeId, WaitError<TransferError>> {
        self.handle.transfer_leadership(to)?.wait_timeout(timeout)
    }

    /// Takes a snapshot of the state machine now (§7), so that the log before it can be removed.
    /// Without this call the node takes one when the log has grown. Returns the last entry that the
    /// snapshot includes.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] says why no snapshot was taken. The node goes on.
    pub fn take_snapshot(&self) -> Result<LogId, SnapshotError> {
        self.handle.take_snapshot()?.wait()
    }

    /// Like [`Node::take_snapshot`], for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or as [`Node::take_snapshot`].
    pub fn take_snapshot_timeout(
        &self,
        timeout: Duration,
    ) -> Result<LogId, WaitError<SnapshotError>> {
        self.handle.take_snapshot()?.wait_timeout(timeout)
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
    pub fn status(&self) -> Result<NodeStatus, ReadError> {
        self.handle.status()?.wait()
    }

    /// Like [`Node::status`], for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or as [`Node::status`].
    pub fn status_timeout(&self, timeout: Duration) -> Result<NodeStatus, WaitError<ReadError>> {
        self.handle.status()?.wait_timeout(timeout)
    }

    /// Stops the node. Returns the reason why it stopped once nothing of it is left: all requests
    /// are answered, the journal is synced and closed, its threads have ended, and the transport's
    /// addresses are free. Other handles stay valid, as handles of a stopped node.
    pub fn shutdown(&self) -> StopReason {
        self.handle.shutdown().wait().unwrap_or_else(|stopped| stopped.reason)
    }

    /// Like [`Node::shutdown`], for `timeout` at most. `None` if the shutdown takes longer; it goes
    /// on then.
    pub fn shutdown_timeout(&self, timeout: Duration) -> Option<StopReason> {
        reason(self.handle.shutdown().wait_timeout(timeout))
    }

    /// Waits until the node has stopped and nothing of it is left, and returns why.
    pub fn stopped(&self) -> StopReason {
        self.handle.stopped().wait().unwrap_or_else(|stopped| stopped.reason)
    }

    /// Like [`Node::stopped`], for `timeout` at most. `None` if it takes longer.
    pub fn stopped_timeout(&self, timeout: Duration) -> Option<StopReason> {
        reason(self.handle.stopped().wait_timeout(timeout))
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

impl<S: StateMachine> Clone for Node<S> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<S: StateMachine> fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("handle", &self.handle).finish()
    }
}

fn reason(waited: Result<StopReason, WaitError<Stopped>>) -> Option<StopReason> {
    match waited {
        Ok(reason) | Err(WaitError::Answered(Stopped { reason })) => Some(reason),
        Err(WaitError::TimedOut) => None,
    }
}
