//! How a client numbers its commands: its session, and how that opens.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::client::{ClientParts, PAUSE_MAX, PAUSE_MIN, is_worth_another};
use super::client_error::ClientError;
use super::envelope::{CommandNumber, SessionCommand};
use super::format::Format;
use super::sessions::{SessionReply, Sessions};
use super::table::SessionId;
use crate::host::error::ProposeError;
use crate::host::node::Pending;
use crate::host::state_machine::StateMachine;

/// The client's session. No call owns the attempt to open it, because a call that is not polled
/// must not hold up the others.
pub(super) struct Numbering<S: StateMachine> {
    pub(super) session: Option<SessionId>,
    opening: Option<Pending<S::Reply, ProposeError>>,
    /// The next attempt to open a session is not before.
    open_at: Instant,
    pause: Duration,
    serials: Serials,
}

/// The serial numbers of a session: which commands wait for their replies.
struct Serials {
    /// The lowest serial number whose command waits, or else the next one.
    lowest: u64,
    /// Whether each command from the lowest on waits.
    waits: VecDeque<bool>,
}

/// The number of one command, until its client has the reply or gives up.
pub(super) struct Ticket<S: StateMachine> {
    session: SessionId,
    serial: u64,
    answered_below: u64,
    parts: Arc<ClientParts<S>>,
}

impl<S: StateMachine> Numbering<S> {
    /// Before the first command.
    pub(super) fn new() -> Self {
        Self {
            session: None,
            opening: None,
            open_at: Instant::now(),
            pause: PAUSE_MIN,
            serials: Serials::new(),
        }
    }
}

impl Serials {
    fn new() -> Self {
        Self { lowest: 1, waits: VecDeque::new() }
    }

    /// A number for a new command.
    fn draw(&mut self) -> u64 {
        self.waits.push_back(true);
        self.lowest + self.waits.len() as u64 - 1
    }

    /// No command waits any more.
    fn none_waits(&mut self) {
        self.lowest += self.waits.len() as u64;
        self.waits.clear();
    }

    /// The command with this number waits no more.
    fn answered(&mut self, serial: u64) {
        let place = serial.checked_sub(self.lowest).and_then(|place| usize::try_from(place).ok());
        if let Some(waits) = place.and_then(|place| self.waits.get_mut(place)) {
            *waits = false;
        }
        while self.waits.front() == Some(&false) {
            self.waits.pop_front();
            self.lowest += 1;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_number_rises_when_it_and_all_before_it_are_answered() {
        let mut serials = Serials::new();
        assert_eq!([serials.draw(), serials.draw(), serials.draw()], [1, 2, 3]);
        serials.answered(2);
        assert_eq!(serials.lowest, 1);
        serials.answered(1);
        assert_eq!(serials.lowest, 3, "2 was answered before");
        serials.answered(1);
        serials.answered(9);
        assert_eq!((serials.lowest, serials.draw()), (3, 4));
        serials.none_waits();
        assert_eq!((serials.lowest, serials.draw()), (5, 5), "no number is given twice");
    }
}
