//! A snapshot of the store (§7): all that follows from the commands up to one index, as a stream of
//! bytes.
//!
//! ```text
//! "kv-store" | version u32 | applied u64 | digest u64 | sessions u64 | keys u64
//! for each session: id u64 | batch u64 | at u64 | replies u32
//!     for each reply: length u32, the reply as the Redis protocol has it
//! for each key: length u32, key | length u32, value
//! ```
//!
//! Numbers are little-endian. The replies to a session are those to its last batch, by the position
//! of the write; the reply to a write that was overtaken is the refusal.
//!
//! The replies to sessions are part of it: a server that starts from a snapshot must know a write
//! that comes again. The digest is computed anew from what was read, and must come out the same.
//! That blocks are whole and in their order is the host's affair.

use std::io::{self, ErrorKind, Read, Write};

use bytes::{Bytes, BytesMut};
use raft_core::Index;
use raft_core::host::{NotUnderstood, SessionId, SessionTable, StoredSession};

use super::digest::Digest;
use super::limits::BATCH_REQUESTS_MAX;
use super::resp::{self, Decoder, Frame, WRITE_BYTES_MAX};
use super::sessions::{BATCH_MAX, BATCH_SERIALS, LIMITS, SESSIONS_MAX, overtaken};
use super::values::Values;

const MAGIC: [u8; 8] = *b"kv-store";
const VERSION: u32 = 1;

/// All that a store holds. A clone costs nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Contents {
    /// The last entry applied.
    pub applied: Index,
    /// Keys and their values.
    pub values: Values,
    /// What sessions were told.
    pub sessions: SessionTable<Frame>,
}

impl Contents {
    /// Writes it out, in pieces of a key or value each.
    ///
    /// # Errors
    ///
    /// As `out` has them.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        let counts = [self.sessions.len(), self.values.size()].map(|count| count as u64);
        for number in [self.applied.get(), self.values.digest().into()].into_iter().chain(counts) {
            out.write_all(&number.to_le_bytes())?;
        }
        for session in self.sessions.iter() {
            write_session(out, session)?;
        }
        for (key, value) in self.values.iter() {
            write_bytes(out, key)?;
            write_bytes(out, value)?;
        }
        Ok(())
    }
}

/// Reads what [`Contents::write`] wrote.
///
/// # Errors
///
/// As `from` has them; [`ErrorKind::InvalidData`] if this is no such snapshot or is damaged;
/// [`NotUnderstood`] if it is of a version that this program does not know.
pub fn read(from: &mut dyn Read) -> io::Result<Contents> {
    if read_array(from)? != MAGIC {
        return Err(invalid("this is no snapshot of this store"));
    }
    let version = u32::from_le_bytes(read_array(from)?);
    if version != VERSION {
        let text = format!("its format has version {version}, and this program reads {VERSION}");
        return Err(NotUnderstood::new(text).into());
    }
    let applied = Index::new(read_u64(from)?);
    let digest = Digest::from(read_u64(from)?);
    let (sessions, keys) = (read_u64(from)?, read_u64(from)?);
    if sessions > SESSIONS_MAX as u64 {
        return Err(invalid("more sessions than a store remembers"));
    }
    let mut contents = Contents { applied, ..Contents::default() };
    for _ in 0..sessions {
        contents.sessions.put(read_session(from)?);
    }
    for _ in 0..keys {
        contents.values.insert(read_bytes(from)?, read_bytes(from)?);
    }
    if contents.values.digest() != digest || contents.values.size() as u64 != keys {
        return Err(invalid("what it holds does not have the digest that it names"));
    }
    Ok(contents)
}

fn write_session(out: &mut dyn Write, session: StoredSession<Frame>) -> io::Result<()> {
    let StoredSession { id, last_used, answered_below, .. } = session;
    for number in [id.get(), answered_below / BATCH_SERIALS, last_used.get()] {
        out.write_all(&number.to_le_bytes())?;
    }
    let mut replies = Vec::new();
    for (serial, reply) in session.replies {
        // What is missing before it was overtaken.
        replies.resize_with((serial - answered_below) as usize, overtaken);
        replies.push(reply);
    }
    write_length(out, replies.len())?;
    let mut encoded = BytesMut::new();
    for reply in &replies {
        encoded.clear();
        resp::encode(&mut encoded, reply);
        write_bytes(out, &encoded)?;
    }
    Ok(())
}

fn read_session(from: &mut dyn Read) -> io::Result<StoredSession<Frame>> {
    let (session, batch, at) = (read_u64(from)?, read_u64(from)?, read_u64(from)?);
    if batch > BATCH_MAX {
        return Err(invalid("a batch in it has a number that is too high"));
    }
    let answered_below = batch * BATCH_SERIALS;
    let count = read_length(from, BATCH_REQUESTS_MAX)?;
    let mut replies = Vec::with_capacity(count);
    for serial in (answered_below..).take(count) {
        let mut decoder = Decoder::of_replies();
        decoder.buffer = BytesMut::from(read_bytes(from)?);
        let reply = decoder.decode().ok().flatten();
        let reply = reply.ok_or_else(|| invalid("a reply in it cannot be read"))?;
        // The table refuses it without a reply.
        if reply != overtaken() {
            replies.push((serial, reply));
        }
    }
    Ok(StoredSession {
        id: SessionId::new(session),
        last_used: Index::new(at),
        unanswered_max: LIMITS.unanswered_max.get(),
        in_order: LIMITS.in_order,
        answered_below,
        replies,
    })
}

fn write_bytes(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    write_length(out, bytes.len())?;
    out.write_all(bytes)
}

/// A key, a value or a reply: none is longer than the longest write.
fn read_bytes(from: &mut dyn Read) -> io::Result<Bytes> {
    let mut bytes = vec![0; read_length(from, WRITE_BYTES_MAX)?];
    from.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

fn write_length(out: &mut dyn Write, length: usize) -> io::Result<()> {
    let length = u32::try_from(length).map_err(|_| invalid("it is too long"))?;
    out.write_all(&length.to_le_bytes())
}

fn read_length(from: &mut dyn Read, max: usize) -> io::Result<usize> {
    let length = u32::from_le_bytes(read_array(from)?);
    let length = usize::try_from(length).ok().filter(|length| *length <= max);
    length.ok_or_else(|| invalid("something in it is longer than it can be"))
}

fn read_u64(from: &mut dyn Read) -> io::Result<u64> {
    Ok(u64::from_le_bytes(read_array(from)?))
}

fn read_array<const N: usize>(from: &mut dyn Read) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    from.read_exact(&mut array)?;
    Ok(array)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the snapshot cannot be used: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::command::Write as Command;
    use crate::server::resp::Frame;
    use crate::server::store::Store;

    /// A store after writes of two connections.
    fn store() -> Store {
        let mut store = Store::new();
        let set = |key: &'static str, value: &'static str| Command::Set {
            key: key.into(),
            value: value.into(),
        };
        let writes = [
            ("5f.1.0", set("a", "1")),
            ("5f.1.1", Command::Increment { key: "n".into() }),
            ("60.7.0", set("", "")),
            ("60.8.0", Command::Delete { keys: vec!["a".into(), "none".into()] }),
            ("60.8.2", set("b", "overtakes a write")),
        ];
        for ((name, write), index) in writes.into_iter().zip(1..) {
            store.apply(Index::new(index), write.encode(name.parse().unwrap()));
        }
        store
    }

    fn bytes(store: &Store) -> Vec<u8> {
        let mut bytes = Vec::new();
        store.capture().write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let store = store();
        let mut other = Store::new();
        other.restore(&mut &*bytes(&store)).unwrap();
        assert_eq!(other.capture(), store.capture());
        assert_eq!(other.watch().summary(), store.watch().summary());
    }

    #[test]
    fn a_write_that_comes_again_after_a_restart_is_known() {
        let mut other = Store::new();
        other.restore(&mut &*bytes(&store())).unwrap();
        let again = Command::Delete { keys: vec!["n".into()] }.encode("60.8.0".parse().unwrap());
        assert_eq!(other.apply(Index::new(6), again), Frame::Integer(1), "as it was told before");
        for name in ["60.7.0", "60.8.1"] {
            let before = Command::Increment { key: "n".into() }.encode(name.parse().unwrap());
            assert_eq!(other.apply(Index::new(7), before), overtaken(), "{name}");
        }
    }

    /// Servers of earlier versions read and write these bytes.
    #[test]
    fn a_session_is_written_and_read_as_by_earlier_versions() {
        let mut bytes = Vec::new();
        for number in [0x60_u64, 8, 5] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let overtaken =
            "-TRYAGAIN nothing was changed: a later write of this connection came first\r\n";
        let replies = [":1\r\n", overtaken, "+OK\r\n"];
        bytes.extend_from_slice(&3_u32.to_le_bytes());
        for reply in replies {
            bytes.extend_from_slice(&(reply.len() as u32).to_le_bytes());
            bytes.extend_from_slice(reply.as_bytes());
        }

        let sessions = store().capture().sessions;
        let session = sessions.iter().find(|session| session.id.get() == 0x60).unwrap();
        assert_eq!(read_session(&mut &*bytes).unwrap(), session);
        let mut written = Vec::new();
        write_session(&mut written, session).unwrap();
        assert_eq!(written, bytes);
    }

    #[test]
    fn a_capture_does_not_see_what_is_written_later() {
        let mut store = store();
        let capture = store.capture();
        let before = bytes(&store);
        let write = Command::Set { key: "n".into(), value: "9".into() };
        store.apply(Index::new(6), write.encode("5f.2.0".parse().unwrap()));
        let mut after = Vec::new();
        capture.write(&mut after).unwrap();
        assert_eq!(after, before);
        assert_ne!(bytes(&store), before);
    }

    #[test]
    fn damage_is_an_error_and_leaves_the_store_as_it_was() {
        let whole = bytes(&store());
        for at in 0..whole.len() {
            let mut store = store();
            let before = store.capture();
            assert!(store.restore(&mut &whole[..at]).is_err(), "cut off at {at}");
            assert_eq!(store.capture(), before);
        }
        let mut newer = whole.clone();
        newer[MAGIC.len()] += 1;
        let error = read(&mut &*newer).unwrap_err();
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<NotUnderstood>());
        assert!(cause.is_some(), "{error}");
        assert!(error.to_string().contains("version 2, and this program reads 1"), "{error}");
        // In the head, where the digest does not look.
        for at in 0..MAGIC.len() + 4 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(read(&mut &*bytes).is_err(), "damaged at {at}");
        }
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(read(&mut &*bytes).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn lengths_that_cannot_be_are_not_believed() {
        let head = b"kv-store\x01\0\0\0";
        for (sessions, keys) in [(u64::MAX, 0), (0, u64::MAX)] {
            let mut bytes = head.to_vec();
            for number in [1, 0, sessions, keys] {
                bytes.extend_from_slice(&u64::to_le_bytes(number));
            }
            bytes.extend_from_slice(&[0xff; 8]);
            assert!(read(&mut &*bytes).is_err());
        }
    }
}
