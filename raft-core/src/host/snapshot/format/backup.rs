//! The format of a backup: a snapshot between two frames of its own, in one stream.
//!
//! ```text
//! frame: 'V' | "raftback" | version u32
//! a snapshot: its head, with cluster, position and members; its blocks; its end
//! frame: 'D' | bytes u64 | crc u32      of all that comes before
//! ```
//!
//! Numbers are little-endian. Nothing follows. The frames' own checksums say where damage is; the
//! last frame says that all of it is there.

use std::boxed::Box;
use std::format;
use std::io::{self, ErrorKind, Read, Write};
use std::string::ToString;
use std::sync::Arc;
use std::vec::Vec;

use super::{Checker, Head, PAYLOAD_BYTES_MAX, StateWriter};
use crate::host::identity::ClusterId;
use crate::host::snapshot::backup_error::BackupReadError;
use crate::host::snapshot::store::SnapshotWriter;
use crate::host::state_machine::Capture;
use crate::host::storage_error::{Refused, StorageError};
use crate::host::threads::panics;
use crate::host::wire::frame::{self, HEADER_BYTES, Header};
use crate::membership::Membership;
use crate::types::LogId;

const MAGIC: [u8; 8] = *b"raftback";
const VERSION: u32 = 1;

const FIRST: u8 = b'V';
const DIGEST: u8 = b'D';

/// What a backup is of, and its measures.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BackupSummary {
    /// The cluster that was backed up.
    pub cluster: ClusterId,
    /// The last entry that the state includes.
    pub last: LogId,
    /// The members at that entry, with the identity of the cluster.
    pub membership: Membership,
    /// The length of the state in bytes, as the state machine wrote it.
    pub state_bytes: u64,
    /// The length of the backup in bytes.
    pub bytes: u64,
    /// The checksum (CRC-32) of all bytes of the backup but for the last frame, which holds it.
    pub digest: u32,
}

impl BackupSummary {
    /// Reads a backup to its end, and returns what it is. Every byte is checked; the state itself
    /// is not looked at. Needs 256 KiB of memory at most, whatever the bytes say.
    ///
    /// # Errors
    ///
    /// [`BackupReadError`] says what is wrong, and what to do.
    ///
    /// # Example
    ///
    /// ```
    /// use raft_core::host::{BackupReadError, BackupSummary};
    ///
    /// let error = BackupSummary::read(&b"something else"[..]).unwrap_err();
    /// assert!(matches!(error, BackupReadError::NotABackup));
    /// ```
    pub fn read(source: impl Read) -> Result<Self, BackupReadError> {
        BackupReader::open(source)?.finish()
    }
}

/// Counts what is written, with its checksum.
struct Summed<W> {
    out: W,
    bytes: u64,
    crc: crc32fast::Hasher,
    /// Why `out` failed. A [`StorageError`] would not give it back.
    failed: Option<io::Error>,
}

impl<W: Write> Summed<W> {
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        self.crc.update(bytes);
        Ok(())
    }
}

/// Lets a snapshot be written into a backup.
struct Within<'b, W>(&'b mut Summed<W>);

impl<W: Write + Send> SnapshotWriter for Within<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.0.add(bytes).map_err(|error| {
            let text = error.to_string();
            self.0.failed = Some(error);
            StorageError::other(text)
        })
    }

    fn finish(self: Box<Self>) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Writes a backup of this state.
pub(in crate::host::snapshot) fn write_backup(
    head: &Head,
    capture: Capture,
    out: impl Write + Send,
) -> io::Result<BackupSummary> {
    let mut summed = Summed { out, bytes: 0, crc: crc32fast::Hasher::new(), failed: None };
    summed.add(&framed(FIRST, &[&MAGIC, &VERSION.to_le_bytes()]))?;
    let written = write_snapshot(head, capture, &mut summed);
    if let Some(error) = summed.failed.take() {
        return Err(error);
    }
    let state_bytes = written?;
    let (bytes, digest) = (summed.bytes, summed.crc.clone().finalize());
    summed.add(&framed(DIGEST, &[&bytes.to_le_bytes(), &digest.to_le_bytes()]))?;
    summed.out.flush()?;
    Ok(summary(head, state_bytes, summed.bytes, digest))
}

fn write_snapshot<W: Write + Send>(
    head: &Head,
    capture: Capture,
    summed: &mut Summed<W>,
) -> io::Result<u64> {
    let never = || false;
    let file = Box::new(Within(summed));
    let other = |error: StorageError| io::Error::other(error.to_string());
    let mut writer = StateWriter::begin(file, head.clone(), &never).map_err(other)?;
    let captured = panics::caught(|| capture(&mut writer));
    captured
        .map_err(|message| io::Error::other(format!("the state machine panicked: {message}")))??;
    // The state machine may have ignored an error.
    if let Some(error) = writer.take_failure() {
        return Err(other(error));
    }
    writer.finish().map_err(other)
}

fn summary(head: &Head, state_bytes: u64, bytes: u64, digest: u32) -> BackupSummary {
    let Head { cluster, snapshot } = head.clone();
    let (last, membership) = (snapshot.last, snapshot.membership);
    BackupSummary { cluster, last, membership, state_bytes, bytes, digest }
}

fn framed(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(&mut out, PAYLOAD_BYTES_MAX, |payload| {
        payload.push(kind);
        fields.iter().for_each(|field| payload.extend_from_slice(field));
    })
    .expect("the fields are short");
    out
}

/// Reads a backup from front to back. As a reader it gives the state, and reaches the end of that
/// only if the whole snapshot is as it was written.
pub(in crate::host) struct BackupReader<R> {
    source: R,
    /// Where the next frame begins.
    offset: u64,
    /// The checksum of all before that.
    crc: crc32fast::Hasher,
    checker: Checker,
    /// The payload of the last frame, and how much of it was read.
    block: Vec<u8>,
    read: usize,
    failed: Option<BackupReadError>,
}

impl<R: Read> BackupReader<R> {
    /// Reads up to the state.
    pub(in crate::host) fn open(source: R) -> Result<Self, BackupReadError> {
        let mut reader = Self {
            source,
            offset: 0,
            crc: crc32fast::Hasher::new(),
            checker: Checker::default(),
            block: Vec::new(),
            read: 0,
            failed: None,
        };
        let begun = reader.next_frame();
        begun.map_err(|error| {
            let is_damaged = matches!(error, BackupReadError::Damaged { .. });
            if is_damaged { BackupReadError::NotABackup } else { error }
        })?;
        check_first(&reader.block)?;
        reader.next_snapshot_frame()?;
        Ok(reader)
    }

    /// What the backup is of.
    pub(in crate::host) fn head(&self) -> &Head {
        self.checker.head.as_ref().expect("the first frame of a snapshot is its head")
    }

    /// Why the last read failed.
    pub(in crate::host) fn take_failure(&mut self) -> Option<BackupReadError> {
        self.failed.take()
    }

    /// Reads the rest. Returns what the backup is, if it is whole and nothing follows.
    pub(in crate::host) fn finish(mut self) -> Result<BackupSummary, BackupReadError> {
        while !self.checker.ended {
            self.next_snapshot_frame()?;
        }
        let (bytes, digest) = (self.offset, self.crc.clone().finalize());
        self.next_frame()?;
        let expected = [&[DIGEST][..], &bytes.to_le_bytes(), &digest.to_le_bytes()].concat();
        if self.block != expected {
            return Err(self.damaged(bytes, "its digest is not that of its bytes"));
        }
        match self.fill(&mut [0]) {
            Ok(0) => Ok(summary(self.head(), self.checker.bytes, self.offset, digest)),
            Ok(_) => Err(BackupReadError::TrailingBytes { offset: self.offset }),
            Err(error) => Err(error),
        }
    }

    fn next_snapshot_frame(&mut self) -> Result<(), BackupReadError> {
        let begins = self.offset;
        self.next_frame()?;
        match self.checker.take(&self.block) {
            Ok(content) => {
                self.read = self.block.len() - content.len();
                Ok(())
            }
            Err(Refused::Damaged(what)) => Err(BackupReadError::Damaged { offset: begins, what }),
            Err(Refused::FromNewer(what)) => Err(BackupReadError::FromNewer { what }),
        }
    }

    /// Reads the next frame, whatever it is.
    fn next_frame(&mut self) -> Result<(), BackupReadError> {
        let mut header = [0; HEADER_BYTES];
        self.read_exact(&mut header, 0)?;
        let decoded = Header::decode(&header, PAYLOAD_BYTES_MAX)
            .map_err(|error| self.damaged(self.offset, &error.to_string()))?;
        let mut block = std::mem::take(&mut self.block);
        block.resize(decoded.payload_bytes(), 0);
        self.read_exact(&mut block, HEADER_BYTES as u64)?;
        decoded.check(&block).map_err(|error| self.damaged(self.offset, &error.to_string()))?;
        self.crc.update(&header);
        self.crc.update(&block);
        self.offset += (HEADER_BYTES + block.len()) as u64;
        self.read = block.len();
        self.block = block;
        Ok(())
    }

    /// Fills `into`, which begins `behind` bytes behind the start of the frame.
    fn read_exact(&mut self, into: &mut [u8], behind: u64) -> Result<(), BackupReadError> {
        let bytes = self.fill(into)?;
        if bytes < into.len() {
            return Err(BackupReadError::Truncated { bytes: self.offset + behind + bytes as u64 });
        }
        Ok(())
    }

    /// Reads until `into` is full or the source ends. Returns how many bytes were read.
    fn fill(&mut self, into: &mut [u8]) -> Result<usize, BackupReadError> {
        let mut filled = 0;
        while filled < into.len() {
            match self.source.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(BackupReadError::Io { source: Arc::new(error) }),
            }
        }
        Ok(filled)
    }

    fn damaged(&self, offset: u64, what: &str) -> BackupReadError {
        BackupReadError::Damaged { offset, what: what.into() }
    }
}

impl<R: Read> Read for BackupReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.block.len() && !self.checker.ended {
            if let Err(error) = self.next_snapshot_frame() {
                let text = error.to_string();
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

/// Checks the first frame.
fn check_first(payload: &[u8]) -> Result<(), BackupReadError> {
    let fields = payload.strip_prefix(&[FIRST]).and_then(|rest| rest.strip_prefix(&MAGIC));
    let version = fields.and_then(|fields| fields.first_chunk());
    let version = u32::from_le_bytes(*version.ok_or(BackupReadError::NotABackup)?);
    if version != VERSION {
        return Err(BackupReadError::UnknownVersion { version, known: VERSION });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec;

    use proptest::prelude::*;

    use crate::host::identity::ClusterId;
    use crate::membership::Membership;
    use crate::message::SnapshotMeta;
    use crate::types::{Index, LogId, NodeId, Term};

    fn head() -> Head {
        let membership = Membership::of_voters([1, 2, 3].map(NodeId::new));
        let last = LogId::new(Term::new(2), Index::new(9));
        Head { cluster: ClusterId::new(1), snapshot: SnapshotMeta { last, membership } }
    }

    fn backup(state: &[u8]) -> (Vec<u8>, BackupSummary) {
        let (mut out, state) = (Vec::new(), state.to_vec());
        let capture = Box::new(move |out: &mut dyn Write| out.write_all(&state));
        let summary = write_backup(&head(), capture, &mut out).unwrap();
        (out, summary)
    }

    fn read(bytes: &[u8]) -> Result<(Vec<u8>, BackupSummary), BackupReadError> {
        let mut reader = BackupReader::open(bytes)?;
        let mut state = Vec::new();
        match reader.read_to_end(&mut state) {
            Ok(_) => reader.finish().map(|summary| (state, summary)),
            Err(_) => Err(reader.take_failure().unwrap()),
        }
    }

    /// The end of each frame.
    fn frame_ends(bytes: &[u8]) -> Vec<usize> {
        let mut ends = vec![0];
        while let Some(rest) = bytes.get(ends[ends.len() - 1]..).filter(|rest| !rest.is_empty()) {
            let header = Header::decode(rest.first_chunk().unwrap(), PAYLOAD_BYTES_MAX).unwrap();
            ends.push(ends[ends.len() - 1] + HEADER_BYTES + header.payload_bytes());
        }
        ends
    }

    #[test]
    fn a_state_of_any_size_comes_back_with_what_it_is_of() {
        for bytes in [0, 1, 300, 64 << 10, 200_000] {
            let state: Vec<u8> = (0..bytes).map(|at| (at / 7) as u8).collect();
            let (written, summary) = backup(&state);
            assert_eq!(read(&written).unwrap(), (state, summary.clone()));
            assert_eq!(BackupSummary::read(&*written).unwrap(), summary);
            assert_eq!(summary.bytes, written.len() as u64);
            assert_eq!(summary.state_bytes, bytes);
            assert_eq!((summary.cluster, summary.last), (head().cluster, head().snapshot.last));
            assert_eq!(summary.membership, head().snapshot.membership);
            let before = frame_ends(&written).into_iter().rev().nth(1).unwrap();
            assert_eq!(summary.digest, crc32fast::hash(&written[..before]));
        }
    }

    #[test]
    fn a_backup_that_is_cut_anywhere_says_so() {
        let (whole, _) = backup(&[7; 300]);
        for at in 0..whole.len() {
            for error in [read(&whole[..at]).unwrap_err(), summary_error(&whole[..at])] {
                let BackupReadError::Truncated { bytes } = error else { panic!("{error}") };
                assert_eq!(bytes, at as u64);
            }
        }
    }

    #[test]
    fn a_flipped_byte_is_found_wherever_it_is() {
        let (whole, _) = backup(&[7; 300]);
        let first = frame_ends(&whole)[1];
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xFF] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                let error = read(&damaged).unwrap_err();
                let is_found = match error {
                    BackupReadError::NotABackup => at < first,
                    BackupReadError::Damaged { offset, .. } => offset <= at as u64,
                    BackupReadError::Io { .. }
                    | BackupReadError::UnknownVersion { .. }
                    | BackupReadError::FromNewer { .. }
                    | BackupReadError::Truncated { .. }
                    | BackupReadError::TrailingBytes { .. } => false,
                };
                assert!(is_found, "byte {at}: {error}");
            }
        }
    }

    fn summary_error(bytes: &[u8]) -> BackupReadError {
        BackupSummary::read(bytes).unwrap_err()
    }

    #[test]
    fn what_follows_the_end_is_refused() {
        let (mut bytes, summary) = backup(b"state");
        bytes.push(0);
        let error = summary_error(&bytes);
        let BackupReadError::TrailingBytes { offset } = error else { panic!("{error}") };
        assert_eq!(offset, summary.bytes);
    }

    #[test]
    fn another_version_is_named_and_not_called_damaged() {
        let (whole, _) = backup(b"state");
        let end = frame_ends(&whole)[1];
        let mut newer = framed(FIRST, &[&MAGIC, &7_u32.to_le_bytes()]);
        newer.extend_from_slice(&whole[end..]);
        let error = summary_error(&newer);
        assert!(
            matches!(error, BackupReadError::UnknownVersion { version: 7, known: VERSION }),
            "{error}"
        );
    }

    #[test]
    fn a_snapshot_is_no_backup_and_whole_frames_of_another_backup_do_not_pass() {
        let (whole, _) = backup(&[7; 100_000]);
        let ends = frame_ends(&whole);
        assert!(matches!(summary_error(&whole[ends[1]..]), BackupReadError::NotABackup));
        // Without a block, with one twice, without the end of the snapshot.
        let without = |n: usize| [&whole[..ends[n]], &whole[ends[n + 1]..]].concat();
        let twice = [&whole[..ends[3]], &whole[ends[2]..]].concat();
        for wrong in [without(2), without(3), without(4), twice] {
            let error = read(&wrong).unwrap_err();
            assert!(matches!(error, BackupReadError::Damaged { .. }), "{error}");
        }
        // Another digest, in a frame that is whole.
        let last = ends[ends.len() - 2];
        let digest = framed(DIGEST, &[&(last as u64).to_le_bytes(), &7_u32.to_le_bytes()]);
        let error = summary_error(&[&whole[..last], &digest].concat());
        assert!(matches!(error, BackupReadError::Damaged { .. }), "{error}");
    }

    /// Takes so many bytes, and then no more.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let taken = self.0.min(bytes.len());
            self.0 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_writer_that_fails_is_told_from_a_state_machine_that_fails() {
        let (whole, _) = backup(&[7; 300]);
        for room in 0..whole.len() {
            let capture = Box::new(|out: &mut dyn Write| out.write_all(&[7; 300]));
            let error = write_backup(&head(), capture, Full(room)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{room}: {error}");
        }
        let failing = Box::new(|_: &mut dyn Write| Err(io::Error::other("not today")));
        let error = write_backup(&head(), failing, Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "not today");
        let panicking = Box::new(|_: &mut dyn Write| panic!("never"));
        let error = write_backup(&head(), panicking, Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "the state machine panicked: never");
    }

    #[test]
    fn each_error_says_what_to_do() {
        let orders = ["check the path", "run that", "run the", "copy it again", "read it again"];
        let what = || String::from("something");
        for error in [
            BackupReadError::Io { source: Arc::new(ErrorKind::Other.into()) },
            BackupReadError::NotABackup,
            BackupReadError::UnknownVersion { version: 7, known: 1 },
            BackupReadError::FromNewer { what: what() },
            BackupReadError::Truncated { bytes: 7 },
            BackupReadError::Damaged { offset: 7, what: what() },
            BackupReadError::TrailingBytes { offset: 7 },
        ] {
            let text = error.to_string();
            assert!(orders.iter().any(|order| text.contains(order)), "{text}");
        }
    }

    proptest! {
        /// No bytes make the reader panic, and none but the backup itself are taken for one.
        #[test]
        fn no_bytes_do_harm(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            keep in 0..400_usize,
            skip in 0..400_usize,
        ) {
            let _ = read(&bytes);
            let (whole, _) = backup(&[7; 100]);
            let (keep, skip) = (keep.min(whole.len()), skip.min(whole.len()));
            let spliced = [&whole[..keep], &bytes, &whole[skip..]].concat();
            prop_assert_eq!(read(&spliced).is_ok(), spliced == whole);
        }

        /// The same for frames whose own checksums are right.
        #[test]
        fn no_frames_do_harm(
            payloads in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..6),
        ) {
            let (whole, _) = backup(&[7; 100]);
            let ends = frame_ends(&whole);
            let mut bytes = whole[..ends[2]].to_vec();
            for (known, payload) in payloads {
                let kind = payload.first().copied().unwrap_or_default();
                let kind = if known { b"VHBED"[usize::from(kind) % 5] } else { kind };
                bytes.extend_from_slice(&framed(kind, &[&payload]));
            }
            prop_assert!(read(&bytes).is_err());
        }
    }
}
