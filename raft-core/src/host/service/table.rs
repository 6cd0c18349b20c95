//! The table of client sessions (thesis 6.3), which is part of the replicated state.
//!
//! > "the state machine tracks the latest serial number processed for each client, along with the
//! > associated response."
//!
//! A session may have several commands on their way. So each command tells below which serial
//! number its client has all replies, and the table keeps the replies from there on:
//!
//! ```text
//! serial    1   2   3   4   5   6   7          answered_below = 4
//!           └ too old ┘ │reply│reply│ new ...
//! ```
//!
//! Invariant: each command of a session is applied at most once, because a serial number is new, or
//! its reply is kept, or it is below `answered_below` and refused.
//!
//! All servers must hold the same table. So whatever decides (limits, ages) comes from the log, and
//! nothing from a clock or from a server's own configuration.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::vec::Vec;

use crate::types::Index;

/// A part of the table is copied when it changes while a snapshot is written, so that no command
/// waits for a copy of the whole.
const PARTS: u64 = 64;

/// Names a client session: the index of the entry that opened it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionId(u64);

/// What bounds a session and its table. The limits travel with the command that opens a session, so
/// that all servers decide alike even if their programs differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionLimits {
    /// The most sessions of the table. Default: 4096.
    pub sessions_max: NonZeroU32,
    /// The most replies that the table keeps for this session: a serial number is taken if it is
    /// less than this above the lowest that its client has no reply to. Default: 1024.
    pub unanswered_max: NonZeroU32,
    /// If the table is full, the session that was silent the longest gives way to the new one,
    /// provided that its last command is at least this many log entries old. Default: 10,000.
    pub idle_entries_min: u64,
    /// Whether the table refuses a command after a command of a higher serial number was applied,
    /// so that a client's commands are applied in its order. Default: false.
    pub in_order: bool,
}

/// Why a command of a session was not applied, or a session not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SessionRefused {
    /// The session was never opened, was closed, or has made room for another: open a new session.
    /// If the command was sent before, it may have been applied then.
    Expired {
        /// The session.
        session: SessionId,
    },
    /// The client has said that it has the replies of this command and of all before it, so the
    /// table no longer knows whether the command was applied.
    SerialTooOld {
        /// The serial number of the command.
        serial: u64,
        /// The lowest serial number that is taken.
        answered_below: u64,
    },
    /// A later command of this session was applied before, and the session is
    /// [in order](SessionLimits::in_order): the command was not applied, and never will be.
    Overtaken {
        /// The serial number of the command.
        serial: u64,
    },
    /// The serial number is further above the lowest that is not answered than the session allows:
    /// the command was not applied. Send it again with a higher
    /// [`answered_below`](super::CommandNumber::answered_below).
    TooManyUnanswered {
        /// The limit.
        unanswered_max: u32,
    },
    /// The table is full, and no session has been silent for long enough: no session was opened.
    /// Try again later, or close sessions that are not needed.
    TableFull {
        /// The limit.
        sessions_max: u32,
    },
}

/// The sessions of a state machine and the replies that their clients may ask for again.
///
/// [`Sessions`](super::Sessions) keeps one for any state machine. A state machine that numbers its
/// commands in its own way keeps one itself. A clone shares the contents until either changes.
#[derive(Clone, Debug)]
pub struct SessionTable<R> {
    parts: Vec<Arc<BTreeMap<SessionId, Arc<Session<R>>>>>,
    len: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Session<R> {
    last_used: Index,
    unanswered_max: u32,
    in_order: bool,
    answered_below: u64,
    /// By rising serial number; none is below `answered_below`.
    replies: VecDeque<(u64, R)>,
}

/// A session as snapshots store it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSession<R> {
    /// Its name.
    pub id: SessionId,
    /// The index of its last command.
    pub last_used: Index,
    /// See [`SessionLimits::unanswered_max`].
    pub unanswered_max: u32,
    /// See [`SessionLimits::in_order`].
    pub in_order: bool,
    /// The lowest serial number that is taken.
    pub answered_below: u64,
    /// The replies that are kept, with the serial numbers of their commands.
    pub replies: Vec<(u64, R)>,
}

impl SessionId {
    /// The session with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        const fn limit(number: u32) -> NonZeroU32 {
            NonZeroU32::new(number).expect("it is not 0")
        }
        const SESSIONS_MAX: NonZeroU32 = limit(4096);
        const UNANSWERED_MAX: NonZeroU32 = limit(1024);
        Self {
            sessions_max: SESSIONS_MAX,
            unanswered_max: UNANSWERED_MAX,
            idle_entries_min: 10_000,
            in_order: false,
        }
    }
}

impl SessionRefused {
    /// Whether the command may have been applied when it was sent before. A command that was sent
    /// once alone was not applied.
    pub fn may_have_been_applied(&self) -> bool {
        match self {
            Self::Expired { .. } | Self::SerialTooOld { .. } => true,
            Self::Overtaken { .. } | Self::TooManyUnanswered { .. } | Self::TableFull { .. } => {
                false
            }
        }
    }
}

impl<R: Clone> SessionTable<R> {
    /// No sessions.
    pub fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| Arc::default()).collect(), len: 0 }
    }

    /// The number of sessions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is this session.
    pub fn contains(&self, id: SessionId) -> bool {
        self.part(id).contains_key(&id)
    }

    /// Opens a session. `at` is the index of the command that asks for it. A session that is open
    /// already stays as it is.
    ///
    /// # Errors
    ///
    /// [`SessionRefused::TableFull`].
    pub fn open(
        &mut self,
        id: SessionId,
        at: Index,
        limits: SessionLimits,
    ) -> Result<(), SessionRefused> {
        if self.contains(id) {
            return Ok(());
        }
        let sessions_max = limits.sessions_max.get();
        while self.len >= sessions_max as usize {
            let Some((oldest, last_used)) = self.oldest() else { break };
            if at.get().saturating_sub(last_used.get()) < limits.idle_entries_min {
                return Err(SessionRefused::TableFull { sessions_max });
            }
            self.close(oldest);
        }
        self.put(StoredSession {
            id,
            last_used: at,
            unanswered_max: limits.unanswered_max.get(),
            in_order: limits.in_order,
            answered_below: 0,
            replies: Vec::new(),
        });
        Ok(())
    }

    /// Closes a session, and forgets its replies.
    pub fn close(&mut self, id: SessionId) {
        if self.contains(id) {
            Arc::make_mut(self.part_mut(id)).remove(&id);
            self.len -= 1;
        }
    }

    /// The reply to a command, committed at the index `at`. Calls `apply` if the command comes for
    /// the first time; otherwise the reply is that of the first time. The client has the replies to
    /// all commands with serial numbers below `answered_below`.
    ///
    /// # Errors
    ///
    /// [`SessionRefused`] says whether the command may have been applied before.
    pub fn apply_once(
        &mut self,
        id: SessionId,
        serial: u64,
        answered_below: u64,
        at: Index,
        apply: impl FnOnce() -> R,
    ) -> Result<R, SessionRefused> {
        let session = Arc::make_mut(self.part_mut(id)).get_mut(&id).map(Arc::make_mut);
        let session = session.ok_or(SessionRefused::Expired { session: id })?;
        session.last_used = at;
        session.forget_below(answered_below);
        let answered_below = session.answered_below;
        if serial < answered_below {
            return Err(SessionRefused::SerialTooOld { serial, answered_below });
        }
        let place = match session.place(serial) {
            Ok(place) => return Ok(session.replies[place].1.clone()),
            Err(place) => place,
        };
        if session.in_order && place < session.replies.len() {
            return Err(SessionRefused::Overtaken { serial });
        }
        // By the distance and not by the number of replies, so that the lowest command always finds
        // room: if it did not, `answered_below` would never rise.
        let unanswered_max = session.unanswered_max;
        if serial - answered_below >= u64::from(unanswered_max) {
            return Err(SessionRefused::TooManyUnanswered { unanswered_max });
        }
        let reply = apply();
        session.replies.insert(place, (serial, reply.clone()));
        Ok(reply)
    }

    /// Every session, in the same order for the same table.
    pub fn iter(&self) -> impl Iterator<Item = StoredSession<R>> {
        self.parts.iter().flat_map(|part| part.iter()).map(|(id, session)| StoredSession {
            id: *id,
            last_used: session.last_used,
            unanswered_max: session.unanswered_max,
            in_order: session.in_order,
            answered_below: session.answered_below,
            replies: session.replies.iter().cloned().collect(),
        })
    }

    /// Puts a session of a snapshot into the table, as [`SessionTable::iter`] returned it. Replies
    /// below `answered_below` are left out.
    pub fn put(&mut self, stored: StoredSession<R>) {
        let StoredSession { id, last_used, unanswered_max, in_order, answered_below, mut replies } =
            stored;
        replies.retain(|(serial, _)| *serial >= answered_below);
        replies.sort_by_key(|(serial, _)| *serial);
        replies.dedup_by_key(|(serial, _)| *serial);
        let replies = replies.into();
        let session = Session { last_used, unanswered_max, in_order, answered_below, replies };
        if Arc::make_mut(self.part_mut(id)).insert(id, Arc::new(session)).is_none() {
            self.len += 1;
        }
    }

    /// The session that was silent the longest, with the index of its last command.
    fn oldest(&self) -> Option<(SessionId, Index)> {
        let sessions = self.parts.iter().flat_map(|part| part.iter());
        let ages = sessions.map(|(id, session)| (*id, session.last_used));
        ages.min_by_key(|(id, last_used)| (*last_used, *id))
    }

    fn part(&self, id: SessionId) -> &BTreeMap<SessionId, Arc<Session<R>>> {
        &self.parts[(id.0 % PARTS) as usize]
    }

    fn part_mut(&mut self, id: SessionId) -> &mut Arc<BTreeMap<SessionId, Arc<Session<R>>>> {
        &mut self.parts[(id.0 % PARTS) as usize]
    }
}

impl<R: Clone> Default for SessionTable<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: PartialEq> PartialEq for SessionTable<R> {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl<R: Eq> Eq for SessionTable<R> {}

impl<R> Session<R> {
    fn forget_below(&mut self, answered_below: u64) {
        self.answered_below = self.answered_below.max(answered_below);
        while self.replies.front().is_some_and(|(serial, _)| *serial < self.answered_below) {
            self.replies.pop_front();
        }
        // A session that once had many commands on their way does not keep the room for them. The
        // factor leaves room for as many again, so that few commands pay for a move.
        if self.replies.len() < self.replies.capacity() / 8 {
            self.replies.shrink_to(2 * self.replies.len());
        }
    }

    /// Where the reply is, or where it belongs. Most commands come in order, so the end is looked
    /// at first.
    fn place(&self, serial: u64) -> Result<usize, usize> {
        match self.replies.back() {
            Some((last, _)) if *last >= serial => {
                self.replies.binary_search_by_key(&serial, |(serial, _)| *serial)
            }
            _ => Err(self.replies.len()),
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SessionRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { session } => write!(
                f,
                "the client session {session} is unknown or has expired; the command was not \
                 applied now, and may have been applied before"
            ),
            Self::SerialTooOld { serial, answered_below } => write!(
                f,
                "the command has serial number {serial}, and its client has the replies below \
                 {answered_below}; it was not applied now, and may have been applied before"
            ),
            Self::Overtaken { serial } => write!(
                f,
                "a later command of this client came before the command with serial number \
                 {serial}, which was not applied"
            ),
            Self::TooManyUnanswered { unanswered_max } => write!(
                f,
                "{unanswered_max} commands of this client are not known to be answered; this one \
                 was not applied"
            ),
            Self::TableFull { sessions_max } => {
                write!(f, "there are {sessions_max} client sessions already, all of them in use")
            }
        }
    }
}

impl std::error::Error for SessionRefused {}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SessionId = SessionId::new(1);
    const TWO: SessionId = SessionId::new(2);

    struct Count {
        table: SessionTable<u64>,
        count: u64,
        at: u64,
    }

    impl Count {
        fn new() -> Self {
            Self { table: SessionTable::new(), count: 0, at: 0 }
        }

        fn open(&mut self, id: SessionId, limits: SessionLimits) -> Result<(), SessionRefused> {
            self.at += 1;
            self.table.open(id, Index::new(self.at), limits)
        }

        fn add(&mut self, id: SessionId, serial: u64, below: u64) -> Result<u64, SessionRefused> {
            self.at += 1;
            self.table.apply_once(id, serial, below, Index::new(self.at), || {
                self.count += 1;
                self.count
            })
        }
    }

    fn limits(sessions_max: u32, unanswered_max: u32, idle_entries_min: u64) -> SessionLimits {
        SessionLimits {
            sessions_max: NonZeroU32::new(sessions_max).unwrap(),
            unanswered_max: NonZeroU32::new(unanswered_max).unwrap(),
            idle_entries_min,
            in_order: false,
        }
    }

    #[test]
    fn a_command_that_comes_again_is_answered_as_the_first_time() {
        let mut count = Count::new();
        count.open(ONE, SessionLimits::default()).unwrap();
        count.open(TWO, SessionLimits::default()).unwrap();
        let told = [(ONE, 1), (TWO, 1), (ONE, 1), (ONE, 3), (ONE, 2), (ONE, 3), (TWO, 1)];
        let told = told.map(|(id, serial)| count.add(id, serial, 1).unwrap());
        assert_eq!(told, [1, 2, 1, 3, 4, 3, 2]);
        assert_eq!(count.count, 4);
    }

    #[test]
    fn what_the_client_has_is_forgotten_and_refused() {
        let mut count = Count::new();
        count.open(ONE, SessionLimits::default()).unwrap();
        for serial in 1..=4 {
            count.add(ONE, serial, 1).unwrap();
        }
        assert_eq!(count.add(ONE, 5, 4), Ok(5));
        let refused = SessionRefused::SerialTooOld { serial: 3, answered_below: 4 };
        assert_eq!(count.add(ONE, 3, 1), Err(refused), "the lowest that was ever told counts");
        assert!(refused.may_have_been_applied());
        assert_eq!(count.add(ONE, 4, 1), Ok(4), "kept");
        assert_eq!(count.table.iter().next().unwrap().replies.len(), 2);
        assert!(count.add(ONE, 1, 9).is_err(), "a client that contradicts itself");
        assert_eq!(count.count, 5);
    }

    #[test]
    fn a_session_in_order_refuses_what_was_overtaken() {
        let mut count = Count::new();
        count.open(ONE, SessionLimits { in_order: true, ..SessionLimits::default() }).unwrap();
        assert_eq!(count.add(ONE, 2, 1), Ok(1));
        let refused = SessionRefused::Overtaken { serial: 1 };
        assert_eq!(count.add(ONE, 1, 1), Err(refused));
        assert!(!refused.may_have_been_applied());
        assert_eq!(count.add(ONE, 2, 1), Ok(1));
        assert_eq!(count.add(ONE, 4, 1), Ok(2), "a gap may stay");
    }

    #[test]
    fn replies_are_bounded() {
        let mut count = Count::new();
        count.open(ONE, limits(1, 2, 0)).unwrap();
        count.add(ONE, 1, 1).unwrap();
        count.add(ONE, 2, 1).unwrap();
        let refused = SessionRefused::TooManyUnanswered { unanswered_max: 2 };
        assert_eq!(count.add(ONE, 3, 1), Err(refused));
        assert_eq!(count.add(ONE, 1, 1), Ok(1), "a repeated command needs no room");
        assert_eq!(count.add(ONE, 3, 2), Ok(3));
        assert_eq!(count.count, 3);
    }

    /// Otherwise the lowest waits for room, and room for the lowest, for ever.
    #[test]
    fn the_lowest_command_finds_room_however_late_it_comes() {
        let mut count = Count::new();
        count.open(ONE, limits(1, 3, 0)).unwrap();
        let refused = SessionRefused::TooManyUnanswered { unanswered_max: 3 };
        assert_eq!(count.add(ONE, 2, 1), Ok(1));
        assert_eq!(count.add(ONE, 3, 1), Ok(2));
        assert_eq!(count.add(ONE, 4, 1), Err(refused), "it would take the room of 1");
        assert_eq!(count.add(ONE, 1, 1), Ok(3));
        assert_eq!(count.add(ONE, 4, 2), Ok(4));
    }

    #[test]
    fn a_full_table_forgets_the_session_that_was_silent_for_long() {
        let mut count = Count::new();
        count.open(ONE, limits(2, 9, 3)).unwrap();
        count.open(TWO, limits(2, 9, 3)).unwrap();
        let three = SessionId::new(3);
        let refused = SessionRefused::TableFull { sessions_max: 2 };
        assert_eq!(count.open(three, limits(2, 9, 3)), Err(refused));
        assert!(!refused.may_have_been_applied());
        count.add(ONE, 1, 1).unwrap();
        assert_eq!(count.open(three, limits(2, 9, 3)), Ok(()), "2 was silent for 3 entries");
        assert_eq!(count.add(TWO, 1, 1), Err(SessionRefused::Expired { session: TWO }));
        assert_eq!(count.add(ONE, 1, 1), Ok(1), "not forgotten");
        count.table.close(ONE);
        count.table.close(ONE);
        assert_eq!(count.table.len(), 1);
        assert_eq!(count.add(ONE, 1, 1), Err(SessionRefused::Expired { session: ONE }));
        assert_eq!(count.open(TWO, limits(2, 9, 3)), Ok(()));
        assert_eq!(count.open(TWO, limits(2, 9, 3)), Ok(()), "open already");
    }

    #[test]
    fn a_smaller_limit_of_a_newer_version_makes_room() {
        let mut count = Count::new();
        for id in 1..=5 {
            count.open(SessionId::new(id), limits(5, 9, 0)).unwrap();
        }
        count.open(SessionId::new(6), limits(2, 9, 0)).unwrap();
        let ids: Vec<_> = count.table.iter().map(|session| session.id.get()).collect();
        assert_eq!(ids, [5, 6]);
    }

    #[test]
    fn a_session_gives_the_room_of_many_replies_back() {
        let mut count = Count::new();
        count.open(ONE, SessionLimits::default()).unwrap();
        let room = |count: &Count| count.table.part(ONE)[&ONE].replies.capacity();
        (1..=1000).for_each(|serial| assert_eq!(count.add(ONE, serial, 1), Ok(serial)));
        assert!(room(&count) >= 1000);
        assert_eq!(count.add(ONE, 1001, 991), Ok(1001));
        assert!(room(&count) <= 32, "{}", room(&count));
        assert_eq!(count.add(ONE, 992, 991), Ok(992), "kept");
        assert_eq!(count.add(ONE, 1002, 1002), Ok(1002));
        assert!(room(&count) <= 4, "{}", room(&count));
    }

    #[test]
    fn a_clone_does_not_see_what_comes_later() {
        let mut count = Count::new();
        count.open(ONE, SessionLimits::default()).unwrap();
        count.add(ONE, 1, 1).unwrap();
        let before = count.table.clone();
        count.add(ONE, 2, 1).unwrap();
        assert_eq!(before.iter().next().unwrap().replies, [(1, 1)]);
        let mut restored = SessionTable::new();
        count.table.iter().for_each(|session| restored.put(session));
        assert_eq!(restored, count.table);
        assert_ne!(restored, before);
    }
}
