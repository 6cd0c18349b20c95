//! The framing of the journal and of the network: a payload behind its length and two checksums.
//!
//! ```text
//!  0        4        8        12
//!  ┌────────┬────────┬────────┬─────────┐   all numbers little-endian
//!  │ length │ crc of │ crc of │ payload │   length: of the payload, in bytes
//!  │        │ payload│ bytes  │         │   crc: CRC-32 (ISO-HDLC, as in zip and Ethernet)
//!  │        │        │ 0 to 8 │         │
//!  └────────┴────────┴────────┴─────────┘
//! ```
//!
//! The header has a checksum of its own, so that a reader notices a damaged length before it uses
//! the length. A damaged length can make a reader neither wait for bytes that never come nor skip
//! frames that are whole. A header of zeros is never valid.
//!
//! A journal's frames are salted: both checksums also cover the frame's place ([`Salt`]). So a
//! frame is valid only where it was written, and a command that holds the bytes of a frame is never
//! taken for one. Frames on a connection have no salt.
//!
//! Nothing here does I/O. Writers frame in place, in a buffer of their own. [`Decoder`] takes bytes
//! as a stream delivers them.

use std::error::Error;
use std::fmt;
use std::vec::Vec;

use bytes::{Bytes, BytesMut};

/// The bytes that a frame takes besides its payload.
pub const HEADER_BYTES: usize = 12;

/// The longest payload that a frame can hold, whatever limit its reader has.
pub const PAYLOAD_BYTES_LIMIT: usize = u32::MAX as usize;

/// How much room [`Decoder::space`] offers at least while the length of the next frame is unknown.
const READ_BYTES: usize = 64 * 1024;

/// Where the header's checksum stands in the header.
const HEADER_CRC_AT: usize = 8;

/// Takes frames out of a stream of bytes that may be cut anywhere.
///
/// If all payloads are taken after each read, the decoder holds at most one unfinished frame
/// ([`HEADER_BYTES`] and `bytes_max`) and the bytes of the last read. After an error the stream
/// cannot be followed any more, and every later call returns the same error.
///
/// # Example
///
/// ```
/// use raft_core::host::frame::{self, Decoder};
///
/// let mut stream = Vec::new();
/// frame::encode(&mut stream, 1024, |payload| payload.extend_from_slice(b"hello"))?;
///
/// let mut decoder = Decoder::new(1024);
/// decoder.space().extend_from_slice(&stream[..3]);
/// assert_eq!(decoder.next_payload()?, None);
/// decoder.space().extend_from_slice(&stream[3..]);
/// assert_eq!(decoder.next_payload()?.as_deref(), Some(&b"hello"[..]));
/// # Ok::<(), frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    bytes_max: usize,
    buffer: BytesMut,
    header: Option<Header>,
    failed: Option<FrameError>,
}

impl Decoder {
    /// A decoder that refuses payloads of more than `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, buffer: BytesMut::new(), header: None, failed: None }
    }

    /// The buffer to read into, behind the bytes that are there. It has room for the rest of the
    /// frame that has begun, or for many small frames.
    ///
    /// Read at most its spare capacity at a time (`read_buf` does so), then take all payloads.
    pub fn space(&mut self) -> &mut BytesMut {
        let missing =
            self.header.map_or(0, Header::payload_bytes).saturating_sub(self.buffer.len());
        self.buffer.reserve(if missing > 0 { missing } else { READ_BYTES });
        &mut self.buffer
    }

    /// The next payload, or `None` if more bytes are needed first.
    ///
    /// A payload shares the memory that it was read into, tens of KiB, with its neighbours. To keep
    /// a small part of a payload for long, copy it.
    ///
    /// # Errors
    ///
    /// The stream is damaged or not meant for this reader: close it.
    pub fn next_payload(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.decode().inspect_err(|error| self.failed = Some(*error)),
        }
    }

    /// Whether a part of a frame has arrived. A stream that ends here was cut.
    pub fn is_mid_frame(&self) -> bool {
        self.header.is_some() || !self.buffer.is_empty()
    }

    fn decode(&mut self) -> Result<Option<Bytes>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(bytes) = self.buffer.first_chunk::<HEADER_BYTES>() else {
                    return Ok(None);
                };
                let header = Header::decode(bytes, self.bytes_max)?;
                let _ = self.buffer.split_to(HEADER_BYTES);
                *self.header.insert(header)
            }
        };
        if self.buffer.len() < header.payload_bytes() {
            return Ok(None);
        }
        let payload = self.buffer.split_to(header.payload_bytes()).freeze();
        header.check(&payload)?;
        self.header = None;
        Ok(Some(payload))
    }
}

/// What a frame's checksums cover besides its bytes: the place at which it is valid.
///
/// The checksums begin with the checksum of the place instead of zero, so a salt costs no byte.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Salt(u32);

impl Salt {
    /// The salt of a frame that is valid anywhere.
    pub const NONE: Self = Self(0);

    /// The salt of a frame that is valid only at the place that these numbers name.
    pub fn of_place(numbers: &[u64]) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        numbers.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
        Self(hasher.finalize())
    }

    fn checksum(self, bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// A frame's header, whose checksum is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    length: u32,
    payload_crc: u32,
    salt: Salt,
}

impl Header {
    /// Reads a header without salt.
    ///
    /// # Errors
    ///
    /// [`FrameError::HeaderDamaged`], or [`FrameError::TooLong`] if it announces more than
    /// `bytes_max` bytes.
    pub fn decode(bytes: &[u8; HEADER_BYTES], bytes_max: usize) -> Result<Self, FrameError> {
        Self::decode_salted(bytes, bytes_max, Salt::NONE)
    }

    /// Reads a header that was written with this salt.
    ///
    /// # Errors
    ///
    /// As of [`Header::decode`].
    pub fn decode_salted(
        bytes: &[u8; HEADER_BYTES],
        bytes_max: usize,
        salt: Salt,
    ) -> Result<Self, FrameError> {
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        // With one salt in four billion zeros would be their own checksum, and zeros are never a
        // header.
        let is_blank = bytes.iter().all(|byte| *byte == 0);
        if is_blank || number(HEADER_CRC_AT) != salt.checksum(&bytes[..HEADER_CRC_AT]) {
            return Err(FrameError::HeaderDamaged);
        }
        let header = Self { length: number(0), payload_crc: number(4), salt };
        check_length(header.payload_bytes(), bytes_max)?;
        Ok(header)
    }

    /// How many bytes follow the header.
    pub fn payload_bytes(self) -> usize {
        self.length as usize
    }

    /// Whether `payload` is the payload that this header announced.
    ///
    /// # Errors
    ///
    /// [`FrameError::PayloadDamaged`] if it is not.
    pub fn check(self, payload: &[u8]) -> Result<(), FrameError> {
        if payload.len() == self.payload_bytes() && self.salt.checksum(payload) == self.payload_crc
        {
            Ok(())
        } else {
            Err(FrameError::PayloadDamaged)
        }
    }
}

/// Appends one frame to `out`, with the payload that `payload` appends there.
///
/// # Errors
///
/// [`FrameError::TooLong`] if that is more than `bytes_max` bytes; `out` is then as it was before.
pub fn encode(
    out: &mut Vec<u8>,
    bytes_max: usize,
    payload: impl FnOnce(&mut Vec<u8>),
) -> Result<(), FrameError> {
    let start = begin(out);
    payload(out);
    finish(out, start, bytes_max).inspect_err(|_| out.truncate(start))
}

/// Leaves room for a header at the end of `out`, and returns where: append the payload, then call
/// [`finish`] with that position.
pub fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    start
}

/// Fills in the header at `start`, for the payload that reaches from there to the end of `out`.
///
/// # Errors
///
/// [`FrameError::TooLong`] if the payload has more than `bytes_max` bytes; the header then stays
/// unwritten.
///
/// # Panics
///
/// If there is no room for a header at `start`: it must come from [`begin`] on the same buffer.
pub fn finish(out: &mut [u8], start: usize, bytes_max: usize) -> Result<(), FrameError> {
    finish_salted(out, start, bytes_max, Salt::NONE)
}

/// Like [`finish`], for a frame that is valid at one place only.
///
/// # Errors
///
/// As of [`finish`].
///
/// # Panics
///
/// As [`finish`] does.
pub fn finish_salted(
    out: &mut [u8],
    start: usize,
    bytes_max: usize,
    salt: Salt,
) -> Result<(), FrameError> {
    let (header, payload) = out[start..]
        .split_first_chunk_mut::<HEADER_BYTES>()
        .expect("`begin` left room for a header at `start`");
    let length = check_length(payload.len(), bytes_max)?;
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..HEADER_CRC_AT].copy_from_slice(&salt.checksum(payload).to_le_bytes());
    let header_crc = salt.checksum(&header[..HEADER_CRC_AT]);
    header[HEADER_CRC_AT..].copy_from_slice(&header_crc.to_le_bytes());
    Ok(())
}

fn check_length(bytes: usize, bytes_max: usize) -> Result<u32, FrameError> {
    match u32::try_from(bytes) {
        Ok(length) if bytes <= bytes_max => Ok(length),
        _ => Err(FrameError::TooLong { bytes, bytes_max: bytes_max.min(PAYLOAD_BYTES_LIMIT) }),
    }
}

/// Why bytes are not a frame, or cannot become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// The payload is longer than the reader or writer allows: both sides should be configured
    /// alike.
    TooLong {
        /// How long it is or claims to be.
        bytes: usize,
        /// The most allowed.
        bytes_max: usize,
    },
    /// The header does not match its own checksum: damage, or not a frame at all.
    HeaderDamaged,
    /// The payload does not match its checksum.
    PayloadDamaged,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { bytes, bytes_max } => {
                write!(f, "frame of {bytes} bytes is longer than the {bytes_max} allowed")
            }
            Self::HeaderDamaged => f.write_str("frame header does not match its checksum"),
            Self::PayloadDamaged => f.write_str("frame payload does not match its checksum"),
        }
    }
}

impl Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    const BYTES_MAX: usize = 100;

    fn frames(payloads: &[&[u8]]) -> Vec<u8> {
        let mut stream = Vec::new();
        for payload in payloads {
            encode(&mut stream, BYTES_MAX, |out| out.extend_from_slice(payload)).unwrap();
        }
        stream
    }

    /// Feeds a stream in pieces; what comes out, and the error that ended it.
    fn decode(stream: &[u8], piece: usize) -> (Vec<Bytes>, Option<FrameError>) {
        let mut decoder = Decoder::new(BYTES_MAX);
        let mut payloads = Vec::new();
        for bytes in stream.chunks(piece) {
            decoder.space().extend_from_slice(bytes);
            loop {
                match decoder.next_payload() {
                    Ok(Some(payload)) => payloads.push(payload),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(decoder.next_payload(), Err(error), "an error is final");
                        return (payloads, Some(error));
                    }
                }
            }
        }
        (payloads, None)
    }

    #[test]
    fn the_layout_is_fixed() {
        // crc32("123456789") is the published check value of this CRC.
        let frame = frames(&[b"123456789"]);
        assert_eq!(frame[..8], [9, 0, 0, 0, 0x26, 0x39, 0xF4, 0xCB]);
        assert_eq!(frame[8..12], crc32fast::hash(&frame[..8]).to_le_bytes());
        assert_eq!(&frame[12..], b"123456789");
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let payloads: [&[u8]; 4] = [b"one", b"", &[7; BYTES_MAX], b"last"];
        let stream = frames(&payloads);
        for piece in 1..=stream.len() {
            let (decoded, error) = decode(&stream, piece);
            assert_eq!((decoded.as_slice(), error), (&payloads.map(Bytes::from_static)[..], None));
        }
    }

    #[test]
    fn every_flipped_bit_is_found_and_frames_before_it_are_kept() {
        let good = frames(&[b"before", b"damaged"]);
        let second = frames(&[b"before"]).len();
        for (at, bit) in (second..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut stream = good.clone();
            stream[at] ^= 1 << bit;
            let (decoded, error) = decode(&stream, stream.len());
            let expected = if at < second + HEADER_BYTES {
                FrameError::HeaderDamaged
            } else {
                FrameError::PayloadDamaged
            };
            assert_eq!((decoded.len(), error), (1, Some(expected)), "byte {at}, bit {bit}");
        }
    }

    #[test]
    fn zeros_are_not_a_frame() {
        assert_eq!(decode(&[0; 64], 64), (vec![], Some(FrameError::HeaderDamaged)));
    }

    #[test]
    fn a_salted_frame_is_valid_at_its_own_place_only() {
        let place = Salt::of_place(&[7, 1, 4096]);
        let mut frame = Vec::new();
        let start = begin(&mut frame);
        frame.extend_from_slice(b"payload");
        finish_salted(&mut frame, start, BYTES_MAX, place).unwrap();
        let (header, payload) = frame.split_first_chunk().unwrap();
        Header::decode_salted(header, BYTES_MAX, place).unwrap().check(payload).unwrap();
        let others = [Salt::NONE, Salt::of_place(&[7, 1, 4097]), Salt::of_place(&[7, 2, 4096])];
        for other in others {
            let refused = Header::decode_salted(header, BYTES_MAX, other);
            assert_eq!(refused, Err(FrameError::HeaderDamaged));
        }
    }

    /// The one salt that makes eight zeros their own checksum.
    #[test]
    fn no_salt_makes_zeros_a_frame() {
        let salt = Salt(0x101B_2F50);
        assert_eq!(salt.checksum(&[0; HEADER_CRC_AT]), 0);
        let decoded = Header::decode_salted(&[0; HEADER_BYTES], BYTES_MAX, salt);
        assert_eq!(decoded, Err(FrameError::HeaderDamaged));
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_before_its_payload_is_awaited() {
        let mut stream = Vec::new();
        encode(&mut stream, BYTES_MAX + 1, |out| out.resize(out.len() + BYTES_MAX + 1, 1)).unwrap();
        let too_long = FrameError::TooLong { bytes: BYTES_MAX + 1, bytes_max: BYTES_MAX };
        assert_eq!(decode(&stream[..HEADER_BYTES], HEADER_BYTES), (vec![], Some(too_long)));
    }

    #[test]
    fn a_payload_that_is_too_long_leaves_the_buffer_as_it_was() {
        let mut out = b"kept".to_vec();
        let result = encode(&mut out, 3, |out| out.extend_from_slice(b"four"));
        assert_eq!(result, Err(FrameError::TooLong { bytes: 4, bytes_max: 3 }));
        assert_eq!(out, b"kept");
    }

    #[test]
    fn memory_stays_within_the_bound_over_a_long_stream() {
        let stream = frames(&[&[1; BYTES_MAX]]);
        let mut decoder = Decoder::new(BYTES_MAX);
        for piece in stream.repeat(5_000).chunks(7) {
            decoder.space().extend_from_slice(piece);
            while decoder.next_payload().unwrap().is_some() {}
            assert!(decoder.buffer.len() < HEADER_BYTES + BYTES_MAX);
            assert!(decoder.buffer.capacity() <= 2 * READ_BYTES);
        }
        assert!(!decoder.is_mid_frame());
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_known_to_be_cut() {
        let stream = frames(&[b"payload"]);
        for end in 1..stream.len() {
            let mut decoder = Decoder::new(BYTES_MAX);
            decoder.space().extend_from_slice(&stream[..end]);
            assert_eq!(decoder.next_payload(), Ok(None));
            assert!(decoder.is_mid_frame());
        }
    }
}
