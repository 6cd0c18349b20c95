//! What clients can ask: the words of a request become a [`Write`] for the log, a [`Read`] of the
//! store, or something that [the connection answers by itself](Local). Names, arguments and errors
//! are those of Redis, so that its clients understand them.

use bytes::Bytes;

use super::local_command::NO_PASSWORD;
use super::resp::{Frame, error};
use super::sessions::WriteName;
use super::write::{NO_CLOCK, ONCE};

pub use super::local_command::{Hello, Local, PEER};
pub use super::read::Read;
pub use super::write::{Condition, Write};

/// How many bytes of an unknown command are told, and how many of its arguments.
const TOLD_BYTES_MAX: usize = 128;

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
        let Some(first) = words.first() else { return refusal("ERR empty request") };
        let name = first.to_ascii_uppercase();
        if name == ONCE.as_bytes() {
            return match Write::of_words(&words, Bytes::clone) {
                Ok((name, write)) => Self::NamedWrite(name, write),
                Err(unknown) => refusal(format!("ERR {unknown}; nothing was changed")),
            };
        }
        let spelled = words.remove(0);
        Self::of_words(&name, &spelled, words)
    }

    /// `spelled` is the name as the client wrote it.
    fn of_words(name: &[u8], spelled: &[u8], mut words: Vec<Bytes>) -> Self {
        if let Some(read) = Read::of_command(name, &mut words) {
            return read.map_or_else(refusal, Self::Read);
        }
        if let Some(local) = Local::of_command(name, &words) {
            return Self::Local(local);
        }
        if let Some(reason) = why_not(name) {
            return refusal(reason);
        }
        let unknown = unknown_command(spelled, &words);
        match Write::of_command(name, words) {
            Some(Ok(write)) => Self::Write(write),
            Some(Err(refused)) => refusal(refused),
            None => refusal(unknown),
        }
    }
}

/// Why this server does not have a command that clients of Redis may expect.
fn why_not(name: &[u8]) -> Option<&'static str> {
    Some(match name {
        b"SETEX" | b"PSETEX" | b"GETEX" | b"EXPIRE" | b"PEXPIRE" | b"EXPIREAT" | b"PEXPIREAT" => {
            NO_CLOCK
        }
        b"MULTI" | b"EXEC" | b"DISCARD" | b"WATCH" | b"UNWATCH" => {
            "ERR there are no transactions here: each command is atomic, and MSET is one command; pipelines of a client \
             work without them"
        }
        b"AUTH" => NO_PASSWORD,
        _ => return None,
    })
}

/// What Redis answers to a command that it does not have.
fn unknown_command(name: &[u8], words: &[Bytes]) -> String {
    let told = |word: &[u8], bytes_max| {
        String::from_utf8_lossy(&word[..word.len().min(bytes_max)]).into_owned()
    };
    let mut text =
        format!("ERR unknown command '{}', with args beginning with: ", told(name, TOLD_BYTES_MAX));
    let mut bytes_left = TOLD_BYTES_MAX;
    for word in words {
        if bytes_left == 0 {
            break;
        }
        text += &format!("'{}' ", told(word, bytes_left));
        bytes_left = bytes_left.saturating_sub(word.len() + "'' ".len());
    }
    text
}

fn refusal(text: impl AsRef<str>) -> Request {
    Request::Local(Local::Reply(error(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::local_command::COMMANDS;
    use crate::server::resp::Decoder;

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

    fn written(words: &[&'static str]) -> Write {
        let request = parse(words);
        let Request::Write(write) = request else { panic!("{words:?} is {request:?}") };
        write
    }

    #[test]
    fn names_are_read_in_any_case() {
        let get = Request::Read(Read::Get { key: "k".into() });
        assert_eq!(parse(&["get", "k"]), get);
        assert_eq!(parse(&["GeT", "k"]), get);
    }

    #[test]
    fn refusals_are_those_of_redis_or_say_why() {
        for (words, refusal) in [
            (&["GET"] as &[_], "ERR wrong number of arguments for 'get' command"),
            (&["set", "k"], "ERR wrong number of arguments for 'set' command"),
            (&["MSET", "k"], "ERR wrong number of arguments for 'mset' command"),
            (&["MSET", "k", "v", "l"], "ERR wrong number of arguments for 'mset' command"),
            (&["DEL"], "ERR wrong number of arguments for 'del' command"),
            (&["ECHO"], "ERR wrong number of arguments for 'echo' command"),
            (&["SET", "k", "v", "NX", "XX"], "ERR syntax error"),
            (&["SET", "k", "v", "ALWAYS"], "ERR syntax error"),
            (&["SET", "k", "v", "EX", "10"], "ERR keys do not expire here"),
            (&["SET", "k", "v", "nx", "px", "10"], "ERR keys do not expire here"),
            (&["SETEX", "k", "10", "v"], "ERR keys do not expire here"),
            (&["EXPIRE", "k", "10"], "ERR keys do not expire here"),
            (&["MULTI"], "ERR there are no transactions here"),
            (&["AUTH", "secret"], "ERR AUTH called without any password configured"),
            (&["INCRBY", "n", "x"], "ERR value is not an integer or out of range"),
            (&["INCRBY", "n", "+1"], "ERR value is not an integer or out of range"),
            (&["DECRBY", "n", "-9223372036854775808"], "ERR decrement would overflow"),
            (&["SCAN", "x"], "ERR invalid cursor"),
            (&["SCAN", "0", "COUNT"], "ERR syntax error"),
            (&["SCAN", "0", "COUNT", "0"], "ERR syntax error"),
            (&["SCAN", "0", "COUNT", "x"], "ERR value is not an integer or out of range"),
            (&["SCAN", "0", "TYPE", "list"], "ERR unknown type name"),
            (
                &["lpush", "l", "1"],
                "ERR unknown command 'lpush', with args beginning with: 'l' '1' ",
            ),
            (&["LPOP"], "ERR unknown command 'LPOP', with args beginning with: "),
        ] {
            let told = refused(words);
            assert!(told.starts_with(refusal), "{words:?}: {told}");
        }
    }

    #[test]
    fn an_unknown_command_is_told_in_short() {
        let long = "x".repeat(100_000).leak();
        let told = refused(&[long, long, long]);
        assert!(told.len() < 3 * TOLD_BYTES_MAX, "{}", told.len());
    }

    #[test]
    fn a_pattern_is_bounded() {
        let long = "*".repeat(257).leak();
        assert!(refused(&["KEYS", long]).contains("at most 256 bytes"));
        assert!(refused(&["SCAN", "0", "MATCH", long]).contains("at most 256 bytes"));
    }

    #[test]
    fn different_spellings_are_one_write() {
        let by = |by| Write::IncrementBy { key: "n".into(), by };
        assert_eq!(written(&["DECR", "n"]), by(-1));
        assert_eq!(written(&["INCRBY", "n", "5"]), by(5));
        assert_eq!(written(&["decrby", "n", "-5"]), by(5));
        assert_eq!(written(&["UNLINK", "a"]), written(&["DEL", "a"]));
        let set = written(&["SET", "k", "v"]);
        assert_eq!(written(&["SET", "k", "v", "KEEPTTL"]), set);
        assert_eq!(written(&["GETSET", "k", "v"]), written(&["SET", "k", "v", "get"]));
        let new = written(&["SET", "k", "v", "NX", "GET", "nx"]);
        assert_eq!(written(&["SET", "k", "v", "get", "Nx"]), new);
        assert_ne!(written(&["SET", "k", "v", "XX", "GET"]), new);
    }

    #[test]
    fn reads_survive_their_encoding() {
        let key = || Bytes::from_static(b"k");
        for read in [
            Read::Get { key: key() },
            Read::GetMany { keys: vec![key(), key()] },
            Read::Exists { keys: vec![key()] },
            Read::Size,
            Read::Length { key: key() },
            Read::Type { key: key() },
            Read::TimeToLive { key: key() },
            Read::Scan { cursor: u64::MAX, pattern: "a*".into(), count: 7 },
            Read::Keys { pattern: "a*".into() },
        ] {
            let mut decoder = Decoder::of_requests();
            read.encode(&mut decoder.buffer);
            let frame = decoder.decode().unwrap().unwrap();
            assert_eq!(Request::parse(frame), Request::Read(read));
        }
    }

    #[test]
    fn each_command_that_is_listed_is_known() {
        for name in COMMANDS {
            for arguments in 0..4 {
                let words = std::iter::once(name).chain(std::iter::repeat_n("1", arguments));
                let request = parse(&words.collect::<Vec<_>>());
                if let Request::Local(Local::Reply(Frame::Error(text))) = request {
                    assert!(!text.contains("unknown command"), "{text}");
                }
            }
        }
    }
}
