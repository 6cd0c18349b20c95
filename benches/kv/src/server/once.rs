//! Each write takes effect once, although servers send it again when its fate is unknown (§8).
//!
//! > "clients \[…\] assign unique serial numbers to every command. Then, the state machine tracks the latest serial number
//! > processed for each client, along with the associated response."
//!
//! Redis clients know nothing of serial numbers, so the server to which one is connected numbers in its place:
//!
//! ```text
//!   client ──SET x 1──► server 2 ──ONCE 5f….9.0 SET x 1──► leader ──log──► every store: is 9.0 of writer 5f… known?
//!                          │                                                   no: apply, remember the reply
//!                          └──────── the leader dies: again, to the next ──►   yes: the reply of the first time
//! ```
//!
//! A writer has one run of writes on its way at a time, so a store remembers each writer's last run
//! and nothing older; and of a run that [returns values](super::write::Write::returns_value) at
//! most one, so that values that are gone hold little memory. A write that comes after a later one
//! of its writer is refused: the order that a client gave is kept, whatever is sent again.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use raft_core::Index;
use rpds::HashTrieMapSync;

use super::limits::{CONNECTIONS_MAX, RUN_REQUESTS_MAX};
use super::resp::{Frame, error};

/// How many writers a store remembers. It forgets the one that has been silent the longest; a server has at most
/// [`CONNECTIONS_MAX`] in its life, so several servers must restart within one retry before that could be one that retries.
pub const WRITERS_MAX: usize = 16 * CONNECTIONS_MAX;

/// Names a write: the same whenever it is sent, and no other's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteName {
    writer: u64,
    /// Runs of a writer are numbered from 1.
    run: u64,
    /// The place in the run, from 0.
    position: usize,
}

/// Numbers the writes of one connection at a time. When it is dropped, another connection can have it: all its writes must be
/// answered then, or given up.
#[derive(Debug)]
pub struct Writer {
    id: u64,
    run: u64,
    free: Writers,
}

/// The writers of a server, one for each connection that it takes at a time: handed on when a connection ends, so that stores
/// have few to remember.
#[derive(Clone, Debug)]
pub struct Writers(Arc<Mutex<Vec<Free>>>);

/// A writer that no connection has.
#[derive(Debug)]
struct Free {
    id: u64,
    run: u64,
}

/// What a store remembers of the writers. A clone costs nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    writers: HashTrieMapSync<u64, Recent>,
}

/// The last run of a writer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recent {
    /// Its number.
    pub run: u64,
    /// The replies to its writes, by position.
    pub replies: Vec<Frame>,
    /// When it last wrote.
    pub at: Index,
}

impl Writers {
    /// The writers of a server that has just started; no other server or life of a server has the same.
    pub fn new() -> Self {
        // The standard library's seed for maps comes from the operating system's randomness.
        let life = RandomState::new().hash_one(std::process::id());
        let ids = (0..CONNECTIONS_MAX as u64).map(|number| life.wrapping_add(number));
        Self(Arc::new(Mutex::new(ids.map(|id| Free { id, run: 0 }).collect())))
    }

    /// A writer for a new connection; `None` if all are taken.
    pub fn take(&self) -> Option<Writer> {
        let Free { id, run } = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Writer { id, run, free: self.clone() })
    }
}

impl Default for Writers {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Begins a new run. All writes of the last one must be answered, or given up.
    pub fn begin_run(&mut self) {
        self.run += 1;
    }

    /// A number for the connection, which no other connection of this server has at the same time.
    pub fn connection_id(&self) -> i64 {
        // As many bits as clients that know numbers as floating point alone can tell apart.
        (self.id & ((1 << 53) - 1)).cast_signed()
    }

    /// The name of the write at this position of the run.
    pub fn name(&self, position: usize) -> WriteName {
        WriteName { writer: self.id, run: self.run, position }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Self { id, run, .. } = *self;
        self.free.0.lock().unwrap_or_else(PoisonError::into_inner).push(Free { id, run });
    }
}

impl Memory {
    /// The reply to a write that was applied at `index`, by `apply` unless it was before.
    pub fn once(&mut self, name: WriteName, index: Index, apply: impl FnOnce() -> Frame) -> Frame {
        self.make_room(name.writer);
        let new = || Recent { run: name.run, replies: Vec::new(), at: index };
        if !self.writers.contains_key(&name.writer) {
            self.writers.insert_mut(name.writer, new());
        }
        let recent = self.writers.get_mut(&name.writer).expect("it is there, or was put there");
        recent.at = index;
        if name.run < recent.run {
            return overtaken();
        }
        if name.run > recent.run {
            *recent = new();
        }
        if let Some(reply) = recent.replies.get(name.position) {
            return reply.clone();
        }
        // What is missing before it comes too late now.
        recent.replies.resize_with(name.position, overtaken);
        let reply = apply();
        recent.replies.push(reply.clone());
        reply
    }

    /// Every writer that is remembered, in any order.
    pub fn writers(&self) -> impl ExactSizeIterator<Item = (u64, &Recent)> {
        self.writers.iter().map(|(writer, recent)| (*writer, recent))
    }

    /// Remembers this of a writer, as [`Memory::writers`] told it.
    pub fn restore(&mut self, writer: u64, recent: Recent) {
        self.writers.insert_mut(writer, recent);
    }

    /// Every store forgets the same writer, for they all apply the same writes at the same indexes.
    fn make_room(&mut self, writer: u64) {
        if self.writers.size() < WRITERS_MAX || self.writers.contains_key(&writer) {
            return;
        }
        let silent = self.writers.iter().min_by_key(|(_, recent)| recent.at).map(|(id, _)| *id);
        if let Some(silent) = silent {
            self.writers.remove_mut(&silent);
        }
    }
}

fn overtaken() -> Frame {
    error("TRYAGAIN nothing was changed: a later write of this connection came first")
}

impl fmt::Display for WriteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}.{}", self.writer, self.run, self.position)
    }
}

/// Not the name of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoWriteName;

impl FromStr for WriteName {
    type Err = NoWriteName;

    fn from_str(text: &str) -> Result<Self, NoWriteName> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(NoWriteName);
        let writer = u64::from_str_radix(part()?, 16).map_err(|_| NoWriteName)?;
        let run = part()?.parse().map_err(|_| NoWriteName)?;
        let position = part()?.parse().map_err(|_| NoWriteName)?;
        if position >= RUN_REQUESTS_MAX {
            return Err(NoWriteName);
        }
        Ok(Self { writer, run, position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies writes that count; says what each was told, `None` if it was refused.
    fn told(names: &[(u64, u64, usize)]) -> (Vec<Option<i64>>, i64) {
        let mut memory = Memory::default();
        let mut count = 0;
        let told = names.iter().zip(1..).map(|(&(writer, run, position), index)| {
            let name = WriteName { writer, run, position };
            let reply = memory.once(name, Index::new(index), || {
                count += 1;
                Frame::Integer(count)
            });
            if let Frame::Integer(count) = reply { Some(count) } else { None }
        });
        (told.collect(), count)
    }

    #[test]
    fn a_write_that_comes_again_is_answered_as_the_first_time() {
        let (told, count) = told(&[(1, 1, 0), (1, 1, 1), (1, 1, 0), (1, 1, 1), (1, 1, 2)]);
        assert_eq!(told, [Some(1), Some(2), Some(1), Some(2), Some(3)]);
        assert_eq!(count, 3);
    }

    #[test]
    fn a_write_that_was_overtaken_is_refused_for_good() {
        let (told, count) = told(&[(1, 2, 1), (1, 2, 0), (1, 1, 0), (1, 2, 1)]);
        assert_eq!(told, [Some(1), None, None, Some(1)]);
        assert_eq!(count, 1);
    }

    #[test]
    fn writers_do_not_disturb_each_other() {
        let (told, count) = told(&[(1, 1, 0), (2, 1, 0), (1, 2, 0), (2, 1, 0)]);
        assert_eq!(told, [Some(1), Some(2), Some(3), Some(2)]);
        assert_eq!(count, 3);
    }

    #[test]
    fn the_writer_that_is_silent_the_longest_is_forgotten() {
        let mut memory = Memory::default();
        let mut write = |writer, index| {
            let name = WriteName { writer, run: 1, position: 0 };
            memory.once(name, Index::new(index), || Frame::Integer(index as i64))
        };
        let last = WRITERS_MAX as u64;
        (1..=last).for_each(|n| drop(write(n, n)));
        assert_eq!(write(1, last + 1), Frame::Integer(1), "remembered, and no longer silent");
        write(last + 1, last + 2);
        assert_eq!(write(3, last + 3), Frame::Integer(3), "remembered");
        assert_eq!(write(2, last + 4), Frame::Integer(last as i64 + 4), "forgotten");
        assert_eq!(memory.writers.size(), WRITERS_MAX);
    }

    #[test]
    fn names_survive_their_text() {
        let name = WriteName { writer: 0xabc, run: 7, position: 255 };
        assert_eq!(name.to_string().parse(), Ok(name));
        for bad in ["", "1", "1.2", "x.1.1", "1.1.256", "1.1.1.1", "1.-1.0"] {
            assert_eq!(bad.parse::<WriteName>(), Err(NoWriteName), "{bad}");
        }
    }

    #[test]
    fn a_server_has_as_many_writers_as_connections() {
        let writers = Writers::new();
        let taken: Vec<_> = std::iter::from_fn(|| writers.take()).collect();
        assert_eq!(taken.len(), CONNECTIONS_MAX);
        let mut ids: Vec<_> = taken.iter().map(|writer| writer.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), CONNECTIONS_MAX);
    }
}
