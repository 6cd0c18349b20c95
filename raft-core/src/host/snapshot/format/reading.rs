//! Reads a snapshot's state back, and checks that a snapshot is whole.

use std::boxed::Box;
use std::format;
use std::io::{self, ErrorKind, Read, SeekFrom};
use std::string::String;
use std::vec::Vec;

use super::{Checker, END, END_BYTES, END_FRAME_BYTES, Head, PAYLOAD_BYTES_MAX};
use crate::host::snapshot::store::SnapshotReader;
use crate::host::storage_error::{Refused, StorageError};
use crate::host::wire::frame::{HEADER_BYTES, Header};

/// Reads the state back, for a state machine to restore. It reaches its end only if the whole
/// snapshot is as it was written.
pub(in crate::host) struct StateReader {
    file: Box<dyn SnapshotReader>,
    /// Where the next frame begins.
    offset: u64,
    checker: Checker,
    /// The payload of the last frame, and how much of it was read.
    block: Vec<u8>,
    read: usize,
    failed: Option<StorageError>,
}

impl StateReader {
    /// Opens a snapshot, which must be the one that `expected` names.
    pub(in crate::host) fn open(
        file: Box<dyn SnapshotReader>,
        expected: &Head,
    ) -> Result<Self, StorageError> {
        let block = Vec::new();
        let checker = Checker::default();
        let mut reader = Self { file, offset: 0, checker, block, read: 0, failed: None };
        reader.next_frame()?;
        match &reader.checker.head {
            Some(head) if head == expected => Ok(reader),
            Some(head) => Err(reader.damaged(0, describe_other(head, expected))),
            None => Err(reader.damaged(0, "it is empty".into())),
        }
    }

    /// Reads the rest, which the state machine did not read, to the end. Returns whether all of it
    /// is as it was written.
    pub(in crate::host) fn finish(mut self) -> Result<(), StorageError> {
        while !self.checker.ended && self.failed.is_none() {
            self.next_frame()?;
        }
        self.failed.map_or(Ok(()), Err)
    }

    /// Why the last read failed, if the snapshot is at fault.
    pub(in crate::host) fn take_failure(&mut self) -> Option<StorageError> {
        self.failed.take()
    }

    fn next_frame(&mut self) -> Result<(), StorageError> {
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

    fn read_exact_at(&mut self, bytes: &mut [u8]) -> Result<(), StorageError> {
        self.file.read_exact(bytes).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                return self.damaged(self.offset, "it ends before its end".into());
            }
            StorageError::io("read", self.file.path(), error)
        })
    }

    fn refused(&self, offset: u64, refused: Refused) -> StorageError {
        match refused {
            Refused::Damaged(what) => self.damaged(offset, what),
            Refused::FromNewer(what) => {
                let path = self.file.path().to_path_buf();
                StorageError::FromNewer { path, offset, what }
            }
        }
    }

    fn damaged(&self, offset: u64, what: String) -> StorageError {
        let path = self.file.path().to_path_buf();
        StorageError::SnapshotDamaged { path, offset, what }
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

/// Whether the snapshot is the one that `expected` names, and is there to its end. The blocks in
/// between are checked when they are read.
pub(in crate::host) fn check_whole(
    file: Box<dyn SnapshotReader>,
    expected: &Head,
) -> Result<(), StorageError> {
    let mut reader = StateReader::open(file, expected)?;
    let length = reader.file.seek(SeekFrom::End(0));
    let length = length.map_err(|error| StorageError::io("read", reader.file.path(), error))?;
    let start = length.saturating_sub(END_FRAME_BYTES).max(reader.offset);
    let sought = reader.file.seek(SeekFrom::Start(start));
    sought.map_err(|error| StorageError::io("read", reader.file.path(), error))?;
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
