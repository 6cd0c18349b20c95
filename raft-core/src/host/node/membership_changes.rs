//! Changes of membership that were asked for (§6): each waits until it can be begun, and then until
//! it is complete.
//!
//! ```text
//! asked ──► tried each turn ────────► appended ──► committed, and its joint configuration left
//!           while another one is under way,
//!           or its learner catches up
//! ```
//!
//! All that wait are tried in their order, and one that waits for its learner lets others pass: the
//! removal of that learner, for one.

use std::collections::VecDeque;
use std::mem;
use std::vec::Vec;

use bytes::Bytes;
use rand_pcg::Pcg32;

use super::inbox::ChangeReply;
use crate::change::Change;
use crate::error::ChangeRefused;
use crate::host::error::{ChangeError, Stopped};
use crate::host::known_peers::KnownPeers;
use crate::host::threads::panics::answer;
use crate::raft::Raft;
use crate::role::Role;
use crate::types::{Index, Term};

/// The most changes that wait; more are refused as busy.
const CHANGES_WAITING_MAX: usize = 64;

/// Everyone who waits for a change.
#[derive(Default)]
pub(super) struct Changes {
    waiting: VecDeque<WaitingChange>,
}

struct WaitingChange {
    changes: Vec<Change>,
    reply: ChangeReply,
    /// Where its first configuration is in the log, once it is.
    begun: Option<(Term, Index)>,
}

impl Changes {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes a change, to be begun with the next [`Changes::advance`].
    pub(super) fn push(&mut self, changes: Vec<Change>, reply: ChangeReply) {
        if self.waiting.len() >= CHANGES_WAITING_MAX {
            return answer(reply, Err(ChangeError::Busy));
        }
        self.waiting.push_back(WaitingChange { changes, reply, begun: None });
    }

    /// Begins what can be begun, and answers for what is complete or lost. Returns whether anything
    /// was begun.
    pub(super) fn advance(&mut self, raft: &mut Raft<Bytes, Pcg32>, peers: &KnownPeers) -> bool {
        let mut any_begun = false;
        for mut waiting in mem::take(&mut self.waiting) {
            let done = match waiting.begun {
                Some((term, index)) => outcome(raft, term, index),
                // Who no longer waits has taken the change back.
                None if waiting.reply.is_closed() => continue,
                None => match begin(raft, peers, &waiting.changes) {
                    Ok(begun) => {
                        any_begun |= begun.is_some();
                        waiting.begun = begun;
                        None
                    }
                    Err(error) => Some(Err(error)),
                },
            };
            match done {
                None => self.waiting.push_back(waiting),
                Some(Ok(())) => answer(waiting.reply, Ok(raft.membership().clone())),
                Some(Err(error)) => answer(waiting.reply, Err(error)),
            }
        }
        any_begun
    }

    /// Tells everyone that the node has stopped.
    pub(super) fn stop(&mut self, stopped: &Stopped) {
        for WaitingChange { reply, begun, .. } in self.waiting.drain(..) {
            let reason = stopped.reason.clone();
            let may_take_effect = begun.is_some();
            answer(reply, Err(ChangeError::Stopped { reason, may_take_effect }));
        }
    }
}

/// Where the change begins in the log; none if it has to wait.
fn begin(
    raft: &mut Raft<Bytes, Pcg32>,
    peers: &KnownPeers,
    changes: &[Change],
) -> Result<Option<(Term, Index)>, ChangeError> {
    if raft.role() == Role::Leader {
        check_joining(raft, peers, changes)?;
    }
    match raft.change_membership(changes) {
        Ok(begun) => Ok(Some(begun)),
        Err(ChangeRefused::NotCaughtUp { id }) => {
            // A learner that this node refuses never catches up.
            match peers.refused().into_iter().find(|(refused, _)| *refused == id) {
                Some((id, refusal)) => Err(ChangeError::Refused { id, refusal }),
                None => Ok(None),
            }
        }
        Err(
            ChangeRefused::NotReady
            | ChangeRefused::ChangePending { .. }
            | ChangeRefused::Transferring { .. },
        ) => Ok(None),
        Err(ChangeRefused::NotLeader { leader }) => Err(ChangeError::NotLeader { leader }),
        Err(ChangeRefused::Invalid(error)) => Err(ChangeError::Invalid(error)),
    }
}

/// A server that was met and holds the history of another cluster is not added (the module doc of
/// `known_peers.rs`).
fn check_joining(
    raft: &Raft<Bytes, Pcg32>,
    peers: &KnownPeers,
    changes: &[Change],
) -> Result<(), ChangeError> {
    for change in changes {
        let Change::AddLearner { id, .. } = change else { continue };
        if raft.membership().seat(*id).is_some() {
            continue;
        }
        if let Some(refusal) = peers.cannot_join(*id) {
            return Err(ChangeError::Refused { id: *id, refusal });
        }
    }
    Ok(())
}

/// What became of a change; none as long as it is under way.
fn outcome(raft: &Raft<Bytes, Pcg32>, term: Term, index: Index) -> Option<Result<(), ChangeError>> {
    // Within its term nobody but this node could have written at that index. And who leaves the
    // cluster leads until it may.
    let is_certain = raft.term() == term && raft.commit_index() >= index;
    if is_certain && raft.is_membership_committed() && !raft.membership().is_joint() {
        return Some(Ok(()));
    }
    let leads = raft.term() == term && raft.role() == Role::Leader;
    let lost = ChangeError::LeadershipLost { may_take_effect: true };
    if leads { None } else { Some(Err(lost)) }
}
