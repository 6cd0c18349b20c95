//! Waiting for one of two futures, or for a limited time.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::super::Closed;
use super::runtime::Runtime;

/// The output of the future that is ready first; of the first one if both are.
pub(super) async fn or<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> T {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(output),
        Poll::Pending => second.as_mut().poll(cx),
    })
    .await
}

/// The output of the future, or [`Closed::Idle`] if the future takes longer than `span`. The timer
/// costs nothing if the future is ready at once.
pub(super) async fn timeout<R: Runtime, T>(
    span: Duration,
    future: impl Future<Output = Result<T, Closed>>,
) -> Result<T, Closed> {
    let late = async {
        R::sleep(span).await;
        Err(Closed::Idle)
    };
    or(future, late).await
}

/// Lets other tasks run.
pub(super) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::io;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::super::runtime::Socket;
    use super::*;

    /// Its time is over at once.
    struct Impatient;

    impl Runtime for Impatient {
        type Listener = ();
        type Socket = Impatient;

        fn spawn(&self, _task: impl Future<Output = ()> + Send + 'static) {}

        async fn accept(_listener: &()) -> io::Result<(Self, SocketAddr)> {
            pending().await
        }

        async fn connect(_address: SocketAddr) -> io::Result<Self> {
            pending().await
        }

        async fn sleep(_span: Duration) {}
    }

    impl Socket for Impatient {
        fn set_nodelay(&self) -> io::Result<()> {
            Ok(())
        }

        fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_write(&mut self, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_takes_too_long_ends_and_what_is_ready_does_not() {
        let span = Duration::from_secs(1);
        let never = pending::<Result<(), _>>();
        let late = poll(pin!(timeout::<Impatient, _>(span, never)));
        assert!(matches!(late, Poll::Ready(Err(Closed::Idle))));
        let in_time = poll(pin!(timeout::<Impatient, _>(span, ready(Ok(7)))));
        assert!(matches!(in_time, Poll::Ready(Ok(7))));
    }

    #[test]
    fn the_first_of_two_comes_first() {
        assert_eq!(poll(pin!(or(ready(1), ready(2)))), Poll::Ready(1));
        assert_eq!(poll(pin!(or(pending(), ready(2)))), Poll::Ready(2));
        assert_eq!(poll(pin!(or(pending::<u8>(), pending()))), Poll::Pending);
    }

    #[test]
    fn others_run_once() {
        let mut yielding = pin!(yield_now());
        assert!(poll(yielding.as_mut()).is_pending());
        assert!(poll(yielding).is_ready());
    }
}
