//! What a transport is made of before it starts, and what its tasks share from then on.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use super::{Config, Counters, Guard, Incoming, Peer, Peers, Security, Signals, Ticket};
use crate::host::identity::Identity;
use crate::host::transport::{MessageInbox, PeerInbox};
use crate::types::NodeId;

/// A transport that listens with its runtime's kind of socket, and starts once.
pub struct Listening<L> {
    config: Config,
    counters: Counters,
    local_addr: SocketAddr,
    /// Taken by `start`, with the listed peers.
    listener: Option<L>,
    listed: BTreeMap<NodeId, String>,
    security: Security,
}

/// What the tasks or threads of a started transport share.
#[derive(Debug)]
pub struct Shared<S> {
    /// The transport's node.
    pub me: NodeId,
    /// Its limits.
    pub config: Config,
    /// What it counts.
    pub counters: Counters,
    /// The security of its connections.
    pub guard: Guard,
    /// Takes what arrives.
    pub inbox: MessageInbox,
    /// The nodes that it dials.
    pub peers: Peers<S>,
}

/// What a transport that starts has to run.
#[derive(Debug)]
pub struct Starting<L, S> {
    /// The socket to accept on.
    pub listener: L,
    /// What all tasks share.
    pub shared: Shared<S>,
    /// The peers to dial.
    pub to_dial: Vec<Arc<Peer<S>>>,
}

impl<S: Signals> Shared<S> {
    /// To be called when a peer that [was let in](Peers::judge) has its answer. Returns what takes
    /// the frames of the peer.
    pub fn on_accepted(&self, peer: PeerInbox, ticket: Ticket, address: SocketAddr) -> Incoming {
        let id = peer.peer();
        tracing::info!(node = self.me.get(), peer = id.get(), %address, "peer connected");
        self.counters.count_accepted();
        self.peers.is_back(id);
        Incoming::new(self.me, peer, self.counters.clone()).with_ticket(ticket)
    }
}

impl<L> Listening<L> {
    /// A transport that listens on `local_addr`, with these peers to begin with.
    ///
    /// # Errors
    ///
    /// The configuration is not [valid](Config::validate).
    pub fn new(
        listener: L,
        local_addr: SocketAddr,
        peers: impl IntoIterator<Item = (NodeId, String)>,
        config: Config,
    ) -> io::Result<Self> {
        config.validate()?;
        Ok(Self {
            local_addr,
            listener: Some(listener),
            listed: peers.into_iter().collect(),
            security: Security::none(),
            counters: Counters::default(),
            config,
        })
    }

    /// Encrypts, and lets in only peers whose certificates name them.
    #[cfg(feature = "tls")]
    pub fn use_tls(&mut self, tls: crate::host::tls::Tls) {
        self.security = Security::of(tls);
    }

    /// The address on which the transport listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The transport's limits.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The transport's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Begins to serve this node.
    ///
    /// # Errors
    ///
    /// The transport was started before, or its certificate does not name the node.
    pub fn start<S: Signals>(
        &mut self,
        identity: Identity,
        inbox: MessageInbox,
    ) -> io::Result<Starting<L, S>> {
        let guard = self.security.guard(identity)?;
        let listener = self.listener.take().ok_or_else(|| {
            io::Error::other("the transport was started before: make one for each node")
        })?;
        let (config, counters) = (self.config.clone(), self.counters.clone());
        let listed = mem::take(&mut self.listed);
        let (peers, to_dial) =
            Peers::new(identity, inbox.clone(), self.local_addr, listed, &config, &counters);
        let shared = Shared { me: identity.node, config, counters, guard, inbox, peers };
        Ok(Starting { listener, shared, to_dial })
    }
}

impl<L> fmt::Debug for Listening<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening")
            .field("local_addr", &self.local_addr)
            .field("counts", &self.counters.read())
            .finish_non_exhaustive()
    }
}
