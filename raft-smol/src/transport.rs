//! Messages between nodes over TCP.
//!
//! Each node dials each of its peers, the members of its cluster, and sends on that connection. It
//! receives on the connections that it accepted. One task dials one peer, and dials again when the
//! connection is lost. Another task accepts connections, and spawns a task for each. Everything
//! else, among it limits and counters, is in [`raft_core::host::tcp`].

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use async_channel::{Receiver, Sender};
use async_net::{AsyncToSocketAddrs, TcpListener};
use bytes::Bytes;
use raft_core::host::tcp::{Config, Counters, Listening, Starting};
use raft_core::host::{Identity, MessageInbox, Running};
use raft_core::{Membership, Message, NodeId};

use crate::executor::Executor;

mod acceptor;
mod connection;
mod dialer;
mod shared;

use shared::{Peer, Shared};

/// A [`raft_core::host::Transport`] over TCP. By default nothing is encrypted or authenticated: use
/// it in a network that you trust. With the feature `tls`, `with_tls` does both.
///
/// # Example
///
/// ```
/// # #[cfg(feature = "smol")]
/// # smol::block_on(async {
/// use raft_core::NodeId;
/// use raft_smol::tcp;
///
/// let peers = [(NodeId::new(2), "host-b:7000".into()), (NodeId::new(3), "host-c:7000".into())];
/// let transport = tcp::Transport::bind("127.0.0.1:0", peers, tcp::Config::default()).await?;
/// let counters = transport.counters(); // stays readable when the transport has moved into a node
/// assert_eq!(counters.read().messages_sent, 0);
/// # std::io::Result::Ok(())
/// # }).unwrap();
/// ```
pub struct Transport<E> {
    listening: Listening<TcpListener>,
    started: Option<Started>,
    executor: PhantomData<fn() -> E>,
}

struct Started {
    shared: Arc<Shared>,
    stopping: Receiver<()>,
    /// When it is dropped, all tasks stop.
    _stop: Sender<()>,
}

impl<E: Executor> Transport<E> {
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
        listen: impl AsyncToSocketAddrs,
        peers: impl IntoIterator<Item = (NodeId, String)>,
        config: Config,
    ) -> io::Result<Self> {
        Self::new(TcpListener::bind(listen).await?, peers, config)
    }

    /// Like [`Transport::bind`], with a socket that listens already: smol's, or `try_into()` of the
    /// standard library's.
    ///
    /// # Errors
    ///
    /// The configuration is not [valid](Config::validate).
    pub fn new(
        listener: TcpListener,
        peers: impl IntoIterator<Item = (NodeId, String)>,
        config: Config,
    ) -> io::Result<Self> {
        let local_addr = listener.local_addr()?;
        let listening = Listening::new(listener, local_addr, peers, config)?;
        Ok(Self { listening, started: None, executor: PhantomData })
    }
}

impl<E> Transport<E> {
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
}

impl<E: Executor> Transport<E> {
    fn dial(&self, peers: impl IntoIterator<Item = Arc<Peer>>) {
        let Some(Started { shared, stopping, .. }) = &self.started else { return };
        for peer in peers {
            E::spawn(dialer::run(Arc::clone(shared), peer, stopping.clone()));
        }
    }
}

impl<E: Executor> raft_core::host::Transport for Transport<E> {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        let Starting { listener, shared, to_dial } = self.listening.start(identity, inbox)?;
        let shared = Arc::new(Shared { tcp: shared, running: OnceLock::new() });
        let (stop, stopping) = async_channel::bounded(1);
        E::spawn(acceptor::run::<E>(shared.clone(), listener, stopping.clone()));
        self.started = Some(Started { shared, stopping, _stop: stop });
        self.dial(to_dial);
        Ok(())
    }

    fn send(&mut self, message: Message<Bytes>) {
        match &self.started {
            Some(started) => self.dial(started.shared.peers.send(message)),
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
        self.dial(started.shared.peers.members(membership));
    }

    fn stop(&mut self, running: Running) {
        if let Some(started) = self.started.take() {
            // It was not set before, because `stop` is called once at most.
            let _ = started.shared.running.set(running);
        }
    }
}

impl<E> fmt::Debug for Transport<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("listening", &self.listening)
            .field("peers", &self.started.as_ref().map(|started| &started.shared.peers))
            .finish_non_exhaustive()
    }
}
