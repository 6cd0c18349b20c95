//! The loop: it turns, and waits as each turn says.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::notify::Notify;
use crate::host::clock::Next;

/// What a loop turns.
pub trait LoopBody {
    /// Does what is to be done now, and says what the loop does next.
    fn turn(&mut self) -> Next;

    /// Whether several tasks wait for this loop. Then more of them may be ready to ask, and their
    /// requests are served together if they run before the next turn.
    fn serves_many(&self) -> bool {
        false
    }
}

/// What a runtime has for one task that waits.
pub trait Alarm {
    /// Whether the runtime runs a task right behind the one that woke it, before others that are
    /// ready. If so, a loop that [serves many](LoopBody::serves_many) lets those run first.
    const RUNS_WOKEN_FIRST: bool;

    /// Ready once the deadline has come. The deadline moves with almost every turn, so to move it
    /// should cost nothing. An alarm that fires too early is harmless.
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()>;

    /// Lets other tasks run.
    fn yield_now() -> impl Future<Output = ()> + Send;
}

/// Turns until the node or the network has stopped. `woken` is notified by the wake hook.
pub async fn run<A: Alarm>(mut body: impl LoopBody, woken: Arc<Notify>, mut alarm: A) {
    loop {
        match body.turn() {
            Next::Again => A::yield_now().await,
            Next::Wait(deadline) => {
                wait(&woken, &mut alarm, deadline).await;
                if A::RUNS_WOKEN_FIRST && body.serves_many() {
                    A::yield_now().await;
                }
            }
            Next::Stop => return,
        }
    }
}

/// Waits until woken or until the deadline has come. `None` never comes. Other tasks can run at
/// least once.
async fn wait<A: Alarm>(woken: &Notify, alarm: &mut A, deadline: Option<Instant>) {
    let mut waited = false;
    poll_fn(|cx| {
        if woken.poll_notified(cx).is_ready() {
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
        A::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::Waker;
    use std::vec::Vec;

    use super::super::woken::Woken;
    use super::*;

    /// Fires when it is told to.
    #[derive(Clone, Default)]
    struct Bell<const WOKEN_FIRST: bool>(Rc<Cell<bool>>);

    impl<const WOKEN_FIRST: bool> Alarm for Bell<WOKEN_FIRST> {
        const RUNS_WOKEN_FIRST: bool = WOKEN_FIRST;

        fn poll_until(&mut self, _: &mut Context<'_>, _: Instant) -> Poll<()> {
            if self.0.get() { Poll::Ready(()) } else { Poll::Pending }
        }

        async fn yield_now() {
            let mut yielded = false;
            poll_fn(|_| {
                if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    /// Says what comes next, and counts its turns.
    struct Script {
        next: Vec<Next>,
        turns: Rc<Cell<usize>>,
        serves_many: bool,
    }

    impl LoopBody for Script {
        fn turn(&mut self) -> Next {
            self.turns.set(self.turns.get() + 1);
            self.next.pop().unwrap_or(Next::Stop)
        }

        fn serves_many(&self) -> bool {
            self.serves_many
        }
    }

    /// How many turns were taken after each poll of the loop. The bell rings before the poll
    /// number `rings`, and the wake-up comes before the poll number `wakes`.
    fn turns_by_poll<const WOKEN_FIRST: bool>(
        next: &[Next],
        serves_many: bool,
        (rings, wakes): (usize, usize),
    ) -> Vec<usize> {
        let (turns, bell) = (Rc::new(Cell::new(0)), Bell::<WOKEN_FIRST>::default());
        let script = Script { next: next.to_vec(), turns: Rc::clone(&turns), serves_many };
        let woken = Arc::new(Notify::new());
        let mut running = pin!(run(script, Arc::clone(&woken), bell.clone()));
        let mut cx = Context::from_waker(Waker::noop());
        let mut counts = Vec::new();
        for number in 0..6 {
            bell.0.set(bell.0.get() || number == rings);
            if number == wakes {
                woken.notify();
            }
            let polled = running.as_mut().poll(&mut cx);
            counts.push(turns.get());
            if polled.is_ready() {
                return counts;
            }
        }
        counts
    }

    const NEVER: usize = usize::MAX;

    #[test]
    fn a_loop_waits_for_its_deadline_or_a_wake_up() {
        let soon = Next::Wait(Some(Instant::now()));
        assert_eq!(turns_by_poll::<false>(&[soon], false, (2, NEVER)), [1, 1, 2]);
        assert_eq!(turns_by_poll::<false>(&[soon], false, (NEVER, 1)), [1, 2]);
        let never = Next::Wait(None);
        assert_eq!(turns_by_poll::<false>(&[never], false, (0, 3)), [1, 1, 1, 2]);
    }

    #[test]
    fn others_run_between_two_turns() {
        let soon = Next::Wait(Some(Instant::now()));
        assert_eq!(turns_by_poll::<false>(&[Next::Again], false, (NEVER, NEVER)), [1, 2]);
        assert_eq!(turns_by_poll::<false>(&[soon], false, (0, NEVER)), [1, 2], "its time is over");
        assert_eq!(turns_by_poll::<false>(&[soon], false, (NEVER, 0)), [1, 2], "it was woken");
    }

    #[test]
    fn others_run_before_a_loop_that_serves_many_if_they_would_not_otherwise() {
        let soon = [Next::Wait(Some(Instant::now()))];
        assert_eq!(turns_by_poll::<true>(&soon, true, (NEVER, 1)), [1, 1, 2]);
        assert_eq!(turns_by_poll::<true>(&soon, false, (NEVER, 1)), [1, 2]);
        assert_eq!(turns_by_poll::<false>(&soon, true, (NEVER, 1)), [1, 2]);
    }

    #[test]
    fn a_wake_up_wakes_the_task_that_waits() {
        let script =
            Script { next: [Next::Wait(None)].to_vec(), turns: Rc::default(), serves_many: false };
        let (notify, woken) = (Arc::new(Notify::new()), Arc::new(Woken::default()));
        let waker = woken.clone().into();
        let mut running = pin!(run(script, Arc::clone(&notify), Bell::<false>::default()));
        assert!(running.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        notify.notify();
        assert_eq!(woken.count(), 1);
    }
}
