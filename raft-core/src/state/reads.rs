//! The reads that wait (thesis 6.4), each in the queue for what it waits for. The rules are in
//! `read.rs`.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::checkpoint::stored;
use crate::message::ReadIndex;
use crate::time::Instant;
use crate::types::{Index, NodeId, ReadId, Round};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Reads {
    pub(crate) last_id: ReadId,
    /// Wait for a round to leave, or at a follower for a request.
    pub(crate) asked: VecDeque<Read>,
    /// Wait for a quorum to echo a round; in the order of rounds.
    pub(crate) in_round: VecDeque<InRound>,
    /// A follower's reads up to this one were asked for, and wait for the answer in `requested`.
    pub(crate) request: Option<Request>,
    pub(crate) requested: VecDeque<ReadId>,
    /// A hint says that the leader is gone, and what waits for it is kept until that is certain.
    pub(crate) leader_suspected: bool,
    /// Added to the number of a request, and different in every life: a late answer to an earlier
    /// life must not fit.
    pub(crate) requests_begin: u64,
    /// Confirmed; wait until the entries up to the index have been handed out.
    pub(crate) confirmed: VecDeque<(ReadId, Index)>,
    /// Leadership ended before they were confirmed.
    pub(crate) lost: VecDeque<ReadId>,
}

stored! {
    struct Reads {
        last_id, asked, in_round, request, requested, leader_suspected, requests_begin,
        confirmed, lost,
    }
}

/// A read, and where it waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Read {
    Here(ReadId),
    /// At a follower, by the number of its request.
    At(NodeId, ReadId),
}

stored! { enum Read { 0 Here { 0: a }, 1 At { 0: a, 1: b }, } }

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct InRound {
    pub(crate) read: Read,
    pub(crate) index: Index,
    pub(crate) round: Round,
}

stored! { struct InRound { read, index, round } }

/// A follower's request for a read index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Request {
    /// The newest read that it is for.
    pub(crate) id: ReadId,
    /// When it was sent last; none if it is to be sent.
    pub(crate) sent_at: Option<Instant>,
}

stored! { struct Request { id, sent_at } }

impl Reads {
    pub(crate) fn new() -> Self {
        Self {
            last_id: ReadId::new(0),
            asked: VecDeque::new(),
            in_round: VecDeque::new(),
            request: None,
            requested: VecDeque::new(),
            leader_suspected: false,
            requests_begin: 0,
            confirmed: VecDeque::new(),
            lost: VecDeque::new(),
        }
    }

    /// Reads that wait here, or on whose behalf a follower waits.
    pub(crate) fn waiting(&self) -> usize {
        let (asked, in_round) = (self.asked.len(), self.in_round.len());
        let (requested, confirmed) = (self.requested.len(), self.confirmed.len());
        [asked, in_round, requested, confirmed, self.lost.len()].into_iter().sum()
    }

    /// Leadership ended, this server's own or that of the one it asked: what is confirmed stays
    /// good, the rest is lost. Followers ask the next leader.
    pub(crate) fn on_leadership_lost(&mut self) {
        while let Some(id) = self.requested.pop_front() {
            self.lost.push_back(id);
        }
        while let Some(InRound { read, .. }) = self.in_round.pop_front() {
            self.on_lost(read);
        }
        while let Some(read) = self.asked.pop_front() {
            self.on_lost(read);
        }
        self.request = None;
        self.leader_suspected = false;
    }

    /// A hint says that the leader is gone.
    pub(crate) fn on_leader_suspected(&mut self) {
        self.leader_suspected = true;
    }

    /// The election timer has fired. Returns whether there are reads that wait for the leader to be
    /// heard of again: after a hint the first timer only makes the follower ask whether it is true.
    pub(crate) fn on_leader_missed(&mut self) -> bool {
        if !core::mem::take(&mut self.leader_suspected) {
            self.on_leadership_lost();
        }
        self.wait_for_leader()
    }

    /// Whether a follower holds reads that its leader has yet to answer.
    pub(crate) fn wait_for_leader(&self) -> bool {
        self.request.is_some() || !self.asked.is_empty()
    }

    fn on_lost(&mut self, read: Read) {
        if let Read::Here(id) = read {
            self.lost.push_back(id);
        }
    }

    pub(crate) fn next_lost(&mut self) -> Option<ReadId> {
        self.lost.pop_front()
    }

    /// The next confirmed read whose entries have all been handed out.
    pub(crate) fn next_ready(&mut self, apply_sent: Index) -> Option<(ReadId, Index)> {
        let (_, index) = *self.confirmed.front()?;
        if index <= apply_sent { self.confirmed.pop_front() } else { None }
    }

    /// The leader is followed, for the first time or again: what was asked of it before may be
    /// lost.
    pub(crate) fn on_leader_followed(&mut self) {
        self.leader_suspected = false;
        if let Some(request) = &mut self.request {
            request.sent_at = None;
        }
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`](crate::Raft::canonical).
    pub(crate) fn move_in_time(&mut self, past: impl Fn(Instant) -> Instant) {
        if let Some(request) = &mut self.request {
            request.sent_at = request.sent_at.map(past);
        }
    }

    /// From which number on this life asks.
    pub(crate) fn number_requests_from(&mut self, begin: u64) {
        self.requests_begin = begin;
    }

    /// A follower's next request: for all reads that have come, once the last one is answered; or
    /// that one again, if there was no answer for a heartbeat interval.
    pub(crate) fn next_request(&mut self, now: Instant, patience: Duration) -> Option<ReadIndex> {
        if self.request.is_none() {
            let newest = match self.asked.back()? {
                Read::Here(id) | Read::At(_, id) => *id,
            };
            while let Some(read) = self.asked.pop_front() {
                if let Read::Here(id) = read {
                    self.requested.push_back(id);
                }
            }
            let id = ReadId::new(newest.get().wrapping_add(self.requests_begin));
            self.request = Some(Request { id, sent_at: None });
        }
        let request = self.request.as_mut()?;
        let sent_at = request.sent_at;
        if sent_at.is_some_and(|sent_at| now.saturating_duration_since(sent_at) < patience) {
            return None;
        }
        request.sent_at = Some(now);
        Some(ReadIndex { id: request.id })
    }
}
