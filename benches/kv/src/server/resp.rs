//! The Redis protocol as it arrives: bytes in pieces of any size, out come whole requests or
//! replies. Requests are the same in RESP2 and RESP3; how [replies](super::reply) differ, clients
//! alone are told.
//!
//! The crate `redis-protocol` decodes and encodes. It decodes arrays by recursion, so a nest of
//! `*1\r\n*1\r\n…` would run down the stack, and it starts over whenever bytes are missing, so a
//! long request in small pieces would cost its square. Both end here: the crate is handed one
//! element at a time, and arrays within arrays are bounded. Requests have none, and of the replies
//! that servers give each other only that to SCAN has one. A write in the log is whole, so
//! [`words`] reads it where it lies.

use std::fmt;

use bytes::{Bytes, BytesMut};
use redis_protocol::error::RedisProtocolError;
use redis_protocol::resp2::{decode::decode_bytes_mut, encode::extend_encode};

pub use redis_protocol::resp2::types::BytesFrame as Frame;

/// The most bytes of a write as it travels and enters the log: a request with its
/// [name](super::sessions::WriteName).
pub const WRITE_BYTES_MAX: usize = 1 << 20;
/// The most bytes of one request of a client.
pub const REQUEST_BYTES_MAX: usize = WRITE_BYTES_MAX - NAME_BYTES_MAX;
/// The most words of one request: its name and arguments.
pub const REQUEST_WORDS_MAX: usize = 1024;
/// How many bytes, and words, a write's name adds to it at most.
const NAME_BYTES_MAX: usize = 128;
const NAME_WORDS: usize = 3;
/// The most bytes of one reply, or of the replies to one run of reads, that are held at a time.
pub const REPLY_BYTES_MAX: usize = 16 << 20;
/// The most arrays within each other of a request, and of a reply.
const REQUEST_NESTING_MAX: usize = 1;
const REPLY_NESTING_MAX: usize = 2;
/// How an error begins that names where the leader is.
pub const LEADER: &str = "LEADER";
/// How an error begins that may be another one in a moment.
pub const TRY_AGAIN: &str = "TRYAGAIN";
/// The longest line, such as `*3` or `$512`, before its end must have come; also the longest error.
const LINE_BYTES_MAX: usize = 4096;

/// Puts what arrives together into requests or replies.
#[derive(Debug)]
pub struct Decoder {
    /// What has arrived and is not decoded yet; append to it.
    pub buffer: BytesMut,
    /// The arrays of which some elements are still to come, from the outermost.
    arrays: Vec<Array>,
    /// How many bytes of the same request or reply were decoded, and how many words its arrays
    /// announced.
    bytes: usize,
    words: usize,
    bytes_max: usize,
    words_max: usize,
    nesting_max: usize,
}

/// An array of which some elements are still to come.
#[derive(Debug)]
struct Array {
    expected: usize,
    elements: Vec<Frame>,
}

/// What arrived is not the Redis protocol, or over a limit. Nothing after it can be understood:
/// close the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Not what the protocol allows here.
    Malformed(String),
    /// More bytes than the limit.
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// More words than the limit.
    TooManyWords {
        /// The limit.
        words_max: usize,
    },
    /// A line without an end.
    LineTooLong,
    /// More arrays within each other than there can be.
    Nested,
}

impl Decoder {
    /// For a server: requests of at most [`REQUEST_BYTES_MAX`].
    pub fn of_requests() -> Self {
        Self::new(REQUEST_BYTES_MAX, REQUEST_WORDS_MAX, REQUEST_NESTING_MAX)
    }

    /// For a client: replies of at most [`REPLY_BYTES_MAX`].
    pub fn of_replies() -> Self {
        Self::new(REPLY_BYTES_MAX, REQUEST_WORDS_MAX, REPLY_NESTING_MAX)
    }

    fn new(bytes_max: usize, words_max: usize, nesting_max: usize) -> Self {
        let (buffer, arrays) = (BytesMut::new(), Vec::new());
        Self { buffer, arrays, bytes: 0, words: 0, bytes_max, words_max, nesting_max }
    }

    /// From the next request on takes the requests that another server forwards: writes bear their
    /// names.
    pub fn expect_writes(&mut self) {
        (self.bytes_max, self.words_max) = (WRITE_BYTES_MAX, REQUEST_WORDS_MAX + NAME_WORDS);
    }

    /// The next whole request or reply; `None` if more bytes must come first. After an error, close
    /// the connection.
    pub fn decode(&mut self) -> Result<Option<Frame>, ProtocolError> {
        loop {
            let is_whole = |array: &Array| array.elements.len() == array.expected;
            let next = if self.arrays.last().is_some_and(is_whole) {
                self.arrays.pop().map(|array| Frame::Array(array.elements))
            } else if self.buffer.first() == Some(&b'*') {
                if !self.begin_array()? {
                    return Ok(None);
                }
                continue;
            } else {
                self.element()?
            };
            let Some(next) = next else { return Ok(None) };
            let Some(array) = self.arrays.last_mut() else {
                (self.bytes, self.words) = (0, 0);
                return Ok(Some(next));
            };
            array.elements.push(next);
        }
    }

    /// Takes the line `*3` that begins an array, without what follows; whether it is there.
    fn begin_array(&mut self) -> Result<bool, ProtocolError> {
        if self.arrays.len() == self.nesting_max {
            return Err(ProtocolError::Nested);
        }
        let Some(end) = self.line_end()? else { return Ok(false) };
        let line = self.buffer.split_to(end + 2);
        let expected = std::str::from_utf8(&line[1..end])
            .ok()
            .and_then(|count| count.parse::<usize>().ok())
            .ok_or_else(|| ProtocolError::Malformed("invalid array length".into()))?;
        self.words = self.words.saturating_add(expected);
        if self.words > self.words_max {
            return Err(ProtocolError::TooManyWords { words_max: self.words_max });
        }
        self.bytes += line.len();
        self.arrays.push(Array { expected, elements: Vec::with_capacity(expected) });
        Ok(true)
    }

    /// One frame that is no array.
    fn element(&mut self) -> Result<Option<Frame>, ProtocolError> {
        if self.line_end()?.is_none() {
            return Ok(None);
        }
        let before = self.buffer.len();
        let decoded = decode_bytes_mut(&mut self.buffer).map_err(|e| malformed(&e))?;
        let pending = if decoded.is_some() { before - self.buffer.len() } else { before };
        if self.bytes + pending > self.bytes_max {
            return Err(ProtocolError::TooLarge { bytes_max: self.bytes_max });
        }
        Ok(decoded.map(|(frame, _, _)| {
            self.bytes += pending;
            frame
        }))
    }

    /// Where the first line ends.
    fn line_end(&self) -> Result<Option<usize>, ProtocolError> {
        let line = &self.buffer[..self.buffer.len().min(LINE_BYTES_MAX)];
        match line.windows(2).position(|pair| pair == b"\r\n") {
            None if line.len() == LINE_BYTES_MAX => Err(ProtocolError::LineTooLong),
            end => Ok(end),
        }
    }
}

/// The words of a whole request that [`encode_request`] wrote, within the limits of
/// [`Decoder::expect_writes`]; `None` if these bytes are anything else.
pub fn words(request: &[u8]) -> Option<Vec<&[u8]>> {
    if request.len() > WRITE_BYTES_MAX {
        return None;
    }
    let mut rest = request;
    let count = take_length(b'*', &mut rest)?;
    if count > REQUEST_WORDS_MAX + NAME_WORDS {
        return None;
    }
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let length = take_length(b'$', &mut rest)?;
        let (word, after) = rest.split_at_checked(length)?;
        words.push(word);
        rest = after.strip_prefix(b"\r\n")?;
    }
    rest.is_empty().then_some(words)
}

/// Takes a line such as `$512`, of which `kind` is the first byte.
fn take_length(kind: u8, from: &mut &[u8]) -> Option<usize> {
    let line = from.strip_prefix(&[kind])?;
    let end = line.iter().position(|byte| *byte == b'\r')?;
    let (length, after) = line.split_at(end);
    *from = after.strip_prefix(b"\r\n")?;
    std::str::from_utf8(length).ok()?.parse().ok()
}

/// Appends a request to `out`: an array of bulk strings.
pub fn encode_request(out: &mut BytesMut, words: impl IntoIterator<Item = Bytes>) {
    encode(out, &Frame::Array(words.into_iter().map(Frame::BulkString).collect()));
}

/// Appends a frame to `out`.
pub fn encode(out: &mut BytesMut, frame: &Frame) {
    let written = extend_encode(out, frame, false);
    debug_assert!(written.is_ok(), "the buffer grows by what the frame needs: {written:?}");
}

/// An error reply. Its text is kept on one line, whatever a client put into it.
pub fn error(text: impl AsRef<str>) -> Frame {
    let line: String = text.as_ref().chars().filter(|c| !c.is_control()).take(1024).collect();
    Frame::Error(line.into())
}

/// The reply `+OK`.
pub fn ok() -> Frame {
    Frame::SimpleString(Bytes::from_static(b"OK"))
}

/// A number as a reply; what lies beyond the protocol's range ends at its edge.
pub fn integer(number: usize) -> Frame {
    Frame::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn malformed(e: &RedisProtocolError) -> ProtocolError {
    ProtocolError::Malformed(e.details().to_owned())
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(details) => f.write_str(details),
            Self::TooLarge { bytes_max } => write!(f, "more than {bytes_max} bytes"),
            Self::TooManyWords { words_max } => write!(f, "more than {words_max} words"),
            Self::LineTooLong => write!(f, "a line of more than {LINE_BYTES_MAX} bytes"),
            Self::Nested => f.write_str("too many arrays within each other"),
        }
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn decode_all(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Frame>, ProtocolError> {
        decoder.buffer.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.decode()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn request(words: &[&'static str]) -> Frame {
        Frame::Array(words.iter().map(|word| Frame::BulkString((*word).into())).collect())
    }

    #[test]
    fn requests_survive_any_split() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\nv\r\nv\r\n*1\r\n$4\r\nPING\r\n*0\r\n";
        let expected = vec![request(&["SET", "k", "v\r\nv"]), request(&["PING"]), request(&[])];
        for split in 0..bytes.len() {
            let mut decoder = Decoder::of_requests();
            let mut frames = decode_all(&mut decoder, &bytes[..split]).unwrap();
            frames.extend(decode_all(&mut decoder, &bytes[split..]).unwrap());
            assert_eq!(frames, expected, "split at {split}");
        }
    }

    #[test]
    fn replies_of_every_kind_are_decoded() {
        let bytes = b"+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n$0\r\n\r\n*2\r\n$-1\r\n:1\r\n\
            *2\r\n*0\r\n*1\r\n+OK\r\n*0\r\n";
        let expected = vec![
            ok(),
            error("ERR no"),
            Frame::Integer(-7),
            Frame::Null,
            Frame::BulkString(Bytes::new()),
            Frame::Array(vec![Frame::Null, Frame::Integer(1)]),
            Frame::Array(vec![Frame::Array(vec![]), Frame::Array(vec![ok()])]),
            Frame::Array(vec![]),
        ];
        assert_eq!(decode_all(&mut Decoder::of_replies(), bytes).unwrap(), expected);
    }

    #[test]
    fn the_words_of_a_request_are_bounded() {
        let words_in = |request: &[u8]| words(request).map(|words| words.len());
        let request = |words: usize, bytes: usize| {
            let mut out = BytesMut::new();
            encode_request(&mut out, vec![Bytes::from(vec![b'x'; bytes]); words]);
            words_in(&out)
        };
        let words_max = REQUEST_WORDS_MAX + NAME_WORDS;
        assert_eq!(request(words_max, 1), Some(words_max));
        assert_eq!(request(words_max + 1, 1), None);
        assert_eq!(request(1, WRITE_BYTES_MAX - 20), Some(1));
        assert_eq!(request(1, WRITE_BYTES_MAX), None);
        for bad in ["", "*1", "*1\r\n", "*2\r\n$1\r\nx\r\n", "*1\r\n$2\r\nx\r\n", "*0\r\n*0\r\n"] {
            assert_eq!(words_in(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(words_in(format!("*1\r\n${}\r\nx\r\n", usize::MAX).as_bytes()), None);
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        let malformed = |bytes: &[u8]| {
            let refused = decode_all(&mut Decoder::of_requests(), bytes);
            assert!(matches!(refused, Err(ProtocolError::Malformed(_))), "{refused:?}");
        };
        malformed(b"GET / HTTP/1.1\r\n");
        malformed(b"*x\r\n");
        malformed(b"*-1\r\n");
        malformed(b"*1\r\n$-2\r\nab");
        malformed(b"*1\r\n$abc\r\n");
        for resp3 in ["%1", "~1", ">1", "|1", "_", "#t", ",1.5", "(1", "=3", "!3", "$?", "*?", "."]
        {
            malformed(format!("{resp3}\r\n").as_bytes());
            if resp3 != "*?" {
                malformed(format!("*2\r\n$3\r\nGET\r\n{resp3}\r\n").as_bytes());
            }
        }
    }

    #[test]
    fn limits_are_kept() {
        let refused = |bytes: &[u8]| decode_all(&mut Decoder::of_requests(), bytes).unwrap_err();
        let too_many = ProtocolError::TooManyWords { words_max: REQUEST_WORDS_MAX };
        assert_eq!(refused(b"*1025\r\n"), too_many);
        assert_eq!(refused(&b"*1\r\n".repeat(100_000)), ProtocolError::Nested);
        let in_replies = |bytes: &[u8]| decode_all(&mut Decoder::of_replies(), bytes).unwrap_err();
        assert_eq!(in_replies(&b"*1\r\n".repeat(100_000)), ProtocolError::Nested);
        let many = [&b"*2\r\n*512\r\n"[..], &b":1\r\n".repeat(512), b"*511\r\n"].concat();
        assert_eq!(in_replies(&many), too_many);
        assert_eq!(refused(&[b'$'; LINE_BYTES_MAX]), ProtocolError::LineTooLong);

        let mut long = b"*2\r\n$3\r\nGET\r\n$9999999\r\n".to_vec();
        long.resize(REQUEST_BYTES_MAX, b'x');
        let mut decoder = Decoder::of_requests();
        assert_eq!(decode_all(&mut decoder, &long).unwrap(), []);
        let refused = decode_all(&mut decoder, b"x").unwrap_err();
        assert_eq!(refused, ProtocolError::TooLarge { bytes_max: REQUEST_BYTES_MAX });
    }

    #[test]
    fn an_error_stays_on_its_line() {
        let mut out = BytesMut::new();
        encode(&mut out, &error("ERR unknown command 'x\r\n+OK\r\n'"));
        assert_eq!(&out[..], b"-ERR unknown command 'x+OK'\r\n");
    }

    /// Bytes of which many come far into a decoder.
    fn almost_requests() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"*2\r\n".to_vec()),
            Just(b"$3\r\nGET\r\n".to_vec()),
            Just(b"$-1\r\n".to_vec()),
            Just(b"$99999999999999999999\r\n".to_vec()),
            Just(b":9223372036854775807\r\n".to_vec()),
            Just(b"-ERR \xff\r\n".to_vec()),
            vec(any::<u8>(), 0..8),
        ];
        vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// Everything decoded until more bytes are needed, or the refusal.
    fn drain(decoder: &mut Decoder, frames: &mut Vec<Frame>) -> Result<(), ProtocolError> {
        while let Some(frame) = decoder.decode()? {
            frames.push(frame);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_alike_in_whatever_pieces_they_come(
            bytes in almost_requests(),
            split in any::<prop::sample::Index>(),
        ) {
            let (mut whole, mut pieces) = (Vec::new(), Vec::new());
            let mut decoder = Decoder::of_replies();
            decoder.buffer.extend_from_slice(&bytes);
            let at_once = drain(&mut decoder, &mut whole);

            let split = split.index(bytes.len() + 1);
            let mut decoder = Decoder::of_replies();
            decoder.buffer.extend_from_slice(&bytes[..split]);
            let in_pieces = drain(&mut decoder, &mut pieces).and_then(|()| {
                decoder.buffer.extend_from_slice(&bytes[split..]);
                drain(&mut decoder, &mut pieces)
            });
            prop_assert_eq!(whole, pieces);
            prop_assert_eq!(at_once.is_ok(), in_pieces.is_ok());
        }

        /// The crate also takes other bytes for the end of a word.
        #[test]
        fn the_words_of_a_request_are_those_that_a_decoder_finds(
            request in vec(vec(any::<u8>(), 0..4), 0..4),
            changes in vec((any::<prop::sample::Index>(), prop::sample::select(&b"\r\n*$-+:01x"[..])), 0..2),
        ) {
            let mut bytes = BytesMut::new();
            encode_request(&mut bytes, request.iter().cloned().map(Bytes::from));
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let mut decoder = Decoder::of_requests();
            decoder.expect_writes();
            decoder.buffer.extend_from_slice(&bytes);
            match words(&bytes) {
                Some(words) => {
                    let words = words.into_iter().map(|word| Frame::BulkString(word.to_vec().into()));
                    prop_assert_eq!(decoder.decode(), Ok(Some(Frame::Array(words.collect()))));
                    prop_assert!(decoder.buffer.is_empty());
                }
                None => prop_assert!(!changes.is_empty()),
            }
        }
    }
}
