//! What servers say to each other besides Raft's messages, and how bytes are framed.

pub mod frame;
pub mod handshake;
pub(super) mod label;

pub use label::{ADDRESS_BYTES_MAX, Label, LabelError, NOTE_BYTES_MAX};
