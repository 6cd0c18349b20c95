//! Wakes futures at given times, on any runtime: one thread that sleeps until the next.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::string::ToString;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use super::panics;

/// An alarm clock with a thread of its own, which ends when this is dropped.
pub(in crate::host) struct Alarm {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    clock: Mutex<Clock>,
    changed: Condvar,
}

#[derive(Default)]
struct Clock {
    /// Who is to be woken, by time. The number keeps equal times apart.
    wakers: BTreeMap<(Instant, u64), Waker>,
    last: u64,
    is_closed: bool,
}

/// Ready at its time.
pub(in crate::host) struct Until {
    at: Instant,
    /// Its number in the clock, once it was polled.
    number: Option<u64>,
    shared: Arc<Shared>,
}

impl Alarm {
    /// Starts the thread.
    pub(in crate::host) fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let ringing = Arc::clone(&shared);
        let thread = thread::Builder::new().name("raft-alarm".to_string());
        thread.spawn(move || ringing.run())?;
        Ok(Self { shared })
    }

    /// Ready at this time, or as soon as it is polled later.
    pub(in crate::host) fn until(&self, at: Instant) -> Until {
        Until { at, number: None, shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        let mut clock = self.lock();
        while !clock.is_closed {
            let Some((at, _)) = clock.wakers.keys().next().copied() else {
                clock = self.changed.wait(clock).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let span = at.saturating_duration_since(Instant::now());
            if span.is_zero() {
                let due = clock.wakers.pop_first();
                drop(clock);
                if let Some((_, waker)) = due {
                    panics::contained(|| waker.wake());
                }
                clock = self.lock();
            } else {
                let waited = self.changed.wait_timeout(clock, span);
                clock = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarm")
    }
}

impl Future for Until {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        let shared = Arc::clone(&self.shared);
        let mut clock = shared.lock();
        let number = *self.number.get_or_insert_with(|| {
            clock.last += 1;
            clock.last
        });
        let key = (self.at, number);
        let is_next = clock.wakers.keys().next().is_none_or(|next| key < *next);
        clock.wakers.insert(key, cx.waker().clone());
        drop(clock);
        if is_next {
            shared.changed.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.lock().wakers.remove(&(self.at, number));
        }
    }
}
