//! The last moments before an election, which a node spends awake.
//!
//! Whoever sleeps until a moment wakes 50 to 300 µs later, under every runtime: the operating
//! system must first wake the processor, then the thread. On a fast network that is several times
//! what the election takes. So a node is woken early when it is to stand, and watches the clock
//! itself. While a leader is heard its deadline moves on before it comes near, so at rest this
//! costs nothing.

use std::hint;
use std::time::Duration;

use crate::host::clock::Clock;
use crate::status::Wake;
use crate::time::Instant;

/// How long before it may stand a node is woken, and the longest that it then keeps a processor
/// busy: more than timers are late on an ordinary machine that is not overloaded.
const SPIN_WAIT_MAX: Duration = Duration::from_micros(300);

/// When the host should wake the node.
pub(super) fn wake_at((deadline, wake): (Instant, Wake)) -> Instant {
    match wake {
        Wake::Election => Instant::from_micros(micros_before(deadline)),
        Wake::Step | Wake::Heartbeat | Wake::AskAgain | Wake::Quorum | Wake::Transfer => deadline,
    }
}

/// Waits for the deadline, if it has begun to; until something `arrives` at the latest.
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
