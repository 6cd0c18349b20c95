//! Nodes on tokio, with several threads or with one.

use std::io;
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use raft_core::NodeId;
use raft_core::host::tcp::{self, Counters};
use raft_core::host::tls::Tls;
use raft_core::host::{InProcessNetwork, Journal, NodeConfig, StartError, Transport};
use raft_tokio::{Node, channel};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::answer::Answer;
use super::awaited::{Awaited, Spawns, Task, ask, awaited_member};
use super::log::Log;
use super::{Member, Runtime};

/// A tokio runtime of its own.
#[derive(Debug)]
pub struct Tokio {
    handle: Handle,
    /// Taken by the drop.
    life: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Tokio {
    /// With two threads.
    ///
    /// # Errors
    ///
    /// The operating system gives no threads.
    pub fn multi_thread() -> io::Result<Self> {
        Self::start(Builder::new_multi_thread().worker_threads(2))
    }

    /// With one thread.
    ///
    /// # Errors
    ///
    /// The operating system gives no thread.
    pub fn current_thread() -> io::Result<Self> {
        Self::start(&mut Builder::new_current_thread())
    }

    fn start(builder: &mut Builder) -> io::Result<Self> {
        let runtime = builder.enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        // A dropped sender stops it as well.
        let run = move || drop(runtime.block_on(stopped));
        let thread = thread::Builder::new().name("tokio".into()).spawn(run)?;
        Ok(Self { handle, life: Some((stop, thread)) })
    }
}

impl Runtime for Tokio {
    fn start(
        &self,
        config: NodeConfig,
        log: Log,
        journal: Box<dyn Journal>,
        transport: Box<dyn Transport>,
    ) -> Result<Box<dyn Member>, StartError> {
        let node = ask_in(&self.handle, Node::start(config, log, journal, transport));
        let node = node.wait("a started node")?;
        Ok(Box::new(Awaited { node, runtime: self.handle.clone() }))
    }

    fn network(&self, seed: u64) -> InProcessNetwork {
        let _inside = self.handle.enter();
        InProcessNetwork::clone(&channel::Network::new(seed))
    }

    fn secured(
        &self,
        _node: NodeId,
        listener: TcpListener,
        peers: Vec<(NodeId, String)>,
        config: tcp::Config,
        tls: Option<Tls>,
    ) -> io::Result<(Box<dyn Transport>, Counters)> {
        let _inside = self.handle.enter();
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut transport = raft_tokio::tcp::Transport::new(listener, peers, config)?;
        if let Some(tls) = tls {
            transport = transport.with_tls(tls);
        }
        let counters = transport.counters();
        Ok((Box::new(transport), counters))
    }

    fn tasks(&self) -> Option<usize> {
        Some(self.handle.metrics().num_alive_tasks())
    }
}

impl Drop for Tokio {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.life.take() {
            drop(stop);
            // Its panic was printed.
            let _ = thread.join();
        }
    }
}

impl Spawns for Handle {
    fn spawn(&self, task: Task) {
        drop(Self::spawn(self, task));
    }
}

awaited_member!(Node<Log>, Handle);

/// Like [`ask`], for a future that needs to be on the runtime from the first.
fn ask_in<T: Send + 'static>(
    handle: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Answer<T> {
    let _inside = handle.enter();
    ask(handle, future)
}
