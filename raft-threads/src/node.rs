//! A node: Raft, its journal, its transport and its state machine, run by threads.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::thread;

use raft_core::host::{
    Driver, Handle, Journal, Leadership, NodeConfig, StartError, StateMachine, Transport,
};

use crate::wait::{self, Signal};

/// A running node. A clone is another handle to it, for another thread. When the last clone is
/// dropped, the node shuts down cleanly.
///
/// Its methods are those of [`Handle`]. Each returns an answer to block for: with `wait()`, or with
/// `wait_timeout(..)`, which gives up after a while and does not take the request back. `then(..)`
/// does not block: it hands the answer to a function once it is there.
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
        let turn = move || {
            // Clients whose threads are about to ask share the turn with the one that woke it.
            if driver.serves_many() {
                thread::yield_now();
            }
            driver.turn()
        };
        let looping =
            thread::Builder::new().name("raft-node".into()).spawn(move || wait::run(&signal, turn));
        match looping {
            Ok(_) => Ok(Self { handle }),
            Err(error) => {
                // The driver was dropped with the thread that did not start, so the node ends. Its
                // reason says less than the error above.
                handle.stopped().wait();
                Err(StartError::System(error))
            }
        }
    }

    /// What the node knows of its cluster's leader: now, and then after each change, for which the
    /// iterator blocks. Changes in quick succession may show as one. The iterator ends with the
    /// node, and does not keep the node running.
    pub fn leaderships(&self) -> impl Iterator<Item = Leadership> + Send + use<S> {
        let watch = self.leadership();
        let mut seen: Option<Leadership> = None;
        std::iter::from_fn(move || {
            let now = match seen.take() {
                None => watch.current(),
                Some(seen) => watch.changed_from(seen).wait().ok()?,
            };
            seen = Some(now.clone());
            Some(now)
        })
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
