//! Which peers are connected: at most one incoming connection for each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::host::handshake::Refusal;
use crate::host::identity::Incarnation;
use crate::types::NodeId;

/// The peers that are connected to this node. Cheap to clone.
///
/// A peer that comes back, restarted, replaces its old connection, which may linger for long if its end was lost. Another node that
/// uses the same id has another [`Incarnation`], and is refused for as long as the first one is connected.
#[derive(Clone, Default, Debug)]
pub struct Registry(Arc<Mutex<BTreeMap<NodeId, Connected>>>);

#[derive(Debug)]
struct Connected {
    incarnation: Incarnation,
    replaced: Arc<AtomicBool>,
}

impl Registry {
    /// Enters a peer for as long as the ticket lives.
    ///
    /// # Errors
    ///
    /// [`Refusal::Duplicate`] if another incarnation of it is connected.
    pub fn enter(&self, peer: NodeId, incarnation: Incarnation) -> Result<Ticket, Refusal> {
        let replaced = Arc::new(AtomicBool::new(false));
        let mut connected = self.lock();
        if let Some(old) = connected.get(&peer) {
            if old.incarnation != incarnation {
                return Err(Refusal::Duplicate { incarnation: old.incarnation });
            }
            old.replaced.store(true, Relaxed);
        }
        connected.insert(peer, Connected { incarnation, replaced: replaced.clone() });
        Ok(Ticket { registry: self.clone(), peer, replaced })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Connected>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

/// A connected peer's place in the [`Registry`].
#[derive(Debug)]
pub struct Ticket {
    registry: Registry,
    peer: NodeId,
    replaced: Arc<AtomicBool>,
}

impl Ticket {
    /// Whether the peer came back on a new connection, so that this one is to be closed.
    pub fn is_replaced(&self) -> bool {
        self.replaced.load(Relaxed)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut connected = self.registry.lock();
        let is_mine = |entry: &Connected| Arc::ptr_eq(&entry.replaced, &self.replaced);
        if connected.get(&self.peer).is_some_and(is_mine) {
            connected.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_comes_back_replaces_its_old_connection() {
        let (registry, peer, life) = (Registry::default(), NodeId::new(2), Incarnation::new(7));
        let old = registry.enter(peer, life).unwrap();
        let new = registry.enter(peer, life).unwrap();
        assert!(old.is_replaced() && !new.is_replaced());
        drop(old);
        let other = registry.enter(peer, Incarnation::new(8)).map(|_| ());
        assert_eq!(other, Err(Refusal::Duplicate { incarnation: life }), "the new one is there");
    }

    #[test]
    fn another_incarnation_waits_until_the_first_is_gone() {
        let (registry, peer) = (Registry::default(), NodeId::new(2));
        let first = registry.enter(peer, Incarnation::new(7)).unwrap();
        assert!(registry.enter(peer, Incarnation::new(8)).is_err());
        assert!(registry.enter(NodeId::new(3), Incarnation::new(8)).is_ok());
        drop(first);
        assert!(registry.enter(peer, Incarnation::new(8)).is_ok());
    }
}
