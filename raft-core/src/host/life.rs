//! From a node's start to the moment when nothing of it is left.
//!
//! ```text
//!   runs ──── ends: the reason is known, ───── is over: threads have ended, the journal is closed,
//!             everyone who waits is told       the transport's addresses are free
//! ```

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use super::error::{StopReason, Stopped};
use super::pending::Pending;

/// Whether a node still lives, shared by all who ask.
#[derive(Debug, Default)]
pub(super) struct Life {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    reason: Option<StopReason>,
    over: bool,
    waiting: Vec<oneshot::Sender<Result<StopReason, Stopped>>>,
}

impl Life {
    /// The node stops now, for this reason unless it had one before.
    pub(super) fn end(&self, reason: StopReason) {
        self.lock().reason.get_or_insert(reason);
    }

    /// Why the node has stopped, if it has.
    pub(super) fn reason(&self) -> Option<StopReason> {
        self.lock().reason.clone()
    }

    /// For those who find that the node has stopped.
    pub(super) fn stopped(&self) -> Stopped {
        Stopped { reason: self.reason().unwrap_or(StopReason::Abandoned) }
    }

    /// Nothing of the node is left.
    pub(super) fn over(&self) {
        let mut state = self.lock();
        state.over = true;
        let reason = state.reason.get_or_insert(StopReason::Abandoned).clone();
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        for sender in waiting {
            // Whoever no longer waits needs no answer.
            let _ = sender.send(Ok(reason.clone()));
        }
    }

    /// Resolves once nothing of the node is left.
    pub(super) fn wait_over(self: &Arc<Self>) -> Pending<StopReason, Stopped> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        match &state.reason {
            Some(reason) if state.over => {
                let _ = sender.send(Ok(reason.clone()));
            }
            Some(_) | None => {
                state.waiting.retain(|sender| !sender.is_closed());
                state.waiting.push(sender);
            }
        }
        drop(state);
        Pending::new(receiver, Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
