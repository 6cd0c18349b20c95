//! Waiting: for a wake-up, for a moment.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_channel::{Receiver, Sender};
use async_io::Timer;
use futures_lite::future::yield_now;
use raft_core::host::Next;

/// Wakes one task. A wake-up is kept if the task does not wait at that moment, and several wake-ups
/// count as one. A clone wakes the same task.
#[derive(Clone, Debug)]
pub(crate) struct Notify {
    sender: Sender<()>,
    receiver: Receiver<()>,
}

impl Default for Notify {
    fn default() -> Self {
        let (sender, receiver) = async_channel::bounded(1);
        Self { sender, receiver }
    }
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify(&self) {
        // If the channel is full, a wake-up waits already. It is never closed.
        let _ = self.sender.try_send(());
    }

    pub(crate) async fn notified(&self) {
        let _ = self.receiver.recv().await;
    }
}

/// The loop of a node or a network: turns, and waits as each turn says.
pub(crate) async fn drive(mut turn: impl FnMut() -> Next, woken: Notify) {
    let mut alarm = Alarm { timer: Timer::never(), armed: None };
    loop {
        match turn() {
            Next::Again => yield_now().await,
            Next::Wait(deadline) => wait(&woken, &mut alarm, deadline).await,
            Next::Stop => return,
        }
    }
}

/// Waits until woken or until the deadline has come. `None` never comes. Other tasks can run at
/// least once.
async fn wait(woken: &Notify, alarm: &mut Alarm, deadline: Option<Instant>) {
    let mut notified = pin!(woken.notified());
    let mut waited = false;
    poll_fn(|cx| {
        if notified.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if deadline.is_some_and(|deadline| alarm.poll_until(cx, deadline).is_ready()) {
            return Poll::Ready(());
        }
        waited = true;
        Poll::Pending
    })
    .await;
    if !waited {
        yield_now().await;
    }
}

/// A timer whose deadline moves on with almost every turn.
struct Alarm {
    timer: Timer,
    /// When the timer fires, if it is armed. That may be sooner than needed: to move a timer wakes
    /// the reactor, so the timer is armed anew when it has fired too soon.
    armed: Option<Instant>,
}

impl Alarm {
    /// Ready once the deadline has come.
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
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_lite::future::{block_on, zip};

    use super::*;

    fn alarm() -> Alarm {
        Alarm { timer: Timer::never(), armed: None }
    }

    #[test]
    fn a_wait_ends_with_its_deadline_and_not_before() {
        let woken = Notify::new();
        let mut alarm = alarm();
        for micros in [0, 1, 300, 5_000] {
            let deadline = Instant::now() + Duration::from_micros(micros);
            block_on(wait(&woken, &mut alarm, Some(deadline)));
            assert!(Instant::now() >= deadline);
        }
    }

    #[test]
    fn a_wait_ends_when_woken_before_or_during() {
        let woken = Notify::new();
        let mut alarm = alarm();
        woken.notify();
        block_on(wait(&woken, &mut alarm, None));
        let hour = Instant::now() + Duration::from_secs(3600);
        block_on(zip(wait(&woken, &mut alarm, Some(hour)), async { woken.notify() }));
    }

    #[test]
    fn a_deadline_may_move_either_way() {
        let woken = Notify::new();
        let mut alarm = alarm();
        let now = Instant::now();
        let spans = [3_600_000, 2, 4, 3].map(Duration::from_millis);
        woken.notify();
        for span in spans {
            block_on(wait(&woken, &mut alarm, Some(now + span)));
        }
        assert!(now.elapsed() >= spans[2]);
    }
}
