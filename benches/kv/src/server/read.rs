//! Looks at the store.

use bytes::{Bytes, BytesMut};

use super::glob::PATTERN_BYTES_MAX;
use super::resp::encode_request;
use super::values::SCAN_KEYS_MAX;
use super::write::{NO_INTEGER, wrong_number};

/// How many keys a SCAN without COUNT looks at.
const SCAN_KEYS_DEFAULT: usize = 10;

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
    /// `STRLEN key`
    Length {
        /// The key.
        key: Bytes,
    },
    /// `TYPE key`
    Type {
        /// The key.
        key: Bytes,
    },
    /// `TTL key` and its kin: no key expires.
    TimeToLive {
        /// The key.
        key: Bytes,
    },
    /// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE string]`
    Scan {
        /// Where to go on.
        cursor: u64,
        /// What keys are told.
        pattern: Bytes,
        /// How many keys are looked at.
        count: usize,
    },
    /// `KEYS pattern`
    Keys {
        /// What keys are told.
        pattern: Bytes,
    },
}

impl Read {
    /// Appends the request that asks for this.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Get { key } => encode_request(out, ["GET".into(), key.clone()]),
            Self::GetMany { keys } => encode_request(out, named("MGET", keys)),
            Self::Exists { keys } => encode_request(out, named("EXISTS", keys)),
            Self::Size => encode_request(out, ["DBSIZE".into()]),
            Self::Length { key } => encode_request(out, ["STRLEN".into(), key.clone()]),
            Self::Type { key } => encode_request(out, ["TYPE".into(), key.clone()]),
            Self::TimeToLive { key } => encode_request(out, ["TTL".into(), key.clone()]),
            Self::Scan { cursor, pattern, count } => {
                let [cursor, count] = [cursor.to_string(), count.to_string()].map(Bytes::from);
                let (word, option) = (Bytes::from_static(b"MATCH"), pattern.clone());
                encode_request(out, ["SCAN".into(), cursor, word, option, "COUNT".into(), count]);
            }
            Self::Keys { pattern } => encode_request(out, ["KEYS".into(), pattern.clone()]),
        }
    }

    /// The read that this command is with these arguments; none if there is no read of this name.
    /// An error is what a client is told.
    pub(super) fn of_command(
        command: &[u8],
        words: &mut Vec<Bytes>,
    ) -> Option<Result<Self, String>> {
        Some(Ok(match (command, words.as_mut_slice()) {
            (b"GET", [key]) => Self::Get { key: std::mem::take(key) },
            (b"MGET", [_, ..]) => Self::GetMany { keys: std::mem::take(words) },
            (b"EXISTS", [_, ..]) => Self::Exists { keys: std::mem::take(words) },
            (b"DBSIZE", []) => Self::Size,
            (b"STRLEN", [key]) => Self::Length { key: std::mem::take(key) },
            (b"TYPE", [key]) => Self::Type { key: std::mem::take(key) },
            (b"TTL" | b"PTTL" | b"EXPIRETIME" | b"PEXPIRETIME", [key]) => {
                Self::TimeToLive { key: std::mem::take(key) }
            }
            (b"SCAN", [cursor, options @ ..]) => return Some(scan(cursor, options)),
            (b"KEYS", [pattern]) => return Some(keys(pattern)),
            (
                b"GET" | b"MGET" | b"EXISTS" | b"DBSIZE" | b"STRLEN" | b"TYPE" | b"TTL" | b"PTTL"
                | b"EXPIRETIME" | b"PEXPIRETIME" | b"SCAN" | b"KEYS",
                _,
            ) => {
                return Some(Err(wrong_number(command)));
            }
            _ => return None,
        }))
    }
}

fn scan(cursor: &Bytes, options: &[Bytes]) -> Result<Read, String> {
    let text = |word: &Bytes| std::str::from_utf8(word).map(str::to_owned).unwrap_or_default();
    let cursor = text(cursor).parse().map_err(|_| "ERR invalid cursor")?;
    let (mut pattern, mut count) = (Bytes::from_static(b"*"), SCAN_KEYS_DEFAULT);
    for option in options.chunks(2) {
        let [option, value] = option else { return Err("ERR syntax error".into()) };
        match option.to_ascii_uppercase().as_slice() {
            b"MATCH" => pattern = value.clone(),
            b"COUNT" => match text(value).parse::<i64>().map(usize::try_from) {
                Ok(Ok(wanted)) if wanted > 0 => count = wanted.min(SCAN_KEYS_MAX),
                Ok(_) => return Err("ERR syntax error".into()),
                Err(_) => return Err(NO_INTEGER.into()),
            },
            b"TYPE" if value.eq_ignore_ascii_case(b"string") => {}
            b"TYPE" => return Err("ERR unknown type name: every value here is a string".into()),
            _ => return Err("ERR syntax error".into()),
        }
    }
    bounded(&pattern)?;
    Ok(Read::Scan { cursor, pattern, count })
}

fn keys(pattern: &Bytes) -> Result<Read, String> {
    bounded(pattern)?;
    Ok(Read::Keys { pattern: pattern.clone() })
}

fn bounded(pattern: &Bytes) -> Result<(), String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("ERR a pattern has at most {PATTERN_BYTES_MAX} bytes"));
    }
    Ok(())
}

fn named<'a>(name: &'static str, keys: &'a [Bytes]) -> impl Iterator<Item = Bytes> + 'a {
    std::iter::once(Bytes::from_static(name.as_bytes())).chain(keys.iter().cloned())
}
