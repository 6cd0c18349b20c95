//! The format of a snapshot: frames, so that damage is noticed wherever it is.
//!
//! ```text
//! frame: 'H' | "raftsnap" | version u32 | cluster u64 | a write that names the snapshot
//! frame: 'B' | a block of the state         all of the same length, but for the last
//! frame: 'E' | blocks u64 | bytes u64 | crc u32     their number and bytes; of their checksums
//! ```
//!
//! Numbers are little-endian. A frame's checksum says that a block is whole. The end says that all
//! blocks are there, in order.

use std::boxed::Box;
use std::format;
use std::io;
use std::vec::Vec;

use bytes::Bytes;

use super::store::SnapshotWriter;
use crate::codec;
use crate::host::identity::ClusterId;
use crate::host::storage_error::{Refused, StorageError};
use crate::host::wire::frame::{self, HEADER_BYTES};
use crate::message::SnapshotMeta;
use crate::output::Write;

mod backup;
mod pieces;
mod reading;

pub(in crate::host) use backup::BackupReader;
pub use backup::BackupSummary;
pub(super) use backup::write_backup;
pub(super) use pieces::{PieceChecker, PieceReader};
pub(in crate::host) use reading::{StateReader, check_whole};

const MAGIC: [u8; 8] = *b"raftsnap";
const VERSION: u32 = 1;
/// The bytes that a full block takes in the file.
const BLOCK_FRAME_BYTES: usize = 64 * 1024;
/// The longest frame. A head with 64 members of the longest labels fits into it.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
const END_BYTES: usize = 8 + 8 + 4;
const END_FRAME_BYTES: u64 = (HEADER_BYTES + 1 + END_BYTES) as u64;

const HEAD: u8 = b'H';
const BLOCK: u8 = b'B';
const END: u8 = b'E';

/// The cluster and the snapshot that the file belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::host) struct Head {
    pub(in crate::host) cluster: ClusterId,
    pub(in crate::host) snapshot: SnapshotMeta,
}

impl Head {
    /// The frame with which the bytes begin.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let named =
            Write::<Bytes> { snapshot: Some(Box::new(self.snapshot.clone())), ..Write::default() };
        frame::encode(&mut out, PAYLOAD_BYTES_MAX, |payload| {
            payload.push(HEAD);
            payload.extend_from_slice(&MAGIC);
            payload.extend_from_slice(&VERSION.to_le_bytes());
            payload.extend_from_slice(&self.cluster.get().to_le_bytes());
            codec::encode_write(&named, payload);
        })
        .expect("members and labels are bounded, so that they fit");
        out
    }

    fn decode(payload: &[u8]) -> Result<Self, Refused> {
        let fields = payload.strip_prefix(&[HEAD]).and_then(|rest| rest.strip_prefix(&MAGIC));
        let fields = fields.ok_or("this is not a snapshot of this library")?;
        let (version, fields) = fields.split_first_chunk().ok_or("its description is cut off")?;
        let version = u32::from_le_bytes(*version);
        if version > VERSION {
            let text =
                format!("it has version {version} of the format, and this program reads {VERSION}");
            return Err(Refused::FromNewer(text));
        }
        if version != VERSION {
            return Err(format!("it has version {version} of the format, which never was").into());
        }
        let (cluster, named) = fields.split_first_chunk().ok_or("its description is cut off")?;
        let named = codec::decode_write(named, Bytes::copy_from_slice);
        let named = named.map_err(|error| Refused::undecodable("its description", error))?;
        let snapshot = named.snapshot.ok_or("its description names no snapshot")?;
        Ok(Self { cluster: ClusterId::new(u64::from_le_bytes(*cluster)), snapshot: *snapshot })
    }
}

/// Checks that frames come in order, and that the end agrees with them.
#[derive(Default)]
struct Checker {
    head: Option<Head>,
    blocks: u64,
    bytes: u64,
    crc: crc32fast::Hasher,
    ended: bool,
}

impl Checker {
    /// Takes the payload of the next frame, whose own checksum is right, and returns the state in
    /// it.
    fn take<'p>(&mut self, payload: &'p [u8]) -> Result<&'p [u8], Refused> {
        let (kind, content) = payload.split_first().ok_or("an empty frame")?;
        if self.ended {
            return Err("something follows its end".into());
        }
        if self.head.is_none() {
            self.head = Some(Head::decode(payload)?);
            return Ok(&[]);
        }
        match *kind {
            BLOCK => {
                self.blocks += 1;
                self.bytes += content.len() as u64;
                self.crc.update(&crc32fast::hash(content).to_le_bytes());
                Ok(content)
            }
            END if content == self.end() => {
                self.ended = true;
                Ok(&[])
            }
            END => Err("blocks of it are missing or in another order".into()),
            kind => Err(format!("a frame of the unknown kind {kind}").into()),
        }
    }

    fn end(&self) -> [u8; END_BYTES] {
        let mut end = [0; END_BYTES];
        end[..8].copy_from_slice(&self.blocks.to_le_bytes());
        end[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        end[16..].copy_from_slice(&self.crc.clone().finalize().to_le_bytes());
        end
    }
}

/// Writes a state as a snapshot. A state machine writes into it.
pub(in crate::host) struct StateWriter<'s> {
    file: Box<dyn SnapshotWriter + 's>,
    checker: Checker,
    /// The block so far, with room for its header.
    frame: Vec<u8>,
    /// Why the writer failed. [`io::Error`] cannot hold it.
    failed: Option<StorageError>,
    /// Whether the snapshot is no longer wanted. Asked at each block.
    is_cancelled: &'s dyn Fn() -> bool,
}

impl<'s> StateWriter<'s> {
    pub(in crate::host) fn begin(
        mut file: Box<dyn SnapshotWriter + 's>,
        head: Head,
        is_cancelled: &'s dyn Fn() -> bool,
    ) -> Result<Self, StorageError> {
        file.write(&head.encode())?;
        let checker = Checker { head: Some(head), ..Checker::default() };
        let mut writer = Self { file, checker, frame: Vec::new(), failed: None, is_cancelled };
        writer.begin_block();
        Ok(writer)
    }

    /// Why the last write failed, if the store failed.
    pub(in crate::host) fn take_failure(&mut self) -> Option<StorageError> {
        self.failed.take()
    }

    /// Completes the snapshot, durably. Returns the length of the state in bytes.
    pub(in crate::host) fn finish(mut self) -> Result<u64, StorageError> {
        if self.frame.len() > HEADER_BYTES + 1 {
            self.write_block()?;
        }
        let mut end = Vec::new();
        let content = self.checker.end();
        frame::encode(&mut end, PAYLOAD_BYTES_MAX, |payload| {
            payload.push(END);
            payload.extend_from_slice(&content);
        })
        .expect("the end is short");
        self.file.write(&end)?;
        self.file.finish()?;
        Ok(self.checker.bytes)
    }

    fn begin_block(&mut self) {
        self.frame.clear();
        frame::begin(&mut self.frame);
        self.frame.push(BLOCK);
    }

    fn write_block(&mut self) -> Result<(), StorageError> {
        frame::finish(&mut self.frame, 0, PAYLOAD_BYTES_MAX).expect("a block is short");
        self.checker.take(&self.frame[HEADER_BYTES..]).expect("a block follows the head");
        self.file.write(&self.frame)?;
        self.begin_block();
        Ok(())
    }
}

impl io::Write for StateWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK_FRAME_BYTES - self.frame.len();
        let taken = room.min(bytes.len());
        self.frame.extend_from_slice(&bytes[..taken]);
        if self.frame.len() == BLOCK_FRAME_BYTES {
            if (self.is_cancelled)() {
                return Err(io::Error::other("it is not wanted any more"));
            }
            if let Err(error) = self.write_block() {
                let text = format!("{error}");
                self.failed = Some(error);
                return Err(io::Error::other(text));
            }
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Read, Write as _};
    use std::path::Path;
    use std::string::{String, ToString};
    use std::sync::{Arc, Mutex};
    use std::vec;

    use crate::host::snapshot::store::SnapshotReader;
    use crate::membership::Membership;
    use crate::types::{Index, LogId, NodeId, Term};

    struct Target(Arc<Mutex<Vec<u8>>>);

    impl SnapshotWriter for Target {
        fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(())
        }

        fn finish(self: Box<Self>) -> Result<(), StorageError> {
            Ok(())
        }
    }

    impl SnapshotReader for Cursor<Vec<u8>> {
        fn path(&self) -> &Path {
            Path::new("the test")
        }
    }

    fn head(cluster: u64) -> Head {
        let membership = Membership::of_voters([NodeId::new(1)]);
        let last = LogId::new(Term::new(2), Index::new(9));
        Head { cluster: ClusterId::new(cluster), snapshot: SnapshotMeta { last, membership } }
    }

    fn state(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at / 7) as u8).collect()
    }

    /// A snapshot of a state that was written in pieces of this size.
    fn snapshot(state: &[u8], piece: usize) -> Vec<u8> {
        let target = Arc::new(Mutex::new(Vec::new()));
        let file = Box::new(Target(Arc::clone(&target)));
        let mut writer = StateWriter::begin(file, head(1), &|| false).unwrap();
        state.chunks(piece).for_each(|piece| writer.write_all(piece).unwrap());
        assert_eq!(writer.finish().unwrap(), state.len() as u64);
        let bytes = target.lock().unwrap();
        bytes.clone()
    }

    fn read(bytes: Vec<u8>) -> Result<Vec<u8>, StorageError> {
        let mut reader = StateReader::open(Box::new(Cursor::new(bytes)), &head(1))?;
        let mut state = Vec::new();
        match reader.read_to_end(&mut state) {
            Ok(_) => reader.finish().map(|()| state),
            Err(_) => Err(reader.take_failure().unwrap()),
        }
    }

    /// Sent in pieces of at most this many bytes, and checked as it comes.
    fn send(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, String> {
        let mut reader = PieceReader::open(Box::new(Cursor::new(bytes.to_vec())))
            .map_err(|error| format!("{error}"))?;
        let mut checker = PieceChecker::new();
        let mut sent = Vec::new();
        loop {
            let piece = reader.piece(sent.len() as u64, bytes_max);
            let (piece, done) = piece.map_err(|error| format!("{error}"))?;
            assert!(!piece.is_empty() && piece.len() <= bytes_max);
            checker.take(&piece, &head(1))?;
            sent.extend_from_slice(&piece);
            if done {
                return checker.finish().map(|()| sent);
            }
        }
    }

    const FULL: usize = BLOCK_FRAME_BYTES - HEADER_BYTES - 1;

    #[test]
    fn a_state_of_any_size_comes_back_and_travels_in_pieces_of_any_size() {
        for bytes in [0, 1, FULL - 40, FULL - 1, FULL, FULL + 1, 2 * FULL, 3 * FULL + 5] {
            let state = state(bytes);
            let snapshot = snapshot(&state, 1000);
            assert_eq!(read(snapshot.clone()).unwrap(), state);
            let whole = Box::new(Cursor::new(snapshot.clone()));
            check_whole(whole, &head(1)).unwrap();
            for bytes_max in [1000, BLOCK_FRAME_BYTES - 1, BLOCK_FRAME_BYTES, 1 << 20] {
                assert_eq!(send(&snapshot, bytes_max).unwrap(), snapshot, "{bytes} by {bytes_max}");
            }
        }
        let small = snapshot(&state(30), 7);
        assert_eq!(send(&small, 1).unwrap(), small);
    }

    #[test]
    fn every_damaged_byte_is_found_when_it_is_read_sent_or_received() {
        let good = snapshot(&state(300), 300);
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xFF] {
                let mut damaged = good.clone();
                damaged[at] ^= flip;
                let error = read(damaged.clone()).unwrap_err();
                assert!(matches!(error, StorageError::SnapshotDamaged { .. }), "{error}");
                assert!(send(&damaged, 100).is_err(), "byte {at}");
                let mut checker = PieceChecker::new();
                let taken = checker.take(&damaged, &head(1)).and_then(|()| checker.finish());
                assert!(taken.is_err(), "byte {at}");
            }
            assert!(read(good[..at].to_vec()).is_err(), "cut at {at}");
            let whole = Box::new(Cursor::new(good[..at].to_vec()));
            assert!(check_whole(whole, &head(1)).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn blocks_in_another_order_or_of_another_snapshot_are_found() {
        let good = snapshot(&state(3 * FULL), FULL);
        let head_bytes = good.len() - 3 * BLOCK_FRAME_BYTES - END_FRAME_BYTES as usize;
        let block =
            |n: usize| head_bytes + n * BLOCK_FRAME_BYTES..head_bytes + (n + 1) * BLOCK_FRAME_BYTES;
        let parts = |order: &[usize]| {
            let mut bytes = good[..head_bytes].to_vec();
            order.iter().for_each(|n| bytes.extend_from_slice(&good[block(*n)]));
            bytes.extend_from_slice(&good[block(2).end..]);
            bytes
        };
        assert!(read(parts(&[0, 1, 2])).is_ok());
        for wrong in [&[1, 0, 2][..], &[0, 1], &[0, 1, 2, 2]] {
            let error = read(parts(wrong)).unwrap_err();
            assert!(matches!(error, StorageError::SnapshotDamaged { .. }), "{error}");
        }
        for other in [head(2), Head { snapshot: SnapshotMeta::default(), ..head(1) }] {
            assert!(StateReader::open(Box::new(Cursor::new(good.clone())), &other).is_err());
            assert!(PieceChecker::new().take(&good, &other).is_err());
        }
        let empty = read(vec![]).unwrap_err();
        assert!(empty.to_string().contains("the test is damaged at byte 0"), "{empty}");
    }
}
