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

fn skip(d: &mut Decoder<'_>, depth: usize) -> Result<(), DecodeError> {
    let malformed = DecodeError::Malformed { offset: d.position() };
    let depth = depth.checked_sub(1).ok_or(malformed)?;
    let kind = d.datatype()?;
    if kind == Type::Array {
        let items = open(d, 0)?;
        (0..items).try_for_each(|_| skip(d, depth))
    } else if kind == Type::Map {
        let pairs = d.map()?.ok_or(malformed)?;
        (0..pairs).try_for_each(|_| skip(d, depth).and_then(|()| skip(d, depth)))
    } else if kind == Type::Tag {
        d.tag()?;
        skip(d, depth)
    } else if kind == Type::Bytes {
        d.bytes()?;
        Ok(())
    } else if kind == Type::String {
        d.str()?;
        Ok(())
    } else {
        skip_scalar(d)
    }
}

/// Skips a value without parts: a byte that says how many more there are, and those. No length is
/// indefinite in this format.
///
/// The crate's own way to skip keeps a stack for values with parts, in 2.7 KiB of a
/// microcontroller's flash.
fn skip_scalar(d: &mut Decoder<'_>) -> Result<(), DecodeError> {
    let begin = d.position();
    let head = d.input().get(begin).ok_or(DecodeError::Truncated)?;
    let length = match head & 0x1f {
        0..=23 => 1,
        24 => 2,
        25 => 3,
        26 => 5,
        27 => 9,
        _ => return Err(DecodeError::Malformed { offset: begin }),
    };
    let end = begin.saturating_add(length);
    if end > d.input().len() {
        return Err(DecodeError::Truncated);
    }
    d.set_position(end);
    Ok(())
}

pub(crate) fn expect_end(d: &Decoder<'_>) -> Result<(), DecodeError> {
    let offset = d.position();
    if offset < d.input().len() {
        return Err(DecodeError::TrailingBytes { offset });
    }
    Ok(())
}
