//! The replicated state machine: a map from keys to values, and a digest of what it holds.
//!
//! The digest is the same on every server that holds the same data, in whatever order it was
//! written. So a server can prove what its own memory holds, which a linearizable read, answered by
//! the leader, cannot.

use std::cell::RefCell;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use raft_core::Index;

use super::digest::Digest;
use super::glob;
use super::read::Read;
use super::resp::{self, Frame, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, error};
use super::sessions::{WriteName, apply_once};
use super::snapshot::{self, Contents};
use super::values::Values;
use super::write::{Condition, NO_INTEGER, UnknownWrite, Write, number};

/// The most bytes of a value: no request brings more, and APPEND stops there.
pub const VALUE_BYTES_MAX: usize = REQUEST_BYTES_MAX;
/// The most keys of a store through which KEYS looks, and the most bytes of them: everything else
/// waits meanwhile.
pub const KEYS_MAX: usize = 1000;
const KEYS_BYTES_MAX: usize = 1 << 20;

/// The state machine.
///
/// Its maps are persistent ones: a clone shares all of the original, and what is written afterwards
/// copies only the path to it. So a snapshot is captured at once, however much is stored.
#[derive(Debug, Default)]
pub struct Store {
    contents: Contents,
    watch: Watch,
    /// The write that [`Store::understands`] decoded, for the [`Store::apply`] that follows.
    decoded: RefCell<Option<Decoded>>,
}

/// A write, and the bytes that it was decoded from.
#[derive(Debug)]
struct Decoded {
    command: Bytes,
    name: WriteName,
    write: Write,
}

/// What a [`Store`] holds, in short; see [`Watch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// The last entry applied.
    pub applied: Index,
    /// How many keys there are.
    pub keys: usize,
    /// The digest of all keys and values.
    pub digest: Digest,
}

/// Tells from any thread what a [`Store`] holds right now, without asking the cluster.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Summary>>);

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells what this store holds, also when the store has been moved into a node.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Whether this program knows the command.
    ///
    /// # Errors
    ///
    /// It does not: a newer one wrote it. This server must stop before it.
    pub fn understands(&self, command: &Bytes) -> Result<(), UnknownWrite> {
        let (name, write) = Write::decode(command)?;
        *self.decoded.borrow_mut() = Some(Decoded { command: command.clone(), name, write });
        Ok(())
    }

    /// Applies the entry at `index`, and says what the client is told.
    ///
    /// # Panics
    ///
    /// If the command is not [understood](Store::understands): the others apply it, so it may not
    /// be skipped.
    pub fn apply(&mut self, index: Index, command: Bytes) -> Frame {
        let (name, write) = match self.decoded.take() {
            Some(decoded) if decoded.is_of(&command) => (decoded.name, decoded.write),
            _ => Write::decode(&command).unwrap_or_else(|unknown| panic!("{unknown}")),
        };
        let Contents { values, sessions, .. } = &mut self.contents;
        let reply = apply_once(sessions, name, index, || apply(values, write));
        self.contents.applied = index;
        self.tell();
        reply
    }

    /// The digest of all keys and values.
    pub fn digest(&self) -> Digest {
        self.contents.values.digest()
    }

    /// What is needed to restore this store as it is now. At once, whatever it holds.
    pub fn capture(&self) -> Contents {
        self.contents.clone()
    }

    /// Becomes what a snapshot holds; see [`snapshot`].
    ///
    /// # Errors
    ///
    /// The snapshot cannot be read, or is not whole. The store is as it was.
    pub fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.contents = snapshot::read(from)?;
        self.tell();
        Ok(())
    }

    /// Answers reads in order, at least one, until the answers reach [`REPLY_BYTES_MAX`]; those
    /// that are left out are asked anew.
    pub fn read(&self, reads: &[Read]) -> Vec<Frame> {
        let mut replies = Vec::with_capacity(reads.len());
        let mut bytes = 0;
        for read in reads {
            let (reply, size) = self.read_one(read);
            bytes += size;
            if bytes > REPLY_BYTES_MAX && !replies.is_empty() {
                break;
            }
            replies.push(reply);
        }
        replies
    }

    fn tell(&self) {
        let Contents { applied, values, .. } = &self.contents;
        let summary = Summary { applied: *applied, keys: values.size(), digest: values.digest() };
        *self.watch.0.lock().unwrap_or_else(PoisonError::into_inner) = summary;
    }

    /// The answer, and how many bytes of values it holds.
    fn read_one(&self, read: &Read) -> (Frame, usize) {
        let values = &self.contents.values;
        let small = |reply| (reply, 0);
        match read {
            Read::Get { key } => self.get(key),
            Read::GetMany { keys } => {
                let (frames, sizes): (Vec<_>, Vec<_>) =
                    keys.iter().map(|key| self.get(key)).unzip();
                let bytes = sizes.into_iter().sum();
                if bytes > REPLY_BYTES_MAX {
                    let text = format!("ERR more than {REPLY_BYTES_MAX} bytes: ask for fewer keys");
                    return (error(text), 0);
                }
                (Frame::Array(frames), bytes)
            }
            Read::Exists { keys } => {
                small(resp::integer(keys.iter().filter(|key| values.contains(key)).count()))
            }
            Read::Size => small(resp::integer(values.size())),
            Read::Length { key } => small(resp::integer(values.get(key).map_or(0, Bytes::len))),
            Read::Type { key } => {
                let name: &[u8] = if values.contains(key) { b"string" } else { b"none" };
                small(Frame::SimpleString(Bytes::from_static(name)))
            }
            // No key expires: Redis says -1 then, and -2 if there is no such key.
            Read::TimeToLive { key } => {
                small(Frame::Integer(if values.contains(key) { -1 } else { -2 }))
            }
            Read::Scan { cursor, pattern, count } => {
                let (next, keys) = values.scan(*cursor, *count, pattern);
                let (keys, bytes) = list(keys);
                let next = Frame::BulkString(next.to_string().into());
                (Frame::Array(vec![next, keys]), bytes)
            }
            Read::Keys { pattern } => self.keys(pattern),
        }
    }

    fn get(&self, key: &Bytes) -> (Frame, usize) {
        match self.contents.values.get(key) {
            Some(value) => (Frame::BulkString(value.clone()), value.len()),
            None => (Frame::Null, 0),
        }
    }

    fn keys(&self, pattern: &[u8]) -> (Frame, usize) {
        let values = &self.contents.values;
        let keys = || values.iter().map(|(key, _)| key);
        let is_small = values.size() <= KEYS_MAX;
        if !is_small || keys().map(Bytes::len).sum::<usize>() > KEYS_BYTES_MAX {
            let text = format!(
                "ERR KEYS looks through {KEYS_MAX} keys of {KEYS_BYTES_MAX} bytes at most: use SCAN"
            );
            return (error(text), 0);
        }
        list(keys().filter(|key| glob::matches(pattern, key)).cloned().collect())
    }
}

impl Decoded {
    /// Whether it was decoded from these bytes: it holds its own, so no others lie there.
    fn is_of(&self, command: &Bytes) -> bool {
        self.command.as_ptr() == command.as_ptr() && self.command.len() == command.len()
    }
}

/// Changes the values, and says what the client is told.
fn apply(values: &mut Values, write: Write) -> Frame {
    match write {
        Write::Set { key, value } => {
            values.insert(key, value);
            resp::ok()
        }
        Write::SetWith { key, value, condition, returns_old } => {
            let old = values.get(&key).cloned();
            let sets = condition.is_none_or(|condition| condition.holds(old.as_ref()));
            if sets {
                values.insert(key, value);
            }
            match (returns_old, sets) {
                (true, _) => bulk(old),
                (false, true) => resp::ok(),
                (false, false) => Frame::Null,
            }
        }
        Write::SetNew { key, value } => {
            let is_new = !values.contains(&key);
            if is_new {
                values.insert(key, value);
            }
            Frame::Integer(is_new.into())
        }
        Write::SetMany { pairs } => {
            pairs.into_iter().for_each(|(key, value)| values.insert(key, value));
            resp::ok()
        }
        Write::GetDelete { key } => {
            let old = values.get(&key).cloned();
            values.remove(&key);
            bulk(old)
        }
        Write::Append { key, value } => append(values, key, &value),
        Write::Delete { keys } => {
            resp::integer(keys.iter().filter(|key| values.remove(key)).count())
        }
        Write::Increment { key } => increment(values, key, 1, NO_INTEGER),
        Write::IncrementBy { key, by } => {
            increment(values, key, by, "ERR increment or decrement would overflow")
        }
    }
}

fn append(values: &mut Values, key: Bytes, value: &Bytes) -> Frame {
    let old = values.get(&key).cloned().unwrap_or_default();
    let length = old.len().saturating_add(value.len());
    if length > VALUE_BYTES_MAX {
        return error(format!("ERR string exceeds maximum allowed size ({VALUE_BYTES_MAX})"));
    }
    values.insert(key, [old, value.clone()].concat().into());
    resp::integer(length)
}

/// `overflow` is what the client is told if there is no such sum.
fn increment(values: &mut Values, key: Bytes, by: i64, overflow: &str) -> Frame {
    let number = match values.get(&key) {
        None => Some(0),
        Some(value) => number(value),
    };
    let Some(number) = number else { return error(NO_INTEGER) };
    let Some(next) = number.checked_add(by) else { return error(overflow) };
    values.insert(key, next.to_string().into());
    Frame::Integer(next)
}

impl Condition {
    fn holds(self, old: Option<&Bytes>) -> bool {
        match self {
            Self::IsNew => old.is_none(),
            Self::Exists => old.is_some(),
        }
    }
}

fn bulk(value: Option<Bytes>) -> Frame {
    value.map_or(Frame::Null, Frame::BulkString)
}

/// A list, and how many bytes it holds.
fn list(keys: Vec<Bytes>) -> (Frame, usize) {
    let bytes = keys.iter().map(Bytes::len).sum();
    (Frame::Array(keys.into_iter().map(Frame::BulkString).collect()), bytes)
}

impl Watch {
    /// What the store holds.
    pub fn summary(&self) -> Summary {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
