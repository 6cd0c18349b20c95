//! One client's connection without its socket: bytes in, runs of requests out; replies in, bytes out.
//!
//! A client may send many requests without waiting (pipelining). They are worked on in runs: neighbours of one kind go together,
//! so that a run of writes shares one fsync and a run of reads one round of heartbeats. The next run begins when the last has
//! been answered: a client reads what it wrote before, and never what it writes later. Until then nothing more is read from its
//! socket, so a client that does not wait for its answers fills its own buffers, not ours.

use bytes::BytesMut;

use super::command::{Local, Request};
use super::once::Writer;
use super::operation::Operation;
use super::resp::{self, Decoder, Frame, error};
use super::run::{RUN_REQUESTS_MAX, Run};

/// The most connections that a server takes, also those of other servers: a client of a server that does not lead has one there
/// and, as long as it lives, one on which that server forwards. Both count towards a process's open files, often 1024.
pub const CONNECTIONS_MAX: usize = 480;
/// How many bytes of answers are gathered, before they are written although more requests are at hand.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// How many bytes are asked of a socket at a time.
pub const INPUT_BYTES: usize = 16 << 10;

/// The state of a connection.
#[derive(Debug)]
pub struct Session {
    decoder: Decoder,
    output: BytesMut,
    /// Names the writes.
    writer: Writer,
    /// The request that ended a run by being of another kind: the first of the next.
    next: Option<Request>,
    is_peer: bool,
    closing: bool,
}

/// What a connection wants done before it goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Work {
    /// Requests for the cluster.
    Run(Run),
    /// A description of this server: one bulk string.
    Info,
    /// What an operator asks.
    Operate(Operation),
}

impl Session {
    /// A connection on which nothing was said. While it lasts, its writes are this writer's.
    pub fn new(writer: Writer) -> Self {
        Self {
            decoder: Decoder::of_requests(),
            output: BytesMut::new(),
            writer,
            next: None,
            is_peer: false,
            closing: false,
        }
    }

    /// Where what the socket brings is appended.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.decoder.buffer
    }

    /// What the socket must take, from the front.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Whether the connection ends once its output is written.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether requests come from another server, which forwards them: they are not forwarded again.
    pub fn is_peer(&self) -> bool {
        self.is_peer
    }

    /// What to work on next; `None` if more input must come first. What needs no work is answered on the way.
    pub fn next_work(&mut self) -> Option<Work> {
        let mut run = None;
        while let Some(request) = self.next_request() {
            match (&mut run, request) {
                (None, Request::Local(Local::Info)) => return Some(Work::Info),
                (None, Request::Local(Local::Operate(operation))) => {
                    return Some(Work::Operate(operation));
                }
                (None, Request::Local(local)) => self.answer_local(local),
                (None, Request::Read(read)) => run = Some(Run::Reads(vec![read])),
                (None, Request::Write(write)) => {
                    self.writer.begin_run();
                    run = Some(Run::Writes(vec![write.encode(self.writer.name(0))].into()));
                }
                (None, Request::NamedWrite(name, write)) if self.is_peer => {
                    self.writer.begin_run();
                    run = Some(Run::Writes(vec![write.encode(name)].into()));
                }
                (None, Request::NamedWrite(..)) => self.answer([not_a_peer()]),
                (Some(run), request) if run.len() == RUN_REQUESTS_MAX => {
                    self.next = Some(request);
                    break;
                }
                (Some(Run::Reads(reads)), Request::Read(read)) => reads.push(read),
                (Some(Run::Writes(writes)), Request::Write(write)) => {
                    let name = self.writer.name(writes.commands().len());
                    writes.push(write.encode(name));
                }
                (Some(Run::Writes(writes)), Request::NamedWrite(name, write)) if self.is_peer => {
                    writes.push(write.encode(name));
                }
                (Some(_), request) => {
                    self.next = Some(request);
                    break;
                }
            }
        }
        run.map(Work::Run)
    }

    /// Answers the first requests of the last work that have no answer yet.
    pub fn answer(&mut self, replies: impl IntoIterator<Item = Frame>) {
        for reply in replies {
            resp::encode(&mut self.output, &reply);
        }
    }

    fn next_request(&mut self) -> Option<Request> {
        if self.closing {
            return None;
        }
        if let Some(request) = self.next.take() {
            return Some(request);
        }
        match self.decoder.decode() {
            Ok(frame) => frame.map(Request::parse),
            Err(e) => Some(Request::Local(Local::Broken(e))),
        }
    }

    fn answer_local(&mut self, local: Local) {
        let reply = match local {
            Local::Reply(reply) => reply,
            Local::Quit => {
                self.closing = true;
                resp::ok()
            }
            Local::Peer => {
                self.is_peer = true;
                self.decoder.expect_writes();
                resp::ok()
            }
            Local::Broken(e) => {
                self.closing = true;
                error(format!("ERR Protocol error: {e}"))
            }
            Local::Info | Local::Operate(_) => return,
        };
        resp::encode(&mut self.output, &reply);
    }
}

fn not_a_peer() -> Frame {
    error("ERR only servers name writes, on connections on which they forward")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::command::{PEER, Read, Write};
    use crate::kv::once::Writers;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn session(requests: &[&[&'static str]]) -> Session {
        let mut session = Session::new(Writers::new().take().unwrap());
        for request in requests {
            let words = request.iter().map(|word| (*word).into());
            resp::encode_request(session.input(), words);
        }
        session
    }

    fn set(key: &'static str) -> Write {
        Write::Set { key: key.into(), value: "v".into() }
    }

    /// The next work, which must be writes, without their names.
    fn next_writes(session: &mut Session) -> Vec<Write> {
        let Some(Work::Run(Run::Writes(writes))) = session.next_work() else { panic!("no writes") };
        let decode = |command: &bytes::Bytes| Write::decode(command.clone()).unwrap().1;
        writes.commands().iter().map(decode).collect()
    }

    fn get(key: &'static str) -> Read {
        Read::Get { key: key.into() }
    }

    #[test]
    fn neighbours_of_one_kind_form_a_run() {
        let mut session = session(&[
            &["SET", "a", "v"],
            &["SET", "b", "v"],
            &["GET", "a"],
            &["PING"],
            &["INFO"],
            &["GET", "b"],
        ]);
        assert_eq!(next_writes(&mut session), [set("a"), set("b")]);
        assert_eq!(session.next_work(), Some(Work::Run(Run::Reads(vec![get("a")]))));
        assert!(session.output().is_empty(), "PING waits for its turn");
        assert_eq!(session.next_work(), Some(Work::Info));
        assert_eq!(&session.output()[..], b"+PONG\r\n");
        assert_eq!(session.next_work(), Some(Work::Run(Run::Reads(vec![get("b")]))));
        assert_eq!(session.next_work(), None);
    }

    #[test]
    fn a_run_is_bounded() {
        let mut session = session(&vec![&["INCR", "n"] as &[_]; RUN_REQUESTS_MAX + 1]);
        let lengths: Vec<_> = std::iter::from_fn(|| session.next_work())
            .map(|work| match work {
                Work::Run(run) => run.len(),
                Work::Info | Work::Operate(_) => 0,
            })
            .collect();
        assert_eq!(lengths, [RUN_REQUESTS_MAX, 1]);
    }

    #[test]
    fn quit_says_ok_and_nothing_after_it_counts() {
        let mut session = session(&[&["QUIT"], &["PING"]]);
        assert_eq!(session.next_work(), None);
        assert_eq!(&session.output()[..], b"+OK\r\n");
        assert!(session.is_closing());
    }

    #[test]
    fn a_broken_request_is_answered_after_those_before_it() {
        let mut session = session(&[&["GET", "a"]]);
        session.input().extend_from_slice(b"junk\r\n");
        assert_eq!(session.next_work(), Some(Work::Run(Run::Reads(vec![get("a")]))));
        session.answer([Frame::Null]);
        assert_eq!(session.next_work(), None);
        assert!(session.is_closing());
        assert!(session.output().starts_with(b"$-1\r\n-ERR Protocol error"));
    }

    #[test]
    fn many_empty_requests_are_many_errors_and_nothing_worse() {
        let mut session = session(&[]);
        session.input().extend_from_slice(&b"*0\r\n".repeat(100_000));
        assert_eq!(session.next_work(), None);
        assert!(session.output().starts_with(b"-ERR empty request\r\n"));
    }

    #[test]
    fn only_a_peer_names_writes() {
        let named: &[_] = &["ONCE", "5f.9.0", "SET", "a", "v"];
        let mut client = session(&[named]);
        assert_eq!(client.next_work(), None);
        assert!(client.output().starts_with(b"-ERR only servers"));

        let mut peer = session(&[&[PEER, "2"], named]);
        let write = set("a").encode("5f.9.0".parse().unwrap());
        assert_eq!(peer.next_work(), Some(Work::Run(Run::Writes(vec![write].into()))));
        assert!(peer.is_peer());
    }

    #[test]
    fn each_write_of_a_client_has_a_name_of_its_own() {
        let incr: &[_] = &["INCR", "n"];
        let mut session = session(&[incr, incr, &["PING"], incr]);
        let mut names = Vec::new();
        while let Some(Work::Run(Run::Writes(writes))) = session.next_work() {
            let name = |command: &bytes::Bytes| Write::decode(command.clone()).unwrap().0;
            names.extend(writes.commands().iter().map(name).map(|name| name.to_string()));
        }
        names.dedup();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(session.writer.name(0).to_string().split('.').nth(1), Some("2"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_worked_on_or_refused(bytes in vec(any::<u8>(), 0..64)) {
            for before in [b"" as &[u8], b"*1\r\n", b"*2\r\n$3\r\nGET\r\n", b"*3\r\n$4\r\nONCE\r\n"] {
                let mut session = session(&[]);
                session.input().extend_from_slice(before);
                session.input().extend_from_slice(&bytes);
                while session.next_work().is_some() {}
            }
        }
    }
}
