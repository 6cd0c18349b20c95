//! Where the members are reached, by servers and by clients.
//!
//! The configuration of the cluster says it, in each member's [`Label`]: its address, and as the
//! note the one for clients. Of the servers with which a cluster began, only their command lines
//! know. So the leader writes what its own command line says into labels that lack it, and every
//! server that joins later knows where to forward.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use raft_core::host::{Handle, Label};
use raft_core::{Change, Member, Membership, NodeId};

use super::store::Store;

/// How often a leader looks for labels that lack an address.
const LABEL_INTERVAL: Duration = Duration::from_millis(500);

/// The addresses that a server's command line names.
#[derive(Clone, Default, Debug)]
pub(super) struct Addresses {
    /// For the other servers.
    pub(super) servers: BTreeMap<NodeId, String>,
    /// For clients.
    pub(super) clients: BTreeMap<NodeId, String>,
}

impl Addresses {
    /// Where clients reach that server: as its label says, or else the command line.
    pub(super) fn of_clients(&self, membership: &Membership, id: NodeId) -> Option<String> {
        let label = membership.member(id).and_then(|member| Label::decode(&member.label).ok());
        let noted = label.and_then(|label| noted(&label));
        noted.or_else(|| self.clients.get(&id).cloned())
    }

    /// Where servers reach it.
    pub(super) fn of_servers(&self, member: &Member) -> Option<String> {
        let label = Label::decode(&member.label).unwrap_or_default();
        label.address.or_else(|| self.servers.get(&member.id).cloned())
    }

    /// The changes that complete the labels.
    ///
    /// A member whose store is not recorded yet is left alone for that moment.
    fn missing(&self, membership: &Membership) -> Vec<Change> {
        let relabel = |member: &Member| {
            let label = Label::decode(&member.label).ok()?;
            if member.store.recorded().is_none() && label.store_id.is_none() {
                return None;
            }
            let mut complete = label.clone();
            if complete.address.is_none() {
                complete.address = self.servers.get(&member.id).cloned();
            }
            if complete.note.is_empty() {
                let client = self.clients.get(&member.id).cloned();
                complete.note = client.map(Bytes::from).unwrap_or_default();
            }
            let label = (complete != label).then(|| complete.encode().ok())??;
            Some(Change::Relabel { id: member.id, label })
        };
        membership.members().iter().filter_map(relabel).collect()
    }
}

/// The label of a server that is to join.
pub(super) fn label(address: &str, client: &str) -> Label {
    Label { note: Bytes::copy_from_slice(client.as_bytes()), ..Label::at(address) }
}

/// While this node leads, labels that lack an address are given the one that the command line
/// names. On a thread of its own, for as long as the node runs.
pub(super) fn keep_labels(id: NodeId, node: &Handle<Store>, addresses: &Addresses) {
    let (node, addresses) = (node.clone(), addresses.clone());
    let keep = move || {
        let watch = node.leadership();
        while node.stop_reason().is_none() {
            let leadership = watch.current();
            if leadership.leader == Some(id) {
                complete(&node, &addresses);
            }
            // Woken by an election, or after the interval.
            let _ = watch.changed_from(leadership).wait_timeout(LABEL_INTERVAL);
        }
    };
    if let Err(e) = thread::Builder::new().name("kv-labels".into()).spawn(keep) {
        tracing::warn!(
            "members are known by the command lines alone: no thread to label them: {e}"
        );
    }
}

fn complete(node: &Handle<Store>, addresses: &Addresses) {
    let changes = addresses.missing(&node.membership());
    if changes.is_empty() {
        return;
    }
    let members = changes.len();
    match node.change_membership(changes).wait() {
        Ok(_) => tracing::info!(members, "the addresses of members are recorded"),
        Err(why) => tracing::debug!(%why, "the addresses of members are not recorded yet"),
    }
}

fn noted(label: &Label) -> Option<String> {
    let note = std::str::from_utf8(&label.note).ok()?;
    (!note.is_empty()).then(|| note.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_core::host::StoreId;
    use raft_core::{MemberStore, Suffrage};

    fn member(id: u64, label: &Label) -> Member {
        let label = label.encode().unwrap();
        Member {
            id: NodeId::new(id),
            suffrage: Suffrage::Voter,
            priority: 0,
            label,
            store: MemberStore::Unrecorded,
        }
    }

    #[test]
    fn labels_are_completed_once_they_name_their_store() {
        let address = |port: u64| (NodeId::new(port), format!("host:{port}"));
        let client = |port: u64| (NodeId::new(port), format!("client:{port}"));
        let addresses = Addresses {
            servers: (1..=4).map(address).collect(),
            clients: (1..=4).map(client).collect(),
        };
        let known = Label { store_id: Some(StoreId::new(7)), ..Label::default() };
        let elsewhere = Label { store_id: known.store_id, ..label("b:1", "c:1") };
        let membership = Membership::of_members([
            member(1, &known),
            member(2, &elsewhere),
            member(3, &Label::default()),
            member(9, &known),
        ])
        .unwrap();
        let complete = Label { store_id: known.store_id, ..label("host:1", "client:1") };
        assert_eq!(
            addresses.missing(&membership),
            [Change::Relabel { id: NodeId::new(1), label: complete.encode().unwrap() }]
        );
        let clients = |id| addresses.of_clients(&membership, NodeId::new(id));
        assert_eq!(clients(2).as_deref(), Some("c:1"), "the label goes before the command line");
        assert_eq!(clients(3).as_deref(), Some("client:3"));
        assert_eq!(clients(9), None);
    }
}
