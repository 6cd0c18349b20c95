//! Changes of the store, and how they are written into the log.
//!
//! A write travels and is stored as a request, so the log can be read by a person, and forwarding
//! needs no second encoding:
//!
//! | in the log | version |
//! |---|---|
//! | `ONCE name SET key value`, `ONCE name DEL key…`, `ONCE name INCR key` | 1 |
//! | `ONCE name V2 SET key value [NX or XX] [GET]`, `… V2 SETNX key value` | 2 |
//! | `… V2 MSET key value…`, `… V2 GETDEL key`, `… V2 APPEND key value` | 2 |
//! | `… V2 INCRBY key number` | 2 |
//!
//! **A replica skips no command.** If one server skips what the others apply, the states differ for
//! good, and nobody notices. So what [`Write::decode`] does not know is no error of the client but
//! of this server, which [stops](raft_core::host::NotUnderstood) before it; it goes on there when a
//! newer version is started on the same data.
//!
//! **The rule for a new command**, or a new meaning of an old one: it gets the next version, and
//! its encoding begins with that. What was once encoded keeps its meaning, because logs hold it.
//! While servers are upgraded one after another, all take the commands of the version that is in
//! force; once all are upgraded, `kv raise` puts the newer one in force. If none was ever in force,
//! `--commands-version` of the older program does the same until all are restarted without it.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::resp::{self, encode_request};
use super::sessions::WriteName;

/// The newest version of commands that this program knows.
pub const COMMANDS_VERSION: u32 = 2;
/// What comes before a write when it travels: its name follows, then, if it is not of the first
/// version, that, then its words.
pub(super) const ONCE: &str = "ONCE";
/// The first version, which had no number.
const FIRST_VERSION: u32 = 1;
/// How many bytes of a command that is not known are told.
const TOLD_BYTES_MAX: usize = 32;

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
    /// `SET key value [NX or XX] [GET]`, with at least one of these; GETSET is `SET key value GET`.
    SetWith {
        /// The key.
        key: Bytes,
        /// What it shall hold.
        value: Bytes,
        /// Without one it is always set.
        condition: Option<Condition>,
        /// Whether the answer is the value before, and not whether it was set.
        returns_old: bool,
    },
    /// `SETNX key value`: as SET with NX, but answered with a number.
    SetNew {
        /// The key.
        key: Bytes,
        /// What it shall hold.
        value: Bytes,
    },
    /// `MSET key value…`
    SetMany {
        /// Keys and values; of a key that comes twice the last counts.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// `GETDEL key`
    GetDelete {
        /// The key.
        key: Bytes,
    },
    /// `APPEND key value`
    Append {
        /// The key.
        key: Bytes,
        /// What comes after what it holds.
        value: Bytes,
    },
    /// `INCRBY key number`; DECR and DECRBY are that, too.
    IncrementBy {
        /// The key.
        key: Bytes,
        /// What is added.
        by: i64,
    },
}

/// When SET sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// `NX`: if the key holds nothing.
    IsNew,
    /// `XX`: if the key holds something.
    Exists,
}

/// A write that this version of the program does not know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownWrite {
    /// Its version and name, as far as they can be read.
    what: Option<(u32, String)>,
}

impl Write {
    /// The version in which this command came.
    pub fn version(&self) -> u32 {
        match self {
            Self::Set { .. } | Self::Delete { .. } | Self::Increment { .. } => FIRST_VERSION,
            Self::SetWith { .. }
            | Self::SetNew { .. }
            | Self::SetMany { .. }
            | Self::GetDelete { .. }
            | Self::Append { .. }
            | Self::IncrementBy { .. } => 2,
        }
    }

    /// Whether the answer may be as long as a value.
    pub fn returns_value(&self) -> bool {
        match self {
            Self::SetWith { returns_old, .. } => *returns_old,
            Self::GetDelete { .. } => true,
            Self::Set { .. }
            | Self::Delete { .. }
            | Self::Increment { .. }
            | Self::SetNew { .. }
            | Self::SetMany { .. }
            | Self::Append { .. }
            | Self::IncrementBy { .. } => false,
        }
    }

    /// The name of the command, as it is in the log.
    pub fn command(&self) -> &'static str {
        match self {
            Self::Set { .. } | Self::SetWith { .. } => "SET",
            Self::Delete { .. } => "DEL",
            Self::Increment { .. } => "INCR",
            Self::SetNew { .. } => "SETNX",
            Self::SetMany { .. } => "MSET",
            Self::GetDelete { .. } => "GETDEL",
            Self::Append { .. } => "APPEND",
            Self::IncrementBy { .. } => "INCRBY",
        }
    }

    /// The request by which this write travels.
    pub fn encode(&self, name: WriteName) -> Bytes {
        let mut out = BytesMut::new();
        let mut words = vec![Bytes::from_static(ONCE.as_bytes()), name.to_string().into()];
        if self.version() > FIRST_VERSION {
            words.push(format!("V{}", self.version()).into());
        }
        words.push(Bytes::from_static(self.command().as_bytes()));
        self.push_arguments(&mut words);
        encode_request(&mut out, words);
        out.freeze()
    }

    fn push_arguments(&self, words: &mut Vec<Bytes>) {
        match self {
            Self::Set { key, value }
            | Self::SetNew { key, value }
            | Self::Append { key, value } => {
                words.extend([key.clone(), value.clone()]);
            }
            Self::SetWith { key, value, condition, returns_old } => {
                words.extend([key.clone(), value.clone()]);
                words.extend(condition.map(|condition| condition.word().into()));
                words.extend(returns_old.then(|| Bytes::from_static(b"GET")));
            }
            Self::Delete { keys } => words.extend(keys.iter().cloned()),
            Self::Increment { key } | Self::GetDelete { key } => words.push(key.clone()),
            Self::SetMany { pairs } => {
                words.extend(pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]));
            }
            Self::IncrementBy { key, by } => words.extend([key.clone(), by.to_string().into()]),
        }
    }

    /// The write that was encoded so.
    ///
    /// # Errors
    ///
    /// It is none that this version knows: a server whose log has it must stop.
    pub fn decode(command: &[u8]) -> Result<(WriteName, Self), UnknownWrite> {
        match resp::words(command) {
            // Copies, so that a value does not keep the piece of the log that brought it.
            Some(words) if words.first() == Some(&ONCE.as_bytes()) => {
                Self::of_words(&words, |word| Bytes::copy_from_slice(word))
            }
            _ => Err(UnknownWrite { what: None }),
        }
    }

    /// The write of these words, of which the first is ONCE. `argument` makes an argument of a
    /// word.
    pub(super) fn of_words<W: AsRef<[u8]>>(
        words: &[W],
        argument: impl Fn(&W) -> Bytes,
    ) -> Result<(WriteName, Self), UnknownWrite> {
        let text = |at: usize| std::str::from_utf8(words.get(at)?.as_ref()).ok();
        let name = text(1).and_then(|name| name.parse().ok());
        let version = text(2).and_then(|word| word.strip_prefix('V')?.parse().ok());
        let command_at = if version.is_some() { 3 } else { 2 };
        let version = version.unwrap_or(FIRST_VERSION);
        let (Some(name), Some(command)) = (name, words.get(command_at)) else {
            return Err(UnknownWrite { what: None });
        };
        let command = command.as_ref();
        let arguments = words[command_at + 1..].iter().map(argument).collect();
        match Self::of_command(command, arguments) {
            Some(Ok(write)) if write.version() == version => Ok((name, write)),
            _ => {
                let told = &command[..command.len().min(TOLD_BYTES_MAX)];
                Err(UnknownWrite { what: Some((version, told.escape_ascii().to_string())) })
            }
        }
    }

    /// The write that this command is with these arguments; none if there is no write of this name.
    /// An error is what a client is told.
    pub(super) fn of_command(command: &[u8], words: Vec<Bytes>) -> Option<Result<Self, String>> {
        let count = words.len();
        let mut words = words.into_iter();
        let mut next = || words.next().unwrap_or_default();
        Some(Ok(match (command, count) {
            (b"SET", 2) => Self::Set { key: next(), value: next() },
            (b"SET", 3..) => {
                let (key, value) = (next(), next());
                return Some(set_with(key, value, words));
            }
            (b"GETSET", 2) => {
                let (key, value) = (next(), next());
                Self::SetWith { key, value, condition: None, returns_old: true }
            }
            (b"SETNX", 2) => Self::SetNew { key: next(), value: next() },
            (b"MSET", 2..) if count.is_multiple_of(2) => {
                Self::SetMany { pairs: (0..count / 2).map(|_| (next(), next())).collect() }
            }
            (b"APPEND", 2) => Self::Append { key: next(), value: next() },
            (b"GETDEL", 1) => Self::GetDelete { key: next() },
            (b"DEL" | b"UNLINK", 1..) => Self::Delete { keys: words.collect() },
            (b"INCR", 1) => Self::Increment { key: next() },
            (b"DECR", 1) => Self::IncrementBy { key: next(), by: -1 },
            (b"INCRBY" | b"DECRBY", 2) => {
                let (key, by) = (next(), next());
                let Some(by) = number(&by) else { return Some(Err(NO_INTEGER.into())) };
                let by = if command == b"INCRBY" { Some(by) } else { by.checked_neg() };
                let Some(by) = by else { return Some(Err("ERR decrement would overflow".into())) };
                Self::IncrementBy { key, by }
            }
            (
                b"SET" | b"GETSET" | b"SETNX" | b"MSET" | b"APPEND" | b"GETDEL" | b"DEL"
                | b"UNLINK" | b"INCR" | b"DECR" | b"INCRBY" | b"DECRBY",
                _,
            ) => {
                return Some(Err(wrong_number(command)));
            }
            _ => return None,
        }))
    }
}

/// What a client is told if a word is no number.
pub(super) const NO_INTEGER: &str = "ERR value is not an integer or out of range";

/// Why nothing expires.
pub(super) const NO_CLOCK: &str = "ERR keys do not expire here: each server would need the same \
     clock to drop them at the same place of the log; delete them with DEL";

/// What a client is told if a command has too few or too many arguments.
pub(super) fn wrong_number(command: &[u8]) -> String {
    let command = command.to_ascii_lowercase();
    format!("ERR wrong number of arguments for '{}' command", command.escape_ascii())
}

/// A value as a number, if it is written the one way in which INCR writes it.
pub(super) fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

/// SET with these options.
fn set_with(
    key: Bytes,
    value: Bytes,
    options: impl Iterator<Item = Bytes>,
) -> Result<Write, String> {
    let (mut condition, mut returns_old) = (None, false);
    for option in options {
        let wanted = match option.to_ascii_uppercase().as_slice() {
            b"NX" => Condition::IsNew,
            b"XX" => Condition::Exists,
            b"GET" => {
                returns_old = true;
                continue;
            }
            // No key has a time to live that could be lost.
            b"KEEPTTL" => continue,
            b"EX" | b"PX" | b"EXAT" | b"PXAT" => return Err(NO_CLOCK.into()),
            _ => return Err("ERR syntax error".into()),
        };
        if condition.is_some_and(|condition| condition != wanted) {
            return Err("ERR syntax error".into());
        }
        condition = Some(wanted);
    }
    if condition.is_none() && !returns_old {
        return Ok(Write::Set { key, value });
    }
    Ok(Write::SetWith { key, value, condition, returns_old })
}

impl Condition {
    fn word(self) -> &'static str {
        match self {
            Self::IsNew => "NX",
            Self::Exists => "XX",
        }
    }
}

impl fmt::Display for UnknownWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Some((version, command)) => write!(f, "{command} of version {version}")?,
            None => f.write_str("what is no command of kv")?,
        }
        write!(
            f,
            " is unknown to this program, which knows commands up to version {COMMANDS_VERSION}"
        )
    }
}

impl std::error::Error for UnknownWrite {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::resp::REQUEST_WORDS_MAX;

    fn name() -> WriteName {
        "5f.9.0".parse().unwrap()
    }

    fn entry(words: &[&'static str]) -> Bytes {
        let mut out = BytesMut::new();
        encode_request(&mut out, words.iter().map(|word| Bytes::from_static(word.as_bytes())));
        out.freeze()
    }

    fn every_write() -> Vec<Write> {
        let key = || Bytes::from_static(b"a\r\nb");
        let mut writes = vec![
            Write::Set { key: key(), value: Bytes::new() },
            Write::Delete { keys: vec!["a".into(); REQUEST_WORDS_MAX - 1] },
            Write::Increment { key: "n".into() },
            Write::SetNew { key: key(), value: "V2".into() },
            Write::SetMany { pairs: vec![(key(), "v".into()); (REQUEST_WORDS_MAX - 1) / 2] },
            Write::GetDelete { key: key() },
            Write::Append { key: key(), value: "v".into() },
            Write::IncrementBy { key: key(), by: i64::MIN },
        ];
        for condition in [None, Some(Condition::IsNew), Some(Condition::Exists)] {
            for returns_old in [true, false] {
                let (key, value) = (key(), "GET".into());
                writes.push(Write::SetWith { key, value, condition, returns_old });
            }
        }
        // That is SET.
        writes.retain(|write| {
            !matches!(write, Write::SetWith { condition: None, returns_old: false, .. })
        });
        writes
    }

    #[test]
    fn writes_survive_their_encoding() {
        for write in every_write() {
            assert_eq!(Write::decode(&write.encode(name())), Ok((name(), write)));
        }
    }

    /// These bytes are in the logs of earlier versions. They must never change.
    #[test]
    fn what_earlier_versions_wrote_is_read() {
        let set = Write::Set { key: "k".into(), value: "v".into() };
        let delete = Write::Delete { keys: vec!["a".into(), "b".into()] };
        let increment = Write::Increment { key: "n".into() };
        let by = Write::IncrementBy { key: "n".into(), by: -7 };
        for (write, words) in [
            (set, "*5 $4 ONCE $20 000000000000005f.9.0 $3 SET $1 k $1 v "),
            (delete, "*5 $4 ONCE $20 000000000000005f.9.0 $3 DEL $1 a $1 b "),
            (increment, "*4 $4 ONCE $20 000000000000005f.9.0 $4 INCR $1 n "),
            (by, "*6 $4 ONCE $20 000000000000005f.9.0 $2 V2 $6 INCRBY $1 n $2 -7 "),
        ] {
            let bytes = words.replace(' ', "\r\n");
            assert_eq!(write.encode(name()), bytes);
            assert_eq!(Write::decode(bytes.as_bytes()), Ok((name(), write)));
        }
    }

    #[test]
    fn what_is_not_known_is_told_with_its_version() {
        let known = format!("knows commands up to version {COMMANDS_VERSION}");
        for (words, what) in [
            (vec!["ONCE", "5f.9.0", "V3", "HSET", "h", "f", "v"], "HSET of version 3"),
            (vec!["ONCE", "5f.9.0", "V3", "SET", "k", "v", "NX"], "SET of version 3"),
            (vec!["ONCE", "5f.9.0", "V2", "HSET", "h", "f", "v"], "HSET of version 2"),
            (vec!["ONCE", "5f.9.0", "SETNX", "k", "v"], "SETNX of version 1"),
            (vec!["ONCE", "5f.9.0", "V2", "SET", "k", "v"], "SET of version 2"),
            (vec!["ONCE", "5f.9.0", "INCR"], "INCR of version 1"),
            (vec!["ONCE", "5f.9.0", "ONCE"], "ONCE of version 1"),
            (vec!["ONCE", "5f.9.0", "V3"], "no command of kv"),
            (vec!["ONCE", "bad", "INCR", "n"], "no command of kv"),
            (vec!["INCR", "n"], "no command of kv"),
            (vec!["DBSIZE"], "no command of kv"),
            (vec![], "no command of kv"),
        ] {
            let unknown = Write::decode(&entry(&words)).unwrap_err().to_string();
            assert!(unknown.contains(what) && unknown.contains(&known), "{words:?}: {unknown}");
        }
        for junk in ["", "junk", "*1\r\n:1\r\n"] {
            assert!(Write::decode(junk.as_bytes()).is_err(), "{junk}");
        }
    }

    #[test]
    fn each_write_is_named_as_in_the_log_and_no_version_is_ahead_of_the_program() {
        for write in every_write() {
            assert!(write.version() <= COMMANDS_VERSION);
            let encoded = write.encode(name());
            assert!(
                encoded.windows(write.command().len()).any(|at| at == write.command().as_bytes())
            );
        }
    }
}
