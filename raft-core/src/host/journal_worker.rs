//! Makes writes durable: on a thread of its own, with group commit, or in place if the journal never blocks.
//!
//! The thread appends what came while it was busy, syncs once, and reports the newest. The first failure is the end of
//! the node, and nothing is written after it. As the last of a node to go, the thread also sees off the others.
//!
//! One sync holds less than twice [`Config::write_bytes_max`](crate::Config::write_bytes_max): the
//! write that reaches that number ends the batch. A leader steps down if its disk does not answer
//! for [`Config::disk_timeout`](crate::Config::disk_timeout), and silence means a stuck disk only
//! if the work between two answers is bounded.

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
use crate::entries::Entry;
use crate::output::Write;
use crate::types::WriteId;

/// How long a node that stops waits for its transport to close its sockets.
const TRANSPORT_STOP_MAX: Duration = Duration::from_secs(10);

/// The loop's end of the journal.
pub(super) struct JournalWorker {
    /// To the thread; bounded by [`Config::inflight_writes_max`](crate::Config::inflight_writes_max).
    tasks: Sender<Task>,
    place: Place,
}

/// Where the journal is.
enum Place {
    /// With the thread.
    Thread,
    /// Here, until it fails.
    Here(Option<Box<dyn Journal>>),
}

/// What a node leaves behind, to be waited for.
pub(super) struct Rest {
    pub(super) state_machine: Option<JoinHandle<()>>,
    pub(super) snapshots: Option<JoinHandle<()>>,
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
        sync_bytes_max: usize,
        inbox: Arc<Inbox<S>>,
        life: Arc<Life>,
    ) -> io::Result<Self> {
        let (tasks, queue) = mpsc::channel();
        let (place, journal) = if journal.blocks() {
            (Place::Thread, Some(journal))
        } else {
            (Place::Here(Some(journal)), None)
        };
        thread::Builder::new().name("raft-journal".into()).spawn(move || {
            let rest = write_all(journal, &queue, sync_bytes_max, &inbox);
            if let Some(rest) = rest {
                see_off(rest);
            }
            life.over();
        })?;
        Ok(Self { tasks, place })
    }

    /// Queues a write, which the thread will report; or makes it durable now, and returns its id.
    ///
    /// # Errors
    ///
    /// It cannot be made durable, and the node must stop. The journal is closed then.
    pub(super) fn write(&mut self, write: Write<Bytes>) -> Result<Option<WriteId>, StopReason> {
        let Place::Here(place) = &mut self.place else {
            // The thread ends only when it is told to, so the queue is there.
            let _ = self.tasks.send(Task::Write(write));
            return Ok(None);
        };
        let Some(journal) = place.take() else { return Ok(None) };
        let id = write.id;
        *place = Some(write_together(journal, &[write])?);
        Ok(Some(id))
    }

    /// Closes the journal once all writes are durable, and ends the thread once the rest is gone too.
    pub(super) fn finish(&mut self, rest: Rest) {
        if let Place::Here(journal) = &mut self.place {
            close(journal.take());
        }
        let _ = self.tasks.send(Task::Finish(rest));
    }
}

/// Writes until told to finish, or until nobody is left who could tell. The journal is closed on return.
fn write_all<S: StateMachine>(
    mut journal: Option<Box<dyn Journal>>,
    queue: &Receiver<Task>,
    sync_bytes_max: usize,
    inbox: &Inbox<S>,
) -> Option<Rest> {
    let mut writes = Vec::new();
    let mut rest = None;
    while rest.is_none() {
        let Ok(task) = queue.recv() else { break };
        rest = gather(task, queue, sync_bytes_max, &mut writes);
        // After a failure writes are thrown away: nothing that depends on them leaves, for they are never reported.
        let newest = writes.last().map(|write| write.id);
        if let (Some(newest), Some(open)) = (newest, journal.take()) {
            match write_together(open, &writes) {
                Ok(open) => {
                    journal = Some(open);
                    inbox.persisted(newest);
                }
                Err(reason) => inbox.stop(reason),
            }
        }
        writes.clear();
    }
    close(journal);
    rest
}

/// Adds what is in the queue to `writes`, up to the write that reaches `bytes_max` bytes of entries,
/// the end of the queue, or the end of the node.
fn gather(
    task: Task,
    queue: &Receiver<Task>,
    bytes_max: usize,
    writes: &mut Vec<Write<Bytes>>,
) -> Option<Rest> {
    let mut bytes = 0;
    let mut next = Some(task);
    while let Some(task) = next {
        match task {
            Task::Write(write) => {
                bytes += write.entries.iter().map(Entry::size).sum::<usize>();
                writes.push(write);
            }
            Task::Finish(rest) => return Some(rest),
        }
        next = if bytes < bytes_max { queue.try_recv().ok() } else { None };
    }
    None
}

/// Makes the writes durable, or closes the journal.
fn write_together(
    mut journal: Box<dyn Journal>,
    writes: &[Write<Bytes>],
) -> Result<Box<dyn Journal>, StopReason> {
    let reason = match catch_unwind(AssertUnwindSafe(|| commit(&mut *journal, writes))) {
        Ok(Ok(())) => return Ok(journal),
        Ok(Err(error)) => StopReason::JournalFailed(error),
        Err(panic) => StopReason::JournalPanicked { message: panics::message(&*panic) },
    };
    // Closed before anyone hears of it, so that whoever starts the node again finds the journal free.
    close(Some(journal));
    Err(reason)
}

fn commit(journal: &mut dyn Journal, writes: &[Write<Bytes>]) -> Result<(), JournalError> {
    for write in writes {
        journal.append(write)?;
    }
    journal.sync()
}

/// A journal that has panicked may do so again when it is dropped; nothing is lost by that.
fn close(journal: Option<Box<dyn Journal>>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(journal)));
}

/// Waits until nothing but this thread is left of the node.
fn see_off(rest: Rest) {
    // The state machine's thread catches the state machine's panics.
    let _ = rest.state_machine.map(JoinHandle::join);
    let _ = rest.snapshots.map(JoinHandle::join);
    if let Err(oneshot::RecvTimeoutError::Timeout) = rest.transport.recv_timeout(TRANSPORT_STOP_MAX)
    {
        tracing::warn!("the transport has not stopped within {TRANSPORT_STOP_MAX:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;
    use crate::entries::Payload;
    use crate::types::{Index, Term};

    fn write(number: u64, bytes: usize) -> Task {
        let payload = Payload::Command(Bytes::from(vec![7; bytes]));
        let entry = Entry { term: Term::new(1), index: Index::new(number), payload };
        let entries = vec![entry].into();
        Task::Write(Write { id: WriteId::new(number), entries, ..Write::default() })
    }

    /// The sizes of the batches that the thread would make of these writes.
    fn batches(sizes: &[usize], bytes_max: usize) -> Vec<usize> {
        let (tasks, queue) = mpsc::channel();
        for (number, bytes) in (1..).zip(sizes) {
            tasks.send(write(number, *bytes)).unwrap();
        }
        let mut batches = Vec::new();
        while let Ok(task) = queue.try_recv() {
            let mut writes = Vec::new();
            assert!(gather(task, &queue, bytes_max, &mut writes).is_none());
            batches.push(writes.len());
        }
        batches
    }

    #[test]
    fn one_sync_ends_with_the_write_that_reaches_the_bound() {
        assert_eq!(batches(&[1, 1, 1], 1 << 20), [3], "small writes travel together");
        assert_eq!(batches(&[1000, 1000, 1000, 1, 1], 1000), [1, 1, 1, 2]);
        assert_eq!(batches(&[600, 600, 600, 600], 1000), [2, 2]);
        assert_eq!(batches(&[5000, 1], 1000), [1, 1], "a large write passes alone");
    }
}
