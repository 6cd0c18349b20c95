//! What benches, tests and examples share across adapters.
//!
//! [`one_thread`] is a cluster in one thread, for raft-core and raft-rs alike; [`torture`] faults for real processes, and the judgement of
//! what their clients saw; [`firmware`] a board in a cluster of servers.
#![forbid(unsafe_code)]

#[cfg(feature = "firmware")]
pub mod firmware;
pub mod one_thread;
