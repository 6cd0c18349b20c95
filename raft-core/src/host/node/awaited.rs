//! Requests that wait for the state machine: for a committed command to be applied, or for a
//! confirmed read to be served.
//!
//! The loop and the state machine's thread share the list. The loop adds requests to it, and the
//! state machine's thread takes from it the request that it is about to answer. So if that thread
//! hangs, the loop answers the other requests.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::vec::Vec;

use super::inbox::{Read, Reply};
use crate::host::error::{ProposeError, ReadError, Stopped};
use crate::host::state_machine::StateMachine;
use crate::host::sync::{Mutex, MutexGuard};
use crate::host::threads::panics::answer;
use crate::time::Instant;
use crate::types::Index;

/// A client that waits for an entry.
pub(super) struct Proposer<S: StateMachine> {
    pub(super) index: Index,
    /// When this leader appended the entry; `None` if another node did.
    pub(super) proposed_at: Option<Instant>,
    pub(super) reply: Reply<S>,
}

/// The requests that wait for a state machine.
pub(super) struct Awaited<S: StateMachine> {
    waiting: Mutex<AwaitedRequests<S>>,
}

struct AwaitedRequests<S: StateMachine> {
    /// By rising index.
    proposers: VecDeque<Proposer<S>>,
    /// By rising number.
    reads: VecDeque<(u64, Read<S>)>,
    /// The number of the last read.
    last_read: u64,
}

impl<S: StateMachine> Awaited<S> {
    /// No requests.
    pub(super) fn new() -> Self {
        let (proposers, reads) = (VecDeque::new(), VecDeque::new());
        Self { waiting: Mutex::new(AwaitedRequests { proposers, reads, last_read: 0 }) }
    }

    /// Adds the proposers of entries that are about to be applied.
    pub(super) fn add_proposers(&self, proposers: Vec<Proposer<S>>) {
        if !proposers.is_empty() {
            self.lock().proposers.extend(proposers);
        }
    }

    /// Adds a read that is about to be served, and returns the number under which it waits.
    pub(super) fn add_read(&self, read: Read<S>) -> u64 {
        let mut waiting = self.lock();
        waiting.last_read += 1;
        let number = waiting.last_read;
        waiting.reads.push_back((number, read));
        number
    }

    /// The proposer of this entry, if it still waits.
    pub(super) fn take_proposer(&self, index: Index) -> Option<Proposer<S>> {
        let mut waiting = self.lock();
        if waiting.proposers.front()?.index != index {
            return None;
        }
        waiting.proposers.pop_front()
    }

    /// The read with this number, if it was not answered meanwhile.
    pub(super) fn take_read(&self, number: u64) -> Option<Read<S>> {
        let mut waiting = self.lock();
        if waiting.reads.front()?.0 != number {
            return None;
        }
        waiting.reads.pop_front().map(|(_, read)| read)
    }

    /// How many reads wait.
    pub(super) fn reads(&self) -> usize {
        self.lock().reads.len()
    }

    /// Answers all proposers, because leadership is lost and the state machine hangs. What is
    /// committed will be applied, here or elsewhere.
    pub(super) fn lose_replies(&self) {
        let proposers = std::mem::take(&mut self.lock().proposers);
        for Proposer { reply, .. } in proposers {
            answer(reply, Err(ProposeError::LeadershipLost { may_commit: true }));
        }
    }

    /// Answers the proposers of all entries up to this one, because a snapshot takes the place of
    /// these entries and they are not applied here.
    pub(super) fn lose_replies_to(&self, last: Index) {
        let mut waiting = self.lock();
        let lost = waiting.proposers.partition_point(|proposer| proposer.index <= last);
        let lost: Vec<_> = waiting.proposers.drain(..lost).collect();
        drop(waiting);
        for Proposer { reply, .. } in lost {
            answer(reply, Err(ProposeError::LeadershipLost { may_commit: true }));
        }
    }

    /// Answers the waiting reads, because the state machine hangs.
    pub(super) fn lose_reads(&self) {
        let reads = std::mem::take(&mut self.lock().reads);
        for (_, read) in reads {
            read(Err(ReadError::Stuck));
        }
    }

    /// Answers all requests but the command that is being applied, if any, because the node has
    /// stopped.
    pub(super) fn stop(&self, stopped: &Stopped, applying: Option<Index>) {
        let mut waiting = self.lock();
        let (reads, proposers) =
            (std::mem::take(&mut waiting.reads), std::mem::take(&mut waiting.proposers));
        let (kept, refused): (VecDeque<_>, VecDeque<_>) =
            proposers.into_iter().partition(|proposer| Some(proposer.index) == applying);
        waiting.proposers = kept;
        drop(waiting);
        for Proposer { reply, .. } in refused {
            answer(reply, Err(stopped.clone().into()));
        }
        for (_, read) in reads {
            read(Err(stopped.clone().into()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, AwaitedRequests<S>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
