//! Which peers a node lets speak to it: the check of identities, the same on every transport.
//!
//! Before the first message, each of two nodes introduces itself to the other. A message reaches
//! the core only from a peer whose introduction this node accepts, because a
//! [`PeerInbox`](super::PeerInbox) is the only way in. These are the rules, where "this cluster" is
//! one whose identity this node knows for certain:
//!
//! | the peer's store | what this node does |
//! |---|---|
//! | is not the one recorded for the member | refuses it: [`Refusal::OtherStore`] |
//! | holds the history of another cluster, for certain | refuses it: [`Refusal::OtherHistory`] |
//! | may hold another history | lets it in only as a member from the beginning or by its store |
//! | holds a history without an identity | refuses it only as an [added](MemberStore::New) member |
//! | is empty, or of this cluster | lets it in |
//!
//! The configuration says whose store is whose, and that of this node may be old: the node was away
//! or begins with an old snapshot. Meanwhile a member was replaced, and it may lead by now. So a
//! peer says which committed entry names it with its store. If this node lacks that entry, it does
//! not refuse the peer for its store. A log that lacks a committed entry ends before it, in the
//! order of logs (§5.4.1): so this node's log is behind the peer's, and gets no vote of the peer.
//!
//! An identity that may not be committed proves little: a first leader that fails early may hold an
//! identity that its cluster never took. Such a server must be able to come back.
//!
//! The node also refuses a peer that dials it if the peer may send longer messages than this node's
//! transport takes ([`Refusal::LongMessages`]). Such a message would be lost each time it is sent,
//! and nothing behind it would ever commit. A peer of an older version does not say how long its
//! messages are, and is let in. When a node starts, it checks that its transport takes what the
//! node itself sends.
//!
//! The node applies the rules on stores again whenever its identity or its configuration changes. A
//! refusal concerns the store that was refused: another server with the same id that is connected
//! stays connected.
//!
//! A node with an empty store obeys what its peers say of it. A peer may refuse the node because
//! the cluster knows another store of that member, or may say that the node is no member of its
//! cluster. Then the node neither votes nor stands for election until its log brings a
//! configuration. Otherwise two wiped voters of three would found a second cluster.

use std::collections::BTreeMap;
use std::mem;
use std::string::String;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;

use super::identity::{Identity, Introduction, Past, StoreId};
use super::timeouts::Timeouts;
use super::versions::Versions;
use crate::host::wire::handshake::Refusal;
use crate::host::wire::label::recorded_store;
use crate::identity::{ClusterIdentity, MemberStore};
use crate::membership::Membership;
use crate::quorum::MEMBERS_MAX;
use crate::types::{LogId, NodeId};

/// The most peers of which the node keeps anything.
const PEERS_KEPT_MAX: usize = 2 * MEMBERS_MAX;

/// How long a refusal counts as present. A peer that is refused tries again within seconds.
const REFUSAL_COUNTS_FOR: Duration = Duration::from_secs(10);

/// What a node knows of the peers that it talks to.
#[derive(Debug)]
pub(super) struct KnownPeers {
    /// `None` in an inbox that judges no peer, as in tests of transports.
    own: Option<Identity>,
    lengths: Option<Lengths>,
    /// The versions of the application that this node understands.
    versions: Option<Versions>,
    /// The timeouts that this node is configured with.
    timeouts: Option<Timeouts>,
    state: Mutex<Knowledge>,
    /// Grows whenever the verdict on a peer may have changed.
    generation: AtomicU64,
}

/// The greatest lengths of messages, by [`Message::size`](crate::Message::size), in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Lengths {
    /// Of the messages that this node sends.
    sends: u64,
    /// Of the messages that this node takes.
    takes: u64,
}

#[derive(Default, Debug)]
struct Knowledge {
    past: Past,
    /// The members of the configuration in force, and what it says of their stores.
    members: BTreeMap<NodeId, MemberStore>,
    /// The entry that brought this configuration.
    members_at: LogId,
    /// Whether that entry is committed.
    is_committed: bool,
    met: BTreeMap<NodeId, Met>,
    refused: BTreeMap<NodeId, (Refusal, Instant)>,
    told: Option<Told>,
}

/// The last introduction of a peer that was let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Met {
    pub(super) store: StoreId,
    /// How many connections that the peer has opened are still open.
    connections: usize,
    pub(super) past: Past,
    /// Where the peer says that it is reached.
    said: Option<String>,
    /// Where this node reached it last.
    reached: Option<String>,
    pub(super) note: Bytes,
    pub(super) versions: Option<Versions>,
    timeouts: Option<Timeouts>,
}

/// Why this node, whose store is empty, takes no part in elections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// The cluster knows another store of this member.
    OtherStore { by: NodeId },
    /// This node is no member of the cluster to which the node `by` belongs.
    NotMember { by: NodeId },
}

impl KnownPeers {
    /// Judges peers on behalf of this node. If there is none, every peer is let in.
    pub(super) fn new(own: Option<Identity>) -> Self {
        let (state, generation) = (Mutex::default(), AtomicU64::new(0));
        Self { own, lengths: None, versions: None, timeouts: None, state, generation }
    }

    /// The same for a node that sends messages of at most `sends` bytes, and whose transport takes
    /// at most `takes` bytes.
    pub(super) fn with_lengths(self, sends: usize, takes: usize) -> Self {
        Self { lengths: Some(Lengths { sends: sends as u64, takes: takes as u64 }), ..self }
    }

    /// The same for a node that understands these versions of the application.
    pub(super) fn with_versions(self, versions: Versions) -> Self {
        Self { versions: Some(versions), ..self }
    }

    /// The same for a node that is configured with these timeouts.
    pub(super) fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts: Some(timeouts), ..self }
    }

    /// The timeouts that this node is configured with; none if it does not say.
    pub(super) fn timeouts(&self) -> Option<Timeouts> {
        self.timeouts
    }

    /// The members that are connected and are configured with other timeouts than this node, and
    /// which. A server that is no member yet does no harm.
    pub(super) fn other_timeouts(&self) -> Vec<(NodeId, Timeouts)> {
        let Some(own) = self.timeouts else { return Vec::new() };
        let state = self.lock();
        let members = state.met.iter().filter(|(id, _)| state.members.contains_key(id));
        let connected = members.filter(|(_, met)| met.connections > 0);
        let said = connected.filter_map(|(id, met)| Some((*id, met.timeouts?)));
        said.filter(|(_, timeouts)| *timeouts != own).collect()
    }

    /// The versions of the application that this node understands; none if it does not say.
    pub(super) fn versions(&self) -> Option<Versions> {
        self.versions
    }

    /// The longest message that this node sends, in bytes; none if it does not say.
    pub(super) fn sends_bytes_max(&self) -> Option<u64> {
        self.lengths.map(|lengths| lengths.sends)
    }

    /// What this node says to the node `to`: its past, whether it knows `to` as a member, and by
    /// which committed entry it is a member with its store. It says nothing about members while it
    /// knows of no identified cluster.
    pub(super) fn introduce(&self, to: NodeId) -> (Past, Option<bool>, Option<LogId>) {
        let state = self.lock();
        let is_identified = matches!(state.past, Past::Begun(_) | Past::Of(_));
        let knows_you = is_identified.then(|| state.members.contains_key(&to));
        let named_at = self.own.and_then(|own| state.named_at(&own));
        (state.past, knows_you, named_at)
    }

    /// As [`MessageInbox::is_behind`](super::MessageInbox::is_behind).
    pub(super) fn is_behind(&self, named_at: Option<LogId>) -> bool {
        self.lock().is_behind(named_at)
    }

    /// Judges a peer, and notes what the peer said. `reached` is the address at which this node
    /// dialed the peer, if it did.
    pub(super) fn admit(&self, peer: &Introduction, reached: Option<&str>) -> Result<(), Refusal> {
        let Some(own) = self.own else { return Ok(()) };
        let mut state = self.lock();
        let mut verdict = state.judge(peer);
        if verdict.is_ok() && reached.is_none() {
            verdict = self.check_length(own.node, peer);
        }
        let is_kept = |kept: usize, known| known || kept < PEERS_KEPT_MAX;
        let Knowledge { met, refused, members, .. } = &mut *state;
        match verdict {
            Ok(()) => {
                refused.remove(&peer.node);
                if is_kept(met.len(), met.contains_key(&peer.node)) {
                    let entry = met.entry(peer.node).or_insert_with(|| Met::of(peer));
                    entry.update(peer, reached);
                    entry.connections += usize::from(reached.is_none());
                }
                let is_member = peer.knows_you.unwrap_or(true);
                if state.past == Past::Blank && !is_member && members_name(&state, own.node) {
                    state.told.get_or_insert(Told::NotMember { by: peer.node });
                }
            }
            Err(refusal) => {
                // Another store with this id belongs to another server, and says nothing about the
                // server that was let in.
                if met.get(&peer.node).is_some_and(|met| met.store == peer.store) {
                    met.remove(&peer.node);
                }
                if refused.len() >= PEERS_KEPT_MAX {
                    // A stranger may use any number of ids.
                    refused.retain(|_, (_, at)| at.elapsed() < REFUSAL_COUNTS_FOR);
                }
                let is_known = members.contains_key(&peer.node) || refused.contains_key(&peer.node);
                if is_kept(refused.len(), is_known) {
                    refused.insert(peer.node, (refusal, Instant::now()));
                }
            }
        }
        verdict
    }

    /// Refuses a dialer that may send longer messages than this node takes (the module doc).
    fn check_length(&self, to: NodeId, peer: &Introduction) -> Result<(), Refusal> {
        let (Some(Lengths { takes, .. }), Some(sends)) = (self.lengths, peer.sends_bytes_max)
        else {
            return Ok(());
        };
        if sends <= takes {
            return Ok(());
        }
        Err(Refusal::LongMessages { from: peer.node, sends, to, takes })
    }

    /// To be called when a connection that the peer had opened has ended.
    pub(super) fn left(&self, peer: &Introduction) {
        if let Some(met) = self.lock().met.get_mut(&peer.node) {
            if met.store == peer.store {
                met.connections = met.connections.saturating_sub(1);
            }
        }
    }

    /// Judges a peer anew, without noting anything.
    pub(super) fn judge(&self, peer: &Introduction) -> Result<(), Refusal> {
        if self.own.is_none() { Ok(()) } else { self.lock().judge(peer) }
    }

    /// To be called when a peer that this node dialed has refused it. If the peer belongs to
    /// another cluster, this node refuses the peer as well.
    pub(super) fn refused_by(&self, by: NodeId, refusal: Refusal) {
        let Some(own) = self.own else { return };
        let mut state = self.lock();
        if let (Past::Of(cluster), Refusal::OtherHistory { cluster: theirs, .. }) =
            (state.past, refusal)
        {
            let is_known = state.members.contains_key(&by) || state.refused.len() < PEERS_KEPT_MAX;
            if cluster != theirs && is_known {
                let refusal = Refusal::OtherHistory { node: by, cluster, its: Some(theirs) };
                state.refused.insert(by, (refusal, Instant::now()));
            }
        }
        if state.past == Past::Blank && refusal == (Refusal::OtherStore { node: own.node }) {
            state.told = Some(Told::OtherStore { by });
        }
    }

    /// Takes what this node's store holds, the configuration in force now, the entry that brought
    /// it, which is [`LogId::ZERO`] if the log has not brought it, and whether that is committed.
    pub(super) fn update(
        &self,
        past: Past,
        membership: &Membership,
        (members_at, is_committed): (LogId, bool),
    ) {
        let store = |member| recorded_store(member).map_or(member.store, MemberStore::Recorded);
        let members = membership.members().iter().map(|member| (member.id, store(member)));
        let members = members.collect();
        let mut state = self.lock();
        if members_at > LogId::ZERO {
            state.told = None;
        }
        let is_known = state.past == past && state.members == members;
        if is_known && (state.members_at, state.is_committed) == (members_at, is_committed) {
            return;
        }
        state.past = past;
        let before = mem::replace(&mut state.members, members);
        (state.members_at, state.is_committed) = (members_at, is_committed);
        let Knowledge { members, met, refused, .. } = &mut *state;
        met.retain(|id, met| met.connections > 0 || members.contains_key(id));
        // A store is refused because another one is recorded. Once that record is gone, as when the
        // member was removed, the id may come back with any store.
        refused.retain(|id, (refusal, _)| {
            !matches!(refusal, Refusal::OtherStore { .. }) || before.get(id) == members.get(id)
        });
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Grows whenever a peer must be judged anew.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Why this node must not take part in an election, if a peer has said so.
    pub(super) fn told(&self) -> Option<Told> {
        self.lock().told
    }

    /// The peers that are connected, and what they said.
    pub(super) fn met(&self) -> Vec<(NodeId, Met)> {
        let state = self.lock();
        let connected = state.met.iter().filter(|(_, met)| met.connections > 0);
        connected.map(|(id, met)| (*id, met.clone())).collect()
    }

    /// The members that this node refuses now, and why.
    pub(super) fn refused(&self) -> Vec<(NodeId, Refusal)> {
        let state = self.lock();
        let fresh = state.refused.iter().filter(|(_, (_, at))| at.elapsed() < REFUSAL_COUNTS_FOR);
        fresh.map(|(id, (refusal, _))| (*id, *refusal)).collect()
    }

    /// Why the server with this id cannot join: this node has met it, and it holds something else
    /// than this cluster's history.
    pub(super) fn cannot_join(&self, id: NodeId) -> Option<Refusal> {
        let state = self.lock();
        let is_connected = state.met.get(&id).is_some_and(|met| met.connections > 0);
        if let Some((refusal, at)) = state.refused.get(&id) {
            let is_history = matches!(refusal, Refusal::OtherHistory { .. });
            if is_history && !is_connected && at.elapsed() < REFUSAL_COUNTS_FOR {
                return Some(*refusal);
            }
        }
        let Past::Of(cluster) = state.past else { return None };
        other_history(cluster, MemberStore::New, id, state.met.get(&id)?.past)
    }

    fn lock(&self) -> MutexGuard<'_, Knowledge> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Met {
    fn of(peer: &Introduction) -> Self {
        let Introduction { store, past, .. } = *peer;
        Self {
            store,
            connections: 0,
            past,
            said: None,
            reached: None,
            note: Bytes::new(),
            versions: None,
            timeouts: None,
        }
    }

    fn update(&mut self, peer: &Introduction, reached: Option<&str>) {
        if self.store != peer.store {
            *self = Self::of(peer);
        }
        self.past = peer.past;
        self.timeouts = peer.timeouts;
        // Only a peer that dials says its versions, and it may have come back as an older program.
        if reached.is_none() {
            self.versions = peer.versions;
        }
        if let Some(said) = &peer.address {
            self.said = Some(said.clone());
        }
        if let Some(reached) = reached {
            self.reached = Some(String::from(reached));
        }
        if !peer.note.is_empty() {
            self.note = peer.note.clone();
        }
    }

    /// The peer's address, if it is certain: the peer says so itself, and this node reached it
    /// there.
    pub(super) fn address(&self) -> Option<&str> {
        let said = self.said.as_deref()?;
        (self.reached.as_deref() == Some(said)).then_some(said)
    }
}

impl Knowledge {
    /// The committed entry that names this node with its store.
    fn named_at(&self, own: &Identity) -> Option<LogId> {
        let is_own = match self.members.get(&own.node)? {
            MemberStore::Recorded(store) => *store == own.store_id.get(),
            MemberStore::Unrecorded | MemberStore::New => true,
        };
        (is_own && self.is_committed && self.members_at > LogId::ZERO).then_some(self.members_at)
    }

    fn is_behind(&self, named_at: Option<LogId>) -> bool {
        named_at.is_some_and(|at| at > self.members_at)
    }

    fn judge(&self, peer: &Introduction) -> Result<(), Refusal> {
        let member = self.members.get(&peer.node).copied();
        if let Some(MemberStore::Recorded(store)) = member {
            if store != peer.store.get() && !self.is_behind(peer.named_at) {
                return Err(Refusal::OtherStore { node: peer.node });
            }
        }
        let Past::Of(cluster) = self.past else { return Ok(()) };
        let verdict = match member {
            Some(store) => other_history(cluster, store, peer.node, peer.past),
            // The peer may be a server whose addition this node has not yet heard of, or a
            // server that was removed.
            None if peer.past == Past::Unnamed => None,
            None => other_history(cluster, MemberStore::New, peer.node, peer.past),
        };
        verdict.map_or(Ok(()), Err)
    }
}

fn members_name(state: &Knowledge, node: NodeId) -> bool {
    state.members.contains_key(&node)
}

/// Why a node of that cluster refuses a server with this past, if it does. The server is known to
/// have the store that `store` describes.
fn other_history(
    cluster: ClusterIdentity,
    store: MemberStore,
    node: NodeId,
    past: Past,
) -> Option<Refusal> {
    let is_new = store == MemberStore::New;
    let its = match past {
        Past::Unknown | Past::Blank => return None,
        Past::Unnamed if is_new => None,
        Past::Unnamed => return None,
        Past::Begun(its) | Past::Of(its) if its == cluster => return None,
        Past::Begun(its) if is_new => Some(its),
        Past::Begun(_) => return None,
        Past::Of(its) => Some(its),
    };
    Some(Refusal::OtherHistory { node, cluster, its })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::host::identity::ClusterId;
    use crate::membership::{Member, Suffrage};
    use crate::types::{Index, Term};

    const ME: NodeId = NodeId::new(1);
    /// Where the configuration is.
    const AT: (LogId, bool) = (LogId::new(Term::new(2), Index::new(5)), true);
    const NOWHERE: (LogId, bool) = (LogId::ZERO, false);
    /// The next entry.
    const LATER: (LogId, bool) = (LogId::new(Term::new(2), Index::new(6)), true);
    const OURS: ClusterIdentity = ClusterIdentity::new(7);
    const OTHER: ClusterIdentity = ClusterIdentity::new(8);

    fn peer(number: u64, store: u64, past: Past) -> Introduction {
        Introduction { past, ..Introduction::new(NodeId::new(number), StoreId::new(store)) }
    }

    fn membership(members: &[(u64, MemberStore)]) -> Membership {
        let member = |(id, store): &(u64, MemberStore)| Member {
            id: NodeId::new(*id),
            suffrage: Suffrage::Voter,
            priority: 0,
            label: Vec::new(),
            store: *store,
        };
        Membership::of_members(members.iter().map(member)).unwrap()
    }

    /// Node 1 of a cluster in which 2 is from the beginning, 3 was added and the store of 4 is
    /// recorded.
    fn peers(past: Past) -> KnownPeers {
        let cluster = ClusterId::new(1);
        let store_id = StoreId::new(1);
        let peers = KnownPeers::new(Some(Identity { cluster, node: ME, store_id }));
        let members = [
            (1, MemberStore::Recorded(1)),
            (2, MemberStore::Unrecorded),
            (3, MemberStore::New),
            (4, MemberStore::Recorded(4)),
        ];
        peers.update(past, &membership(&members), if past == Past::Blank { NOWHERE } else { AT });
        peers
    }

    #[test]
    fn a_store_joins_only_if_it_is_empty_or_of_this_cluster() {
        let other = |node, its| Err(Refusal::OtherHistory { node, cluster: OURS, its });
        for (past, from_the_beginning, added, recorded, unknown) in [
            (Past::Unknown, true, true, true, true),
            (Past::Blank, true, true, true, true),
            (Past::Of(OURS), true, true, true, true),
            (Past::Begun(OURS), true, true, true, true),
            (Past::Unnamed, true, false, true, true),
            (Past::Begun(OTHER), true, false, true, false),
            (Past::Of(OTHER), false, false, false, false),
        ] {
            let its = match past {
                Past::Begun(its) | Past::Of(its) => Some(its),
                Past::Unknown | Past::Blank | Past::Unnamed => None,
            };
            let expected = [(2, from_the_beginning), (3, added), (4, recorded), (9, unknown)];
            for (number, is_let_in) in expected {
                let node = NodeId::new(number);
                let verdict = if is_let_in { Ok(()) } else { other(node, its) };
                let ours = peers(Past::Of(OURS));
                assert_eq!(
                    ours.admit(&peer(number, number, past), None),
                    verdict,
                    "{node} {past:?}"
                );
                assert_eq!(ours.refused().len(), usize::from(!is_let_in));
                let unsure = peers(Past::Begun(OURS));
                assert_eq!(unsure.admit(&peer(number, number, past), None), Ok(()));
            }
        }
    }

    #[test]
    fn strangers_that_were_refused_long_ago_hide_no_other() {
        let ours = peers(Past::Of(OURS));
        let stranger = |number: u64| peer(number, number, Past::Of(OTHER));
        for number in 0..PEERS_KEPT_MAX as u64 {
            ours.admit(&stranger(100 + number), None).unwrap_err();
        }
        for (_, at) in ours.lock().refused.values_mut() {
            *at = at.checked_sub(REFUSAL_COUNTS_FOR).unwrap();
        }
        ours.admit(&stranger(99), None).unwrap_err();
        assert!(ours.cannot_join(NodeId::new(99)).is_some());
    }

    #[test]
    fn a_refused_store_changes_nothing_about_the_one_that_was_let_in() {
        let peers = peers(Past::Unnamed);
        let four = peer(4, 4, Past::Blank);
        assert_eq!(peers.admit(&four, None), Ok(()));
        let known = peers.met();
        assert_eq!(known.len(), 1);
        let impostor = peer(4, 5, Past::Blank);
        let refusal = Refusal::OtherStore { node: NodeId::new(4) };
        assert_eq!(peers.admit(&impostor, None), Err(refusal));
        assert_eq!(peers.refused(), [(NodeId::new(4), refusal)]);
        assert_eq!(peers.met(), known, "the genuine member is still connected");
        peers.left(&impostor);
        assert_eq!(peers.met(), known);
        assert_eq!(peers.admit(&four, None), Ok(()));
        assert!(peers.refused().is_empty());
        for _ in 0..2 {
            peers.left(&four);
        }
        assert!(peers.met().is_empty(), "only those that are connected");
    }

    /// Else a member that lost its disk and was removed could not be added again at once.
    #[test]
    fn a_refusal_ends_with_the_record_that_it_rests_on() {
        let peers = peers(Past::Of(OURS));
        peers.admit(&peer(4, 5, Past::Blank), None).unwrap_err();
        let two = (2, MemberStore::Recorded(2));
        peers.update(Past::Of(OURS), &membership(&[two, (4, MemberStore::Recorded(4))]), LATER);
        assert_eq!(peers.refused().len(), 1, "the cluster still knows the other store");
        peers.update(Past::Of(OURS), &membership(&[two]), LATER);
        assert_eq!(peers.refused(), [], "it was removed");
    }

    #[test]
    fn a_store_that_is_refused_is_no_longer_known() {
        let peers = peers(Past::Of(OURS));
        assert_eq!(peers.admit(&peer(9, 9, Past::Blank), None), Ok(()));
        assert!(peers.admit(&peer(9, 9, Past::Of(OTHER)), None).is_err());
        assert!(peers.met().is_empty());
    }

    #[test]
    fn a_server_that_is_connected_can_join_whatever_an_impostor_says() {
        let ours = peers(Past::Of(OURS));
        let nine = NodeId::new(9);
        assert_eq!(ours.admit(&peer(9, 9, Past::Blank), None), Ok(()));
        assert!(ours.admit(&peer(9, 8, Past::Of(OTHER)), None).is_err());
        assert_eq!(ours.cannot_join(nine), None);
        ours.left(&peer(9, 9, Past::Blank));
        assert!(ours.cannot_join(nine).is_some());
    }

    #[test]
    fn a_dialer_that_may_send_longer_messages_than_this_node_takes_is_refused() {
        let peers = peers(Past::Unnamed).with_lengths(10, 20);
        assert_eq!(peers.sends_bytes_max(), Some(10));
        let from = NodeId::new(2);
        let sends = 21;
        let says = |sends| Introduction { sends_bytes_max: sends, ..peer(2, 2, Past::Blank) };
        for let_in in [None, Some(0), Some(20)] {
            assert_eq!(peers.admit(&says(let_in), None), Ok(()));
        }
        let refusal = Refusal::LongMessages { from, sends, to: ME, takes: 20 };
        assert_eq!(peers.admit(&says(Some(sends)), None), Err(refusal));
        assert_eq!(peers.refused(), [(from, refusal)]);
        assert_eq!(peers.admit(&says(Some(sends)), Some("b:1")), Ok(()), "it takes, and may");
    }

    #[test]
    fn a_connected_member_with_other_timeouts_is_found_for_as_long_as_it_has_them() {
        let own = Timeouts::of(&Config::new(ME, [ME]));
        let peers = peers(Past::Unnamed).with_timeouts(own);
        let other = Timeouts { heartbeat_interval: own.heartbeat_interval / 2, ..own };
        let says =
            |number, timeouts| Introduction { timeouts, ..peer(number, number, Past::Blank) };
        for (number, timeouts) in [(2, Some(other)), (3, Some(own)), (4, None), (9, Some(other))] {
            assert_eq!(peers.admit(&says(number, timeouts), None), Ok(()));
        }
        assert_eq!(peers.other_timeouts(), [(NodeId::new(2), other)], "9 is no member");
        peers.left(&says(2, Some(other)));
        assert_eq!(peers.other_timeouts(), [], "it is not connected");
        assert_eq!(peers.admit(&says(2, Some(other)), None), Ok(()));
        assert_eq!(peers.other_timeouts().len(), 1);
        assert_eq!(peers.admit(&says(2, Some(own)), None), Ok(()));
        assert_eq!(peers.other_timeouts(), [], "it was restarted with the same");
    }

    /// Else a node that was away would refuse the only leader it has.
    #[test]
    fn another_store_is_let_in_if_it_is_named_later_than_this_node_knows() {
        let peers = peers(Past::Of(OURS));
        let named = |at| Introduction { named_at: Some(at), ..peer(4, 5, Past::Of(OURS)) };
        let refusal = Err(Refusal::OtherStore { node: NodeId::new(4) });
        assert_eq!(peers.admit(&named(AT.0), None), refusal);
        assert_eq!(peers.admit(&named(LATER.0), None), Ok(()));
        let members = membership(&[(1, MemberStore::Recorded(1)), (4, MemberStore::Recorded(4))]);
        peers.update(Past::Of(OURS), &members, LATER);
        assert_eq!(peers.judge(&named(LATER.0)), refusal, "this node knows as much by now");
    }

    #[test]
    fn a_node_says_where_it_is_named_with_its_store() {
        let says = |past| peers(past).introduce(NodeId::new(2)).2;
        assert_eq!([says(Past::Blank), says(Past::Of(OURS))], [None, Some(AT.0)]);
        let peers = peers(Past::Of(OURS));
        peers.update(Past::Of(OURS), &membership(&[(1, MemberStore::Recorded(9))]), AT);
        assert_eq!(peers.introduce(NodeId::new(2)).2, None, "another store is named");
        peers.update(Past::Of(OURS), &membership(&[(2, MemberStore::New)]), AT);
        assert_eq!(peers.introduce(NodeId::new(2)).2, None, "it is no member");
        let own = membership(&[(1, MemberStore::Recorded(1))]);
        peers.update(Past::Of(OURS), &own, (AT.0, false));
        assert_eq!(peers.introduce(NodeId::new(2)).2, None, "that may be taken back");
    }

    #[test]
    fn a_change_of_what_is_known_is_a_new_generation() {
        let peers = peers(Past::Unnamed);
        let before = peers.generation();
        let nine = peer(9, 9, Past::Of(OTHER));
        assert_eq!(peers.judge(&nine), Ok(()));
        let members = membership(&[(1, MemberStore::Unrecorded)]);
        peers.update(Past::Of(OURS), &members, AT);
        assert!(peers.generation() > before);
        assert!(peers.judge(&nine).is_err());
        let before = peers.generation();
        peers.update(Past::Of(OURS), &members, AT);
        assert_eq!(peers.generation(), before);
    }

    #[test]
    fn only_an_empty_store_obeys_what_peers_say_of_it() {
        let refusal = Refusal::OtherStore { node: ME };
        let by = NodeId::new(4);
        let stranger = Introduction { knows_you: Some(false), ..peer(4, 4, Past::Of(OTHER)) };
        for past in [Past::Unnamed, Past::Begun(OURS), Past::Of(OURS)] {
            let peers = peers(past);
            peers.refused_by(by, refusal);
            let _ = peers.admit(&stranger, None);
            assert_eq!(peers.told(), None, "{past:?}");
        }
        let blank = peers(Past::Blank);
        blank.refused_by(by, Refusal::OtherStore { node: by });
        assert_eq!(blank.told(), None, "it is about another");
        blank.refused_by(by, refusal);
        assert_eq!(blank.told(), Some(Told::OtherStore { by }));
        blank.update(Past::Unnamed, &membership(&[(1, MemberStore::New)]), AT);
        assert_eq!(blank.told(), None, "the log has brought a configuration");

        let blank = peers(Past::Blank);
        assert_eq!(blank.admit(&stranger, None), Ok(()));
        assert_eq!(blank.told(), Some(Told::NotMember { by }));
    }

    /// Also right after a restart, when what the log holds is not known to be committed:
    /// introductions are not repeated.
    #[test]
    fn a_node_of_an_identified_cluster_says_who_is_a_member() {
        for (past, says) in [
            (Past::Blank, false),
            (Past::Unnamed, false),
            (Past::Begun(OURS), true),
            (Past::Of(OURS), true),
        ] {
            let knows = |number| peers(past).introduce(NodeId::new(number)).1;
            assert_eq!((knows(4), knows(9)), (says.then_some(true), says.then_some(false)));
        }
    }

    #[test]
    fn a_node_of_another_cluster_that_refuses_is_refused() {
        let ours = peers(Past::Of(OURS));
        let three = NodeId::new(3);
        ours.refused_by(three, Refusal::OtherHistory { node: ME, cluster: OTHER, its: Some(OURS) });
        let refusal = Refusal::OtherHistory { node: three, cluster: OURS, its: Some(OTHER) };
        assert_eq!(ours.refused(), [(three, refusal)]);
    }

    #[test]
    fn a_server_that_holds_another_history_cannot_join() {
        let ours = peers(Past::Of(OURS));
        let nine = NodeId::new(9);
        assert_eq!(ours.cannot_join(nine), None, "it was not met");
        let other = |its| Some(Refusal::OtherHistory { node: nine, cluster: OURS, its });
        assert_eq!(ours.admit(&peer(9, 9, Past::Unnamed), None), Ok(()));
        assert_eq!(ours.cannot_join(nine), other(None));
        assert!(ours.admit(&peer(9, 9, Past::Of(OTHER)), None).is_err());
        assert_eq!(ours.cannot_join(nine), other(Some(OTHER)));
        assert_eq!(ours.admit(&peer(9, 9, Past::Blank), None), Ok(()));
        assert_eq!(ours.cannot_join(nine), None);
    }
}
