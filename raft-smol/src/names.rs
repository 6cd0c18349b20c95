//! What is the same on every executor.

pub use raft_core;

raft_core::adapter_exports!();
