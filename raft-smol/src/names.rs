//! What is the same on every executor.

pub use raft_core;
pub use raft_core::host::{
    ClusterId, Faults, FileJournal, Handle, Journal, JournalError, Lead, Leadership,
    LeadershipWatch, MemoryJournal, NodeConfig, NodeStatus, Pending, ProposeError, ReadError,
    StartError, StateMachine, StopReason, Stopped, Traffic, Transport,
};
pub use raft_core::{Config, Index, NodeId, Role, Term};
