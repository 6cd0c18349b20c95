//! The wire format: any bytes are a value or an error.

use raft_core::codec::{DecodeError, decode_message, decode_write, encode_message, encode_write};

use crate::memory;

/// What decoding may hold for each byte of input: an entry, in a vector that has just doubled
/// beside its old half, for the one byte that an empty entry takes.
const BYTES_PER_BYTE_MAX: u64 = 256;
/// What it may hold besides.
const BYTES_MAX: u64 = 1024;

/// Takes the bytes for a message, then for a write.
pub fn run(bytes: &[u8]) {
    check(bytes, |bytes| decode_message(bytes, <[u8]>::to_vec), encode_message);
    check(bytes, |bytes| decode_write(bytes, <[u8]>::to_vec), encode_write);
}

/// What decodes must survive being encoded, in no more bytes than it came in: there is no shorter
/// spelling than ours.
fn check<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T, &mut Vec<u8>),
) {
    let (decoded, peak) = memory::peak(|| decode(bytes));
    let peak_max = BYTES_MAX + BYTES_PER_BYTE_MAX * bytes.len() as u64;
    assert!(peak <= peak_max, "{peak} bytes of memory for {} bytes", bytes.len());

    let value = match decoded {
        Ok(value) => value,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let mut encoded = Vec::new();
    encode(&value, &mut encoded);
    assert!(encoded.len() <= bytes.len(), "{} bytes became {}", bytes.len(), encoded.len());
    assert_eq!(decode(&encoded), Ok(value), "changed by encoding");

    for end in [encoded.len() / 2, encoded.len() - 1] {
        assert_eq!(decode(&encoded[..end]), Err(DecodeError::Truncated), "cut at {end}");
    }
    encoded.push(0);
    assert!(matches!(decode(&encoded), Err(DecodeError::TrailingBytes { .. })));
}
