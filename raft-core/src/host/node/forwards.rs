//! The clients whose commands this node forwards to its leader.
//!
//! A client waits in two places, one after the other: until the leader says where it appended the
//! command, and until that entry is applied here. The invariant of `waiters` holds here, too: every
//! client gets one answer. If the leader is lost meanwhile, the entry may be in this node's own log
//! and commit under the next leader, so the client waits for that for a while.

use std::collections::BTreeMap;
use std::vec::Vec;

use bytes::Bytes;

use super::awaited::Proposer;
use super::inbox::Reply;
use super::inputs::Core;
use super::meter::Meter;
use crate::entries::Entry;
use crate::host::error::{ProposeError, Stopped};
use crate::host::state_machine::StateMachine;
use crate::host::threads::panics::answer;
use crate::output::ForwardOutcome;
use crate::time::Instant;
use crate::types::{Index, ProposalId, Term};

/// The clients whose commands were forwarded.
pub(super) struct Forwards<S: StateMachine> {
    /// Wait for the leader's answer.
    unanswered: BTreeMap<ProposalId, Reply<S>>,
    /// Wait for an entry, each in the term in which the leader appended it.
    appended: BTreeMap<Index, (Term, Reply<S>)>,
    /// Until when those wait whose leader is lost.
    until: Option<Instant>,
}

/// A client whose command the leader does not get, and why.
type RefusedForward<S> = (Reply<S>, ProposeError);

impl<S: StateMachine> Forwards<S> {
    /// No clients.
    pub(super) fn new() -> Self {
        Self { unanswered: BTreeMap::new(), appended: BTreeMap::new(), until: None }
    }

    /// How many clients wait.
    pub(super) fn len(&self) -> usize {
        self.unanswered.len() + self.appended.len()
    }

    /// Forwards a command, or returns why that is not possible. The command counts towards
    /// [`Config::forwards_waiting_max`](crate::Config::forwards_waiting_max) until its client is
    /// answered.
    pub(super) fn begin(
        &mut self,
        raft: &mut Core,
        command: Bytes,
        reply: Reply<S>,
        meter: &Meter,
    ) -> Result<(), RefusedForward<S>> {
        if self.len() >= raft.config().forwards_waiting_max {
            meter.cells().totals.proposals_refused_busy.add(1);
            return Err((reply, ProposeError::Busy { command }));
        }
        match raft.forward(command) {
            Ok(id) => {
                meter.cells().totals.proposals_forwarded.add_alone(1);
                self.unanswered.insert(id, reply);
                Ok(())
            }
            Err(error) => {
                meter.refused(&error);
                Err((reply, error.into()))
            }
        }
    }

    /// Takes the leader's answer, or word that there is none. Returns a client whose command was
    /// refused. After the last of them, [`leader_changed`](Self::leader_changed) has to look.
    pub(super) fn answered(
        &mut self,
        id: ProposalId,
        outcome: ForwardOutcome<Bytes>,
    ) -> Option<RefusedForward<S>> {
        let reply = self.unanswered.remove(&id)?;
        match outcome {
            ForwardOutcome::Appended(entry) => {
                // An entry of an earlier term that stood here or behind has left the leader's log.
                // Another server may still hold it.
                let replaced = self.appended.split_off(&entry.index);
                replaced.into_values().for_each(lose);
                self.appended.insert(entry.index, (entry.term, reply));
            }
            ForwardOutcome::Refused(error) => return Some((reply, error.into())),
            ForwardOutcome::Unknown => lose((Term::ZERO, reply)),
        }
        None
    }

    /// Adds the proposers of these committed entries to `proposers`, by rising index. If a proposer
    /// waits for another entry at one of these indexes, its command was not committed.
    pub(super) fn committed(&mut self, entries: &[Entry<Bytes>], proposers: &mut Vec<Proposer<S>>) {
        if self.appended.is_empty() {
            return;
        }
        let Some(last) = entries.last() else { return };
        let later = self.appended.split_off(&last.index.next());
        let mut entries = entries.iter();
        let before = proposers.len();
        for (index, (term, reply)) in std::mem::replace(&mut self.appended, later) {
            let committed = entries.find(|committed| committed.index == index);
            if committed.is_some_and(|committed| committed.term == term) {
                proposers.push(Proposer { index, proposed_at: None, reply });
            } else {
                answer(reply, Err(ProposeError::ForwardLost { may_commit: false }));
            }
        }
        if before > 0 {
            proposers.sort_by_key(|proposer| proposer.index);
        }
    }

    /// To be called when the node's role, term or leader may have changed since the clients began
    /// to wait.
    pub(super) fn leader_changed(&mut self, raft: &Core, now: Instant) {
        let follows = |term| raft.leader().is_some() && term == raft.term();
        if self.appended.values().all(|(term, _)| follows(*term)) {
            self.until = None;
        } else if self.until.is_none() {
            self.until = Some(now + raft.config().election_timeout_max);
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }

    /// Answers the clients that have waited long enough for the entry of a lost leader.
    pub(super) fn expire(&mut self, raft: &Core, now: Instant) {
        if self.until.is_none_or(|until| now < until) {
            return;
        }
        self.until = None;
        let follows = |term| raft.leader().is_some() && term == raft.term();
        let (kept, lost): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.appended)
            .into_iter()
            .partition(|(_, (term, _))| follows(*term));
        self.appended = kept;
        lost.into_values().for_each(lose);
    }

    /// Answers the clients that wait for an entry up to `last`, because a snapshot took its place.
    pub(super) fn lose_through(&mut self, last: Index) {
        let later = self.appended.split_off(&last.next());
        let lost = std::mem::replace(&mut self.appended, later);
        lost.into_values().for_each(lose);
    }

    /// Tells every client that the node has stopped.
    pub(super) fn stop(&mut self, stopped: &Stopped) {
        let appended = std::mem::take(&mut self.appended).into_values().map(|(_, reply)| reply);
        for reply in std::mem::take(&mut self.unanswered).into_values().chain(appended) {
            answer(reply, Err(stopped.clone().into()));
        }
    }
}

fn lose<R>((_, reply): (Term, oneshot::Sender<Result<R, ProposeError>>)) {
    answer(reply, Err(ProposeError::ForwardLost { may_commit: true }));
}
