//! The node's snapshot files (§7) from their beginning to their removal.
//!
//! ```text
//!   being taken ──► taken ────┐
//!                             ├──► named by a write ──► in use ──► no longer needed: removed
//!   being received ─► whole ──┘            └──► being restored ──────┘
//! ```
//!
//! The loop asks the [threads](crate::host::snapshot) for all work on snapshots and hears the
//! result of all of it. So it knows what each file is for, and a file is removed exactly when it is
//! for nothing ([`Files::needed`]). A file that is being sent is held open by its reader and needs
//! no name.
//!
//! - Captures are numbered, as installs are by [`InstallId`]. The report of a capture that a
//!   snapshot from the leader has overtaken is ignored.
//! - A snapshot that waits to be restored stays, also if a newer one is in use by then.
//! - If the core has given up a capture or an install, the host gives it up at the end of the same
//!   turn.
//! - Each client that asked for a snapshot is answered: with the snapshot that is taken for it, or
//!   with the snapshot in use if no newer one will be taken.

use std::collections::VecDeque;
use std::string::String;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;

use super::inbox::{Inbox, SnapshotReply};
use super::inputs::Core;
use super::state_machine_thread::restore;
use crate::host::error::{RestoreError, SnapshotError, StartError, Stopped};
use crate::host::identity::ClusterId;
use crate::host::metrics::MetricCells;
use crate::host::snapshot::{CaptureId, Report, SnapshotStore, SnapshotWorker, Snapshots};
use crate::host::state_machine::StateMachine;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::panics::answer;
use crate::host::threads::worker::{Activity, Stopper, Thread};
use crate::host::worker_kind::WorkerKind;
use crate::message::SnapshotMeta;
use crate::output::{ReadSnapshot, Write, WriteSnapshot};
use crate::types::{Index, InstallId, LogId, WriteId};

/// The most clients that wait for a snapshot. More are refused as busy.
const ASKED_MAX: usize = 1024;

/// How long the node waits, after it took a snapshot because one was damaged, before it does so
/// again.
const RETAKE_AFTER: Duration = Duration::from_secs(10);

/// A node's snapshots.
pub(super) struct SnapshotsInUse {
    /// `None` if the journal keeps no snapshots.
    worker: Option<(SnapshotWorker, Snapshots)>,
    files: Files,
    /// Clients that wait for a snapshot that is being taken or will be.
    asked: Vec<SnapshotReply>,
    /// When the node last took a snapshot because another one was damaged.
    retaken: Option<Instant>,
    /// When the capture that is under way was begun.
    taking_since: Option<Instant>,
    metrics: Arc<MetricCells>,
}

/// What each snapshot file is for.
#[derive(Default, Debug)]
struct Files {
    /// The snapshot with which a restart would begin.
    in_use: LogId,
    /// The snapshots that writes on their way to the journal put in use.
    named: VecDeque<(WriteId, LogId)>,
    /// The snapshot that is being taken, and the number of its capture.
    taking: Option<(CaptureId, LogId)>,
    /// The number of the last capture that was begun.
    captures: CaptureId,
    /// The snapshot that the leader is sending.
    receiving: Option<(InstallId, LogId)>,
    /// The snapshot that the state machine was told to restore, and has not answered for yet.
    restoring: Option<LogId>,
    /// Whether a file may have become unneeded since the last removal.
    changed: bool,
}

impl Files {
    /// The snapshots that are needed; `newest` is the newest of the core.
    fn needed(&self, newest: LogId) -> Vec<LogId> {
        let mut needed = Vec::from([self.in_use, newest]);
        needed.extend(self.named.iter().map(|(_, last)| *last));
        needed.extend(self.taking.map(|(_, last)| last));
        needed.extend(self.receiving.map(|(_, last)| last));
        needed.extend(self.restoring);
        needed
    }

    fn begin_capture(&mut self, last: LogId) -> CaptureId {
        self.captures = CaptureId(self.captures.0 + 1);
        self.taking = Some((self.captures, last));
        self.captures
    }

    /// Ends the capture with this number; returns whether it was still wanted.
    fn end_capture(&mut self, id: CaptureId) -> bool {
        self.changed = true;
        self.taking.take_if(|(taking, _)| *taking == id).is_some()
    }

    /// To be called when everything up to this write is durable.
    fn persisted(&mut self, id: WriteId) {
        let durable = self.named.partition_point(|(write, _)| *write <= id);
        if let Some((_, last)) = self.named.drain(..durable).next_back() {
            self.in_use = last;
            self.changed = true;
        }
    }

    /// To be called when the state machine has applied everything up to this entry, or has restored
    /// a snapshot that ends there.
    fn applied(&mut self, index: Index) {
        if self.restoring.is_some_and(|last| last.index <= index) {
            self.restoring = None;
            self.changed = true;
        }
    }
}

impl SnapshotsInUse {
    /// Starts the threads if there is a store. They report to the inbox.
    pub(super) fn start<S: StateMachine>(
        store: Option<Arc<dyn SnapshotStore>>,
        cluster: ClusterId,
        inbox: &Arc<Inbox<S>>,
        lifecycle: &Arc<Lifecycle>,
        stop: &Stopper,
        metrics: &Arc<MetricCells>,
    ) -> Result<Self, StartError> {
        let start = |store| {
            let inbox = Arc::clone(inbox);
            let report = move |report| inbox.snapshot(report);
            SnapshotWorker::start(store, cluster, lifecycle, Arc::clone(stop), report)
        };
        let worker = store.map(start).transpose().map_err(StartError::System)?;
        let files = Files { changed: true, ..Files::default() };
        let metrics = Arc::clone(metrics);
        Ok(Self { worker, files, asked: Vec::new(), retaken: None, taking_since: None, metrics })
    }

    /// The queue through which the state machine's thread hands over captures and opens snapshots.
    pub(super) fn jobs(&self) -> Option<Snapshots> {
        self.worker.as_ref().map(|(_, jobs)| jobs.clone())
    }

    /// What the threads are doing.
    pub(super) fn activities(&self) -> impl Iterator<Item = (WorkerKind, &Arc<Activity>)> {
        self.worker.iter().flat_map(|(worker, _)| worker.activities())
    }

    /// Restores the state with which the node starts.
    pub(super) fn restore<S: StateMachine>(
        &mut self,
        state_machine: &mut S,
        snapshot: &SnapshotMeta,
    ) -> Result<(), RestoreError> {
        let Some((_, jobs)) = &self.worker else {
            return Err(RestoreError::Refused {
                last: snapshot.last,
                message: "the journal names a snapshot and keeps none".into(),
            });
        };
        restore(state_machine, jobs, snapshot, &Activity::default())?;
        self.files.in_use = snapshot.last;
        Ok(())
    }

    /// The node begins with this snapshot, which the state machine needs not.
    pub(super) fn use_without_restore(&mut self, snapshot: &SnapshotMeta) {
        self.files.in_use = snapshot.last;
    }

    /// Whether a snapshot is being taken.
    pub(super) fn takes(&self) -> bool {
        self.files.taking.is_some()
    }

    /// Takes a client's request for a snapshot. If none is to be taken, [`settle`](Self::settle)
    /// answers the client.
    pub(super) fn ask(&mut self, raft: &mut Core, reply: SnapshotReply) {
        let _ = raft.take_snapshot();
        if self.asked.len() >= ASKED_MAX {
            return answer(reply, Err(SnapshotError::Busy));
        }
        self.asked.push(reply);
    }

    /// Begins a capture, and returns its number. `None` if the journal keeps no snapshots.
    pub(super) fn begin(&mut self, raft: &mut Core, snapshot: &SnapshotMeta) -> Option<CaptureId> {
        if self.worker.is_none() {
            self.not_taken(raft, None);
            return None;
        }
        self.taking_since = Some(Instant::now());
        Some(self.files.begin_capture(snapshot.last))
    }

    pub(super) fn read(&self, raft: &mut Core, read: ReadSnapshot) {
        match &self.worker {
            Some((_, jobs)) => jobs.read(read),
            None => raft.snapshot_unreadable(read.to, read.snapshot),
        }
    }

    /// Writes a piece. Without a store the piece is ignored, and the leader sends it again.
    pub(super) fn write(&mut self, write: WriteSnapshot<Bytes>) {
        if let Some((_, jobs)) = &self.worker {
            self.files.receiving = Some((write.install, write.snapshot.last));
            jobs.write(write);
        }
    }

    /// To be called when the state machine is told to restore this snapshot.
    pub(super) fn restoring(&mut self, snapshot: LogId) {
        self.files.restoring = Some(snapshot);
    }

    /// To be called when the state machine has applied everything up to this entry.
    pub(super) fn applied(&mut self, index: Index) {
        self.files.applied(index);
    }

    /// To be called when the journal gets this write, which may put another snapshot in use.
    pub(super) fn written(&mut self, write: &Write<Bytes>) {
        if let Some(snapshot) = write.snapshot.as_ref().filter(|s| s.last > LogId::ZERO) {
            self.files.named.push_back((write.id, snapshot.last));
        }
    }

    /// To be called when everything up to this write is durable.
    pub(super) fn persisted(&mut self, id: WriteId) {
        self.files.persisted(id);
    }

    pub(super) fn take_report(&mut self, raft: &mut Core, report: Report) {
        match report {
            Report::Taken(id, last) => {
                if self.files.end_capture(id) {
                    self.metrics.totals.snapshots_taken.add_alone(1);
                    if let Some(since) = self.taking_since.take() {
                        self.metrics.histograms.snapshot.record(since.elapsed());
                    }
                    raft.snapshot_taken(last.index);
                    self.answer_all(&Ok(last));
                }
            }
            Report::NotTaken(id, why) => {
                if self.files.end_capture(id) {
                    self.not_taken(raft, why);
                }
            }
            Report::Read { to, snapshot, offset, piece, done } => {
                if done {
                    self.metrics.totals.snapshots_sent.add_alone(1);
                }
                raft.snapshot_read(to, snapshot, offset, piece, done);
            }
            Report::Unreadable { to, snapshot, damaged } => {
                raft.snapshot_unreadable(to, snapshot);
                if damaged {
                    self.retake(raft, snapshot);
                }
            }
            Report::Written { install, written } => raft.snapshot_written(install, written),
        }
    }

    /// Called at the end of a turn: gives up what the core has given up, answers the clients for
    /// which no snapshot will be taken, and removes the files that are not needed.
    pub(super) fn settle(&mut self, raft: &Core) {
        let Some((_, jobs)) = &self.worker else {
            return self.answer_from_use(raft);
        };
        if let Some((id, last)) = self.files.taking {
            if raft.snapshot_being_taken() != Some(last) {
                // A snapshot that was installed meanwhile holds more than this one.
                jobs.cancel(id);
                self.files.end_capture(id);
            }
        }
        if let Some((install, _)) = self.files.receiving {
            if raft.installing() != Some(install) {
                jobs.abandon(install);
                self.files.receiving = None;
                self.files.changed = true;
            }
        }
        if std::mem::take(&mut self.files.changed) {
            jobs.keep(self.files.in_use, self.files.needed(raft.newest_snapshot()));
        }
        self.answer_from_use(raft);
    }

    /// Tells every client that the node has stopped.
    pub(super) fn stop(&mut self, stopped: &Stopped) {
        for reply in self.asked.drain(..) {
            answer(reply, Err(stopped.clone().into()));
        }
    }

    /// Lets the threads end.
    pub(super) fn finish(&mut self) -> Option<Thread> {
        self.worker.as_mut().and_then(|(worker, _)| worker.finish())
    }

    /// Takes another snapshot in place of one that a follower needs and that is damaged here. The
    /// state machine is whole.
    fn retake(&mut self, raft: &mut Core, snapshot: LogId) {
        let now = Instant::now();
        let is_soon = self.retaken.is_some_and(|at| now.duration_since(at) < RETAKE_AFTER);
        if snapshot == raft.newest_snapshot() && self.files.taking.is_none() && !is_soon {
            let node = raft.id();
            tracing::warn!(node = node.get(), %snapshot, "a snapshot is damaged or missing; another one is taken in its place");
            self.retaken = Some(now);
            raft.snapshot_damaged(snapshot);
        }
    }

    /// Answers all clients with the snapshot in use, if no snapshot is being taken and none will
    /// be.
    fn answer_from_use(&mut self, raft: &Core) {
        if self.asked.is_empty() || self.files.taking.is_some() || raft.wants_snapshot() {
            return;
        }
        let newest = raft.newest_snapshot();
        if newest == LogId::ZERO {
            self.answer_all(&Err(SnapshotError::Nothing));
        } else if newest == self.files.in_use {
            self.answer_all(&Ok(newest));
        }
    }

    fn answer_all(&mut self, result: &Result<LogId, SnapshotError>) {
        for reply in self.asked.drain(..) {
            answer(reply, result.clone());
        }
    }

    /// Tells the core and all clients that no snapshot was taken. `why` is `None` if the state
    /// machine takes none.
    fn not_taken(&mut self, raft: &mut Core, why: Option<String>) {
        raft.snapshot_failed();
        let error = match why {
            None => SnapshotError::Unsupported,
            Some(why) => {
                self.metrics.totals.snapshots_failed.add_alone(1);
                let node = raft.id();
                tracing::warn!(
                    node = node.get(),
                    why,
                    "no snapshot was taken; the node tries again later"
                );
                SnapshotError::Failed { message: why.into() }
            }
        };
        self.answer_all(&Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    fn id(index: u64) -> LogId {
        LogId::new(Term::new(1), Index::new(index))
    }

    #[test]
    fn a_file_is_kept_as_long_as_it_is_for_something() {
        let mut files = Files { in_use: id(10), ..Files::default() };
        let first = files.begin_capture(id(20));
        assert_eq!(files.needed(id(10)), [id(10), id(10), id(20)]);
        // A snapshot from the leader overtakes the capture, is named, and the state machine is
        // told.
        files.receiving = Some((InstallId::new(1), id(30)));
        files.named.push_back((WriteId::new(5), id(30)));
        assert!(files.end_capture(first));
        files.receiving = None;
        assert_eq!(files.needed(id(30)), [id(10), id(30), id(30)]);
        files.restoring = Some(id(30));
        // Another one comes while that is being restored.
        files.named.push_back((WriteId::new(7), id(40)));
        files.persisted(WriteId::new(7));
        assert_eq!(files.needed(id(40)), [id(40), id(40), id(30)]);
        files.applied(id(30).index);
        assert_eq!(files.needed(id(40)), [id(40), id(40)]);
    }

    #[test]
    fn the_report_of_a_capture_that_was_given_up_counts_for_nothing() {
        let mut files = Files::default();
        let first = files.begin_capture(id(20));
        assert!(files.end_capture(first));
        let second = files.begin_capture(id(20));
        assert!(!files.end_capture(first));
        assert!(files.taking.is_some() && files.end_capture(second));
    }
}
