//! The checkpoint with which a segment begins, so that the segments before it can be deleted.
//!
//! A checkpoint is a batch of two items: a write that names term, vote, snapshot and base, and the
//! shape of the log behind the base. The first segment has none, because nothing was before it. If
//! the segments before are still there, recovery compares the checkpoint with what they say.

use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

use bytes::Bytes;

use super::batch::{self, Batch};
use super::replay::Position;
use crate::codec;
use crate::host::storage_error::Refused;
use crate::output::Write;
use crate::types::{Index, LogId, Term};

/// A term and the index of its last entry, 8 bytes each, little-endian.
const TERM_END_BYTES: usize = 16;

/// Adds the checkpoint to an empty batch. If it is too long for a frame, the error is its length.
pub(super) fn push(position: &Position, batch: &mut Batch) -> Result<(), usize> {
    let Position { hard_state, snapshot, base, term_ends } = position;
    batch.push(&Write {
        hard_state: Some(*hard_state),
        snapshot: snapshot.as_deref().cloned().map(Box::new),
        compact_to: Some(Box::new(*base)),
        ..Write::default()
    })?;
    let mut ends = Vec::with_capacity(term_ends.len() * TERM_END_BYTES);
    for end in term_ends {
        ends.extend_from_slice(&end.term.get().to_le_bytes());
        ends.extend_from_slice(&end.index.get().to_le_bytes());
    }
    batch.push_item(|out| out.extend_from_slice(&ends))
}

/// Reads the checkpoint from a frame's payload.
pub(super) fn open(payload: &mut [u8]) -> Result<Position, Refused> {
    let mut rest = batch::open(payload)?;
    let (Some(head), Some(ends), None) =
        (batch::next_item(&mut rest)?, batch::next_item(&mut rest)?, batch::next_item(&mut rest)?)
    else {
        return Err("the segment does not begin with a checkpoint".into());
    };
    let decoded = codec::decode_write(head, Bytes::copy_from_slice);
    let (Some(hard_state), Some(base), snapshot) = (match decoded {
        Ok(Write { hard_state, compact_to, snapshot, .. }) => {
            (hard_state, compact_to.map(|base| *base), snapshot)
        }
        Err(error) => return Err(Refused::undecodable("the checkpoint", error)),
    }) else {
        return Err("the checkpoint names no term or no base".into());
    };
    let mut position = Position {
        hard_state,
        snapshot: snapshot.map(|snapshot| Arc::new(*snapshot)),
        base,
        ..Position::default()
    };
    let number = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if ends.len() % TERM_END_BYTES != 0 {
        return Err("the checkpoint's shape of the log is cut off".into());
    }
    for end in ends.chunks_exact(TERM_END_BYTES) {
        let (term, index) = end.split_at(TERM_END_BYTES / 2);
        let end = LogId::new(Term::new(number(term)), Index::new(number(index)));
        let last = position.last();
        // The first term behind the base may be the base's own term. Every later term is higher
        // than the one before.
        let rises = position.term_ends.is_empty() || end.term > last.term;
        if end.index <= last.index || end.term < last.term || !rises {
            return Err(std::format!("the checkpoint's log has {end} behind {last}").into());
        }
        position.term_ends.push_back(end);
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::super::segment::Salting;
    use super::*;
    use crate::host::wire::frame::HEADER_BYTES;
    use crate::membership::Membership;
    use crate::message::SnapshotMeta;
    use crate::types::{HardState, NodeId};

    #[test]
    fn a_checkpoint_comes_back_and_others_are_refused() {
        let id = |term, index| LogId::new(Term::new(term), Index::new(index));
        let membership = Membership::of_voters([1, 2].map(NodeId::new));
        let position = Position {
            hard_state: HardState {
                current_term: Term::new(7),
                voted_for: Some(NodeId::new(2)),
                ..Default::default()
            },
            snapshot: Some(Arc::new(SnapshotMeta { last: id(3, 9), membership })),
            base: id(2, 4),
            term_ends: [id(2, 5), id(3, 12), id(7, 13)].into(),
        };
        let mut batch = Batch::new();
        push(&position, &mut batch).unwrap();
        let payload = batch.seal(60, Salting::Absent).unwrap()[HEADER_BYTES..].to_vec();
        assert_eq!(open(&mut payload.clone()).as_ref(), Ok(&position));
        for wrong in [[id(2, 5), id(2, 6)], [id(2, 5), id(1, 6)], [id(2, 4), id(3, 5)]] {
            let mut batch = Batch::new();
            push(&Position { term_ends: wrong.into(), ..position.clone() }, &mut batch).unwrap();
            assert!(
                open(&mut batch.seal(60, Salting::Absent).unwrap()[HEADER_BYTES..].to_vec())
                    .is_err()
            );
        }
        let mut batch = Batch::new();
        batch.push(&Write::default()).unwrap();
        assert!(
            open(&mut batch.seal(60, Salting::Absent).unwrap()[HEADER_BYTES..].to_vec()).is_err()
        );
    }
}
