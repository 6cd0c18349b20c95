//! A snapshot's bytes, as all servers of a cluster write and read them: a state of a few bytes in a
//! single block.
//!
//! ```text
//! frame: 'H' | "raftsnap" | version u32 | cluster u64 | a write that names the snapshot
//! frame: 'B' | the state
//! frame: 'E' | blocks u64 | bytes u64 | crc u32     their number and bytes; of their checksums
//! frame = length u32 | CRC-32 of the payload u32 | CRC-32 of these 8 bytes u32 | payload
//! ```
//!
//! Numbers are little-endian. The format is that of `raft_core::host`, so that firmware and servers
//! can send each other their snapshots.

use alloc::boxed::Box;
use alloc::vec::Vec;

use raft_core::{LogId, SnapshotMeta, Write, codec};

use crate::limits::CLUSTER;
use crate::sum::crc32;
use crate::{Command, command};

const MAGIC: [u8; 8] = *b"raftsnap";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;
const HEAD: u8 = b'H';
const BLOCK: u8 = b'B';
const END: u8 = b'E';

/// Appends the snapshot of this state to `out`.
pub fn encode(snapshot: &SnapshotMeta, state: &[u8], out: &mut Vec<u8>) {
    let named = Write::<Command> { snapshot: Some(Box::new(snapshot.clone())), ..Write::default() };
    frame(out, HEAD, |payload| {
        payload.extend_from_slice(&MAGIC);
        payload.extend_from_slice(&VERSION.to_le_bytes());
        payload.extend_from_slice(&CLUSTER.to_le_bytes());
        codec::encode_write(&named, payload);
    });
    frame(out, BLOCK, |payload| payload.extend_from_slice(state));
    frame(out, END, |payload| payload.extend_from_slice(&end_of(state)));
}

/// The state in these bytes, if they are a whole snapshot of this cluster up to `last`.
pub fn decode(bytes: &[u8], last: LogId) -> Option<&[u8]> {
    let (head, rest) = next_frame(bytes, HEAD)?;
    let (state, rest) = next_frame(rest, BLOCK)?;
    let (end, rest) = next_frame(rest, END)?;
    let head = head.strip_prefix(&MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
    let named = head.strip_prefix(&CLUSTER.to_le_bytes())?;
    let named = codec::decode_write(named, command).ok()?;
    let is_whole = end == end_of(state) && rest.is_empty();
    named.snapshot.filter(|snapshot| is_whole && snapshot.last == last).map(|_| state)
}

fn end_of(state: &[u8]) -> [u8; 20] {
    let mut end = [0; 20];
    end[..8].copy_from_slice(&1u64.to_le_bytes());
    end[8..16].copy_from_slice(&(state.len() as u64).to_le_bytes());
    end[16..].copy_from_slice(&crc32(&[&crc32(&[state]).to_le_bytes()]).to_le_bytes());
    end
}

fn frame(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    out.push(kind);
    fill(out);
    if let Some((header, payload)) = out.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut) {
        *header = header_of(payload);
    }
}

/// The payload of the first frame, which must be of this kind, and what follows.
fn next_frame(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let length = u32::from_le_bytes(*header.first_chunk()?);
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let content = payload.strip_prefix(&[kind])?;
    (header_of(payload) == *header).then_some((content, rest))
}

fn header_of(payload: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&crc32(&[payload]).to_le_bytes());
    let crc = crc32(&[&header[..8]]);
    header[8..].copy_from_slice(&crc.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SNAPSHOT_BYTES_MAX;
    use raft_core::{Index, Membership, NodeId, Term};

    fn meta(index: u64, members: u64) -> SnapshotMeta {
        let last = LogId::new(Term::new(u64::MAX), Index::new(index));
        SnapshotMeta { last, membership: Membership::of_voters((1..=members).map(NodeId::new)) }
    }

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        let (snapshot, mut bytes) = (meta(u64::MAX, 7), Vec::new());
        encode(&snapshot, b"a state", &mut bytes);
        assert!(bytes.len() <= SNAPSHOT_BYTES_MAX, "{}", bytes.len());
        assert_eq!(decode(&bytes, snapshot.last), Some(&b"a state"[..]));
        assert_eq!(decode(&bytes, meta(3, 7).last), None);
        assert_eq!(decode(&bytes[..bytes.len() - 1], snapshot.last), None);
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let (snapshot, mut bytes) = (meta(9, 3), Vec::new());
        encode(&snapshot, &[0; 8], &mut bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes, snapshot.last), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
