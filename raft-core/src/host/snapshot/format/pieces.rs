//! Pieces of a snapshot as they travel: read from the store to be sent, and checked when they
//! arrive.

use std::boxed::Box;
use std::format;
use std::io::{self, ErrorKind, Read, SeekFrom};
use std::string::String;
use std::vec::Vec;

use bytes::Bytes;

use super::{BLOCK_FRAME_BYTES, Checker, END_FRAME_BYTES, Head, PAYLOAD_BYTES_MAX};
use crate::host::snapshot::store::SnapshotReader;
use crate::host::storage_error::StorageError;
use crate::host::wire::frame::{self, HEADER_BYTES, Header};

/// Reads and checks the pieces of a snapshot that is sent.
pub(in crate::host::snapshot) struct PieceReader {
    file: Box<dyn SnapshotReader>,
    head_bytes: u64,
    length: u64,
}

impl PieceReader {
    pub(in crate::host::snapshot) fn open(
        mut file: Box<dyn SnapshotReader>,
    ) -> Result<Self, StorageError> {
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
            .map_err(|error| StorageError::io("read", file.path(), error))?;
        match Header::decode(&header, PAYLOAD_BYTES_MAX) {
            Ok(header) => {
                let head_bytes = (HEADER_BYTES + header.payload_bytes()) as u64;
                Ok(Self { file, head_bytes, length })
            }
            Err(error) => {
                let path = file.path().to_path_buf();
                let what = format!("{error}");
                Err(StorageError::SnapshotDamaged { path, offset: 0, what })
            }
        }
    }

    /// The piece that begins at `offset`, at most `bytes_max` bytes, and whether the snapshot ends
    /// with it. The piece ends where a block does, if possible.
    pub(in crate::host::snapshot) fn piece(
        &mut self,
        offset: u64,
        bytes_max: usize,
    ) -> Result<(Bytes, bool), StorageError> {
        if offset > self.length {
            // A follower never reports more than it was sent, but the reader must not rely on that.
            let error =
                io::Error::new(ErrorKind::InvalidInput, "asked for what lies behind its end");
            return Err(StorageError::io("read", self.file.path(), error));
        }
        let start = self.frame_before(offset);
        let limit = offset.saturating_add(bytes_max as u64).min(self.length);
        let aligned = self.frame_before(limit);
        let ends_with_frame = limit == self.length || aligned > offset;
        let end = if limit < self.length && ends_with_frame { aligned } else { limit };
        // If the piece ends inside of a frame, the rest of the frame is read as well, so that it
        // can be checked.
        let rest = if ends_with_frame { 0 } else { self.head_bytes.max(BLOCK_FRAME_BYTES as u64) };
        let span = (end - start).saturating_add(rest).min(self.length - start);
        let mut bytes = Vec::with_capacity(usize::try_from(span).unwrap_or_default());
        self.file
            .seek(SeekFrom::Start(start))
            .and_then(|_| (&mut self.file).take(span).read_to_end(&mut bytes))
            .map_err(|error| StorageError::io("read", self.file.path(), error))?;
        let mut at = 0;
        while start + (at as u64) < end {
            at += self.check_frame(&bytes[at..], start + at as u64)?;
        }
        let piece = Bytes::from(bytes).slice((offset - start) as usize..(end - start) as usize);
        Ok((piece, end == self.length))
    }

    /// The start of the frame at or before `offset`: the frame that holds `offset`, unless that is
    /// the end.
    fn frame_before(&self, offset: u64) -> u64 {
        let block = BLOCK_FRAME_BYTES as u64;
        let blocks = self.length.saturating_sub(self.head_bytes + END_FRAME_BYTES) / block;
        match offset.min(self.length).checked_sub(self.head_bytes) {
            None => 0,
            Some(behind) => self.head_bytes + (behind / block).min(blocks) * block,
        }
    }

    /// The length of the frame with which `bytes` begin.
    fn check_frame(&self, bytes: &[u8], offset: u64) -> Result<usize, StorageError> {
        let damaged = |what| StorageError::SnapshotDamaged {
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

/// The payload of the frame with which `bytes` begin. `None` if the frame is not there to its end.
fn first_payload(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some((header, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let header = Header::decode(header, PAYLOAD_BYTES_MAX).map_err(|e| format!("{e}"))?;
    let Some(payload) = rest.get(..header.payload_bytes()) else { return Ok(None) };
    header.check(payload).map_err(|e| format!("{e}"))?;
    Ok(Some(payload))
}

/// Checks a received snapshot, whose pieces may be cut anywhere.
pub(in crate::host::snapshot) struct PieceChecker {
    decoder: frame::Decoder,
    checker: Checker,
}

impl PieceChecker {
    pub(in crate::host::snapshot) fn new() -> Self {
        let decoder = frame::Decoder::new(PAYLOAD_BYTES_MAX);
        Self { decoder, checker: Checker::default() }
    }

    /// Takes the next piece. The error says what is wrong with it.
    ///
    /// Most pieces are whole frames, which are checked where they are. Only a frame that was cut is
    /// put together in the decoder.
    pub(in crate::host::snapshot) fn take(
        &mut self,
        mut piece: &[u8],
        expected: &Head,
    ) -> Result<(), String> {
        while !self.decoder.is_mid_frame() {
            let Some(payload) = first_payload(piece)? else { break };
            self.take_payload(payload, expected)?;
            piece = &piece[HEADER_BYTES + payload.len()..];
        }
        if piece.is_empty() {
            return Ok(());
        }
        self.decoder.space().extend_from_slice(piece);
        while let Some(payload) = self.decoder.next_payload().map_err(|e| format!("{e}"))? {
            self.take_payload(&payload, expected)?;
        }
        Ok(())
    }

    fn take_payload(&mut self, payload: &[u8], expected: &Head) -> Result<(), String> {
        self.checker.take(payload).map_err(|refused| format!("{refused}"))?;
        if self.checker.head.as_ref().is_some_and(|head| head != expected) {
            return Err("it is another snapshot, or one of another cluster".into());
        }
        Ok(())
    }

    /// Whether the received snapshot is whole.
    pub(in crate::host::snapshot) fn finish(&self) -> Result<(), String> {
        if self.checker.ended && !self.decoder.is_mid_frame() {
            Ok(())
        } else {
            Err("it ends before its end".into())
        }
    }
}
