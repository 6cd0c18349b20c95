//! Records the identity of the cluster, the stores of its members and their addresses. The leader's
//! host writes them into the configuration, and each node compares its own store with the record.
//!
//! - If the cluster has no identity, the leader takes the identity that it knows itself, or that a
//!   member with its recorded store knows, or else draws one. The leader waits while a connected
//!   member runs an older version, because that version drops identities from the configurations
//!   that it stores. Once upgraded, such a member would lead without knowing that there is an
//!   identity.
//! - The leader records the store of each member that it has met and whose store is not recorded.
//!   An older version kept the store in the [`Label`], so a store that only the label names counts
//!   as recorded, and is copied.
//! - The leader notes the address of each member whose label has none, its own included, and
//!   corrects the address and the note in a label by what the member says
//!   ([`NodeConfig::records_addresses`](crate::host::NodeConfig::records_addresses)).
//!
//! Each is a change of the configuration like any other: if another change is pending, it waits.
//!
//! [`tcp::Peers`](crate::host::tcp::Peers) says what the stores are for, and how a node comes back
//! that has lost its store. `known_peers.rs` decides on every transport which peers are refused for
//! their store or their cluster.
//!
//! If a node's own store is not the one that the configuration records, the node is not the member
//! that the configuration means. The nodes that know that configuration refuse it. But the node may
//! have been removed and added again under the same id, and then gets the log from the beginning,
//! with the configurations of its earlier membership in it. So the node goes on and takes entries.
//! It neither votes nor stands for election until a configuration is in force that does not name
//! another store. The same holds for a node with an empty store while peers say that it is not the
//! member that it believes to be.

use core::time::Duration;
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use bytes::Bytes;

use super::inputs::Core;
use crate::change::Change;
use crate::host::identity::{ClusterId, Identity, Past, StoreId};
use crate::host::known_peers::{KnownPeers, Met, Told};
use crate::host::wire::label::{Label, recorded_store};
use crate::identity::ClusterIdentity;
use crate::membership::{Member, Membership};
use crate::role::Role;
use crate::time::Instant;
use crate::types::{Index, LogId, NodeId};

/// How often a leader looks for what is not recorded yet.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// Records stores and addresses on behalf of one node.
#[derive(Debug)]
pub(super) struct Recorder {
    identity: Identity,
    peers: Arc<KnownPeers>,
    /// What the application says of this node.
    note: Bytes,
    records_addresses: bool,
    /// What this node's store holds. Once the cluster's identity was known for certain, it stays
    /// known.
    past: Past,
    /// Whether the configuration in force was committed when peers were last judged by it.
    is_committed: bool,
    /// Whether the configuration in force records another store of this node.
    is_other: bool,
    told: Option<Told>,
    /// The addresses in the last warnings.
    warned: BTreeMap<NodeId, String>,
    /// When the leader looks next.
    next: Instant,
}

impl Recorder {
    pub(super) fn new(
        identity: Identity,
        peers: Arc<KnownPeers>,
        note: Bytes,
        records_addresses: bool,
    ) -> Self {
        Self {
            identity,
            peers,
            note,
            records_addresses,
            past: Past::Unknown,
            is_committed: false,
            is_other: false,
            told: None,
            warned: BTreeMap::new(),
            next: Instant::ZERO + RECORD_INTERVAL,
        }
    }

    /// The cluster of this node.
    pub(super) fn cluster(&self) -> ClusterId {
        self.identity.cluster
    }

    /// Takes the members that are in force now.
    pub(super) fn members(&mut self, raft: &mut Core, membership: &Membership) {
        let Identity { node, store_id, .. } = self.identity;
        let recorded = membership.member(node).and_then(recorded_store);
        self.is_other = recorded.is_some_and(|recorded| recorded != store_id.get());
        if self.is_other {
            tracing::warn!(
                node = node.get(),
                "this node's store is not the one that this configuration names, so node {node} does not vote. If it was added \
                 again, it votes once the rest of the log has arrived; otherwise remove node {node} from the cluster and add it \
                 again as a learner"
            );
        }
        self.past = past(self.past, raft);
        self.tell_peers(raft, membership);
        self.heed(raft);
    }

    /// Takes note of what this node's store holds by now, and of what peers say of this node.
    /// Called in each turn.
    pub(super) fn look(&mut self, raft: &mut Core) {
        if !matches!(self.past, Past::Of(_)) {
            let past = past(self.past, raft);
            if past != self.past {
                self.past = past;
                self.tell_peers(raft, raft.membership());
            }
        }
        if self.is_committed != raft.is_membership_committed() {
            self.tell_peers(raft, raft.membership());
        }
        // Peers tell only a node with an empty store not to vote.
        if self.past == Past::Blank || self.told.is_some() {
            self.heed(raft);
        }
    }

    /// Has peers judged by this configuration, which is in force.
    fn tell_peers(&mut self, raft: &Core, membership: &Membership) {
        self.is_committed = raft.is_membership_committed();
        let log = &raft.server.log;
        let index = raft.server.memberships.index();
        // Its term is not known once the log is compacted; what the log begins with says as much.
        let at = log.term_at(index).map_or(raft.log_range().0, |term| LogId::new(term, index));
        let at = if index == Index::ZERO { LogId::ZERO } else { at };
        self.peers.update(self.past, membership, (at, self.is_committed));
    }

    /// Keeps this node from voting and from standing for election if it is not the member that it
    /// believes to be.
    fn heed(&mut self, raft: &mut Core) {
        let told = self.peers.told();
        if told != self.told {
            self.told = told;
            let node = self.identity.node;
            match told {
                Some(Told::OtherStore { by }) => tracing::warn!(
                    node = node.get(),
                    "this node's store is empty, and node {by} says that the cluster knows another store of node {node}: node \
                     {node} does not vote. Remove it from the cluster and add it again as a learner; if most voters have lost \
                     their stores, force a recovery from the voter with the longest log"
                ),
                Some(Told::NotMember { by }) => tracing::warn!(
                    node = node.get(),
                    "this node's store is empty, and node {node} is no member of the cluster of node {by}, though its own configuration \
                     lists it as a voter: node {node} does not vote. Add it to the cluster as a learner, or correct the addresses of its peers"
                ),
                None => {}
            }
        }
        raft.abstain(self.is_other || self.told.is_some());
    }

    /// Whether peers say that this node is not the member that it believes to be.
    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// If this node leads, records what is missing in the configuration. `own_address` says where
    /// the others reach this node, if the application has named that.
    pub(super) fn record(
        &mut self,
        raft: &mut Core,
        now: Instant,
        own_address: impl FnOnce() -> Option<String>,
    ) {
        if now < self.next || raft.role() != Role::Leader {
            return;
        }
        self.next = now + RECORD_INTERVAL;
        let mut changes = Vec::new();
        let met = self.peers.met();
        if raft.membership().identity().is_none() {
            changes.extend(self.identify(raft.membership(), &met));
        }
        let Identity { node, store_id, .. } = self.identity;
        let stores: Vec<_> =
            met.iter().map(|(id, met)| (*id, met.store)).chain([(node, store_id)]).collect();
        changes.extend(unrecorded(raft.membership(), &stores));
        if self.records_addresses {
            changes.extend(self.moved(raft.membership(), &met, own_address()));
        }
        if changes.is_empty() {
            return;
        }
        match raft.change_membership(&changes) {
            Ok(_) => {
                let cluster = raft.membership().identity().map(|identity| identity.to_string());
                let changes = changes.len();
                tracing::info!(
                    node = node.get(),
                    cluster,
                    changes,
                    "identities or addresses of members are recorded"
                );
            }
            Err(refused) => {
                tracing::debug!(node = node.get(), %refused, "the identities of members are not recorded yet");
            }
        }
    }

    /// The change that gives the cluster its identity.
    fn identify(&self, membership: &Membership, met: &[(NodeId, Met)]) -> Option<Change> {
        if let Past::Of(known) = self.past {
            // A leader of an older version dropped the identity from the configuration.
            return Some(Change::Identify(known));
        }
        let members = || {
            met.iter().filter_map(|(id, met)| membership.member(*id).map(|member| (member, met)))
        };
        if members().any(|(_, met)| met.past == Past::Unknown) {
            return None;
        }
        // Perhaps this node ran an older version when the cluster got its identity, and has dropped
        // it.
        let recorded = members()
            .filter(|(member, met)| recorded_store(member) == Some(met.store.get()))
            .map(|(_, met)| met.past);
        let of = |past| if let Past::Of(known) = past { Some(known) } else { None };
        let begun = |past| if let Past::Begun(known) = past { Some(known) } else { None };
        let known = recorded.clone().find_map(of).or_else(|| recorded.clone().find_map(begun));
        if let Some(known) = known {
            return Some(Change::Identify(known));
        }
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        Some(Change::Identify(ClusterIdentity::new(u128::from_be_bytes(bytes))))
    }

    /// The changes that complete the labels of members, and correct the labels of members which say
    /// something else of themselves.
    fn moved(
        &mut self,
        membership: &Membership,
        met: &[(NodeId, Met)],
        own_address: Option<String>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for member in membership.members() {
            let Ok(label) = Label::decode(&member.label) else { continue };
            let mut corrected = label.clone();
            let note = if member.id == self.identity.node {
                if corrected.address.is_none() {
                    corrected.address.clone_from(&own_address);
                }
                self.note.clone()
            } else {
                let Some((_, met)) = met.iter().find(|(id, _)| *id == member.id) else { continue };
                if let Some(address) = met.address() {
                    if let Some(recorded) = label.address.as_deref().filter(|at| *at != address) {
                        self.warn_of(member.id, recorded, address);
                    }
                    corrected.address = Some(address.to_string());
                }
                met.note.clone()
            };
            if !note.is_empty() {
                corrected.note = note;
            }
            if corrected == label {
                continue;
            }
            if let Ok(label) = corrected.encode() {
                changes.push(Change::Relabel { id: member.id, label });
            }
        }
        changes
    }

    fn warn_of(&mut self, peer: NodeId, recorded: &str, address: &str) {
        if self.warned.get(&peer).is_some_and(|warned| warned == address) {
            return;
        }
        self.warned.insert(peer, address.to_string());
        tracing::warn!(
            node = self.identity.node.get(),
            peer = peer.get(),
            "node {peer} is reached at {address} and not at {recorded}, as its label says: the label is corrected"
        );
    }
}

/// What the node's store holds now; `before` is what it held before.
fn past(before: Past, raft: &Core) -> Past {
    if let Past::Of(_) = before {
        return before;
    }
    match raft.membership().identity() {
        Some(identity) if raft.is_membership_committed() => Past::Of(identity),
        Some(identity) => Past::Begun(identity),
        None if raft.server.log.last().index > Index::ZERO => Past::Unnamed,
        None => Past::Blank,
    }
}

/// The changes that record the stores of members whose stores are not recorded.
fn unrecorded(membership: &Membership, stores: &[(NodeId, StoreId)]) -> Vec<Change> {
    let change = |member: &Member| {
        if member.store.recorded().is_some() {
            return None;
        }
        let met = stores.iter().find(|(id, _)| *id == member.id);
        let met = met.map(|(_, store_id)| store_id.get());
        let store = recorded_store(member).or(met)?;
        Some(Change::RecordStore { id: member.id, store })
    };
    membership.members().iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;
    use crate::config::Config;
    use crate::host::clock::Clock;
    use crate::host::identity::{ClusterId, Introduction};
    use crate::host::metrics::MetricCells;
    use crate::host::node::trace::Trace;
    use crate::host::recorder::Random;
    use crate::identity::MemberStore;
    use crate::membership::{Member, Suffrage};
    use crate::message::SnapshotMeta;
    use crate::output::{Output, Restored};
    use crate::raft::Raft;

    fn id(number: u64) -> NodeId {
        NodeId::new(number)
    }

    fn member(number: u64, label: Vec<u8>) -> Member {
        Member {
            id: id(number),
            suffrage: Suffrage::Voter,
            priority: 0,
            label,
            store: MemberStore::Unrecorded,
        }
    }

    fn labelled(store: u64) -> Vec<u8> {
        let store_id = Some(StoreId::new(store));
        Label { store_id, ..Label::default() }.encode().unwrap()
    }

    /// Node 1, alone in its cluster, with store 1.
    fn alone(label: Vec<u8>) -> (Core, Recorder) {
        let membership = Membership::of_members([member(1, label)]).unwrap();
        let snapshot = Some(SnapshotMeta { last: LogId::ZERO, membership });
        let restored = Restored { snapshot, ..Restored::default() };
        let trace = Trace::start(id(1), &restored);
        let raft = Raft::new(Config::new(id(1), []), restored, Random::new(1, 1)).unwrap();
        let cluster = ClusterId::new(7);
        let store_id = StoreId::new(1);
        let identity = Identity { cluster, node: id(1), store_id };
        let peers = Arc::new(KnownPeers::new(Some(identity)));
        let metrics = Arc::new(MetricCells::new(id(1), Clock::new()));
        let recorder = Recorder::new(identity, peers, Bytes::new(), true);
        (Core::new(raft, None, trace, metrics), recorder)
    }

    fn turn(raft: &mut Core, now: Instant) {
        raft.tick(now);
        while let Some(output) = raft.poll_outbox() {
            if let Output::Persist(write) = output {
                raft.persisted(write.id);
            } else if let Output::Apply { through, .. } = output {
                raft.applied(through);
            }
        }
    }

    /// A peer that is connected, says that it is at this address, and was reached there or not at
    /// all.
    fn met(recorder: &Recorder, number: u64, address: Option<&str>, is_reached: bool) {
        let peer = Introduction {
            past: Past::Blank,
            address: address.map(String::from),
            ..Introduction::new(id(number), StoreId::new(number))
        };
        assert_eq!(recorder.peers.admit(&peer, None), Ok(()));
        if let Some(address) = peer.address.as_ref().filter(|_| is_reached) {
            assert_eq!(recorder.peers.admit(&peer, Some(address)), Ok(()));
        }
    }

    #[test]
    fn a_leader_records_identities_once_and_now_and_then() {
        let (mut raft, mut recorder) = alone(Vec::new());
        met(&recorder, 2, None, false);
        let second = |second| Instant::ZERO + RECORD_INTERVAL * second;
        recorder.record(&mut raft, second(1), || None);
        assert_eq!(raft.membership().members(), [member(1, Vec::new())], "it does not lead");
        for moment in 1..=2 {
            turn(&mut raft, second(moment));
        }
        assert_eq!(raft.role(), Role::Leader);
        recorder.record(&mut raft, Instant::ZERO + RECORD_INTERVAL / 2, || None);
        assert_eq!(raft.membership().members(), [member(1, Vec::new())], "too soon");
        recorder.record(&mut raft, second(3), || None);
        let store = MemberStore::Recorded(1);
        assert_eq!(raft.membership().members(), [Member { store, ..member(1, Vec::new()) }]);
        let cluster = raft.membership().identity().expect("it draws one");
        recorder.look(&mut raft);
        assert_eq!(recorder.past, Past::Begun(cluster));
        turn(&mut raft, second(3));
        recorder.look(&mut raft);
        assert_eq!(recorder.past, Past::Of(cluster));
        let last = raft.status().last_log;
        recorder.record(&mut raft, second(9), || None);
        assert_eq!(raft.status().last_log, last, "nothing is left to record");
        let identify = recorder.identify(raft.membership(), &[]);
        assert_eq!(identify, Some(Change::Identify(cluster)), "never another one");
    }

    /// A rolling upgrade: an older version drops the identity from what it stores. Were another one
    /// drawn, the servers of one cluster would refuse each other.
    #[test]
    fn an_identity_is_drawn_only_once_while_servers_are_upgraded() {
        let (_, recorder) = alone(Vec::new());
        let members = [member(1, Vec::new()), member(2, labelled(2)), member(3, Vec::new())];
        let membership = Membership::of_members(members).unwrap();
        let identify = |said: &[(u64, Past)]| {
            let peers = KnownPeers::new(Some(recorder.identity));
            for (number, past) in said {
                let known = Introduction::new(id(*number), StoreId::new(*number));
                let peer = Introduction { past: *past, ..known };
                assert_eq!(peers.admit(&peer, None), Ok(()));
            }
            recorder.identify(&membership, &peers.met())
        };
        let known = ClusterIdentity::new(7);
        assert_eq!(identify(&[(2, Past::Unnamed), (3, Past::Unknown)]), None, "one would drop it");
        for past in [Past::Of(known), Past::Begun(known)] {
            assert_eq!(identify(&[(2, past), (3, Past::Unnamed)]), Some(Change::Identify(known)));
        }
        for others in
            [[(4, Past::Of(known)), (5, Past::Unknown)], [(3, Past::Of(known)), (2, Past::Unnamed)]]
        {
            let drawn = identify(&others);
            assert!(drawn.is_some() && drawn != Some(Change::Identify(known)), "{others:?}");
        }
    }

    #[test]
    fn an_address_is_noted_if_the_member_says_so_and_is_reached_there() {
        let (_, mut recorder) = alone(Vec::new());
        let labelled = |number, address: &str| member(number, Label::at(address).encode().unwrap());
        let membership = Membership::of_members([
            member(1, Vec::new()),
            labelled(2, "b:1"),
            labelled(3, "c:1"),
            member(4, Vec::new()),
            labelled(5, "e:1"),
        ]);
        let membership = membership.unwrap();
        met(&recorder, 2, Some("b:2"), true);
        met(&recorder, 3, Some("c:1"), true);
        met(&recorder, 4, Some("d:2"), true);
        met(&recorder, 5, Some("e:2"), false);
        let peers = recorder.peers.met();
        let relabel = |number, address: &str| Change::Relabel {
            id: id(number),
            label: Label::at(address).encode().unwrap(),
        };
        let noted = recorder.moved(&membership, &peers, Some("a:1".into()));
        assert_eq!(noted, [relabel(1, "a:1"), relabel(2, "b:2"), relabel(4, "d:2")]);
        assert_eq!(recorder.warned.len(), 1);
        let named = Membership::of_members([labelled(1, "proxy:1")]).unwrap();
        assert_eq!(recorder.moved(&named, &peers, Some("a:1".into())), [], "the others know best");
    }

    #[test]
    fn a_node_with_another_store_than_its_label_names_does_not_stand() {
        for (store, expected) in [(1, Role::Leader), (2, Role::Follower)] {
            let (mut raft, mut recorder) = alone(labelled(store));
            let membership = raft.membership().clone();
            recorder.members(&mut raft, &membership);
            for second in 1..=3 {
                turn(&mut raft, Instant::ZERO + RECORD_INTERVAL * second);
            }
            assert_eq!(raft.role(), expected);
        }
    }

    #[test]
    fn a_store_that_only_the_label_names_is_recorded_and_no_other() {
        let recorded = |store| MemberStore::Recorded(store);
        let membership = Membership::of_members([
            Member { store: recorded(5), ..member(1, labelled(8)) },
            member(2, labelled(8)),
            member(3, b"not a label".to_vec()),
            Member { store: MemberStore::New, ..member(4, labelled(8)) },
            member(5, Vec::new()),
        ]);
        let stores = [1, 2, 3, 4, 9].map(|number| (id(number), StoreId::new(7)));
        let record = |number, store| Change::RecordStore { id: id(number), store };
        let expected = vec![record(2, 8), record(3, 7), record(4, 7)];
        assert_eq!(unrecorded(&membership.unwrap(), &stores), expected);
    }
}
