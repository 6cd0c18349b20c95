//! A timer whose deadline moves on with almost every turn.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_io::Timer;
use futures_lite::future;
use raft_core::host::tasks;

/// One timer, for one task.
pub(crate) struct Alarm {
    timer: Timer,
    /// When the timer fires, if it is armed. That may be sooner than needed: to move a timer wakes
    /// the reactor, so the timer is armed anew when it has fired too soon.
    armed: Option<Instant>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { timer: Timer::never(), armed: None }
    }
}

impl tasks::Alarm for Alarm {
    const RUNS_WOKEN_FIRST: bool = false;

    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        while Instant::now() < deadline {
            if self.armed.is_none_or(|armed| armed > deadline) {
                self.timer.set_at(deadline);
                self.armed = Some(deadline);
            }
            ready!(Pin::new(&mut self.timer).poll(cx));
            self.armed = None;
        }
        Poll::Ready(())
    }

    async fn yield_now() {
        future::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures_lite::future::block_on;
    use raft_core::host::tasks::Alarm as _;

    use super::*;

    fn wait(alarm: &mut Alarm, deadline: Instant) {
        block_on(poll_fn(|cx| alarm.poll_until(cx, deadline)));
    }

    #[test]
    fn a_wait_ends_with_its_deadline_and_not_before() {
        let mut alarm = Alarm::new();
        for micros in [0, 1, 300, 5_000] {
            let deadline = Instant::now() + Duration::from_micros(micros);
            wait(&mut alarm, deadline);
            assert!(Instant::now() >= deadline);
        }
    }

    #[test]
    fn a_deadline_may_move_either_way() {
        let mut alarm = Alarm::new();
        let now = Instant::now();
        let spans = [3_600_000, 2, 4, 3].map(Duration::from_millis);
        let far = block_on(poll_fn(|cx| Poll::Ready(alarm.poll_until(cx, now + spans[0]))));
        assert!(far.is_pending());
        for span in &spans[1..] {
            wait(&mut alarm, now + *span);
        }
        assert!(now.elapsed() >= spans[2]);
    }
}
