//! Cuts and losses for nodes that talk over TCP: a transport around theirs.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use raft_core::host::{Identity, Incarnation, MessageInbox, Running, Transport};
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
}

impl Default for Links {
    fn default() -> Self {
        let (rng, cut, isolated) = (Pcg32::new(1, 1), BTreeSet::new(), BTreeSet::new());
        Self { state: Mutex::new(State { rng, loss: 0.0, cut, isolated }) }
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

    /// The transport, which sends only what passes.
    pub(crate) fn guard(self: &Arc<Self>, transport: Box<dyn Transport>) -> Guarded {
        Guarded { transport, links: Arc::clone(self) }
    }

    fn passes(&self, from: NodeId, to: NodeId) -> bool {
        let state = &mut *self.lock();
        let open = !state.cut.contains(&(from, to))
            && !state.isolated.contains(&from)
            && !state.isolated.contains(&to);
        open && f64::from(state.rng.next_u32()) >= state.loss * 2f64.powi(32)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A transport that sends only what passes.
pub(crate) struct Guarded {
    transport: Box<dyn Transport>,
    links: Arc<Links>,
}

impl Transport for Guarded {
    fn start(&mut self, identity: Identity, inbox: MessageInbox) -> io::Result<()> {
        self.transport.start(identity, inbox)
    }

    fn send(&mut self, message: Message<Bytes>) {
        if self.links.passes(message.from, message.to) {
            self.transport.send(message);
        }
    }

    fn flush(&mut self) {
        self.transport.flush();
    }

    fn members(&mut self, membership: &Membership) {
        self.transport.members(membership);
    }

    fn incarnations(&self) -> Vec<(NodeId, Incarnation)> {
        self.transport.incarnations()
    }

    fn stop(&mut self, running: Running) {
        self.transport.stop(running);
    }
}
