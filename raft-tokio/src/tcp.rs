//! Messages between nodes over TCP.
//!
//! Each node dials each of its peers, the members of its cluster, and sends on that connection. It
//! receives on the connections that it accepted. The tasks are those of
//! [`raft_core::host::tcp::asynchronous`], and here are their sockets and timers.
//!
//! Plain TCP, the default, neither encrypts nor authenticates: use it only in a network that you
//! trust. With the feature `tls`, `Transport::with_tls` makes it do both.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use raft_core::host::tcp::{Listening, asynchronous};
use raft_core::host::{Identity, MessageInbox, Running};
use raft_core::{Membership, Message, NodeId};
use tokio::net::{TcpListener, ToSocketAddrs};

pub use raft_core::host::tcp::{Config, Counters, Counts};

mod runtime;

use runtime::Runtime;

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
    tasks: asynchronous::Transport<Runtime, TcpListener>,
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
        let listening = Listening::new(listener, local_addr, peers, config)?;
        Ok(Self { tasks: asynchronous::Transport::new(Runtime::current(), listening) })
    }

    /// Encrypts, and lets in only peers whose certificates name them: see
    /// [`raft_core::host::tls`]. All nodes of a cluster need it, or none. The transport does not
    /// start if the certificate does not name its node.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: raft_core::host::tls::Tls) -> Self {
        self.tasks.listening_mut().use_tls(tls);
        self
    }

    /// The address on which the transport listens. It tells the port if the system chose one.
    pub fn local_addr(&self) -> SocketAddr {
        self.tasks.listening().local_addr()
    }

    /// A handle on the transport's counters.
    pub fn counters(&self) -> Counters {
        self.tasks.listening().counters().clone()
    }
}

impl raft_core::host::Transport for Transport {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        self.tasks.start(identity, inbox)
    }

    fn send(&mut self, message: Message<Bytes>) {
        self.tasks.send(message);
    }

    fn flush(&mut self) {
        self.tasks.flush();
    }

    fn message_bytes_max(&self) -> usize {
        self.tasks.message_bytes_max()
    }

    fn address(&self, node: NodeId) -> Option<String> {
        self.tasks.address(node)
    }

    fn members(&mut self, membership: &Membership) {
        self.tasks.members(membership);
    }

    fn stop(&mut self, running: Running) {
        self.tasks.stop(running);
    }
}
