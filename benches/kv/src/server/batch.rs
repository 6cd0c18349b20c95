//! A batch of requests on its way to the leader, and when a server may send it again.
//!
//! An attempt can end in three ways for each request:
//!
//! | [`Outcome`] | what is known | then |
//! |---|---|---|
//! | `Replied` | done, or refused for good | tell the client |
//! | `NotApplied` | never entered a log | try again |
//! | `Unknown` | sent, but the leader was lost | try again: [sessions](super::sessions) |
//!
//! If no leader is found in time, the server answers `CLUSTERDOWN` to a request that changed
//! nothing, and `UNKNOWN` to a write that may have been applied or may still be. A server that
//! confused the two would make its clients lose data or write it twice.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::local_command::PEER;
use super::read::Read;
use super::resp::{Decoder, Frame, ProtocolError, REPLY_BYTES_MAX, encode_request, error};

/// How long a request waits for a leader that takes it, before its client is told that there is
/// none.
pub const LEADER_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a server waits for the leader to answer what it forwarded, before the fate of a write
/// is called unknown.
pub const FORWARD_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long until a request that nobody took is tried again, if nothing is heard of a new leader
/// meanwhile.
pub const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How the reply begins with which a server that does not lead gives a forwarded request back.
const NOT_LEADER: &str = "NOTLEADER";
/// How the reply begins to a write of unknown fate.
const UNKNOWN: &str = "UNKNOWN";

/// Adjacent requests of one kind on one connection. Replies go out in the same order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Batch {
    /// Changes.
    Writes(Writes),
    /// Looks at the store.
    Reads(Vec<Read>),
}

/// The writes of a batch.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Writes {
    commands: Vec<Bytes>,
    /// How many of the first may have been applied.
    uncertain: usize,
}

/// What became of one request in one attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// This is the answer.
    Replied(Frame),
    /// Nothing was done, and nothing will be.
    NotApplied,
    /// It may have been done, or may still be.
    Unknown,
}

impl Batch {
    /// How many requests have no answer yet.
    pub fn len(&self) -> usize {
        match self {
            Self::Writes(writes) => writes.commands.len(),
            Self::Reads(reads) => reads.len(),
        }
    }

    /// Whether every request has its answer.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The outcomes of an attempt that reached no server.
    pub fn untouched(&self) -> Vec<Outcome> {
        vec![Outcome::NotApplied; self.len()]
    }

    /// Takes in what an attempt brought, for the first requests or all of them, and gives the
    /// answers that are final, in order. What is left in the batch may be tried again; write to the
    /// client before, so that answers do not pile up.
    pub fn settle(&mut self, outcomes: Vec<Outcome>) -> Vec<Frame> {
        let uncertain = outcomes.iter().rposition(|outcome| *outcome != Outcome::NotApplied);
        let replies: Vec<_> = outcomes.into_iter().map_while(Outcome::into_reply).collect();
        let settled = replies.len().min(self.len());
        match self {
            Self::Writes(writes) => {
                let uncertain = uncertain.map_or(0, |last| last + 1);
                writes.uncertain = writes.uncertain.max(uncertain) - settled;
                writes.commands.drain(..settled);
            }
            Self::Reads(reads) => drop(reads.drain(..settled)),
        }
        replies
    }

    /// The answers if no leader took the batch within [`LEADER_WAIT_MAX`]. Nothing is left.
    pub fn give_up(&mut self) -> Vec<Frame> {
        let seconds = LEADER_WAIT_MAX.as_secs();
        self.refuse(&format!(
            "CLUSTERDOWN no leader took this within {seconds} s; nothing was changed, try again"
        ))
    }

    /// The answers with which a server that does not lead gives back what another forwarded to it.
    /// Nothing is left.
    pub fn hand_back(&mut self) -> Vec<Frame> {
        self.refuse(&format!("{NOT_LEADER} nothing was changed, ask the server that leads"))
    }

    /// Answers everything: with this, or that its fate is unknown.
    fn refuse(&mut self, certain: &str) -> Vec<Frame> {
        let (count, uncertain) = match self {
            Self::Writes(writes) => (writes.commands.len(), writes.uncertain),
            Self::Reads(reads) => (reads.len(), 0),
        };
        *self = Self::Reads(Vec::new());
        let unknown =
            format!("{UNKNOWN} the leader was lost: this may have been applied, or may yet be");
        (0..count).map(|n| error(if n < uncertain { &unknown } else { certain })).collect()
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Writes(writes) => {
                writes.commands.iter().for_each(|write| out.extend_from_slice(write));
            }
            Self::Reads(reads) => reads.iter().for_each(|read| read.encode(out)),
        }
    }
}

impl Writes {
    /// The writes as they go into the log.
    pub fn commands(&self) -> &[Bytes] {
        &self.commands
    }

    /// Adds a write behind all others.
    pub(super) fn push(&mut self, command: Bytes) {
        self.commands.push(command);
    }
}

impl From<Vec<Bytes>> for Writes {
    fn from(commands: Vec<Bytes>) -> Self {
        Self { commands, uncertain: 0 }
    }
}

impl Outcome {
    fn into_reply(self) -> Option<Frame> {
        match self {
            Self::Replied(reply) => Some(reply),
            Self::NotApplied | Self::Unknown => None,
        }
    }
}

/// A connection to the leader on which batches are forwarded one after another, without its socket.
///
/// It belongs to one client's connection, so no client waits behind another's requests.
#[derive(Debug)]
pub struct Link {
    decoder: Decoder,
    outcomes: Vec<Outcome>,
    expected: usize,
    bytes: usize,
    spent: bool,
}

impl Link {
    /// For a new connection from the server `from`. Send what is appended to `out`, then fill
    /// [`Link::input`] until [`Link::poll_welcome`] says that it is enough.
    pub fn new(from: u64, out: &mut BytesMut) -> Self {
        encode_request(out, [PEER.into(), from.to_string().into()]);
        let decoder = Decoder::of_replies();
        Self { decoder, outcomes: Vec::new(), expected: 0, bytes: 0, spent: false }
    }

    /// Whether the other side has let us in. An error means that it has not: close the connection.
    pub fn poll_welcome(&mut self) -> Result<bool, ProtocolError> {
        match self.decoder.decode()? {
            None => Ok(false),
            Some(Frame::Error(text)) => Err(ProtocolError::Malformed(text.to_string())),
            Some(_) => Ok(true),
        }
    }

    /// Appends what to send for this batch. Then fill [`Link::input`] until [`Link::poll`] says
    /// that it is enough.
    pub fn forward(&mut self, batch: &Batch, out: &mut BytesMut) {
        batch.encode(out);
        self.expected = batch.len();
        self.bytes = 0;
    }

    /// Where what the leader answers is appended.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.decoder.buffer
    }

    /// Whether to go on to [`Link::finish`]: all is answered, or as much as is held at a time
    /// ([`REPLY_BYTES_MAX`]).
    pub fn poll(&mut self) -> Result<bool, ProtocolError> {
        while self.outcomes.len() < self.expected && self.bytes <= REPLY_BYTES_MAX {
            let before = self.decoder.buffer.len();
            let reply = self.decoder.decode();
            self.bytes += before - self.decoder.buffer.len();
            let Some(reply) = reply? else { return Ok(false) };
            self.outcomes.push(outcome(reply));
        }
        Ok(true)
    }

    /// What became of the batch, also when the connection broke: what was not answered is of
    /// unknown fate.
    pub fn finish(&mut self) -> Vec<Outcome> {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.spent = outcomes.len() < self.expected;
        outcomes.resize(self.expected, Outcome::Unknown);
        outcomes
    }

    /// Whether answers are outstanding that no client waits for: close the connection.
    pub fn is_spent(&self) -> bool {
        self.spent
    }
}

fn outcome(reply: Frame) -> Outcome {
    match &reply {
        Frame::Error(text) if text.starts_with(NOT_LEADER) => Outcome::NotApplied,
        Frame::Error(text) if text.starts_with(UNKNOWN) => Outcome::Unknown,
        Frame::Error(_)
        | Frame::SimpleString(_)
        | Frame::Integer(_)
        | Frame::BulkString(_)
        | Frame::Array(_)
        | Frame::Null => Outcome::Replied(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::command::Write;
    use crate::server::pipeline::{Pipeline, Work};
    use crate::server::resp::{self, ok};
    use crate::server::sessions::SessionPool;

    const DONE: Outcome = Outcome::Replied(Frame::Null);

    fn writes(count: u8) -> Batch {
        Batch::Writes((0..count).map(|n| Bytes::from(vec![n])).collect::<Vec<_>>().into())
    }

    fn reads(count: usize) -> Batch {
        Batch::Reads(vec![Read::Size; count])
    }

    fn codes(replies: &[Frame]) -> Vec<&str> {
        replies.iter().map(code).collect()
    }

    fn code(reply: &Frame) -> &str {
        let Frame::Error(text) = reply else { return "done" };
        text.split(' ').next().unwrap_or_default()
    }

    #[test]
    fn what_has_no_answer_is_tried_again_from_there() {
        let mut batch = writes(4);
        let replies = batch.settle(vec![DONE, Outcome::Unknown, DONE, Outcome::NotApplied]);
        assert_eq!(codes(&replies), ["done"]);
        assert_eq!(batch.len(), 3);
        assert_eq!(codes(&batch.settle(vec![DONE, DONE, DONE])), ["done"; 3]);
        assert!(batch.is_empty());
    }

    #[test]
    fn a_client_is_told_whether_its_write_may_have_been_applied() {
        let mut batch = writes(4);
        batch.settle(vec![DONE, Outcome::Unknown, DONE, Outcome::NotApplied]);
        batch.settle(batch.untouched());
        let mut other = batch.clone();
        assert_eq!(codes(&batch.give_up()), ["UNKNOWN", "UNKNOWN", "CLUSTERDOWN"]);
        assert_eq!(codes(&other.hand_back()), ["UNKNOWN", "UNKNOWN", "NOTLEADER"]);
        assert!(batch.is_empty() && other.is_empty());

        let mut batch = writes(2);
        batch.settle(batch.untouched());
        assert_eq!(codes(&batch.give_up()), ["CLUSTERDOWN"; 2]);
    }

    #[test]
    fn reads_are_asked_again_from_the_first_without_an_answer() {
        let mut batch = reads(3);
        let replies = batch.settle(vec![DONE, Outcome::Unknown, DONE]);
        assert_eq!(codes(&replies), ["done"]);
        assert_eq!(batch, reads(2));
        assert_eq!(codes(&batch.settle(vec![DONE])), ["done"], "fewer outcomes than requests");
        assert_eq!(codes(&batch.give_up()), ["CLUSTERDOWN"]);
        assert!(batch.is_empty());
    }

    /// What `link` forwards, as the other side's pipeline understands it.
    fn forwarded(link: &mut Link, batch: &Batch, out: &mut BytesMut) -> (Pipeline, Option<Work>) {
        link.forward(batch, out);
        let mut pipeline = Pipeline::new(SessionPool::new().take().unwrap());
        pipeline.input().extend_from_slice(out);
        let work = pipeline.next_work();
        (pipeline, work)
    }

    #[test]
    fn a_run_crosses_a_link_and_comes_back_answered() {
        let write = Write::Increment { key: "n".into() }.encode("5f.9.0".parse().unwrap());
        let batch = Batch::Writes(vec![write; 2].into());
        let mut out = BytesMut::new();
        let mut link = Link::new(2, &mut out);
        let (mut leader, work) = forwarded(&mut link, &batch, &mut out);
        assert_eq!(work, Some(Work::Batch(batch.clone())));
        assert!(leader.is_peer());

        leader.answer([Frame::Integer(1), Frame::Integer(2)]);
        assert_eq!(link.poll_welcome(), Ok(false));
        link.input().unsplit(leader.output().split());
        assert_eq!(link.poll_welcome(), Ok(true));
        assert_eq!(link.poll(), Ok(true));
        let replied = |number| Outcome::Replied(Frame::Integer(number));
        assert_eq!(link.finish(), [replied(1), replied(2)]);
        assert!(!link.is_spent());
    }

    #[test]
    fn an_answer_to_scan_crosses_a_link() {
        let mut out = BytesMut::new();
        let mut link = Link::new(2, &mut out);
        let scan = Read::Scan { cursor: 0, pattern: "*".into(), count: 10 };
        let (mut leader, _) = forwarded(&mut link, &Batch::Reads(vec![scan]), &mut out);
        let keys = Frame::Array(vec![Frame::BulkString("k".into())]);
        let answer = Frame::Array(vec![Frame::BulkString("0".into()), keys]);
        leader.answer([answer.clone()]);
        link.input().unsplit(leader.output().split());
        assert_eq!(link.poll_welcome(), Ok(true));
        assert_eq!(link.poll(), Ok(true));
        assert_eq!(link.finish(), [Outcome::Replied(answer)]);
    }

    #[test]
    fn what_is_handed_back_keeps_its_outcome() {
        let mut batch = writes(2);
        let mut link = Link::new(2, &mut BytesMut::new());
        link.forward(&batch, &mut BytesMut::new());
        batch.settle(vec![Outcome::Unknown, Outcome::NotApplied]);
        batch.hand_back().iter().for_each(|reply| resp::encode(link.input(), reply));
        assert_eq!(link.poll(), Ok(true));
        assert_eq!(link.finish(), [Outcome::Unknown, Outcome::NotApplied]);
    }

    #[test]
    fn a_link_that_breaks_leaves_the_rest_unknown_and_is_spent() {
        let mut link = Link::new(2, &mut BytesMut::new());
        link.forward(&writes(2), &mut BytesMut::new());
        resp::encode(link.input(), &ok());
        assert_eq!(link.poll(), Ok(false));
        assert_eq!(link.finish(), [Outcome::Replied(ok()), Outcome::Unknown]);
        assert!(link.is_spent());
    }

    #[test]
    fn a_link_that_is_refused_says_why() {
        let mut link = Link::new(2, &mut BytesMut::new());
        resp::encode(link.input(), &error("ERR too many connections"));
        assert!(link.poll_welcome().is_err());
    }

    #[test]
    fn answers_that_are_too_many_to_hold_end_the_attempt_early() {
        let mut link = Link::new(2, &mut BytesMut::new());
        link.forward(&reads(3), &mut BytesMut::new());
        let big = Frame::BulkString(vec![b'x'; REPLY_BYTES_MAX / 2 + 1].into());
        for _ in 0..3 {
            resp::encode(link.input(), &big);
        }
        assert_eq!(link.poll(), Ok(true));
        let outcomes = link.finish();
        assert_eq!(outcomes[2], Outcome::Unknown, "asked again");
        assert!(link.is_spent() && outcomes[1] != Outcome::Unknown);
    }
}
