//! The names for smol's global executor.

use crate::on::{self, Smol};

/// A running node, on smol's global executor. A clone is another handle to it. When the last clone
/// is dropped, the node shuts down cleanly.
///
/// Its methods are those of [`on::Node`].
pub type Node<S> = on::Node<S, Smol>;

/// A network inside one process, with faults, for tests of your own cluster.
pub mod channel {
    use crate::on;

    /// Connects nodes of one process, and delivers delayed messages on smol's global executor. A
    /// clone is the same network. Its faults, cuts and counts are those of
    /// [`InProcessNetwork`](raft_core::host::InProcessNetwork), and
    /// [`endpoint`](on::Network::endpoint) gives each node its transport.
    pub type Network = on::Network<on::Smol>;
}

/// Messages between nodes over TCP.
pub mod tcp {
    pub use raft_core::host::tcp::{Config, Counters, Counts};

    use crate::on;

    /// A [`raft_core::host::Transport`] over TCP, whose tasks run on smol's global executor.
    /// Nothing is encrypted or authenticated: use it only in a network that you trust.
    ///
    /// [`bind`](on::Transport::bind) makes one.
    pub type Transport = on::Transport<on::Smol>;
}
