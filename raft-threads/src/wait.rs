//! Waiting until woken, or until a moment, as precisely as the operating system can.

use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use raft_core::host::Next;

/// Wakes one thread. A wake before the wait is kept.
#[derive(Default, Debug)]
pub(crate) struct Signal {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default, Debug)]
struct State {
    woken: bool,
    /// Whether a thread waits, so that a wake is worth a system call.
    waits: bool,
}

impl Signal {
    pub(crate) fn wake(&self) {
        let mut state = self.lock();
        state.woken = true;
        let waits = state.waits;
        drop(state);
        if waits {
            self.woken.notify_one();
        }
    }

    /// Returns when woken or when the deadline has come. `None` never comes.
    pub(crate) fn wait(&self, deadline: Option<Instant>) {
        let mut state = self.lock();
        while !state.woken {
            state.waits = true;
            state = match deadline {
                None => self.woken.wait(state).expect(UNPOISONED),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.woken.wait_timeout(state, left).expect(UNPOISONED).0
                }
            };
        }
        *state = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "nothing panics while it holds this lock";

/// Calls `turn` until it says stop. For a thread of its own.
pub(crate) fn run(signal: &Signal, mut turn: impl FnMut() -> Next) {
    be_punctual();
    loop {
        match turn() {
            Next::Again => thread::yield_now(),
            Next::Wait(deadline) => signal.wait(deadline),
            Next::Stop => return,
        }
    }
}

/// Makes the thread's timers precise. To save power, Linux lets a thread sleep 50 µs longer than it
/// asked for unless the thread says otherwise. That would be half of all the lateness.
#[cfg(target_os = "linux")]
fn be_punctual() {
    // If this fails, the thread is only a little late.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(not(target_os = "linux"))]
fn be_punctual() {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_wait_ends_with_its_deadline_and_not_before() {
        let signal = Signal::default();
        for micros in [0, 1, 300, 5_000] {
            let deadline = Instant::now() + Duration::from_micros(micros);
            signal.wait(Some(deadline));
            assert!(Instant::now() >= deadline);
        }
    }

    #[test]
    fn a_wait_ends_when_woken_before_or_during() {
        let signal = Signal::default();
        let late = Instant::now() + Duration::from_secs(60);
        signal.wake();
        signal.wait(Some(late));
        thread::scope(|scope| {
            scope.spawn(|| signal.wake());
            signal.wait(Some(late));
        });
        assert!(Instant::now() < late);
    }
}
