//! Which clients wait for which entry and for which read.
//!
//! The invariant: every client gets one answer. If an entry reaches the state machine, its proposer
//! is answered there. A lost leadership answers every client at once, because the node can no
//! longer know what becomes of their entries.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::vec::Vec;

use bytes::Bytes;

use super::awaited::Proposer;
use super::inbox::{Query, Reply};
use crate::entries::Entry;
use crate::host::error::{ProposeError, ReadError, Stopped};
use crate::host::state_machine::StateMachine;
use crate::host::threads::panics::answer;
use crate::role::Role;
use crate::time::Instant;
use crate::types::{LogId, ReadId, Term};

/// The clients that wait for Raft.
pub(super) struct Waiters<S: StateMachine> {
    /// By rising index, because a leader appends in order and no proposal waits across two terms.
    proposals: VecDeque<Proposal<S>>,
    /// Each with the moment at which it was asked for.
    reads: BTreeMap<ReadId, (Instant, Query<S>)>,
    /// When the newest read that was confirmed had been asked for.
    fresh_at: Option<Instant>,
    /// The most that waited at once, in this turn and in the last one.
    most: usize,
    most_last_turn: usize,
}

struct Proposal<S: StateMachine> {
    entry: LogId,
    proposed_at: Instant,
    reply: Reply<S>,
}

impl<S: StateMachine> Waiters<S> {
    /// No clients.
    pub(super) fn new() -> Self {
        Self {
            proposals: VecDeque::new(),
            reads: BTreeMap::new(),
            fresh_at: None,
            most: 0,
            most_last_turn: 0,
        }
    }

    /// Lets `reply` wait for this entry, which was appended now.
    pub(super) fn proposed(&mut self, entry: LogId, now: Instant, reply: Reply<S>) {
        // Indexes rise only within a term, so no proposal of an earlier leadership may stay in the
        // queue.
        if self.proposals.back().is_some_and(|last| last.entry.term != entry.term) {
            self.lose(self.proposals.len());
        }
        self.proposals.push_back(Proposal { entry, proposed_at: now, reply });
        self.note_most();
    }

    /// Lets `query`, which is asked for now, wait to be confirmed.
    pub(super) fn reading(&mut self, id: ReadId, now: Instant, query: Query<S>) {
        self.reads.insert(id, (now, query));
        self.note_most();
    }

    /// The proposers of these committed entries, by rising index. If a proposer waits for another
    /// entry at one of these indexes, it is told that leadership was lost.
    pub(super) fn committed(&mut self, entries: &[Entry<Bytes>]) -> Vec<Proposer<S>> {
        let Some(last) = entries.last() else { return Vec::new() };
        let waiting = self.proposals.partition_point(|proposal| proposal.entry.index <= last.index);
        let mut proposers = Vec::with_capacity(waiting);
        let mut entries = entries.iter();
        for Proposal { entry, proposed_at, reply } in self.proposals.drain(..waiting) {
            let committed = entries.find(|committed| committed.index == entry.index);
            if committed.is_some_and(|committed| committed.term == entry.term) {
                let proposed_at = Some(proposed_at);
                proposers.push(Proposer { index: entry.index, proposed_at, reply });
            } else {
                answer(reply, Err(ProposeError::LeadershipLost { may_commit: false }));
            }
        }
        proposers
    }

    /// The read that was confirmed, if its client still waits.
    pub(super) fn read_ready(&mut self, id: ReadId) -> Option<Query<S>> {
        let (asked_at, query) = self.reads.remove(&id)?;
        self.fresh_at = self.fresh_at.max(Some(asked_at));
        Some(query)
    }

    /// The state machine was given all that was acknowledged before this moment, because a read
    /// that was asked for then has been confirmed.
    pub(super) fn fresh_at(&self) -> Option<Instant> {
        self.fresh_at
    }

    /// Answers a read that will not be confirmed.
    pub(super) fn read_lost(&mut self, id: ReadId) {
        if let Some((_, query)) = self.reads.remove(&id) {
            query.refuse(ReadError::LeadershipLost);
        }
    }

    /// Takes the node's role and term. Tells every client that waits for an entry of another
    /// leadership that leadership was lost.
    pub(super) fn role_changed(&mut self, role: Role, term: Term) {
        let kept = |proposal: &Proposal<S>| role == Role::Leader && proposal.entry.term == term;
        let lost = self.proposals.partition_point(|proposal| !kept(proposal));
        self.lose(lost);
    }

    /// Tells every client that waits for an entry that leadership was lost.
    pub(super) fn lose_all(&mut self) {
        self.lose(self.proposals.len());
    }

    /// Tells every client that the node has stopped.
    pub(super) fn stop(&mut self, stopped: &Stopped) {
        for Proposal { reply, .. } in self.proposals.drain(..) {
            answer(reply, Err(stopped.clone().into()));
        }
        for (_, query) in mem::take(&mut self.reads).into_values() {
            query.refuse(stopped.clone().into());
        }
    }

    /// How many clients wait for an entry, and how many wait for a read.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.proposals.len(), self.reads.len())
    }

    /// A turn of the loop has ended.
    pub(super) fn turn_ends(&mut self) {
        self.most_last_turn = mem::replace(&mut self.most, self.proposals.len() + self.reads.len());
    }

    /// Whether several clients waited at once during the last turn.
    pub(super) fn were_many(&self) -> bool {
        self.most_last_turn > 1
    }

    fn note_most(&mut self) {
        self.most = self.most.max(self.proposals.len() + self.reads.len());
    }

    /// Tells the first `count` proposers that leadership was lost.
    fn lose(&mut self, count: usize) {
        for Proposal { reply, .. } in self.proposals.drain(..count) {
            answer(reply, Err(ProposeError::LeadershipLost { may_commit: true }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::sync::mpsc;
    use std::vec;

    use super::*;
    use crate::entries::Payload;
    use crate::host::error::StopReason;
    use crate::types::Index;

    struct Nothing;

    impl StateMachine for Nothing {
        type Reply = ();

        fn apply(&mut self, _index: Index, _command: Bytes) {}
    }

    type Answer = oneshot::Receiver<Result<(), ProposeError>>;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term::new(term), Index::new(index))
    }

    fn entries(ids: &[LogId]) -> Vec<Entry<Bytes>> {
        let entry = |id: &LogId| Entry { term: id.term, index: id.index, payload: Payload::Noop };
        ids.iter().map(entry).collect()
    }

    fn propose(waiters: &mut Waiters<Nothing>, entry: LogId) -> Answer {
        let (reply, answer) = oneshot::channel();
        waiters.proposed(entry, Instant::ZERO, reply);
        answer
    }

    fn may_commit(answer: Answer) -> bool {
        match answer.try_recv().unwrap() {
            Err(ProposeError::LeadershipLost { may_commit }) => may_commit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_entry_answers_its_own_proposer() {
        let mut waiters = Waiters::new();
        let first = propose(&mut waiters, id(2, 4));
        let second = propose(&mut waiters, id(2, 6));
        let third = propose(&mut waiters, id(2, 7));
        let proposers = waiters.committed(&entries(&[id(1, 3), id(2, 4), id(2, 5), id(2, 6)]));
        let indexes: Vec<_> = proposers.iter().map(|proposer| proposer.index.get()).collect();
        assert_eq!(indexes, vec![4, 6]);
        for Proposer { reply, .. } in proposers {
            answer(reply, Ok(()));
        }
        assert!(first.try_recv().unwrap().is_ok());
        assert!(second.try_recv().unwrap().is_ok());
        assert!(third.try_recv().is_err());
        assert_eq!(waiters.len(), (1, 0));
    }

    #[test]
    fn another_entry_at_the_same_index_says_that_the_command_is_lost() {
        let mut waiters = Waiters::new();
        let answer = propose(&mut waiters, id(2, 4));
        assert!(waiters.committed(&entries(&[id(3, 4)])).is_empty());
        assert!(!may_commit(answer));
    }

    #[test]
    fn a_lost_leadership_answers_everyone_but_those_of_the_new_one() {
        let mut waiters = Waiters::new();
        let old = propose(&mut waiters, id(2, 4));
        waiters.role_changed(Role::Leader, Term::new(2));
        assert_eq!(waiters.len(), (1, 0));
        // The node lost term 2 and won term 5 within one turn: the new proposal comes before word
        // of either.
        let new = propose(&mut waiters, id(5, 9));
        assert!(may_commit(old));
        waiters.role_changed(Role::Leader, Term::new(5));
        assert_eq!(waiters.len(), (1, 0));
        waiters.role_changed(Role::Follower, Term::new(5));
        assert!(may_commit(new));
    }

    #[test]
    fn clients_were_many_if_two_waited_at_once_during_the_last_turn() {
        let mut waiters = Waiters::new();
        let _first = propose(&mut waiters, id(1, 1));
        let _second = propose(&mut waiters, id(1, 2));
        drop(waiters.committed(&entries(&[id(1, 1), id(1, 2)])));
        assert!(!waiters.were_many(), "the turn has not ended");
        waiters.turn_ends();
        assert!(waiters.were_many());
        let _third = propose(&mut waiters, id(1, 3));
        waiters.turn_ends();
        assert!(!waiters.were_many());
        let _fourth = propose(&mut waiters, id(1, 4));
        waiters.turn_ends();
        assert!(waiters.were_many(), "the third waits still");
    }

    #[test]
    fn reads_are_answered_in_any_order() {
        let mut waiters = Waiters::<Nothing>::new();
        let (sender, answers) = mpsc::channel();
        for number in 1..=3 {
            let sender = sender.clone();
            let read = Box::new(move |state: Result<&Nothing, ReadError>| {
                sender.send((number, state.map(|_| ()).is_ok())).unwrap();
            });
            let query = Query::Read(read);
            waiters.reading(ReadId::new(number), Instant::from_micros(number), query);
        }
        let query = waiters.read_ready(ReadId::new(2));
        let Some(Query::Read(read)) = query else { panic!("the read was confirmed") };
        read(Ok(&Nothing));
        assert!(waiters.read_ready(ReadId::new(2)).is_none());
        assert_eq!(waiters.fresh_at(), Some(Instant::from_micros(2)));
        waiters.read_lost(ReadId::new(3));
        waiters.stop(&Stopped { reason: StopReason::Shutdown });
        drop(sender);
        assert_eq!(answers.iter().collect::<Vec<_>>(), vec![(2, true), (3, false), (1, false)]);
        assert_eq!(waiters.len(), (0, 0));
    }

    #[test]
    fn a_stop_answers_everyone_with_its_reason() {
        let mut waiters = Waiters::new();
        let answer = propose(&mut waiters, id(1, 1));
        waiters.stop(&Stopped { reason: StopReason::Abandoned });
        let error = answer.try_recv().unwrap().unwrap_err();
        assert!(error.may_commit());
        assert!(matches!(error, ProposeError::Stopped { reason: StopReason::Abandoned, .. }));
    }
}
