//! The answer of a client, yet to come.

use std::boxed::Box;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::client_error::ClientError;

/// The answer to a command, yet to come. Await it, or [`wait`](Call::wait) for it on a thread; no
/// runtime is needed for either.
///
/// The command is proposed before its caller gets this. Dropping it does not take the command back,
/// but ends the attempts.
#[must_use = "the answer says whether the command was applied"]
pub struct Call<T> {
    state: CallState<T>,
}

enum CallState<T> {
    Running(Pin<Box<dyn Future<Output = Result<T, ClientError>> + Send>>),
    Answered(Result<T, ClientError>),
    Done,
}

impl<T> Call<T> {
    /// Polls the call once, so that its command is on its way.
    pub(super) fn start(
        call: impl Future<Output = Result<T, ClientError>> + Send + 'static,
    ) -> Self {
        let mut call: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(call);
        let state = match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => CallState::Answered(answer),
            Poll::Pending => CallState::Running(call),
        };
        Self { state }
    }

    pub(super) fn answered(answer: Result<T, ClientError>) -> Self {
        Self { state: CallState::Answered(answer) }
    }

    /// Blocks this thread until the answer is there, which takes the client's timeout at most.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    ///
    /// # Panics
    ///
    /// If the answer was polled as a future before, and was ready.
    pub fn wait(mut self) -> Result<T, ClientError> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut cx) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => thread::park(),
            }
        }
    }
}

/// A call may move in memory, because what refers to its own place is boxed.
impl<T> Unpin for Call<T> {}

impl<T> Future for Call<T> {
    type Output = Result<T, ClientError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let CallState::Running(call) = &mut this.state {
            let Poll::Ready(answer) = call.as_mut().poll(cx) else { return Poll::Pending };
            this.state = CallState::Answered(answer);
        }
        match std::mem::replace(&mut this.state, CallState::Done) {
            CallState::Answered(answer) => Poll::Ready(answer),
            CallState::Running(_) | CallState::Done => panic!("polled after it was ready"),
        }
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
