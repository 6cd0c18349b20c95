//! An application's handle on a node: its requests, the same for every adapter.

use std::boxed::Box;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

use bytes::Bytes;

use super::inbox::{Freshness, Inbox, InboxRefusal, NodeRequest, ProposeRequest, Query};
use super::leadership::{Lead, LeadershipState, LeadershipWatch};
use super::members::{Members, MembershipWatch};
use super::pending::{Pending, Stopping, Unanswered};
use super::status::NodeStatus;
use crate::change::Change;
use crate::host::error::{
    BackupError, ChangeError, ProposeError, ReadError, SnapshotError, StopReason, Stopped,
    TransferError,
};
use crate::host::metrics::{Metrics, MetricsReader};
use crate::host::recorder::Flusher;
use crate::host::snapshot::Backup;
use crate::host::state_machine::StateMachine;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::panics;
use crate::host::threads::panics::answer;
use crate::host::worker_kind::WorkerStatus;
use crate::membership::Membership;
use crate::types::{LogId, NodeId};

/// An application's handle on a node. Cheap to clone. When the last clone is dropped, the node
/// shuts down.
///
/// No method blocks: each queues a request and returns its [`Pending`] answer, which the caller
/// awaits or blocks for. So one task or thread can have many commands on their way, in its order.
pub struct Handle<S: StateMachine> {
    shared: Arc<NodeParts<S>>,
}

struct NodeParts<S: StateMachine> {
    inbox: Arc<Inbox<S>>,
    leadership_state: Arc<LeadershipState>,
    lifecycle: Arc<Lifecycle>,
    members: Arc<Members>,
    recorder: Option<Flusher>,
    metrics: MetricsReader,
}

impl<S: StateMachine> Handle<S> {
    pub(super) fn new(
        inbox: Arc<Inbox<S>>,
        leadership_state: Arc<LeadershipState>,
        lifecycle: Arc<Lifecycle>,
        members: Arc<Members>,
        recorder: Option<Flusher>,
        metrics: MetricsReader,
    ) -> Self {
        let parts = NodeParts { inbox, leadership_state, lifecycle, members, recorder, metrics };
        Self { shared: Arc::new(parts) }
    }

    /// Replicates a command. The answer is the state machine's reply, once the command is committed
    /// and applied on this node.
    ///
    /// # Errors
    ///
    /// [`ProposeError`] says what to do next, and [`ProposeError::may_commit`] whether the command
    /// may have been committed nevertheless. [`ProposeError::Busy`] and [`ProposeError::Stopped`]
    /// give the command back.
    pub fn propose(&self, command: impl Into<Bytes>) -> Pending<S::Reply, ProposeError> {
        self.propose_or_forward(command.into(), false)
    }

    /// Replicates a command from any node. A leader does as for [`propose`](Self::propose). A node
    /// that follows a leader forwards the command to that leader, once, and answers with the reply
    /// of its own state machine when it applies the entry. That takes a round trip more than at the
    /// leader.
    ///
    /// `propose` itself does not forward, because a client that can talk to the leader is better
    /// off there, and learns from [`ProposeError::NotLeader`] where that is.
    ///
    /// [`Config::forwards_waiting_max`](crate::Config::forwards_waiting_max) and
    /// [`Config::forwards_bytes_max`](crate::Config::forwards_bytes_max) bound how much waits.
    ///
    /// # Errors
    ///
    /// As for `propose`. [`ProposeError::NotLeader`] means that this node knows no leader, or one
    /// whose version takes no forwarded commands. [`ProposeError::ForwardLost`] means that the node
    /// can no longer tell what became of the command.
    ///
    /// # Example
    ///
    /// ```
    /// # use raft_core::host::{Handle, ProposeError, StateMachine};
    /// # fn from_any_node<S: StateMachine>(node: &Handle<S>) -> Result<S::Reply, ProposeError> {
    /// let answer = node.propose_anywhere("SET a 1").wait(); // or `.await`
    /// if let Err(error) = &answer {
    ///     eprintln!("{error}; the command may take effect: {}", error.may_commit());
    /// }
    /// # answer
    /// # }
    /// ```
    pub fn propose_anywhere(&self, command: impl Into<Bytes>) -> Pending<S::Reply, ProposeError> {
        self.propose_or_forward(command.into(), true)
    }

    fn propose_or_forward(
        &self,
        command: Bytes,
        forwards: bool,
    ) -> Pending<S::Reply, ProposeError> {
        let (reply, receiver) = oneshot::channel();
        let refusal = self.shared.inbox.propose(ProposeRequest { command, reply, forwards }).err();
        let refused = refusal.map(|(refusal, command)| match refusal {
            InboxRefusal::Full => {
                self.shared.metrics.cells().totals.proposals_refused_busy.add(1);
                ProposeError::Busy { command }
            }
            InboxRefusal::Closed => {
                let reason = self.shared.lifecycle.stopped().reason;
                ProposeError::Stopped { reason, command: Some(command) }
            }
        });
        self.pending(receiver, refused)
    }

    /// Reads the state machine, linearizably (§8): `read` sees a state that holds every command
    /// that was answered before the call, on any node. `read` runs on the state machine's thread,
    /// so it should be quick. A follower asks its leader up to which entry its own state must be
    /// applied.
    ///
    /// # Errors
    ///
    /// [`ReadError`] says what to do next. It is always safe to read again.
    pub fn read<T, F>(&self, read: F) -> Pending<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&S) -> T + Send + 'static,
    {
        self.read_with(Freshness::Linearizable, read)
    }

    /// Reads the state machine as it is on this node, without asking the leader: the state may be
    /// an old one, by any span, but it never goes back while the node runs. Needs no leader and no
    /// quorum.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read), but for [`ReadError::NoLeader`] and
    /// [`ReadError::LeadershipLost`].
    ///
    /// # Example
    ///
    /// ```
    /// # use raft_core::host::{Handle, ReadError, StateMachine};
    /// # struct Total(u64);
    /// # impl StateMachine for Total {
    /// #   type Reply = u64;
    /// #   fn apply(&mut self, _: raft_core::Index, command: bytes::Bytes) -> u64 { self.0 }
    /// # }
    /// fn roughly(node: &Handle<Total>) -> Result<u64, ReadError> {
    ///     node.read_local(|total| total.0).wait()
    /// }
    /// ```
    pub fn read_local<T, F>(&self, read: F) -> Pending<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&S) -> T + Send + 'static,
    {
        self.read_with(Freshness::Local, read)
    }

    /// Reads a state that includes every command that was answered, on any node, `age_max` before
    /// the node takes the call. If a read of this node was confirmed for a moment that is no older,
    /// this one is served at once and asks nobody; else it is a [`read`](Self::read), and confirms
    /// those that follow. So many readers cost one round for each `age_max`.
    ///
    /// The age is measured on this node's clock.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    ///
    /// # Example
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use raft_core::host::{Handle, ReadError, StateMachine};
    /// # struct Total(u64);
    /// # impl StateMachine for Total {
    /// #   type Reply = u64;
    /// #   fn apply(&mut self, _: raft_core::Index, command: bytes::Bytes) -> u64 { self.0 }
    /// # }
    /// fn a_second_ago(node: &Handle<Total>) -> Result<u64, ReadError> {
    ///     node.read_stale(Duration::from_secs(1), |total| total.0).wait()
    /// }
    /// ```
    pub fn read_stale<T, F>(&self, age_max: Duration, read: F) -> Pending<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&S) -> T + Send + 'static,
    {
        self.read_with(Freshness::AtMost(age_max), read)
    }

    fn read_with<T, F>(&self, freshness: Freshness, read: F) -> Pending<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&S) -> T + Send + 'static,
    {
        let (reply, receiver) = oneshot::channel();
        let lifecycle = Arc::clone(&self.shared.lifecycle);
        let read = Box::new(move |state: Result<&S, ReadError>| match state {
            Ok(state_machine) => lifecycle.serve(reply, || read_caught(read, state_machine)),
            Err(error) => {
                panics::contained(|| drop(read));
                answer(reply, Err(error));
            }
        });
        let query = Query::Read(read);
        let refused = self.ask(NodeRequest::Read { query, freshness }, ReadError::Busy);
        self.pending(receiver, refused)
    }

    /// What the node knows about itself.
    ///
    /// # Errors
    ///
    /// [`ReadError::Busy`] or [`ReadError::Stopped`].
    pub fn status(&self) -> Pending<NodeStatus, ReadError> {
        let (reply, receiver) = oneshot::channel();
        let refused = self.ask(NodeRequest::Status(reply), ReadError::Busy);
        self.pending(receiver, refused)
    }

    /// What the node has measured so far. Unlike [`status`](Self::status) it asks no thread of the
    /// node, so it answers at once, also while the node is overloaded or stuck, and after its end.
    ///
    /// # Example
    ///
    /// ```
    /// # use raft_core::host::{Handle, StateMachine};
    /// fn is_slow<S: StateMachine>(node: &Handle<S>) -> bool {
    ///     let metrics = node.metrics();
    ///     let sync = metrics.histograms.journal_sync.quantile(0.99);
    ///     sync.is_some_and(|sync| sync.as_millis() > 20) || metrics.gauges.workers_stuck > 0
    /// }
    /// ```
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics.read()
    }

    /// A reader of [`metrics`](Self::metrics) that does not keep the node running, for a thread
    /// that exports them.
    pub fn metrics_reader(&self) -> MetricsReader {
        self.shared.metrics.clone()
    }

    /// Asks the leader to change the membership (§6): all of these changes at once, or none. The
    /// answer comes when the change is complete, with the members by then. A
    /// [`Label`](crate::host::Label) tells the others at which address a new server is reached.
    ///
    /// A change waits for the changes before it, and the promotion of a learner waits until the
    /// learner has caught up. If the answer is dropped before the change has begun, the change is
    /// taken back.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] says what to do next, and [`ChangeError::may_take_effect`] whether the
    /// change may be in force nevertheless.
    pub fn change_membership(&self, changes: Vec<Change>) -> Pending<Membership, ChangeError> {
        let (reply, receiver) = oneshot::channel();
        let refusal = self.shared.inbox.ask(NodeRequest::Change { changes, reply }).err();
        let refused = refusal.map(|refusal| match refusal {
            InboxRefusal::Full => ChangeError::Busy,
            InboxRefusal::Closed => {
                let reason = self.shared.lifecycle.stopped().reason;
                ChangeError::Stopped { reason, may_take_effect: false }
            }
        });
        self.pending(receiver, refused)
    }

    /// The members as this node knows them (§6): the newest configuration in its log, committed or
    /// not. The leader knows best; other nodes may be behind.
    pub fn membership(&self) -> Membership {
        self.shared.members.current()
    }

    /// A watch over [`membership`](Self::membership).
    pub fn membership_watch(&self) -> MembershipWatch {
        MembershipWatch::new(Arc::clone(&self.shared.members))
    }

    /// The version of the application that is in force for good: its entry is committed, as far as
    /// this node knows. 0 until one was raised, and after a start until the node knows what is
    /// committed. Every member understands what this version understands, so it says what to
    /// propose. Raise it with [`Change::RaiseVersion`].
    pub fn version(&self) -> u32 {
        self.shared.members.version()
    }

    /// Asks the leader to hand leadership over to this voter. If none is named, the leader chooses
    /// the voter whose log is most up to date (thesis 3.10). The answer is the new leader. Commands
    /// that arrive during the transfer wait, and are answered when it is over.
    ///
    /// # Errors
    ///
    /// [`TransferError`] says why leadership was not handed over.
    pub fn transfer_leadership(&self, to: Option<NodeId>) -> Pending<NodeId, TransferError> {
        let (reply, receiver) = oneshot::channel();
        let refused = self.ask(NodeRequest::Transfer { to, reply }, TransferError::Busy);
        self.pending(receiver, refused)
    }

    /// Takes a snapshot of this node's state now (§7), whatever the size of the log. The answer
    /// comes when the snapshot is durable, and is the last entry that the snapshot includes. If
    /// nothing was applied since the last snapshot, the answer is that snapshot's last entry.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] says why there is no snapshot. The node works on.
    pub fn take_snapshot(&self) -> Pending<LogId, SnapshotError> {
        let (reply, receiver) = oneshot::channel();
        let refused = self.ask(NodeRequest::TakeSnapshot(reply), SnapshotError::Busy);
        self.pending(receiver, refused)
    }

    /// A backup that holds every command that was acknowledged, by any node, before the call. Any
    /// node gives one, while it works on: the leader, a follower or a learner. The answer comes
    /// once the state is captured; [`Backup::write_to`] writes it out, on the caller's thread.
    ///
    /// The node confirms the moment as it does for a [`read`](Self::read), so the cluster needs a
    /// leader and a quorum. Without them, [`backup_local`](Self::backup_local) is left.
    ///
    /// Nothing is written to the node's own disk, and no log is compacted. See the
    /// [guide](crate::guide::backup).
    ///
    /// # Errors
    ///
    /// [`BackupError`] says what to do next. It is always safe to ask again.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use raft_core::host::{Handle, StateMachine};
    /// # fn save<S: StateMachine>(node: &Handle<S>) -> Result<(), Box<dyn std::error::Error>> {
    /// let backup = node.backup().wait()?; // or `.await?`
    /// let mut file = std::fs::File::create("backup.partial")?;
    /// let summary = backup.write_to(&mut file)?;
    /// file.sync_all()?;
    /// std::fs::rename("backup.partial", "backup")?;
    /// println!("holds everything up to {}", summary.last);
    /// # Ok(())
    /// # }
    /// ```
    pub fn backup(&self) -> Pending<Backup, BackupError> {
        self.backup_with(Freshness::Linearizable)
    }

    /// A backup that holds every command that this node had applied when the call came. Commands
    /// that other nodes have acknowledged may be missing, by any span. Needs no leader and no
    /// quorum, so it is the last thing to do before a cluster without a majority is given up.
    ///
    /// # Errors
    ///
    /// As for [`backup`](Self::backup), but for what a leader or a quorum is needed for.
    pub fn backup_local(&self) -> Pending<Backup, BackupError> {
        self.backup_with(Freshness::Local)
    }

    fn backup_with(&self, freshness: Freshness) -> Pending<Backup, BackupError> {
        let (reply, receiver) = oneshot::channel();
        let query = Query::Backup(reply);
        let refused = self.ask(NodeRequest::Read { query, freshness }, ReadError::Busy.into());
        self.pending(receiver, refused)
    }

    /// Makes the node write what it has recorded so far, soon. Does nothing if the node records
    /// nothing ([`NodeConfig::record`](crate::host::NodeConfig::record)).
    pub fn flush_recording(&self) {
        if let Some(recorder) = &self.shared.recorder {
            recorder.ask();
            self.shared.inbox.wake_up();
        }
    }

    /// A watch over who leads.
    pub fn leadership(&self) -> LeadershipWatch {
        LeadershipWatch::new(Arc::clone(&self.shared.leadership_state))
    }

    /// Waits until this node leads. The guard's term is a fencing token, and the guard knows when
    /// the lead is lost.
    ///
    /// # Errors
    ///
    /// The node has stopped.
    pub fn lead(&self) -> Pending<Lead, Stopped> {
        self.shared.leadership_state.wait_to_lead()
    }

    /// Stops the node. A leader first hands over to another voter, for an election timeout at most.
    /// The answer comes when nothing of the node is left: all requests are answered, the journal is
    /// synced and closed, the threads have ended, and the transport's addresses are free. To wait
    /// for a node that stops by itself, see [`Handle::stopped`].
    ///
    /// The node waits [`NodeConfig::shutdown_max`](crate::host::NodeConfig::shutdown_max) at most
    /// for a thread that hangs. Then the answer comes nevertheless, and [`Handle::left_behind`]
    /// names the thread. The journal's directory stays locked for as long as a thread that writes
    /// there hangs.
    pub fn shutdown(&self) -> Stopping {
        self.shared.inbox.stop(StopReason::Shutdown);
        self.stopped()
    }

    /// Waits until the node has stopped, by itself or by another handle, and nothing of it is left.
    pub fn stopped(&self) -> Stopping {
        Stopping::new(wait_over(&self.shared.lifecycle))
    }

    /// Why the node has stopped, if it has.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.shared.lifecycle.reason()
    }

    /// The threads that the node left behind when it stopped, because they were at one unit of work
    /// for longer than [`NodeConfig::shutdown_max`](crate::host::NodeConfig::shutdown_max). Empty
    /// while the node runs.
    pub fn left_behind(&self) -> Vec<WorkerStatus> {
        self.shared.lifecycle.left_behind()
    }

    /// The answer to a proposal that does not reach the node.
    pub(in crate::host) fn refused<T>(&self, error: ProposeError) -> Pending<T, ProposeError> {
        Pending::refused(error, Arc::clone(&self.shared.lifecycle))
    }

    /// Queues a request. Returns an error if the node refuses the request.
    fn ask<E: From<Stopped>>(&self, request: NodeRequest<S>, busy: E) -> Option<E> {
        let refusal = self.shared.inbox.ask(request).err();
        refusal.map(|refusal| match refusal {
            InboxRefusal::Full => busy,
            InboxRefusal::Closed => self.shared.lifecycle.stopped().into(),
        })
    }

    fn pending<T, E: Unanswered>(
        &self,
        receiver: oneshot::Receiver<Result<T, E>>,
        refused: Option<E>,
    ) -> Pending<T, E> {
        let lifecycle = Arc::clone(&self.shared.lifecycle);
        match refused {
            Some(error) => Pending::refused(error, lifecycle),
            None => Pending::new(receiver, lifecycle),
        }
    }
}

impl<S: StateMachine> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S: StateMachine> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("leadership", &self.shared.leadership_state)
            .finish_non_exhaustive()
    }
}

impl<S: StateMachine> Drop for NodeParts<S> {
    fn drop(&mut self) {
        self.inbox.stop(StopReason::Shutdown);
    }
}

/// Resolves once nothing is left of the node.
pub(super) fn wait_over(lifecycle: &Arc<Lifecycle>) -> Pending<StopReason, Stopped> {
    let (sender, receiver) = oneshot::channel();
    lifecycle.tell_when_over(sender);
    Pending::new(receiver, Arc::clone(lifecycle))
}

/// Runs an application's read. If the read panics, only that read fails.
fn read_caught<S, T>(read: impl FnOnce(&S) -> T, state_machine: &S) -> Result<T, ReadError> {
    panics::caught(|| read(state_machine)).map_err(|message| ReadError::Panicked { message })
}
