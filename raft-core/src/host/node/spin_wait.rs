//! The last moments before an election, in which a node watches the clock instead of sleeping.
//!
//! A thread that sleeps until a moment wakes 50 to 300 µs late, under every runtime, because the
//! operating system must first wake the processor and then the thread. On a fast network that is
//! several times as long as the election takes. So a node is woken early if it is to stand for
//! election, and watches the clock itself. While the node hears a leader, its deadline moves on
//! before it comes near, so this costs nothing at rest.

use std::hint;
use std::time::Duration;

use crate::host::clock::Clock;
use crate::status::Wake;
use crate::time::Instant;

/// How long before an election timeout the node is woken, and the longest time for which it then
/// keeps a processor busy. It is more than timers are late on an ordinary machine that is not
/// overloaded.
const SPIN_WAIT_MAX: Duration = Duration::from_micros(300);

/// The moment at which the host wakes the node.
pub(super) fn wake_at((deadline, wake): (Instant, Wake)) -> Instant {
    match wake {
        Wake::Election => Instant::from_micros(micros_before(deadline)),
        Wake::Step
        | Wake::Heartbeat
        | Wake::AskAgain
        | Wake::Quorum
        | Wake::Transfer
        | Wake::CatchUp => deadline,
    }
}

/// Waits for the deadline if the spin wait has begun, and ends early if something `arrives`.
pub(super) fn wait(clock: &Clock, deadline: Instant, arrives: impl Fn() -> bool) {
    let is_near = |now: Instant| now < deadline && now.as_micros() >= micros_before(deadline);
    while is_near(clock.now()) && !arrives() {
        hint::spin_loop();
    }
}

fn micros_before(deadline: Instant) -> u64 {
    deadline.as_micros().saturating_sub(SPIN_WAIT_MAX.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn only_elections_are_waited_for_awake() {
        let deadline = Instant::from_micros(10_000);
        assert_eq!(wake_at((deadline, Wake::Election)), Instant::from_micros(9_700));
        assert_eq!(wake_at((deadline, Wake::Heartbeat)), deadline);
        assert_eq!(wake_at((Instant::from_micros(1), Wake::Election)), Instant::ZERO);
    }

    #[test]
    fn a_spin_wait_ends_with_its_deadline_or_with_an_arrival() {
        let clock = Clock::new();
        let deadline = clock.now() + SPIN_WAIT_MAX;
        wait(&clock, deadline, || false);
        assert!(clock.now() >= deadline);

        // Whether it asks at all depends on how fast this test is run; it never asks again once
        // something has come.
        let asked = Cell::new(0);
        wait(&clock, clock.now() + SPIN_WAIT_MAX, || {
            asked.set(asked.get() + 1);
            true
        });
        assert!(asked.get() <= 1);
    }

    #[test]
    fn it_does_not_begin_too_soon() {
        let clock = Clock::new();
        let hour = clock.now() + Duration::from_secs(3600);
        wait(&clock, hour, || panic!("it sleeps instead"));
    }
}
