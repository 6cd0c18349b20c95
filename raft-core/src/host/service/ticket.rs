//! The number of a command: drawn from the session of the client, which opens with the first
//! command, and given back with the reply.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::another_attempt::{PAUSE_MAX, PAUSE_MIN, is_worth_another};
use super::client::ClientParts;
use super::client_error::ClientError;
use super::envelope::{CommandNumber, SessionCommand};
use super::format::Format;
use super::numbering::Numbering;
use super::sessions::{SessionReply, Sessions};
use super::table::SessionId;
use crate::host::state_machine::StateMachine;

/// The number of one command, until its client has the reply or gives up.
pub(super) struct Ticket<S: StateMachine> {
    session: SessionId,
    serial: u64,
    answered_below: u64,
    parts: Arc<ClientParts<S>>,
}

impl<S, F> ClientParts<Sessions<S, F>>
where
    S: StateMachine,
    S::Reply: Clone + Sync,
    F: Format<S::Reply>,
{
    /// A number for a new command, once there is a session.
    pub(super) async fn ticket(
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
            let serial = numbering.serials.draw();
            let parts = Arc::clone(self);
            let answered_below = numbering.serials.lowest;
            return Poll::Ready(Ok(Ok(Ticket { session, serial, answered_below, parts })));
        }
        let now = Instant::now();
        let mut opening = match numbering.opening.take() {
            Some(opening) => opening,
            None if now < numbering.open_at => return Poll::Ready(Ok(Err(numbering.open_at))),
            None => self.node.propose_anywhere(SessionCommand::Open(self.limits).encode()),
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
}

impl<S: StateMachine> ClientParts<S> {
    /// Brings the ticket up to date: the client may have more replies by now.
    pub(super) fn renew(&self, ticket: &mut Ticket<S>) {
        ticket.answered_below = self.lock().serials.lowest.min(ticket.serial);
    }

    /// Forgets a session that has expired.
    pub(super) fn forget(&self, session: SessionId) {
        let mut numbering = self.lock();
        if numbering.session == Some(session) {
            numbering.session = None;
            numbering.serials.none_waits();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Numbering<S>> {
        self.numbering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: StateMachine> Ticket<S> {
    pub(super) fn number(&self) -> CommandNumber {
        let Self { session, serial, answered_below, .. } = *self;
        CommandNumber { session, serial, answered_below }
    }
}

impl<S: StateMachine> Drop for Ticket<S> {
    fn drop(&mut self) {
        let mut numbering = self.parts.lock();
        if numbering.session == Some(self.session) {
            numbering.serials.answered(self.serial);
        }
    }
}
