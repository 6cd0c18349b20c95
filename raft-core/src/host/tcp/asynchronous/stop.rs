//! The stop of a transport, for which all of its tasks wait.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// Stops all tasks of a transport when it is dropped.
pub(super) struct Stop(Arc<Shared>);

/// A task's end of it. A clone is for another task.
pub(super) struct Stopping {
    shared: Arc<Shared>,
    /// What the stop will wake, and its place among the waiting tasks.
    waiting: Option<(u64, Waker)>,
}

#[derive(Default)]
struct Shared {
    is_stopped: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    tasks: BTreeMap<u64, Waker>,
    next: u64,
}

impl Stop {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn stopping(&self) -> Stopping {
        Stopping { shared: Arc::clone(&self.0), waiting: None }
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        let tasks = {
            let mut waiting = self.0.lock();
            self.0.is_stopped.store(true, Ordering::SeqCst);
            mem::take(&mut waiting.tasks)
        };
        tasks.into_values().for_each(Waker::wake);
    }
}

impl Stopping {
    /// Ready once the transport stops.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.shared.is_stopped.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        if self.waiting.as_ref().is_some_and(|(_, waker)| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let mut waiting = self.shared.lock();
        // The stop takes the tasks under the same lock, so it misses none.
        if self.shared.is_stopped.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        let place = match &self.waiting {
            Some((place, _)) => *place,
            None => {
                waiting.next += 1;
                waiting.next
            }
        };
        let replaced = waiting.tasks.insert(place, cx.waker().clone());
        // A waker's drop may run an executor's code.
        drop(waiting);
        drop(replaced);
        self.waiting = Some((place, cx.waker().clone()));
        Poll::Pending
    }

    /// The same as a future.
    pub(super) async fn stopped(&mut self) {
        poll_fn(|cx| self.poll_stopped(cx)).await;
    }
}

impl Clone for Stopping {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), waiting: None }
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        if let Some((place, _)) = &self.waiting {
            let left = self.shared.lock().tasks.remove(place);
            drop(left);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tasks::woken::Woken;

    #[test]
    fn a_stop_wakes_every_task_that_waits_and_no_other() {
        let stop = Stop::new();
        let (mut first, mut second, mut third) =
            (stop.stopping(), stop.stopping(), stop.stopping());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        for task in [&mut first, &mut second, &mut third] {
            assert!(task.poll_stopped(&mut cx).is_pending());
            assert!(task.poll_stopped(&mut cx).is_pending());
        }
        drop(third);
        drop(stop);
        assert_eq!(woken.count(), 2);
        assert!(first.poll_stopped(&mut cx).is_ready());
        assert!(second.clone().poll_stopped(&mut cx).is_ready(), "also one that comes later");
    }

    #[test]
    fn a_task_that_has_moved_is_woken_where_it_is() {
        let stop = Stop::new();
        let mut task = stop.stopping();
        assert!(task.poll_stopped(&mut Context::from_waker(Waker::noop())).is_pending());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        assert!(task.poll_stopped(&mut Context::from_waker(&waker)).is_pending());
        drop(stop);
        assert_eq!(woken.count(), 1);
    }
}
