//! A node: Raft, its journal, its transport and its state machine, run by one task.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::host::{
    ChangeError, Driver, Handle, Journal, Lead, LeadershipWatch, Next, NodeConfig, NodeStatus,
    ProposeError, ReadError, SnapshotError, StartError, StateMachine, StopReason, Stopped,
    TransferError, Transport, WorkerStatus,
};
use raft_core::{Change, LogId, Membership, NodeId};
use tokio::sync::Notify;

use crate::timer::{Timer, wait};

/// A running node. A clone is another handle to it. When the last clone is dropped, the node shuts
/// down cleanly.
pub struct Node<S: StateMachine> {
    handle: Handle<S>,
}

impl<S: StateMachine> Node<S> {
    /// Starts a node on the current runtime: reads the journal, then joins its cluster.
    ///
    /// # Errors
    ///
    /// The configuration, the journal or the transport cannot be used; [`StartError`] says which
    /// and why.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O and time enabled.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use raft_tokio::*;
    /// # struct Counter(u64);
    /// # impl StateMachine for Counter {
    /// #     type Reply = u64;
    /// #     fn apply(&mut self, _: Index, _: Bytes) -> u64 { self.0 += 1; self.0 }
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let id = NodeId::new(1);
    /// # let config = NodeConfig::new(ClusterId::new(1), Config::new(id, [id]));
    /// # let endpoint = channel::Network::new(1).endpoint(id);
    /// let node = Node::start(config, Counter(0), MemoryJournal::new(), endpoint).await?;
    /// assert!(node.stop_reason().is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start(
        config: NodeConfig,
        state_machine: S,
        journal: impl Journal,
        transport: impl Transport,
    ) -> Result<Self, StartError> {
        let timer = Timer::new().map_err(StartError::System)?;
        let woken = Arc::new(Notify::new());
        let waker = Arc::clone(&woken);
        let start = move || {
            let journal = Box::new(journal);
            let transport = Box::new(transport);
            Driver::start(config, state_machine, journal, transport, move || waker.notify_one())
        };
        // Reading a long journal blocks for long.
        let started = tokio::task::spawn_blocking(start).await;
        let (handle, driver) =
            started.map_err(|error| StartError::System(io::Error::other(error)))??;
        tokio::spawn(run(driver, woken, timer));
        Ok(Self { handle })
    }

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
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use raft_tokio::*;
    /// # struct Counter(u64);
    /// # impl StateMachine for Counter {
    /// #     type Reply = u64;
    /// #     fn apply(&mut self, _: Index, _: Bytes) -> u64 { self.0 += 1; self.0 }
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let id = NodeId::new(1);
    /// # let config = NodeConfig::new(ClusterId::new(1), Config::new(id, [id]));
    /// # let endpoint = channel::Network::new(1).endpoint(id);
    /// # let node = Node::start(config, Counter(0), MemoryJournal::new(), endpoint).await?;
    /// # node.lead().await?;
    /// let mut command = Bytes::from("add");
    /// let reply = loop {
    ///     match node.propose(command).await {
    ///         Ok(reply) => break reply,
    ///         // Ask before trying again.
    ///         Err(error) if error.may_commit() => return Err(error.into()),
    ///         Err(error) => match error.into_command() {
    ///             Some(again) => command = again, // here or at the leader, a little later
    ///             None => return Ok(()),
    ///         },
    ///     }
    /// };
    /// assert_eq!(reply, 1);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use raft_tokio::*;
    /// # struct Counter(u64);
    /// # impl StateMachine for Counter {
    /// #     type Reply = u64;
    /// #     fn apply(&mut self, _: Index, _: Bytes) -> u64 { self.0 += 1; self.0 }
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let id = NodeId::new(1);
    /// # let config = NodeConfig::new(ClusterId::new(1), Config::new(id, [id]));
    /// # let endpoint = channel::Network::new(1).endpoint(id);
    /// # let node = Node::start(config, Counter(0), MemoryJournal::new(), endpoint).await?;
    /// # node.lead().await?;
    /// assert_eq!(node.read(|counter| counter.0).await?, 0);
    /// node.propose("add").await?;
    /// assert_eq!(node.read(|counter| counter.0).await?, 1);
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use raft_tokio::*;
    /// # struct Counter(u64);
    /// # impl StateMachine for Counter {
    /// #     type Reply = u64;
    /// #     fn apply(&mut self, _: Index, _: Bytes) -> u64 { self.0 += 1; self.0 }
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let id = NodeId::new(1);
    /// # let config = NodeConfig::new(ClusterId::new(1), Config::new(id, [id]));
    /// # let endpoint = channel::Network::new(1).endpoint(id);
    /// # let node = Node::start(config, Counter(0), MemoryJournal::new(), endpoint).await?;
    /// # node.lead().await?;
    /// let lead = node.lead().await?;
    /// println!("work under fencing token {}", lead.term());
    /// tokio::select! {
    ///     _ = lead.lost() => println!("stop that work"),
    ///     reason = node.shutdown() => println!("the node was stopped: {reason}"),
    /// }
    /// assert!(!lead.is_leading());
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::Bytes;
    /// # use raft_tokio::*;
    /// # struct Counter(u64);
    /// # impl StateMachine for Counter {
    /// #     type Reply = u64;
    /// #     fn apply(&mut self, _: Index, _: Bytes) -> u64 { self.0 += 1; self.0 }
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let id = NodeId::new(1);
    /// # let config = NodeConfig::new(ClusterId::new(1), Config::new(id, [id]));
    /// # let endpoint = channel::Network::new(1).endpoint(id);
    /// # let node = Node::start(config, Counter(0), MemoryJournal::new(), endpoint).await?;
    /// # node.lead().await?;
    /// let add = Label::at("host-b:7000").add_learner(NodeId::new(2))?;
    /// let members = node.change_membership(vec![add]).await?;
    /// assert_eq!(members.seat(NodeId::new(2)), Some(Seat::Learner));
    /// # Ok(())
    /// # }
    /// ```
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

/// The loop. It ends with the node. If the runtime ends first, dropping the driver ends the node.
async fn run<S: StateMachine>(mut driver: Driver<S>, woken: Arc<Notify>, mut timer: Timer) {
    loop {
        match driver.turn() {
            Next::Again => tokio::task::yield_now().await,
            Next::Wait(deadline) => wait(&woken, &mut timer, deadline).await,
            Next::Stop => return,
        }
    }
}
