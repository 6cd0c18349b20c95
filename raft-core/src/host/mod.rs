//! The runtime-neutral half of an adapter (feature `std`). None of it is asynchronous.

mod clock;
mod config;
mod error;
pub mod frame;
mod identity;
mod inbox;
pub mod journal;
mod leadership;
mod life;
mod pending;
mod state_machine;
mod status;
mod transport;
mod waiters;

pub use clock::Clock;
pub use config::NodeConfig;
pub use error::{ProposeError, ReadError, StartError, StopReason, Stopped};
pub use identity::{ClusterId, Identity, Incarnation};
pub use journal::{Journal, JournalError, MemoryJournal};
pub use leadership::{Lead, Leadership, LeadershipWatch};
pub use pending::{Pending, PendingFuture};
pub use state_machine::StateMachine;
pub use status::NodeStatus;
pub use transport::{MessageInbox, Running, Transport};
