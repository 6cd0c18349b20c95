//! Which peers are connected: at most one incoming connection for each.

use std::collections::BTreeMap;
use std::string::String;
use std::sync::{Arc, Mutex, MutexGuard};
use std::vec::Vec;

use super::closed::Closed;
use crate::host::identity::StoreId;
use crate::host::transport::MessageInbox;
use crate::host::wire::handshake::Refusal;
use crate::types::NodeId;

/// The peers that are connected to this node. Cheap to clone.
///
/// A peer that restarts and comes back replaces its old connection, which may stay open for long if
/// its end was lost. Another node with the same id has another [`StoreId`], and is refused for as
/// long as the first one is connected.
#[derive(Clone, Default, Debug)]
pub(super) struct Registry(Arc<Mutex<BTreeMap<NodeId, Connected>>>);

#[derive(Debug)]
struct Connected {
    store_id: StoreId,
    /// Where the peer is reached, if it said so.
    address: Option<String>,
    standing: SharedStanding,
    /// The inbox to be told that the peer's process is gone, once this connection has ended as
    /// well.
    suspected: Option<MessageInbox>,
}

/// Shared by a ticket and its entry, so that the ticket sees what became of the entry.
type SharedStanding = Arc<Mutex<Standing>>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Valid,
    Replaced,
    Expelled,
}

impl Registry {
    /// Enters a peer for as long as the ticket lives.
    ///
    /// # Errors
    ///
    /// [`Refusal::Duplicate`] if a node with the same id and another store is connected.
    pub(super) fn enter(
        &self,
        peer: NodeId,
        store_id: StoreId,
        address: Option<String>,
    ) -> Result<Ticket, Refusal> {
        let standing = Arc::new(Mutex::new(Standing::Valid));
        let mut connected = self.lock();
        if let Some(old) = connected.get(&peer) {
            if old.store_id != store_id {
                return Err(Refusal::Duplicate { store_id: old.store_id });
            }
            end(&old.standing, Standing::Replaced);
        }
        let connection =
            Connected { store_id, address, standing: Arc::clone(&standing), suspected: None };
        connected.insert(peer, connection);
        Ok(Ticket { registry: self.clone(), peer, standing })
    }

    /// To be called when the process of this peer does not answer any more. `inbox` is told once
    /// the peer is not connected either, because what the peer said before its end counts first,
    /// and a peer that still speaks is not gone.
    pub(super) fn suspect(&self, peer: NodeId, inbox: &MessageInbox) {
        if let Some(connected) = self.lock().get_mut(&peer) {
            connected.suspected = Some(inbox.clone());
            return;
        }
        inbox.suspect(peer);
    }

    /// To be called when the peer answers again.
    pub(super) fn trust(&self, peer: NodeId) {
        if let Some(connected) = self.lock().get_mut(&peer) {
            connected.suspected = None;
        }
    }

    /// Closes the connections of peers whose store is not the one that `known` returns for them.
    pub(super) fn expel(&self, known: impl Fn(NodeId) -> Option<StoreId>) {
        self.lock().retain(|peer, connected| {
            let stays = known(*peer).is_none_or(|known| known == connected.store_id);
            if !stays {
                end(&connected.standing, Standing::Expelled);
            }
            stays
        });
    }

    /// Where a peer says that it is reached.
    pub(super) fn address(&self, peer: NodeId) -> Option<String> {
        self.lock().get(&peer).and_then(|connected| connected.address.clone())
    }

    /// The stores of all connected peers.
    pub(super) fn stores(&self) -> Vec<(NodeId, StoreId)> {
        self.lock().iter().map(|(peer, connected)| (*peer, connected.store_id)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Connected>> {
        self.0.lock().expect(UNPOISONED)
    }
}

const UNPOISONED: &str = "nothing panics while it holds this lock";

fn end(shared: &SharedStanding, standing: Standing) {
    *shared.lock().expect(UNPOISONED) = standing;
}

/// A connected peer's entry in the registry.
#[derive(Debug)]
pub struct Ticket {
    registry: Registry,
    peer: NodeId,
    standing: SharedStanding,
}

impl Ticket {
    /// Whether to keep the connection.
    ///
    /// # Errors
    ///
    /// [`Closed::Replaced`] if the peer came back on a new connection, [`Closed::Refused`] if the
    /// cluster knows another store of it by now.
    pub fn check(&self) -> Result<(), Closed> {
        let standing = *self.standing.lock().expect(UNPOISONED);
        match standing {
            Standing::Valid => Ok(()),
            Standing::Replaced => Err(Closed::Replaced),
            Standing::Expelled => Err(Closed::Refused(Refusal::OtherStore { node: self.peer })),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut connected = self.registry.lock();
        let is_mine = |entry: &Connected| Arc::ptr_eq(&entry.standing, &self.standing);
        if !connected.get(&self.peer).is_some_and(is_mine) {
            return;
        }
        let entry = connected.remove(&self.peer);
        drop(connected);
        if let Some(inbox) = entry.and_then(|entry| entry.suspected) {
            inbox.suspect(self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(registry: &Registry, peer: u64, store: u64) -> Result<Ticket, Refusal> {
        registry.enter(NodeId::new(peer), StoreId::new(store), None)
    }

    #[test]
    fn a_peer_that_comes_back_replaces_its_old_connection() {
        let registry = Registry::default();
        let old = enter(&registry, 2, 7).unwrap();
        let new = enter(&registry, 2, 7).unwrap();
        assert!(matches!(old.check(), Err(Closed::Replaced)) && new.check().is_ok());
        drop(old);
        let store_id = StoreId::new(7);
        let other = enter(&registry, 2, 8).map(|_| ());
        assert_eq!(other, Err(Refusal::Duplicate { store_id }), "the new one is there");
    }

    #[test]
    fn another_incarnation_waits_until_the_first_is_gone() {
        let registry = Registry::default();
        let first = enter(&registry, 2, 7).unwrap();
        assert!(enter(&registry, 2, 8).is_err());
        assert!(enter(&registry, 3, 8).is_ok());
        drop(first);
        assert!(enter(&registry, 2, 8).is_ok());
    }

    #[test]
    fn one_who_does_not_answer_is_gone_once_it_is_not_connected_either() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let registry = Registry::default();
        let suspects = Arc::clone(&heard);
        let inbox = MessageInbox::new(|_| ())
            .with_suspicions(move |node| suspects.lock().unwrap().push(node.get()));
        let suspect = |peer| registry.suspect(NodeId::new(peer), &inbox);
        let heard = || std::mem::take(&mut *heard.lock().unwrap());
        suspect(2);
        assert_eq!(heard(), [2], "it was not connected");

        let [two, three] = [2, 3].map(|peer| enter(&registry, peer, 7).unwrap());
        suspect(2);
        drop(three);
        assert_eq!(heard(), [], "not of this one");
        drop(two);
        assert_eq!(heard(), [2]);

        let two = enter(&registry, 2, 7).unwrap();
        suspect(2);
        registry.trust(NodeId::new(2));
        drop(two);
        assert_eq!(heard(), [], "it answered again");

        let old = enter(&registry, 2, 7).unwrap();
        suspect(2);
        let new = enter(&registry, 2, 7).unwrap();
        drop((old, new));
        assert_eq!(heard(), [], "it came back itself");
    }

    #[test]
    fn a_peer_of_another_store_than_is_known_goes() {
        let registry = Registry::default();
        let (two, three) = (enter(&registry, 2, 7).unwrap(), enter(&registry, 3, 8).unwrap());
        registry.expel(|_| Some(StoreId::new(8)));
        assert!(matches!(two.check(), Err(Closed::Refused(Refusal::OtherStore { .. }))));
        assert!(three.check().is_ok());
        assert_eq!(registry.stores(), [(NodeId::new(3), StoreId::new(8))]);
    }
}
