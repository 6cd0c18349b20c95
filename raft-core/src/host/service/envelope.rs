//! How the commands of sessions stand in the log: a byte for the kind, numbers of variable length,
//! then the state machine's own command.
//!
//! | kind | what follows |
//! |---|---|
//! | 1 open | `sessions_max`, `unanswered_max`, `idle_entries_min`, 1 if in order or else 0 |
//! | 2 apply | session, serial, serial - `answered_below`, the command |
//! | 3 close | session |

use std::format;
use std::num::NonZeroU32;
use std::vec::Vec;

use bytes::Bytes;

use super::table::{SessionId, SessionLimits};
use super::varint;
use crate::host::state_machine::NotUnderstood;

const OPEN: u8 = 1;
const APPLY: u8 = 2;
const CLOSE: u8 = 3;

/// The number of a command within its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CommandNumber {
    /// The session.
    pub session: SessionId,
    /// The serial number: the same each time the command is sent, and of no other command of the
    /// session.
    pub serial: u64,
    /// The client has the replies to all commands with lower serial numbers, or gave them up. Never
    /// above `serial`.
    pub answered_below: u64,
}

/// A command of [`Sessions`](super::Sessions), as a client proposes it.
///
/// [`Client`](super::Client) does all of this. A client that is no part of a node, such as one in
/// another process, proposes these through a node of its choice.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SessionCommand {
    /// Opens a session, answered by [`SessionReply::Opened`](super::SessionReply::Opened).
    Open(SessionLimits),
    /// Applies a command once.
    Apply {
        /// Its number.
        number: CommandNumber,
        /// The command.
        command: Bytes,
    },
    /// Closes a session.
    Close(SessionId),
}

impl SessionCommand {
    /// The bytes for the log.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Open(SessionLimits {
                sessions_max,
                unanswered_max,
                idle_entries_min,
                in_order,
            }) => {
                let mut bytes = Vec::from([OPEN]);
                varint::put(sessions_max.get().into(), &mut bytes);
                varint::put(unanswered_max.get().into(), &mut bytes);
                varint::put(*idle_entries_min, &mut bytes);
                varint::put((*in_order).into(), &mut bytes);
                bytes.into()
            }
            Self::Apply { number, command } => encode_apply(*number, command),
            Self::Close(session) => {
                let mut bytes = Vec::from([CLOSE]);
                varint::put(session.get(), &mut bytes);
                bytes.into()
            }
        }
    }

    /// The command that these bytes are.
    ///
    /// # Errors
    ///
    /// They are none that this version of the library knows.
    pub fn decode(bytes: &Bytes) -> Result<Self, NotUnderstood> {
        let length = bytes.len();
        let kind = bytes.first().copied();
        let unknown = || {
            NotUnderstood::new(format!(
                "{length} bytes are no command of a client session: their kind is {kind:?}, and \
                 this version knows 1 to 3"
            ))
        };
        let mut rest = bytes.get(1..).unwrap_or_default();
        let command = match kind {
            Some(OPEN) => decode_open(&mut rest).map(Self::Open),
            Some(APPLY) => decode_number(&mut rest).map(|number| {
                let command = bytes.slice(length - rest.len()..);
                Self::Apply { number, command }
            }),
            Some(CLOSE) => varint::take(&mut rest).map(|id| Self::Close(SessionId::new(id))),
            _ => None,
        };
        command.ok_or_else(unknown)
    }
}

fn decode_open(from: &mut &[u8]) -> Option<SessionLimits> {
    let limit = |number: u64| NonZeroU32::new(u32::try_from(number).ok()?);
    Some(SessionLimits {
        sessions_max: limit(varint::take(from)?)?,
        unanswered_max: limit(varint::take(from)?)?,
        idle_entries_min: varint::take(from)?,
        in_order: match varint::take(from)? {
            0 => false,
            1 => true,
            _ => return None,
        },
    })
}

fn decode_number(from: &mut &[u8]) -> Option<CommandNumber> {
    let session = SessionId::new(varint::take(from)?);
    let serial = varint::take(from)?;
    let answered_below = serial.checked_sub(varint::take(from)?)?;
    Some(CommandNumber { session, serial, answered_below })
}

pub(super) fn encode_apply(number: CommandNumber, command: &[u8]) -> Bytes {
    let CommandNumber { session, serial, answered_below } = number;
    let mut bytes = Vec::with_capacity(1 + 3 * 10 + command.len());
    bytes.push(APPLY);
    varint::put(session.get(), &mut bytes);
    varint::put(serial, &mut bytes);
    varint::put(serial.saturating_sub(answered_below), &mut bytes);
    bytes.extend_from_slice(command);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_their_bytes() {
        let session = SessionId::new(300);
        let number = CommandNumber { session, serial: 1 << 40, answered_below: 7 };
        let in_order = SessionLimits { in_order: true, ..SessionLimits::default() };
        let commands = [
            SessionCommand::Open(SessionLimits::default()),
            SessionCommand::Open(in_order),
            SessionCommand::Apply { number, command: "add".into() },
            SessionCommand::Apply { number, command: Bytes::new() },
            SessionCommand::Close(session),
        ];
        for command in commands {
            assert_eq!(SessionCommand::decode(&command.encode()), Ok(command));
        }
    }

    #[test]
    fn the_log_of_today_is_read_for_ever() {
        let number = CommandNumber { session: SessionId::new(300), serial: 5, answered_below: 3 };
        let apply = SessionCommand::Apply { number, command: "add".into() };
        assert_eq!(apply.encode(), &b"\x02\xac\x02\x05\x02add"[..]);
        let open = SessionCommand::Open(SessionLimits::default());
        assert_eq!(open.encode(), &b"\x01\x80\x20\x80\x08\x90\x4e\x00"[..]);
        assert_eq!(SessionCommand::Close(SessionId::new(1)).encode(), &b"\x03\x01"[..]);
    }

    #[test]
    fn other_bytes_are_not_understood() {
        let bad: [&'static [u8]; 8] = [
            b"",
            b"\x00",
            b"\x04\x01",
            b"\x02",
            b"\x02\x01\x05\x06add",
            b"\x01\x00\x01\x00\x00",
            b"\x01\x01\x01\x00\x02",
            b"\x03\x80",
        ];
        for bytes in bad {
            assert!(SessionCommand::decode(&Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }
}
