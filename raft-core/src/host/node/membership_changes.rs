//! Changes of membership that clients asked for (§6). Each waits until it can be begun, and then
//! until it is complete.
//!
//! ```text
//! asked ──► tried each turn ────────► appended ──► committed, and its joint configuration left
//!           while another one is under way,
//!           or its learner catches up
//! ```
//!
//! Each turn tries all waiting changes in their order. A change that waits for its learner lets
//! others pass, for example the removal of that learner.

use std::collections::VecDeque;
use std::mem;
use std::vec::Vec;

use super::inbox::ChangeReply;
use super::inputs::Core;
use crate::change::Change;
use crate::error::ChangeRefused;
use crate::host::error::{ChangeError, Stopped};
use crate::host::known_peers::{KnownPeers, Met};
use crate::host::threads::panics::answer;
use crate::role::Role;
use crate::types::{Index, NodeId, Term};

/// The most changes that wait. More are refused as busy.
const CHANGES_WAITING_MAX: usize = 64;

/// The changes of membership that clients wait for.
#[derive(Default)]
pub(super) struct Changes {
    waiting: VecDeque<WaitingChange>,
}

struct WaitingChange {
    changes: Vec<Change>,
    reply: ChangeReply,
    /// Where the change's first configuration is in the log, once it is appended.
    begun: Option<(Term, Index)>,
}

impl Changes {
    /// How many changes wait.
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

    /// Begins the changes that can be begun, and answers for those that are complete or lost.
    /// Returns whether any was begun. `complete` adds to an error what the loop knows.
    pub(super) fn advance(
        &mut self,
        raft: &mut Core,
        peers: &KnownPeers,
        mut complete: impl FnMut(&Core, &mut ChangeError),
    ) -> bool {
        let mut any_begun = false;
        for mut waiting in mem::take(&mut self.waiting) {
            let done = match waiting.begun {
                Some((term, index)) => outcome(raft, term, index),
                // A client that no longer waits has taken its change back.
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
                Some(Err(mut error)) => {
                    complete(raft, &mut error);
                    answer(waiting.reply, Err(error));
                }
            }
        }
        any_begun
    }

    /// Tells every client that the node has stopped.
    pub(super) fn stop(&mut self, stopped: &Stopped) {
        for WaitingChange { reply, begun, .. } in self.waiting.drain(..) {
            let reason = stopped.reason.clone();
            let may_take_effect = begun.is_some();
            answer(reply, Err(ChangeError::Stopped { reason, may_take_effect }));
        }
    }
}

/// Where the change begins in the log. `None` if it has to wait.
fn begin(
    raft: &mut Core,
    peers: &KnownPeers,
    changes: &[Change],
) -> Result<Option<(Term, Index)>, ChangeError> {
    if raft.role() == Role::Leader {
        check_joining(raft, peers, changes)?;
        check_versions(raft, peers, changes)?;
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
        Err(ChangeRefused::NotLeader { leader }) => {
            Err(ChangeError::NotLeader { leader, address: None })
        }
        Err(ChangeRefused::Invalid(error)) => Err(ChangeError::Invalid(error)),
    }
}

/// Refuses to add a server that this node has met and that holds the history of another cluster
/// (see `known_peers.rs`).
fn check_joining(raft: &Core, peers: &KnownPeers, changes: &[Change]) -> Result<(), ChangeError> {
    for change in changes {
        let Change::AddLearner { id, .. } = change else { continue };
        if raft.membership().suffrage(*id).is_some() {
            continue;
        }
        if let Some(refusal) = peers.cannot_join(*id) {
            return Err(ChangeError::Refused { id: *id, refusal });
        }
    }
    Ok(())
}

/// Refuses a version that a member does not understand, and to add a server that does not
/// understand the version in force.
fn check_versions(raft: &Core, peers: &KnownPeers, changes: &[Change]) -> Result<(), ChangeError> {
    let membership = raft.membership();
    let met = peers.met();
    for change in changes {
        match change {
            Change::RaiseVersion(version) => {
                for member in membership.members() {
                    understands(raft, peers, &met, member.id, *version)?;
                }
            }
            // A server that was not met yet may still be started; it stops by itself if need be.
            Change::AddLearner { id, .. } if met.iter().any(|(known, _)| known == id) => {
                understands(raft, peers, &met, *id, membership.version())?;
            }
            Change::AddLearner { .. }
            | Change::Promote(_)
            | Change::Demote(_)
            | Change::Remove(_)
            | Change::Relabel { .. }
            | Change::Prioritise { .. }
            | Change::Identify(_)
            | Change::RecordStore { .. } => {}
        }
    }
    Ok(())
}

/// Whether the server says that it understands this version of the application.
fn understands(
    raft: &Core,
    peers: &KnownPeers,
    met: &[(NodeId, Met)],
    id: NodeId,
    version: u32,
) -> Result<(), ChangeError> {
    let says = if id == raft.id() {
        peers.versions()
    } else {
        met.iter().find(|(known, _)| *known == id).and_then(|(_, met)| met.versions)
    };
    match says {
        _ if version == 0 => Ok(()),
        Some(versions) if versions.understand(version) => Ok(()),
        understands => Err(ChangeError::VersionNotUnderstood { id, version, understands }),
    }
}

/// The outcome of a change. `None` while it is under way.
fn outcome(raft: &Core, term: Term, index: Index) -> Option<Result<(), ChangeError>> {
    // Within its term no other node can have written at that index. A leader that leaves the
    // cluster leads until that is committed.
    let is_certain = raft.term() == term && raft.commit_index() >= index;
    if is_certain && raft.is_membership_committed() && !raft.membership().is_joint() {
        return Some(Ok(()));
    }
    let leads = raft.term() == term && raft.role() == Role::Leader;
    let lost = ChangeError::LeadershipLost { may_take_effect: true };
    if leads { None } else { Some(Err(lost)) }
}
