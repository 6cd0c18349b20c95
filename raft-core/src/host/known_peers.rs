//! Which peers a node lets speak to it: the check of identities, the same on every transport.
//!
//! Before the first message each of two nodes introduces itself to the other. A message reaches the core only from a peer
//! whose introduction this node accepts, because a [`PeerInbox`](super::PeerInbox) is the only way in. The rules, where
//! "this cluster" is one whose identity this node knows for certain:
//!
//! | the peer's store | what this node does |
//! |---|---|
//! | is not the one recorded for the member | refuses it: [`Refusal::OtherStore`] |
//! | holds the history of another cluster, for certain | refuses it: [`Refusal::OtherHistory`] |
//! | holds another history that may not be committed | lets it in only as a member from the beginning, or with the recorded store |
//! | holds a history without an identity | refuses it as a member that was [added](MemberStore::New), else lets it in |
//! | is empty, or of this cluster | lets it in |
//!
//! An identity that may not be committed proves little: a first leader that dies early may hold an identity that its
//! cluster never took. Such a server must find its way back.
//!
//! The rules are applied again whenever this node's identity or its configuration changes.
//!
//! A node with an empty store obeys what its peers say of it. If a peer refuses it because the cluster knows another store of
//! that member, or says that the node is no member of the peer's cluster, it neither votes nor stands for election until its
//! log brings a configuration of an identified cluster. Otherwise two wiped voters of three would found a second cluster.

use std::collections::BTreeMap;
use std::string::String;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;

use super::handshake::Refusal;
use super::identity::{Identity, Incarnation, Introduction, Past};
use super::incarnations::recorded_store;
use crate::identity::{ClusterIdentity, MemberStore};
use crate::membership::Membership;
use crate::quorum::MEMBERS_MAX;
use crate::types::NodeId;

/// The most peers of which anything is kept.
const PEERS_KEPT_MAX: usize = 2 * MEMBERS_MAX;

/// How long a refusal counts as present. A peer that is refused tries again within seconds.
const REFUSAL_COUNTS_FOR: Duration = Duration::from_secs(10);

/// What a node knows of the peers that it talks to.
#[derive(Debug)]
pub(super) struct KnownPeers {
    /// None in an inbox that judges nobody, as in tests of transports.
    own: Option<Identity>,
    state: Mutex<State>,
    /// Grows whenever a verdict may have changed.
    generation: AtomicU64,
}

#[derive(Default, Debug)]
struct State {
    past: Past,
    /// The members of the configuration in force, and what it says of their stores.
    members: BTreeMap<NodeId, MemberStore>,
    met: BTreeMap<NodeId, Met>,
    refused: BTreeMap<NodeId, (Refusal, Instant)>,
    told: Option<Told>,
}

/// What a peer that was let in said of itself last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Met {
    pub(super) store: Incarnation,
    /// How many connections the peer has opened that still stand.
    connections: usize,
    past: Past,
    /// Where the peer says that it is reached.
    said: Option<String>,
    /// Where this node reached it last.
    reached: Option<String>,
    pub(super) note: Bytes,
}

/// Why this node, whose store is empty, must not take part in an election.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// The cluster knows another store of this member.
    OtherStore { by: NodeId },
    /// This node is no member of the cluster to which that node belongs.
    NotMember { by: NodeId },
}

impl KnownPeers {
    /// Judges peers for this node, or nobody if there is none.
    pub(super) fn new(own: Option<Identity>) -> Self {
        Self { own, state: Mutex::default(), generation: AtomicU64::new(0) }
    }

    /// What this node says to that one: its past, and whether it knows that node as a member. Nothing about members while it
    /// knows of no identified cluster.
    pub(super) fn introduce(&self, to: NodeId) -> (Past, Option<bool>) {
        let state = self.lock();
        let knows_you = matches!(state.past, Past::Of(_)).then(|| state.members.contains_key(&to));
        (state.past, knows_you)
    }

    /// Judges a peer, and notes what it said. `reached` is where this node dialed it, if it did.
    pub(super) fn admit(
        &self,
        peer: &Introduction,
        reached: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some(own) = self.own else { return Ok(()) };
        let mut state = self.lock();
        let verdict = state.judge(peer);
        let is_kept = |kept: usize, known| known || kept < PEERS_KEPT_MAX;
        let State { met, refused, members, .. } = &mut *state;
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
                // What was noted of an admissible store with this id is out of date.
                met.remove(&peer.node);
                let is_known = members.contains_key(&peer.node) || refused.contains_key(&peer.node);
                if is_kept(refused.len(), is_known) {
                    refused.insert(peer.node, (refusal, Instant::now()));
                }
            }
        }
        verdict
    }

    /// A connection that the peer had opened has ended.
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

    /// A peer that this node dialed has refused it.
    pub(super) fn refused_by(&self, by: NodeId, refusal: Refusal) {
        let Some(own) = self.own else { return };
        let mut state = self.lock();
        if state.past == Past::Blank && refusal == (Refusal::OtherStore { node: own.node }) {
            state.told = Some(Told::OtherStore { by });
        }
    }

    /// Takes what this node holds and which configuration is in force now.
    pub(super) fn update(&self, past: Past, membership: &Membership) {
        let store = |member| recorded_store(member).map_or(member.store, MemberStore::Recorded);
        let members = membership.members().iter().map(|member| (member.id, store(member)));
        let members = members.collect();
        let mut state = self.lock();
        if state.past == past && state.members == members {
            return;
        }
        (state.past, state.members) = (past, members);
        let State { members, met, .. } = &mut *state;
        met.retain(|id, met| met.connections > 0 || members.contains_key(id));
        if past != Past::Blank {
            state.told = None;
        }
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

    /// Why the server of that id cannot join, if it was met and holds something else than this cluster's history.
    pub(super) fn cannot_join(&self, id: NodeId) -> Option<Refusal> {
        let state = self.lock();
        if let Some((refusal, at)) = state.refused.get(&id) {
            let is_history = matches!(refusal, Refusal::OtherHistory { .. });
            if is_history && at.elapsed() < REFUSAL_COUNTS_FOR {
                return Some(*refusal);
            }
        }
        let Past::Of(cluster) = state.past else { return None };
        other_history(cluster, MemberStore::New, id, state.met.get(&id)?.past)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Met {
    fn of(peer: &Introduction) -> Self {
        let Introduction { store, past, .. } = *peer;
        Self { store, connections: 0, past, said: None, reached: None, note: Bytes::new() }
    }

    fn update(&mut self, peer: &Introduction, reached: Option<&str>) {
        if self.store != peer.store {
            *self = Self::of(peer);
        }
        self.past = peer.past;
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

    /// Where the peer is for certain: it says so itself, and was reached there.
    pub(super) fn address(&self) -> Option<&str> {
        let said = self.said.as_deref()?;
        (self.reached.as_deref() == Some(said)).then_some(said)
    }
}

impl State {
    fn judge(&self, peer: &Introduction) -> Result<(), Refusal> {
        let member = self.members.get(&peer.node).copied();
        if let Some(MemberStore::Recorded(store)) = member {
            if store != peer.store.get() {
                return Err(Refusal::OtherStore { node: peer.node });
            }
        }
        let Past::Of(cluster) = self.past else { return Ok(()) };
        let verdict = match member {
            Some(store) => other_history(cluster, store, peer.node, peer.past),
            // It may be a server whose addition this node has yet to learn of, or one that was removed.
            None if peer.past == Past::Unnamed => None,
            None => other_history(cluster, MemberStore::New, peer.node, peer.past),
        };
        verdict.map_or(Ok(()), Err)
    }
}

fn members_name(state: &State, node: NodeId) -> bool {
    state.members.contains_key(&node)
}

/// Whether a server with this past is refused by a node of that cluster. What counts as its store is known to be its own.
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
