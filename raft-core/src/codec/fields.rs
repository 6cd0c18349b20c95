//! What all parts of the wire format are made of: arrays whose end a reader may not know, numbers
//! that may be absent, and log ids.

use alloc::vec::Vec;
use core::convert::Infallible;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder, encode};

use super::error::DecodeError;
use crate::types::{Index, LogId, Term};

/// How deep an unknown field may nest before it is refused: far more than any version has needed.
const UNKNOWN_DEPTH_MAX: usize = 16;

/// The kinds of values with parts: the three highest bits of a value's first byte.
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

pub(super) type Out<'o> = Encoder<&'o mut Vec<u8>>;
pub(super) type Encoded = Result<(), encode::Error<Infallible>>;

pub(super) fn log_id_into(e: &mut Out<'_>, LogId { term, index }: LogId) -> Encoded {
    e.array(2)?.u64(term.get())?.u64(index.get())?;
    Ok(())
}

pub(super) fn log_id_from(d: &mut Decoder<'_>) -> Result<LogId, DecodeError> {
    let unknown = open(d, 2)?;
    let id = LogId::new(Term::new(d.u64()?), Index::new(d.u64()?));
    close(d, unknown)?;
    Ok(id)
}

/// The first of so many fields that older versions do not know, in microseconds: 0 if there is
/// none. More than there is room for is as much as there is room for.
pub(super) fn trailing_micros_from(d: &mut Decoder<'_>, fields: u64) -> Result<u32, DecodeError> {
    let micros = if fields > 0 { optional_from(d)? } else { None };
    Ok(micros.map_or(0, |micros| u32::try_from(micros).unwrap_or(u32::MAX)))
}

pub(super) fn optional_into(e: &mut Out<'_>, number: Option<u64>) -> Encoded {
    match number {
        Some(number) => e.u64(number)?,
        None => e.null()?,
    };
    Ok(())
}

pub(super) fn optional_from(d: &mut Decoder<'_>) -> Result<Option<u64>, DecodeError> {
    if is_null(d)? {
        d.null()?;
        return Ok(None);
    }
    Ok(Some(d.u64()?))
}

pub(super) fn is_null(d: &Decoder<'_>) -> Result<bool, DecodeError> {
    Ok(d.datatype()? == Type::Null)
}

/// Enters an array of at least `known` fields and says how many follow them.
pub(crate) fn open(d: &mut Decoder<'_>, known: u64) -> Result<u64, DecodeError> {
    let malformed = DecodeError::Malformed { offset: d.position() };
    let fields = d.array()?.ok_or(malformed)?;
    fields.checked_sub(known).ok_or(malformed)
}

/// Skips the fields of an array that this version does not know.
pub(crate) fn close(d: &mut Decoder<'_>, unknown: u64) -> Result<(), DecodeError> {
    (0..unknown).try_for_each(|_| skip(d, UNKNOWN_DEPTH_MAX))
}

/// Skips a value: a byte that says of which kind it is, a number, and what the number counts. No
/// length is indefinite in this format.
///
/// The crate's own way to skip keeps a stack for values with parts, in 2.7 KiB of a
/// microcontroller's flash.
fn skip(d: &mut Decoder<'_>, depth: usize) -> Result<(), DecodeError> {
    let begin = d.position();
    let malformed = DecodeError::Malformed { offset: begin };
    let depth = depth.checked_sub(1).ok_or(malformed)?;
    let head = *d.input().get(begin).ok_or(DecodeError::Truncated)?;
    let length = match head & 0x1f {
        0..=23 => 0,
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return Err(malformed),
    };
    let number = take(d, begin.saturating_add(1), length)?;
    let number = match length {
        0 => u64::from(head & 0x1f),
        _ => number.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)),
    };
    let parts = match head >> 5 {
        BYTES | TEXT => {
            let length = usize::try_from(number).map_err(|_| DecodeError::Truncated)?;
            take(d, d.position(), length)?;
            0
        }
        ARRAY => number,
        MAP => number.saturating_mul(2),
        TAG => 1,
        _ => 0,
    };
    (0..parts).try_for_each(|_| skip(d, depth))
}

/// The bytes from `begin` on; what follows them is next.
fn take<'b>(d: &mut Decoder<'b>, begin: usize, length: usize) -> Result<&'b [u8], DecodeError> {
    let end = begin.saturating_add(length);
    let bytes = d.input().get(begin..end).ok_or(DecodeError::Truncated)?;
    d.set_position(end);
    Ok(bytes)
}

pub(crate) fn expect_end(d: &Decoder<'_>) -> Result<(), DecodeError> {
    let offset = d.position();
    if offset < d.input().len() {
        return Err(DecodeError::TrailingBytes { offset });
    }
    Ok(())
}
