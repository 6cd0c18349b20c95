//! The thread that keeps snapshots: it reads pieces to be sent, writes received pieces, and removes
//! snapshots that are not needed. [Another thread](super::capture) writes the snapshots that are
//! taken of the state machine.
//!
//! No error or panic of the store ends the node. A snapshot that cannot be taken is taken later,
//! and the leader sends again what cannot be written.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::io;
use std::string::{String, ToString};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;

use super::capture::{Captured, Captures};
use super::format::{Head, PieceChecker, PieceReader};
use super::report::{CaptureId, Report, SnapshotThreads};
use super::store::{SnapshotStore, SnapshotWriter};
use crate::host::identity::ClusterId;
use crate::host::state_machine::Capture;
use crate::host::storage_error::StorageError;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::panics;
use crate::host::threads::worker::{Activity, Jobs, Queue, Stopper, Thread, Worker};
use crate::host::worker_kind::{WorkerKind, WorkerTask};
use crate::message::SnapshotMeta;
use crate::output::{ReadSnapshot, WriteSnapshot};
use crate::types::{Index, InstallId, LogId, NodeId};

/// How long the node waits before it asks again for a snapshot that it could not write.
const RETRY_AFTER: Duration = Duration::from_secs(1);

enum SnapshotJob {
    Take(Captured),
    Cancel(CaptureId),
    CaptureEnded,
    Read(ReadSnapshot),
    Write(WriteSnapshot<Bytes>),
    /// The node no longer wants the snapshot of this install.
    Abandon(InstallId),
    /// Keep only the needed snapshots, among them the one in use.
    Keep {
        in_use: LogId,
        needed: Vec<LogId>,
    },
}

/// The jobs of the thread, for the loop and for the state machine. Cheap to clone.
#[derive(Clone)]
pub(in crate::host) struct Snapshots {
    /// Bounded: one capture, one piece to read for each peer, and as many received pieces as the
    /// core lets pass.
    jobs: Jobs<SnapshotJob>,
    shared: Arc<SnapshotThreads>,
}

/// The thread.
pub(in crate::host) struct SnapshotWorker {
    worker: Worker<SnapshotJob>,
    capture: Arc<Activity>,
}

impl SnapshotWorker {
    /// Starts the thread. It hands each report to `report`.
    pub(in crate::host) fn start(
        store: Arc<dyn SnapshotStore>,
        cluster: ClusterId,
        lifecycle: &Arc<Lifecycle>,
        stop: Stopper,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> io::Result<(Self, Snapshots)> {
        let capture = Arc::<Activity>::default();
        let shared = Arc::new(SnapshotThreads {
            store,
            cluster,
            lifecycle: Arc::clone(lifecycle),
            stop: Arc::clone(&stop),
            report: Box::new(report),
        });
        let mut keeper = Keeper {
            shared: Arc::clone(&shared),
            captures: Captures::new(Arc::clone(&shared), Arc::clone(&capture)),
            sending: BTreeMap::new(),
            receiving: None,
            failed: None,
            in_use: LogId::ZERO,
        };
        let worker = Worker::start(WorkerKind::Snapshots, lifecycle, stop, move |queue| {
            keeper.run(queue);
        })?;
        let snapshots = Snapshots { jobs: worker.jobs().clone(), shared };
        Ok((Self { worker, capture }, snapshots))
    }

    /// What the two threads are doing: the thread of the snapshots, and the thread of the captures.
    pub(in crate::host) fn activities(&self) -> [(WorkerKind, &Arc<Activity>); 2] {
        [(WorkerKind::Snapshots, self.worker.activity()), (WorkerKind::Capture, &self.capture)]
    }

    /// Lets the thread end. Unfinished work is dropped.
    pub(in crate::host) fn finish(&mut self) -> Option<Thread> {
        self.worker.finish()
    }
}

impl Snapshots {
    /// Writes a captured state.
    pub(in crate::host) fn take(&self, id: CaptureId, snapshot: SnapshotMeta, capture: Capture) {
        let head = Head { cluster: self.shared.cluster, snapshot };
        self.jobs.push(SnapshotJob::Take(Captured { id, head, capture }));
    }

    /// Reports that there is no state to be written. `why` is `None` if the state machine takes no
    /// snapshots.
    pub(in crate::host) fn take_none(&self, id: CaptureId, why: Option<String>) {
        self.shared.report(Report::NotTaken(id, why));
    }

    /// Gives up a capture that is no longer wanted.
    pub(in crate::host) fn cancel(&self, id: CaptureId) {
        self.jobs.push(SnapshotJob::Cancel(id));
    }

    /// Reads a piece.
    pub(in crate::host) fn read(&self, read: ReadSnapshot) {
        self.jobs.push(SnapshotJob::Read(read));
    }

    /// Writes a piece.
    pub(in crate::host) fn write(&self, write: WriteSnapshot<Bytes>) {
        self.jobs.push(SnapshotJob::Write(write));
    }

    /// Gives up the install, which the node no longer wants.
    pub(in crate::host) fn abandon(&self, install: InstallId) {
        self.jobs.push(SnapshotJob::Abandon(install));
    }

    /// Removes all snapshots but those that are needed.
    pub(in crate::host) fn keep(&self, in_use: LogId, needed: Vec<LogId>) {
        self.jobs.push(SnapshotJob::Keep { in_use, needed });
    }

    /// Opens a snapshot, for the state machine to restore.
    pub(in crate::host) fn open(
        &self,
        snapshot: &SnapshotMeta,
    ) -> Result<super::StateReader, StorageError> {
        let head = Head { cluster: self.shared.cluster, snapshot: snapshot.clone() };
        super::StateReader::open(self.shared.store.open(snapshot.last)?, &head)
    }
}

/// The state of the thread.
struct Keeper {
    shared: Arc<SnapshotThreads>,
    captures: Captures,
    /// The snapshot that is read for each follower. It is kept open, so that it stays readable when
    /// it is removed.
    sending: BTreeMap<NodeId, Sending>,
    receiving: Option<Receiving>,
    /// The install that could not be written, and when to ask for it again.
    failed: Option<(InstallId, Instant)>,
    in_use: LogId,
}

struct Sending {
    snapshot: LogId,
    reader: PieceReader,
    /// Whether a piece of it was read since unneeded snapshots were last removed.
    used: bool,
}

struct Receiving {
    install: InstallId,
    head: Head,
    file: Box<dyn SnapshotWriter>,
    checker: PieceChecker,
    written: u64,
}

impl Keeper {
    fn run(&mut self, queue: &Queue<SnapshotJob>) {
        loop {
            let job = match self.failed {
                None => Ok(queue.next()),
                Some((_, at)) => queue.next_until(at),
            };
            match job {
                Ok(None) => break,
                Ok(Some(_)) if queue.is_stopping() => break,
                Ok(Some(job)) => self.take(job, queue),
                Err(()) => self.ask_again(),
            }
            queue.activity.end();
        }
        queue.activity.begin(WorkerTask::TakeSnapshot, Index::ZERO);
        self.captures.finish();
        let (receiving, sending) = (self.receiving.take(), std::mem::take(&mut self.sending));
        let _ = panics::caught(|| drop((receiving, sending)));
    }

    fn take(&mut self, job: SnapshotJob, queue: &Queue<SnapshotJob>) {
        let activity = &queue.activity;
        match job {
            SnapshotJob::Take(captured) => self.capture(captured, queue),
            SnapshotJob::Cancel(id) => self.captures.cancel(id),
            SnapshotJob::CaptureEnded => {
                if let Some(next) = self.captures.ended() {
                    self.capture(next, queue);
                }
            }
            SnapshotJob::Read(read) => {
                activity.begin(WorkerTask::ReadSnapshot, read.snapshot.index);
                self.read(read);
            }
            SnapshotJob::Write(write) => {
                activity.begin(WorkerTask::WriteSnapshot, write.snapshot.last.index);
                self.write(write);
            }
            SnapshotJob::Abandon(install) => {
                if self.receiving.as_ref().is_some_and(|receiving| receiving.install == install) {
                    self.give_up();
                }
                self.failed.take_if(|(failed, _)| *failed == install);
            }
            SnapshotJob::Keep { in_use, needed } => {
                activity.begin(WorkerTask::RemoveSnapshots, in_use.index);
                self.keep(in_use, &needed);
            }
        }
    }

    fn capture(&mut self, captured: Captured, queue: &Queue<SnapshotJob>) {
        let jobs = queue.jobs();
        self.captures.begin(captured, move || jobs.push(SnapshotJob::CaptureEnded));
    }

    fn read(&mut self, read: ReadSnapshot) {
        let ReadSnapshot { to, snapshot, offset, bytes_max } = read;
        let node = self.shared.lifecycle.node();
        let piece = panics::caught(|| self.piece(to, snapshot, offset, bytes_max));
        let (why, damaged) = match piece {
            Ok(Ok((piece, done))) => {
                return self.shared.report(Report::Read { to, snapshot, offset, piece, done });
            }
            Ok(Err(error)) => (error.to_string(), is_damage(&error)),
            Err(message) => (message.to_string(), false),
        };
        tracing::warn!(node = node.get(), peer = to.get(), %snapshot, why, "a snapshot cannot be sent");
        let sending = self.sending.remove(&to);
        let _ = panics::caught(|| drop(sending));
        self.shared.report(Report::Unreadable { to, snapshot, damaged });
    }

    fn piece(
        &mut self,
        to: NodeId,
        snapshot: LogId,
        offset: u64,
        bytes_max: usize,
    ) -> Result<(Bytes, bool), StorageError> {
        if self.sending.get(&to).is_none_or(|sending| sending.snapshot != snapshot) {
            let reader = PieceReader::open(self.shared.store.open(snapshot)?)?;
            self.sending.insert(to, Sending { snapshot, reader, used: true });
        }
        let sending = self.sending.get_mut(&to).expect("it was just opened");
        sending.used = true;
        sending.reader.piece(offset, bytes_max)
    }

    fn write(&mut self, write: WriteSnapshot<Bytes>) {
        let install = write.install;
        let snapshot = write.snapshot.last;
        let written = panics::caught(|| self.write_piece(write));
        match written.unwrap_or_else(|message| Err(message.to_string())) {
            Ok(None) => {}
            Ok(Some(written)) => self.shared.report(Report::Written { install, written }),
            Err(why) => {
                let node = self.shared.lifecycle.node();
                tracing::warn!(node = node.get(), %snapshot, why, "the leader's snapshot cannot be written; the node asks for it again");
                self.give_up();
                self.failed = Some((install, Instant::now() + RETRY_AFTER));
            }
        }
    }

    /// Writes a piece, and returns up to where the snapshot is written now. `None` if the piece
    /// belongs to an install that has failed.
    fn write_piece(&mut self, write: WriteSnapshot<Bytes>) -> Result<Option<u64>, String> {
        let WriteSnapshot { install, snapshot, offset, chunk, done } = write;
        if offset == 0 {
            self.failed = None;
            self.receiving = None;
            let file = self.shared.store.create(snapshot.last, true).map_err(|e| e.to_string())?;
            let head = Head { cluster: self.shared.cluster, snapshot };
            let checker = PieceChecker::new();
            self.receiving = Some(Receiving { install, head, file, checker, written: 0 });
        } else if !self
            .receiving
            .as_ref()
            .is_some_and(|receiving| receiving.install == install && receiving.written == offset)
        {
            return Ok(None);
        }
        let Some(receiving) = &mut self.receiving else { return Ok(None) };
        receiving.checker.take(&chunk, &receiving.head)?;
        receiving.file.write(&chunk).map_err(|error| error.to_string())?;
        receiving.written += chunk.len() as u64;
        let written = receiving.written;
        if done {
            receiving.checker.finish()?;
            let receiving = self.receiving.take();
            let finished = receiving.map(|receiving| receiving.file.finish());
            finished.unwrap_or(Ok(())).map_err(|error| error.to_string())?;
        }
        Ok(Some(written))
    }

    /// Deletes the received snapshot with its file.
    fn give_up(&mut self) {
        let receiving = self.receiving.take();
        let _ = panics::caught(|| drop(receiving));
    }

    /// Lets the leader begin again with the snapshot that could not be written.
    fn ask_again(&mut self) {
        if let Some((install, _)) = self.failed.take() {
            self.shared.report(Report::Written { install, written: 0 });
        }
    }

    fn keep(&mut self, in_use: LogId, needed: &[LogId]) {
        if self.in_use != in_use {
            self.in_use = in_use;
            self.sending.retain(|_, sending| {
                std::mem::replace(&mut sending.used, false) || sending.snapshot == in_use
            });
        }
        let store = &self.shared.store;
        let removed = panics::caught(|| {
            let all = store.list().map_err(|error| error.to_string())?;
            let mut old = all.into_iter().filter(|id| !needed.contains(id));
            old.try_for_each(|old| store.remove(old)).map_err(|error| error.to_string())
        });
        if let Err(why) = removed.unwrap_or_else(|message| Err(message.to_string())) {
            let node = self.shared.lifecycle.node();
            tracing::warn!(
                node = node.get(),
                why,
                "old snapshots cannot be removed; the node tries again after the next snapshot"
            );
        }
    }
}

/// Whether this error means damage, so that no later attempt can succeed.
fn is_damage(error: &StorageError) -> bool {
    matches!(error, StorageError::SnapshotDamaged { .. } | StorageError::SnapshotMissing { .. })
}
