//! Entries in the wire format: payloads in a row, with a term before each that begins one.

use minicbor::Decoder;
use minicbor::data::Type;

use super::error::DecodeError;
use super::fields::{Encoded, Out, open};
use super::membership::{
    cluster_fields, cluster_from, cluster_into, membership_from, membership_into,
};
use crate::entries::{Entries, Entry, Payload};
use crate::types::{Index, Term};

const CONFIGURATION: u64 = 2;

pub(super) fn entries_into<C: AsRef<[u8]>>(e: &mut Out<'_>, entries: &[Entry<C>]) -> Encoded {
    debug_assert!(entries.is_sorted_by(|entry, next| next.index == entry.index.next()));
    let mut term = None;
    let begins_term = |entry: &&Entry<C>| term.replace(entry.term) != Some(entry.term);
    let terms = entries.iter().filter(begins_term).count();
    e.array(terms.saturating_add(entries.len()) as u64)?;
    term = None;
    for Entry { term: entry_term, index: _, payload } in entries {
        if term.replace(*entry_term) != Some(*entry_term) {
            e.u64(entry_term.get())?;
        }
        match payload {
            Payload::Noop => {
                e.null()?;
            }
            Payload::Command(command) => {
                e.bytes(command.as_ref())?;
            }
            Payload::Configuration(membership) => {
                let fields = cluster_fields(membership).saturating_add(2);
                e.array(fields)?.u64(CONFIGURATION)?;
                membership_into(e, membership)?;
                cluster_into(e, membership)?;
            }
        }
    }
    Ok(())
}

/// Entries from `first_index` on; without a first index there may be none.
pub(super) fn entries_from<'b, C>(
    d: &mut Decoder<'b>,
    first_index: Option<Index>,
    mut command: impl FnMut(&'b [u8]) -> C,
) -> Result<Entries<C>, DecodeError> {
    let mut items = open(d, 0)?;
    let mut term = None;
    let mut next_index = first_index;
    core::iter::from_fn(|| {
        while let Some(rest) = items.checked_sub(1) {
            items = rest;
            match item_from(d, &mut command) {
                Ok(Item::Term(new)) => term = Some(new),
                Ok(Item::Payload(payload)) => {
                    let malformed = DecodeError::Malformed { offset: d.position() };
                    let (Some(term), Some(index)) = (term, next_index) else {
                        return Some(Err(malformed));
                    };
                    next_index = following(index);
                    return Some(Ok(Entry { term, index, payload }));
                }
                Err(error) => return Some(Err(error)),
            }
        }
        None
    })
    .collect()
}

/// Where the entry after `index` stands; behind the greatest index there is none.
pub(super) fn following(index: Index) -> Option<Index> {
    index.get().checked_add(1).map(Index::new)
}

enum Item<C> {
    Term(Term),
    Payload(Payload<C>),
}

fn item_from<'b, C>(
    d: &mut Decoder<'b>,
    command: &mut impl FnMut(&'b [u8]) -> C,
) -> Result<Item<C>, DecodeError> {
    let kind = d.datatype()?;
    if kind == Type::Bytes {
        Ok(Item::Payload(Payload::Command(command(d.bytes()?))))
    } else if kind == Type::Null {
        d.null()?;
        Ok(Item::Payload(Payload::Noop))
    } else if kind == Type::Array {
        let fields = open(d, 1)?;
        let malformed = DecodeError::Malformed { offset: d.position() };
        match d.u64()? {
            CONFIGURATION => {
                let unknown = fields.checked_sub(1).ok_or(malformed)?;
                let membership = membership_from(d)?;
                let membership = cluster_from(d, unknown, membership)?;
                Ok(Item::Payload(Payload::Configuration(membership.into())))
            }
            kind => Err(DecodeError::UnknownPayload { kind }),
        }
    } else {
        Ok(Item::Term(Term::new(d.u64()?)))
    }
}
