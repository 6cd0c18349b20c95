//! One client's connection without its socket: bytes in, runs of requests out; replies in, bytes out.
//!
//! A client may send many requests without waiting (pipelining). They are worked on in runs: neighbours of one kind go together,
//! so that a run of writes shares one fsync and a run of reads one round of heartbeats. The next run begins when the last has
//! been answered: a client reads what it wrote before, and never what it writes later. Until then nothing more is read from its
//! socket, so a client that does not wait for its answers fills its own buffers, not ours.

use bytes::{Bytes, BytesMut};

use super::command::{Hello, Local, Request};
use super::limits::RUN_REQUESTS_MAX;
use super::local_command::about;
use super::once::Writer;
use super::operation::Operation;
use super::reply::Protocol;
use super::resp::{self, Decoder, Frame, error};
use super::run::{Run, Writes};
use super::write::{COMMANDS_VERSION, Write};

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
    /// What the client speaks, and how it calls this connection.
    protocol: Protocol,
    name: Option<Bytes>,
    /// The newest version of writes that is taken.
    commands_version: u32,
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
            protocol: Protocol::default(),
            name: None,
            commands_version: COMMANDS_VERSION,
            is_peer: false,
            closing: false,
        }
    }

    /// Takes no writes of newer versions than this one: servers that do not know them yet are in
    /// the cluster.
    pub fn with_commands_version(self, commands_version: u32) -> Self {
        Self { commands_version, ..self }
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
                (Some(run), request) if run.len() == RUN_REQUESTS_MAX => {
                    self.next = Some(request);
                    break;
                }
                (Some(Run::Reads(reads)), Request::Read(read)) => reads.push(read),
                (None, request @ (Request::Write(_) | Request::NamedWrite(..))) => {
                    self.writer.begin_run();
                    run = Some(Run::Writes(Writes::default()));
                    self.next = Some(request);
                }
                (Some(Run::Writes(writes)), Request::Write(write)) => {
                    let name = self.writer.name(writes.commands().len());
                    writes.push(write.encode(name));
                    if write.returns_value() {
                        break;
                    }
                }
                (Some(Run::Writes(writes)), Request::NamedWrite(name, write)) => {
                    writes.push(write.encode(name));
                    if write.returns_value() {
                        break;
                    }
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
            self.protocol.encode(&mut self.output, &reply);
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
            Ok(frame) => frame.map(|frame| self.admit(Request::parse(frame))),
            Err(e) => Some(Request::Local(Local::Broken(e))),
        }
    }

    /// The request, or a refusal if it is a write that this connection does not take.
    fn admit(&self, request: Request) -> Request {
        let write = match &request {
            Request::NamedWrite(..) if !self.is_peer => {
                return Request::Local(Local::Reply(not_a_peer()));
            }
            Request::Write(write) | Request::NamedWrite(_, write) => write,
            Request::Read(_) | Request::Local(_) => return request,
        };
        if write.version() > self.commands_version {
            return Request::Local(Local::Reply(too_new(write, self.commands_version)));
        }
        request
    }

    fn answer_local(&mut self, local: Local) {
        let reply = match local {
            Local::Reply(reply) => reply,
            Local::Map(pairs) => return self.protocol.encode_map(&mut self.output, &pairs),
            Local::Hello(Hello { protocol, name }) => {
                self.protocol = protocol.unwrap_or(self.protocol);
                self.name = name.or(self.name.take());
                let about = about(self.protocol, self.writer.connection_id());
                return self.protocol.encode_map(&mut self.output, &about);
            }
            Local::SetName(name) => {
                // An empty one takes it away.
                self.name = Some(name).filter(|name| !name.is_empty());
                resp::ok()
            }
            Local::GetName => self.name.clone().map_or(Frame::Null, Frame::BulkString),
            Local::Id => Frame::Integer(self.writer.connection_id()),
            Local::Reset => {
                (self.protocol, self.name) = (Protocol::default(), None);
                Frame::SimpleString(Bytes::from_static(b"RESET"))
            }
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
        self.answer([reply]);
    }
}

fn too_new(write: &Write, commands_version: u32) -> Frame {
    let (command, version) = (write.command(), write.version());
    error(format!(
        "ERR {command} is a command of version {version} here, and while the cluster is upgraded this server takes commands up to \
         version {commands_version}; nothing was changed"
    ))
}

fn not_a_peer() -> Frame {
    error("ERR only servers name writes, on connections on which they forward")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::command::{PEER, Read};
    use crate::server::once::Writers;
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
        let decode = |command: &Bytes| Write::decode(command.clone()).unwrap().1;
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
            let name = |command: &Bytes| Write::decode(command.clone()).unwrap().0;
            names.extend(writes.commands().iter().map(name).map(|name| name.to_string()));
        }
        names.dedup();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(session.writer.name(0).to_string().split('.').nth(1), Some("2"));
    }

    fn said(session: &mut Session) -> String {
        assert_eq!(session.next_work(), None);
        String::from_utf8(session.output().split().into()).unwrap()
    }

    #[test]
    fn a_client_that_says_hello_is_answered_in_its_protocol() {
        let mut session = session(&[&["HELLO", "3", "SETNAME", "me"], &["CLIENT", "GETNAME"]]);
        let hello = said(&mut session);
        assert!(hello.starts_with("%7\r\n$6\r\nserver\r\n$2\r\nkv\r\n"), "{hello}");
        assert!(hello.contains("$5\r\nproto\r\n:3\r\n") && hello.ends_with("$2\r\nme\r\n"));

        session.answer([Frame::Null]);
        resp::encode_request(session.input(), ["CONFIG".into(), "GET".into(), "save".into()]);
        assert_eq!(said(&mut session), "_\r\n%1\r\n$4\r\nsave\r\n$0\r\n\r\n");

        resp::encode_request(session.input(), ["RESET".into()]);
        resp::encode_request(session.input(), ["CLIENT".into(), "GETNAME".into()]);
        assert_eq!(said(&mut session), "+RESET\r\n$-1\r\n");
        resp::encode_request(session.input(), ["HELLO".into()]);
        assert!(said(&mut session).starts_with("*14\r\n"));
    }

    #[test]
    fn what_is_not_a_request_is_an_error_and_a_close_in_either_protocol() {
        for version in ["2", "3"] {
            for bad in ["%1\r\n", "*2\r\n$3\r\nGET\r\n_\r\n", "*1\r\n*1\r\n", "#t\r\n", "$?\r\n"] {
                let mut session = session(&[&["HELLO", version.to_owned().leak()]]);
                session.input().extend_from_slice(bad.as_bytes());
                let said = said(&mut session);
                assert!(said.contains("\r\n-ERR Protocol error"), "{said}");
                assert!(session.is_closing());
            }
        }
    }

    #[test]
    fn a_write_that_returns_a_value_ends_its_run() {
        let mut session =
            session(&[&["SET", "a", "v"], &["GETDEL", "a"], &["GETDEL", "b"], &["SET", "b", "v"]]);
        assert_eq!(next_writes(&mut session).len(), 2);
        assert_eq!(next_writes(&mut session), [Write::GetDelete { key: "b".into() }]);
        assert_eq!(next_writes(&mut session), [set("b")]);
    }

    #[test]
    fn newer_writes_wait_until_every_server_knows_them() {
        let mut old = session(&[&["SETNX", "a", "v"], &["SET", "a", "v", "NX"]]);
        old.commands_version = 1;
        let told = said(&mut old);
        assert_eq!(told.matches("a command of version 2 here").count(), 2, "{told}");
        resp::encode_request(old.input(), ["SET".into(), "a".into(), "v".into()]);
        assert_eq!(next_writes(&mut old), [set("a")]);

        let forwarded: &[_] = &["ONCE", "5f.9.0", "V2", "SETNX", "a", "v"];
        let mut old = session(&[&[PEER, "2"], forwarded]).with_commands_version(1);
        assert!(said(&mut old).contains("a command of version 2 here"));
        let unknown: &[_] = &["ONCE", "5f.9.0", "V9", "SETNX", "a", "v"];
        assert!(said(&mut session(&[&[PEER, "2"], unknown])).contains("SETNX of version 9"));
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
