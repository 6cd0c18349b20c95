//! What a message may do to a small memory, known before it is done.
//!
//! Whatever comes over the line, from a server with other limits or from a broken one as well, the
//! heap suffices: what could ask for more than it has is dropped, as the line drops what it
//! damages. Raft bears that.
//!
//! - A body of [`ITEMS_MAX`] CBOR items decodes into 1.2 KiB at most. Without that bound 500 bytes
//!   of empty entries would take 18.
//! - The log never has more than [`LOG_ENTRIES_MAX`] entries, for which there is memory from the
//!   start. The core refuses commands by their bytes, but never the entry with which a term begins.
//!   A member whose log is full of those steps aside: it elects others, follows and confirms what
//!   it has, and leads no more until entries are committed, replaced or in a snapshot. Only a
//!   cluster that elects [`LOG_TERMS_MAX`](crate::limits::LOG_TERMS_MAX) leaders one after the
//!   other of which none can commit a single entry comes there.

use raft_core::{Body, LogId, Message};

use crate::limits::LOG_ENTRIES_MAX;

/// The most CBOR items of a message: 14 around 8 entries, each in a term of its own, or around five
/// members; and some to spare.
pub const ITEMS_MAX: usize = 44;

/// How many CBOR items there are; none if these bytes cannot be what the codec writes.
pub fn items(body: &[u8]) -> Option<usize> {
    let mut rest = body;
    let mut items = 0;
    while let Some((first, behind)) = rest.split_first() {
        let (kind, short) = (first >> 5, first & 0x1f);
        let width = match short {
            0..=23 => 0,
            24..=27 => 1 << (short - 24),
            _ => return None,
        };
        let (argument, behind) = behind.split_at_checked(width)?;
        // Byte strings and texts are followed by so many bytes.
        let content = match kind {
            2 | 3 if width == 0 => usize::from(short),
            2 | 3 => argument.iter().try_fold(0usize, |sum, byte| {
                sum.checked_mul(256)?.checked_add(usize::from(*byte))
            })?,
            _ => 0,
        };
        rest = behind.get(content..)?;
        items += 1;
    }
    Some(items)
}

/// Whether the log keeps to its memory if the server whose log goes from `base` to `last` hears
/// this.
pub fn fits<C>(message: &Message<C>, (base, last): (LogId, LogId)) -> bool {
    let end = match &message.body {
        Body::AppendEntries(append) => append.entries.last().map(|entry| entry.index),
        // It may begin a term.
        Body::RequestVoteReply(_) => Some(last.index.next()),
        _ => None,
    };
    let entries = end.map_or(0, |end| end.get().saturating_sub(base.index.get()));
    entries <= LOG_ENTRIES_MAX as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_counted_without_being_decoded() {
        assert_eq!(items(&[0x82, 0x01, 0x43, 0xf6, 0xf6, 0xf6]), Some(3));
        assert_eq!(items(&[0x58, 2, 0xf6, 0xf6, 0x19, 1, 2, 0xf6]), Some(3));
        assert_eq!(items(&[0xf6; 500]), Some(500));
        for cut_or_endless in [
            &[0x44, 1, 2][..],
            &[0x5b, 255, 255, 255, 255, 255, 255, 255, 255],
            &[0x9f],
            &[0x19, 1],
        ] {
            assert_eq!(items(cut_or_endless), None, "{cut_or_endless:x?}");
        }
    }
}
