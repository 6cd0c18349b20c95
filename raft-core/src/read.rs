//! Linearizable reads without a log entry (§8, thesis 6.4): ReadIndex, and leases as an option.
//!
//! A read takes the commit index of a leader that has committed in its own term, and waits until a
//! quorum has echoed a heartbeat round which left after the read came. An earlier round proves
//! nothing: a newer leader could have committed between the two. Reads that come together share a
//! round.
//!
//! A follower asks its leader for a read index, once for all reads that wait, and serves them from
//! its own state machine. It asks again only if a heartbeat interval has passed without an answer,
//! and the leader begins no second round for a request that is in one. Each round makes the
//! follower turn, so without these two rules one read would be asked for until it is answered, as
//! fast as the network is.
//!
//! A follower's reads are lost with the term, or when it has missed its leader for an election
//! timeout. A hint that the leader is gone does not lose them: if it was wrong, the follower hears
//! from that leader again, and asks it again.
//!
//! With a [`Lease`](crate::Lease) the round is spared (thesis 6.4.1): each voter that echoes a
//! round promises for how long it elects nobody else, and the lease is the least that a quorum has
//! promised, counted from when the round left. The quorum is that of the configuration in force
//! when the read is served. A lease is judged at the tick, by the true time. See `promise.rs` for
//! the voter's side.

use alloc::collections::VecDeque;
use core::time::Duration;

use rand_core::Rng;

use crate::error::ReadRefused;
use crate::message::{Body, Message, ReadIndex, ReadIndexReply};
use crate::raft::Raft;
use crate::role::RoleState;
use crate::state::progress::Progress;
use crate::time::Instant;
use crate::types::{Command, Index, NodeId, ReadId, Round};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Reads {
    last_id: ReadId,
    /// Wait for a round to leave, or at a follower for a request.
    asked: VecDeque<Read>,
    /// Wait for a quorum to echo a round; in the order of rounds.
    in_round: VecDeque<InRound>,
    /// A follower's reads up to this one were asked for, and wait for the answer in `requested`.
    request: Option<Request>,
    requested: VecDeque<ReadId>,
    /// A hint says that the leader is gone, and what waits for it is kept until that is certain.
    leader_suspected: bool,
    /// Added to the number of a request, and different in every life: a late answer to an earlier
    /// life must not fit.
    requests_begin: u64,
    /// Confirmed; wait until the entries up to the index have been handed out.
    confirmed: VecDeque<(ReadId, Index)>,
    /// Leadership ended before they were confirmed.
    lost: VecDeque<ReadId>,
}

/// A read, and who waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Read {
    Here(ReadId),
    /// At a follower, by the number of its request.
    At(NodeId, ReadId),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct InRound {
    read: Read,
    index: Index,
    round: Round,
}

/// A follower's request for a read index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Request {
    /// The newest read that it is for.
    id: ReadId,
    /// When it was sent last; none if it is to be sent.
    sent_at: Option<Instant>,
}

/// A leader's lease (thesis 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct LeaseState {
    /// The round from which promises count, and when it left.
    timed: Option<(Round, Instant)>,
    /// A quorum has echoed it, so that the next round takes its place. Until then the promises of
    /// slower voters count from it, too.
    echoed: bool,
    /// No lease any more in this term.
    ended: bool,
}

impl LeaseState {
    /// A round leaves.
    pub(crate) fn on_round(&mut self, round: Round, now: Instant) {
        if self.echoed || self.timed.is_none() {
            self.timed = Some((round, now));
            self.echoed = false;
        }
    }

    /// A moment at which a round that this one follows or is had not left yet; none if that is not
    /// known.
    pub(crate) fn left_at(&self, round: Round) -> Option<Instant> {
        let (timed, left_at) = self.timed?;
        (round >= timed).then_some(left_at)
    }

    fn awaits_echo(&self) -> bool {
        self.timed.is_some() && !self.echoed
    }

    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Puts its moment elsewhere, for [`Raft::canonical`].
    pub(crate) fn move_in_time(&mut self, past: impl Fn(Instant) -> Instant) {
        self.timed = self.timed.map(|(round, left_at)| (round, past(left_at)));
    }
}

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
    fn wait_for_leader(&self) -> bool {
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

    /// Puts its moment elsewhere, for [`Raft::canonical`].
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
    fn next_request(&mut self, now: Instant, patience: Duration) -> Option<ReadIndex> {
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

impl<C: Command, R: Rng> Raft<C, R> {
    pub(crate) fn accept_read(&mut self) -> Result<ReadId, ReadRefused> {
        if self.leader().is_none() {
            return Err(ReadRefused::NoLeader);
        }
        let waiting_max = self.config.reads_waiting_max;
        if self.reads.waiting() >= waiting_max {
            return Err(ReadRefused::TooManyReads { waiting_max });
        }
        self.reads.last_id = self.reads.last_id.next();
        self.reads.asked.push_back(Read::Here(self.reads.last_id));
        Ok(self.reads.last_id)
    }

    /// Confirms at once what a lease allows; with each tick.
    pub(crate) fn confirm_by_lease(&mut self) {
        if self.config.lease.is_none() || self.reads.asked.is_empty() {
            return;
        }
        if self.holds_lease() && self.has_committed_in_term() {
            let index = self.commit_index;
            while let Some(read) = self.reads.asked.pop_front() {
                self.confirm(read, index);
            }
        }
    }

    /// Whether a quorum has promised to elect nobody else by now. This server elects nobody while
    /// it leads.
    fn holds_lease(&self) -> bool {
        let RoleState::Leader(leader) = &self.role else { return false };
        let for_ever = Instant::from_micros(u64::MAX);
        let promised = leader.peers.each(&self.members, for_ever, |peer| peer.promised_until);
        !leader.lease.ended && self.now < self.members.quorum.reached(promised)
    }

    /// Sends the reads that wait on a round of their own, once this leader knows what is committed.
    pub(crate) fn begin_read_round(&mut self) {
        if self.reads.asked.is_empty() || !self.has_committed_in_term() {
            return;
        }
        if !matches!(self.role, RoleState::Leader(_)) {
            return;
        }
        self.begin_round();
        let RoleState::Leader(leader) = &self.role else { return };
        let (index, round) = (self.commit_index, leader.round);
        while let Some(read) = self.reads.asked.pop_front() {
            self.reads.in_round.push_back(InRound { read, index, round });
        }
        self.confirm_reads();
    }

    /// Confirms the reads whose round a quorum has echoed.
    pub(crate) fn confirm_reads(&mut self) {
        let RoleState::Leader(leader) = &mut self.role else { return };
        if self.reads.in_round.is_empty() && !leader.lease.awaits_echo() {
            return;
        }
        let echoed = leader.peers.each(&self.members, leader.round, Progress::round_echoed);
        let echoed = self.members.quorum.reached(echoed);
        leader.lease.echoed |= leader.lease.left_at(echoed).is_some();
        while let Some(read) = self.reads.in_round.front().filter(|read| read.round <= echoed) {
            let InRound { read, index, .. } = *read;
            self.reads.in_round.pop_front();
            self.confirm(read, index);
        }
    }

    fn confirm(&mut self, read: Read, index: Index) {
        match read {
            Read::Here(id) => self.reads.confirmed.push_back((id, index)),
            Read::At(follower, id) => {
                self.hold_reply(follower, Body::ReadIndexReply(ReadIndexReply { id, index }));
            }
        }
    }

    /// ReadIndex: a follower asks on behalf of its clients. Its newest request says all that its
    /// earlier ones did, and a repeated one whose round is under way is answered with that.
    pub(crate) fn on_read_index(&mut self, from: NodeId, request: ReadIndex) {
        if !matches!(self.role, RoleState::Leader(_)) {
            return;
        }
        let is_repeated = |waiting: &InRound| waiting.read == Read::At(from, request.id);
        if self.reads.in_round.iter().any(is_repeated) {
            return;
        }
        let is_earlier =
            |read: &&mut Read| matches!(read, Read::At(follower, _) if *follower == from);
        let read = Read::At(from, request.id);
        if let Some(earlier) = self.reads.asked.iter_mut().find(is_earlier) {
            *earlier = read;
        } else if self.reads.waiting() < self.config.reads_waiting_max {
            self.reads.asked.push_back(read);
        }
    }

    /// The leader's answer: the reads that the request was for may be served from there.
    pub(crate) fn on_read_index_reply(&mut self, reply: ReadIndexReply) {
        if self.reads.request.is_none_or(|request| request.id != reply.id) {
            self.counters.stale_replies = self.counters.stale_replies.saturating_add(1);
            return;
        }
        self.reads.request = None;
        while let Some(id) = self.reads.requested.pop_front() {
            self.reads.confirmed.push_back((id, reply.index));
        }
    }

    /// A follower's request for its clients' reads.
    pub(crate) fn next_read_index(&mut self) -> Option<Message<C>> {
        if !self.reads.wait_for_leader() {
            return None;
        }
        let patience = self.config.heartbeat_interval_at(self.timeout_in_force());
        let now = self.now;
        let leader = self.following()?.leader;
        let request = self.reads.next_request(now, patience)?;
        Some(self.message(leader, Body::ReadIndex(request)))
    }
}
