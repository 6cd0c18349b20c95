//! A client of a service, on one of its nodes: finds the leader, tries again over failovers, and is
//! answered exactly once (§8; thesis 6.3).
//!
//! The client numbers its commands within a session. Whatever became of an attempt, the next one
//! carries the same number, so that the command takes effect once. Nothing here belongs to a
//! runtime: calls are futures, and [`Alarm`] has a thread that wakes them for another attempt.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::another_attempt::{PAUSE_MAX, PAUSE_MIN, is_worth_another};
use super::call::Call;
use super::client_error::ClientError;
use super::envelope::{CommandNumber, SessionCommand, encode_apply};
use super::format::Format;
use super::numbering::Numbering;
use super::sessions::{SessionReply, Sessions};
use super::table::{SessionId, SessionLimits, SessionRefused};
use super::typed::{self, Typed, TypedStateMachine};
use super::wakers::Wakers;
use crate::host::error::ProposeError;
use crate::host::node::Handle;
use crate::host::state_machine::StateMachine;
use crate::host::threads::alarm::Alarm;

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

pub(super) struct ClientParts<S: StateMachine> {
    pub(super) node: Handle<S>,
    pub(super) alarm: Alarm,
    pub(super) timeout: Duration,
    pub(super) limits: SessionLimits,
    pub(super) numbering: Mutex<Numbering<S>>,
    /// The calls that wait for the session to open.
    pub(super) waiting: Arc<Wakers>,
    /// Proposes that this session be closed.
    pub(super) close: fn(&Handle<S>, SessionId),
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
        let parts = ClientParts {
            node: node.clone(),
            alarm: Alarm::start()?,
            timeout: timeout.min(TIMEOUT_MAX),
            limits,
            numbering: Mutex::new(Numbering::new()),
            waiting: Arc::default(),
            close: |node, session| {
                drop(node.propose_anywhere(SessionCommand::Close(session).encode()));
            },
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

    /// Opens a session for a client elsewhere, which numbers its commands itself: see
    /// [`Client::propose_as`].
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub fn open_session(&self) -> Call<SessionId> {
        Call::start(Arc::clone(&self.parts).open())
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

    /// Replicates a command of a client elsewhere, such as a browser, under the number that this
    /// client gave it. So the client may ask again with the same number, through any node, also if
    /// the node dies that it asked first.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. An [expired](SessionRefused::Expired) session is one: its client decides
    /// what to do.
    ///
    /// # Example
    ///
    /// ```
    /// # #[cfg(feature = "serde")] {
    /// # use raft_core::Index;
    /// # use raft_core::host::*;
    /// # struct Total(u64);
    /// # impl TypedStateMachine for Total {
    /// #     type Command = u64;
    /// #     type Reply = u64;
    /// #     type Snapshot = u64;
    /// #     fn apply(&mut self, _: Index, by: u64) -> u64 { self.0 += by; self.0 }
    /// #     fn snapshot(&self) -> Option<u64> { Some(self.0) }
    /// #     fn restore(&mut self, total: u64) { self.0 = total; }
    /// # }
    /// # type Service = Sessions<Typed<Total>>;
    /// async fn serve(client: &Client<Service>) -> Result<(), ClientError> {
    ///     let session = client.open_session().await?; // for `POST /sessions`, say
    ///     let number = CommandNumber { session, serial: 1, answered_below: 1 };
    ///     let first = client.propose_as(number, &7).await?;
    ///     assert_eq!(client.propose_as(number, &7).await?, first, "it took effect once");
    ///     Ok(())
    /// }
    /// # }
    /// ```
    pub fn propose_as(&self, number: CommandNumber, command: &S::Command) -> Call<S::Reply> {
        match typed::encode::<S, G>(command) {
            Ok(bytes) => Call::start(Arc::clone(&self.parts).call_as(number, bytes)),
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
    /// Proposes the command under a number of this client's session until it is answered.
    async fn call(self: Arc<Self>, command: Bytes) -> Result<S::Reply, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let mut ticket = self.ticket(deadline).await?;
        let (mut is_uncertain, mut pause) = (false, PAUSE_MIN);
        loop {
            let bytes = encode_apply(ticket.number(), &command);
            match self.attempts(bytes, &mut is_uncertain, deadline).await? {
                Ok(reply) => return Ok(reply),
                Err(SessionRefused::TooManyUnanswered { .. }) => {
                    self.pause(&mut pause, deadline, is_uncertain).await?;
                    self.renew(&mut ticket);
                }
                Err(SessionRefused::Expired { session }) if !is_uncertain => {
                    self.forget(session);
                    ticket = self.ticket(deadline).await?;
                }
                // The command was not applied under this number, and never will be.
                Err(SessionRefused::Overtaken { .. }) => {
                    is_uncertain = false;
                    ticket = self.ticket(deadline).await?;
                }
                Err(refused) => return Err(session_error(refused, is_uncertain)),
            }
        }
    }

    /// Proposes a command under a number that somebody else chose until it is answered.
    async fn call_as(
        self: Arc<Self>,
        number: CommandNumber,
        command: Bytes,
    ) -> Result<S::Reply, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let bytes = encode_apply(number, &command);
        let mut is_uncertain = false;
        let answer = self.attempts(bytes, &mut is_uncertain, deadline).await?;
        answer.map_err(|refused| session_error(refused, is_uncertain))
    }

    async fn open(self: Arc<Self>) -> Result<SessionId, ClientError> {
        let deadline = Instant::now() + self.timeout;
        let open = SessionCommand::Open(self.limits).encode();
        let mut pause = PAUSE_MIN;
        loop {
            match self.attempt(open.clone(), deadline).await {
                Attempt::Answered(SessionReply::Opened(session)) => return Ok(session),
                Attempt::Answered(SessionReply::Refused(refused)) => {
                    return Err(session_error(refused, false));
                }
                Attempt::Failed(error) if !is_worth_another(&error) => {
                    return Err(ClientError::Node { error, may_have_been_applied: false });
                }
                Attempt::Answered(SessionReply::Applied(_) | SessionReply::Closed)
                | Attempt::Failed(_) => self.pause(&mut pause, deadline, false).await?,
                Attempt::TimedOut => {
                    return Err(ClientError::TimedOut { may_have_been_applied: false });
                }
            }
        }
    }

    /// Proposes these bytes until the state machine answers. Sets `is_uncertain` if an attempt
    /// failed that may have been committed.
    async fn attempts(
        &self,
        bytes: Bytes,
        is_uncertain: &mut bool,
        deadline: Instant,
    ) -> Result<Result<S::Reply, SessionRefused>, ClientError> {
        let mut pause = PAUSE_MIN;
        loop {
            match self.attempt(bytes.clone(), deadline).await {
                Attempt::Answered(SessionReply::Applied(reply)) => return Ok(Ok(reply)),
                Attempt::Answered(SessionReply::Refused(refused)) => return Ok(Err(refused)),
                // Not what was asked for, so no answer.
                Attempt::Answered(SessionReply::Opened(_) | SessionReply::Closed) => {}
                Attempt::Failed(error) => {
                    *is_uncertain |= error.may_commit();
                    if !is_worth_another(&error) {
                        let may_have_been_applied = *is_uncertain;
                        return Err(ClientError::Node { error, may_have_been_applied });
                    }
                }
                Attempt::TimedOut => {
                    return Err(ClientError::TimedOut { may_have_been_applied: true });
                }
            }
            self.pause(&mut pause, deadline, *is_uncertain).await?;
        }
    }

    async fn attempt(&self, command: Bytes, deadline: Instant) -> Attempt<S::Reply> {
        let mut pending = self.node.propose_anywhere(command);
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

fn session_error(refused: SessionRefused, is_uncertain: bool) -> ClientError {
    let may_have_been_applied = is_uncertain || refused.may_have_been_applied();
    ClientError::Session { refused, may_have_been_applied }
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
