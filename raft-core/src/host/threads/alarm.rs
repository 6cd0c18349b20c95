//! Wakes futures at given times, on any runtime: one thread that sleeps until the next.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::string::ToString;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;
use std::vec::Vec;

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
    /// The alarms, in no order. Most are cancelled long before their time, so setting and
    /// cancelling one must be cheap.
    slots: Vec<Slot>,
    /// The indices of the free slots.
    free: Vec<usize>,
    thread: AlarmThread,
    is_closed: bool,
}

/// A place for one alarm.
enum Slot {
    Free,
    Waits(Instant, Waker),
    /// Its time has come, and its future was woken.
    Due,
}

/// What the thread of an alarm clock does next.
enum Next {
    Wake(Vec<Waker>),
    SleepUntil(Instant),
    Sleep,
}

/// What the thread of an alarm clock is doing.
#[derive(Clone, Copy, Default)]
enum AlarmThread {
    /// It reads the slots again before it sleeps, so it needs no signal.
    #[default]
    Awake,
    /// It sleeps until it is signalled, because no alarm is set.
    Sleeps,
    SleepsUntil(Instant),
}

/// Ready at its time.
pub(in crate::host) struct Until {
    at: Instant,
    /// The index of its slot, once it was polled.
    slot: Option<usize>,
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

    /// Ready at this time, or soon after it is polled if that is later.
    pub(in crate::host) fn until(&self, at: Instant) -> Until {
        Until { at, slot: None, shared: Arc::clone(&self.shared) }
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
            clock.thread = AlarmThread::Awake;
            match clock.next(Instant::now()) {
                Next::Wake(wakers) => {
                    drop(clock);
                    wakers.into_iter().for_each(|waker| panics::contained(|| waker.wake()));
                    clock = self.lock();
                }
                Next::SleepUntil(at) => {
                    clock.thread = AlarmThread::SleepsUntil(at);
                    let span = at.saturating_duration_since(Instant::now());
                    let waited = self.changed.wait_timeout(clock, span);
                    clock = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Sleep => {
                    clock.thread = AlarmThread::Sleeps;
                    clock = self.changed.wait(clock).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    fn take_slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len() - 1
        })
    }

    /// What the thread does next. Alarms that are due are marked before their futures are woken.
    fn next(&mut self, now: Instant) -> Next {
        let (mut due, mut next) = (Vec::new(), None);
        for slot in &mut self.slots {
            let Slot::Waits(at, _) = *slot else { continue };
            if at > now {
                next = Some(next.map_or(at, |next: Instant| next.min(at)));
            } else if let Slot::Waits(_, waker) = std::mem::replace(slot, Slot::Due) {
                due.push(waker);
            }
        }
        match next {
            _ if !due.is_empty() => Next::Wake(due),
            Some(at) => Next::SleepUntil(at),
            None => Next::Sleep,
        }
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
        let at = self.at;
        let shared = Arc::clone(&self.shared);
        let mut clock = shared.lock();
        let slot = *self.slot.get_or_insert_with(|| clock.take_slot());
        match &mut clock.slots[slot] {
            Slot::Due => return Poll::Ready(()),
            Slot::Waits(_, waker) => {
                waker.clone_from(cx.waker());
                return Poll::Pending;
            }
            free @ Slot::Free => *free = Slot::Waits(at, cx.waker().clone()),
        }
        // The thread may sleep for an alarm that was cancelled; a later one needs no signal.
        let oversleeps = match clock.thread {
            AlarmThread::Awake => false,
            AlarmThread::Sleeps => true,
            AlarmThread::SleepsUntil(time) => at < time,
        };
        drop(clock);
        if oversleeps {
            shared.changed.notify_one();
        }
        Poll::Pending
    }
}

impl Drop for Until {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let mut clock = self.shared.lock();
            let cancelled = std::mem::replace(&mut clock.slots[slot], Slot::Free);
            clock.free.push(slot);
            drop(clock);
            // The waker may run code of its owner, so not under the lock.
            drop(cancelled);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::executor::block_on;
    use futures::future::{Either, join_all, select};

    use super::*;

    const SOON: Duration = Duration::from_millis(5);
    const NEVER: Duration = Duration::from_secs(3600);

    #[test]
    fn the_earlier_alarm_rings_although_the_thread_sleeps_for_a_later_one() {
        let alarm = Alarm::start().unwrap();
        for _ in 0..10 {
            let begun = Instant::now();
            let late = alarm.until(begun + NEVER);
            let soon = alarm.until(begun + SOON);
            let Either::Right(((), late)) = block_on(select(late, soon)) else { panic!() };
            assert!(begun.elapsed() >= SOON);
            drop(late);
        }
        assert_eq!(alarm.shared.lock().slots.len(), 2, "slots are used again");
    }

    #[test]
    fn alarms_that_are_late_or_due_together_ring() {
        let alarm = Alarm::start().unwrap();
        let begun = Instant::now();
        block_on(alarm.until(begun));
        block_on(join_all((0..100).map(|_| alarm.until(begun + SOON))));
        assert!(begun.elapsed() >= SOON);
        let clock = alarm.shared.lock();
        assert!(clock.slots.iter().all(|slot| matches!(slot, Slot::Free)), "no slot stays taken");
    }
}
