//! The network of a cluster: channels in the process, or sockets, with or without TLS.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use authority::Authority;
use raft_core::NodeId;
use raft_core::host::tcp::{self, Counters, Resolver};
use raft_core::host::tls::Tls;
use raft_core::host::{Faults, InProcessNetwork, Label, Transport};
use runtimes::Runtime;

use crate::cluster::{CLUSTER, id};
use crate::links::Links;
use crate::names::Look;

/// How messages travel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Wire {
    Channel,
    Tcp,
    Tls,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channel => "channel",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        })
    }
}

pub(crate) enum Network {
    Channel(InProcessNetwork),
    Sockets(Box<Sockets>),
}

impl Network {
    pub(crate) fn new(wire: Wire, size: usize, runtime: &dyn Runtime) -> Self {
        match wire {
            Wire::Channel => Self::Channel(runtime.network(size as u64)),
            Wire::Tcp => Self::Sockets(Sockets::new(size, None).into()),
            Wire::Tls => Self::Sockets(Sockets::new(size, Some(Authority::new())).into()),
        }
    }

    /// Makes room for one more node.
    pub(crate) fn add(&mut self) {
        match self {
            Self::Channel(_) => {}
            Self::Sockets(sockets) => sockets.add(),
        }
    }

    /// The transport of the next life of a node, and what it counts. The nodes at the first
    /// `founders` positions know each other from the beginning.
    pub(crate) fn transport(
        &mut self,
        position: usize,
        founders: usize,
        runtime: &dyn Runtime,
    ) -> (Box<dyn Transport>, Counters) {
        match self {
            Self::Channel(hub) => (Box::new(hub.endpoint(id(position))), Counters::default()),
            Self::Sockets(sockets) => sockets.transport(position, founders, runtime),
        }
    }

    /// The label of the node at this position.
    pub(crate) fn label(&self, position: usize) -> Label {
        match self {
            Self::Channel(_) => Label::default(),
            Self::Sockets(sockets) => Label::at(sockets.ways[position].to_string()),
        }
    }

    /// The in-process network.
    pub(crate) fn hub(&self) -> &InProcessNetwork {
        match self {
            Self::Channel(hub) => hub,
            Self::Sockets(_) => panic!("this scenario is for channels"),
        }
    }

    pub(crate) fn sockets(&self) -> &Sockets {
        match self {
            Self::Channel(_) => panic!("this scenario is for sockets"),
            Self::Sockets(sockets) => sockets,
        }
    }

    pub(crate) fn sockets_mut(&mut self) -> &mut Sockets {
        match self {
            Self::Channel(_) => panic!("this scenario is for sockets"),
            Self::Sockets(sockets) => sockets,
        }
    }

    /// Cuts one way.
    pub(crate) fn cut(&self, from: NodeId, to: NodeId) {
        match self {
            Self::Channel(hub) => hub.cut(from, to),
            Self::Sockets(sockets) => sockets.links.cut(from, to),
        }
    }

    /// Undoes [`Network::cut`].
    pub(crate) fn mend(&self, from: NodeId, to: NodeId) {
        match self {
            Self::Channel(hub) => hub.mend(from, to),
            Self::Sockets(sockets) => sockets.links.mend(from, to),
        }
    }

    /// Cuts a node off.
    pub(crate) fn isolate(&self, node: NodeId) {
        match self {
            Self::Channel(hub) => hub.isolate(node),
            Self::Sockets(sockets) => sockets.links.isolate(node),
        }
    }

    /// Undoes [`Network::isolate`].
    pub(crate) fn rejoin(&self, node: NodeId) {
        match self {
            Self::Channel(hub) => hub.rejoin(node),
            Self::Sockets(sockets) => sockets.links.rejoin(node),
        }
    }

    /// Loses this part of all messages from now on.
    pub(crate) fn lose(&self, part: f64) {
        match self {
            Self::Channel(hub) => hub.set_faults(Faults { drop: part, ..Faults::default() }),
            Self::Sockets(sockets) => sockets.links.lose(part),
        }
    }
}

/// The ports of a cluster, and the cuts between them.
pub(crate) struct Sockets {
    /// Held until a node takes them.
    listeners: Vec<Option<TcpListener>>,
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where the others dial them.
    pub(crate) ways: Vec<SocketAddr>,
    /// How they find that, if nodes have names.
    pub(crate) names: Option<Names>,
    /// The longest frames of nodes that differ from the default, in bytes.
    pub(crate) frames: BTreeMap<usize, usize>,
    pub(crate) links: Arc<Links>,
    /// How long handshakes may take, if not as by default.
    pub(crate) handshake_timeout: Option<Duration>,
    /// What each node uses, over TLS.
    pub(crate) tls: BTreeMap<usize, Tls>,
    /// Signs the certificates of the nodes, over TLS.
    pub(crate) authority: Option<Authority>,
}

impl Sockets {
    fn new(size: usize, authority: Option<Authority>) -> Self {
        let mut sockets = Self {
            listeners: Vec::new(),
            addresses: Vec::new(),
            ways: Vec::new(),
            names: None,
            frames: BTreeMap::new(),
            links: Arc::default(),
            handshake_timeout: None,
            tls: BTreeMap::new(),
            authority,
        };
        (0..size).for_each(|_| sockets.add());
        sockets
    }

    fn add(&mut self) {
        let listener = listen();
        let address = listener.local_addr().expect("it is bound");
        self.addresses.push(address);
        self.ways.push(address);
        self.listeners.push(Some(listener));
    }

    /// The next life of the node at this position listens at another address.
    pub(crate) fn move_away(&mut self, position: usize) {
        self.add();
        self.listeners.swap_remove(position);
        self.addresses.swap_remove(position);
        self.ways.swap_remove(position);
    }

    fn transport(
        &mut self,
        position: usize,
        founders: usize,
        runtime: &dyn Runtime,
    ) -> (Box<dyn Transport>, Counters) {
        let address = self.addresses[position];
        // The node that had the port has given it back when its shutdown was over: no second
        // attempt.
        let bind = || TcpListener::bind(address).expect("the port is free again");
        let listener = self.listeners[position].take().unwrap_or_else(bind);
        let (config, secured) = (self.config(position), self.secured(position));
        // Nodes that joined later are known by their labels alone.
        let peers = (0..founders).map(|peer| (id(peer), self.call(peer))).collect();
        let (transport, counters) = runtime
            .secured(id(position), listener, peers, config, secured)
            .expect("the configuration is sound");
        (Box::new(self.links.guard(id(position), transport)), counters)
    }

    fn config(&self, position: usize) -> tcp::Config {
        let mut config = tcp::Config {
            advertise: Some(self.call(position)),
            reconnect_backoff_max: Duration::from_millis(50),
            ..tcp::Config::default()
        };
        if let Some(timeout) = self.handshake_timeout {
            config.handshake_timeout = timeout;
        }
        if let Some(bytes_max) = self.frames.get(&position) {
            config.frame_bytes_max = *bytes_max;
        }
        if let Some(names) = &self.names {
            config.resolver = names.resolver(&self.ways);
            config.connect_timeout = names.connect_timeout;
        }
        config
    }

    /// New credentials for the node at this position, over TLS.
    fn secured(&mut self, position: usize) -> Option<Tls> {
        let credentials = self.authority.as_ref()?.credentials(CLUSTER, id(position));
        let secured = Tls::new(credentials).expect("they are sound");
        self.tls.insert(position, secured.clone());
        Some(secured)
    }

    /// What the others call the node at this position.
    fn call(&self, position: usize) -> String {
        match self.names {
            Some(_) => name_of(position),
            None => self.ways[position].to_string(),
        }
    }
}

/// A name service, and how long to try to connect.
pub(crate) struct Names {
    pub(crate) look: Arc<Look>,
    pub(crate) connect_timeout: Duration,
}

/// The name of the node at this position, with a port that says nothing.
fn name_of(position: usize) -> String {
    format!("node-{position}:1")
}

impl Names {
    fn resolver(&self, ways: &[SocketAddr]) -> Resolver {
        let (look, ways) = (Arc::clone(&self.look), ways.to_vec());
        Resolver::new(move |name| {
            let position = (0..ways.len()).find(|position| name_of(*position) == name);
            position.map_or_else(|| Ok(Vec::new()), |position| look(name, ways[position]))
        })
    }
}

/// Listens on a port below those that Linux gives to connections. Otherwise a connection of another
/// test, or one that found itself at its own port, may have the port while its server is down.
fn listen() -> TcpListener {
    const FIRST: u32 = 10_000;
    const PORTS: u32 = 22_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Test programs that run at the same time begin elsewhere.
    let begin = std::process::id();
    let port = || FIRST + begin.wrapping_add(TRIED.fetch_add(1, Relaxed)) % PORTS;
    let mut attempts = (0..PORTS).map(|_| TcpListener::bind(("127.0.0.1", port() as u16)));
    attempts.find_map(Result::ok).expect("a port is free")
}
