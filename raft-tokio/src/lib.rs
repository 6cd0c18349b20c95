//! Raft on tokio.
