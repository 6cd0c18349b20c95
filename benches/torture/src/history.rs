//! What clients asked and were told, and when: a history of every key.
//!
//! A key lives for a few operations, then its clients go on to a new one, so that each history is
//! short enough to be [judged](super::judge) in full. An operation whose answer never came is open
//! to the end: it may take effect at any time.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::str::FromStr;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::demo::cluster::Failure;
use kv::server::resp::Frame;

/// How many operations a key lives.
const KEY_OPERATIONS_MAX: usize = 32;
/// After how many operations of unknown fate a key is left early: each of them multiplies the
/// orders that are possible.
const KEY_UNKNOWN_MAX: usize = 4;

/// Something that a client asks of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// `GET`
    Get,
    /// `SET` to this.
    Set(i64),
    /// `INCR`
    Increment,
    /// `DEL`
    Delete,
}

/// What it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To `GET`: the value, if there is one.
    Value(Option<i64>),
    /// To `SET`.
    Done,
    /// To `INCR`: the new value.
    Count(i64),
    /// To `DEL`: how many keys were there.
    Deleted(i64),
}

/// How an operation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It did not, or the outcome is unknown: it may have taken effect, or may still.
    Unknown,
    /// It was refused: it has no effect.
    Refused,
    /// It was answered.
    Answered {
        /// When, in nanoseconds since the start.
        at: u64,
        /// The answer.
        answer: Answer,
    },
}

/// An operation of a client on a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Which client: it has one operation under way at a time.
    pub client: u32,
    /// What it asked.
    pub call: Call,
    /// When, in nanoseconds since the start. No two events have the same time.
    pub invoked: u64,
    /// What came of it.
    pub end: End,
}

/// All operations on one key, in the order in which they were begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// The key.
    pub key: String,
    /// The operations.
    pub operations: Vec<Operation>,
}

/// Where an operation that was begun is ended.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    key: usize,
    operation: usize,
}

/// How many operations ended how.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// Answered.
    pub answered: u64,
    /// Of these, writes.
    pub written: u64,
    /// Refused: certainly without effect.
    pub refused: u64,
    /// Of unknown fate.
    pub unknown: u64,
}

/// Takes down what all clients do.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    records: Mutex<Records>,
}

#[derive(Debug)]
struct Records {
    last: u64,
    keys: Vec<Key>,
    /// For each group of clients, the keys that it has had; it works on the last.
    groups: Vec<Vec<usize>>,
    counts: Counts,
    last_written: u64,
    longest_gap: u64,
    /// Takes the history of each key that its clients have left.
    left: Sender<History>,
}

#[derive(Debug)]
struct Key {
    history: History,
    unknown: usize,
    open: usize,
    left: bool,
}

impl Recorder {
    /// For this many groups of clients. The history of each key goes to `left` once all clients
    /// have left it.
    pub fn new(groups: usize, left: Sender<History>) -> Self {
        let records = Records {
            last: 0,
            keys: Vec::new(),
            groups: vec![Vec::new(); groups],
            counts: Counts::default(),
            last_written: 0,
            longest_gap: 0,
            left,
        };
        Self { start: Instant::now(), records: Mutex::new(records) }
    }

    /// A client begins an operation on the key that its group works on.
    pub fn begin(&self, group: usize, client: u32, call: Call) -> (Ticket, String) {
        let mut records = self.lock();
        let key = records.current_key(group);
        self.begin_on(&mut records, key, client, call)
    }

    /// A client looks at a key that its group has left, if there is one. `choose` picks a number
    /// below its argument.
    pub fn begin_again(
        &self,
        group: usize,
        client: u32,
        choose: impl FnOnce(usize) -> usize,
    ) -> Option<(Ticket, String)> {
        let mut records = self.lock();
        let left = records.groups[group].len().checked_sub(1).filter(|left| *left > 0)?;
        let key = records.groups[group][choose(left)];
        Some(self.begin_on(&mut records, key, client, Call::Get))
    }

    /// Someone begins an operation on a new key that no group has.
    pub fn begin_alone(&self, key: &str, client: u32, call: Call) -> Ticket {
        let mut records = self.lock();
        let key = records.add_key(key.to_owned());
        self.begin_on(&mut records, key, client, call).0
    }

    /// Someone looks at these keys, given by their numbers, of those there are. There may be fewer.
    pub fn begin_looks(&self, keys: Range<usize>, client: u32) -> Vec<(Ticket, String)> {
        let mut records = self.lock();
        let keys = keys.start..keys.end.min(records.keys.len());
        keys.map(|key| self.begin_on(&mut records, key, client, Call::Get)).collect()
    }

    /// The operation has ended.
    pub fn end(&self, ticket: Ticket, end: Result<Answer, End>) {
        let mut records = self.lock();
        let at = records.now(self.start);
        let end = end.map_or_else(|end| end, |answer| End::Answered { at, answer });
        records.end(ticket, at, end);
    }

    /// How operations ended so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// The longest time between two writes that were acknowledged, or before the first.
    pub fn longest_without_write(&self) -> Duration {
        Duration::from_nanos(self.lock().longest_gap)
    }

    /// All histories as they stand.
    pub fn histories(&self) -> Vec<History> {
        self.lock().keys.iter().map(|key| key.history.clone()).collect()
    }

    fn begin_on(
        &self,
        records: &mut Records,
        key: usize,
        client: u32,
        call: Call,
    ) -> (Ticket, String) {
        let invoked = records.now(self.start);
        let key_of = &mut records.keys[key];
        key_of.open += 1;
        let operations = &mut key_of.history.operations;
        operations.push(Operation { client, call, invoked, end: End::Unknown });
        (Ticket { key, operation: operations.len() - 1 }, key_of.history.key.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    /// A time later than all before it. A caller that holds the lock asks in the order of events.
    fn now(&mut self, start: Instant) -> u64 {
        let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last = now.max(self.last + 1);
        self.last
    }

    fn current_key(&mut self, group: usize) -> usize {
        if let Some(current) = self.groups[group].last().copied() {
            let key = &mut self.keys[current];
            if key.history.operations.len() < KEY_OPERATIONS_MAX && key.unknown < KEY_UNKNOWN_MAX {
                return current;
            }
            key.left = true;
            self.hand_over(current);
        }
        let name = format!("group-{group}:{}", self.groups[group].len());
        let key = self.add_key(name);
        self.groups[group].push(key);
        key
    }

    fn add_key(&mut self, key: String) -> usize {
        let history = History { key, operations: Vec::new() };
        self.keys.push(Key { history, unknown: 0, open: 0, left: false });
        self.keys.len() - 1
    }

    fn end(&mut self, ticket: Ticket, at: u64, end: End) {
        let key = &mut self.keys[ticket.key];
        key.open -= 1;
        let operation = &mut key.history.operations[ticket.operation];
        operation.end = end;
        match end {
            End::Unknown => {
                key.unknown += 1;
                self.counts.unknown += 1;
            }
            End::Refused => self.counts.refused += 1,
            End::Answered { .. } => {
                self.counts.answered += 1;
                if operation.call != Call::Get {
                    self.counts.written += 1;
                    self.longest_gap = self.longest_gap.max(at - self.last_written);
                    self.last_written = at;
                }
            }
        }
        self.hand_over(ticket.key);
    }

    /// Hands a key over to be judged, if its clients have left it.
    fn hand_over(&mut self, key: usize) {
        let key = &mut self.keys[key];
        if key.left && key.open == 0 {
            // Later looks at it are judged at the end.
            key.left = false;
            // Without a judge at work, everything is judged at the end.
            let _ = self.left.send(key.history.clone());
        }
    }
}

impl Call {
    /// The request.
    pub fn words(self, key: &str) -> Vec<Bytes> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        match self {
            Self::Get => vec!["GET".into(), key],
            Self::Set(value) => vec!["SET".into(), key, value.to_string().into()],
            Self::Increment => vec!["INCR".into(), key],
            Self::Delete => vec!["DEL".into(), key],
        }
    }

    /// What a reply to this means. A reply that no server could give is a failure.
    pub fn understand(self, reply: &Frame) -> Result<Result<Answer, End>, Failure> {
        let digits =
            |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        let answer = match (self, reply) {
            (_, Frame::Error(text)) => {
                let is_unknown = text.starts_with("UNKNOWN");
                return Ok(Err(if is_unknown { End::Unknown } else { End::Refused }));
            }
            (Self::Get, Frame::Null) => Some(Answer::Value(None)),
            (Self::Get, Frame::BulkString(text)) => digits(text).map(|n| Answer::Value(Some(n))),
            (Self::Set(_), Frame::SimpleString(_)) => Some(Answer::Done),
            (Self::Increment, Frame::Integer(n)) => Some(Answer::Count(*n)),
            (Self::Delete, Frame::Integer(n)) => Some(Answer::Deleted(*n)),
            _ => None,
        };
        answer.map(Ok).ok_or_else(|| Failure(format!("{self:?} was answered by {reply:?}")))
    }
}

/// One line for each operation: key, client, call, when it was invoked and answered, the answer.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Operation { client, call, invoked, end } in &self.operations {
            let mut line = format!("{}\t{client}\t", self.key);
            match call {
                Call::Get => line += "get",
                Call::Set(value) => write!(line, "set {value}")?,
                Call::Increment => line += "incr",
                Call::Delete => line += "del",
            }
            write!(line, "\t{invoked}\t")?;
            match end {
                End::Unknown => line += "-\tunknown",
                End::Refused => line += "-\trefused",
                End::Answered { at, answer } => {
                    write!(line, "{at}\t")?;
                    match answer {
                        Answer::Value(None) => line += "none",
                        Answer::Value(Some(n)) | Answer::Count(n) | Answer::Deleted(n) => {
                            write!(line, "{n}")?;
                        }
                        Answer::Done => line += "ok",
                    }
                }
            }
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Reads histories as they are written, one behind the other.
pub fn parse_all(text: &str) -> Result<Vec<History>, Failure> {
    let mut histories = Vec::<History>::new();
    for (line, number) in text.lines().zip(1..) {
        let (key, operation) = parse_line(line)
            .ok_or_else(|| Failure(format!("line {number} is no operation: {line:?}")))?;
        match histories.last_mut().filter(|history| history.key == key) {
            Some(history) => history.operations.push(operation),
            None => histories.push(History { key: key.to_owned(), operations: vec![operation] }),
        }
    }
    Ok(histories)
}

fn parse_line(line: &str) -> Option<(&str, Operation)> {
    let fields: Vec<_> = line.split('\t').collect();
    let [key, client, call, invoked, at, answer] = fields[..] else { return None };
    let call = match call.split_once(' ').unwrap_or((call, "")) {
        ("get", _) => Call::Get,
        ("set", value) => Call::Set(value.parse().ok()?),
        ("incr", _) => Call::Increment,
        ("del", _) => Call::Delete,
        _ => return None,
    };
    let end = match (answer, call) {
        ("unknown", _) => End::Unknown,
        ("refused", _) => End::Refused,
        (answer, call) => End::Answered { at: number(at)?, answer: parse_answer(call, answer)? },
    };
    Some((key, Operation { client: number(client)?, call, invoked: number(invoked)?, end }))
}

fn parse_answer(call: Call, answer: &str) -> Option<Answer> {
    match (call, answer) {
        (Call::Get, "none") => Some(Answer::Value(None)),
        (Call::Get, value) => Some(Answer::Value(Some(number(value)?))),
        (Call::Set(_), "ok") => Some(Answer::Done),
        (Call::Set(_), _) => None,
        (Call::Increment, count) => number(count).map(Answer::Count),
        (Call::Delete, count) => number(count).map(Answer::Deleted),
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_key_is_judged_once_all_its_clients_have_left_it() {
        let (left, keys) = mpsc::channel();
        let recorder = Recorder::new(1, left);
        let (slow, first) = recorder.begin(0, 0, Call::Get);
        for _ in 1..KEY_OPERATIONS_MAX {
            let (ticket, key) = recorder.begin(0, 1, Call::Set(1));
            assert_eq!(key, first);
            recorder.end(ticket, Ok(Answer::Done));
        }
        let (_, second) = recorder.begin(0, 1, Call::Get);
        assert_ne!(second, first);
        assert!(keys.try_recv().is_err(), "one is still at it");
        recorder.end(slow, Ok(Answer::Value(None)));
        assert_eq!(keys.try_recv().unwrap().operations.len(), KEY_OPERATIONS_MAX);

        let (again, key) = recorder.begin_again(0, 1, |_| 0).unwrap();
        assert_eq!(key, first);
        recorder.end(again, Ok(Answer::Value(Some(1))));
        assert!(keys.try_recv().is_err(), "handed over once");
        assert_eq!(recorder.histories()[0].operations.len(), KEY_OPERATIONS_MAX + 1);
    }

    #[test]
    fn unknown_fates_make_a_key_short() {
        let recorder = Recorder::new(1, mpsc::channel().0);
        let mut keys: Vec<_> = (0..=KEY_UNKNOWN_MAX)
            .map(|_| {
                let (ticket, key) = recorder.begin(0, 0, Call::Increment);
                recorder.end(ticket, Err(End::Unknown));
                key
            })
            .collect();
        keys.dedup();
        assert_eq!(keys.len(), 2);
    }

    #[test]
    fn histories_survive_their_text() {
        let answered = |at, answer| End::Answered { at, answer };
        let ends = [
            (Call::Get, answered(11, Answer::Value(None))),
            (Call::Get, answered(12, Answer::Value(Some(-7)))),
            (Call::Set(9), answered(13, Answer::Done)),
            (Call::Increment, answered(14, Answer::Count(10))),
            (Call::Delete, answered(15, Answer::Deleted(1))),
            (Call::Delete, End::Unknown),
            (Call::Set(3), End::Refused),
        ];
        let operations = ends.iter().zip(1..).map(|(&(call, end), n)| Operation {
            client: n,
            call,
            invoked: u64::from(n),
            end,
        });
        let history =
            |key: &str| History { key: key.to_owned(), operations: operations.clone().collect() };
        let histories = vec![history("a"), history("b")];
        let text: String = histories.iter().map(ToString::to_string).collect();
        assert_eq!(parse_all(&text), Ok(histories));
        assert!(parse_all("a\t1\tget\t1\t2\tx").is_err());
    }

    #[test]
    fn only_certain_refusals_are_refusals() {
        let error = |text: &'static str| Frame::Error(text.into());
        let understand = |reply| Call::Increment.understand(&reply);
        assert_eq!(understand(error("UNKNOWN the leader was lost")), Ok(Err(End::Unknown)));
        assert_eq!(understand(error("CLUSTERDOWN no leader")), Ok(Err(End::Refused)));
        assert_eq!(understand(Frame::Integer(4)), Ok(Ok(Answer::Count(4))));
        assert!(understand(Frame::Null).is_err());
    }
}
