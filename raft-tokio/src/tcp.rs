//! Messages between nodes over TCP.
//!
//! Each node dials each of its peers, the members of its cluster, and sends on that connection. It
//! receives on the connections that it accepted. One task dials one peer, and dials again when the
//! connection is lost. Another task accepts connections, and each connection has a task of its own.
//! Everything else, among it limits and counters, is in [`raft_core::host::tcp`].
//!
//! Plain TCP, the default, neither encrypts nor authenticates: use it only in a network that you
//! trust. With the feature `tls`, `Transport::with_tls` makes it do both.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::host::tcp::{Listening, Starting};
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
#[cfg_attr(feature = "tls", path = "tcp/secured_tls.rs")]
mod secured;
mod shared;

use shared::{Peer, Shared};

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
    listening: Listening<TcpListener>,
    runtime: Handle,
    tasks: JoinSet<()>,
    started: Option<Started>,
}

#[derive(Debug)]
struct Started {
    shared: Arc<Shared>,
    /// When it is dropped, all tasks stop.
    stop: watch::Sender<()>,
}

impl Transport {
    /// Listens on an address, for a node that knows these peers to begin with: the other nodes of a
    /// new cluster, or some members of the cluster that it joins. A peer's address is a name or
    /// number with a port. Names are looked up anew for each connection. If the node itself is
    /// among the peers, it is left out.
    ///
    /// Once the node has a configuration, its peers are the members. A member whose
    /// [label](raft_core::host::Label) holds an address is reached there, others as listed here, or
    /// where they say themselves.
    ///
    /// # Errors
    ///
    /// The address cannot be used, or the configuration is not [valid](Config::validate).
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
    /// The configuration is not [valid](Config::validate).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, where the `listener` could not have been made either.
    pub fn new(
        listener: TcpListener,
        peers: impl IntoIterator<Item = (NodeId, String)>,
        config: Config,
    ) -> io::Result<Self> {
        let local_addr = listener.local_addr()?;
        Ok(Self {
            listening: Listening::new(listener, local_addr, peers, config)?,
            runtime: Handle::current(),
            tasks: JoinSet::new(),
            started: None,
        })
    }

    /// Encrypts, and lets in only peers whose certificates name them: see
    /// [`raft_core::host::tls`]. All nodes of a cluster need it, or none. The transport does not
    /// start if the certificate does not name its node.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: raft_core::host::tls::Tls) -> Self {
        self.listening.use_tls(tls);
        self
    }

    /// The address on which the transport listens. It tells the port if the system chose one.
    pub fn local_addr(&self) -> SocketAddr {
        self.listening.local_addr()
    }

    /// A handle on the transport's counters.
    pub fn counters(&self) -> Counters {
        self.listening.counters().clone()
    }

    fn dial(&mut self, peers: impl IntoIterator<Item = Arc<Peer>>) {
        let Some(Started { shared, stop }) = &self.started else { return };
        for peer in peers {
            let dialer = dialer::run(peer, Arc::clone(shared), stop.subscribe());
            self.tasks.spawn_on(dialer, &self.runtime);
        }
        // Collects the tasks that dialed peers which are no longer members.
        while self.tasks.try_join_next().is_some() {}
    }
}

impl raft_core::host::Transport for Transport {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        let Starting { listener, shared, to_dial } = self.listening.start(identity, inbox)?;
        let shared = Arc::new(shared);
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
            None => self.listening.counters().count_unknown_peer(),
        }
    }

    fn flush(&mut self) {
        if let Some(started) = &self.started {
            started.shared.peers.flush();
        }
    }

    fn message_bytes_max(&self) -> usize {
        self.listening.config().message_bytes_max()
    }

    fn address(&self, node: NodeId) -> Option<String> {
        self.started.as_ref()?.shared.peers.address(node)
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
