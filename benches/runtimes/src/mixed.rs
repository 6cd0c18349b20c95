//! A cluster whose nodes run on different runtimes.

use std::io;
use std::net::TcpListener;

use raft_core::NodeId;
use raft_core::host::tcp::{self, Counters};
use raft_core::host::tls::Tls;
use raft_core::host::{InProcessNetwork, Journal, NodeConfig, StartError, Transport};

use super::log::Log;
use super::{Member, Runtime};

/// Hosts each node on another of its runtimes.
pub struct Mixed {
    runtimes: Vec<Box<dyn Runtime>>,
}

impl Mixed {
    /// Of one or more runtimes.
    pub fn new(runtimes: Vec<Box<dyn Runtime>>) -> Self {
        assert!(!runtimes.is_empty(), "a mixture is of something");
        Self { runtimes }
    }

    fn of(&self, node: NodeId) -> &dyn Runtime {
        &*self.runtimes[node.get() as usize % self.runtimes.len()]
    }
}

impl Runtime for Mixed {
    fn start(
        &self,
        config: NodeConfig,
        log: Log,
        journal: Box<dyn Journal>,
        transport: Box<dyn Transport>,
    ) -> Result<Box<dyn Member>, StartError> {
        self.of(config.raft.id).start(config, log, journal, transport)
    }

    fn network(&self, seed: u64) -> InProcessNetwork {
        self.runtimes[seed as usize % self.runtimes.len()].network(seed)
    }

    fn secured(
        &self,
        node: NodeId,
        listener: TcpListener,
        peers: Vec<(NodeId, String)>,
        config: tcp::Config,
        tls: Option<Tls>,
    ) -> io::Result<(Box<dyn Transport>, Counters)> {
        self.of(node).secured(node, listener, peers, config, tls)
    }

    fn tasks(&self) -> Option<usize> {
        Some(self.runtimes.iter().filter_map(|runtime| runtime.tasks()).sum())
    }
}
