//! Answers that are yet to come. A client awaits an answer, blocks until it is there, or has it
//! handed to a function.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::host::error::{
    BackupError, ChangeError, ProposeError, ReadError, SnapshotError, StopReason, Stopped,
    TransferError,
};
use crate::host::threads::alarm::Until;
use crate::host::threads::here;
use crate::host::threads::lifecycle::Lifecycle;

/// The answer to a request. Await it, [`wait`](Pending::wait) for it on a thread, or have it
/// [handed to a function](Pending::then); no runtime is needed for any of these.
///
/// The request is queued before its caller gets this answer. If the node refuses the request, the
/// answer is there already. Dropping an answer does not take the request back.
#[must_use = "the answer says whether the request succeeded"]
pub struct Pending<T, E> {
    receiver: Receiver<T, E>,
    lifecycle: Arc<Lifecycle>,
}

/// The end of a node. Await it, or [`wait`](Stopping::wait) for it on a thread. It is there when
/// nothing of the node is left, and says why the node stopped.
#[must_use = "the node may still be stopping"]
#[derive(Debug)]
pub struct Stopping(Pending<StopReason, Stopped>);

/// The answer to a request, for which its caller waits for a limited time. Await it, or
/// [`wait`](Within::wait) for it on a thread. From [`Pending::within`].
#[must_use = "the answer says whether the request succeeded"]
pub struct Within<T, E> {
    pending: Pending<T, E>,
    /// `None` is never.
    deadline: Option<Instant>,
    /// Wakes the caller at the deadline, once this was polled.
    until: Option<Until>,
}

/// Why an answer is not there when [`Pending::wait_timeout`] returns, or [`Pending::within`] ends.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WaitError<E> {
    /// The answer did not come in time. The request is not taken back: a command may yet be
    /// committed.
    TimedOut,
    /// The answer came, and is this error.
    Answered(E),
}

enum Receiver<T, E> {
    /// The node refused the request.
    Refused(E),
    /// Neither awaited nor blocked for yet.
    Untouched(oneshot::Receiver<Result<T, E>>),
    Awaited(oneshot::AsyncReceiver<Result<T, E>>),
    Done,
}

/// The errors that may be the answer to any request. The trait cannot be implemented elsewhere.
pub trait Unanswered: From<Stopped> + sealed::Sealed {
    /// The node took the request, but its client waits for the answer where the answer cannot come.
    #[doc(hidden)]
    fn waits_for_itself() -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! unanswered {
    ($($error:ident,)+) => {$(
        impl sealed::Sealed for $error {}
        impl Unanswered for $error {
            fn waits_for_itself() -> Self {
                Self::WaitsForItself
            }
        }
    )+};
}

unanswered! { ProposeError, ReadError, ChangeError, TransferError, SnapshotError, }

impl sealed::Sealed for BackupError {}

impl Unanswered for BackupError {
    fn waits_for_itself() -> Self {
        Self::Refused(ReadError::WaitsForItself)
    }
}

impl sealed::Sealed for Stopped {}

impl Unanswered for Stopped {
    fn waits_for_itself() -> Self {
        panic!("a state machine waits for its own node to lead or to end, and so for itself")
    }
}

impl<T, E: Unanswered> Pending<T, E> {
    pub(super) fn new(
        receiver: oneshot::Receiver<Result<T, E>>,
        lifecycle: Arc<Lifecycle>,
    ) -> Self {
        Self { receiver: Receiver::Untouched(receiver), lifecycle }
    }

    pub(super) fn refused(error: E, lifecycle: Arc<Lifecycle>) -> Self {
        Self { receiver: Receiver::Refused(error), lifecycle }
    }

    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    ///
    /// As the request says. If a state machine waits for its own node from inside of a call, it
    /// would wait for itself. Then this method and `.await` alike return the error `WaitsForItself`
    /// at once.
    ///
    /// # Panics
    ///
    /// If the answer was polled as a future before, or if a state machine waits for its own node to
    /// lead or to end.
    pub fn wait(self) -> Result<T, E> {
        let lifecycle = Arc::clone(&self.lifecycle);
        let receiver = self.into_receiver()?;
        if here::is_inside(lifecycle.threads_node()) {
            return receiver.try_recv().unwrap_or_else(|_| Err(E::waits_for_itself()));
        }
        receiver.recv().unwrap_or_else(|_| Err(lifecycle.stopped().into()))
    }

    /// Blocks this thread until the answer is there, or for `timeout` at most.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or as the request says.
    ///
    /// # Panics
    ///
    /// If the answer was polled as a future before.
    pub fn wait_timeout(self, timeout: Duration) -> Result<T, WaitError<E>> {
        let lifecycle = Arc::clone(&self.lifecycle);
        let receiver = self.into_receiver().map_err(WaitError::Answered)?;
        if here::is_inside(lifecycle.threads_node()) {
            let answer = receiver.try_recv().unwrap_or_else(|_| Err(E::waits_for_itself()));
            return answer.map_err(WaitError::Answered);
        }
        match receiver.recv_timeout(timeout) {
            Ok(answer) => answer.map_err(WaitError::Answered),
            Err(oneshot::RecvTimeoutError::Timeout) => Err(WaitError::TimedOut),
            Err(oneshot::RecvTimeoutError::Disconnected) => {
                Err(WaitError::Answered(lifecycle.stopped().into()))
            }
        }
    }

    /// The same answer, for which its caller waits for `timeout` from now at most. It works on
    /// every runtime, and needs no timer of the caller's: a thread of the node wakes the callers.
    ///
    /// A timeout takes nothing back: a command, a transfer or a change of membership that has begun
    /// may yet take effect. Only a change that has not begun is given up. To know that a command
    /// takes effect once although it is proposed again, use a [`Client`](crate::host::Client).
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or as the request says.
    ///
    /// # Example
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use raft_core::host::{Handle, ProposeError, StateMachine, WaitError};
    /// async fn set<S: StateMachine>(node: &Handle<S>) -> Option<S::Reply> {
    ///     match node.propose("SET a 1").within(Duration::from_secs(1)).await { // or `.wait()`
    ///         Ok(reply) => Some(reply),
    ///         Err(WaitError::TimedOut) => None, // the command may yet be committed
    ///         Err(WaitError::Answered(error)) if error.may_commit() => None,
    ///         Err(_) => panic!("the command was not committed"),
    ///     }
    /// }
    /// ```
    pub fn within(self, timeout: Duration) -> Within<T, E> {
        Within { pending: self, deadline: Instant::now().checked_add(timeout), until: None }
    }

    /// Hands the answer to a function: one thread can have any number of requests under way. The
    /// function is called once, at once if the answer is there already, and otherwise by the thread
    /// of the node that answers. The node waits for the function, so it should do no more than pass
    /// the answer on. If it panics there, the node goes on and
    /// [counts](crate::host::NodeStatus::client_panics) that.
    ///
    /// # Panics
    ///
    /// If the answer was polled as a future before.
    ///
    /// # Example
    ///
    /// ```
    /// # use std::sync::mpsc::Sender;
    /// # use raft_core::host::{Handle, ProposeError, StateMachine};
    /// /// Proposes a command for this client. The thread that has the other end of the channel
    /// /// answers all clients.
    /// fn propose<S: StateMachine>(
    ///     node: &Handle<S>,
    ///     client: u64,
    ///     command: &'static str,
    ///     answers: Sender<(u64, Result<S::Reply, ProposeError>)>,
    /// ) {
    ///     node.propose(command).then(move |answer| drop(answers.send((client, answer))));
    /// }
    /// ```
    pub fn then(self, call: impl FnOnce(Result<T, E>) + Send + 'static)
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        Arc::new(Then(Mutex::new(Some((self, call))))).poll();
    }

    fn into_receiver(self) -> Result<oneshot::Receiver<Result<T, E>>, E> {
        match self.receiver {
            Receiver::Refused(error) => Err(error),
            Receiver::Untouched(receiver) => Ok(receiver),
            Receiver::Awaited(_) | Receiver::Done => {
                panic!("an answer is either awaited or blocked for, not both")
            }
        }
    }
}

/// An answer may move in memory, because nothing in it refers to its own place.
impl<T, E> Unpin for Pending<T, E> {}

impl<T, E: Unanswered> Future for Pending<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.get_mut();
        let mut receiver = match std::mem::replace(&mut this.receiver, Receiver::Done) {
            Receiver::Refused(error) => return Poll::Ready(Err(error)),
            Receiver::Untouched(receiver) => receiver.into_future(),
            Receiver::Awaited(receiver) => receiver,
            Receiver::Done => panic!("polled after it was ready"),
        };
        match Pin::new(&mut receiver).poll(cx) {
            Poll::Ready(Ok(answer)) => Poll::Ready(answer),
            Poll::Ready(Err(_)) => Poll::Ready(Err(this.lifecycle.stopped().into())),
            Poll::Pending if here::is_inside(this.lifecycle.threads_node()) => {
                Poll::Ready(Err(E::waits_for_itself()))
            }
            Poll::Pending => {
                this.receiver = Receiver::Awaited(receiver);
                Poll::Pending
            }
        }
    }
}

/// A function that waits for an answer, and is woken in place of a task.
struct Then<T, E, F>(Mutex<Option<(Pending<T, E>, F)>>);

impl<T, E, F> Then<T, E, F>
where
    T: Send + 'static,
    E: Unanswered + Send + 'static,
    F: FnOnce(Result<T, E>) + Send + 'static,
{
    fn poll(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((mut pending, call)) = waiting.take() else { return };
        let mut polled = Poll::Pending;
        // A state machine may ask its own node, because nothing here waits.
        here::outside(|| polled = Pin::new(&mut pending).poll(&mut Context::from_waker(&waker)));
        match polled {
            Poll::Ready(answer) => {
                drop(waiting);
                call(answer);
            }
            Poll::Pending => *waiting = Some((pending, call)),
        }
    }
}

impl<T, E, F> Wake for Then<T, E, F>
where
    T: Send + 'static,
    E: Unanswered + Send + 'static,
    F: FnOnce(Result<T, E>) + Send + 'static,
{
    fn wake(self: Arc<Self>) {
        self.poll();
    }
}

impl<T, E: Unanswered> Within<T, E> {
    /// Blocks this thread until the answer is there, or the time is over.
    ///
    /// # Errors
    ///
    /// [`WaitError::TimedOut`], or as the request says.
    ///
    /// # Panics
    ///
    /// If the answer was polled as a future before.
    pub fn wait(self) -> Result<T, WaitError<E>> {
        match self.deadline {
            Some(deadline) => {
                self.pending.wait_timeout(deadline.saturating_duration_since(Instant::now()))
            }
            None => self.pending.wait().map_err(WaitError::Answered),
        }
    }
}

impl<T, E: Unanswered> Future for Within<T, E> {
    type Output = Result<T, WaitError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(answer) = Pin::new(&mut this.pending).poll(cx) {
            return Poll::Ready(answer.map_err(WaitError::Answered));
        }
        let Some(deadline) = this.deadline else { return Poll::Pending };
        if this.until.is_none() {
            this.until = this.pending.lifecycle.until(deadline);
        }
        match &mut this.until {
            Some(until) => Pin::new(until).poll(cx).map(|()| Err(WaitError::TimedOut)),
            // Nobody would wake the caller in time.
            None => Poll::Ready(Err(WaitError::TimedOut)),
        }
    }
}

impl Stopping {
    pub(super) fn new(end: Pending<StopReason, Stopped>) -> Self {
        Self(end)
    }

    /// Blocks this thread until nothing of the node is left, and returns why the node stopped.
    ///
    /// # Panics
    ///
    /// If it was polled as a future before, or if a state machine waits for its own node to end.
    pub fn wait(self) -> StopReason {
        reason(self.0.wait())
    }

    /// Blocks this thread until nothing of the node is left, or for `timeout` at most. Returns
    /// `None` if the node takes longer; the node goes on stopping.
    ///
    /// # Panics
    ///
    /// As [`Stopping::wait`].
    pub fn wait_timeout(self, timeout: Duration) -> Option<StopReason> {
        reason_in_time(self.0.wait_timeout(timeout))
    }

    /// The end of the node, for which its caller waits for `timeout` from now at most. It works on
    /// every runtime, as [`Pending::within`] does. `None` if the node takes longer; the node goes
    /// on stopping.
    pub fn within(self, timeout: Duration) -> impl Future<Output = Option<StopReason>> + Send {
        let end = self.0.within(timeout);
        async { reason_in_time(end.await) }
    }
}

impl Future for Stopping {
    type Output = StopReason;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StopReason> {
        Pin::new(&mut self.get_mut().0).poll(cx).map(reason)
    }
}

fn reason_in_time(end: Result<StopReason, WaitError<Stopped>>) -> Option<StopReason> {
    match end {
        Ok(reason) | Err(WaitError::Answered(Stopped { reason })) => Some(reason),
        Err(WaitError::TimedOut) => None,
    }
}

fn reason(end: Result<StopReason, Stopped>) -> StopReason {
    end.unwrap_or_else(|stopped| stopped.reason)
}

impl<E: fmt::Display> fmt::Display for WaitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer came in time"),
            Self::Answered(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for WaitError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TimedOut => None,
            Self::Answered(error) => error.source(),
        }
    }
}

impl<T, E> fmt::Debug for Pending<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

impl<T, E> fmt::Debug for Within<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn an_answer_comes_in_time_or_too_late() {
        let lifecycle = Arc::new(Lifecycle::default());
        let second = Duration::from_secs(1);
        let (sender, receiver) = oneshot::channel();
        sender.send(Ok::<u8, Stopped>(7)).unwrap();
        assert_eq!(Pending::new(receiver, Arc::clone(&lifecycle)).wait_timeout(second).unwrap(), 7);

        let (sender, receiver) = oneshot::channel::<Result<u8, Stopped>>();
        let late = Pending::new(receiver, Arc::clone(&lifecycle)).wait_timeout(Duration::ZERO);
        assert!(matches!(late, Err(WaitError::TimedOut)));
        drop(sender);

        lifecycle.end(StopReason::Shutdown);
        let (_, receiver) = oneshot::channel::<Result<u8, Stopped>>();
        let stopped = Pending::new(receiver, lifecycle).wait_timeout(second);
        let Err(WaitError::Answered(Stopped { reason: StopReason::Shutdown })) = stopped else {
            panic!("{stopped:?}")
        };
    }

    #[test]
    fn a_caller_that_waits_within_a_time_is_woken_at_its_end() {
        let lifecycle = Arc::new(Lifecycle::default());
        let pending = || {
            let (sender, receiver) = oneshot::channel::<Result<u8, Stopped>>();
            (sender, Pending::new(receiver, Arc::clone(&lifecycle)))
        };
        let begun = Instant::now();
        let (_sender, late) = pending();
        let timeout = Duration::from_millis(20);
        let late = futures::executor::block_on(late.within(timeout));
        assert!(matches!(late, Err(WaitError::TimedOut)) && begun.elapsed() >= timeout);
        let (sender, in_time) = pending();
        sender.send(Ok(7)).unwrap();
        assert_eq!(
            futures::executor::block_on(in_time.within(Duration::MAX)).unwrap(),
            7,
            "it never ends"
        );
        let (_sender, late) = pending();
        assert!(matches!(late.within(Duration::ZERO).wait(), Err(WaitError::TimedOut)));
    }

    #[test]
    fn an_answer_is_handed_to_a_function_once_now_or_later() {
        let lifecycle = Arc::new(Lifecycle::default());
        let (tell, told) = std::sync::mpsc::channel();
        let then = |pending: Pending<u8, Stopped>| {
            let tell = tell.clone();
            pending.then(move |answer| tell.send((answer, std::thread::current().id())).unwrap());
        };
        let me = std::thread::current().id();
        let (sender, receiver) = oneshot::channel();
        sender.send(Ok(7)).unwrap();
        then(Pending::new(receiver, Arc::clone(&lifecycle)));
        assert!(matches!(told.try_recv(), Ok((Ok(7), by)) if by == me));

        let (sender, receiver) = oneshot::channel();
        then(Pending::new(receiver, Arc::clone(&lifecycle)));
        assert!(told.try_recv().is_err());
        std::thread::spawn(move || sender.send(Ok(8)).unwrap()).join().unwrap();
        assert!(matches!(told.try_recv(), Ok((Ok(8), by)) if by != me));

        let stopped = Stopped { reason: StopReason::Shutdown };
        then(Pending::refused(stopped, Arc::clone(&lifecycle)));
        assert!(matches!(told.try_recv(), Ok((Err(Stopped { reason: StopReason::Shutdown }), _))));

        let (sender, receiver) = oneshot::channel();
        then(Pending::new(receiver, Arc::clone(&lifecycle)));
        lifecycle.end(StopReason::Abandoned);
        drop(sender);
        assert!(matches!(told.try_recv(), Ok((Err(Stopped { reason: StopReason::Abandoned }), _))));
        drop(tell);
        assert!(told.recv().is_err(), "each was called once, and is gone");
    }

    /// Answers come from other threads while functions begin to wait for them.
    #[test]
    fn no_function_misses_an_answer_that_comes_as_it_begins_to_wait() {
        let lifecycle = Arc::new(Lifecycle::default());
        let (tell, told) = std::sync::mpsc::channel();
        let (senders, answering) = std::sync::mpsc::channel::<oneshot::Sender<_>>();
        let answers = std::thread::spawn(move || {
            answering.iter().for_each(|sender| drop(sender.send(Ok::<_, Stopped>(1_u32))));
        });
        for _ in 0..10_000 {
            let (sender, receiver) = oneshot::channel();
            senders.send(sender).unwrap();
            let tell = tell.clone();
            Pending::new(receiver, Arc::clone(&lifecycle))
                .then(move |answer| tell.send(answer.unwrap()).unwrap());
        }
        drop((senders, tell));
        answers.join().unwrap();
        assert_eq!(told.iter().sum::<u32>(), 10_000);
    }

    #[test]
    fn the_end_of_a_node_is_waited_for_within_a_time() {
        let lifecycle = Arc::new(Lifecycle::default());
        let (sender, receiver) = oneshot::channel();
        let end = Stopping::new(Pending::new(receiver, Arc::clone(&lifecycle)));
        let late = futures::executor::block_on(end.within(Duration::from_millis(5)));
        assert!(late.is_none());
        drop(sender);
        let (sender, receiver) = oneshot::channel();
        let end = Stopping::new(Pending::new(receiver, lifecycle));
        sender.send(Ok(StopReason::Shutdown)).unwrap();
        let reason = futures::executor::block_on(end.within(Duration::MAX));
        assert!(matches!(reason, Some(StopReason::Shutdown)));
    }

    #[test]
    fn a_refusal_is_an_answer_that_is_there() {
        let refused = || Pending::<u8, _>::refused(ReadError::Busy, Arc::new(Lifecycle::default()));
        assert!(matches!(refused().wait(), Err(ReadError::Busy)));
        let waited = refused().wait_timeout(Duration::ZERO);
        assert!(matches!(waited, Err(WaitError::Answered(ReadError::Busy))));
        let polled = Pin::new(&mut refused()).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Err(ReadError::Busy))));
    }
}
