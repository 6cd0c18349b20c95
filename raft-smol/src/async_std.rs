//! The same names for async-std's executor (feature `async-std`).
//!
//! async-std is no longer developed; its authors point to smol, and so do we. For programs that are
//! on it still.
//!
//! # Example
//!
//! ```
//! use raft_smol::async_std::{
//!     ClusterId, Config, Index, MemoryJournal, Node, NodeConfig, NodeId, StateMachine, channel,
//! };
//!
//! struct Nothing;
//!
//! impl StateMachine for Nothing {
//!     type Reply = ();
//!
//!     fn apply(&mut self, _index: Index, _command: bytes::Bytes) {}
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! async_std::task::block_on(async {
//!     let id = NodeId::new(1);
//!     let config = NodeConfig::new(ClusterId::new(1), Config::new(id, [id]));
//!     let transport = channel::Network::new(7).endpoint(id);
//!     let node = Node::start(config, Nothing, MemoryJournal::new(), transport).await?;
//!     let lead = node.lead().await?;
//!     assert!(lead.is_leading());
//!     Ok(())
//! })
//! # }
//! ```

pub use crate::names::*;
use crate::on::{self, AsyncStd};

/// A running node, on async-std's executor. A clone is another handle to it. When the last clone is
/// dropped, the node shuts down cleanly.
///
/// Its methods are those of [`on::Node`].
pub type Node<S> = on::Node<S, AsyncStd>;

/// A network inside one process, with faults, for tests of your own cluster.
pub mod channel {
    use crate::on;

    /// Connects nodes of one process, and delivers delayed messages on async-std's executor. A
    /// clone is the same network. Its faults, cuts and counts are those of
    /// [`InProcessNetwork`](raft_core::host::InProcessNetwork), and
    /// [`endpoint`](on::Network::endpoint) gives each node its transport.
    pub type Network = on::Network<on::AsyncStd>;
}

/// Messages between nodes over TCP.
pub mod tcp {
    pub use raft_core::host::tcp::{Config, Counters, Counts};

    use crate::on;

    /// A [`raft_core::host::Transport`] over TCP, whose tasks run on async-std's executor. Nothing
    /// is encrypted or authenticated: use it only in a network that you trust.
    ///
    /// [`bind`](on::Transport::bind) makes one.
    pub type Transport = on::Transport<on::AsyncStd>;
}
