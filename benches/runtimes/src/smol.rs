//! Nodes on the executor of smol or async-std, of each of which the process has one.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::TcpListener;

use raft_core::NodeId;
use raft_core::host::tcp::{self, Counters};
use raft_core::host::tls::Tls;
use raft_core::host::{InProcessNetwork, Journal, NodeConfig, StartError, Transport};
use raft_smol::on::{self, Executor};

use super::answer::Answer;
use super::awaited::{Awaited, Spawns, Task, ask, awaited_member};
use super::log::Log;
use super::{Member, Runtime};

/// An executor for raft-smol.
pub struct Smol<E> {
    executor: PhantomData<fn() -> E>,
}

impl Smol<on::Smol> {
    /// smol's global executor.
    pub fn global() -> Self {
        Self { executor: PhantomData }
    }
}

impl Smol<on::AsyncStd> {
    /// async-std's executor.
    pub fn of_async_std() -> Self {
        Self { executor: PhantomData }
    }
}

impl<E: Executor> Runtime for Smol<E> {
    fn start(
        &self,
        config: NodeConfig,
        log: Log,
        journal: Box<dyn Journal>,
        transport: Box<dyn Transport>,
    ) -> Result<Box<dyn Member>, StartError> {
        let start = on::Node::<Log, E>::start(config, log, journal, transport);
        let node = ask(self, start).wait("a started node")?;
        Ok(Box::new(Awaited { node, runtime: self.clone() }))
    }

    fn network(&self, seed: u64) -> InProcessNetwork {
        InProcessNetwork::clone(&on::Network::<E>::new(seed))
    }

    fn secured(
        &self,
        _node: NodeId,
        listener: TcpListener,
        peers: Vec<(NodeId, String)>,
        config: tcp::Config,
        tls: Option<Tls>,
    ) -> io::Result<(Box<dyn Transport>, Counters)> {
        let mut transport = on::Transport::<E>::new(listener.try_into()?, peers, config)?;
        if let Some(tls) = tls {
            transport = transport.with_tls(tls);
        }
        let counters = transport.counters();
        Ok((Box::new(transport), counters))
    }
}

impl<E: Executor> Spawns for Smol<E> {
    fn spawn(&self, task: Task) {
        E::spawn(task);
    }
}

impl<E> Clone for Smol<E> {
    fn clone(&self) -> Self {
        Self { executor: PhantomData }
    }
}

impl<E> fmt::Debug for Smol<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Smol")
    }
}

awaited_member!(on::Node<Log, E>, Smol<E>, E: Executor);
