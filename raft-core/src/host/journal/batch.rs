//! Everything that one sync makes durable, as one frame: after a crash it is there whole, or not at
//! all.
//!
//! ```text
//! payload = (length, write)*   the appended writes; each length in 4 bytes, little-endian
//!           (position, a, b)*  patches: two bytes of the above that were replaced, and where in
//!                              the payload they stood, in 4 bytes
//!           count              the number of patches, in 4 bytes
//!           padding            2 to 13 bytes; each is 0xA0 plus their number
//! ```
//!
//! Patches and padding keep three promises about each frame in the file, by which recovery tells a
//! write that was cut short from later damage (see [`sector`](super::sector)):
//!
//! - In each sector that the frame touches, at least two bytes are not zero. Data that a client
//!   filled with zeros is patched. So damage to one byte cannot make a sector look as if it was
//!   never written.
//! - The frame's header lies in one sector, because the padding of the frame before makes room for
//!   it.
//! - The frame's end is as safe as its beginning, because the last sector holds at least two bytes
//!   of padding.

use std::format;
use std::vec::Vec;

use bytes::Bytes;

use super::sector::{SECTOR_BYTES, in_sector, is_faint, sectors};
use super::segment::Salting;
use crate::codec;
use crate::host::storage_error::Refused;
use crate::host::wire::frame::{self, HEADER_BYTES, PAYLOAD_BYTES_LIMIT};
use crate::output::Write;

/// Replaces two bytes of a sector that is (nearly) all zeros.
const PATCH: [u8; 2] = [0xA5, 0x5A];
/// The bytes of a patch: the position and the two replaced bytes.
const PATCH_BYTES: usize = 6;
const COUNT_BYTES: usize = 4;
const LENGTH_BYTES: usize = 4;
const PADDING_BYTES_MIN: usize = 2;
/// The longest padding: it fills the rest of a sector in which a header does not fit any more, plus
/// the minimum.
const PADDING_BYTES_MAX: usize = HEADER_BYTES + PADDING_BYTES_MIN - 1;
/// The value of a byte of padding, apart from the length of the padding. So the byte is never zero.
const PADDING_MARK: u8 = 0xA0;

/// The writes that wait for the next sync. The buffer is kept, so that appending soon allocates
/// nothing.
#[derive(Debug)]
pub(super) struct Batch {
    /// Room for the header, and the payload so far.
    frame: Vec<u8>,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut frame = Vec::new();
        frame::begin(&mut frame);
        Self { frame }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frame.len() == HEADER_BYTES
    }

    /// How many bytes of file the batch takes, without patches and padding.
    pub(super) fn bytes(&self) -> usize {
        self.frame.len()
    }

    /// Adds a write. If the write is too long for a frame, the error is its length.
    pub(super) fn push(&mut self, write: &Write<Bytes>) -> Result<(), usize> {
        self.push_item(|frame| codec::encode_write(write, frame))
    }

    /// Adds what `encode` appends.
    pub(super) fn push_item(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<(), usize> {
        let start = self.frame.len();
        self.frame.extend_from_slice(&[0; LENGTH_BYTES]);
        encode(&mut self.frame);
        let bytes = self.frame.len() - start - LENGTH_BYTES;
        match u32::try_from(bytes) {
            Ok(length) => {
                self.frame[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
                Ok(())
            }
            Err(_) => Err(bytes),
        }
    }

    /// Completes and returns the frame, to be written at `offset` of a file with this salting.
    /// Nothing may be added until [`Batch::clear`]. If the batch is too long for a frame, the error
    /// is its length.
    pub(super) fn seal(&mut self, offset: u64, salting: Salting) -> Result<&[u8], usize> {
        let count = self.patch(offset);
        self.frame.extend_from_slice(&count.to_le_bytes());
        self.pad(offset);
        match frame::finish_salted(&mut self.frame, 0, PAYLOAD_BYTES_LIMIT, salting.at(offset)) {
            Ok(()) => Ok(&self.frame),
            Err(_) => Err(self.frame.len()),
        }
    }

    pub(super) fn clear(&mut self) {
        self.frame.truncate(HEADER_BYTES);
    }

    fn patch(&mut self, offset: u64) -> u32 {
        let mut count = 0;
        for part in sectors(offset, HEADER_BYTES..self.frame.len()) {
            // A part of one byte shares its sector with the header, or with the count and the
            // padding.
            if part.len() < PATCH.len() || !is_faint(&self.frame[part.clone()]) {
                continue;
            }
            let replaced = [self.frame[part.start], self.frame[part.start + 1]];
            self.frame[part.start..part.start + 2].copy_from_slice(&PATCH);
            // A position that does not fit into 4 bytes lies in a frame beyond the limit, which
            // `seal` refuses.
            let position = (part.start - HEADER_BYTES) as u32;
            self.frame.extend_from_slice(&position.to_le_bytes());
            self.frame.extend_from_slice(&replaced);
            count += 1;
        }
        count
    }

    fn pad(&mut self, offset: u64) {
        let end = in_sector(offset, self.frame.len() + PADDING_BYTES_MIN);
        let more = match end {
            1 => 1,
            _ if end + HEADER_BYTES > SECTOR_BYTES => SECTOR_BYTES - end,
            _ => 0,
        };
        let padding = PADDING_BYTES_MIN + more;
        self.frame.resize(self.frame.len() + padding, PADDING_MARK + padding as u8);
    }
}

/// Undoes the patches of a payload whose checksum is right, and returns the writes with their
/// lengths.
pub(super) fn open(payload: &mut [u8]) -> Result<&[u8], Refused> {
    let writes_end = unpatch(payload).ok_or("patches or padding make no sense")?;
    Ok(&payload[..writes_end])
}

/// The next of the items that [`open`] returned.
pub(super) fn next_item<'b>(rest: &mut &'b [u8]) -> Result<Option<&'b [u8]>, Refused> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (length, bytes) = rest.split_first_chunk().ok_or("a write's length is cut off")?;
    let length = u32::from_le_bytes(*length) as usize;
    let bytes_left = bytes.len();
    let (item, behind) = bytes
        .split_at_checked(length)
        .ok_or_else(|| format!("a write of {length} bytes in {bytes_left}"))?;
    *rest = behind;
    Ok(Some(item))
}

/// The next item, decoded as a write.
pub(super) fn next_write(rest: &mut &[u8]) -> Result<Option<Write<Bytes>>, Refused> {
    let Some(bytes) = next_item(rest)? else { return Ok(None) };
    // Each command gets memory of its own. Slices of the batch were no faster when measured, and
    // would keep the whole batch in memory for as long as a state machine holds on to one small
    // value.
    match codec::decode_write(bytes, Bytes::copy_from_slice) {
        Ok(write) => Ok(Some(write)),
        Err(error) => Err(Refused::undecodable("a write", error)),
    }
}

/// Undoes the patches, and returns where the writes end. `None` if [`Batch::seal`] did not write
/// this payload.
fn unpatch(payload: &mut [u8]) -> Option<usize> {
    let padding = payload.last()?.checked_sub(PADDING_MARK)? as usize;
    if !(PADDING_BYTES_MIN..=PADDING_BYTES_MAX).contains(&padding) {
        return None;
    }
    let count_at = payload.len().checked_sub(padding + COUNT_BYTES)?;
    let count = u32::from_le_bytes(*payload[count_at..].first_chunk()?) as usize;
    let writes_end = count_at.checked_sub(count.checked_mul(PATCH_BYTES)?)?;
    let (writes, patches) = payload.split_at_mut(writes_end);
    for patch in patches[..count * PATCH_BYTES].chunks_exact(PATCH_BYTES) {
        let position = u32::from_le_bytes(*patch.first_chunk()?) as usize;
        let patched = writes.get_mut(position..)?.first_chunk_mut::<2>()?;
        if *patched != PATCH {
            return None;
        }
        patched.copy_from_slice(&patch[4..]);
    }
    Some(writes_end)
}

#[cfg(test)]
mod tests {
    use super::super::sector::is_unwritten;
    use super::*;
    use crate::entries::{Entries, Entry, Payload};
    use crate::types::{Index, Term, WriteId};
    use std::vec;

    fn write(command: Vec<u8>) -> Write<Bytes> {
        let payload = Payload::Command(Bytes::from(command));
        let entry = Entry { term: Term::new(1), index: Index::new(1), payload };
        Write { id: WriteId::default(), entries: Entries::from(vec![entry]), ..Write::default() }
    }

    fn commands(frame: &[u8]) -> Vec<Bytes> {
        let (header, payload) = frame.split_first_chunk().unwrap();
        frame::Header::decode(header, usize::MAX).unwrap().check(payload).unwrap();
        let mut payload = payload.to_vec();
        let mut rest = open(&mut payload).unwrap();
        let mut commands = Vec::new();
        while let Some(write) = next_write(&mut rest).unwrap() {
            for entry in write.entries {
                let Payload::Command(command) = entry.payload else { panic!("a command") };
                commands.push(command);
            }
        }
        commands
    }

    /// Zeros, lone bits and full data, at every position in a sector: what is written comes back,
    /// and keeps the promises.
    #[test]
    fn no_sector_of_a_frame_looks_unwritten_even_if_a_byte_is_lost() {
        let mut batch = Batch::new();
        for (offset, bytes) in (0..SECTOR_BYTES).zip((0..).step_by(7)) {
            let mut nearly_zeros = vec![0; bytes];
            nearly_zeros.iter_mut().step_by(SECTOR_BYTES).for_each(|byte| *byte = 0x80);
            let written = [vec![0; bytes], nearly_zeros, vec![0xFF; bytes]];
            for command in &written {
                batch.push(&write(command.clone())).unwrap();
            }
            let frame = batch.seal(offset as u64, Salting::Absent).unwrap();
            assert_eq!(commands(frame), written);
            if in_sector(offset as u64, 0) + HEADER_BYTES <= SECTOR_BYTES {
                for part in sectors(offset as u64, 0..frame.len()) {
                    assert!(!is_faint(&frame[part.clone()]), "offset {offset}, {part:?}");
                    assert!(!is_unwritten(&frame[part]));
                }
            }
            let end = in_sector(offset as u64, frame.len());
            assert!(end + HEADER_BYTES <= SECTOR_BYTES, "offset {offset} ends at {end}");
            batch.clear();
        }
    }

    #[test]
    fn a_payload_that_seal_did_not_make_is_refused_without_a_panic() {
        let mut batch = Batch::new();
        batch.push(&write(vec![0; 2 * SECTOR_BYTES])).unwrap();
        let payload = batch.seal(0, Salting::Absent).unwrap()[HEADER_BYTES..].to_vec();
        for at in 0..payload.len() {
            for value in [0, 1, 0xA2, 0xA3, 0xFF] {
                let mut payload = payload.clone();
                payload[at] = value;
                if let Ok(mut rest) = open(&mut payload) {
                    while let Ok(Some(_)) = next_write(&mut rest) {}
                }
            }
            assert!(open(&mut payload[..at].to_vec()).map_or(true, |rest| rest.len() < at));
        }
        assert!(open(&mut []).is_err());
    }
}
