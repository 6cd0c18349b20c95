//! What clients can ask: the words of a request become a [`Write`] for the log, a [`Read`] of the store, or something that
//! [the connection answers by itself](Local).
//!
//! A write travels and is stored as a request too, `ONCE name SET key value`, so the log can be read by a person, and forwarding
//! needs no second encoding.

use bytes::{Bytes, BytesMut};

use super::once::WriteName;
use super::operation::Operation;
use super::resp::{self, Decoder, Frame, ProtocolError, encode_request, error};

/// One request of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Changes the store: goes through the log.
    Write(Write),
    /// A change that another server has named, and forwards.
    NamedWrite(WriteName, Write),
    /// Looks at the store: linearizable, through the leader.
    Read(Read),
    /// Needs neither.
    Local(Local),
}

/// A change of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// `SET key value`
    Set {
        /// The key.
        key: Bytes,
        /// What it shall hold.
        value: Bytes,
    },
    /// `DEL key…`
    Delete {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// `INCR key`
    Increment {
        /// The key.
        key: Bytes,
    },
}

/// A look at the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    /// `GET key`
    Get {
        /// The key.
        key: Bytes,
    },
    /// `MGET key…`
    GetMany {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// `EXISTS key…`
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// `DBSIZE`
    Size,
}

/// What a connection answers by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Local {
    /// The answer is known.
    Reply(Frame),
    /// `INFO`: about this server.
    Info,
    /// What an operator asks: this server answers, or says who does.
    Operate(Operation),
    /// `QUIT`: says OK and closes.
    Quit,
    /// `PEER`: from here on these are requests that another server forwards; they are not forwarded again.
    Peer,
    /// What came is no request at all: says so and closes.
    Broken(ProtocolError),
}

/// How a server introduces a connection on which it forwards.
pub const PEER: &str = "PEER";
/// What comes before a write when it travels: its name follows, then the write's own words.
const ONCE: &str = "ONCE";

impl Request {
    /// What a decoded frame asks; a refusal is a [`Local::Reply`].
    pub fn parse(frame: Frame) -> Self {
        let Frame::Array(elements) = frame else {
            return refusal("ERR Protocol error: a request is an array of bulk strings");
        };
        let mut words = Vec::with_capacity(elements.len());
        for element in elements {
            let Frame::BulkString(word) = element else {
                return refusal("ERR Protocol error: a request is an array of bulk strings");
            };
            words.push(word);
        }
        if words.is_empty() {
            return refusal("ERR empty request");
        }
        let name = words.remove(0).to_ascii_uppercase();
        Self::of_words(&name, words)
    }

    fn of_words(name: &[u8], mut words: Vec<Bytes>) -> Self {
        if name == ONCE.as_bytes() {
            return Self::named(words);
        }
        if !takes(name, words.len()) {
            let name = name.escape_ascii();
            return refusal(format!("ERR wrong number of arguments for '{name}'"));
        }
        match (name, words.len()) {
            (b"GET", _) => Self::Read(Read::Get { key: words.swap_remove(0) }),
            (b"SET", 2) => {
                let value = words.swap_remove(1);
                Self::Write(Write::Set { key: words.swap_remove(0), value })
            }
            (b"SET", _) => refusal("ERR SET takes a key and a value: options are not supported"),
            (b"DEL", _) => Self::Write(Write::Delete { keys: words }),
            (b"INCR", _) => Self::Write(Write::Increment { key: words.swap_remove(0) }),
            (b"MGET", _) => Self::Read(Read::GetMany { keys: words }),
            (b"EXISTS", _) => Self::Read(Read::Exists { keys: words }),
            (b"DBSIZE", _) => Self::Read(Read::Size),
            _ => Self::Local(Local::of_words(name, words)),
        }
    }

    /// The words after ONCE: the name of a write, and the write.
    fn named(mut words: Vec<Bytes>) -> Self {
        let mistake = || refusal("ERR ONCE takes the name of a write, and the write");
        if words.len() < 2 {
            return mistake();
        }
        let write = words.split_off(2);
        let name = std::str::from_utf8(&words[0]).ok().and_then(|name| name.parse().ok());
        match (name, words[1].as_ref()) {
            (Some(name), command @ (b"SET" | b"DEL" | b"INCR")) => {
                match Self::of_words(command, write) {
                    Self::Write(write) => Self::NamedWrite(name, write),
                    other @ (Self::NamedWrite(..) | Self::Read(_) | Self::Local(_)) => other,
                }
            }
            _ => mistake(),
        }
    }
}

/// Whether the command of this name takes that many arguments.
fn takes(name: &[u8], arguments: usize) -> bool {
    match name {
        b"DBSIZE" => arguments == 0,
        b"GET" | b"INCR" | b"ECHO" | b"SELECT" => arguments == 1,
        b"DEL" | b"MGET" | b"EXISTS" | b"CONFIG" | b"CLIENT" => arguments >= 1,
        b"SET" => arguments >= 2,
        b"PING" => arguments <= 1,
        _ => true,
    }
}

impl Local {
    fn of_words(name: &[u8], mut words: Vec<Bytes>) -> Self {
        match Operation::parse(name, &words) {
            None => {}
            Some(Ok(operation)) => return Self::Operate(operation),
            Some(Err(usage)) => return Self::Reply(error(format!("ERR {usage}"))),
        }
        let option = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        match (name, option.as_slice(), words.len()) {
            (b"PING", _, 0) => Self::Reply(Frame::SimpleString(Bytes::from_static(b"PONG"))),
            (b"PING" | b"ECHO", _, 1) => Self::Reply(Frame::BulkString(words.swap_remove(0))),
            (b"INFO", ..) => Self::Info,
            (b"QUIT", ..) => Self::Quit,
            (name, ..) if name == PEER.as_bytes() => Self::Peer,
            (b"SELECT", b"0", 1) => Self::Reply(resp::ok()),
            (b"SELECT", ..) => Self::Reply(error("ERR there is one database: 0")),
            (b"HELLO", b"" | b"2", 0 | 1) => Self::Reply(hello()),
            (b"HELLO", ..) => Self::Reply(error(
                "NOPROTO this server speaks RESP2 without authentication: HELLO 2",
            )),
            (b"CLIENT", b"SETNAME" | b"SETINFO", _) => Self::Reply(resp::ok()),
            (b"CLIENT", b"GETNAME", _) => Self::Reply(Frame::Null),
            // No command has documentation here: redis-cli then does without hints.
            (b"COMMAND", b"COUNT", _) => Self::Reply(Frame::Integer(0)),
            (b"COMMAND", ..) => Self::Reply(Frame::Array(Vec::new())),
            (b"CONFIG", b"GET", 2) => Self::Reply(config(words.swap_remove(1))),
            (b"CONFIG" | b"CLIENT", ..) => {
                let name = name.escape_ascii();
                Self::Reply(error(format!("ERR unsupported subcommand of '{name}'")))
            }
            _ => {
                let name = name.escape_ascii();
                Self::Reply(error(format!(
                    "ERR unknown command '{name}': there are GET, SET, DEL, INCR, MGET, EXISTS, DBSIZE, \
                     PING, ECHO, INFO, and for operators MEMBERS, STATUS, ADD, PROMOTE, REMOVE, TRANSFER and SNAPSHOT"
                )))
            }
        }
    }
}

impl Write {
    /// The request by which this write travels.
    pub fn encode(&self, name: WriteName) -> Bytes {
        let mut out = BytesMut::new();
        let mut once = |words: &[Bytes]| {
            let before = [ONCE.into(), name.to_string().into()];
            encode_request(&mut out, before.into_iter().chain(words.iter().cloned()));
        };
        match self {
            Self::Set { key, value } => once(&["SET".into(), key.clone(), value.clone()]),
            Self::Delete { keys } => once(&named("DEL", keys).collect::<Vec<_>>()),
            Self::Increment { key } => once(&["INCR".into(), key.clone()]),
        }
        out.freeze()
    }

    /// The write that was encoded so; `None` if these bytes are none.
    pub fn decode(command: Bytes) -> Option<(WriteName, Self)> {
        let mut decoder = Decoder::of_writes();
        decoder.buffer = BytesMut::from(command);
        match Request::parse(decoder.decode().ok()??) {
            Request::NamedWrite(name, write) => Some((name, write)),
            Request::Write(_) | Request::Read(_) | Request::Local(_) => None,
        }
    }
}

impl Read {
    /// Appends the request that asks for this.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Get { key } => encode_request(out, ["GET".into(), key.clone()]),
            Self::GetMany { keys } => encode_request(out, named("MGET", keys)),
            Self::Exists { keys } => encode_request(out, named("EXISTS", keys)),
            Self::Size => encode_request(out, ["DBSIZE".into()]),
        }
    }
}

fn named<'a>(name: &'static str, keys: &'a [Bytes]) -> impl Iterator<Item = Bytes> + 'a {
    std::iter::once(Bytes::from_static(name.as_bytes())).chain(keys.iter().cloned())
}

fn refusal(text: impl AsRef<str>) -> Request {
    Request::Local(Local::Reply(error(text)))
}

/// What HELLO tells: names and values in turn.
fn hello() -> Frame {
    let text = |text: &'static str| Frame::BulkString(text.into());
    Frame::Array(vec![
        text("server"),
        text("kv"),
        text("version"),
        text(env!("CARGO_PKG_VERSION")),
        text("proto"),
        Frame::Integer(2),
        text("mode"),
        text("standalone"),
        text("role"),
        text("master"),
    ])
}

/// What CONFIG GET tells of the two settings that redis-benchmark asks for.
fn config(name: Bytes) -> Frame {
    let value = match name.to_ascii_lowercase().as_slice() {
        b"save" => "",
        b"appendonly" => "yes",
        _ => return Frame::Array(Vec::new()),
    };
    Frame::Array(vec![Frame::BulkString(name), Frame::BulkString(value.into())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::resp::REQUEST_WORDS_MAX;

    fn parse(words: &[&'static str]) -> Request {
        Request::parse(Frame::Array(
            words.iter().map(|word| Frame::BulkString((*word).into())).collect(),
        ))
    }

    fn refused(words: &[&'static str]) -> String {
        let request = parse(words);
        let Request::Local(Local::Reply(Frame::Error(text))) = request else {
            panic!("{words:?} was not refused but {request:?}");
        };
        text.to_string()
    }

    #[test]
    fn names_are_read_in_any_case() {
        let get = Request::Read(Read::Get { key: "k".into() });
        assert_eq!(parse(&["get", "k"]), get);
        assert_eq!(parse(&["GeT", "k"]), get);
    }

    #[test]
    fn writes_survive_their_encoding() {
        let name: WriteName = "5f.9.0".parse().unwrap();
        let set = Write::Set { key: "a\r\nb".into(), value: Bytes::new() };
        let keys = vec!["a".into(); REQUEST_WORDS_MAX - 1];
        for write in [set, Write::Delete { keys }, Write::Increment { key: "n".into() }] {
            assert_eq!(Write::decode(write.encode(name)), Some((name, write)));
        }
        for junk in [
            "",
            "*1\r\n$6\r\nDBSIZE\r\n",
            "*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n",
            "*2\r\n$4\r\nONCE\r\n$6\r\n5f.9.0\r\n",
            "*3\r\n$4\r\nONCE\r\n$6\r\n5f.9.0\r\n$6\r\nDBSIZE\r\n",
            "*3\r\n$4\r\nONCE\r\n$6\r\n5f.9.0\r\n$4\r\nONCE\r\n",
        ] {
            assert_eq!(Write::decode(junk.into()), None, "{junk}");
        }
    }

    #[test]
    fn refusals_say_what_works() {
        assert!(refused(&["SET", "k", "v", "EX", "10"]).contains("options are not supported"));
        assert!(refused(&["GET"]).contains("wrong number of arguments for 'GET'"));
        assert!(refused(&["LPUSH", "l", "1"]).starts_with("ERR unknown command 'LPUSH'"));
        assert!(refused(&["SELECT", "1"]).contains("one database"));
        assert!(refused(&["HELLO", "3"]).starts_with("NOPROTO"));
        assert!(refused(&["ECHO"]).contains("wrong number of arguments"));
    }

    #[test]
    fn what_tools_say_on_connecting_is_answered() {
        let answered = |words: &[&'static str]| {
            let Request::Local(local) = parse(words) else { panic!("{words:?} is not local") };
            assert!(!matches!(local, Local::Reply(Frame::Error(_))), "{words:?}: {local:?}");
        };
        answered(&["COMMAND"]);
        answered(&["COMMAND", "DOCS"]);
        answered(&["CONFIG", "GET", "save"]);
        answered(&["CONFIG", "GET", "appendonly"]);
        answered(&["HELLO"]);
        answered(&["HELLO", "2"]);
        answered(&["CLIENT", "SETNAME", "me"]);
        answered(&["CLIENT", "SETINFO", "LIB-NAME", "redis-cli"]);
        answered(&["SELECT", "0"]);
        answered(&["PING"]);
        answered(&["QUIT"]);
    }
}
