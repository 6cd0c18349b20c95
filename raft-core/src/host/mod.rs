//! The runtime-neutral half of an adapter (feature `std`). None of it is asynchronous.

pub mod frame;
mod identity;
pub mod journal;

pub use identity::{ClusterId, Identity, Incarnation};
pub use journal::{Journal, JournalError, MemoryJournal};
