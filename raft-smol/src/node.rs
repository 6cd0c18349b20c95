//! A node: Raft, its journal, its transport and its state machine, run by one task.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;

use futures_lite::FutureExt;
use raft_core::host::tasks::{self, Notify};
use raft_core::host::{Driver, Handle, Journal, NodeConfig, StartError, StateMachine, Transport};

use crate::alarm::Alarm;
use crate::executor::Executor;

/// A running node. A clone is another handle to it. When the last clone is dropped, the node shuts
/// down cleanly.
///
/// Its methods are those of [`Handle`], and may be called on any executor; only its loop runs on
/// `E`. Each returns an answer to be awaited. Dropping an answer does not take the request back.
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
        let (woken, wake) = Notify::with_hook();
        let start = move || {
            let journal = Box::new(journal);
            let transport = Box::new(transport);
            Driver::start(config, state_machine, journal, transport, wake)
        };
        // Reading a long journal blocks for long.
        let started = AssertUnwindSafe(blocking::unblock(start)).catch_unwind().await;
        let panicked = |_| io::Error::other("the journal or the transport panicked at the start");
        let (handle, mut driver) =
            started.map_err(|panic| StartError::System(panicked(panic)))??;
        if !E::has_several_threads() {
            driver.apply_on_thread();
        }
        // If the executor ends first, dropping the driver ends the node.
        E::spawn(tasks::run(driver, woken, Alarm::new()));
        Ok(Self { handle, executor: PhantomData })
    }
}

impl<S: StateMachine, E> Deref for Node<S, E> {
    type Target = Handle<S>;

    fn deref(&self) -> &Handle<S> {
        &self.handle
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
