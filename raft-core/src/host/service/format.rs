//! How commands, replies and snapshots become bytes.

use std::fmt;
use std::string::ToString;
use std::sync::Arc;
use std::vec::Vec;

/// An encoding of `T`. [`Postcard`] encodes every type of serde.
///
/// Logs and snapshots hold what was encoded, and another version of the program may decode it. So
/// the meaning of bytes must never change: see the [guide](crate::guide::services#new-versions).
///
/// # Example
///
/// An encoding by hand:
///
/// ```
/// use raft_core::host::{Format, FormatError};
///
/// struct LittleEndian;
///
/// impl Format<u32> for LittleEndian {
///     fn encode(value: &u32, into: &mut Vec<u8>) -> Result<(), FormatError> {
///         into.extend_from_slice(&value.to_le_bytes());
///         Ok(())
///     }
///
///     fn decode(bytes: &[u8]) -> Result<u32, FormatError> {
///         let bytes = bytes.try_into().map_err(|_| FormatError::new("not four bytes"))?;
///         Ok(u32::from_le_bytes(bytes))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not encode `{T}`",
    note = "for `Postcard`, turn on the feature `serde` of raft-core, and derive `Serialize` and \
            `Deserialize`"
)]
pub trait Format<T>: Send + 'static {
    /// Appends the encoded value.
    ///
    /// # Errors
    ///
    /// The value cannot be encoded, by the decision of its own type.
    fn encode(value: &T, into: &mut Vec<u8>) -> Result<(), FormatError>;

    /// Decodes the value of which these are all bytes.
    ///
    /// # Errors
    ///
    /// The bytes are no such value, or more than one. The error says what is wrong.
    fn decode(bytes: &[u8]) -> Result<T, FormatError>;
}

/// The compact format of the crate `postcard`, for every type that implements `Serialize` and
/// `DeserializeOwned` of serde (feature `serde`).
///
/// The bytes hold no names. So a new command is a new variant at the end of its `enum`, and no
/// variant gets or loses a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Postcard;

/// A value that cannot be encoded, or bytes that cannot be decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormatError {
    message: Arc<str>,
}

impl FormatError {
    /// An error with a text for operators.
    pub fn new(message: impl Into<Arc<str>>) -> Self {
        Self { message: message.into() }
    }

    /// An error with the text of another error.
    pub fn from_error(error: &dyn std::error::Error) -> Self {
        Self::new(error.to_string())
    }

    /// The text.
    pub fn message(&self) -> &Arc<str> {
        &self.message
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FormatError {}

#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Format<T> for Postcard {
    fn encode(value: &T, into: &mut Vec<u8>) -> Result<(), FormatError> {
        let encoded = postcard::to_extend(value, std::mem::take(into));
        *into = encoded.map_err(|error| FormatError::from_error(&error))?;
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<T, FormatError> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => {
                let (rest, all) = (rest.len(), bytes.len());
                let text = std::format!("{rest} of {all} bytes follow the end of the value");
                Err(FormatError::new(text))
            }
            Err(error) => Err(FormatError::from_error(&error)),
        }
    }
}
