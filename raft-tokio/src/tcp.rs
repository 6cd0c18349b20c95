//! Messages between nodes over TCP.
//!
//! Each node dials each of its peers and sends on that connection; what it receives comes in on those that it accepted. A task
//! dials one peer, and dials again when the connection is lost; one accepts, and has a task for each connection. The rest, limits
//! and counters among it, is [`raft_core::host::tcp`]. Nothing is encrypted or authenticated: use it in a network that you trust.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::host::tcp::Admission;
use raft_core::host::{Identity, MessageInbox, Running};
use raft_core::{Message, NodeId};
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use raft_core::host::tcp::{Config, Counters, Counts};

mod acceptor;
mod connection;
mod dialer;

use dialer::Peer;

/// A [`raft_core::host::Transport`] over TCP.
///
/// # Example
///
/// ```
/// use raft_core::NodeId;
/// use raft_tokio::tcp;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let peers = [(NodeId::new(2), "host-b:7000".into()), (NodeId::new(3), "host-c:7000".into())];
/// let transport = tcp::Transport::bind("127.0.0.1:0", peers, tcp::Config::default()).await?;
/// let counters = transport.counters(); // stays readable when the transport has moved into a node
/// assert_eq!(counters.read().messages_sent, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Transport {
    config: Config,
    counters: Counters,
    local_addr: SocketAddr,
    /// Taken by `start`.
    listener: Option<TcpListener>,
    peers: BTreeMap<NodeId, Arc<Peer>>,
    runtime: Handle,
    tasks: JoinSet<()>,
    /// Its drop tells all tasks to stop.
    stop: Option<watch::Sender<()>>,
}

/// What the tasks of a started transport share.
struct Shared {
    identity: Identity,
    config: Config,
    counters: Counters,
    inbox: MessageInbox,
    admission: Admission,
    peers: BTreeMap<NodeId, Arc<Peer>>,
}

impl Transport {
    /// Listens on an address, for a node with these peers. A peer's address is a name or number with a port; names are looked up
    /// anew for each connection. The node itself may be among the peers; it is left out.
    ///
    /// # Errors
    ///
    /// When the address cannot be used, or the configuration makes no sense ([`Config::validate`]).
    pub async fn bind(
        listen: impl ToSocketAddrs,
        peers: impl IntoIterator<Item = (NodeId, String)>,
        config: Config,
    ) -> io::Result<Self> {
        Self::new(TcpListener::bind(listen).await?, peers, config)
    }

    /// Like [`Transport::bind`], with a socket that listens already.
    ///
    /// # Errors
    ///
    /// When the configuration makes no sense ([`Config::validate`]).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, as the `listener` could not have been made either.
    pub fn new(
        listener: TcpListener,
        peers: impl IntoIterator<Item = (NodeId, String)>,
        config: Config,
    ) -> io::Result<Self> {
        config.validate()?;
        let counters = Counters::default();
        let peer = |(id, address)| (id, Arc::new(Peer::new(id, address, &config, &counters)));
        Ok(Self {
            local_addr: listener.local_addr()?,
            listener: Some(listener),
            peers: peers.into_iter().map(peer).collect(),
            runtime: Handle::current(),
            tasks: JoinSet::new(),
            stop: None,
            counters,
            config,
        })
    }

    /// Where it listens; tells the port if it was asked for any.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle to its counters.
    pub fn counters(&self) -> Counters {
        self.counters.clone()
    }
}

impl raft_core::host::Transport for Transport {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        let listener = self.listener.take().ok_or_else(|| {
            io::Error::other("the transport was started before: make one for each node")
        })?;
        self.peers.remove(&identity.node);
        let shared = Arc::new(Shared {
            identity,
            config: self.config.clone(),
            counters: self.counters.clone(),
            inbox,
            admission: Admission::new(identity, self.peers.keys().copied()),
            peers: self.peers.clone(),
        });
        let (stop, stopping) = watch::channel(());
        self.stop = Some(stop);
        for peer in self.peers.values() {
            let dialer = dialer::run(peer.clone(), shared.clone(), stopping.clone());
            self.tasks.spawn_on(dialer, &self.runtime);
        }
        self.tasks.spawn_on(acceptor::run(listener, shared, stopping), &self.runtime);
        Ok(())
    }

    fn send(&mut self, message: Message<Bytes>) {
        match self.peers.get(&message.to) {
            Some(peer) => peer.push(message),
            None => self.counters.count_unknown_peer(),
        }
    }

    fn flush(&mut self) {
        self.peers.values().for_each(|peer| peer.wake());
    }

    fn stop(&mut self, running: Running) {
        self.stop = None;
        let mut tasks = std::mem::take(&mut self.tasks);
        self.runtime.spawn(async move {
            while tasks.join_next().await.is_some() {}
            drop(running);
        });
    }
}
