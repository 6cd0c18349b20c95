//! What a snapshot's bytes are: frames, so that damage is found wherever it is.
//!
//! ```text
//! frame: 'H' | "raftsnap" | version u32 | cluster u64 | a write that names the snapshot        numbers little-endian
//! frame: 'B' | a block of the state         all of the same length, but for the last
//! frame: 'E' | blocks u64 | bytes u64 | crc u32     how many blocks, of how many bytes; of the blocks' own checksums
//! ```
//!
//! A frame's checksum says that a block is whole; the end says that all of them are there, in order.

use std::boxed::Box;
use std::format;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::string::String;
use std::vec::Vec;

use bytes::Bytes;

use super::store::{SnapshotReader, SnapshotWriter};
use crate::codec;
use crate::host::frame::{self, HEADER_BYTES, Header};
use crate::host::identity::ClusterId;
use crate::host::journal::{JournalError, Refused};
use crate::output::{SnapshotMeta, Write};

const MAGIC: [u8; 8] = *b"raftsnap";
const VERSION: u32 = 1;
/// What a full block takes in the file.
const BLOCK_FRAME_BYTES: usize = 64 * 1024;
/// The longest frame: 64 members with the longest labels fit into the head.
const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
const END_BYTES: usize = 8 + 8 + 4;
const END_FRAME_BYTES: u64 = (HEADER_BYTES + 1 + END_BYTES) as u64;

const HEAD: u8 = b'H';
const BLOCK: u8 = b'B';
const END: u8 = b'E';

/// Whose snapshot it is, and of what.
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

/// Checks frames in their order, and what the end says of them.
#[derive(Default)]
struct Checker {
    head: Option<Head>,
    blocks: u64,
    bytes: u64,
    crc: crc32fast::Hasher,
    ended: bool,
}

impl Checker {
    /// Takes the next frame's payload, whose own checksum is right; the state in it.
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

/// Writes a state as a snapshot: what a state machine writes into.
pub(in crate::host) struct StateWriter<'s> {
    file: Box<dyn SnapshotWriter>,
    checker: Checker,
    /// The block so far, with room for its header.
    frame: Vec<u8>,
    /// Why it failed, for [`io::Error`] cannot hold it.
    failed: Option<JournalError>,
    /// Whether the snapshot is not wanted any more. Asked at each block.
    is_cancelled: &'s dyn Fn() -> bool,
}

impl<'s> StateWriter<'s> {
    pub(in crate::host) fn begin(
        mut file: Box<dyn SnapshotWriter>,
        head: Head,
        is_cancelled: &'s dyn Fn() -> bool,
    ) -> Result<Self, JournalError> {
        file.write(&head.encode())?;
        let checker = Checker { head: Some(head), ..Checker::default() };
        let mut writer = Self { file, checker, frame: Vec::new(), failed: None, is_cancelled };
        writer.begin_block();
        Ok(writer)
    }

    /// Why the last write failed, if that was the store's fault.
    pub(in crate::host) fn take_failure(&mut self) -> Option<JournalError> {
        self.failed.take()
    }

    /// Completes the snapshot, durably. Returns how long the state is, in bytes.
    pub(in crate::host) fn finish(mut self) -> Result<u64, JournalError> {
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

    fn write_block(&mut self) -> Result<(), JournalError> {
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

/// Reads the state back, for a state machine to restore. It ends only if the whole snapshot was as it was written.
pub(in crate::host) struct StateReader {
    file: Box<dyn SnapshotReader>,
    /// Where the next frame begins.
    offset: u64,
    checker: Checker,
    /// The last frame's payload, and how much of it was read.
    block: Vec<u8>,
    read: usize,
    failed: Option<JournalError>,
}

impl StateReader {
    /// Begins to read a snapshot, which must be this one.
    pub(in crate::host) fn open(
        file: Box<dyn SnapshotReader>,
        expected: &Head,
    ) -> Result<Self, JournalError> {
        let (block, checker) = (Vec::new(), Checker::default());
        let mut reader = Self { file, offset: 0, checker, block, read: 0, failed: None };
        reader.next_frame()?;
        match &reader.checker.head {
            Some(head) if head == expected => Ok(reader),
            Some(head) => Err(reader.damaged(0, describe_other(head, expected))),
            None => Err(reader.damaged(0, "it is empty".into())),
        }
    }

    /// Reads what is left, which the state machine did not care for, up to the end. Whether all of it is as it was written.
    pub(in crate::host) fn finish(mut self) -> Result<(), JournalError> {
        while !self.checker.ended && self.failed.is_none() {
            self.next_frame()?;
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// Why the last read failed, if that was the snapshot's fault.
    pub(in crate::host) fn take_failure(&mut self) -> Option<JournalError> {
        self.failed.take()
    }

    fn next_frame(&mut self) -> Result<(), JournalError> {
        let mut header = [0; HEADER_BYTES];
        self.read_exact_at(&mut header)?;
        let header = Header::decode(&header, PAYLOAD_BYTES_MAX)
            .map_err(|error| self.damaged(self.offset, format!("{error}")))?;
        let mut block = std::mem::take(&mut self.block);
        block.resize(header.payload_bytes(), 0);
        self.read_exact_at(&mut block)?;
        header.check(&block).map_err(|error| self.damaged(self.offset, format!("{error}")))?;
        let taken = self.checker.take(&block);
        let (content, bytes) = match taken {
            Ok(content) => (content.len(), block.len()),
            Err(refused) => return Err(self.refused(self.offset, refused)),
        };
        self.read = bytes - content;
        self.block = block;
        self.offset += (HEADER_BYTES + bytes) as u64;
        Ok(())
    }

    fn read_exact_at(&mut self, bytes: &mut [u8]) -> Result<(), JournalError> {
        self.file.read_exact(bytes).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                return self.damaged(self.offset, "it ends before its end".into());
            }
            JournalError::io("read", self.file.path(), error)
        })
    }

    fn refused(&self, offset: u64, refused: Refused) -> JournalError {
        match refused {
            Refused::Damaged(what) => self.damaged(offset, what),
            Refused::FromNewer(what) => {
                let path = self.file.path().to_path_buf();
                JournalError::FromNewer { path, offset, what }
            }
        }
    }

    fn damaged(&self, offset: u64, what: String) -> JournalError {
        let path = self.file.path().to_path_buf();
        JournalError::SnapshotDamaged { path, offset, what }
    }
}

impl Read for StateReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.block.len() && !self.checker.ended {
            if let Err(error) = self.next_frame() {
                let text = format!("{error}");
                self.failed = Some(error);
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
        }
        let bytes = into.len().min(self.block.len() - self.read);
        into[..bytes].copy_from_slice(&self.block[self.read..self.read + bytes]);
        self.read += bytes;
        Ok(bytes)
    }
}

/// Reads pieces of a snapshot to be sent, each of which is checked.
pub(super) struct PieceReader {
    file: Box<dyn SnapshotReader>,
    head_bytes: u64,
    length: u64,
}

impl PieceReader {
    pub(super) fn open(mut file: Box<dyn SnapshotReader>) -> Result<Self, JournalError> {
        let length = file.seek(SeekFrom::End(0));
        let mut open = || {
            file.seek(SeekFrom::Start(0))?;
            let mut header = [0; HEADER_BYTES];
            file.read_exact(&mut header)?;
            io::Result::Ok(header)
        };
        let header = open();
        let (length, header) = length
            .and_then(|length| Ok((length, header?)))
            .map_err(|error| JournalError::io("read", file.path(), error))?;
        match Header::decode(&header, PAYLOAD_BYTES_MAX) {
            Ok(header) => {
                let head_bytes = (HEADER_BYTES + header.payload_bytes()) as u64;
                Ok(Self { file, head_bytes, length })
            }
            Err(error) => {
                let (path, what) = (file.path().to_path_buf(), format!("{error}"));
                Err(JournalError::SnapshotDamaged { path, offset: 0, what })
            }
        }
    }

    /// What begins at `offset`, at most `bytes_max` bytes of it, and whether the snapshot ends with it. Prefers to end where a block does.
    pub(super) fn piece(
        &mut self,
        offset: u64,
        bytes_max: usize,
    ) -> Result<(Bytes, bool), JournalError> {
        if offset > self.length {
            // What a follower says it has is no more than it was sent; but this must not depend on
            // it.
            let error =
                io::Error::new(ErrorKind::InvalidInput, "asked for what lies behind its end");
            return Err(JournalError::io("read", self.file.path(), error));
        }
        let start = self.frame_before(offset);
        let limit = offset.saturating_add(bytes_max as u64).min(self.length);
        let aligned = self.frame_before(limit);
        let ends_with_frame = limit == self.length || aligned > offset;
        let end = if limit < self.length && ends_with_frame { aligned } else { limit };
        // Where a piece ends inside of a frame, the rest of that is read as well, to be checked.
        let rest = if ends_with_frame { 0 } else { self.head_bytes.max(BLOCK_FRAME_BYTES as u64) };
        let span = (end - start).saturating_add(rest).min(self.length - start);
        let mut bytes = Vec::with_capacity(usize::try_from(span).unwrap_or_default());
        self.file
            .seek(SeekFrom::Start(start))
            .and_then(|_| (&mut self.file).take(span).read_to_end(&mut bytes))
            .map_err(|error| JournalError::io("read", self.file.path(), error))?;
        let mut at = 0;
        while start + (at as u64) < end {
            at += self.check_frame(&bytes[at..], start + at as u64)?;
        }
        let piece = Bytes::from(bytes).slice((offset - start) as usize..(end - start) as usize);
        Ok((piece, end == self.length))
    }

    /// Where a frame begins at or before `offset`: the one that holds it, unless that is the end.
    fn frame_before(&self, offset: u64) -> u64 {
        let block = BLOCK_FRAME_BYTES as u64;
        let blocks = self.length.saturating_sub(self.head_bytes + END_FRAME_BYTES) / block;
        match offset.min(self.length).checked_sub(self.head_bytes) {
            None => 0,
            Some(behind) => self.head_bytes + (behind / block).min(blocks) * block,
        }
    }

    /// How long the frame is with which `bytes` begin.
    fn check_frame(&self, bytes: &[u8], offset: u64) -> Result<usize, JournalError> {
        let damaged = |what| JournalError::SnapshotDamaged {
            path: self.file.path().to_path_buf(),
            offset,
            what,
        };
        let (header, rest) =
            bytes.split_first_chunk().ok_or_else(|| damaged("it ends in a frame".into()))?;
        let header = Header::decode(header, PAYLOAD_BYTES_MAX)
            .map_err(|error| damaged(format!("{error}")))?;
        let payload = rest
            .get(..header.payload_bytes())
            .ok_or_else(|| damaged("it ends in a frame".into()))?;
        header.check(payload).map_err(|error| damaged(format!("{error}")))?;
        Ok(HEADER_BYTES + payload.len())
    }
}

/// Checks a snapshot that comes in pieces, cut anywhere.
pub(super) struct PieceChecker {
    decoder: frame::Decoder,
    checker: Checker,
}

impl PieceChecker {
    pub(super) fn new() -> Self {
        let decoder = frame::Decoder::new(PAYLOAD_BYTES_MAX);
        Self { decoder, checker: Checker::default() }
    }

    /// Takes the next piece; the error says what is wrong with it.
    pub(super) fn take(&mut self, piece: &[u8], expected: &Head) -> Result<(), String> {
        self.decoder.space().extend_from_slice(piece);
        while let Some(payload) = self.decoder.next_payload().map_err(|e| format!("{e}"))? {
            self.checker.take(&payload).map_err(|refused| format!("{refused}"))?;
            if self.checker.head.as_ref().is_some_and(|head| head != expected) {
                return Err("it is another snapshot, or one of another cluster".into());
            }
        }
        Ok(())
    }

    /// Whether what came is whole.
    pub(super) fn finish(&self) -> Result<(), String> {
        if self.checker.ended && !self.decoder.is_mid_frame() {
            Ok(())
        } else {
            Err("it ends before its end".into())
        }
    }
}

/// Whether the snapshot is this one, and there to its end. What lies between is checked when it is read.
pub(in crate::host) fn check_whole(
    file: Box<dyn SnapshotReader>,
    expected: &Head,
) -> Result<(), JournalError> {
    let mut reader = StateReader::open(file, expected)?;
    let length = reader.file.seek(SeekFrom::End(0));
    let length = length.map_err(|error| JournalError::io("read", reader.file.path(), error))?;
    let start = length.saturating_sub(END_FRAME_BYTES).max(reader.offset);
    let sought = reader.file.seek(SeekFrom::Start(start));
    sought.map_err(|error| JournalError::io("read", reader.file.path(), error))?;
    reader.offset = start;
    let mut frame = [0; HEADER_BYTES + 1 + END_BYTES];
    reader.read_exact_at(&mut frame)?;
    let (header, payload) = frame.split_first_chunk().expect("a frame begins with a header");
    let is_end = Header::decode(header, PAYLOAD_BYTES_MAX)
        .and_then(|header| header.check(payload))
        .is_ok_and(|()| payload[0] == END);
    if is_end { Ok(()) } else { Err(reader.damaged(start, "it ends before its end".into())) }
}

fn describe_other(head: &Head, expected: &Head) -> String {
    let (its, ours) = (head.cluster.get(), expected.cluster.get());
    if its != ours {
        return format!("it is of cluster {its:#x}, not of {ours:#x}");
    }
    let (its, ours) = (head.snapshot.last, expected.snapshot.last);
    format!("it is a snapshot of {its}, not the one of {ours} that was named, or has other members")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write as _};
    use std::path::Path;
    use std::string::ToString;
    use std::sync::{Arc, Mutex};
    use std::vec;

    use crate::membership::Membership;
    use crate::types::{Index, LogId, NodeId, Term};

    struct Target(Arc<Mutex<Vec<u8>>>);

    impl SnapshotWriter for Target {
        fn write(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(())
        }

        fn finish(self: Box<Self>) -> Result<(), JournalError> {
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

    fn read(bytes: Vec<u8>) -> Result<Vec<u8>, JournalError> {
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
        let (mut checker, mut sent) = (PieceChecker::new(), Vec::new());
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
                assert!(matches!(error, JournalError::SnapshotDamaged { .. }), "{error}");
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
            assert!(matches!(error, JournalError::SnapshotDamaged { .. }), "{error}");
        }
        for other in [head(2), Head { snapshot: SnapshotMeta::default(), ..head(1) }] {
            assert!(StateReader::open(Box::new(Cursor::new(good.clone())), &other).is_err());
            assert!(PieceChecker::new().take(&good, &other).is_err());
        }
        let empty = read(vec![]).unwrap_err();
        assert!(empty.to_string().contains("the test is damaged at byte 0"), "{empty}");
    }
}
