//! The thread that makes writes durable: group commit.
//!
//! It appends everything that came while it was busy, syncs once, and reports the newest. The first failure is the end of the
//! node, and nothing is written after it. As the last of a node to go, it also sees off the others.

use std::boxed::Box;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::vec::Vec;

use bytes::Bytes;

use super::error::StopReason;
use super::inbox::Inbox;
use super::journal::{Journal, JournalError};
use super::life::Life;
use super::panics;
use super::state_machine::StateMachine;
use crate::output::Write;

/// How long a node that stops waits for its transport to close its sockets.
const TRANSPORT_STOP_MAX: Duration = Duration::from_secs(10);

/// The loop's end of the journal's thread. Dropping it ends the thread, once what was handed to it is durable.
pub(super) struct JournalWorker {
    /// Bounded by [`Config::inflight_writes_max`](crate::Config::inflight_writes_max).
    tasks: Sender<Task>,
}

/// What a node leaves behind, to be waited for.
pub(super) struct Rest {
    pub(super) state_machine: Option<JoinHandle<()>>,
    /// Returns once the transport's sockets are closed.
    pub(super) transport: oneshot::Receiver<()>,
}

enum Task {
    Write(Write<Bytes>),
    /// Nothing more will be written. Wait for the others, then say that the node's life is over.
    Finish(Rest),
}

impl JournalWorker {
    /// Starts the thread. It reports to `inbox`, and ends `life`.
    pub(super) fn start<S: StateMachine>(
        journal: Box<dyn Journal>,
        inbox: Arc<Inbox<S>>,
        life: Arc<Life>,
    ) -> io::Result<Self> {
        let (tasks, queue) = mpsc::channel();
        thread::Builder::new().name("raft-journal".into()).spawn(move || {
            let rest = write_all(journal, &queue, &inbox);
            if let Some(rest) = rest {
                see_off(rest);
            }
            life.over();
        })?;
        Ok(Self { tasks })
    }

    /// Queues a write.
    pub(super) fn write(&self, write: Write<Bytes>) {
        // The thread ends only when it is told to, so the queue is there.
        let _ = self.tasks.send(Task::Write(write));
    }

    /// Ends the thread once all writes are durable and the rest is gone too.
    pub(super) fn finish(&self, rest: Rest) {
        let _ = self.tasks.send(Task::Finish(rest));
    }
}

/// Writes until told to finish, or until nobody is left who could tell. The journal is closed on return.
fn write_all<S: StateMachine>(
    journal: Box<dyn Journal>,
    queue: &Receiver<Task>,
    inbox: &Inbox<S>,
) -> Option<Rest> {
    let mut journal = Some(journal);
    let mut writes = Vec::new();
    while let Ok(task) = queue.recv() {
        let rest = gather(task, queue, &mut writes);
        if let Some(open) = journal.take() {
            journal = write_together(open, &writes, inbox);
        }
        // After a failure writes are thrown away: nothing that depends on them leaves, for they are never reported.
        writes.clear();
        if rest.is_some() {
            return rest;
        }
    }
    None
}

/// Adds what is in the queue to `writes`, up to the end of the queue or of the node.
fn gather(task: Task, queue: &Receiver<Task>, writes: &mut Vec<Write<Bytes>>) -> Option<Rest> {
    let mut next = Some(task);
    while let Some(task) = next {
        match task {
            Task::Write(write) => writes.push(write),
            Task::Finish(rest) => return Some(rest),
        }
        next = queue.try_recv().ok();
    }
    None
}

/// Makes the writes durable and reports the last, or closes the journal and stops the node.
fn write_together<S: StateMachine>(
    mut journal: Box<dyn Journal>,
    writes: &[Write<Bytes>],
    inbox: &Inbox<S>,
) -> Option<Box<dyn Journal>> {
    let Some(last) = writes.last() else { return Some(journal) };
    let reason = match catch_unwind(AssertUnwindSafe(|| commit(&mut *journal, writes))) {
        Ok(Ok(())) => {
            inbox.persisted(last.id);
            return Some(journal);
        }
        Ok(Err(error)) => StopReason::JournalFailed(error),
        Err(panic) => StopReason::JournalPanicked { message: panics::message(&*panic) },
    };
    // Closed before anyone hears of it, so that whoever starts the node again finds the journal free. A journal that has just
    // panicked may do so again; nothing is lost by that.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(journal)));
    inbox.stop(reason);
    None
}

fn commit(journal: &mut dyn Journal, writes: &[Write<Bytes>]) -> Result<(), JournalError> {
    for write in writes {
        journal.append(write)?;
    }
    journal.sync()
}

/// Waits until nothing but this thread is left of the node.
fn see_off(rest: Rest) {
    // The state machine's thread catches the state machine's panics.
    let _ = rest.state_machine.map(JoinHandle::join);
    if let Err(oneshot::RecvTimeoutError::Timeout) = rest.transport.recv_timeout(TRANSPORT_STOP_MAX)
    {
        tracing::warn!("the transport has not stopped within {TRANSPORT_STOP_MAX:?}");
    }
}
