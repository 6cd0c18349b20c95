//! Any state machine, with client sessions (thesis 6.3).

use std::boxed::Box;
use std::cell::Cell;
use std::fmt;
use std::format;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::vec::Vec;

use bytes::Bytes;

use super::envelope::{CommandNumber, SessionCommand};
use super::format::{Format, Postcard};
use super::table::{SessionId, SessionRefused, SessionTable, StoredSession};
use super::varint;
use crate::host::state_machine::{Capture, NotUnderstood, StateMachine};
use crate::types::Index;

/// What a snapshot begins with: the name and the version of this format.
const MAGIC: &[u8; 8] = b"sessions";
const VERSION: u64 = 1;
/// No more is set aside for a length that a snapshot claims, before its bytes are there.
const RESERVE_MAX: usize = 4096;

/// A state machine whose clients' commands take effect exactly once: a command that is sent again,
/// because its outcome was unknown, gives the first reply back (thesis 6.3).
///
/// It keeps a [`SessionTable`] beside the state machine. The table is part of the snapshot, before
/// the state machine's own part, with replies in the format `F`. Clients propose
/// [`SessionCommand`]s, or let a [`Client`](super::Client) do so. Dereferences to the state
/// machine, so that reads see it.
///
/// # Example
///
/// ```
/// # #[cfg(feature = "serde")] {
/// use bytes::Bytes;
/// use raft_core::Index;
/// use raft_core::host::{
///     CommandNumber, SessionCommand, SessionLimits, SessionReply, Sessions, StateMachine,
/// };
///
/// struct Total(u64);
///
/// impl StateMachine for Total {
///     type Reply = u64;
///
///     fn apply(&mut self, _index: Index, command: Bytes) -> u64 {
///         self.0 += command.len() as u64;
///         self.0
///     }
/// }
///
/// // As a node feeds it from the log:
/// let mut machine = Sessions::new(Total(0));
/// let open = SessionCommand::Open(SessionLimits::default()).encode();
/// let SessionReply::Opened(session) = machine.apply(Index::new(1), open) else { panic!() };
/// let number = CommandNumber { session, serial: 1, answered_below: 1 };
/// let add = SessionCommand::Apply { number, command: "three".into() }.encode();
/// assert_eq!(machine.apply(Index::new(2), add.clone()), SessionReply::Applied(5));
/// assert_eq!(machine.apply(Index::new(3), add), SessionReply::Applied(5));
/// assert_eq!(machine.0, 5);
/// # }
/// ```
pub struct Sessions<S: StateMachine, F = Postcard> {
    machine: S,
    table: SessionTable<S::Reply>,
    /// The command that `understands` has decoded, for the `apply` that follows.
    decoded: Cell<Option<Decoded>>,
    format: PhantomData<fn() -> F>,
}

/// A command to apply, and the place of the bytes that it was decoded from.
struct Decoded {
    number: CommandNumber,
    command: Bytes,
    place: (usize, usize),
}

/// The reply to a [`SessionCommand`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SessionReply<R> {
    /// The session is open.
    Opened(SessionId),
    /// The command was applied, now or before. This was the state machine's reply.
    Applied(R),
    /// The session is closed.
    Closed,
    /// The command was not applied, or no session opened.
    Refused(SessionRefused),
}

impl<S: StateMachine> Sessions<S>
where
    S::Reply: Clone,
{
    /// Sessions for this state machine, with replies in the format [`Postcard`].
    pub fn new(machine: S) -> Self {
        Self::with_format(machine)
    }
}

impl<S: StateMachine, F> Sessions<S, F>
where
    S::Reply: Clone,
{
    /// Sessions for this state machine, with replies in the format `F`.
    pub fn with_format(machine: S) -> Self {
        Self { machine, table: SessionTable::new(), decoded: Cell::new(None), format: PhantomData }
    }

    /// The table.
    pub fn table(&self) -> &SessionTable<S::Reply> {
        &self.table
    }

    fn apply_once(
        &mut self,
        index: Index,
        number: CommandNumber,
        command: Bytes,
    ) -> SessionReply<S::Reply> {
        let CommandNumber { session, serial, answered_below } = number;
        let apply = || self.machine.apply(index, command);
        match self.table.apply_once(session, serial, answered_below, index, apply) {
            Ok(reply) => SessionReply::Applied(reply),
            Err(refused) => SessionReply::Refused(refused),
        }
    }
}

impl<S, F> StateMachine for Sessions<S, F>
where
    S: StateMachine,
    S::Reply: Clone + Sync,
    F: Format<S::Reply>,
{
    type Reply = SessionReply<S::Reply>;

    /// # Panics
    ///
    /// If the command is not understood. A node asks `understands` before.
    fn apply(&mut self, index: Index, bytes: Bytes) -> Self::Reply {
        if let Some(Decoded { number, command, place: of }) = self.decoded.take() {
            // The command holds the bytes, so the same place means the same bytes.
            if of == place(&bytes) {
                return self.apply_once(index, number, command);
            }
        }
        match SessionCommand::decode(&bytes).unwrap_or_else(|error| panic!("{error}")) {
            SessionCommand::Open(limits) => {
                let id = SessionId::new(index.get());
                match self.table.open(id, index, limits) {
                    Ok(()) => SessionReply::Opened(id),
                    Err(refused) => SessionReply::Refused(refused),
                }
            }
            SessionCommand::Apply { number, command } => self.apply_once(index, number, command),
            SessionCommand::Close(id) => {
                self.table.close(id);
                SessionReply::Closed
            }
        }
    }

    fn understands(&self, bytes: &Bytes) -> Result<(), NotUnderstood> {
        match SessionCommand::decode(bytes)? {
            SessionCommand::Apply { number, command } => {
                self.machine.understands(&command)?;
                // An empty command holds nothing.
                if !command.is_empty() {
                    self.decoded.set(Some(Decoded { number, command, place: place(bytes) }));
                }
                Ok(())
            }
            SessionCommand::Open(_) | SessionCommand::Close(_) => Ok(()),
        }
    }

    fn snapshot(&self) -> Option<Capture> {
        let machine = self.machine.snapshot()?;
        let table = self.table.clone();
        Some(Box::new(move |out| {
            write_table::<_, F>(&table, out)?;
            drop(table);
            machine(out)
        }))
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.table = read_table::<_, F>(from)?;
        self.machine.restore(from)
    }

    fn digest(&self) -> Option<u64> {
        self.machine.digest()
    }

    fn version_in_force(&mut self, version: u32) {
        self.machine.version_in_force(version);
    }

    fn applies_in_batches(&self) -> bool {
        self.machine.applies_in_batches()
    }

    fn end_batch(&mut self, last: Index) {
        self.machine.end_batch(last);
    }

    fn caught_up(&mut self) {
        self.machine.caught_up();
    }

    fn blocks(&self) -> Option<bool> {
        self.machine.blocks()
    }
}

impl<S: StateMachine + Default, F> Default for Sessions<S, F>
where
    S::Reply: Clone,
{
    fn default() -> Self {
        Self::with_format(S::default())
    }
}

impl<S, F> fmt::Debug for Sessions<S, F>
where
    S: StateMachine + fmt::Debug,
    S::Reply: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, table, .. } = self;
        f.debug_struct("Sessions").field("machine", machine).field("table", table).finish()
    }
}

impl<S: StateMachine, F> Deref for Sessions<S, F> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.machine
    }
}

/// Where bytes lie in memory, and how many there are.
fn place(bytes: &Bytes) -> (usize, usize) {
    (bytes.as_ptr().addr(), bytes.len())
}

fn write_table<R: Clone, F: Format<R>>(
    table: &SessionTable<R>,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let mut bytes = Vec::from(*MAGIC);
    let mut encoded = Vec::new();
    varint::put(VERSION, &mut bytes);
    varint::put(table.len() as u64, &mut bytes);
    for session in table.iter() {
        varint::put(session.id.get(), &mut bytes);
        varint::put(session.last_used.get(), &mut bytes);
        varint::put(session.unanswered_max.into(), &mut bytes);
        varint::put(session.in_order.into(), &mut bytes);
        varint::put(session.answered_below, &mut bytes);
        varint::put(session.replies.len() as u64, &mut bytes);
        for (serial, reply) in &session.replies {
            F::encode(reply, &mut encoded).map_err(io::Error::other)?;
            varint::put(*serial, &mut bytes);
            varint::put(encoded.len() as u64, &mut bytes);
            bytes.append(&mut encoded);
        }
        out.write_all(&bytes)?;
        bytes.clear();
    }
    out.write_all(&bytes)
}

/// Reads exactly what [`write_table`] wrote, and leaves the rest.
fn read_table<R: Clone, F: Format<R>>(from: &mut dyn io::Read) -> io::Result<SessionTable<R>> {
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(damaged("the snapshot does not begin with a table of client sessions"));
    }
    let version = read_number(from)?;
    if version != VERSION {
        let text = format!(
            "a table of client sessions of version {version}; this program reads {VERSION}"
        );
        return Err(NotUnderstood::new(text).into());
    }
    let mut table = SessionTable::new();
    for _ in 0..read_number(from)? {
        let id = SessionId::new(read_number(from)?);
        let last_used = Index::new(read_number(from)?);
        let unanswered_max = read_number(from)?.try_into();
        let unanswered_max =
            unanswered_max.map_err(|_| damaged("a limit of a client session is out of range"))?;
        let in_order = read_number(from)? == 1;
        let answered_below = read_number(from)?;
        let count = read_number(from)?;
        let mut replies = Vec::with_capacity(count.min(RESERVE_MAX as u64) as usize);
        for _ in 0..count {
            let serial = read_number(from)?;
            let bytes = read_bytes(from)?;
            let reply = F::decode(&bytes).map_err(|error| {
                NotUnderstood::new(format!("a reply that was kept for a client: {error}"))
            })?;
            replies.push((serial, reply));
        }
        let session =
            StoredSession { id, last_used, unanswered_max, in_order, answered_below, replies };
        table.put(session);
    }
    Ok(table)
}

fn read_number(from: &mut dyn io::Read) -> io::Result<u64> {
    let (mut bytes, mut length) = ([0; 10], 0);
    while length < bytes.len() {
        from.read_exact(&mut bytes[length..=length])?;
        length += 1;
        if bytes[length - 1] < 0x80 {
            break;
        }
    }
    varint::take(&mut &bytes[..length]).ok_or_else(|| damaged("a number is out of range"))
}

fn read_bytes(from: &mut dyn io::Read) -> io::Result<Vec<u8>> {
    let length = read_number(from)?;
    let mut bytes = Vec::with_capacity(length.min(RESERVE_MAX as u64) as usize);
    io::Read::read_to_end(&mut io::Read::take(from, length), &mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

fn damaged(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::service::format::FormatError;
    use crate::host::service::table::SessionLimits;

    /// No snapshot is taken here.
    struct NoFormat;

    impl Format<u64> for NoFormat {
        fn encode(_: &u64, _: &mut Vec<u8>) -> Result<(), FormatError> {
            panic!("no snapshot")
        }

        fn decode(_: &[u8]) -> Result<u64, FormatError> {
            panic!("no snapshot")
        }
    }

    struct Total(u64);

    impl StateMachine for Total {
        type Reply = u64;

        fn apply(&mut self, _index: Index, command: Bytes) -> u64 {
            self.0 += command.len() as u64;
            self.0
        }
    }

    #[test]
    fn a_command_is_applied_and_not_the_one_that_was_asked_about() {
        let mut machine = Sessions::<_, NoFormat>::with_format(Total(0));
        let open = SessionCommand::Open(SessionLimits::default()).encode();
        let SessionReply::Opened(session) = machine.apply(Index::new(1), open) else { panic!() };
        let add = |serial, command: &'static str| {
            let number = CommandNumber { session, serial, answered_below: 1 };
            SessionCommand::Apply { number, command: command.into() }.encode()
        };
        let (asked, applied) = (add(1, "three"), add(2, "it"));
        machine.understands(&asked).unwrap();
        assert_eq!(machine.apply(Index::new(2), applied), SessionReply::Applied(2));
        machine.understands(&asked).unwrap();
        assert_eq!(machine.apply(Index::new(3), asked), SessionReply::Applied(7));
        let empty = add(3, "");
        machine.understands(&empty).unwrap();
        assert_eq!(machine.apply(Index::new(4), empty), SessionReply::Applied(7));
    }
}
