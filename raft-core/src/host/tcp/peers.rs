//! Which nodes a transport dials and which it lets in, as the configuration of the cluster changes
//! (§6).
//!
//! | node | dialed | let in |
//! |---|---|---|
//! | a member | for as long as it is one | with the store that its [`Label`] names, if any |
//! | one listed in the transport | until this node knows a configuration | as all others |
//! | all others | while messages wait for it | [`Config::unknown_peers_max`] at a time |
//!
//! A transport dials a node at the address in its label, or else the address in the list, or else
//! the address that the node says itself in its handshake. If an address does not answer, or
//! another node answers there, the transport tries the next.
//!
//! # A node that lost its memory
//!
//! A node whose disk was wiped or replaced has forgotten its votes and what it acknowledged. If it
//! went on under its old id, it could vote twice in a term, and a majority could be counted for
//! entries that it does not hold. So the leader records the [`StoreId`] of each member in the
//! configuration once it has heard it. From then on every node refuses to talk to a node with that
//! id and another store: [`Refusal::OtherStore`] if that node dials, [`Closed::OtherStore`] if it
//! was dialed. The transport counts each case
//! ([`Counts::refused_other_store`](super::Counts::refused_other_store)) and warns now and then.
//!
//! The way back: [remove](crate::Change::Remove) the member, and [add](crate::Change::AddLearner)
//! it again as a learner, in a second change. It then catches up as any new server does, before it
//! counts. The record of its former store is gone with the old member. If a store is wiped within
//! the first moments of a cluster, before it is recorded, no node notices.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::string::{String, ToString};
use std::sync::{Arc, Mutex, MutexGuard};
use std::vec::Vec;

use bytes::Bytes;

use super::Config;
use super::counters::Counters;
use super::peer::{Peer, Signals};
use super::registry::Registry;
use crate::host::identity::{Identity, StoreId};
use crate::host::transport::MessageInbox;
use crate::host::wire::label::Label;
use crate::host::wire::label::recorded_store;
use crate::membership::{Member, Membership};
use crate::message::Message;
use crate::types::NodeId;
#[cfg(doc)]
use {super::closed::Closed, crate::host::wire::handshake::Refusal};

/// The other nodes. An adapter starts a dialer for each [`Peer`] that it is given, and does nothing
/// else about them.
#[derive(Debug)]
pub struct Peers<S> {
    pub(super) identity: Identity,
    /// Decides which peers are let in.
    pub(super) inbox: MessageInbox,
    pub(super) registry: Registry,
    pub(super) config: Config,
    pub(super) counters: Counters,
    /// Where this node says that it is reached.
    pub(super) address: String,
    /// The nodes listed when the transport was made, and their addresses.
    listed: BTreeMap<NodeId, String>,
    state: Mutex<PeerTable<S>>,
}

#[derive(Debug)]
struct PeerTable<S> {
    /// The other members in the configuration in force. `None` while this node knows no
    /// configuration.
    members: Option<BTreeMap<NodeId, Label>>,
    peers: BTreeMap<NodeId, Arc<Peer<S>>>,
}

/// The peers to dial from now on.
type ToDial<S> = Vec<Arc<Peer<S>>>;

impl<S: Signals> Peers<S> {
    /// The peers of a node that listens on `listening`, with the nodes in `listed` to begin with,
    /// and those of them to dial.
    pub fn new(
        identity: Identity,
        inbox: MessageInbox,
        listening: SocketAddr,
        mut listed: BTreeMap<NodeId, String>,
        config: &Config,
        counters: &Counters,
    ) -> (Self, ToDial<S>) {
        listed.remove(&identity.node);
        counters.belong_to(identity.node);
        let address = config.advertise.clone().unwrap_or_else(|| listening.to_string());
        let peers = Self {
            identity,
            inbox,
            registry: Registry::default(),
            config: config.clone(),
            counters: counters.clone(),
            address,
            listed,
            state: Mutex::new(PeerTable { members: None, peers: BTreeMap::new() }),
        };
        let to_dial = peers.members(&Membership::default());
        (peers, to_dial)
    }

    /// Takes the members that are in force now. Returns the peers to dial from now on.
    pub fn members(&self, membership: &Membership) -> ToDial<S> {
        let others = membership.members().iter().filter(|member| member.id != self.identity.node);
        // If an application uses labels in another way, they hold no addresses.
        let label = |member: &Member| Label {
            store_id: recorded_store(member).map(StoreId::new),
            ..Label::decode(&member.label).unwrap_or_default()
        };
        let members = others.map(|member| (member.id, label(member))).collect();
        let mut state = self.lock();
        let PeerTable { members: before, peers } = &mut *state;
        let members: Option<BTreeMap<_, Label>> = (!membership.is_empty()).then_some(members);
        let known = |id: NodeId| members.as_ref().and_then(|members| members.get(&id));
        let staying: Vec<_> = match &members {
            Some(members) => members.keys().copied().collect(),
            None => self.listed.keys().copied().collect(),
        };
        let mut to_dial = Vec::new();
        for id in &staying {
            peers.entry(*id).or_insert_with(|| {
                let peer = Arc::new(Peer::new(*id, &self.config, &self.counters));
                to_dial.push(Arc::clone(&peer));
                peer
            });
        }
        for (id, peer) in &*peers {
            let label = known(*id);
            peer.update_membership(staying.contains(id), label.and_then(|label| label.store_id));
            let old = before.as_ref().and_then(|members| members.get(id));
            if label.map(|label| &label.address) != old.map(|label| &label.address) {
                peer.signals().retry();
            }
        }
        self.registry.expel(|id| known(id).and_then(|label| label.store_id));
        *before = members;
        to_dial
    }

    /// Queues a message. Returns its receiver if the receiver must be dialed from now on: a node
    /// that is no member and waits for an answer.
    pub fn send(&self, message: Message<Bytes>) -> Option<Arc<Peer<S>>> {
        let to = message.to;
        let mut state = self.lock();
        if let Some(peer) = state.peers.get(&to) {
            peer.push(message);
            return None;
        }
        let is_reachable = self.listed.contains_key(&to) || self.registry.address(to).is_some();
        if to == self.identity.node || !is_reachable {
            self.counters.count_unknown_peer();
            return None;
        }
        let peer = Arc::new(Peer::new(to, &self.config, &self.counters));
        peer.push(message);
        state.peers.insert(to, Arc::clone(&peer));
        Some(peer)
    }

    /// Wakes the dialers of the peers for which messages were queued.
    pub fn flush(&self) {
        self.lock().peers.values().for_each(|peer| peer.flush());
    }

    /// Wakes all dialers, so that they see that this transport stops.
    pub fn wake_all(&self) {
        self.lock().peers.values().for_each(|peer| peer.signals().retry());
    }

    /// To be called when this node has dialed us, which shows that it is alive.
    pub fn is_back(&self, id: NodeId) {
        if let Some(peer) = self.lock().peers.get(&id) {
            peer.signals().retry();
        }
    }

    /// For [`Transport::address`](crate::host::Transport::address).
    pub fn address(&self, id: NodeId) -> Option<String> {
        if id == self.identity.node {
            return self.config.advertise.clone();
        }
        self.addresses(id).into_iter().next()
    }

    /// The addresses at which a node may be reached, the best first.
    pub(super) fn addresses(&self, id: NodeId) -> Vec<String> {
        let labelled = self.label(id, |label| label.address.clone());
        let listed = self.listed.get(&id).cloned();
        let mut addresses: Vec<String> = Vec::new();
        for address in [labelled, listed, self.registry.address(id)].into_iter().flatten() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// The store of a member, if the cluster knows it.
    pub(super) fn store(&self, id: NodeId) -> Option<StoreId> {
        self.label(id, |label| label.store_id)
    }

    /// Whether this node expects a connection from the node `id`: it is a member, or it is listed.
    pub(super) fn is_expected(&self, id: NodeId) -> bool {
        match &self.lock().members {
            Some(members) => members.contains_key(&id),
            None => self.listed.contains_key(&id),
        }
    }

    /// Forgets a peer that is no longer needed. Returns false if the peer is needed again.
    pub(super) fn forget(&self, peer: &Peer<S>) -> bool {
        let mut state = self.lock();
        let has_left = peer.has_left();
        if has_left {
            state.peers.remove(&peer.id());
        }
        has_left
    }

    fn label<T>(&self, id: NodeId, read: impl FnOnce(&Label) -> Option<T>) -> Option<T> {
        self.lock().members.as_ref().and_then(|members| members.get(&id)).and_then(read)
    }

    fn lock(&self) -> MutexGuard<'_, PeerTable<S>> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use super::*;
    use crate::host::identity::ClusterId;
    use crate::identity::MemberStore;
    use crate::membership::Suffrage;
    use crate::message::{Body, RequestVote};
    use crate::types::{LogId, Term};

    impl Peers<Woken> {
        pub(in super::super) fn peer(&self, id: NodeId) -> Arc<Peer<Woken>> {
            Arc::clone(&self.lock().peers[&id])
        }
    }

    /// Counts what it was told.
    #[derive(Default, Debug)]
    pub(in super::super) struct Woken {
        ready: AtomicUsize,
        retry: AtomicUsize,
    }

    impl Signals for Woken {
        fn ready(&self) {
            self.ready.fetch_add(1, Relaxed);
        }

        fn retry(&self) {
            self.retry.fetch_add(1, Relaxed);
        }
    }

    pub(in super::super) fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    pub(in super::super) fn identity(node: u64) -> Identity {
        let cluster = ClusterId::new(7);
        let store_id = StoreId::new(node);
        Identity { cluster, node: NodeId::new(node), store_id }
    }

    /// Those of node 1, with these others listed.
    pub(in super::super) fn peers(listed: &[u64]) -> Peers<Woken> {
        let listed = listed.iter().map(|id| (NodeId::new(*id), std::format!("listed-{id}:1")));
        let config = Config { idle_timeout: Duration::ZERO, ..Config::default() };
        let (peers, _) = Peers::new(
            identity(1),
            MessageInbox::new(drop),
            at("10.0.0.1:1"),
            listed.collect(),
            &config,
            &Counters::default(),
        );
        peers
    }

    pub(in super::super) fn label(address: Option<&str>, store: Option<u64>) -> Label {
        let address = address.map(String::from);
        Label { address, store_id: store.map(StoreId::new), note: Bytes::new() }
    }

    pub(in super::super) fn membership(members: &[(u64, Label)]) -> Membership {
        let member = |(id, label): &(u64, Label)| Member {
            id: NodeId::new(*id),
            suffrage: Suffrage::Voter,
            priority: 0,
            label: label.encode().unwrap(),
            store: MemberStore::Unrecorded,
        };
        Membership::of_members(members.iter().map(member)).unwrap()
    }

    fn plain(ids: &[u64]) -> Membership {
        Membership::of_voters(ids.iter().copied().map(NodeId::new))
    }

    fn ids(to_dial: &[Arc<Peer<Woken>>]) -> Vec<u64> {
        to_dial.iter().map(|peer| peer.id().get()).collect()
    }

    fn vote(to: u64) -> Message<Bytes> {
        let body = Body::RequestVote(RequestVote { last_log: LogId::ZERO, transfer: false });
        Message { from: NodeId::new(1), to: NodeId::new(to), term: Term::new(1), body }
    }

    #[test]
    fn those_listed_are_dialed_until_there_are_members() {
        let listed = [1, 2, 3].map(|id| (NodeId::new(id), String::from("x:1")));
        let config = Config::default();
        let counters = Counters::default();
        let (peers, to_dial) = {
            let inbox = MessageInbox::new(drop);
            Peers::<Woken>::new(
                identity(1),
                inbox,
                at("10.0.0.1:1"),
                listed.into(),
                &config,
                &counters,
            )
        };
        assert_eq!(ids(&to_dial), [2, 3], "not the node itself");
        assert!(peers.members(&plain(&[])).is_empty());
        let added = peers.members(&plain(&[1, 2, 4]));
        assert_eq!(ids(&added), [4]);
        assert!(to_dial[0].check().is_ok() && added[0].check().is_ok());
    }

    #[test]
    fn a_member_that_goes_is_left_once_all_is_said_and_one_that_comes_back_is_dialed() {
        let peers = peers(&[]);
        let two = peers.members(&plain(&[1, 2])).pop().unwrap();
        assert!(peers.send(vote(2)).is_none());
        peers.members(&plain(&[1]));
        assert!(two.check().is_ok(), "something waits for it");
        two.queue().clear(0);
        assert!(two.has_left());
        peers.members(&plain(&[1, 2]));
        assert!(!peers.forget(&two), "it came back in time");
        peers.members(&plain(&[1]));
        assert!(peers.forget(&two));
        assert_eq!(ids(&peers.members(&plain(&[1, 2]))), [2]);
    }

    #[test]
    fn a_member_is_dialed_where_its_label_says_and_then_elsewhere() {
        let peers = peers(&[2]);
        let addresses = || peers.addresses(NodeId::new(2));
        assert_eq!(addresses(), ["listed-2:1"]);
        peers.members(&membership(&[(2, label(Some("labelled:1"), None))]));
        assert_eq!(addresses(), ["labelled:1", "listed-2:1"]);
        let said = Some("labelled:1".into());
        let ticket = peers.registry.enter(NodeId::new(2), StoreId::new(2), said).unwrap();
        assert_eq!(addresses(), ["labelled:1", "listed-2:1"], "each once");
        drop(ticket);
        let said = Some("said:1".into());
        let _ticket = peers.registry.enter(NodeId::new(2), StoreId::new(2), said).unwrap();
        assert_eq!(addresses(), ["labelled:1", "listed-2:1", "said:1"]);
    }

    #[test]
    fn another_address_is_dialed_at_once() {
        let peers = peers(&[]);
        let two = peers.members(&membership(&[(2, label(Some("a:1"), None))])).pop().unwrap();
        let retries = || two.signals().retry.load(Relaxed);
        let before = retries();
        peers.members(&membership(&[(2, label(Some("a:1"), Some(2)))]));
        assert_eq!(retries(), before, "the same address");
        peers.members(&membership(&[(2, label(Some("b:1"), Some(2)))]));
        assert_eq!(retries(), before + 1);
    }

    #[test]
    fn a_stranger_gets_its_answer_if_one_knows_where() {
        let peers = peers(&[]);
        assert!(peers.send(vote(9)).is_none());
        assert_eq!(peers.counters.read().dropped_unknown_peer, 1);
        let said = Some("said:1".into());
        let _ticket = peers.registry.enter(NodeId::new(9), StoreId::new(9), said).unwrap();
        let nine = peers.send(vote(9)).expect("it is to be dialed");
        assert!(peers.send(vote(9)).is_none(), "it is dialed already");
        peers.flush();
        assert_eq!(nine.signals().ready.load(Relaxed), 1);
        nine.queue().clear(0);
        assert!(nine.has_left(), "nothing more to say");
    }

    #[test]
    fn one_who_was_dialed_and_has_another_store_is_left_alone() {
        let peers = peers(&[]);
        let known = |store| membership(&[(2, label(None, store))]);
        let two = peers.members(&known(None)).pop().unwrap();
        two.set_connected_store(Some(StoreId::new(2)));
        assert!(two.check().is_ok());
        peers.members(&known(Some(3)));
        assert!(matches!(two.check(), Err(super::super::Closed::OtherStore { .. })));
        two.set_connected_store(Some(StoreId::new(3)));
        assert!(two.check().is_ok());
    }
}
