//! Contract tests for parts of your own (feature `contract`): what a node relies on in a
//! [`Journal`](super::Journal), a [`SnapshotStore`](super::SnapshotStore) and a
//! [`Transport`](super::Transport).
//!
//! Each function panics with the sentence of the contract that does not hold. Call it from a test:
//!
//! ```
//! use raft_core::host::{MemoryJournal, contract};
//!
//! let journal = MemoryJournal::new();
//! contract::journal(|| journal.clone());
//! ```
//!
//! They do not cut the power. A journal that keeps its word only as long as the process lives
//! passes, too.

mod journal;
mod snapshots;
mod transport;

pub use journal::journal;
pub use snapshots::snapshots;
pub use transport::transport;
