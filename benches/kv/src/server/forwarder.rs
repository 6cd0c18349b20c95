//! The forwarder of one client: it brings the client's batches to the leader, one after another.
//! The socket to the leader is elsewhere.
//!
//! ```text
//! Dial ──► Greet ──► Welcome ──┐
//!                              ├──► Send ──► Answers ──► (kept for the next batch)
//!                    Probe ────┘                              │
//!                      ▲──────────────────────────────────────┘
//! ```
//!
//! If a stage before `Send` fails, nothing was changed and the batch may go to another server. If a
//! later stage fails, the outcome of every request without an answer is unknown.

use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use raft_core::{NodeId, Term};

use super::batch::{Batch, FORWARD_WAIT_MAX, Link, Outcome};

/// How often the forwarder, while it waits for an answer, checks whether another server leads. A
/// leader that is paused does not answer.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A connection to the leader, which lasts as long as that server leads.
#[derive(Debug)]
pub(super) struct Forwarder {
    /// With its term: if the same server leads again in a later term, it needs a new connection.
    leader: (NodeId, Term),
    address: String,
    link: Link,
    output: BytesMut,
    stage: Stage,
    /// When this stage and those that follow it must be over.
    deadline: Instant,
}

/// What to do with the socket to the leader.
#[derive(Debug)]
pub enum LinkStep {
    /// Open it, to this address, in the place of an older one.
    Dial(String),
    /// See, without waiting, whether it is open and nothing is there to be read. An error if not.
    Probe,
    /// Write all of [`link_output`](super::connection::Connection::link_output), and empty it.
    Send,
    /// Read, and append it to [`link_input`](super::connection::Connection::link_input). Its end is
    /// an error.
    Receive,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Dial,
    Greet,
    Welcome,
    Probe,
    Send,
    Answers,
}

impl Forwarder {
    /// A new connection from the server `from`.
    pub(super) fn dial(from: NodeId, leader: (NodeId, Term), address: &str) -> Self {
        let mut output = BytesMut::new();
        let link = Link::new(from.get(), &mut output);
        let deadline = Instant::now() + FORWARD_WAIT_MAX;
        Self { leader, address: address.to_owned(), link, output, stage: Stage::Dial, deadline }
    }

    /// Whether this leads to that leader.
    pub(super) fn leads_to(&self, leader: (NodeId, Term)) -> bool {
        self.leader == leader
    }

    /// For another batch, if the connection is not known to be gone: what was never sent can be
    /// tried elsewhere.
    pub(super) fn probe(mut self) -> Self {
        self.stage = Stage::Probe;
        self.deadline = Instant::now() + FORWARD_WAIT_MAX;
        self
    }

    /// When the next step must be over, or is to be [taken again](Forwarder::may_go_on).
    pub(super) fn deadline(&self) -> Instant {
        if self.receives() {
            self.deadline.min(Instant::now() + LOOK_INTERVAL)
        } else {
            self.deadline
        }
    }

    /// Whether the last step only brought nothing so far. Only what is read can be taken up again;
    /// of what was being written, nobody knows how much has left.
    pub(super) fn may_go_on(&self, done: &io::Result<()>) -> bool {
        let kind = done.as_ref().err().map(io::Error::kind);
        let silence = matches!(kind, Some(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock));
        silence && self.receives() && Instant::now() < self.deadline
    }

    pub(super) fn input(&mut self) -> &mut BytesMut {
        self.link.input()
    }

    pub(super) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    pub(super) fn step(&self) -> LinkStep {
        match self.stage {
            Stage::Dial => LinkStep::Dial(self.address.clone()),
            Stage::Probe => LinkStep::Probe,
            Stage::Greet | Stage::Send => LinkStep::Send,
            Stage::Welcome | Stage::Answers => LinkStep::Receive,
        }
    }

    /// The last step is done. Gives back the connection if it is of use still, and what became of
    /// the batch if it is known; if neither, a new connection should be tried.
    pub(super) fn on_done(
        mut self,
        done: io::Result<()>,
        batch: &Batch,
    ) -> (Option<Self>, Option<Vec<Outcome>>) {
        match (self.stage, done) {
            (Stage::Probe, Err(_)) => return (None, None),
            (Stage::Dial | Stage::Greet | Stage::Welcome, Err(_)) => {
                return (None, Some(batch.untouched()));
            }
            (Stage::Send | Stage::Answers, Err(_)) => return self.finish(),
            (Stage::Dial, Ok(())) => self.stage = Stage::Greet,
            (Stage::Greet, Ok(())) => self.stage = Stage::Welcome,
            (Stage::Welcome, Ok(())) => match self.link.poll_welcome() {
                Ok(true) => self.send(batch),
                Ok(false) => {}
                Err(_) => return (None, Some(batch.untouched())),
            },
            (Stage::Probe, Ok(())) => self.send(batch),
            (Stage::Send, Ok(())) => self.stage = Stage::Answers,
            (Stage::Answers, Ok(())) => match self.link.poll() {
                Ok(false) => {}
                // Whether all is well shows in what was answered.
                Ok(true) | Err(_) => return self.finish(),
            },
        }
        (Some(self), None)
    }

    fn receives(&self) -> bool {
        matches!(self.stage, Stage::Welcome | Stage::Answers)
    }

    fn send(&mut self, batch: &Batch) {
        self.link.forward(batch, &mut self.output);
        self.stage = Stage::Send;
        self.deadline = Instant::now() + FORWARD_WAIT_MAX;
    }

    fn finish(mut self) -> (Option<Self>, Option<Vec<Outcome>>) {
        let outcomes = self.link.finish();
        let usable = !self.link.is_spent();
        (usable.then_some(self), Some(outcomes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::command::Read;
    use crate::server::resp::{encode, ok};

    fn batch() -> Batch {
        Batch::Reads(vec![Read::Size])
    }

    fn failed() -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    /// A connection at this stage, from the first.
    fn at(stage: Stage) -> Forwarder {
        let leader = (NodeId::new(1), Term::new(1));
        let mut forwarder = Forwarder::dial(NodeId::new(2), leader, "host:1");
        for _ in 0..8 {
            if forwarder.stage == stage {
                return forwarder;
            }
            if let LinkStep::Receive = forwarder.step() {
                encode(forwarder.input(), &ok());
            }
            let (next, outcomes) = forwarder.on_done(Ok(()), &batch());
            forwarder = next.unwrap();
            if outcomes.is_some() {
                forwarder = forwarder.probe();
            }
        }
        panic!("{stage:?} never came")
    }

    #[test]
    fn what_was_not_sent_is_untouched_and_what_was_is_unknown() {
        for (stage, expected) in [
            (Stage::Dial, Some(vec![Outcome::NotApplied])),
            (Stage::Greet, Some(vec![Outcome::NotApplied])),
            (Stage::Welcome, Some(vec![Outcome::NotApplied])),
            (Stage::Probe, None),
            (Stage::Send, Some(vec![Outcome::Unknown])),
            (Stage::Answers, Some(vec![Outcome::Unknown])),
        ] {
            let (forwarder, outcomes) = at(stage).on_done(failed(), &batch());
            assert!(forwarder.is_none(), "{stage:?}");
            assert_eq!(outcomes, expected, "{stage:?}");
        }
    }

    #[test]
    fn only_silence_is_waited_out_and_only_where_an_answer_is_due() {
        let silent = || Err(io::ErrorKind::TimedOut.into());
        for stage in [Stage::Dial, Stage::Greet, Stage::Probe, Stage::Send] {
            assert!(!at(stage).may_go_on(&silent()), "{stage:?}");
        }
        for stage in [Stage::Welcome, Stage::Answers] {
            let mut forwarder = at(stage);
            assert!(forwarder.deadline() < forwarder.deadline, "{stage:?} is looked at in between");
            assert!(forwarder.may_go_on(&silent()));
            assert!(!forwarder.may_go_on(&failed()) && !forwarder.may_go_on(&Ok(())));
            forwarder.deadline = Instant::now();
            assert!(!forwarder.may_go_on(&silent()), "{stage:?} is over");
        }
    }

    #[test]
    fn a_run_that_was_answered_leaves_the_connection_for_the_next() {
        let mut forwarder = at(Stage::Answers);
        encode(forwarder.input(), &ok());
        let (forwarder, outcomes) = forwarder.on_done(Ok(()), &batch());
        assert_eq!(outcomes, Some(vec![Outcome::Replied(ok())]));
        let mut forwarder = forwarder.unwrap().probe();
        forwarder.output().clear();
        let (forwarder, outcomes) = forwarder.on_done(Ok(()), &batch());
        assert!(outcomes.is_none());
        assert!(!forwarder.unwrap().output().is_empty());
    }
}
