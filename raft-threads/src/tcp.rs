//! Messages between nodes over TCP.
//!
//! Each node dials each of its peers, the members of its cluster, and sends on that connection. It
//! receives on the connections that it accepted.
//!
//! ```text
//! send ─► SendQueue ─► loop, or dialer's thread ══ messages ══► thread of the connection ─► inbox
//!                           dialer's thread ══════ keepalives ══►
//!                         thread that hears ◄═════ keepalives ═══
//! ```
//!
//! The loop writes what a socket takes at once, and the dialer's thread the rest. The dialer's
//! thread dials again when the connection is lost. Another thread accepts connections. Everything
//! else, among it limits and counters, is in [`raft_core::host::tcp`].
//!
//! Plain TCP, the default, neither encrypts nor authenticates: use it only in a network that you
//! trust. With the feature `tls`, `Transport::with_tls` makes it do both. While a thread reads from
//! a connection, others write to it, so they share its cryptography, and not a stream.
//!
//! A blocked thread cannot be told to stop, so everything that blocks has an end. A stop closes the
//! incoming connections, and the outgoing ones whose handshake has not ended. It wakes the thread
//! that accepts by dialing it. Writes have a timeout. Only an attempt to connect may last for
//! [`Config::connect_timeout`], if the peer's host does not even refuse.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use raft_core::host::tcp::{Listening, Starting, Undialed};
use raft_core::host::{Identity, MessageInbox, Running};
use raft_core::{Membership, Message, NodeId};

pub use raft_core::host::tcp::{Config, Counters, Counts};

mod acceptor;
mod connection;
mod dialer;
mod link;
mod shared;
mod sockets;

use shared::{Peer, Shared, Signals, spawn};

/// How long a stop tries to wake the thread that accepts. If that has no effect at once, the thread
/// is not asleep.
const KNOCK_TIMEOUT: Duration = Duration::from_millis(10);

/// A [`raft_core::host::Transport`] over TCP.
///
/// # Example
///
/// ```
/// use raft_threads::{NodeId, tcp};
///
/// # fn main() -> std::io::Result<()> {
/// let peers = [(NodeId::new(2), "host-b:7000".into()), (NodeId::new(3), "host-c:7000".into())];
/// let transport = tcp::Transport::bind("127.0.0.1:0", peers, tcp::Config::default())?;
/// let counters = transport.counters(); // stays readable when the transport has moved into a node
/// assert_eq!(counters.read().messages_sent, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Transport {
    listening: Listening<TcpListener>,
    /// `Some` from `start` to the stop.
    shared: Option<Arc<Shared>>,
    undialed: Undialed<Signals>,
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
    pub fn bind(
        listen: impl ToSocketAddrs,
        peers: impl IntoIterator<Item = (NodeId, String)>,
        config: Config,
    ) -> io::Result<Self> {
        Self::new(TcpListener::bind(listen)?, peers, config)
    }

    /// Like [`Transport::bind`], with a socket that listens already.
    ///
    /// # Errors
    ///
    /// The configuration is not [valid](Config::validate).
    pub fn new(
        listener: TcpListener,
        peers: impl IntoIterator<Item = (NodeId, String)>,
        config: Config,
    ) -> io::Result<Self> {
        listener.set_nonblocking(false)?;
        let local_addr = listener.local_addr()?;
        let listening = Listening::new(listener, local_addr, peers, config)?;
        let undialed = Undialed::new(listening.config());
        Ok(Self { listening, shared: None, undialed })
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

    fn halt(&mut self, running: Option<Running>) {
        let Some(shared) = self.shared.take() else { return };
        if let Some(running) = running {
            // It was not set before, because `stop` is called once at most.
            let _ = shared.running.set(running);
        }
        shared.incoming.stop();
        shared.outgoing.stop();
        shared.peers.wake_all();
        knock(self.listening.local_addr());
    }

    /// Starts a thread for each of these peers, and for the peers that had none before.
    fn dial(&mut self, peers: impl IntoIterator<Item = Arc<Peer>>) {
        let Some(shared) = &self.shared else { return };
        self.undialed.dial(peers, &shared.config, &shared.counters, |peer| {
            let shared = Arc::clone(shared);
            spawn("raft-dial", move || dialer::run(&peer, &shared))
        });
    }
}

impl raft_core::host::Transport for Transport {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        let Starting { listener, shared, to_dial } = self.listening.start(identity, inbox)?;
        let shared = Arc::new(Shared {
            tcp: shared,
            incoming: Arc::default(),
            outgoing: Arc::default(),
            running: OnceLock::new(),
        });
        self.shared = Some(shared.clone());
        self.dial(to_dial);
        spawn("raft-accept", move || acceptor::run(listener, &shared))
    }

    fn send(&mut self, message: Message<Bytes>) {
        match &self.shared {
            Some(shared) => {
                let to_dial = shared.peers.send(message);
                self.dial(to_dial);
            }
            None => self.listening.counters().count_unknown_peer(),
        }
    }

    fn flush(&mut self) {
        if let Some(shared) = &self.shared {
            shared.peers.flush();
        }
        self.dial(None);
    }

    fn message_bytes_max(&self) -> usize {
        self.listening.config().message_bytes_max()
    }

    fn address(&self, node: NodeId) -> Option<String> {
        self.shared.as_ref()?.peers.address(node)
    }

    fn members(&mut self, membership: &Membership) {
        let Some(shared) = &self.shared else { return };
        let to_dial = shared.peers.members(membership);
        self.dial(to_dial);
    }

    fn stop(&mut self, running: Running) {
        self.halt(Some(running));
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.halt(None);
    }
}

/// Wakes the thread that accepts. If the thread cannot be reached in this way, it wakes by itself
/// before long.
fn knock(mut address: SocketAddr) {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let _ = TcpStream::connect_timeout(&address, KNOCK_TIMEOUT);
}
