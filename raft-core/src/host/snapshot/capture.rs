//! Writes out a captured state on a thread of its own, because that may take long, and a follower
//! that is sent pieces must not wait for it.
//!
//! Captures are numbered, and one runs at a time. A capture is cancelled if a snapshot from the
//! leader has taken its place. It ends at its next block, and then the next capture begins.

use std::format;
use std::string::{String, ToString};
use std::sync::Arc;
use std::time::Instant;

use super::format::{Head, StateWriter};
use super::report::{CaptureId, Report, SnapshotThreads};
use super::store::SnapshotStore;
use crate::host::state_machine::Capture;
use crate::host::storage_error::StorageError;
use crate::host::sync::atomic::{AtomicBool, Ordering};
use crate::host::threads::panics;
use crate::host::threads::worker::{Activity, Thread};
use crate::host::worker_kind::{WorkerKind, WorkerTask};

/// A captured state, to be written out.
pub(super) struct Captured {
    pub(super) id: CaptureId,
    pub(super) head: Head,
    pub(super) capture: Capture,
}

/// The captures of a node.
pub(super) struct Captures {
    shared: Arc<SnapshotThreads>,
    /// What the thread is doing, for whichever capture runs.
    activity: Arc<Activity>,
    running: Option<Running>,
    /// The capture to run once the running one, which was cancelled, has ended.
    next: Option<Captured>,
}

struct Running {
    id: CaptureId,
    thread: Thread,
    cancelled: Arc<AtomicBool>,
}

impl Captures {
    pub(super) fn new(shared: Arc<SnapshotThreads>, activity: Arc<Activity>) -> Self {
        Self { shared, activity, running: None, next: None }
    }

    /// Writes this state out once no other capture runs. `ended` is called when this capture has
    /// ended.
    pub(super) fn begin(&mut self, captured: Captured, ended: impl FnOnce() + Send + 'static) {
        if let Some(running) = &self.running {
            // The node asks for one capture at a time, so it no longer wants the running one.
            running.cancelled.store(true, Ordering::Relaxed);
            self.next = Some(captured);
            return;
        }
        let id = captured.id;
        let shared = Arc::clone(&self.shared);
        let cancelled = Arc::<AtomicBool>::default();
        let flag = Arc::clone(&cancelled);
        let activity = Arc::clone(&self.activity);
        let work = move || {
            write_out(&shared, captured, &flag, &activity);
            ended();
        };
        let SnapshotThreads { lifecycle, stop, .. } = &*self.shared;
        let activity = Arc::clone(&self.activity);
        let stop = Arc::clone(stop);
        match Thread::start(WorkerKind::Capture, activity, lifecycle, stop, work) {
            Ok(thread) => self.running = Some(Running { id, thread, cancelled }),
            Err(error) => {
                self.shared.report(Report::NotTaken(id, Some(error.to_string())));
            }
        }
    }

    /// Cancels the capture with this number, which the node no longer wants.
    pub(super) fn cancel(&mut self, id: CaptureId) {
        if self.next.as_ref().is_some_and(|next| next.id == id) {
            self.next = None;
        }
        if let Some(running) = self.running.as_ref().filter(|running| running.id == id) {
            running.cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// Call this when the running capture has ended. Returns the capture to run next, if any.
    pub(super) fn ended(&mut self) -> Option<Captured> {
        if let Some(running) = self.running.take() {
            let _ = running.thread.wait(None);
        }
        self.next.take()
    }

    /// Cancels all captures, and waits until they have ended.
    pub(super) fn finish(&mut self) {
        self.next = None;
        if let Some(running) = self.running.take() {
            running.cancelled.store(true, Ordering::Relaxed);
            let _ = running.thread.wait(None);
        }
    }
}

/// Writes a captured state, and reports the result.
fn write_out(
    shared: &SnapshotThreads,
    captured: Captured,
    cancelled: &AtomicBool,
    activity: &Activity,
) {
    let Captured { id, head, capture } = captured;
    let last = head.snapshot.last;
    let begun = Instant::now();
    activity.begin(WorkerTask::TakeSnapshot, last.index);
    let is_cancelled = || {
        activity.advance();
        cancelled.load(Ordering::Relaxed)
    };
    let written = panics::caught(|| take(&*shared.store, head, capture, &is_cancelled));
    let report = match written.unwrap_or_else(|message| Err(message.to_string())) {
        Ok(bytes) => {
            let node = shared.lifecycle.node();
            tracing::info!(node = node.get(), %last, bytes, span = ?begun.elapsed(), "took a snapshot");
            Report::Taken(id, last)
        }
        Err(why) => Report::NotTaken(id, Some(why)),
    };
    activity.end();
    shared.report(report);
}

/// Writes a captured state and returns its length in bytes. The error says why there is none.
fn take(
    store: &dyn SnapshotStore,
    head: Head,
    capture: Capture,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<u64, String> {
    let text = |error: StorageError| error.to_string();
    let file = store.create(head.snapshot.last, false).map_err(text)?;
    let mut writer = StateWriter::begin(file, head, is_cancelled).map_err(text)?;
    if let Err(error) = capture(&mut writer) {
        let store = writer.take_failure().map(text);
        return Err(store.unwrap_or_else(|| format!("the state machine failed: {error}")));
    }
    // The state machine may have ignored an error.
    if let Some(error) = writer.take_failure() {
        return Err(text(error));
    }
    if is_cancelled() {
        return Err("the snapshot is no longer wanted".into());
    }
    writer.finish().map_err(text)
}
