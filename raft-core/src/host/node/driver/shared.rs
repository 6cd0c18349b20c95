//! A node for the thread that turns it: the adapter's loop, or the state machine's thread while
//! that loop is held up.

use std::fmt;
use std::sync::{Arc, PoisonError};

use super::NodeLoop;
use crate::host::clock::Next;
use crate::host::node::state_machine_thread::{StateMachineWork, Turns};
use crate::host::state_machine::StateMachine;
use crate::host::sync::{Mutex, MutexGuard};
use crate::host::tasks::LoopBody;

/// A node without its loop. An adapter calls [`turn`](Driver::turn), waits as `turn` says, and
/// calls it again.
///
/// Dropping the driver stops the node without blocking.
/// [`Handle::stopped`](crate::host::Handle::stopped) says when nothing of the node is left.
pub struct Driver<S: StateMachine> {
    shared: Arc<SharedLoop<S>>,
    work: Arc<StateMachineWork<S>>,
}

impl<S: StateMachine> fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// A node that has not stopped.
pub(super) struct SharedLoop<S: StateMachine> {
    node: Mutex<Option<NodeLoop<S>>>,
}

impl<S: StateMachine> Driver<S> {
    pub(super) fn new(shared: Arc<SharedLoop<S>>, work: Arc<StateMachineWork<S>>) -> Self {
        Self { shared, work }
    }

    /// Keeps the work of the state machine out of [`turn`](Self::turn), unless the state machine
    /// [asked for that](StateMachine::blocks). For a loop whose executor has a single thread: while
    /// a command held that thread up, no task could carry the node's messages.
    pub fn apply_on_thread(&mut self) {
        self.work.stay_on_thread();
    }

    /// Whether several clients waited for the node at once during the last turn. Then the request
    /// that wakes the loop is seldom alone. If the adapter lets other tasks run once before the
    /// next turn, that turn takes the requests of all of them: one message and one write carry
    /// more commands.
    pub fn serves_many(&self) -> bool {
        self.shared.lock().as_ref().is_some_and(|node| node.waiters.were_many())
    }

    /// Takes the inputs, tells Raft the time, and carries out Raft's outputs. If the node is about
    /// to stand for election, the turn first watches the clock for up to 300 µs.
    ///
    /// At its end the turn applies what was committed, if the state machine was
    /// [quick](StateMachine::blocks) so far; otherwise it never blocks. If the state machine holds
    /// it up, another thread turns the node meanwhile.
    pub fn turn(&mut self) -> Next {
        match self.shared.turn() {
            Next::Stop => Next::Stop,
            // What the turn said is out of date if another thread has turned the node.
            next @ (Next::Again | Next::Wait(_)) => {
                if self.work.do_in_loop() {
                    Next::Again
                } else {
                    next
                }
            }
        }
    }
}

impl<S: StateMachine> LoopBody for Driver<S> {
    fn turn(&mut self) -> Next {
        Self::turn(self)
    }

    fn serves_many(&self) -> bool {
        Self::serves_many(self)
    }
}

impl<S: StateMachine> Drop for Driver<S> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl<S: StateMachine> SharedLoop<S> {
    pub(super) fn put(&self, node: NodeLoop<S>) {
        *self.lock() = Some(node);
    }

    /// Ends the node.
    fn end(&self) {
        // Dropped without the lock, because the drop calls code of clients.
        let node = self.lock().take();
        drop(node);
    }

    fn lock(&self) -> MutexGuard<'_, Option<NodeLoop<S>>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: StateMachine> Turns for SharedLoop<S> {
    fn turn(&self) -> Next {
        let next = self.lock().as_mut().map_or(Next::Stop, NodeLoop::turn);
        if next == Next::Stop {
            self.end();
        }
        next
    }
}

impl<S: StateMachine> Default for SharedLoop<S> {
    fn default() -> Self {
        Self { node: Mutex::new(None) }
    }
}
