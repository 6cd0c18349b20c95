//! The thread that keeps snapshots: it reads pieces to be sent, writes those that come, and removes what is old. What is taken of
//! the state machine is written by another thread, so that a follower need not wait for it.
//!
//! Nothing that goes wrong here ends the node: a snapshot that cannot be taken is taken later, one that cannot be written comes again.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::format;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::{String, ToString};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::format::{Head, PieceChecker, PieceReader, StateWriter};
use super::store::{SnapshotStore, SnapshotWriter};
use crate::host::identity::ClusterId;
use crate::host::journal::JournalError;
use crate::host::panics;
use crate::host::state_machine::Capture;
use crate::output::{ReadSnapshot, SnapshotMeta, WriteSnapshot};
use crate::types::{InstallId, LogId, NodeId};

/// How long a snapshot that could not be written waits before it is asked for again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the loop is told.
#[derive(Debug)]
pub(in crate::host) enum Report {
    /// The snapshot of this entry is durable.
    Taken(LogId),
    /// There is none, and why; `None` if the state machine takes none.
    NotTaken(Option<String>),
    /// A piece to be sent.
    Read {
        to: NodeId,
        snapshot: LogId,
        offset: u64,
        piece: Bytes,
        done: bool,
    },
    Unreadable {
        to: NodeId,
        snapshot: LogId,
    },
    /// What comes is written up to here.
    Written {
        install: InstallId,
        written: u64,
    },
}

/// Where reports go.
type Reporter = Arc<dyn Fn(Report) + Send + Sync>;

enum Job {
    Take(SnapshotMeta, Capture),
    Read(ReadSnapshot),
    Write(WriteSnapshot<Bytes>),
    /// This one is in use, durably. Older ones go; at the start all others.
    Keep {
        last: LogId,
        alone: bool,
    },
    Finish,
}

/// The loop's, and the state machine's, end of the thread. Cheap to clone.
#[derive(Clone)]
pub(in crate::host) struct Snapshots {
    /// Bounded: one to take, one piece to read for each peer, and of those that come what the core lets pass.
    jobs: Sender<Job>,
    store: Arc<dyn SnapshotStore>,
    cluster: ClusterId,
    report: Reporter,
}

/// The thread.
pub(in crate::host) struct SnapshotWorker {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
}

impl SnapshotWorker {
    /// Starts the thread. It hands what it has to tell to `report`.
    pub(in crate::host) fn start(
        store: Arc<dyn SnapshotStore>,
        cluster: ClusterId,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> io::Result<(Self, Snapshots)> {
        let (jobs, queue) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let report: Reporter = Arc::new(report);
        let mut worker = Worker {
            store: Arc::clone(&store),
            cluster,
            report: Arc::clone(&report),
            stopping: Arc::clone(&stopping),
            taking: None,
            sending: BTreeMap::new(),
            receiving: None,
            failed: None,
        };
        let thread = thread::Builder::new()
            .name("raft-snapshots".into())
            .spawn(move || worker.run(&queue))?;
        let snapshots = Snapshots { jobs: jobs.clone(), store, cluster, report };
        Ok((Self { jobs, thread: Some(thread), stopping }, snapshots))
    }

    /// Ends the thread, and leaves what is half done.
    pub(in crate::host) fn finish(&mut self) -> Option<JoinHandle<()>> {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.jobs.send(Job::Finish);
        self.thread.take()
    }
}

impl Snapshots {
    /// Writes a captured state.
    pub(in crate::host) fn take(&self, snapshot: SnapshotMeta, capture: Capture) {
        self.push(Job::Take(snapshot, capture));
    }

    /// The state machine takes no snapshots.
    pub(in crate::host) fn take_none(&self) {
        (self.report)(Report::NotTaken(None));
    }

    /// Reads a piece.
    pub(in crate::host) fn read(&self, read: ReadSnapshot) {
        self.push(Job::Read(read));
    }

    /// Writes a piece.
    pub(in crate::host) fn write(&self, write: WriteSnapshot<Bytes>) {
        self.push(Job::Write(write));
    }

    /// This snapshot is in use: removes older ones.
    pub(in crate::host) fn keep(&self, last: LogId) {
        self.push(Job::Keep { last, alone: false });
    }

    /// The node starts with this snapshot: removes all others.
    pub(in crate::host) fn keep_alone(&self, last: LogId) {
        self.push(Job::Keep { last, alone: true });
    }

    /// Opens a snapshot, for the state machine to restore.
    pub(in crate::host) fn open(
        &self,
        snapshot: &SnapshotMeta,
    ) -> Result<super::StateReader, JournalError> {
        let head = Head { cluster: self.cluster, snapshot: snapshot.clone() };
        super::StateReader::open(self.store.open(snapshot.last)?, &head)
    }

    fn push(&self, job: Job) {
        // After its end nobody asks for anything any more.
        let _ = self.jobs.send(job);
    }
}

/// What the thread works with.
struct Worker {
    store: Arc<dyn SnapshotStore>,
    cluster: ClusterId,
    report: Reporter,
    stopping: Arc<AtomicBool>,
    taking: Option<JoinHandle<()>>,
    /// What is read for each follower; kept open, so that it stays readable when it is removed.
    sending: BTreeMap<NodeId, Sending>,
    receiving: Option<Receiving>,
    /// What could not be written, and when to ask for it again.
    failed: Option<(InstallId, Instant)>,
}

struct Sending {
    snapshot: LogId,
    reader: PieceReader,
    /// Since the last one came into use.
    used: bool,
}

struct Receiving {
    install: InstallId,
    head: Head,
    file: Box<dyn SnapshotWriter>,
    checker: PieceChecker,
    written: u64,
}

impl Worker {
    fn run(&mut self, queue: &Receiver<Job>) {
        loop {
            match self.next_job(queue) {
                None => self.ask_again(),
                Some(Job::Take(snapshot, capture)) => self.take(snapshot, capture),
                Some(Job::Read(read)) => self.read(read),
                Some(Job::Write(write)) => self.write(write),
                Some(Job::Keep { last, alone }) => self.keep(last, alone),
                Some(Job::Finish) => break,
            }
        }
        let _ = self.taking.take().map(JoinHandle::join);
    }

    /// The next job; none if it is time to ask for a snapshot again.
    fn next_job(&self, queue: &Receiver<Job>) -> Option<Job> {
        let job = match self.failed {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some((_, at)) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match job {
            Ok(_) if self.stopping.load(Ordering::Relaxed) => Some(Job::Finish),
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Job::Finish),
        }
    }

    fn take(&mut self, snapshot: SnapshotMeta, capture: Capture) {
        // The one before has reported, and ends.
        let _ = self.taking.take().map(JoinHandle::join);
        let head = Head { cluster: self.cluster, snapshot };
        let (store, report) = (Arc::clone(&self.store), Arc::clone(&self.report));
        let stopping = Arc::clone(&self.stopping);
        let thread = thread::Builder::new().name("raft-take-snapshot".into()).spawn(move || {
            let last = head.snapshot.last;
            let stopping = || stopping.load(Ordering::Relaxed);
            let taken = catch_unwind(AssertUnwindSafe(|| take(&*store, head, capture, &stopping)));
            let taken = taken.unwrap_or_else(|panic| Err(panics::message(&*panic).to_string()));
            report(match taken {
                Ok(()) => Report::Taken(last),
                Err(why) => Report::NotTaken(Some(why)),
            });
        });
        match thread {
            Ok(thread) => self.taking = Some(thread),
            Err(error) => (self.report)(Report::NotTaken(Some(error.to_string()))),
        }
    }

    fn read(&mut self, read: ReadSnapshot) {
        let ReadSnapshot { to, snapshot, offset, bytes_max } = read;
        let report = match self.piece(to, snapshot, offset, bytes_max) {
            Ok((piece, done)) => Report::Read { to, snapshot, offset, piece, done },
            Err(error) => {
                tracing::warn!(%to, %snapshot, %error, "a snapshot cannot be sent");
                self.sending.remove(&to);
                Report::Unreadable { to, snapshot }
            }
        };
        (self.report)(report);
    }

    fn piece(
        &mut self,
        to: NodeId,
        snapshot: LogId,
        offset: u64,
        bytes_max: usize,
    ) -> Result<(Bytes, bool), JournalError> {
        if self.sending.get(&to).is_none_or(|sending| sending.snapshot != snapshot) {
            let reader = PieceReader::open(self.store.open(snapshot)?)?;
            self.sending.insert(to, Sending { snapshot, reader, used: true });
        }
        let sending = self.sending.get_mut(&to).expect("it was just opened");
        sending.used = true;
        sending.reader.piece(offset, bytes_max)
    }

    fn write(&mut self, write: WriteSnapshot<Bytes>) {
        let (install, snapshot) = (write.install, write.snapshot.last);
        match self.write_piece(write) {
            Ok(None) => {}
            Ok(Some(written)) => (self.report)(Report::Written { install, written }),
            Err(why) => {
                tracing::warn!(%snapshot, %why, "the leader's snapshot cannot be written; it is asked for again");
                self.receiving = None;
                self.failed = Some((install, Instant::now() + RETRY_AFTER));
            }
        }
    }

    /// Up to where it is written now; none if the piece is of an attempt that has failed.
    fn write_piece(&mut self, write: WriteSnapshot<Bytes>) -> Result<Option<u64>, String> {
        let WriteSnapshot { install, snapshot, offset, chunk, done } = write;
        if offset == 0 {
            self.failed = None;
            self.receiving = None;
            let file = self.store.create(snapshot.last, true).map_err(|e| e.to_string())?;
            let head = Head { cluster: self.cluster, snapshot };
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

    /// Lets the leader begin again with the snapshot that could not be written.
    fn ask_again(&mut self) {
        if let Some((install, _)) = self.failed.take() {
            (self.report)(Report::Written { install, written: 0 });
        }
    }

    fn keep(&mut self, last: LogId, alone: bool) {
        self.sending.retain(|_, sending| {
            std::mem::replace(&mut sending.used, false) || sending.snapshot == last
        });
        let old = |id: &LogId| if alone { *id != last } else { id.index < last.index };
        let removed = self
            .store
            .list()
            .and_then(|all| all.into_iter().filter(old).try_for_each(|old| self.store.remove(old)));
        if let Err(error) = removed {
            tracing::warn!(%error, "old snapshots cannot be removed; it is tried again with the next");
        }
    }
}

/// Writes a captured state; the error says why it cannot be had.
fn take(
    store: &dyn SnapshotStore,
    head: Head,
    capture: Capture,
    stopping: &dyn Fn() -> bool,
) -> Result<(), String> {
    let (last, begun) = (head.snapshot.last, Instant::now());
    let text = |error: JournalError| error.to_string();
    let file = store.create(last, false).map_err(text)?;
    let mut writer = StateWriter::begin(file, head, stopping).map_err(text)?;
    if let Err(error) = capture(&mut writer) {
        let store = writer.take_failure().map(text);
        return Err(store.unwrap_or_else(|| format!("the state machine failed: {error}")));
    }
    // A state machine may overlook an error.
    if let Some(error) = writer.take_failure() {
        return Err(text(error));
    }
    let bytes = writer.finish().map_err(text)?;
    tracing::info!(%last, bytes, span = ?begun.elapsed(), "took a snapshot");
    Ok(())
}
