//! Frames on a serial line, which may lose, change and invent bytes.
//!
//! ```text
//! 00 │ COBS( kind │ body │ CRC-32 of kind and body, little-endian ) │ 00
//! ```
//!
//! COBS takes every zero out of what it encodes, so a zero always ends a frame and a reader that
//! was lost is back with the next one. A frame begins with a zero as well: noise before it costs
//! the noise, and not the frame. What does not check out is counted and dropped, as if the line had
//! lost it.

use cobs::CobsEncoder;
use heapless::{Deque, Vec};

use super::limits::{BATCH_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use super::sum::crc32;

/// The most bytes in a frame's body: a message with entries that count [`BATCH_BYTES_MAX`], each of
/// which takes fewer bytes on the line than it is counted with, or with a snapshot of no more
/// bytes; and its head.
pub const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX + 256;

const _: () = assert!(SNAPSHOT_BYTES_MAX <= BATCH_BYTES_MAX);

/// What a frame costs besides its body and COBS: the kind, and the checksum.
const AROUND_BYTES: usize = 1 + CRC_BYTES;
const CRC_BYTES: usize = 4;

/// The most bytes between two zeros.
const ENCODED_BYTES_MAX: usize = cobs::max_encoding_length(BODY_BYTES_MAX + AROUND_BYTES);

/// The most bytes of a frame on the line.
pub const FRAME_BYTES_MAX: usize = ENCODED_BYTES_MAX + 2;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A message of the core, encoded by its `codec`.
    Message = 0,
    /// A command for the firmware to propose, if it leads.
    Propose = 1,
    /// What the firmware says about itself: a [`Report`](super::report::Report).
    Report = 2,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Message, Self::Propose, Self::Report].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A frame that arrived whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'b> {
    /// What it holds.
    pub kind: Kind,
    /// The bytes of that.
    pub body: &'b [u8],
}

/// What a [`Decoder`] has seen; the counts only grow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Frames that arrived whole.
    pub frames: u32,
    /// Frames that were damaged, cut short, or of an unknown kind.
    pub damaged: u32,
    /// Stretches without a zero that were longer than any frame.
    pub overlong: u32,
}

/// Takes frames out of a stream of bytes. Holds one frame at most.
#[derive(Debug)]
pub struct Decoder {
    held: Vec<u8, ENCODED_BYTES_MAX>,
    /// What is held was handed out, or is too long: it goes with the next byte, or the next zero.
    taken: bool,
    overlong: bool,
    counts: Counts,
}

impl Decoder {
    /// A decoder that waits for the first frame.
    pub const fn new() -> Self {
        let counts = Counts { frames: 0, damaged: 0, overlong: 0 };
        Self { held: Vec::new(), taken: false, overlong: false, counts }
    }

    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a byte off the line; returns the frame that it completes.
    pub fn push(&mut self, byte: u8) -> Option<Frame<'_>> {
        if self.taken {
            self.taken = false;
            self.held.clear();
        }
        if byte != 0 {
            self.overlong |= self.held.push(byte).is_err();
            return None;
        }
        self.taken = true;
        if core::mem::take(&mut self.overlong) {
            self.counts.overlong = self.counts.overlong.saturating_add(1);
            return None;
        }
        if self.held.is_empty() {
            return None;
        }
        match frame_in(&mut self.held) {
            Some(frame) => {
                self.counts.frames = self.counts.frames.saturating_add(1);
                Some(frame)
            }
            None => {
                self.counts.damaged = self.counts.damaged.saturating_add(1);
                None
            }
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

fn frame_in(encoded: &mut [u8]) -> Option<Frame<'_>> {
    let bytes = cobs::decode_in_place(encoded).ok()?;
    let (content, crc) = encoded.get(..bytes)?.split_last_chunk::<CRC_BYTES>()?;
    let (kind, body) = content.split_first()?;
    let intact = crc32(&[content]) == u32::from_le_bytes(*crc);
    intact.then_some(Frame { kind: Kind::of(*kind)?, body })
}

/// The body is longer than [`BODY_BYTES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

/// Encodes a frame; returns the part of `buffer` that it takes.
///
/// # Errors
///
/// If the body is too long.
pub fn encode<'b>(
    kind: Kind,
    body: &[u8],
    buffer: &'b mut [u8; FRAME_BYTES_MAX],
) -> Result<&'b [u8], TooLong> {
    if body.len() > BODY_BYTES_MAX {
        return Err(TooLong);
    }
    let kind = [kind as u8];
    let crc = crc32(&[&kind, body]).to_le_bytes();
    let [first, inner @ .., _] = buffer;
    *first = 0;
    let mut encoder = CobsEncoder::new(inner);
    for part in [&kind[..], body, &crc] {
        encoder.push(part).map_err(|_| TooLong)?;
    }
    let end = encoder.finalize().saturating_add(1);
    let last = buffer.get_mut(end).ok_or(TooLong)?;
    *last = 0;
    buffer.get(..=end).ok_or(TooLong)
}

/// Bytes on their way to the line: whole frames, or nothing of them.
///
/// A line that does not take bytes blocks nobody; frames for which there is no room are dropped and
/// counted.
#[derive(Debug)]
pub struct Outgoing<const N: usize> {
    queue: Deque<u8, N>,
    dropped: u32,
}

impl<const N: usize> Outgoing<N> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { queue: Deque::new(), dropped: 0 }
    }

    /// Queues a frame, or drops it.
    pub fn offer(&mut self, frame: &[u8]) {
        if N - self.queue.len() < frame.len() {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        for byte in frame {
            // There is room, as was just seen.
            let _ = self.queue.push_back(*byte);
        }
    }

    /// The next byte for the line.
    pub fn pop(&mut self) -> Option<u8> {
        self.queue.pop_front()
    }

    /// How many frames found no room.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }
}

impl<const N: usize> Default for Outgoing<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{Rng, SeedableRng};
    use rand_pcg::Pcg32;
    use std::vec::Vec;

    fn encoded(kind: Kind, body: &[u8]) -> Vec<u8> {
        let mut buffer = [0xff; FRAME_BYTES_MAX];
        encode(kind, body, &mut buffer).unwrap().to_vec()
    }

    fn decoded(decoder: &mut Decoder, bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
        let mut frames = Vec::new();
        for byte in bytes {
            frames.extend(decoder.push(*byte).map(|frame| (frame.kind, frame.body.to_vec())));
        }
        frames
    }

    #[test]
    fn a_frame_of_any_length_arrives() {
        let mut decoder = Decoder::new();
        for length in (0..300).chain([BODY_BYTES_MAX - 1, BODY_BYTES_MAX]) {
            let body: Vec<u8> = (0..length).map(|at| (at % 5 * 63) as u8).collect();
            let frames = decoded(&mut decoder, &encoded(Kind::Propose, &body));
            assert_eq!(frames, [(Kind::Propose, body)], "{length} bytes");
        }
        assert_eq!(decoder.counts(), Counts { frames: 302, ..Counts::default() });
    }

    #[test]
    fn what_is_too_long_is_not_encoded() {
        let body = [7; BODY_BYTES_MAX + 1];
        assert_eq!(encode(Kind::Message, &body, &mut [0; FRAME_BYTES_MAX]), Err(TooLong));
    }

    #[test]
    fn the_layout_is_fixed() {
        let crc = crc32(&[b"\x00hi"]).to_le_bytes();
        assert!(!crc.contains(&0));
        let mut expected = std::vec![0, 1, 7, b'h', b'i'];
        expected.extend(crc);
        expected.push(0);
        assert_eq!(encoded(Kind::Message, b"hi"), expected);
    }

    /// Noise, with zeros in it or without, costs what it hits and not the frame behind it.
    #[test]
    fn a_frame_behind_noise_arrives() {
        let mut rng = Pcg32::seed_from_u64(7);
        let mut decoder = Decoder::new();
        let mut arrived = 0;
        for round in 0..1000u32 {
            let mut noise = std::vec![0; (rng.next_u32() % 1500) as usize];
            rng.fill_bytes(&mut noise);
            decoded(&mut decoder, &noise);
            let body = round.to_le_bytes();
            let frames = decoded(&mut decoder, &encoded(Kind::Report, &body));
            assert_eq!(frames.last(), Some(&(Kind::Report, body.to_vec())), "round {round}");
            arrived += 1;
        }
        let counts = decoder.counts();
        assert_eq!(counts.frames, arrived);
        assert!(counts.damaged > 1000, "{counts:?}");
    }

    /// The line sticks in the middle of a frame, at any byte, and then goes on with the next.
    #[test]
    fn a_frame_behind_half_a_frame_arrives() {
        let frame = encoded(Kind::Message, &[0, 1, 2, 0, 0, 3, 255, 0]);
        // Of a frame that only its last zero is missing of, the next one's first is that.
        for cut in 0..frame.len() - 1 {
            let mut decoder = Decoder::new();
            assert_eq!(decoded(&mut decoder, &frame[..cut]), [], "cut at {cut}");
            assert_eq!(decoded(&mut decoder, &frame).len(), 1, "cut at {cut}");
            assert_eq!(decoder.counts().damaged, u32::from(cut > 1), "cut at {cut}");
        }
    }

    #[test]
    fn any_changed_bit_is_noticed() {
        let frame = encoded(Kind::Message, b"\x00votes\x00");
        for bit in 8..(frame.len() - 1) * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decoded(&mut Decoder::new(), &damaged), [], "bit {bit}");
        }
    }

    #[test]
    fn a_line_that_never_ends_a_frame_holds_no_memory() {
        let mut decoder = Decoder::new();
        assert_eq!(decoded(&mut decoder, &[9; 100_000]), []);
        assert_eq!(decoded(&mut decoder, &encoded(Kind::Message, b"hi")).len(), 1);
        assert_eq!(decoder.counts().overlong, 1);
    }

    #[test]
    fn a_stuck_line_drops_whole_frames() {
        let frame = encoded(Kind::Message, &[1; 40]);
        let mut outgoing = Outgoing::<100>::new();
        for _ in 0..5 {
            outgoing.offer(&frame);
        }
        assert_eq!(outgoing.dropped(), 3);
        let sent: Vec<u8> = std::iter::from_fn(|| outgoing.pop()).collect();
        assert_eq!(decoded(&mut Decoder::new(), &sent).len(), 2);
        outgoing.offer(&frame);
        assert_eq!(outgoing.dropped(), 3, "it takes bytes again, and so do we");
    }
}
