//! What the firmware says about itself over the line, a few times in a second: for tests and for
//! those who watch it.

use raft_core::Role;

use super::sum::crc32;

macro_rules! report {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// The state of the firmware at one moment.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct Report {
            $($(#[$doc])* pub $field: u32,)*
        }

        impl Report {
            const FIELDS: usize = [$(stringify!($field)),*].len();

            /// The bytes of a frame's body: all fields in their order, little-endian.
            pub fn encode(&self) -> [u8; Self::FIELDS * 4] {
                let mut bytes = [0; Self::FIELDS * 4];
                let fields = [$(self.$field),*];
                for (chunk, field) in bytes.chunks_exact_mut(4).zip(fields) {
                    chunk.copy_from_slice(&field.to_le_bytes());
                }
                bytes
            }

            /// The report in these bytes, if it is one.
            pub fn decode(body: &[u8]) -> Option<Self> {
                if body.len() != Self::FIELDS * 4 {
                    return None;
                }
                let mut fields = body.chunks_exact(4).map(|chunk| {
                    chunk.try_into().map_or(0, u32::from_le_bytes)
                });
                Some(Self { $($field: fields.next()?,)* })
            }
        }
    };
}

report! {
    /// Milliseconds since the start.
    uptime,
    /// 0 follower, 1 pre-candidate, 2 candidate, 3 leader.
    role,
    /// The current term.
    term,
    /// The leader's id, 0 if none is known.
    leader,
    /// The last entry applied.
    applied,
    /// How many of those held commands.
    commands,
    /// The digest of those commands: see [`digest`].
    digest,
    /// Proposals refused, because another node leads or the log is full.
    refused,
    /// Frames that came in whole.
    frames,
    /// Frames that came in damaged.
    damaged,
    /// Stretches of the line that were longer than any frame.
    overlong,
    /// Bytes that came while the queue was full.
    overrun,
    /// Messages that were whole and yet none, by the codec, or of more parts than any server sends.
    undecodable,
    /// Messages dropped because the memory would not have sufficed.
    starved,
    /// Frames that the line had no room for.
    unsent,
    /// 1 if the last start found a write that was cut short, and cut it off.
    torn,
    /// Snapshots taken since the start.
    taken,
    /// Snapshots from a leader that took the log's place since the start.
    installed,
    /// How often the journal was rewritten into its other half.
    rewrites,
    /// Allocations since the start.
    allocations,
    /// The most bytes of heap in use.
    heap_used_max,
    /// The most bytes of stack in use.
    stack_used_max,
}

/// A role as a number.
pub fn role_number(role: Role) -> u32 {
    match role {
        Role::Follower => 0,
        Role::PreCandidate => 1,
        Role::Candidate => 2,
        Role::Leader => 3,
        _ => u32::MAX,
    }
}

/// The digest of a sequence of commands, given that of all before the last.
pub fn digest(before: u32, command: &[u8]) -> u32 {
    crc32(&[&before.to_le_bytes(), command])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_was_sent() {
        let report =
            Report { uptime: 1, term: 7, leader: 3, stack_used_max: 99, ..Report::default() };
        assert_eq!(Report::decode(&report.encode()), Some(report));
        assert_eq!(Report::decode(&report.encode()[1..]), None);
    }

    #[test]
    fn a_digest_tells_sequences_apart() {
        let of = |commands: &[&[u8]]| commands.iter().fold(0, |before, c| digest(before, c));
        assert_ne!(of(&[b"a", b"b"]), of(&[b"b", b"a"]));
        assert_ne!(of(&[b"ab"]), of(&[b"a", b"b"]));
    }
}
