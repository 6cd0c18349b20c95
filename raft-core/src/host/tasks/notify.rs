//! A wake-up for one task.

use std::fmt;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// Wakes one task, on any executor. A wake-up is kept if the task does not wait at that moment, and
/// several wake-ups count as one.
#[derive(Default)]
pub struct Notify {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_notified: bool,
    waiting: Option<Waker>,
}

impl Notify {
    /// Without a wake-up.
    pub fn new() -> Self {
        Self::default()
    }

    /// A wake-up for a loop, and the hook that the host calls for it.
    pub fn with_hook() -> (Arc<Self>, impl Fn() + Send + Sync + 'static) {
        let woken = Arc::new(Self::new());
        let hook = Arc::clone(&woken);
        (woken, move || hook.notify())
    }

    /// Wakes the task. Never blocks.
    pub fn notify(&self) {
        let waiting = {
            let mut state = self.lock();
            state.is_notified = true;
            state.waiting.take()
        };
        // Not under the lock, because an executor may run or drop the task here.
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// Takes back a wake-up that is kept.
    pub fn forget(&self) {
        self.lock().is_notified = false;
    }

    /// Takes a wake-up, or waits for one. Of several tasks that wait, the last is woken.
    pub fn poll_notified(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if mem::take(&mut state.is_notified) {
            return Poll::Ready(());
        }
        if !state.waiting.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
            let replaced = state.waiting.replace(cx.waker().clone());
            // A waker's drop may run an executor's code.
            drop(state);
            drop(replaced);
        }
        Poll::Pending
    }

    /// The same as a future.
    pub async fn notified(&self) {
        poll_fn(|cx| self.poll_notified(cx)).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notify")
    }
}

#[cfg(test)]
mod tests {
    use super::super::woken::Woken;
    use super::*;

    #[test]
    fn a_wake_up_is_kept_and_several_count_as_one() {
        let (notify, woken) = (Notify::new(), Arc::new(Woken::default()));
        let waker = woken.clone().into();
        let mut cx = Context::from_waker(&waker);
        assert!(notify.poll_notified(&mut cx).is_pending());
        notify.notify();
        notify.notify();
        assert_eq!(woken.count(), 1);
        assert!(notify.poll_notified(&mut cx).is_ready());
        assert!(notify.poll_notified(&mut cx).is_pending());
        assert_eq!(woken.count(), 1);
    }

    #[test]
    fn a_wake_up_can_be_taken_back() {
        let notify = Notify::new();
        let mut cx = Context::from_waker(Waker::noop());
        notify.notify();
        notify.forget();
        assert!(notify.poll_notified(&mut cx).is_pending());
    }
}
