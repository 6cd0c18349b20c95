//! The end of a node: waits, for a bounded time, for the threads that the node has left running.
//!
//! By then every waiting client has been answered, except the proposer of the command that is being
//! applied. The journal's thread closes the journal, and gives up the lock of its directory, only
//! after the threads of the snapshots have ended. These threads write to the same directory:
//! otherwise an old capture could rename a file that the next owner has half written.
//!
//! A thread that hangs is left running, and the error names it. If the thread writes to the
//! directory, it keeps the lock until it ends.

use std::boxed::Box;
use std::format;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec::Vec;

use super::lifecycle::Lifecycle;
use super::watch::Watch;
use super::worker::Thread;
use crate::host::sync::{mpsc, thread};
use crate::host::transport::RunningEnd;

/// How long the end of a node waits for its transport to close its sockets.
const TRANSPORT_STOP_MAX: Duration = Duration::from_secs(10);

/// The threads that a node leaves running at its end, to be waited for.
pub(in crate::host) struct Ending {
    /// All threads but those of the snapshots, for which the journal's thread waits.
    pub(in crate::host) threads: Vec<Thread>,
    /// Returns once the transport's sockets are closed.
    pub(in crate::host) transport: RunningEnd,
    /// Knows which unit of work each thread is working on.
    pub(in crate::host) watch: Watch,
    pub(in crate::host) lifecycle: Arc<Lifecycle>,
    /// Answers the clients that still wait when the time is over.
    pub(in crate::host) refuse_rest: Box<dyn FnOnce() + Send>,
    /// How long to wait.
    pub(in crate::host) patience: Duration,
}

impl Ending {
    /// Waits on a thread of its own. Returns itself if the system gives no thread.
    pub(in crate::host) fn begin(self) -> Option<Self> {
        let (give, take) = mpsc::channel::<Self>();
        let thread = thread::Builder::new().name("raft-end".into()).spawn(move || {
            if let Ok(ending) = take.recv() {
                ending.wait();
            }
        });
        match thread {
            Ok(_) => give.send(self).err().map(|unsent| unsent.0),
            Err(_) => Some(self),
        }
    }

    /// Waits until nothing of the node is left, for `patience` at most, and then declares the node
    /// over.
    pub(in crate::host) fn wait(self) {
        let Self { threads, transport, watch, lifecycle, refuse_rest, patience } = self;
        let node = lifecycle.node();
        // `None` if the patience exceeds what a clock can represent.
        let deadline = Instant::now().checked_add(patience);
        let mut left = Vec::new();
        for thread in threads {
            if let Err(thread) = thread.wait(deadline) {
                left.push(watch.status_of(thread.kind(), thread.activity()));
            }
        }
        if !left.is_empty() {
            left.extend(watch.busy_besides(&left));
        }
        refuse_rest();
        if !transport.wait_timeout(TRANSPORT_STOP_MAX) {
            tracing::warn!(node = node.get(), span = ?TRANSPORT_STOP_MAX, "the transport has not stopped in time");
        }
        for worker in &left {
            let index = worker.index.map(crate::types::Index::get);
            let task = format!("{}", worker.task);
            let span = worker.since.elapsed();
            let worker = worker.worker;
            tracing::error!(node = node.get(), %worker, task, index, ?span, "the node has stopped, and leaves a thread behind");
        }
        lifecycle.over(left);
    }
}
