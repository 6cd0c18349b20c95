//! The runtime-neutral half of an adapter (feature `std`). None of it is asynchronous.

mod clock;
mod config;
mod driver;
mod error;
mod faults;
pub mod frame;
mod handle;
mod hub;
pub mod handshake;
mod identity;
mod inbox;
pub mod journal;
mod journal_worker;
mod leadership;
mod life;
mod panics;
mod pending;
mod state_machine;
mod state_machine_worker;
mod status;
mod transport;
mod waiters;

pub use clock::Clock;
pub use config::NodeConfig;
pub use driver::{Driver, Next};
pub use error::{ProposeError, ReadError, StartError, StopReason, Stopped};
pub use faults::{Faults, Traffic};
pub use handle::Handle;
pub use hub::{Endpoint, Hub, LateDelivery};
pub use identity::{ClusterId, Identity, Incarnation};
pub use journal::{Journal, JournalError, MemoryJournal};
pub use leadership::{Lead, Leadership, LeadershipWatch};
pub use pending::Pending;
pub use state_machine::StateMachine;
pub use status::NodeStatus;
pub use transport::{MessageInbox, Running, Transport};
