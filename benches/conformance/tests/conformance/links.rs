//! Cuts and losses for nodes that talk over TCP: a transport around theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use raft_core::host::{Identity, MessageInbox, Running, Transport};
use raft_core::{Membership, Message, NodeId};
use rand_core::Rng;
use rand_pcg::Pcg32;

/// Which messages pass.
pub(crate) struct Links {
    state: Mutex<State>,
}

struct State {
    rng: Pcg32,
    loss: f64,
    cut: BTreeSet<(NodeId, NodeId)>,
    isolated: BTreeSet<NodeId>,
    sockets: BTreeMap<NodeId, Weak<Socket>>,
}

/// The transport of a node, until it is unplugged.
type Socket = Mutex<Option<Box<dyn Transport>>>;

impl Default for Links {
    fn default() -> Self {
        let (rng, cut, isolated) = (Pcg32::new(1, 1), BTreeSet::new(), BTreeSet::new());
        let sockets = BTreeMap::new();
        Self { state: Mutex::new(State { rng, loss: 0.0, cut, isolated, sockets }) }
    }
}

impl Links {
    pub(crate) fn cut(&self, from: NodeId, to: NodeId) {
        self.lock().cut.insert((from, to));
    }

    pub(crate) fn mend(&self, from: NodeId, to: NodeId) {
        self.lock().cut.remove(&(from, to));
    }

    pub(crate) fn isolate(&self, node: NodeId) {
        self.lock().isolated.insert(node);
    }

    pub(crate) fn rejoin(&self, node: NodeId) {
        self.lock().isolated.remove(&node);
    }

    pub(crate) fn lose(&self, part: f64) {
        self.lock().loss = part;
    }

    /// Closes this node's sockets behind its back, as the system does when a process ends.
    pub(crate) fn unplug(&self, node: NodeId) {
        let socket = self.lock().sockets.remove(&node).and_then(|socket| socket.upgrade());
        let transport = socket.and_then(|socket| lock(&socket).take());
        if let Some(mut transport) = transport {
            transport.stop(Running::new().0);
        }
    }

    /// The transport of this node, which sends only what passes.
    pub(crate) fn guard(self: &Arc<Self>, node: NodeId, transport: Box<dyn Transport>) -> Guarded {
        let socket = Arc::new(Mutex::new(Some(transport)));
        self.lock().sockets.insert(node, Arc::downgrade(&socket));
        Guarded { socket, links: Arc::clone(self) }
    }

    fn passes(&self, from: NodeId, to: NodeId) -> bool {
        let state = &mut *self.lock();
        let open = !state.cut.contains(&(from, to))
            && !state.isolated.contains(&from)
            && !state.isolated.contains(&to);
        open && f64::from(state.rng.next_u32()) >= state.loss * 2f64.powi(32)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A transport that sends only what passes.
pub(crate) struct Guarded {
    socket: Arc<Socket>,
    links: Arc<Links>,
}

impl Guarded {
    /// Nothing, once it is unplugged.
    fn with<T>(&self, act: impl FnOnce(&mut dyn Transport) -> T) -> Option<T> {
        lock(&self.socket).as_deref_mut().map(act)
    }
}

impl Transport for Guarded {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        self.with(|transport| transport.start(identity, inbox)).unwrap_or(Ok(()))
    }

    fn send(&mut self, message: Message<Bytes>) {
        if self.links.passes(message.from, message.to) {
            self.with(|transport| transport.send(message));
        }
    }

    fn flush(&mut self) {
        self.with(Transport::flush);
    }

    fn message_bytes_max(&self) -> usize {
        self.with(|transport| transport.message_bytes_max()).unwrap_or(usize::MAX)
    }

    fn address(&self, node: NodeId) -> Option<String> {
        self.with(|transport| transport.address(node)).flatten()
    }

    fn members(&mut self, membership: &Membership) {
        self.with(|transport| transport.members(membership));
    }

    fn stop(&mut self, running: Running) {
        // It is dropped right after, and its sockets are to be closed by then.
        if let Some(mut transport) = lock(&self.socket).take() {
            transport.stop(running);
        }
    }
}
