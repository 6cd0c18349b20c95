//! What a runtime can do: the few verbs by which a test or a bench drives an adapter without
//! knowing which it is.
//!
//! All of them are called from a thread outside of the runtime and none blocks for long: what takes
//! its time returns an [`Answer`]. Each goes through the adapter's own `Node`, not around it.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use raft_core::host::tcp::{self, Counters};
use raft_core::host::tls::Tls;
use raft_core::host::{
    ChangeError, InProcessNetwork, Journal, Lead, LeadershipWatch, NodeConfig, NodeStatus,
    ProposeError, ReadError, SnapshotError, StartError, StopReason, Stopped, TransferError,
    Transport, WaitError,
};
use raft_core::{Change, LogId, Membership, NodeId};

mod answer;
mod awaited;
mod log;
mod mixed;
mod smol;
mod threads;
mod tokio;

pub use answer::{Answer, DEADLINE};
pub use log::{Digest, Log, POISON, Probe, Tally};
pub use mixed::Mixed;
pub use smol::Smol;
pub use threads::Threads;
pub use tokio::Tokio;

/// A runtime that hosts nodes. When it is dropped it ends, and its nodes with it, where the runtime
/// is of a kind that can.
pub trait Runtime: Send + Sync {
    /// Starts a node.
    ///
    /// # Errors
    ///
    /// As of the adapter's `Node::start`.
    fn start(
        &self,
        config: NodeConfig,
        log: Log,
        journal: Box<dyn Journal>,
        transport: Box<dyn Transport>,
    ) -> Result<Box<dyn Member>, StartError>;

    /// An in-process network of this runtime. Any runtime's nodes may use it.
    fn network(&self, seed: u64) -> InProcessNetwork;

    /// A transport of this runtime for a node, on a socket that listens already.
    ///
    /// # Errors
    ///
    /// As of the adapter's `tcp::Transport::new`.
    fn tcp(
        &self,
        node: NodeId,
        listener: TcpListener,
        peers: Vec<(NodeId, String)>,
        config: tcp::Config,
    ) -> io::Result<(Box<dyn Transport>, Counters)> {
        self.secured(node, listener, peers, config, None)
    }

    /// The same with TLS, if there is any.
    ///
    /// # Errors
    ///
    /// As of the adapter's `tcp::Transport::new`.
    fn secured(
        &self,
        node: NodeId,
        listener: TcpListener,
        peers: Vec<(NodeId, String)>,
        config: tcp::Config,
        tls: Option<Tls>,
    ) -> io::Result<(Box<dyn Transport>, Counters)>;

    /// How many tasks run, where the runtime counts them.
    fn tasks(&self) -> Option<usize> {
        None
    }
}

/// A handle to a node, of any adapter.
pub trait Member: Send + Sync {
    /// Another handle to the node.
    fn another(&self) -> Box<dyn Member>;

    /// The adapter's `propose`.
    fn propose(&self, command: Bytes) -> Answer<Result<usize, ProposeError>>;

    /// The adapter's `propose`, for which the caller waits so long.
    fn propose_within(
        &self,
        command: Bytes,
        timeout: Duration,
    ) -> Answer<Result<usize, WaitError<ProposeError>>>;

    /// The adapter's `propose_anywhere`.
    fn propose_anywhere(&self, command: Bytes) -> Answer<Result<usize, ProposeError>>;

    /// The adapter's `read`: all commands.
    fn read(&self) -> Answer<Result<Vec<Bytes>, ReadError>>;

    /// The adapter's `lead`.
    fn lead(&self) -> Answer<Result<Lead, Stopped>>;

    /// The adapter's `change_membership`.
    fn change_membership(&self, changes: Vec<Change>) -> Answer<Result<Membership, ChangeError>>;

    /// The adapter's `transfer_leadership`.
    fn transfer_leadership(&self, to: Option<NodeId>) -> Answer<Result<NodeId, TransferError>>;

    /// The adapter's `take_snapshot`.
    fn take_snapshot(&self) -> Answer<Result<LogId, SnapshotError>>;

    /// The adapter's `membership`.
    fn membership(&self) -> Membership;

    /// The adapter's `status`.
    fn status(&self) -> Answer<Result<NodeStatus, ReadError>>;

    /// The adapter's `shutdown`.
    fn shutdown(&self) -> Answer<StopReason>;

    /// The adapter's `stopped`.
    fn stopped(&self) -> Answer<StopReason>;

    /// The adapter's `leadership`.
    fn leadership(&self) -> LeadershipWatch;

    /// The adapter's `stop_reason`.
    fn stop_reason(&self) -> Option<StopReason>;
}

// Compiles the example of the repository's README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
