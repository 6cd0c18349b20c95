//! Reads a journal back after a crash: a torn frame is cut off, and damage is refused.
//!
//! Each sync is one frame, and the next frame begins after it is durable. So at most the last frame
//! of the last segment can be torn, and nothing in it was promised to anyone. A frame is torn if
//! the crash left it in one of these states:
//!
//! ```text
//! ... │ header │ pay                     the file ends inside of it
//! ... │ header │ payl000000000000d      a sector of it was never written, but the file had grown
//! ... │ 000000000000000000oad          the same for its header, with no whole frame behind it
//! ```
//!
//! All segments but the first begin with a checkpoint, so the first segments may be gone. Then the
//! log that they held must be compacted.
//!
//! "No whole frame behind it" is certain because frames are salted with their places. The bytes of
//! a frame inside a client's command are no frame there, even if they were one elsewhere.
//!
//! Everything else is damage. A flipped byte does not make a frame look torn, not even the last
//! frame: no sector of a frame is nearly all zeros ([`batch`](super::batch)), and a header with a
//! wrong length fails its own checksum.

use std::format;
use std::path::PathBuf;
use std::vec::Vec;

use super::batch;
use super::checkpoint;
use super::replay::{Position, Replay};
use super::sector::{is_unwritten, sectors};
use super::segment::{Broken, Salting, SegmentReader};
use crate::host::storage_error::{Refused, StorageError};
use crate::host::wire::frame::{HEADER_BYTES, Header, PAYLOAD_BYTES_LIMIT};
use crate::types::Index;

/// The end of the last segment as it was found.
#[derive(Debug)]
pub(super) struct Tail {
    /// The last segment.
    pub(super) path: PathBuf,
    /// The salting of its frames.
    pub(super) salting: Salting,
    /// Its length without any batch.
    pub(super) head_bytes: u64,
    /// The highest index among its entries.
    pub(super) index_max: Index,
    /// Where its last whole frame begins.
    pub(super) frame_start: u64,
    /// That frame.
    pub(super) frame: Vec<u8>,
    /// Where to cut the file off, if its last frame is torn.
    pub(super) torn: Option<Torn>,
}

/// A torn frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Torn {
    /// Where the torn frame begins, and the file should end.
    pub(super) offset: u64,
    /// How many bytes of the file belong to it.
    pub(super) bytes: u64,
}

/// Reads the checkpoint with which a segment begins, unless it is the first.
pub(super) fn read_checkpoint(reader: &mut SegmentReader) -> Result<Position, StorageError> {
    let offset = reader.offset();
    let opened = match reader.next_payload()? {
        None => Err("the file ends before its checkpoint".into()),
        Some(Err(broken)) => Err(broken.describe().into()),
        Some(Ok(payload)) => checkpoint::open(payload),
    };
    opened.map_err(|refused| reader.refused(offset, refused))
}

/// Adds all writes of a segment that is not the last, and must be whole. Returns the highest index
/// among its entries.
pub(super) fn replay_segment(
    mut reader: SegmentReader,
    replay: &mut Replay,
) -> Result<Index, StorageError> {
    match replay_whole_frames(&mut reader, replay)? {
        (index_max, None) => Ok(index_max),
        (_, Some(broken)) => Err(reader.damaged(reader.offset(), broken.describe())),
    }
}

/// Adds all writes of the last segment, whose end may be torn.
pub(super) fn replay_last_segment(
    mut reader: SegmentReader,
    replay: &mut Replay,
) -> Result<Tail, StorageError> {
    let head_bytes = reader.offset();
    let (index_max, broken) = replay_whole_frames(&mut reader, replay)?;
    let torn = match broken {
        None => None,
        Some(broken) => Some(torn(&mut reader, broken)?),
    };
    let frame_start = reader.frame_start();
    let mut frame = reader.read_from(frame_start)?;
    frame.truncate((reader.offset() - frame_start) as usize);
    let path = reader.path().to_path_buf();
    let salting = reader.salting();
    Ok(Tail { path, salting, head_bytes, index_max, frame_start, frame, torn })
}

fn replay_whole_frames(
    reader: &mut SegmentReader,
    replay: &mut Replay,
) -> Result<(Index, Option<Broken>), StorageError> {
    let mut index_max = Index::ZERO;
    loop {
        let offset = reader.offset();
        let payload = match reader.next_payload()? {
            None => return Ok((index_max, None)),
            Some(Err(broken)) => return Ok((index_max, Some(broken))),
            Some(Ok(payload)) => payload,
        };
        let last =
            replay_batch(payload, replay).map_err(|refused| reader.refused(offset, refused))?;
        index_max = index_max.max(last);
    }
}

/// Adds the writes of a batch. Returns the highest index among its entries.
fn replay_batch(payload: &mut [u8], replay: &mut Replay) -> Result<Index, Refused> {
    let mut index_max = Index::ZERO;
    let mut rest = batch::open(payload)?;
    while let Some(write) = batch::next_write(&mut rest)? {
        index_max = index_max.max(write.entries.last().map_or(Index::ZERO, |entry| entry.index));
        replay.follow(write).map_err(|what| format!("impossible content: {what}"))?;
    }
    Ok(index_max)
}

/// The torn frame at the reader's offset, if a crash explains it. Otherwise the error.
fn torn(reader: &mut SegmentReader, broken: Broken) -> Result<Torn, StorageError> {
    let offset = reader.offset();
    let torn = match broken {
        Broken::CutShort => true,
        Broken::Header(_) => {
            let rest = reader.read_from(offset)?;
            let header = sectors(offset, 0..rest.len()).next().unwrap_or(0..0);
            is_unwritten(&rest[header]) && !contains_frame(offset, &rest, reader.salting())
        }
        Broken::Payload(_, end) if end < reader.length() => false,
        Broken::Payload(..) => {
            let frame = reader.read_from(offset)?;
            sectors(offset, 0..frame.len()).any(|part| is_unwritten(&frame[part]))
        }
    };
    if torn {
        Ok(Torn { offset, bytes: reader.length() - offset })
    } else {
        Err(reader.damaged(offset, broken.describe()))
    }
}

/// Whether a whole frame begins anywhere in these bytes, which lie at `offset` of a file with this
/// salting.
fn contains_frame(offset: u64, bytes: &[u8], salting: Salting) -> bool {
    bytes.windows(HEADER_BYTES).enumerate().any(|(at, window)| {
        let Some(header) = window.first_chunk().filter(|header| !is_unwritten(*header)) else {
            return false;
        };
        let salt = salting.at(offset + at as u64);
        let Ok(header) = Header::decode_salted(header, PAYLOAD_BYTES_LIMIT, salt) else {
            return false;
        };
        let payload = &bytes[at + HEADER_BYTES..];
        payload.get(..header.payload_bytes()).is_some_and(|payload| header.check(payload).is_ok())
    })
}
