//! Client sessions (§8): a write takes effect once, although a server sends it again if its outcome
//! is unknown.
//!
//! > "clients \[…\] assign unique serial numbers to every command. Then, the state machine tracks
//! > the latest serial number processed for each client, along with the associated response."
//!
//! A Redis client knows no serial numbers, so its server numbers its writes:
//!
//! ```text
//! client ──SET x 1──► server 2 ──ONCE 5f….9.0 SET x 1──► leader ──log──► every store
//!                        │
//!                        └── if the leader dies: the same again, to the next leader
//!
//! every store: is write 9.0 of session 5f… known?   no: apply it, and keep the reply
//!                                                   yes: the reply of the first time
//! ```
//!
//! A store keeps the sessions in the library's [`SessionTable`]. A session opens with its first
//! write, so that no connection waits for an entry that only opens its session.
//!
//! A session has one batch of writes in flight at a time. So the serial numbers of a batch follow
//! each other, and its client has the replies below the first of them:
//!
//! ```text
//! name     5f….8.0  5f….8.1           5f….9.0  5f….9.1           BATCH_REQUESTS_MAX = 256
//! serial      2048     2049  (gap)       2304     2305           answered_below = 2304
//! ```
//!
//! The table keeps the replies to each session's last batch and to no earlier one. A batch holds at
//! most one write that [returns a value](super::write::Write::returns_value), so that these replies
//! take little memory. The table refuses a write that arrives after a later write of its session:
//! the writes of a client are applied in the order in which the client sent them.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use raft_core::Index;
use raft_core::host::{CommandNumber, SessionId, SessionLimits, SessionRefused, SessionTable};

use super::limits::{BATCH_REQUESTS_MAX, CONNECTIONS_MAX};
use super::resp::{Frame, error};

/// How many sessions a store keeps. It forgets the session whose last write is the oldest. A server
/// has at most [`CONNECTIONS_MAX`] sessions, so a store could forget a session that still retries
/// only if several servers restarted within one retry.
pub const SESSIONS_MAX: usize = 16 * CONNECTIONS_MAX;
/// The limits of each session. All servers must have the same.
pub(super) const LIMITS: SessionLimits = SessionLimits {
    sessions_max: NonZeroU32::new(SESSIONS_MAX as u32).expect("it is not 0"),
    // As many as a batch has serial numbers, so that no batch is too long.
    unanswered_max: NonZeroU32::new(BATCH_REQUESTS_MAX as u32).expect("it is not 0"),
    // A full table makes room for each new session.
    idle_entries_min: 0,
    in_order: true,
};
/// How many serial numbers a batch has, from `batch * BATCH_SERIALS` on.
pub(super) const BATCH_SERIALS: u64 = BATCH_REQUESTS_MAX as u64;
/// The last batch of which each write has a serial number.
pub(super) const BATCH_MAX: u64 = u64::MAX / BATCH_SERIALS - 1;

/// Names a write. The name is the same each time the write is sent, and no other write has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteName {
    session: u64,
    /// Batches of a session are numbered from 1, and not above [`BATCH_MAX`].
    batch: u64,
    /// The place in the batch, from 0 and below [`BATCH_REQUESTS_MAX`].
    position: usize,
}

/// Numbers the writes of one connection. When it is dropped, another connection can take the
/// session over, so all writes of the session must be answered or given up by then.
#[derive(Debug)]
pub struct Session {
    id: u64,
    batch: u64,
    free: SessionPool,
}

/// The sessions of a server that no connection has. The server reuses a session when its connection
/// has ended, so that stores keep few of them.
#[derive(Clone, Debug)]
pub struct SessionPool(Arc<Mutex<Vec<FreeSession>>>);

/// A session that no connection has.
#[derive(Debug)]
struct FreeSession {
    id: u64,
    batch: u64,
}

impl SessionPool {
    /// The sessions of a server that has just started. No other server has the same, and neither
    /// has the same server after a restart.
    pub fn new() -> Self {
        // The standard library's seed for maps comes from the operating system's randomness.
        let first = RandomState::new().hash_one(std::process::id());
        let ids = (0..CONNECTIONS_MAX as u64).map(|number| first.wrapping_add(number));
        Self(Arc::new(Mutex::new(ids.map(|id| FreeSession { id, batch: 0 }).collect())))
    }

    /// A session for a new connection; `None` if all are taken.
    pub fn take(&self) -> Option<Session> {
        let FreeSession { id, batch } =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Session { id, batch, free: self.clone() })
    }
}

impl Default for SessionPool {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// Begins a new batch. All writes of the last one must be answered, or given up.
    pub fn begin_batch(&mut self) {
        self.batch += 1;
    }

    /// A number for the connection, which no other connection of this server has at the same time.
    pub fn connection_id(&self) -> i64 {
        // As many bits as clients that know numbers as floating point alone can tell apart.
        (self.id & ((1 << 53) - 1)).cast_signed()
    }

    /// The name of the write at this position of the batch.
    pub fn name(&self, position: usize) -> WriteName {
        WriteName { session: self.id, batch: self.batch, position }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Self { id, batch, .. } = *self;
        self.free.0.lock().unwrap_or_else(PoisonError::into_inner).push(FreeSession { id, batch });
    }
}

impl WriteName {
    /// The number by which a [`SessionTable`] knows the write.
    pub fn number(&self) -> CommandNumber {
        let answered_below = self.batch * BATCH_SERIALS;
        let serial = answered_below + self.position as u64;
        CommandNumber { session: SessionId::new(self.session), serial, answered_below }
    }
}

/// Returns the reply to the write that is committed at `index`. Calls `apply` unless the write was
/// applied before; then the reply is that of the first time.
///
/// Every store forgets and refuses the same, because all stores apply the same writes at the same
/// indexes.
pub fn apply_once(
    sessions: &mut SessionTable<Frame>,
    name: WriteName,
    index: Index,
    apply: impl FnOnce() -> Frame,
) -> Frame {
    let CommandNumber { session, serial, answered_below } = name.number();
    let reply = sessions
        .open(session, index, LIMITS)
        .and_then(|()| sessions.apply_once(session, serial, answered_below, index, apply));
    reply.unwrap_or_else(|refused| {
        debug_assert!(is_overtaken(refused), "the session is open, and has room for its batch");
        overtaken()
    })
}

/// Whether a later batch came before the write, or a later write of its batch.
fn is_overtaken(refused: SessionRefused) -> bool {
    matches!(refused, SessionRefused::SerialTooOld { .. } | SessionRefused::Overtaken { .. })
}

/// The reply to a write that is refused for good.
pub(super) fn overtaken() -> Frame {
    error("TRYAGAIN nothing was changed: a later write of this connection came first")
}

impl fmt::Display for WriteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}.{}", self.session, self.batch, self.position)
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
        let session = u64::from_str_radix(part()?, 16).map_err(|_| NoWriteName)?;
        let batch = part()?.parse().map_err(|_| NoWriteName)?;
        let position = part()?.parse().map_err(|_| NoWriteName)?;
        if batch > BATCH_MAX || position >= BATCH_REQUESTS_MAX {
            return Err(NoWriteName);
        }
        Ok(Self { session, batch, position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = SessionId::new(0x5f);

    /// Applies writes that count; says what each was told, `None` if it was refused.
    fn told(names: &[(u64, u64, usize)]) -> (Vec<Option<i64>>, i64) {
        let mut sessions = SessionTable::new();
        let mut count = 0;
        let told = names.iter().zip(1..).map(|(&(session, batch, position), index)| {
            let name = WriteName { session, batch, position };
            let reply = apply_once(&mut sessions, name, Index::new(index), || {
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
        let mut sessions = SessionTable::new();
        let mut write = |session, index| {
            let name = WriteName { session, batch: 1, position: 0 };
            let apply = || Frame::Integer(index as i64);
            apply_once(&mut sessions, name, Index::new(index), apply)
        };
        let last = SESSIONS_MAX as u64;
        (1..=last).for_each(|n| drop(write(n, n)));
        assert_eq!(write(1, last + 1), Frame::Integer(1), "remembered, and no longer silent");
        write(last + 1, last + 2);
        assert_eq!(write(3, last + 3), Frame::Integer(3), "remembered");
        assert_eq!(write(2, last + 4), Frame::Integer(last as i64 + 4), "forgotten");
        assert_eq!(sessions.len(), SESSIONS_MAX);
    }

    #[test]
    fn names_survive_their_text() {
        let name = WriteName { session: 0xabc, batch: 7, position: 255 };
        assert_eq!(name.to_string().parse(), Ok(name));
        for bad in ["", "1", "1.2", "x.1.1", "1.1.256", "1.1.1.1", "1.-1.0"] {
            assert_eq!(bad.parse::<WriteName>(), Err(NoWriteName), "{bad}");
        }
    }

    #[test]
    fn the_writes_of_a_session_have_rising_serial_numbers() {
        let number = |text: &str| text.parse::<WriteName>().unwrap().number();
        let (first, last, next) = (number("5f.8.0"), number("5f.8.255"), number("5f.9.0"));
        assert_eq!((first.session, first.serial, first.answered_below), (ID, 2048, 2048));
        assert_eq!((last.session, last.serial, last.answered_below), (ID, 2303, 2048));
        assert_eq!((next.session, next.serial, next.answered_below), (ID, 2304, 2304));
        let highest = format!("5f.{BATCH_MAX}.255");
        assert!(number(&highest).serial > number(&highest).answered_below);
        let too_high = format!("5f.{}.0", BATCH_MAX + 1);
        assert_eq!(too_high.parse::<WriteName>(), Err(NoWriteName));
    }

    #[test]
    fn a_server_has_as_many_writers_as_connections() {
        let sessions = SessionPool::new();
        let taken: Vec<_> = std::iter::from_fn(|| sessions.take()).collect();
        assert_eq!(taken.len(), CONNECTIONS_MAX);
        let mut ids: Vec<_> = taken.iter().map(|session| session.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), CONNECTIONS_MAX);
    }
}
