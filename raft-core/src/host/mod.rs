//! The runtime-neutral half of an adapter (feature `std`). None of it is asynchronous.

pub mod frame;
mod identity;
pub mod journal;
mod state_machine;
mod transport;

pub use identity::{ClusterId, Identity, Incarnation};
pub use journal::{Journal, JournalError, MemoryJournal};
pub use state_machine::StateMachine;
pub use transport::{MessageInbox, Running, Transport};
