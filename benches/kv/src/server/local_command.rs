//! What a connection answers by itself: what clients say when they connect, and what tools ask
//! about a server.
//!
//! | client | says on connecting |
//! |---|---|
//! | redis-py 8.1 | `HELLO 3`, `CLIENT MAINT_NOTIFICATIONS`, `CLIENT SETINFO` twice |
//! | node-redis 6.3 | the same |
//! | ioredis 6.0 | `HELLO 3`, `CLIENT SETINFO` twice, `INFO` |
//! | the crate `redis` 1 | `CLIENT SETINFO` twice; `HELLO 3` if asked for |
//! | redis-cli | `COMMAND DOCS`; `HELLO 3` if asked for |
//! | redis-benchmark | `CONFIG GET` twice |
//!
//! All of them go on without what is refused here, as they do with a Redis that is older than they
//! are.

use bytes::Bytes;

use super::glob::{self, PATTERN_BYTES_MAX};
use super::operation::Operation;
use super::reply::Protocol;
use super::resp::{self, Frame, ProtocolError, error};
use super::write::wrong_number;

/// The most bytes of the name that a client gives to its connection.
pub const CLIENT_NAME_BYTES_MAX: usize = 256;

/// How a server introduces a connection on which it forwards.
pub const PEER: &str = "PEER";

/// What a client can ask for but an operator; COMMAND LIST tells it.
pub(super) const COMMANDS: [&str; 37] = [
    "APPEND",
    "CLIENT",
    "CLUSTER",
    "COMMAND",
    "CONFIG",
    "DBSIZE",
    "DECR",
    "DECRBY",
    "DEL",
    "ECHO",
    "EXISTS",
    "EXPIRETIME",
    "GET",
    "GETDEL",
    "GETSET",
    "HELLO",
    "INCR",
    "INCRBY",
    "INFO",
    "KEYS",
    "MGET",
    "MSET",
    "PEXPIRETIME",
    "PING",
    "PTTL",
    "QUIT",
    "READONLY",
    "READWRITE",
    "RESET",
    "SCAN",
    "SELECT",
    "SET",
    "SETNX",
    "STRLEN",
    "TTL",
    "TYPE",
    "UNLINK",
];

/// What a client with a password is told. It must not believe that one protects the server.
pub(super) const NO_PASSWORD: &str = "ERR AUTH called without any password configured: this server \
     knows no passwords, connect without one";

/// What CONFIG GET tells: what redis-benchmark asks for.
const SETTINGS: [(&str, &str); 2] = [("save", ""), ("appendonly", "yes")];

/// What a connection answers by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Local {
    /// The answer is known.
    Reply(Frame),
    /// The answer is known: names with values.
    Map(Vec<(Frame, Frame)>),
    /// `INFO`: about this server.
    Info,
    /// What an operator asks: this server answers, or names the leader.
    Operate(Operation),
    /// `HELLO`: the connection's protocol and name.
    Hello(Hello),
    /// `CLIENT SETNAME`: how the client calls its connection.
    SetName(Bytes),
    /// `CLIENT GETNAME`
    GetName,
    /// `CLIENT ID`
    Id,
    /// `RESET`: the connection is as new.
    Reset,
    /// `QUIT`: says OK and closes.
    Quit,
    /// `PEER`: from here on these are requests that another server forwards; they are not forwarded
    /// again.
    Peer,
    /// What came is no request at all: says so and closes.
    Broken(ProtocolError),
}

/// `HELLO [protocol [SETNAME name]]`
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Hello {
    /// What to speak from now on; as before if none.
    pub protocol: Option<Protocol>,
    /// The connection's name; as before if none.
    pub name: Option<Bytes>,
}

impl Local {
    /// What this command asks; none if it is none that a connection answers.
    pub(super) fn of_command(name: &[u8], words: &[Bytes]) -> Option<Self> {
        match Operation::parse(name, words) {
            None => {}
            Some(Ok(operation)) => return Some(Self::Operate(operation)),
            Some(Err(usage)) => return Some(Self::Reply(error(format!("ERR {usage}")))),
        }
        Some(match (name, words) {
            (b"PING", []) => Self::Reply(Frame::SimpleString(Bytes::from_static(b"PONG"))),
            (b"PING" | b"ECHO", [word]) => Self::Reply(Frame::BulkString(word.clone())),
            (b"INFO", _) => Self::Info,
            (b"QUIT", _) => Self::Quit,
            (b"RESET", []) => Self::Reset,
            (b"HELLO", _) => hello(words),
            (b"CLIENT", [subcommand, words @ ..]) => client(subcommand, words),
            (b"CONFIG", [subcommand, words @ ..]) => config(subcommand, words),
            (b"COMMAND", _) => command(words),
            (b"SELECT", [number]) if number == "0" => Self::Reply(resp::ok()),
            (b"SELECT", [_]) => {
                Self::Reply(error("ERR DB index is out of range: there is one database, 0"))
            }
            // Any server answers for all, so nothing is to be learnt about slots.
            (b"CLUSTER", [_, ..]) | (b"READONLY" | b"READWRITE", []) => {
                Self::Reply(error("ERR This instance has cluster support disabled"))
            }
            (name, _) if name == PEER.as_bytes() => Self::Peer,
            (
                b"PING" | b"ECHO" | b"RESET" | b"CLIENT" | b"CONFIG" | b"SELECT" | b"CLUSTER"
                | b"READONLY" | b"READWRITE",
                _,
            ) => Self::Reply(error(wrong_number(name))),
            _ => return None,
        })
    }
}

fn hello(words: &[Bytes]) -> Local {
    let refused = |text: &str| Local::Reply(error(text));
    let mut hello = Hello::default();
    let Some((version, mut options)) = words.split_first() else { return Local::Hello(hello) };
    hello.protocol = Protocol::of_version(version);
    if hello.protocol.is_none() {
        let is_number = version.iter().all(u8::is_ascii_digit);
        return refused(if is_number {
            "NOPROTO unsupported protocol version: there are 2 and 3"
        } else {
            "ERR Protocol version is not an integer or out of range"
        });
    }
    while let Some((option, rest)) = options.split_first() {
        options = match (option.to_ascii_uppercase().as_slice(), rest) {
            (b"AUTH", [_, _, ..]) => return refused(NO_PASSWORD),
            (b"SETNAME", [name, rest @ ..]) => match check_name(name) {
                Ok(()) => {
                    hello.name = Some(name.clone());
                    rest
                }
                Err(why) => return refused(&why),
            },
            _ => {
                let option = &option[..option.len().min(CLIENT_NAME_BYTES_MAX)];
                let option = option.escape_ascii();
                return refused(&format!("ERR Syntax error in HELLO option '{option}'"));
            }
        };
    }
    Local::Hello(hello)
}

fn client(subcommand: &Bytes, words: &[Bytes]) -> Local {
    match (subcommand.to_ascii_uppercase().as_slice(), words) {
        (b"SETINFO", [_, _]) | (b"NO-EVICT" | b"NO-TOUCH", [_]) => Local::Reply(resp::ok()),
        (b"SETNAME", [name]) => match check_name(name) {
            Ok(()) => Local::SetName(name.clone()),
            Err(why) => Local::Reply(error(why)),
        },
        (b"GETNAME", []) => Local::GetName,
        (b"ID", []) => Local::Id,
        (b"SETINFO" | b"NO-EVICT" | b"NO-TOUCH" | b"SETNAME" | b"GETNAME" | b"ID", _) => {
            Local::Reply(error(wrong_number(&[b"client|", subcommand.as_ref()].concat())))
        }
        _ => unknown_subcommand("CLIENT", subcommand),
    }
}

/// Redis has this rule so that lists of clients can be read.
fn check_name(name: &[u8]) -> Result<(), String> {
    if name.len() > CLIENT_NAME_BYTES_MAX {
        return Err(format!("ERR a client's name has at most {CLIENT_NAME_BYTES_MAX} bytes"));
    }
    if !name.iter().all(u8::is_ascii_graphic) {
        let text = "ERR Client names cannot contain spaces, newlines or special characters.";
        return Err(text.into());
    }
    Ok(())
}

fn config(subcommand: &Bytes, words: &[Bytes]) -> Local {
    match (subcommand.to_ascii_uppercase().as_slice(), words) {
        (b"GET", [_, ..]) => {
            let is_wanted = |name: &str| {
                let wanted = words.iter().filter(|word| word.len() <= PATTERN_BYTES_MAX);
                let mut wanted = wanted.map(|word| word.to_ascii_lowercase());
                wanted.any(|pattern| glob::matches(&pattern, name.as_bytes()))
            };
            let found = SETTINGS.into_iter().filter(|(name, _)| is_wanted(name));
            Local::Map(found.map(|(name, value)| (text(name), text(value))).collect())
        }
        (b"GET", []) => Local::Reply(error(wrong_number(b"config|get"))),
        (b"SET" | b"RESETSTAT" | b"REWRITE", _) => Local::Reply(error(
            "ERR settings cannot be changed while a server runs: see the flags of `kv serve`",
        )),
        _ => unknown_subcommand("CONFIG", subcommand),
    }
}

/// No command has documentation here: redis-cli then does without hints.
fn command(words: &[Bytes]) -> Local {
    let Some((subcommand, words)) = words.split_first() else {
        return Local::Reply(Frame::Array(Vec::new()));
    };
    match subcommand.to_ascii_uppercase().as_slice() {
        b"DOCS" => Local::Map(Vec::new()),
        b"COUNT" => Local::Reply(resp::integer(COMMANDS.len())),
        b"LIST" => {
            let names = COMMANDS.map(|name| Frame::BulkString(name.to_ascii_lowercase().into()));
            Local::Reply(Frame::Array(names.into()))
        }
        b"INFO" => Local::Reply(Frame::Array(vec![Frame::Null; words.len()])),
        _ => unknown_subcommand("COMMAND", subcommand),
    }
}

fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Local {
    let told = subcommand[..subcommand.len().min(CLIENT_NAME_BYTES_MAX)].escape_ascii();
    Local::Reply(error(format!("ERR unknown subcommand '{told}'. Try {command} HELP.")))
}

fn text(text: &'static str) -> Frame {
    Frame::BulkString(text.into())
}

/// What HELLO tells.
pub(super) fn about(protocol: Protocol, id: i64) -> Vec<(Frame, Frame)> {
    vec![
        (text("server"), text("kv")),
        (text("version"), text(env!("CARGO_PKG_VERSION"))),
        (text("proto"), Frame::Integer(protocol.version())),
        (text("id"), Frame::Integer(id)),
        // Each server answers for all: clients need not look for the leader.
        (text("mode"), text("standalone")),
        (text("role"), text("master")),
        (text("modules"), Frame::Array(Vec::new())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(words: &[&'static str]) -> Local {
        let words: Vec<_> = words.iter().map(|word| Bytes::from_static(word.as_bytes())).collect();
        Local::of_command(&words[0].to_ascii_uppercase(), &words[1..]).unwrap()
    }

    fn refused(words: &[&'static str]) -> String {
        let local = local(words);
        let Local::Reply(Frame::Error(text)) = local else { panic!("{words:?}: {local:?}") };
        text.to_string()
    }

    #[test]
    fn what_tools_say_on_connecting_is_answered() {
        for words in [
            &["COMMAND"] as &[_],
            &["COMMAND", "DOCS"],
            &["COMMAND", "COUNT"],
            &["COMMAND", "LIST"],
            &["COMMAND", "INFO", "get"],
            &["CONFIG", "GET", "save"],
            &["CONFIG", "GET", "*"],
            &["HELLO"],
            &["HELLO", "2"],
            &["HELLO", "3", "SETNAME", "me"],
            &["CLIENT", "SETNAME", "me"],
            &["CLIENT", "SETINFO", "LIB-NAME", "redis-cli"],
            &["client", "id"],
            &["CLIENT", "NO-EVICT", "on"],
            &["SELECT", "0"],
            &["PING"],
            &["INFO", "server"],
            &["RESET"],
            &["QUIT"],
        ] {
            let local = local(words);
            assert!(!matches!(local, Local::Reply(Frame::Error(_))), "{words:?}: {local:?}");
        }
    }

    #[test]
    fn hello_says_what_is_spoken() {
        let name = Some(Bytes::from_static(b"me"));
        for (words, protocol, name) in [
            (&["HELLO"] as &[_], None, None),
            (&["HELLO", "2"], Some(Protocol::Two), None),
            (&["hello", "3", "setname", "me"], Some(Protocol::Three), name),
        ] {
            assert_eq!(local(words), Local::Hello(Hello { protocol, name }));
        }
    }

    #[test]
    fn what_is_not_understood_on_connecting_is_refused_as_redis_does() {
        for (words, text) in [
            (&["HELLO", "4"] as &[_], "NOPROTO"),
            (&["HELLO", "x"], "ERR Protocol version is not an integer"),
            (&["HELLO", "3", "AUTH", "default", "secret"], "ERR AUTH called without any password"),
            (&["HELLO", "3", "AUTH"], "ERR Syntax error in HELLO option 'AUTH'"),
            (&["HELLO", "3", "SETNAME", "a b"], "ERR Client names cannot contain spaces"),
            (&["CLIENT", "SETNAME"], "ERR wrong number of arguments for 'client|setname' command"),
            (
                &["CLIENT", "MAINT_NOTIFICATIONS", "ON"],
                "ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.",
            ),
            (&["CONFIG", "SET", "save", ""], "ERR settings cannot be changed"),
            (&["SELECT", "1"], "ERR DB index is out of range"),
            (&["CLUSTER", "SLOTS"], "ERR This instance has cluster support disabled"),
        ] {
            let told = refused(words);
            assert!(told.starts_with(text), "{words:?}: {told}");
        }
    }

    #[test]
    fn settings_are_found_by_pattern() {
        let Local::Map(all) = local(&["CONFIG", "GET", "*"]) else { panic!("settings") };
        assert_eq!(all.len(), SETTINGS.len());
        let save = Local::Map(vec![(text("save"), text(""))]);
        assert_eq!(local(&["CONFIG", "GET", "SAVE", "none"]), save);
    }
}
