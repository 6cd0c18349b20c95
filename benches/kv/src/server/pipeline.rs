//! The pipeline of one client: its bytes become batches of requests, and replies become bytes. The
//! socket is elsewhere.
//!
//! A client may send many requests without waiting for replies (pipelining). Adjacent requests of
//! one kind form a batch: the writes of a batch share one fsync, and its reads share one round of
//! heartbeats. The next batch begins when the last one is answered, so a client reads what it wrote
//! before, and never what it writes later. Until then the server reads nothing more from the
//! socket. A client that does not wait for replies fills its own buffers and not the server's.

use bytes::{Bytes, BytesMut};

use super::batch::{Batch, Writes};
use super::command::{Hello, Local, Request};
use super::limits::BATCH_REQUESTS_MAX;
use super::local_command::about;
use super::operation::Operation;
use super::reply::Protocol;
use super::resp::{self, Decoder, Frame, error};
use super::sessions::Session;
use super::write::{COMMANDS_VERSION, Write};

/// How many bytes of answers are gathered, before they are written although more requests are at
/// hand.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// How many bytes are asked of a socket at a time.
pub const INPUT_BYTES: usize = 16 << 10;

/// The requests and replies of one client.
#[derive(Debug)]
pub struct Pipeline {
    decoder: Decoder,
    output: BytesMut,
    /// Names the writes.
    session: Session,
    /// The first request of the next batch, which ended the last one because it is of another kind.
    next: Option<Request>,
    /// What the client speaks, and how it calls this connection.
    protocol: Protocol,
    name: Option<Bytes>,
    /// The newest version of writes that is taken.
    commands_version: u32,
    is_peer: bool,
    closing: bool,
}

/// What the server must do before the pipeline goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Work {
    /// Requests for the cluster.
    Batch(Batch),
    /// A description of this server: one bulk string.
    Info,
    /// What an operator asks.
    Operate(Operation),
}

impl Pipeline {
    /// The pipeline of a new connection, whose writes belong to this session.
    pub fn new(session: Session) -> Self {
        Self {
            decoder: Decoder::of_requests(),
            output: BytesMut::new(),
            session,
            next: None,
            protocol: Protocol::default(),
            name: None,
            commands_version: COMMANDS_VERSION,
            is_peer: false,
            closing: false,
        }
    }

    /// From here on takes no writes of newer versions: servers that do not know them yet are in
    /// the cluster.
    pub fn take_commands_up_to(&mut self, version: u32) {
        self.commands_version = version;
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

    /// Whether requests come from another server, which forwards them: they are not forwarded
    /// again.
    pub fn is_peer(&self) -> bool {
        self.is_peer
    }

    /// What to work on next; `None` if more input must come first. What needs no work is answered
    /// on the way.
    pub fn next_work(&mut self) -> Option<Work> {
        let mut batch = None;
        while let Some(request) = self.next_request() {
            match (&mut batch, request) {
                (None, Request::Local(Local::Info)) => return Some(Work::Info),
                (None, Request::Local(Local::Operate(operation))) => {
                    return Some(Work::Operate(operation));
                }
                (None, Request::Local(local)) => self.answer_local(local),
                (None, Request::Read(read)) => batch = Some(Batch::Reads(vec![read])),
                (Some(batch), request) if batch.len() == BATCH_REQUESTS_MAX => {
                    self.next = Some(request);
                    break;
                }
                (Some(Batch::Reads(reads)), Request::Read(read)) => reads.push(read),
                (None, request @ (Request::Write(_) | Request::NamedWrite(..))) => {
                    self.session.begin_batch();
                    batch = Some(Batch::Writes(Writes::default()));
                    self.next = Some(request);
                }
                (Some(Batch::Writes(writes)), Request::Write(write)) => {
                    let name = self.session.name(writes.commands().len());
                    writes.push(write.encode(name));
                    if write.returns_value() {
                        break;
                    }
                }
                (Some(Batch::Writes(writes)), Request::NamedWrite(name, write)) => {
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
        batch.map(Work::Batch)
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
                let about = about(self.protocol, self.session.connection_id());
                return self.protocol.encode_map(&mut self.output, &about);
            }
            Local::SetName(name) => {
                // An empty one takes it away.
                self.name = Some(name).filter(|name| !name.is_empty());
                resp::ok()
            }
            Local::GetName => self.name.clone().map_or(Frame::Null, Frame::BulkString),
            Local::Id => Frame::Integer(self.session.connection_id()),
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
        "ERR {command} is a command of version {version} here, and this cluster takes commands up to version \
         {commands_version}; nothing was changed"
    ))
}

fn not_a_peer() -> Frame {
    error("ERR only servers name writes, on connections on which they forward")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::command::{PEER, Read};
    use crate::server::sessions::SessionPool;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn pipeline(requests: &[&[&'static str]]) -> Pipeline {
        let mut pipeline = Pipeline::new(SessionPool::new().take().unwrap());
        for request in requests {
            let words = request.iter().map(|word| (*word).into());
            resp::encode_request(pipeline.input(), words);
        }
        pipeline
    }

    fn set(key: &'static str) -> Write {
        Write::Set { key: key.into(), value: "v".into() }
    }

    /// The next work, which must be writes, without their names.
    fn next_writes(pipeline: &mut Pipeline) -> Vec<Write> {
        let Some(Work::Batch(Batch::Writes(writes))) = pipeline.next_work() else {
            panic!("no writes")
        };
        let decode = |command: &Bytes| Write::decode(command).unwrap().1;
        writes.commands().iter().map(decode).collect()
    }

    fn get(key: &'static str) -> Read {
        Read::Get { key: key.into() }
    }

    #[test]
    fn neighbours_of_one_kind_form_a_run() {
        let mut pipeline = pipeline(&[
            &["SET", "a", "v"],
            &["SET", "b", "v"],
            &["GET", "a"],
            &["PING"],
            &["INFO"],
            &["GET", "b"],
        ]);
        assert_eq!(next_writes(&mut pipeline), [set("a"), set("b")]);
        assert_eq!(pipeline.next_work(), Some(Work::Batch(Batch::Reads(vec![get("a")]))));
        assert!(pipeline.output().is_empty(), "PING waits for its turn");
        assert_eq!(pipeline.next_work(), Some(Work::Info));
        assert_eq!(&pipeline.output()[..], b"+PONG\r\n");
        assert_eq!(pipeline.next_work(), Some(Work::Batch(Batch::Reads(vec![get("b")]))));
        assert_eq!(pipeline.next_work(), None);
    }

    #[test]
    fn a_run_is_bounded() {
        let mut pipeline = pipeline(&vec![&["INCR", "n"] as &[_]; BATCH_REQUESTS_MAX + 1]);
        let lengths: Vec<_> = std::iter::from_fn(|| pipeline.next_work())
            .map(|work| match work {
                Work::Batch(batch) => batch.len(),
                Work::Info | Work::Operate(_) => 0,
            })
            .collect();
        assert_eq!(lengths, [BATCH_REQUESTS_MAX, 1]);
    }

    #[test]
    fn quit_says_ok_and_nothing_after_it_counts() {
        let mut pipeline = pipeline(&[&["QUIT"], &["PING"]]);
        assert_eq!(pipeline.next_work(), None);
        assert_eq!(&pipeline.output()[..], b"+OK\r\n");
        assert!(pipeline.is_closing());
    }

    #[test]
    fn a_broken_request_is_answered_after_those_before_it() {
        let mut pipeline = pipeline(&[&["GET", "a"]]);
        pipeline.input().extend_from_slice(b"junk\r\n");
        assert_eq!(pipeline.next_work(), Some(Work::Batch(Batch::Reads(vec![get("a")]))));
        pipeline.answer([Frame::Null]);
        assert_eq!(pipeline.next_work(), None);
        assert!(pipeline.is_closing());
        assert!(pipeline.output().starts_with(b"$-1\r\n-ERR Protocol error"));
    }

    #[test]
    fn many_empty_requests_are_many_errors_and_nothing_worse() {
        let mut pipeline = pipeline(&[]);
        pipeline.input().extend_from_slice(&b"*0\r\n".repeat(100_000));
        assert_eq!(pipeline.next_work(), None);
        assert!(pipeline.output().starts_with(b"-ERR empty request\r\n"));
    }

    #[test]
    fn only_a_peer_names_writes() {
        let named: &[_] = &["ONCE", "5f.9.0", "SET", "a", "v"];
        let mut client = pipeline(&[named]);
        assert_eq!(client.next_work(), None);
        assert!(client.output().starts_with(b"-ERR only servers"));

        let mut peer = pipeline(&[&[PEER, "2"], named]);
        let write = set("a").encode("5f.9.0".parse().unwrap());
        assert_eq!(peer.next_work(), Some(Work::Batch(Batch::Writes(vec![write].into()))));
        assert!(peer.is_peer());
    }

    #[test]
    fn each_write_of_a_client_has_a_name_of_its_own() {
        let incr: &[_] = &["INCR", "n"];
        let mut pipeline = pipeline(&[incr, incr, &["PING"], incr]);
        let mut names = Vec::new();
        while let Some(Work::Batch(Batch::Writes(writes))) = pipeline.next_work() {
            let name = |command: &Bytes| Write::decode(command).unwrap().0;
            names.extend(writes.commands().iter().map(name).map(|name| name.to_string()));
        }
        names.dedup();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(pipeline.session.name(0).to_string().split('.').nth(1), Some("2"));
    }

    fn said(pipeline: &mut Pipeline) -> String {
        assert_eq!(pipeline.next_work(), None);
        String::from_utf8(pipeline.output().split().into()).unwrap()
    }

    #[test]
    fn a_client_that_says_hello_is_answered_in_its_protocol() {
        let mut pipeline = pipeline(&[&["HELLO", "3", "SETNAME", "me"], &["CLIENT", "GETNAME"]]);
        let hello = said(&mut pipeline);
        assert!(hello.starts_with("%7\r\n$6\r\nserver\r\n$2\r\nkv\r\n"), "{hello}");
        assert!(hello.contains("$5\r\nproto\r\n:3\r\n") && hello.ends_with("$2\r\nme\r\n"));

        pipeline.answer([Frame::Null]);
        resp::encode_request(pipeline.input(), ["CONFIG".into(), "GET".into(), "save".into()]);
        assert_eq!(said(&mut pipeline), "_\r\n%1\r\n$4\r\nsave\r\n$0\r\n\r\n");

        resp::encode_request(pipeline.input(), ["RESET".into()]);
        resp::encode_request(pipeline.input(), ["CLIENT".into(), "GETNAME".into()]);
        assert_eq!(said(&mut pipeline), "+RESET\r\n$-1\r\n");
        resp::encode_request(pipeline.input(), ["HELLO".into()]);
        assert!(said(&mut pipeline).starts_with("*14\r\n"));
    }

    #[test]
    fn what_is_not_a_request_is_an_error_and_a_close_in_either_protocol() {
        for version in ["2", "3"] {
            for bad in ["%1\r\n", "*2\r\n$3\r\nGET\r\n_\r\n", "*1\r\n*1\r\n", "#t\r\n", "$?\r\n"] {
                let mut pipeline = pipeline(&[&["HELLO", version.to_owned().leak()]]);
                pipeline.input().extend_from_slice(bad.as_bytes());
                let said = said(&mut pipeline);
                assert!(said.contains("\r\n-ERR Protocol error"), "{said}");
                assert!(pipeline.is_closing());
            }
        }
    }

    #[test]
    fn a_write_that_returns_a_value_ends_its_run() {
        let mut pipeline =
            pipeline(&[&["SET", "a", "v"], &["GETDEL", "a"], &["GETDEL", "b"], &["SET", "b", "v"]]);
        assert_eq!(next_writes(&mut pipeline).len(), 2);
        assert_eq!(next_writes(&mut pipeline), [Write::GetDelete { key: "b".into() }]);
        assert_eq!(next_writes(&mut pipeline), [set("b")]);
    }

    #[test]
    fn newer_writes_wait_until_every_server_knows_them() {
        let mut old = pipeline(&[&["SETNX", "a", "v"], &["SET", "a", "v", "NX"]]);
        old.commands_version = 1;
        let told = said(&mut old);
        assert_eq!(told.matches("a command of version 2 here").count(), 2, "{told}");
        resp::encode_request(old.input(), ["SET".into(), "a".into(), "v".into()]);
        assert_eq!(next_writes(&mut old), [set("a")]);

        let forwarded: &[_] = &["ONCE", "5f.9.0", "V2", "SETNX", "a", "v"];
        let mut old = pipeline(&[&[PEER, "2"], forwarded]);
        old.take_commands_up_to(1);
        assert!(said(&mut old).contains("a command of version 2 here"));
        let unknown: &[_] = &["ONCE", "5f.9.0", "V9", "SETNX", "a", "v"];
        assert!(said(&mut pipeline(&[&[PEER, "2"], unknown])).contains("SETNX of version 9"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_worked_on_or_refused(bytes in vec(any::<u8>(), 0..64)) {
            for before in [b"" as &[u8], b"*1\r\n", b"*2\r\n$3\r\nGET\r\n", b"*3\r\n$4\r\nONCE\r\n"] {
                let mut pipeline = pipeline(&[]);
                pipeline.input().extend_from_slice(before);
                pipeline.input().extend_from_slice(&bytes);
                while pipeline.next_work().is_some() {}
            }
        }
    }
}
