//! The replicated state machine: a map from keys to values, and a digest of what it holds.
//!
//! The digest is the same on every server that holds the same data, in whatever order it was written. So a server can prove
//! what its own memory holds, which a linearizable read, answered by the leader, cannot.

use std::hash::Hasher;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use raft_core::Index;
use rpds::HashTrieMapSync;
use siphasher::sip::SipHasher13;

use super::command::{Read, Write};
use super::once::WriteName;
use super::resp::{self, Frame, REPLY_BYTES_MAX, error};
use super::snapshot::{self, Contents};

/// The state machine.
///
/// Its maps are persistent ones: a clone shares all of the original, and what is written afterwards copies only the path to it. So a
/// snapshot is captured at once, however much is stored.
#[derive(Debug, Default)]
pub struct Store {
    contents: Contents,
    watch: Watch,
}

/// Keys and their values.
pub type Values = HashTrieMapSync<Bytes, Bytes>;

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

/// A sum over all pairs of key and value: kept up to date at the cost of the pair that changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digest(u64);

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells what this store holds, also when the store has been moved into a node.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Applies the entry at `index`, and says what the client is told.
    pub fn apply(&mut self, index: Index, command: Bytes) -> Frame {
        let reply = match Write::decode(command) {
            Some((name, write)) => self.write_once(name, index, write),
            // Every server refuses the same commands, so they stay alike.
            None => error("ERR this entry of the log is no command of this store"),
        };
        self.contents.applied = index;
        self.tell();
        reply
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

    /// Answers reads in order, at least one, until the answers reach [`REPLY_BYTES_MAX`]; those that are left out are asked anew.
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
        let Contents { applied, values, digest, .. } = &self.contents;
        let summary = Summary { applied: *applied, keys: values.size(), digest: *digest };
        *self.watch.0.lock().unwrap_or_else(PoisonError::into_inner) = summary;
    }

    fn write_once(&mut self, name: WriteName, index: Index, write: Write) -> Frame {
        let mut writers = std::mem::take(&mut self.contents.writers);
        let reply = writers.once(name, index, || self.write(write));
        self.contents.writers = writers;
        reply
    }

    fn write(&mut self, write: Write) -> Frame {
        match write {
            Write::Set { key, value } => {
                self.set(key, value);
                resp::ok()
            }
            Write::Delete { keys } => {
                resp::integer(keys.iter().filter(|key| self.delete(key)).count())
            }
            Write::Increment { key } => self.increment(key),
        }
    }

    fn set(&mut self, key: Bytes, value: Bytes) {
        let Contents { values, digest, .. } = &mut self.contents;
        if let Some(old) = values.get(&key) {
            digest.remove(&key, old);
        }
        digest.add(&key, &value);
        values.insert_mut(key, value);
    }

    fn delete(&mut self, key: &Bytes) -> bool {
        let Contents { values, digest, .. } = &mut self.contents;
        let Some(old) = values.get(key) else { return false };
        digest.remove(key, old);
        values.remove_mut(key)
    }

    fn increment(&mut self, key: Bytes) -> Frame {
        let number = match self.contents.values.get(&key) {
            None => Some(0),
            Some(value) => number(value),
        };
        let Some(next) = number.and_then(|number| number.checked_add(1)) else {
            return error("ERR value is not an integer or out of range");
        };
        self.set(key, next.to_string().into());
        Frame::Integer(next)
    }

    /// The answer, and how many bytes of values it holds.
    fn read_one(&self, read: &Read) -> (Frame, usize) {
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
                let count =
                    keys.iter().filter(|key| self.contents.values.contains_key(*key)).count();
                (resp::integer(count), 0)
            }
            Read::Size => (resp::integer(self.contents.values.size()), 0),
        }
    }

    fn get(&self, key: &Bytes) -> (Frame, usize) {
        match self.contents.values.get(key) {
            Some(value) => (Frame::BulkString(value.clone()), value.len()),
            None => (Frame::Null, 0),
        }
    }
}

impl Watch {
    /// What the store holds.
    pub fn summary(&self) -> Summary {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Digest {
    /// Counts a pair in.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(hash(key, value));
    }

    /// Counts a pair out that was counted in.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(hash(key, value));
    }
}

impl From<u64> for Digest {
    fn from(sum: u64) -> Self {
        Self(sum)
    }
}

impl From<Digest> for u64 {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The standard library's hasher may change with its version; servers of different builds must agree.
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(&(key.len() as u64).to_le_bytes());
    hasher.write(key);
    hasher.write(value);
    hasher.finish()
}

/// A value as a number, if it is written the one way in which INCR writes it.
fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &'static str, value: &'static str) -> Write {
        Write::Set { key: key.into(), value: value.into() }
    }

    fn apply(store: &mut Store, write: &Write) -> Frame {
        let index = store.watch().summary().applied.get() + 1;
        let name = format!("1.{index}.0").parse().unwrap();
        store.apply(Index::new(index), write.encode(name))
    }

    fn get(store: &Store, key: &'static str) -> Frame {
        store.read(&[Read::Get { key: key.into() }]).remove(0)
    }

    #[test]
    fn writes_are_seen_by_reads() {
        let mut store = Store::new();
        assert_eq!(apply(&mut store, &set("k", "v")), resp::ok());
        assert_eq!(get(&store, "k"), Frame::BulkString("v".into()));
        let delete = Write::Delete { keys: vec!["k".into(), "none".into(), "k".into()] };
        assert_eq!(apply(&mut store, &delete), Frame::Integer(1));
        assert_eq!(get(&store, "k"), Frame::Null);
        assert_eq!(store.watch().summary().applied, Index::new(2));
    }

    #[test]
    fn increment_counts_and_refuses_what_is_no_number() {
        let mut store = Store::new();
        let increment = Write::Increment { key: "n".into() };
        assert_eq!(apply(&mut store, &increment), Frame::Integer(1));
        assert_eq!(apply(&mut store, &increment), Frame::Integer(2));
        for bad in ["+1", "007", "-0", " 1", "x", "9223372036854775807"] {
            apply(&mut store, &set("n", bad));
            assert!(matches!(apply(&mut store, &increment), Frame::Error(_)), "{bad}");
            assert_eq!(get(&store, "n"), Frame::BulkString(bad.into()), "unchanged");
        }
    }

    #[test]
    fn a_write_that_comes_again_changes_nothing() {
        let mut store = Store::new();
        let command = Write::Increment { key: "n".into() }.encode("1.1.0".parse().unwrap());
        for index in 1..=3 {
            assert_eq!(store.apply(Index::new(index), command.clone()), Frame::Integer(1));
        }
        assert_eq!(get(&store, "n"), Frame::BulkString("1".into()));
    }

    #[test]
    fn the_digest_depends_on_the_data_and_not_on_how_it_came() {
        let digest = |writes: &[Write]| {
            let mut store = Store::new();
            for write in writes {
                apply(&mut store, write);
            }
            store.watch().summary().digest
        };
        let delete = |key: &'static str| Write::Delete { keys: vec![key.into()] };
        let one = digest(&[set("a", "1"), set("b", "2")]);
        assert_eq!(
            one,
            digest(&[set("b", "0"), set("c", "3"), set("b", "2"), delete("c"), set("a", "1")])
        );
        assert_ne!(one, digest(&[set("a", "2"), set("b", "1")]));
        assert_ne!(one, digest(&[set("a", "1")]));
        assert_ne!(digest(&[set("ab", "c")]), digest(&[set("a", "bc")]));
        assert_eq!(digest(&[set("a", "1"), delete("a")]), Digest::default());
    }

    #[test]
    fn an_entry_that_is_no_command_changes_nothing() {
        let mut store = Store::new();
        assert!(matches!(store.apply(Index::new(1), "junk".into()), Frame::Error(_)));
        assert_eq!(store.watch().summary().keys, 0);
        assert_eq!(store.watch().summary().applied, Index::new(1));
    }

    #[test]
    fn answers_are_bounded() {
        let mut store = Store::new();
        let value = Bytes::from(vec![b'x'; REPLY_BYTES_MAX / 2]);
        store.set("big".into(), value);
        let get = Read::Get { key: "big".into() };
        assert_eq!(store.read(&[get.clone(), get.clone(), get.clone()]).len(), 2);
        let many = Read::GetMany { keys: vec!["big".into(); 3] };
        assert!(matches!(store.read(&[many]).remove(0), Frame::Error(_)));
    }
}
