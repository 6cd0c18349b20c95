//! A segment: one file of the journal. Its name is its number. It begins with a frame that names
//! its owner, and has one frame for each sync.
//!
//! ```text
//! 00000000000000000001.journal
//!   frame: "raftjrnl" | version u32 | cluster u64 | node u64 | store id u64 | segment u64
//!          (numbers are little-endian)
//!          | codec u32               since version 3: the version of the format of the writes
//!   frame: checkpoint                in all segments but the first
//!   frame: batch, frame: batch, ..
//! ```
//!
//! # Versions
//!
//! A version of this library reads the versions [`VERSION_MIN`] to [`VERSION`] of a segment. It
//! writes to the last segment in that segment's own version, and each new segment has the newest
//! version. A segment of a newer version, of itself or of its writes, is not damaged, and the error
//! does not advise to wipe it: [`StorageError::UnknownVersion`] names both versions.
//!
//! - Version 2: the frames behind the first have no salt.
//! - Version 3: these frames are salted with store id, segment and offset. So if a command holds
//!   the bytes of a frame, of this journal or another one, these bytes never pass for a frame when
//!   the write that holds the command is torn. Further fields at the end of the first frame are
//!   ignored.

use std::format;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;

use crate::codec;
use crate::host::identity::{ClusterId, Identity, StoreId};
use crate::host::storage_error::{Refused, StorageError};
use crate::host::wire::frame::{self, FrameError, HEADER_BYTES, Header, PAYLOAD_BYTES_LIMIT, Salt};
use crate::types::NodeId;

/// The number of a journal's first segment.
pub(super) const FIRST: u64 = 1;
/// The length of what [`encode_preamble`] returns: all of it lies in the file's first sector.
pub(super) const PREAMBLE_BYTES: usize = HEADER_BYTES + MAGIC.len() + 4 + 4 * 8 + 4;

const MAGIC: [u8; 8] = *b"raftjrnl";
/// The version of new segments.
const VERSION: u32 = 3;
/// The oldest version that can be read.
const VERSION_MIN: u32 = 2;
/// The first version whose frames are salted, and which names the version of its writes.
const VERSION_SALTED: u32 = 3;
const EXTENSION: &str = "journal";
/// How much is read at once. It fits into a processor's cache, in which it is checked and decoded.
const READ_BYTES: usize = 256 * 1024;

pub(super) fn file_name(number: u64) -> String {
    format!("{number:020}.{EXTENSION}")
}

/// The number of the segment with this file name. `None` if no segment can have this name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// The frame with which a segment begins.
pub(super) fn encode_preamble(owner: Identity, number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREAMBLE_BYTES);
    frame::encode(&mut bytes, PREAMBLE_BYTES, |payload| {
        payload.extend_from_slice(&MAGIC);
        payload.extend_from_slice(&VERSION.to_le_bytes());
        for field in [owner.cluster.get(), owner.node.get(), owner.store_id.get(), number] {
            payload.extend_from_slice(&field.to_le_bytes());
        }
        payload.extend_from_slice(&u32::from(codec::VERSION).to_le_bytes());
    })
    .expect("the preamble is shorter than itself with a header");
    bytes
}

/// How the frames of a segment are salted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Salting {
    /// Not at all: version 2.
    Absent,
    /// By their places in this segment of this journal.
    OfPlace { store_id: StoreId, segment: u64 },
}

impl Salting {
    /// The salting of a segment that this version writes.
    pub(super) fn new(owner: Identity, segment: u64) -> Self {
        Self::OfPlace { store_id: owner.store_id, segment }
    }

    /// The salt of the frame that begins at `offset`.
    pub(super) fn at(self, offset: u64) -> Salt {
        match self {
            Self::Absent => Salt::NONE,
            Self::OfPlace { store_id, segment } => {
                Salt::of_place(&[store_id.get(), segment, offset])
            }
        }
    }
}

/// Reads a segment from front to back.
#[derive(Debug)]
pub(super) struct SegmentReader {
    path: PathBuf,
    file: BufReader<File>,
    length: u64,
    /// Where the next frame begins.
    offset: u64,
    /// Where the last frame began.
    frame_start: u64,
    /// The salting of all frames but the first.
    salting: Salting,
    /// Begins with the payload of the last frame. It never shrinks, so that reading soon allocates
    /// and zeroes nothing.
    buffer: Vec<u8>,
}

/// Why there is no whole frame where one should be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Broken {
    /// The file ends in the middle of the frame.
    CutShort,
    /// The header is damaged, so the length of the frame is unknown.
    Header(FrameError),
    /// The payload is damaged. It should end at this offset of the file.
    Payload(FrameError, u64),
}

impl SegmentReader {
    /// Opens a segment and reads its owner.
    pub(super) fn open(path: PathBuf, number: u64) -> Result<(Self, Identity), StorageError> {
        let open = || {
            let file = File::open(&path)?;
            let length = file.metadata()?.len();
            io::Result::Ok((BufReader::with_capacity(READ_BYTES, file), length))
        };
        let (file, length) = open().map_err(|error| StorageError::io("open", &path, error))?;
        let salting = Salting::Absent;
        let buffer = Vec::new();
        let mut reader = Self { path, file, length, offset: 0, frame_start: 0, salting, buffer };
        let owner = reader.read_preamble(number)?;
        Ok((reader, owner))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next frame begins, if there is one.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the frame that was read last begins.
    pub(super) fn frame_start(&self) -> u64 {
        self.frame_start
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// How the frames behind the first are salted.
    pub(super) fn salting(&self) -> Salting {
        self.salting
    }

    /// The next frame's payload. `None` at the end of the file. If a frame is broken,
    /// [`SegmentReader::offset`] stays at it.
    pub(super) fn next_payload(
        &mut self,
    ) -> Result<Option<Result<&mut [u8], Broken>>, StorageError> {
        let left = self.length - self.offset;
        if left == 0 {
            return Ok(None);
        }
        if left < HEADER_BYTES as u64 {
            return Ok(Some(Err(Broken::CutShort)));
        }
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact(&mut header).map_err(|error| self.unreadable(error))?;
        let salt = self.salting.at(self.offset);
        let header = match Header::decode_salted(&header, PAYLOAD_BYTES_LIMIT, salt) {
            Ok(header) => header,
            Err(error) => return Ok(Some(Err(Broken::Header(error)))),
        };
        // The file is at least as long as that, so its own size bounds what is allocated here.
        let bytes = header.payload_bytes();
        if left < (HEADER_BYTES + bytes) as u64 {
            return Ok(Some(Err(Broken::CutShort)));
        }
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
        let payload = &mut self.buffer[..bytes];
        if let Err(error) = self.file.read_exact(payload) {
            return Err(self.unreadable(error));
        }
        let end = self.offset + (HEADER_BYTES + bytes) as u64;
        if let Err(error) = header.check(payload) {
            return Ok(Some(Err(Broken::Payload(error, end))));
        }
        self.frame_start = self.offset;
        self.offset = end;
        Ok(Some(Ok(&mut self.buffer[..bytes])))
    }

    /// All bytes from `offset` to the end of the file. Only for rare cases.
    pub(super) fn read_from(&mut self, offset: u64) -> Result<Vec<u8>, StorageError> {
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| (&mut self.file).take(self.length - offset).read_to_end(&mut bytes))
            .map_err(|error| self.unreadable(error))?;
        Ok(bytes)
    }

    /// The error that refuses this file because of what is wrong at `offset`.
    pub(super) fn damaged(&self, offset: u64, what: impl Into<String>) -> StorageError {
        StorageError::Damaged { path: self.path.clone(), offset, what: what.into() }
    }

    /// The error that refuses this file because of what stands at `offset`.
    pub(super) fn refused(&self, offset: u64, refused: Refused) -> StorageError {
        match refused {
            Refused::Damaged(what) => self.damaged(offset, what),
            Refused::FromNewer(what) => {
                StorageError::FromNewer { path: self.path.clone(), offset, what }
            }
        }
    }

    fn read_preamble(&mut self, number: u64) -> Result<Identity, StorageError> {
        let payload = match self.next_payload()? {
            Some(Ok(payload)) => payload,
            Some(Err(broken)) => return Err(self.damaged(0, broken.describe())),
            None => return Err(self.damaged(0, "the file is empty")),
        };
        let Some(fields) = payload.strip_prefix(&MAGIC) else {
            return Err(self.damaged(0, "this is not a journal of this library"));
        };
        let Some((version, fields)) = fields.split_first_chunk() else {
            return Err(self.damaged(0, "the file's description is cut off"));
        };
        let version = u32::from_le_bytes(*version);
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Err(self.unknown("journal", version, VERSION_MIN..=VERSION));
        }
        let Some((named, behind)) = fields.split_at_checked(4 * 8) else {
            return Err(self.damaged(0, "the file's description has the wrong length"));
        };
        let mut numbers = named.chunks_exact(8).filter_map(|field| field.first_chunk()).copied();
        let mut number_in_file = || numbers.next().map_or(0, u64::from_le_bytes);
        let owner = Identity {
            cluster: ClusterId::new(number_in_file()),
            node: NodeId::new(number_in_file()),
            store_id: StoreId::new(number_in_file()),
        };
        let segment = number_in_file();
        let codec = match (version < VERSION_SALTED, behind.split_first_chunk()) {
            (true, None) if behind.is_empty() => u32::from(codec::VERSION),
            (false, Some((codec, _))) => u32::from_le_bytes(*codec),
            _ => return Err(self.damaged(0, "the file's description has the wrong length")),
        };
        let codec_max = u32::from(codec::VERSION);
        if codec > codec_max {
            return Err(self.unknown("journal entry", codec, codec_max..=codec_max));
        }
        if segment != number {
            return Err(self.damaged(0, format!("it is segment {segment} under another's name")));
        }
        if version >= VERSION_SALTED {
            self.salting = Salting::new(owner, segment);
        }
        Ok(owner)
    }

    fn unknown(
        &self,
        format: &'static str,
        version: u32,
        known: RangeInclusive<u32>,
    ) -> StorageError {
        StorageError::UnknownVersion { path: self.path.clone(), format, version, known }
    }

    fn unreadable(&self, error: io::Error) -> StorageError {
        if error.kind() == ErrorKind::UnexpectedEof {
            return self.damaged(self.offset, "the file became shorter while it was read");
        }
        StorageError::io("read", &self.path, error)
    }
}

impl Broken {
    pub(super) fn describe(self) -> String {
        match self {
            Self::CutShort => "the file ends in the middle of a frame".into(),
            Self::Header(error) | Self::Payload(error, _) => format!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segments_name_sorts_by_number_and_has_one_spelling() {
        assert_eq!(file_name(1), "00000000000000000001.journal");
        assert_eq!(number_of(&file_name(u64::MAX)), Some(u64::MAX));
        let others = [
            "1.journal",
            "lock",
            "00000000000000000001.journal.new",
            ".journal",
            "+0000000000000000001.journal",
        ];
        assert_eq!(others.map(number_of), [None; 5]);
    }
}
