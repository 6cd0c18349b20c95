//! What a host keeps in [`Member::label`](crate::Member::label): where a member is reached, and
//! which store belongs to it.
//!
//! Raft does not read labels. They are part of the configuration, so every member knows them, and a
//! server that joins learns from them where the others are.
//!
//! ```text
//! label = [address / null, store id / null, note]        a CBOR array by the rules of the codec;
//!                                                        no bytes: nothing is known
//! ```

use std::error::Error;
use std::fmt;
use std::string::String;
use std::vec::Vec;

use bytes::Bytes;
use minicbor::{Decoder, Encoder};

use crate::change::Change;
use crate::codec::{self, DecodeError};
use crate::host::identity::StoreId;
use crate::identity::MemberStore;
use crate::membership::LABEL_BYTES_MAX;
use crate::membership::Member;
use crate::types::NodeId;

/// The longest address of a node, in bytes: a name of 253, a colon, and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;

/// The longest [`Label::note`], in bytes. A label with the longest note and the longest address is
/// within [`LABEL_BYTES_MAX`].
pub const NOTE_BYTES_MAX: usize = 512;

/// What the members of a cluster know of one of them beside its id.
///
/// # Example
///
/// ```
/// use raft_core::host::Label;
/// use raft_core::{Change, NodeId};
///
/// let label = Label::at("host-d:7000");
/// let add = label.add_learner(NodeId::new(4))?;
/// assert_eq!(Label::decode(&label.encode()?)?, label);
/// # Ok::<(), raft_core::host::LabelError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Label {
    /// Where the server listens for messages, as the transport of the cluster dials it: a name or
    /// number with a port. At most [`ADDRESS_BYTES_MAX`].
    pub address: Option<String>,
    /// The server's store. A server that comes with another store has lost its memory. The leader
    /// fills this in.
    pub store_id: Option<StoreId>,
    /// The application's own data, such as the address that clients use. At most
    /// [`NOTE_BYTES_MAX`].
    pub note: Bytes,
}

/// Why a label cannot be written or read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LabelError {
    /// The address is longer than [`ADDRESS_BYTES_MAX`].
    AddressTooLong,
    /// The note is longer than [`NOTE_BYTES_MAX`]: keep the data elsewhere, and note where it is.
    NoteTooLong,
    /// These bytes are not a label. The application that wrote them uses labels in its own way.
    NotALabel(DecodeError),
}

impl Label {
    /// The label of a server that listens at this address.
    pub fn at(address: impl Into<String>) -> Self {
        Self { address: Some(address.into()), ..Self::default() }
    }

    /// The change that adds a server with this label.
    ///
    /// # Errors
    ///
    /// As [`Label::encode`].
    pub fn add_learner(&self, id: NodeId) -> Result<Change, LabelError> {
        Ok(Change::AddLearner { id, label: self.encode()? })
    }

    /// The bytes for [`Member::label`](crate::Member::label).
    ///
    /// # Errors
    ///
    /// The address or the note is too long.
    pub fn encode(&self) -> Result<Vec<u8>, LabelError> {
        self.check()?;
        if *self == Self::default() {
            return Ok(Vec::new());
        }
        let mut encoder = Encoder::new(Vec::new());
        let written = encoder.array(3).and_then(|encoder| {
            match &self.address {
                Some(address) => encoder.str(address)?,
                None => encoder.null()?,
            };
            match self.store_id {
                Some(store_id) => encoder.u64(store_id.get())?,
                None => encoder.null()?,
            };
            encoder.bytes(&self.note)
        });
        written.expect("a vector takes all bytes");
        let bytes = encoder.into_writer();
        debug_assert!(bytes.len() <= LABEL_BYTES_MAX);
        Ok(bytes)
    }

    /// Reads the bytes of a [`Member::label`](crate::Member::label). Without bytes, the label says
    /// nothing.
    ///
    /// # Errors
    ///
    /// The bytes are not a label, or part of the label is too long.
    pub fn decode(bytes: &[u8]) -> Result<Self, LabelError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let label = Self::read(bytes).map_err(LabelError::NotALabel)?;
        label.check()?;
        Ok(label)
    }

    fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let unknown = codec::open(&mut decoder, 3)?;
        let label = Self {
            address: decoder.decode::<Option<&str>>()?.map(String::from),
            store_id: decoder.decode::<Option<u64>>()?.map(StoreId::new),
            note: Bytes::copy_from_slice(decoder.bytes()?),
        };
        codec::close(&mut decoder, unknown)?;
        codec::expect_end(&decoder)?;
        Ok(label)
    }

    fn check(&self) -> Result<(), LabelError> {
        if self.address.as_ref().is_some_and(|address| address.len() > ADDRESS_BYTES_MAX) {
            return Err(LabelError::AddressTooLong);
        }
        if self.note.len() > NOTE_BYTES_MAX {
            return Err(LabelError::NoteTooLong);
        }
        Ok(())
    }
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressTooLong => {
                write!(
                    f,
                    "the address is longer than {ADDRESS_BYTES_MAX} bytes: use a shorter name"
                )
            }
            Self::NoteTooLong => {
                write!(f, "the note is longer than {NOTE_BYTES_MAX} bytes: keep it elsewhere")
            }
            Self::NotALabel(error) => write!(f, "these bytes are no label: {error}"),
        }
    }
}

impl Error for LabelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotALabel(error) => Some(error),
            Self::AddressTooLong | Self::NoteTooLong => None,
        }
    }
}

/// The store of a member, if the configuration names one. Older versions kept it in the label.
pub(in crate::host) fn recorded_store(member: &Member) -> Option<u64> {
    let labelled = || Label::decode(&member.label).ok()?.store_id.map(StoreId::get);
    match member.store {
        MemberStore::Recorded(store) => Some(store),
        MemberStore::Unrecorded => labelled(),
        MemberStore::New => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn full() -> Label {
        Label {
            address: Some("host-d:7000".into()),
            store_id: Some(StoreId::new(u64::MAX)),
            note: Bytes::from_static(b"client:6379"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let partly = Label { store_id: None, ..full() };
        for label in [full(), partly, Label::at("d:1"), Label::default()] {
            assert_eq!(Label::decode(&label.encode().unwrap()), Ok(label));
        }
        assert_eq!(Label::default().encode().unwrap(), b"");
    }

    #[test]
    fn the_layout_is_fixed() {
        let label = Label {
            address: Some("d:1".into()),
            store_id: Some(StoreId::new(7)),
            note: Bytes::from_static(b"n"),
        };
        assert_eq!(label.encode().unwrap(), b"\x83\x63d:1\x07\x41n");
        assert_eq!(Label::at("d:1").encode().unwrap(), b"\x83\x63d:1\xf6\x40");
    }

    #[test]
    fn a_newer_host_may_say_more() {
        assert_eq!(Label::decode(b"\x84\x63d:1\xf6\x40\x63new"), Ok(Label::at("d:1")));
    }

    #[test]
    fn what_is_no_label_is_an_error() {
        let good = full().encode().unwrap();
        for end in 1..good.len() {
            assert!(matches!(Label::decode(&good[..end]), Err(LabelError::NotALabel(_))));
        }
        assert!(matches!(Label::decode(b"host-d:7000"), Err(LabelError::NotALabel(_))));
    }

    #[test]
    fn labels_are_bounded_and_the_longest_fits() {
        let longest = Label {
            address: Some("d".repeat(ADDRESS_BYTES_MAX)),
            note: vec![7; NOTE_BYTES_MAX].into(),
            ..full()
        };
        assert!(longest.encode().unwrap().len() <= LABEL_BYTES_MAX);
        let address = Some("d".repeat(ADDRESS_BYTES_MAX + 1));
        let too_long = Label { address, ..full() };
        assert_eq!(too_long.encode(), Err(LabelError::AddressTooLong));
        let too_long = Label { note: vec![7; NOTE_BYTES_MAX + 1].into(), ..full() };
        assert_eq!(too_long.encode(), Err(LabelError::NoteTooLong));
    }
}
