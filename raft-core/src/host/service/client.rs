//! A client of a service, on one of its nodes: finds the leader, tries again over failovers, and is
//! answered exactly once (§8; thesis 6.3).
//!
//! The client numbers its commands within a session. Whatever became of an attempt, the next one
//! carries the same number, so that the command takes effect once. Nothing here belongs to a
//! runtime: calls are futures, and [`Alarm`] has a thread that wakes them for another attempt.

use std::collections::BTreeSet;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;

use super::alarm::Alarm;
use super::call::Call;
use super::client_error::ClientError;
use super::envelope::{CommandNumber, SessionCommand, encode_apply};
use super::format::Format;
use super::sessions::{SessionReply, Sessions};
use super::table::{SessionId, SessionLimits, SessionRefused};
use super::typed::{self, Typed, TypedStateMachine};
use crate::host::error::ProposeError;
use crate::host::node::{Handle, Pending};
use crate::host::state_machine::StateMachine;

/// How long a client pauses before the second attempt. Each pause is twice as long as the one
/// before.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The longest pause: a fraction of an election.
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// What "for ever" is.
const TIMEOUT_MAX: Duration = Duration::from_secs(1 << 32);

/// A client of a node that runs [`Sessions`]: each command takes effect exactly once, whatever
/// fails meanwhile. Cheap to clone; clones share one session, and any number of commands up to
/// [`SessionLimits::unanswered_max`] may be on their way.
///
/// The client holds a [`Handle`], so the node runs for as long as the client does. The session
/// opens with the first command. When the last clone is dropped, it closes.
///
/// # Example
///
/// ```
/// # #[cfg(feature = "serde")] {
/// # use std::time::Duration;
/// # use raft_core::Index;
/// use raft_core::host::{Client, ClientError, Handle, Sessions, Typed, TypedStateMachine};
/// # struct Total(u64);
/// # impl TypedStateMachine for Total {
/// #     type Command = u64;
/// #     type Reply = u64;
/// #     type Snapshot = u64;
/// #     fn apply(&mut self, _: Index, by: u64) -> u64 { self.0 += by; self.0 }
/// #     fn snapshot(&self) -> Option<u64> { Some(self.0) }
/// #     fn restore(&mut self, total: u64) { self.0 = total; }
/// # }
///
/// // `Total` is a state machine that adds numbers.
/// type Service = Sessions<Typed<Total>>;
///
/// fn connect(node: &Handle<Service>) -> std::io::Result<Client<Service>> {
///     Client::new(node, Duration::from_secs(10))
/// }
///
/// async fn add(client: &Client<Service>) -> Result<u64, ClientError> {
///     client.propose(&7).await // or, on a thread: client.propose(&7).wait()
/// }
/// # }
/// ```
pub struct Client<S: StateMachine> {
    parts: Arc<ClientParts<S>>,
}

struct ClientParts<S: StateMachine> {
    node: Handle<S>,
    alarm: Alarm,
    timeout: Duration,
    limits: SessionLimits,
    numbering: Mutex<Numbering<S>>,
    /// The calls that wait for the session to open.
    waiting: Arc<Wakers>,
    /// Proposes that this session be closed.
    close: fn(&Handle<S>, SessionId),
}

/// The client's session. No call owns the attempt to open it, because a call that is not polled
/// must not hold up the others.
struct Numbering<S: StateMachine> {
    session: Option<SessionId>,
    opening: Option<Pending<S::Reply, ProposeError>>,
    /// The next attempt to open a session is not before.
    open_at: Instant,
    pause: Duration,
    next_serial: u64,
    /// The serial numbers of the commands that wait for their replies.
    unanswered: BTreeSet<u64>,
}

/// The number of one command, until its client has the reply or gives up.
struct Ticket<S: StateMachine> {
    session: SessionId,
    serial: u64,
    parts: Arc<ClientParts<S>>,
}

/// What became of one attempt.
enum Attempt<R> {
    Answered(SessionReply<R>),
    Failed(ProposeError),
    TimedOut,
}

impl<S, F> Client<Sessions<S, F>>
where
    S: StateMachine,
    S::Reply: Clone + Sync,
    F: Format<S::Reply>,
{
    /// A client of this node that gives up a command after `timeout`. A second or more sits out an
    /// election.
    ///
    /// # Errors
    ///
    /// The operating system gave no thread.
    pub fn new(node: &Handle<Sessions<S, F>>, timeout: Duration) -> io::Result<Self> {
        Self::with_limits(node, timeout, SessionLimits::default())
    }

    /// The same, with limits of its own.
    ///
    /// # Errors
    ///
    /// As [`Client::new`].
    pub fn with_limits(
        node: &Handle<Sessions<S, F>>,
        timeout: Duration,
        limits: SessionLimits,
    ) -> io::Result<Self> {
        let numbering = Numbering {
            session: None,
            opening: None,
            open_at: Instant::now(),
            pause: PAUSE_MIN,
            next_serial: 1,
            unanswered: BTreeSet::new(),
        };
        let parts = ClientParts {
            node: node.clone(),
            alarm: Alarm::start()?,
            timeout: timeout.min(TIMEOUT_MAX),
            limits,
            numbering: Mutex::new(numbering),
            waiting: Arc::default(),
            close: |node, session| drop(node.propose(SessionCommand::Close(session).encode())),
        };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// Replicates a command, given as the bytes that the state machine within the sessions takes.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn propose_bytes(&self, command: impl Into<Bytes>) -> Call<S::Reply> {
        Call::start(Arc::clone(&self.parts).call(command.into()))
    }
}

impl<S, G, F> Client<Sessions<Typed<S, G>, F>>
where
    S: TypedStateMachine,
    S::Reply: Clone + Sync,
    G: Format<S::Command> + Format<S::Snapshot>,
    F: Format<S::Reply>,
{
    /// Replicates a command. The answer is the state machine's reply.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn propose(&self, command: &S::Command) -> Call<S::Reply> {
        match typed::encode::<S, G>(command) {
            Ok(bytes) => self.propose_bytes(bytes),
            Err(error) => Call::answered(Err(ClientError::NotEncodable(error))),
        }
    }
}

impl<S, F> ClientParts<Sessions<S, F>>
where
    S: StateMachine,
    S::Reply: Clone + Sync,
    F: Format<S::Reply>,
{
    /// Proposes the command until it is answered.
    async fn call(self: Arc<Self>, command: Bytes) -> Result<S::Reply, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let mut ticket = self.ticket(deadline).await?;
        // Whether an earlier attempt may have been committed.
        let mut is_uncertain = false;
        let mut pause = PAUSE_MIN;
        loop {
            let bytes = encode_apply(self.number(&ticket), &command);
            let refused = match self.attempt(bytes, deadline).await {
                Attempt::Answered(SessionReply::Applied(reply)) => return Ok(reply),
                Attempt::Answered(SessionReply::Refused(refused)) => Some(refused),
                // Not what was asked for, so no answer.
                Attempt::Answered(SessionReply::Opened(_) | SessionReply::Closed) => None,
                Attempt::Failed(error) => {
                    is_uncertain |= error.may_commit();
                    if !is_worth_another(&error) {
                        return Err(ClientError::Node {
                            error,
                            may_have_been_applied: is_uncertain,
                        });
                    }
                    None
                }
                Attempt::TimedOut => {
                    return Err(ClientError::TimedOut { may_have_been_applied: true });
                }
            };
            match refused {
                None | Some(SessionRefused::TooManyUnanswered { .. }) => {
                    self.pause(&mut pause, deadline, is_uncertain).await?;
                }
                Some(SessionRefused::Expired { session }) if !is_uncertain => {
                    self.forget(session);
                    ticket = self.ticket(deadline).await?;
                }
                // The command was not applied under this number, and never will be.
                Some(SessionRefused::Overtaken { .. }) => {
                    is_uncertain = false;
                    ticket = self.ticket(deadline).await?;
                }
                Some(refused) => {
                    return Err(ClientError::Session {
                        refused,
                        may_have_been_applied: is_uncertain || refused.may_have_been_applied(),
                    });
                }
            }
        }
    }

    /// A number for a new command, once there is a session.
    async fn ticket(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Ticket<Sessions<S, F>>, ClientError> {
        let timed_out = ClientError::TimedOut { may_have_been_applied: false };
        loop {
            let mut until = self.alarm.until(deadline);
            let turn = poll_fn(|cx| match self.poll_session(cx) {
                Poll::Ready(turn) => Poll::Ready(Some(turn)),
                Poll::Pending => Pin::new(&mut until).poll(cx).map(|()| None),
            });
            match turn.await.ok_or_else(|| timed_out.clone())?? {
                Ok(ticket) => return Ok(ticket),
                Err(open_at) if open_at < deadline => self.alarm.until(open_at).await,
                Err(_) => return Err(timed_out),
            }
        }
    }

    /// A number, if there is a session. Otherwise goes on opening one; if that failed, returns when
    /// to try again.
    #[expect(clippy::type_complexity, reason = "three outcomes, each used once")]
    fn poll_session(
        self: &Arc<Self>,
        cx: &Context<'_>,
    ) -> Poll<Result<Result<Ticket<Sessions<S, F>>, Instant>, ClientError>> {
        let mut numbering = self.lock();
        if let Some(session) = numbering.session {
            let serial = numbering.next_serial;
            numbering.next_serial += 1;
            numbering.unanswered.insert(serial);
            return Poll::Ready(Ok(Ok(Ticket { session, serial, parts: Arc::clone(self) })));
        }
        let now = Instant::now();
        let mut opening = match numbering.opening.take() {
            Some(opening) => opening,
            None if now < numbering.open_at => return Poll::Ready(Ok(Err(numbering.open_at))),
            None => self.node.propose(SessionCommand::Open(self.limits).encode()),
        };
        self.waiting.add(cx.waker());
        let waker = Waker::from(Arc::clone(&self.waiting));
        let Poll::Ready(opened) = Pin::new(&mut opening).poll(&mut Context::from_waker(&waker))
        else {
            numbering.opening = Some(opening);
            return Poll::Pending;
        };
        let result = match opened {
            Ok(SessionReply::Opened(session)) => {
                numbering.session = Some(session);
                numbering.pause = PAUSE_MIN;
                Ok(Err(now))
            }
            Ok(SessionReply::Refused(refused)) => {
                Err(ClientError::Session { refused, may_have_been_applied: false })
            }
            Err(error) if !is_worth_another(&error) => {
                Err(ClientError::Node { error, may_have_been_applied: false })
            }
            Ok(SessionReply::Applied(_) | SessionReply::Closed) | Err(_) => {
                numbering.open_at = now + numbering.pause;
                numbering.pause = (numbering.pause * 2).min(PAUSE_MAX);
                Ok(Err(numbering.open_at))
            }
        };
        drop(numbering);
        self.waiting.wake_all();
        Poll::Ready(result)
    }

    async fn attempt(&self, command: Bytes, deadline: Instant) -> Attempt<S::Reply> {
        let mut pending = self.node.propose(command);
        let mut until = self.alarm.until(deadline);
        poll_fn(|cx| match Pin::new(&mut pending).poll(cx) {
            Poll::Ready(Ok(reply)) => Poll::Ready(Attempt::Answered(reply)),
            Poll::Ready(Err(error)) => Poll::Ready(Attempt::Failed(error)),
            Poll::Pending => Pin::new(&mut until).poll(cx).map(|()| Attempt::TimedOut),
        })
        .await
    }

    async fn pause(
        &self,
        pause: &mut Duration,
        deadline: Instant,
        may_have_been_applied: bool,
    ) -> Result<(), ClientError> {
        let until = Instant::now() + *pause;
        if until >= deadline {
            return Err(ClientError::TimedOut { may_have_been_applied });
        }
        self.alarm.until(until).await;
        *pause = (*pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

impl<S: StateMachine> ClientParts<S> {
    /// The number of the command as it is now: the client may have more replies by then.
    fn number(&self, ticket: &Ticket<S>) -> CommandNumber {
        let numbering = self.lock();
        let lowest = numbering.unanswered.first().copied();
        let answered_below = lowest.map_or(ticket.serial, |lowest| lowest.min(ticket.serial));
        CommandNumber { session: ticket.session, serial: ticket.serial, answered_below }
    }

    /// Forgets a session that has expired.
    fn forget(&self, session: SessionId) {
        let mut numbering = self.lock();
        if numbering.session == Some(session) {
            numbering.session = None;
            numbering.unanswered.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Numbering<S>> {
        self.numbering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the same command may be admitted if it is proposed again a little later.
fn is_worth_another(error: &ProposeError) -> bool {
    match error {
        ProposeError::NotLeader { .. }
        | ProposeError::LogFull { .. }
        | ProposeError::TooManyUncommitted { .. }
        | ProposeError::Busy { .. }
        | ProposeError::LeadershipLost { .. }
        | ProposeError::ForwardLost { .. } => true,
        ProposeError::TooLarge { .. }
        | ProposeError::NotEncodable { .. }
        | ProposeError::WaitsForItself
        | ProposeError::Stopped { .. } => false,
    }
}

impl<S: StateMachine> Drop for Ticket<S> {
    fn drop(&mut self) {
        let mut numbering = self.parts.lock();
        if numbering.session == Some(self.session) {
            numbering.unanswered.remove(&self.serial);
        }
    }
}

impl<S: StateMachine> Drop for ClientParts<S> {
    fn drop(&mut self) {
        let numbering = self.numbering.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = numbering.session {
            (self.close)(&self.node, session);
        }
    }
}

impl<S: StateMachine> Clone for Client<S> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<S: StateMachine> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("node", &self.parts.node)
            .field("session", &self.parts.lock().session)
            .finish_non_exhaustive()
    }
}

/// Wakes all that wait for the same.
#[derive(Default)]
struct Wakers(Mutex<Vec<Waker>>);

impl Wakers {
    fn add(&self, waker: &Waker) {
        let mut wakers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}
