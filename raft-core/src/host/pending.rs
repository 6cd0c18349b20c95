//! Answers that have yet to come, for those who await and for those who block.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::error::Stopped;
use super::life::Life;

/// The answer to a request. Await it, or [`wait`](Pending::wait) for it on a thread; no runtime is needed for either.
///
/// Dropping it does not take the request back.
#[derive(Debug)]
#[must_use = "the answer comes to whoever waits for it"]
pub struct Pending<T, E> {
    receiver: oneshot::Receiver<Result<T, E>>,
    life: Arc<Life>,
}

/// What awaiting a [`Pending`] runs.
#[derive(Debug)]
pub struct PendingFuture<T, E> {
    receiver: oneshot::AsyncReceiver<Result<T, E>>,
    life: Arc<Life>,
}

impl<T, E: From<Stopped>> Pending<T, E> {
    pub(super) fn new(receiver: oneshot::Receiver<Result<T, E>>, life: Arc<Life>) -> Self {
        Self { receiver, life }
    }

    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    ///
    /// As the request says.
    pub fn wait(self) -> Result<T, E> {
        self.receiver.recv().unwrap_or_else(|_| Err(self.life.stopped().into()))
    }
}

impl<T, E: From<Stopped>> IntoFuture for Pending<T, E> {
    type Output = Result<T, E>;
    type IntoFuture = PendingFuture<T, E>;

    fn into_future(self) -> PendingFuture<T, E> {
        PendingFuture { receiver: self.receiver.into_future(), life: self.life }
    }
}

impl<T, E: From<Stopped>> Future for PendingFuture<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.get_mut();
        let answer = Pin::new(&mut this.receiver).poll(cx);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(this.life.stopped().into())))
    }
}
