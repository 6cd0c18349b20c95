//! Notices servers whose states differ at one index, because a disk went back in time or a state
//! machine is not deterministic.
//!
//! Servers that have applied the same entries have the same state (State Machine Safety, Figure 3),
//! unless a disk or a state machine breaks what Raft relies on. So each server keeps the newest
//! [`KEPT_MAX`] [digests](crate::host::StateMachine::digest) of its state. It takes a digest
//!
//! - after every entry whose index is a multiple of [`DIGEST_INTERVAL`], so that all servers have
//!   these digests;
//! - after the last entry of each batch that it applies. If writes are few, servers have most of
//!   these digests in common, and if writes pause, the last one.
//!
//! A follower tells its leader a new digest at most once in each heartbeat round, in an
//! AppendEntries reply that it sends anyway. The leader compares the digest as soon as it has
//! applied the same entry itself. If the two differ, the leader tells the follower its own digest
//! in return, so that both logs say so. It does so in a reply of term 0, which Raft ignores as
//! stale, in older versions, too.
//!
//! No server knows which of the two states is right, so nothing is stopped or repaired. An install
//! forgets the digests, because the state that it replaces no longer matters: a digest of an entry
//! at or below the restored snapshot is never compared.

use std::collections::{BTreeMap, VecDeque};
use std::format;
use std::sync::{Arc, PoisonError};
use std::vec::Vec;

use bytes::Bytes;

use crate::host::sync::atomic::{AtomicU64, Ordering};
use crate::host::sync::{Mutex, MutexGuard};
use crate::membership::Membership;
use crate::message::{AppendEntriesReply, AppendResult, Body, Message, StateDigest};
use crate::types::{Index, NodeId, Round, Session, Term};

/// A digest is taken after each entry whose index is a multiple of this number, among others.
pub const DIGEST_INTERVAL: u64 = 256;

/// The most digests that a server keeps, 8 KiB of them. If a follower has applied less than its
/// leader's oldest digest, it is not compared until it has caught up.
const KEPT_MAX: usize = 512;

/// Two servers' states differ after the same entry.
///
/// One of the two has an older copy of its disk, or its state machine is not deterministic. The
/// other members show which one: the [guide](crate::guide::operation#states-that-differ) has the
/// way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StateDifference {
    /// The other server.
    pub peer: NodeId,
    /// The last entry that both states include.
    pub index: Index,
    /// The digest of this server's state.
    pub own: u64,
    /// The digest of the other server's state.
    pub theirs: u64,
}

/// The digests of a server's own states. The state machine adds them, and the loop reads them.
#[derive(Default)]
pub(super) struct OwnDigests {
    kept: Mutex<VecDeque<StateDigest>>,
    /// The index of the newest digest, or 0. The loop reads it without the lock.
    newest: AtomicU64,
}

impl OwnDigests {
    /// Whether all servers take a digest after this entry.
    pub(super) fn is_common(index: Index) -> bool {
        index.get() % DIGEST_INTERVAL == 0
    }

    /// Adds the digest of the state after an entry that is later than all before.
    pub(super) fn add(&self, state: StateDigest) {
        let mut kept = self.lock();
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(state);
        self.newest.store(state.index.get(), Ordering::Relaxed);
    }

    /// Forgets all digests, because the state is replaced.
    pub(super) fn clear(&self) {
        self.lock().clear();
        self.newest.store(0, Ordering::Relaxed);
    }

    fn newest_index(&self) -> Index {
        Index::new(self.newest.load(Ordering::Relaxed))
    }

    /// The digest to tell a leader that knows the digest after the entry `known`: the newest digest
    /// that all servers take if that is later than `known`, and otherwise the newest.
    fn newer_than(&self, known: Index) -> Option<StateDigest> {
        let kept = self.lock();
        let mut newer = kept.iter().rev().take_while(|state| state.index > known);
        let newest = newer.next()?;
        let mut common = core::iter::once(newest).chain(newer);
        common.find(|state| Self::is_common(state.index)).or(Some(newest)).copied()
    }

    fn at(&self, index: Index) -> Option<u64> {
        let kept = self.lock();
        let place = kept.binary_search_by_key(&index, |state| state.index).ok()?;
        kept.get(place).map(|state| state.digest)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<StateDigest>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a node's loop knows of its own states and of the other servers' states.
pub(super) struct Comparison {
    node: NodeId,
    own: Arc<OwnDigests>,
    told: Told,
    /// The newest own digest when the waiting digests were last compared.
    looked_at: Index,
    peers: BTreeMap<NodeId, Peer>,
    compared: u64,
}

/// What this node told its leader last.
struct Told {
    /// The term belongs to it, because a leader of another term may have lost its disk since.
    leader: (Term, NodeId),
    round: Option<Round>,
    index: Index,
}

#[derive(Default)]
struct Peer {
    /// The digest that is compared when this server has applied the same entry. If there are
    /// several, the first stays, because a slow state machine would never reach the last.
    waiting: Option<StateDigest>,
    difference: Option<StateDifference>,
}

impl Comparison {
    pub(super) fn new(node: NodeId, own: Arc<OwnDigests>) -> Self {
        Self {
            node,
            own,
            told: Told { leader: (Term::ZERO, node), round: None, index: Index::ZERO },
            looked_at: Index::ZERO,
            peers: BTreeMap::new(),
            compared: 0,
        }
    }

    /// Adds an own digest to an answer to a leader that does not know it yet. If the answer is
    /// lost, it is not said again: the next digest follows.
    pub(super) fn tell(&mut self, message: &mut Message<Bytes>) {
        let Body::AppendEntriesReply(reply) = &mut message.body else { return };
        let newest = self.own.newest_index();
        if newest == Index::ZERO {
            return;
        }
        let leader = (message.term, message.to);
        if leader != self.told.leader {
            self.told = Told { leader, round: None, index: Index::ZERO };
        }
        if newest > self.told.index && self.told.round != Some(reply.round) {
            reply.state = self.own.newer_than(self.told.index);
            if let Some(state) = reply.state {
                self.told = Told { leader, round: Some(reply.round), index: state.index };
            }
        }
    }

    /// Takes the digest that a message brings of its sender's state, and returns the answer if the
    /// states differ.
    pub(super) fn hear(
        &mut self,
        message: &Message<Bytes>,
        membership: &Membership,
    ) -> Option<Message<Bytes>> {
        let Body::AppendEntriesReply(AppendEntriesReply { state: Some(state), .. }) = &message.body
        else {
            return None;
        };
        let from = message.from;
        // A server that is no member costs no memory.
        membership.member(from)?;
        if self.own.newest_index() >= state.index {
            let answer = self.compare(from, *state);
            // A message that is itself such an answer is not answered.
            return if message.term > Term::ZERO { answer } else { None };
        }
        if message.term > Term::ZERO {
            let waiting = &mut self.peers.entry(from).or_default().waiting;
            if waiting.is_none_or(|first| state.index <= first.index) {
                *waiting = Some(*state);
            }
        }
        None
    }

    /// Compares the digests that waited for this server's own state machine, and returns the
    /// answers to the servers whose states differ.
    pub(super) fn look(&mut self) -> Vec<Message<Bytes>> {
        let newest = self.own.newest_index();
        if newest == self.looked_at {
            return Vec::new();
        }
        self.looked_at = newest;
        let mut due = Vec::new();
        for (id, peer) in &mut self.peers {
            if let Some(state) = peer.waiting.take_if(|state| state.index <= newest) {
                due.push((*id, state));
            }
        }
        due.into_iter().filter_map(|(id, state)| self.compare(id, state)).collect()
    }

    /// Forgets servers that are no longer members.
    pub(super) fn members(&mut self, membership: &Membership) {
        self.peers.retain(|id, _| membership.member(*id).is_some());
    }

    /// The servers whose states differ from this server's, as far as it knows.
    pub(super) fn differences(&self) -> Vec<StateDifference> {
        self.peers.values().filter_map(|peer| peer.difference).collect()
    }

    /// How many digests were compared.
    pub(super) fn compared(&self) -> u64 {
        self.compared
    }

    fn compare(&mut self, from: NodeId, state: StateDigest) -> Option<Message<Bytes>> {
        let StateDigest { index, digest: theirs } = state;
        let own = self.own.at(index)?;
        self.compared += 1;
        let known = &mut self.peers.entry(from).or_default().difference;
        let node = self.node;
        let peer = from;
        if own == theirs {
            if known.take().is_some() {
                let node = node.get();
                let peer = peer.get();
                let index = index.get();
                tracing::info!(node, peer, index, "the states of two servers are the same again");
            }
            return None;
        }
        if known.replace(StateDifference { peer, index, own, theirs }).is_none() {
            let (own, theirs) = (format!("{own:016x}"), format!("{theirs:016x}"));
            let node = node.get();
            let peer = peer.get();
            let index = index.get();
            tracing::error!(
                node,
                peer,
                index,
                own,
                theirs,
                "the states of this server and of a peer differ after the same entry: one of them \
                 has an older copy of its disk, or its state machine is not deterministic; keep \
                 copies of the disks, compare both with the other members, then remove the odd one \
                 out and add it again with an empty store"
            );
        }
        let (session, round) = (Session::new(0), Round::new(0));
        let result = AppendResult::Matched(Index::ZERO);
        let promise_micros = 0;
        let state = Some(StateDigest { index, digest: own });
        let reply = AppendEntriesReply { session, round, result, promise_micros, state };
        let body = Body::AppendEntriesReply(reply);
        Some(Message { from: node, to: from, term: Term::ZERO, body })
    }
}

#[cfg(test)]
mod tests;
