//! Why bytes cannot be decoded.

use core::fmt;

/// Why bytes are not a message or a write. Nothing was decoded; what was allocated is freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the value does.
    Truncated,
    /// Here stands something other than the format allows.
    Malformed {
        /// How many bytes were read when it showed.
        offset: usize,
    },
    /// The value is complete, but bytes follow it.
    TrailingBytes {
        /// Where they begin.
        offset: usize,
    },
    /// A message of a kind that this version does not know: a newer node sent it. Drop it, and
    /// upgrade this node.
    UnknownMessage {
        /// Its number.
        kind: u64,
    },
    /// A reply with a result that this version does not know: a newer node sent it. Drop it, and
    /// upgrade this node.
    UnknownResult {
        /// Its number.
        kind: u64,
    },
    /// An entry of a kind that this version does not know: a newer node made it. Upgrade this node.
    UnknownPayload {
        /// Its number.
        kind: u64,
    },
    /// A write with a field that this version does not know, by a newer version; without it the
    /// state would be incomplete. Upgrade this node again.
    UnknownWriteField {
        /// Its number.
        field: u64,
    },
}

impl DecodeError {
    /// Whether the bytes are sound, but from a newer version that says what this one cannot
    /// understand. A transport then drops the message and keeps the connection.
    pub const fn is_from_newer(&self) -> bool {
        match self {
            Self::UnknownMessage { .. }
            | Self::UnknownResult { .. }
            | Self::UnknownPayload { .. }
            | Self::UnknownWriteField { .. } => true,
            Self::Truncated | Self::Malformed { .. } | Self::TrailingBytes { .. } => false,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the bytes end too early"),
            Self::Malformed { offset } => {
                write!(f, "what stands near byte {offset} does not belong there")
            }
            Self::TrailingBytes { offset } => {
                write!(f, "the value ends at byte {offset}, but more bytes follow")
            }
            Self::UnknownMessage { kind } => {
                write!(f, "message kind {kind} is not known to this version: upgrade this node")
            }
            Self::UnknownResult { kind } => {
                write!(f, "result kind {kind} is not known to this version: upgrade this node")
            }
            Self::UnknownPayload { kind } => {
                write!(f, "entry kind {kind} is not known to this version: upgrade this node")
            }
            Self::UnknownWriteField { field } => write!(
                f,
                "field {field} of a write is not known to this version: it was written by a newer one, run that"
            ),
        }
    }
}

impl core::error::Error for DecodeError {}

impl From<minicbor::decode::Error> for DecodeError {
    fn from(error: minicbor::decode::Error) -> Self {
        match error.position() {
            _ if error.is_end_of_input() => Self::Truncated,
            offset => Self::Malformed { offset: offset.unwrap_or_default() },
        }
    }
}
