//! Makes writes durable: on a thread of its own with group commit, or in the loop if the journal
//! never blocks.
//!
//! The thread appends the writes that arrived while it was busy, syncs once, and reports the newest
//! of them. The first failure ends the node, and nothing is written after it. The thread closes the
//! journal, and gives up its directory, when the threads of the snapshots have ended: see
//! [`ending`](crate::host::threads::ending).
//!
//! One sync holds less than twice [`Config::write_bytes_max`](crate::Config::write_bytes_max),
//! because the write that reaches that number ends the batch. A leader steps down if its disk does
//! not answer for [`Config::disk_timeout`](crate::Config::disk_timeout), and silence means a stuck
//! disk only if the work between two answers is bounded.

use std::boxed::Box;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use std::vec::Vec;

use bytes::Bytes;

use super::inbox::Inbox;
use crate::entries::Entry;
use crate::host::error::StopReason;
use crate::host::journal::Journal;
use crate::host::metrics::MetricCells;
use crate::host::state_machine::StateMachine;
use crate::host::storage_error::StorageError;
use crate::host::threads::ending::Ending;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::panics;
use crate::host::threads::worker::{Activity, Queue, Stopper, Thread, Worker};
use crate::host::worker_kind::{WorkerKind, WorkerTask};
use crate::output::Write;
use crate::types::{Index, WriteId};

/// The loop's side of the journal.
pub(super) struct JournalWorker {
    /// The worker's queue is bounded by
    /// [`Config::inflight_writes_max`](crate::Config::inflight_writes_max).
    worker: Worker<Task>,
    place: JournalPlace,
    metrics: Arc<MetricCells>,
}

/// Where the journal lives.
enum JournalPlace {
    /// On its thread.
    Thread,
    /// In the loop. After its first failure nothing is written to it, and it stays open until the
    /// end.
    Here { journal: Option<Box<dyn Journal>>, failed: bool },
}

enum Task {
    Write(Write<Bytes>),
    /// Ends the thread after all writes.
    Close(Closing),
}

/// The work that is left when all writes are durable.
struct Closing {
    /// The journal, if the loop had it.
    journal: Option<Box<dyn Journal>>,
    /// The threads that write to the journal's directory.
    snapshots: Vec<Thread>,
    /// The end of the node, if no other thread waits for it.
    ending: Option<Ending>,
}

impl JournalWorker {
    /// Starts the thread. It reports to `inbox`.
    pub(super) fn start<S: StateMachine>(
        journal: Box<dyn Journal>,
        sync_bytes_max: usize,
        inbox: Arc<Inbox<S>>,
        lifecycle: &Arc<Lifecycle>,
        stop: Stopper,
        metrics: &Arc<MetricCells>,
    ) -> io::Result<Self> {
        let (place, journal) = if journal.blocks() {
            (JournalPlace::Thread, Some(journal))
        } else {
            (JournalPlace::Here { journal: Some(journal), failed: false }, None)
        };
        let cells = Arc::clone(metrics);
        let worker = Worker::start(WorkerKind::Journal, lifecycle, stop, move |queue| {
            run(journal, queue, sync_bytes_max, &inbox, &cells);
        })?;
        Ok(Self { worker, place, metrics: Arc::clone(metrics) })
    }

    /// What the thread is doing.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        self.worker.activity()
    }

    /// Queues a write, which the thread will report. If the journal never blocks, makes the write
    /// durable now and returns its id.
    ///
    /// # Errors
    ///
    /// The write cannot be made durable, and the node must stop.
    pub(super) fn write(&mut self, write: Write<Bytes>) -> Result<Option<WriteId>, StopReason> {
        match &mut self.place {
            JournalPlace::Thread => {
                self.worker.push(Task::Write(write));
                Ok(None)
            }
            JournalPlace::Here { journal: Some(journal), failed } if !*failed => {
                let id = write.id;
                let written = write_together(&mut **journal, &[write], &self.metrics);
                *failed = written.is_err();
                written.map(|()| Some(id))
            }
            JournalPlace::Here { .. } => Ok(None),
        }
    }

    /// Closes the journal once all writes are durable and these threads have ended. Then waits for
    /// the end of the node if no other thread does.
    pub(super) fn close(&mut self, snapshots: Vec<Thread>, ending: Option<Ending>) {
        let journal = match &mut self.place {
            JournalPlace::Thread => None,
            JournalPlace::Here { journal, .. } => journal.take(),
        };
        self.worker.push(Task::Close(Closing { journal, snapshots, ending }));
    }

    /// The thread, to be waited for.
    pub(super) fn thread(&mut self) -> Option<Thread> {
        self.worker.take_thread()
    }
}

/// Writes until told to close, or until no other thread is left that could tell it. The journal is
/// closed on return.
fn run<S: StateMachine>(
    mut journal: Option<Box<dyn Journal>>,
    queue: &Queue<Task>,
    sync_bytes_max: usize,
    inbox: &Inbox<S>,
    metrics: &MetricCells,
) {
    let mut writes = Vec::new();
    let mut failed = false;
    let mut closing = None;
    while closing.is_none() {
        let Some(task) = queue.next() else { break };
        closing = gather(task, || queue.next_now().ok().flatten(), sync_bytes_max, &mut writes);
        // After a failure, writes are dropped. Nothing that depends on them leaves the node,
        // because they are never reported.
        let newest = writes.last().map(|write| write.id);
        if let (Some(newest), Some(open), false) = (newest, &mut journal, failed) {
            let last = writes.iter().rev().find_map(|write| write.entries.last());
            let index = last.map_or(Index::ZERO, |entry| entry.index);
            queue.activity.begin(WorkerTask::Write, index);
            match write_together(&mut **open, &writes, metrics) {
                Ok(()) => inbox.persisted(newest),
                Err(reason) => {
                    failed = true;
                    inbox.stop(reason);
                }
            }
            queue.activity.end();
        }
        writes.clear();
    }
    let Some(Closing { journal: theirs, snapshots, ending }) = closing else {
        return close(journal);
    };
    queue.activity.begin(WorkerTask::Close, Index::ZERO);
    for thread in snapshots {
        let _ = thread.wait(None);
    }
    close(journal);
    close(theirs);
    queue.activity.end();
    if let Some(ending) = ending {
        ending.wait();
    }
}

/// Adds what is in the queue to `writes`, up to the write that reaches `bytes_max` bytes of
/// entries, the end of the queue, or the end of the node.
fn gather(
    task: Task,
    next_now: impl Fn() -> Option<Task>,
    bytes_max: usize,
    writes: &mut Vec<Write<Bytes>>,
) -> Option<Closing> {
    let mut bytes = 0;
    let mut next = Some(task);
    while let Some(task) = next {
        match task {
            Task::Write(write) => {
                bytes += write.entries.iter().map(Entry::size).sum::<usize>();
                writes.push(write);
            }
            Task::Close(closing) => return Some(closing),
        }
        next = if bytes < bytes_max { next_now() } else { None };
    }
    None
}

/// Makes the writes durable.
fn write_together(
    journal: &mut dyn Journal,
    writes: &[Write<Bytes>],
    metrics: &MetricCells,
) -> Result<(), StopReason> {
    match panics::caught(|| commit(journal, writes, metrics)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(StopReason::JournalFailed(error)),
        Err(message) => Err(StopReason::JournalPanicked { message }),
    }
}

fn commit(
    journal: &mut dyn Journal,
    writes: &[Write<Bytes>],
    metrics: &MetricCells,
) -> Result<(), StorageError> {
    for write in writes {
        journal.append(write)?;
    }
    let begun = Instant::now();
    journal.sync()?;
    metrics.histograms.journal_sync.record(begun.elapsed());
    Ok(())
}

/// Drops the journal. A journal that has panicked may panic again here, and nothing is lost by
/// that.
fn close(journal: Option<Box<dyn Journal>>) {
    let _ = panics::caught(|| drop(journal));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::vec;

    use super::*;
    use crate::entries::Payload;
    use crate::types::Term;

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
            assert!(gather(task, || queue.try_recv().ok(), bytes_max, &mut writes).is_none());
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
