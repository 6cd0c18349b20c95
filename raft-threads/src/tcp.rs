//! Messages between nodes over TCP.
//!
//! Each node dials each of its peers and sends on that connection; what it receives comes in on those that it accepted.
//!
//! ```text
//! send ─► SendQueue ─► dialer's thread ═══ messages, keepalives ═══► thread of the connection ─► inbox
//!                      thread that hears ◄══════════ keepalives ════
//! ```
//!
//! The dialer's thread dials again when the connection is lost; one more accepts. The rest, limits and counters among it, is
//! [`raft_core::host::tcp`]. Nothing is encrypted or authenticated: use it in a network that you trust.
//!
//! A blocked thread cannot be told to stop, so everything that blocks has an end: a stop closes the incoming connections, and
//! those whose handshake has not ended; it wakes the thread that accepts by dialing it; writes have a timeout. Only an attempt to
//! connect lasts its [`Config::connect_timeout`], where the peer's host does not even refuse, and the lookup of a name as long as
//! the system takes.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use raft_core::host::tcp::Admission;
use raft_core::host::{Identity, MessageInbox, Running};
use raft_core::{Message, NodeId};

pub use raft_core::host::tcp::{Config, Counters, Counts};

mod acceptor;
mod connection;
mod dialer;
mod sockets;

use dialer::Peer;
use sockets::Sockets;

/// How long a stop tries to wake the thread that accepts. Where that has no effect at once it is not asleep.
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
    config: Config,
    counters: Counters,
    local_addr: SocketAddr,
    /// Taken by `start`.
    listener: Option<TcpListener>,
    peers: BTreeMap<NodeId, Arc<Peer>>,
    /// From `start` to the stop.
    shared: Option<Arc<Shared>>,
}

/// What the threads of a started transport share; each holds it until its last socket is closed.
#[derive(Debug)]
struct Shared {
    identity: Identity,
    config: Config,
    counters: Counters,
    inbox: MessageInbox,
    admission: Admission,
    peers: BTreeMap<NodeId, Arc<Peer>>,
    incoming: Arc<Sockets>,
    /// Those in their handshake. Afterwards a dialer ends its connection itself, for it may have something left to say.
    outgoing: Arc<Sockets>,
    /// Goes with the last thread.
    running: Mutex<Option<Running>>,
}

impl Transport {
    /// Listens on an address, for a node with these peers. A peer's address is a name or number with a port; names are looked up
    /// anew for each connection. The node itself may be among the peers; it is left out.
    ///
    /// # Errors
    ///
    /// When the address cannot be used, or the configuration makes no sense ([`Config::validate`]).
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
    /// When the configuration makes no sense ([`Config::validate`]).
    pub fn new(
        listener: TcpListener,
        peers: impl IntoIterator<Item = (NodeId, String)>,
        config: Config,
    ) -> io::Result<Self> {
        config.validate()?;
        listener.set_nonblocking(false)?;
        let counters = Counters::default();
        let peer = |(id, address)| (id, Arc::new(Peer::new(id, address, &config, &counters)));
        Ok(Self {
            local_addr: listener.local_addr()?,
            listener: Some(listener),
            peers: peers.into_iter().map(peer).collect(),
            shared: None,
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

    fn halt(&mut self, running: Option<Running>) {
        let Some(shared) = self.shared.take() else { return };
        *shared.running.lock().expect("nothing panics while it holds this lock") = running;
        shared.incoming.stop();
        shared.outgoing.stop();
        self.peers.values().for_each(|peer| peer.wake());
        knock(self.local_addr);
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
            incoming: Arc::default(),
            outgoing: Arc::default(),
            running: Mutex::new(None),
        });
        self.shared = Some(shared.clone());
        for peer in self.peers.values() {
            let (peer, shared) = (peer.clone(), shared.clone());
            spawn("raft-dial", move || dialer::run(&peer, &shared))?;
        }
        spawn("raft-accept", move || acceptor::run(listener, &shared))
    }

    fn send(&mut self, message: Message<Bytes>) {
        match self.peers.get(&message.to) {
            Some(peer) => peer.push(message),
            None => self.counters.count_unknown_peer(),
        }
    }

    fn flush(&mut self) {
        self.peers.values().for_each(|peer| peer.flush());
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

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(run).map(drop)
}

/// Wakes the thread that accepts. If it cannot be reached this way, it wakes by itself before long.
fn knock(mut address: SocketAddr) {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let _ = TcpStream::connect_timeout(&address, KNOCK_TIMEOUT);
}
