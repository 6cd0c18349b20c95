//! Messages between nodes over TCP.
//!
//! Each node dials each of its peers, the members of its cluster, and sends on that connection;
//! what it receives comes in on those that it accepted. A task dials one peer, and dials again when
//! the connection is lost; one accepts, and has a task for each connection. The rest, limits and
//! counters among it, is [`raft_core::host::tcp`]. Nothing is encrypted or authenticated: use it in
//! a network that you trust.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::host::{Identity, MessageInbox, Running};
use raft_core::{Membership, Message, NodeId};
use tokio::net::{TcpListener, ToSocketAddrs};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use raft_core::host::tcp::{Config, Counters, Counts};

mod acceptor;
mod connection;
mod dialer;

use dialer::{Peer, Peers};

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
    /// Taken by `start`, with those listed.
    listener: Option<TcpListener>,
    listed: BTreeMap<NodeId, String>,
    runtime: Handle,
    tasks: JoinSet<()>,
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    shared: Arc<Shared>,
    /// Its drop tells all tasks to stop.
    stop: watch::Sender<()>,
}

/// What the tasks of a started transport share.
#[derive(Debug)]
struct Shared {
    me: NodeId,
    config: Config,
    counters: Counters,
    inbox: MessageInbox,
    peers: Peers,
}

impl Transport {
    /// Listens on an address, for a node that knows these peers to begin with: the others of a new
    /// cluster, or some members of the one that it joins. A peer's address is a name or number with
    /// a port; names are looked up anew for each connection. The node itself may be among the
    /// peers; it is left out.
    ///
    /// From its first configuration on the node's peers are the members; one whose
    /// [label](raft_core::host::Label) holds an address is reached there, others as listed here, or
    /// where they say themselves.
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
        Ok(Self {
            local_addr: listener.local_addr()?,
            listener: Some(listener),
            listed: peers.into_iter().collect(),
            runtime: Handle::current(),
            tasks: JoinSet::new(),
            started: None,
            counters: Counters::default(),
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

    fn dial(&mut self, peers: impl IntoIterator<Item = Arc<Peer>>) {
        let Some(Started { shared, stop }) = &self.started else { return };
        for peer in peers {
            let dialer = dialer::run(peer, Arc::clone(shared), stop.subscribe());
            self.tasks.spawn_on(dialer, &self.runtime);
        }
        // Those who dialed peers that have left.
        while self.tasks.try_join_next().is_some() {}
    }
}

impl raft_core::host::Transport for Transport {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        let listener = self.listener.take().ok_or_else(|| {
            io::Error::other("the transport was started before: make one for each node")
        })?;
        let config = &self.config;
        let counters = &self.counters;
        let listed = mem::take(&mut self.listed);
        let (peers, to_dial) = {
            let inbox = inbox.clone();
            Peers::new(identity, inbox, self.local_addr, listed, config, counters)
        };
        let shared = Arc::new(Shared {
            me: identity.node,
            config: self.config.clone(),
            counters: self.counters.clone(),
            inbox,
            peers,
        });
        let (stop, stopping) = watch::channel(());
        let acceptor = acceptor::run(listener, Arc::clone(&shared), stopping);
        self.tasks.spawn_on(acceptor, &self.runtime);
        self.started = Some(Started { shared, stop });
        self.dial(to_dial);
        Ok(())
    }

    fn send(&mut self, message: Message<Bytes>) {
        match &self.started {
            Some(started) => {
                let to_dial = started.shared.peers.send(message);
                self.dial(to_dial);
            }
            None => self.counters.count_unknown_peer(),
        }
    }

    fn flush(&mut self) {
        if let Some(started) = &self.started {
            started.shared.peers.flush();
        }
    }

    fn message_bytes_max(&self) -> usize {
        self.config.message_bytes_max()
    }

    fn members(&mut self, membership: &Membership) {
        let Some(started) = &self.started else { return };
        let to_dial = started.shared.peers.members(membership);
        self.dial(to_dial);
    }

    fn stop(&mut self, running: Running) {
        self.started = None;
        let mut tasks = mem::take(&mut self.tasks);
        self.runtime.spawn(async move {
            while tasks.join_next().await.is_some() {}
            drop(running);
        });
    }
}
