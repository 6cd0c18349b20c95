//! A node: Raft, its journal, its transport and its state machine, run by one task.

use std::fmt;
use std::io;
use std::ops::Deref;

use raft_core::host::tasks::{self, Notify};
use raft_core::host::{Driver, Handle, Journal, NodeConfig, StartError, StateMachine, Transport};
use tokio::runtime;

use crate::timer::Timer;

/// A running node. A clone is another handle to it. When the last clone is dropped, the node shuts
/// down cleanly.
///
/// Its methods are those of [`Handle`]. Each returns an answer to be awaited; dropping the answer
/// does not take the request back.
///
/// # Example
///
/// A command, a read, and the change of a member:
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
/// node.lead().await?;
/// assert_eq!(node.propose("add").await?, 1);
/// assert_eq!(node.read(|counter| counter.0).await?, 1);
///
/// let add = Label::at("host-b:7000").add_learner(NodeId::new(2))?;
/// let members = node.change_membership(vec![add]).await?;
/// assert_eq!(members.suffrage(NodeId::new(2)), Some(Suffrage::Learner));
/// # Ok(())
/// # }
/// ```
///
/// A command again, if it is certain that it was not committed:
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
///         Err(error) if error.may_commit() => return Err(error.into()), // ask before trying again
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
///
/// Work that only a leader may do:
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
        let (woken, wake) = Notify::with_hook();
        let start = move || {
            let journal = Box::new(journal);
            let transport = Box::new(transport);
            Driver::start(config, state_machine, journal, transport, wake)
        };
        // Reading a long journal blocks for long.
        let started = tokio::task::spawn_blocking(start).await;
        let (handle, mut driver) =
            started.map_err(|error| StartError::System(io::Error::other(error)))??;
        if runtime::Handle::current().metrics().num_workers() == 1 {
            driver.apply_on_thread();
        }
        // The loop ends with the node. If the runtime ends first, it drops the driver, and the node
        // ends.
        tokio::spawn(tasks::run(driver, woken, timer));
        Ok(Self { handle })
    }
}

impl<S: StateMachine> Deref for Node<S> {
    type Target = Handle<S>;

    fn deref(&self) -> &Handle<S> {
        &self.handle
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
