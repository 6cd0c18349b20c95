//! Answers that have yet to come, for those who await and for those who block.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::error::Stopped;
use super::life::Life;

/// The answer to a request. Await it, or [`wait`](Pending::wait) for it on a thread; no runtime is needed for either.
///
/// Dropping it does not take the request back.
#[must_use = "the answer comes to whoever waits for it"]
pub struct Pending<T, E> {
    receiver: Receiver<T, E>,
    life: Arc<Life>,
}

enum Receiver<T, E> {
    /// Neither awaited nor blocked for yet.
    Unasked(oneshot::Receiver<Result<T, E>>),
    Awaited(oneshot::AsyncReceiver<Result<T, E>>),
    Done,
}

impl<T, E: From<Stopped>> Pending<T, E> {
    pub(super) fn new(receiver: oneshot::Receiver<Result<T, E>>, life: Arc<Life>) -> Self {
        Self { receiver: Receiver::Unasked(receiver), life }
    }

    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    ///
    /// As the request says.
    ///
    /// # Panics
    ///
    /// If it was polled as a future before.
    pub fn wait(self) -> Result<T, E> {
        let Receiver::Unasked(receiver) = self.receiver else {
            panic!("an answer is either awaited or blocked for, not both")
        };
        receiver.recv().unwrap_or_else(|_| Err(self.life.stopped().into()))
    }
}

impl<T, E: From<Stopped>> Future for Pending<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.get_mut();
        let mut receiver = match std::mem::replace(&mut this.receiver, Receiver::Done) {
            Receiver::Unasked(receiver) => receiver.into_future(),
            Receiver::Awaited(receiver) => receiver,
            Receiver::Done => panic!("polled after it was ready"),
        };
        match Pin::new(&mut receiver).poll(cx) {
            Poll::Ready(Ok(answer)) => Poll::Ready(answer),
            Poll::Ready(Err(_)) => Poll::Ready(Err(this.life.stopped().into())),
            Poll::Pending => {
                this.receiver = Receiver::Awaited(receiver);
                Poll::Pending
            }
        }
    }
}

impl<T, E> fmt::Debug for Pending<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}
