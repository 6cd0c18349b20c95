//! The lifecycle of a node, from its start to the moment when nothing of it is left.
//!
//! ```text
//!   runs ──── ends: the reason is known, ───── is over: threads have ended, the journal is closed,
//!             all clients are told             the transport's addresses are free
//! ```
//!
//! A thread that hangs delays the end by
//! [`NodeConfig::shutdown_max`](crate::host::NodeConfig::shutdown_max) at most. Then the node is
//! over, and the threads that it left behind are named.

use std::fmt;
use std::mem;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Instant;
use std::vec::Vec;

use super::alarm::{Alarm, Until};
use super::here::ThreadsNode;
use super::panics;
use super::panics::answer;
use crate::host::error::{ReadError, StopReason, Stopped};
use crate::host::sync::{Mutex, MutexGuard};
use crate::host::worker_kind::WorkerStatus;
use crate::types::NodeId;

/// The stage of a node's lifecycle, shared by all code that asks for it.
#[derive(Debug, Default)]
pub(in crate::host) struct Lifecycle {
    /// The node, as its threads know it.
    node: Arc<ThreadsNode>,
    state: Mutex<Stage>,
    /// The read that the state machine serves, whose closure may hang.
    running_read: Mutex<Option<Arc<dyn Refusable>>>,
    /// Wakes the clients that wait within a time. `None` if the operating system gave no thread.
    alarm: OnceLock<Option<Alarm>>,
}

/// The sender for the reply to a read, whatever the read returns.
type RunningRead<T, E> = Mutex<Option<oneshot::Sender<Result<T, E>>>>;

trait Refusable: Send + Sync {
    fn refuse(&self, error: ReadError);
}

impl<T: Send, E: From<ReadError> + Send> Refusable for RunningRead<T, E> {
    fn refuse(&self, error: ReadError) {
        let reply = self.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reply) = reply {
            answer(reply, Err(error.into()));
        }
    }
}

impl fmt::Debug for dyn Refusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a read")
    }
}

#[derive(Debug, Default)]
struct Stage {
    reason: Option<StopReason>,
    over: bool,
    left_behind: Vec<WorkerStatus>,
    waiting: Vec<oneshot::Sender<Result<StopReason, Stopped>>>,
}

impl Lifecycle {
    /// The lifecycle of a node that starts.
    pub(in crate::host) fn new(node: NodeId) -> Self {
        Self { node: Arc::new(ThreadsNode::new(node)), ..Self::default() }
    }

    /// The node.
    pub(in crate::host) fn node(&self) -> NodeId {
        self.node.id()
    }

    /// The node, as its threads know it.
    pub(in crate::host) fn threads_node(&self) -> &Arc<ThreadsNode> {
        &self.node
    }

    /// Ready at this time. The first call starts a thread, which ends with the last handle on the
    /// node and the last answer. `None` if the operating system gives no thread.
    pub(in crate::host) fn until(&self, at: Instant) -> Option<Until> {
        let alarm = self.alarm.get_or_init(|| match Alarm::start() {
            Ok(alarm) => Some(alarm),
            Err(error) => {
                let node = self.node().get();
                tracing::error!(node, %error, "no thread to wake clients that wait within a time");
                None
            }
        });
        alarm.as_ref().map(|alarm| alarm.until(at))
    }

    /// How often the code of a waiting client panicked.
    pub(in crate::host) fn panics(&self) -> u64 {
        self.node.panics()
    }

    /// Runs a read and answers its client, unless
    /// [`refuse_running_read`](Self::refuse_running_read) answers first.
    pub(in crate::host) fn serve<T: Send + 'static, E: From<ReadError> + Send + 'static>(
        &self,
        reply: oneshot::Sender<Result<T, E>>,
        read: impl FnOnce() -> Result<T, E>,
    ) {
        let waiting = Arc::new(RunningRead::new(Some(reply)));
        let refusable = Arc::clone(&waiting);
        *self.lock_running_read() = Some(refusable);
        let result = read();
        *self.lock_running_read() = None;
        let reply = waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        match reply {
            Some(reply) => answer(reply, result),
            None => panics::contained(|| drop(result)),
        }
    }

    /// Answers the client whose read is running, if any.
    pub(in crate::host) fn refuse_running_read(&self, error: impl FnOnce() -> ReadError) {
        let running = self.lock_running_read().take();
        if let Some(running) = running {
            running.refuse(error());
        }
    }

    fn lock_running_read(&self) -> MutexGuard<'_, Option<Arc<dyn Refusable>>> {
        self.running_read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The threads that had not ended when the node was over.
    pub(in crate::host) fn left_behind(&self) -> Vec<WorkerStatus> {
        self.lock().left_behind.clone()
    }

    /// Stops the node for this reason. The first reason stays.
    pub(in crate::host) fn end(&self, reason: StopReason) {
        self.lock().reason.get_or_insert(reason);
    }

    /// Why the node has stopped, if it has.
    pub(in crate::host) fn reason(&self) -> Option<StopReason> {
        self.lock().reason.clone()
    }

    /// The error for a client that finds that the node has stopped.
    pub(in crate::host) fn stopped(&self) -> Stopped {
        Stopped { reason: self.reason().unwrap_or(StopReason::Abandoned) }
    }

    /// Declares the node over: nothing of it is left but these threads.
    pub(in crate::host) fn over(&self, left_behind: Vec<WorkerStatus>) {
        let mut state = self.lock();
        state.over = true;
        state.left_behind = left_behind;
        let reason = state.reason.get_or_insert(StopReason::Abandoned).clone();
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        for sender in waiting {
            answer(sender, Ok(reason.clone()));
        }
    }

    /// Sends the reason why the node stopped, once nothing of the node is left.
    pub(in crate::host) fn tell_when_over(
        &self,
        sender: oneshot::Sender<Result<StopReason, Stopped>>,
    ) {
        let mut state = self.lock();
        match &state.reason {
            Some(reason) if state.over => {
                let reason = reason.clone();
                drop(state);
                answer(sender, Ok(reason));
            }
            Some(_) | None => {
                state.waiting.retain(|sender| !sender.is_closed());
                state.waiting.push(sender);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
