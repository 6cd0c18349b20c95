//! The node: a loop around [`Raft`](crate::Raft), its requests and its threads.

mod apply_place;
mod awaited;
mod config;
mod digests;
mod driver;
mod finding;
mod findings;
mod forwards;
mod handle;
mod inbox;
mod inputs;
#[cfg(all(test, raft_shuttle))]
mod interleavings;
mod journal_thread;
mod leader_address;
mod leadership;
mod life;
mod members;
mod membership_changes;
mod meter;
mod pending;
mod reasons;
mod snapshots;
mod spin_wait;
mod state_machine_jobs;
mod state_machine_thread;
mod status;
mod store_recorder;
mod trace;
mod transfer;
mod waiters;
#[cfg(feature = "futures")]
mod watch_stream;

pub use config::NodeConfig;
pub use digests::{DIGEST_INTERVAL, StateDifference};
pub use driver::Driver;
pub use finding::Finding;
pub use handle::Handle;
pub use leadership::{Lead, Leadership, LeadershipWatch};
pub use members::MembershipWatch;
pub use pending::{Pending, Stopping, Unanswered, WaitError, Within};
pub use status::NodeStatus;
#[cfg(feature = "futures")]
pub use watch_stream::WatchStream;
