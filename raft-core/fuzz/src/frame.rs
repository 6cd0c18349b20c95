//! Frames out of a stream that is cut anywhere, damaged, or meant for somebody else; and the
//! messages in them.

use std::sync::{Arc, Mutex};

use arbitrary::Arbitrary;
use bytes::Bytes;
use raft_core::host::frame::{self, Decoder, FrameError, HEADER_BYTES};
use raft_core::host::tcp::{Counters, Incoming};
use raft_core::host::{Introduction, MessageInbox, StoreId};
use raft_core::{NodeId, codec};

const ME: NodeId = NodeId::new(1);
const PEER: NodeId = NodeId::new(2);

/// The longest payload that a writer frames, in bytes: twice what a reader allows.
const PAYLOAD_BYTES_MAX: usize = 2 * READER_BYTES_MAX;
const READER_BYTES_MAX: usize = 1 << 11;
/// What a decoder holds besides the frame that has begun: the room that it offers, and as much
/// again while it moves.
const BUFFER_BYTES_MAX: usize = 2 * (64 << 10);

/// Payloads, what happens to their stream, and the pieces in which it arrives.
#[derive(Arbitrary, Debug)]
pub struct Input {
    bytes_max: u16,
    payloads: Vec<AnyPayload>,
    damage: Option<Damage>,
    pieces: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum AnyPayload {
    Bytes(Vec<u8>),
    Fill { bytes: u16, with: u8 },
}

#[derive(Arbitrary, Debug)]
enum Damage {
    Flip { at: u16, xor: u8 },
    Cut { at: u16 },
    Insert { at: u16, bytes: Vec<u8> },
    Remove { at: u16, bytes: u8 },
}

/// What comes out of a stream.
#[derive(PartialEq, Debug, Default)]
struct Decoded {
    payloads: Vec<Bytes>,
    error: Option<FrameError>,
    is_cut: bool,
}

/// Sends the payloads through the stream.
pub fn run(input: &Input) {
    let bytes_max = usize::from(input.bytes_max) % READER_BYTES_MAX;
    let payloads: Vec<_> = input.payloads.iter().map(AnyPayload::to_bytes).collect();
    let (mut stream, ends) = encode(&payloads);
    let damaged_at = input.damage.as_ref().map(|damage| damage.apply(&mut stream));

    let decoded = decode(&stream, bytes_max, &input.pieces);
    assert_eq!(decode(&stream, bytes_max, &[]), decoded, "the pieces make a difference");

    let sound = ends.iter().take_while(|end| damaged_at.is_none_or(|at| **end <= at)).count();
    let fitting = payloads.iter().take_while(|payload| payload.len() <= bytes_max).count();
    let whole = sound.min(fitting);
    assert!(decoded.payloads.len() >= whole, "a sound frame is lost");
    assert_eq!(decoded.payloads[..whole], payloads[..whole]);
    assert!(decoded.payloads.iter().all(|payload| payload.len() <= bytes_max));
    // Whole frames that are removed, put in or sent twice are for others to notice.
    let exact = !matches!(input.damage, Some(Damage::Insert { .. } | Damage::Remove { .. }));
    if exact {
        assert_eq!(decoded.payloads.len(), whole, "a damaged frame passed");
    }
    if damaged_at.is_none() {
        assert_eq!(decoded.error.is_some(), fitting < payloads.len());
        assert!(!decoded.is_cut);
    }
    decoded.payloads.iter().for_each(receive);
}

/// The stream of these payloads, and where each frame ends.
fn encode(payloads: &[Bytes]) -> (Vec<u8>, Vec<usize>) {
    let mut stream = Vec::new();
    let ends = payloads.iter().map(|payload| {
        let before = stream.clone();
        let short = payload.len().wrapping_sub(1);
        if short < PAYLOAD_BYTES_MAX {
            let refused = frame::encode(&mut stream, short, |out| out.extend_from_slice(payload));
            let too_long = FrameError::TooLong { bytes: payload.len(), bytes_max: short };
            assert_eq!((refused, &stream), (Err(too_long), &before));
        }
        frame::encode(&mut stream, PAYLOAD_BYTES_MAX, |out| out.extend_from_slice(payload))
            .expect("a payload is shorter than that");
        stream.len()
    });
    let ends = ends.collect();
    (stream, ends)
}

fn decode(stream: &[u8], bytes_max: usize, pieces: &[u8]) -> Decoded {
    let mut decoder = Decoder::new(bytes_max);
    let mut decoded = Decoded::default();
    let mut rest = stream;
    let mut lengths = pieces.iter().cycle();
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |piece| usize::from(*piece) + 1);
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        decoder.space().extend_from_slice(piece);
        loop {
            match decoder.next_payload() {
                Ok(Some(payload)) => decoded.payloads.push(Bytes::copy_from_slice(&payload)),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_payload(), Err(error), "an error is final");
                    return Decoded { error: Some(error), ..decoded };
                }
            }
        }
        let held = decoder.space();
        assert!(held.len() < HEADER_BYTES + bytes_max, "holds {} bytes", held.len());
        // A piece here may be longer than the room that was offered for it.
        let capacity_max = BUFFER_BYTES_MAX.max(stream.len()) + HEADER_BYTES + bytes_max;
        assert!(held.capacity() <= capacity_max, "room for {} bytes", held.capacity());
    }
    Decoded { is_cut: decoder.is_mid_frame(), ..decoded }
}

/// Takes a payload for a message: what is delivered is from the peer and for this node.
fn receive(payload: &Bytes) {
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let sink = delivered.clone();
    let inbox = MessageInbox::new(move |message| {
        sink.lock().expect("nobody panics with it").push(message);
    });
    let peer = Introduction::new(PEER, StoreId::new(2));
    let inbox = inbox.admit(peer).expect("this inbox judges nobody");
    let received = Incoming::new(ME, inbox, Counters::default()).receive(payload);
    let delivered = std::mem::take(&mut *delivered.lock().expect("nobody panics with it"));
    let message = codec::decode_message(payload, Bytes::copy_from_slice).ok();
    let expected = message.filter(|message| (message.from, message.to) == (PEER, ME));
    assert!(expected.is_none() || received.is_ok(), "{received:?}");
    assert_eq!(delivered, Vec::from_iter(expected));
}

impl AnyPayload {
    fn to_bytes(&self) -> Bytes {
        match self {
            Self::Bytes(bytes) => {
                Bytes::copy_from_slice(&bytes[..bytes.len().min(PAYLOAD_BYTES_MAX)])
            }
            Self::Fill { bytes, with } => {
                vec![*with; usize::from(*bytes) % (PAYLOAD_BYTES_MAX + 1)].into()
            }
        }
    }
}

impl Damage {
    /// Damages the stream, and returns where: all before is as it was.
    fn apply(&self, stream: &mut Vec<u8>) -> usize {
        let places = stream.len() + 1;
        let place = |at: u16| usize::from(at) % places;
        match self {
            Self::Flip { at, xor } => {
                let at = place(*at);
                match stream.get_mut(at) {
                    Some(byte) if *xor != 0 => *byte ^= xor,
                    _ => return stream.len(),
                }
                at
            }
            Self::Cut { at } => {
                let at = place(*at);
                stream.truncate(at);
                at
            }
            Self::Insert { at, bytes } => {
                let at = place(*at);
                stream.splice(at..at, bytes.iter().copied());
                at
            }
            Self::Remove { at, bytes } => {
                let at = place(*at);
                let end = stream.len().min(at + usize::from(*bytes));
                stream.drain(at..end);
                at
            }
        }
    }
}
