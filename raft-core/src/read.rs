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

use rand_core::Rng;

use crate::error::ReadRefused;
use crate::message::{Body, Message, ReadIndex, ReadIndexReply};
use crate::raft::{Following, Leading, Raft};
use crate::state::progress::Progress;
use crate::state::reads::{InRound, Read};
use crate::state::server::Server;
use crate::status::count;
use crate::time::Instant;
use crate::types::{Command, Index, NodeId, ReadId};

impl<C: Command, R: Rng> Raft<C, R> {
    pub(crate) fn accept_read(&mut self) -> Result<ReadId, ReadRefused> {
        if self.leader().is_none() {
            return Err(ReadRefused::NoLeader);
        }
        let waiting_max = self.server.config.reads_waiting_max;
        if self.server.reads.waiting() >= waiting_max {
            return Err(ReadRefused::TooManyReads { waiting_max });
        }
        self.server.reads.last_id = self.server.reads.last_id.next();
        self.server.reads.asked.push_back(Read::Here(self.server.reads.last_id));
        Ok(self.server.reads.last_id)
    }
}

impl<C: Command, R: Rng> Following<'_, C, R> {
    /// The leader's answer: the reads that the request was for may be served from there.
    pub(crate) fn on_read_index_reply(&mut self, from: NodeId, reply: ReadIndexReply) {
        if self.known.id != from {
            return;
        }
        let reads = &mut self.server.reads;
        if reads.request.is_none_or(|request| request.id != reply.id) {
            count(&mut self.server.counters.stale_replies);
            return;
        }
        reads.request = None;
        while let Some(id) = reads.requested.pop_front() {
            reads.confirmed.push_back((id, reply.index));
        }
    }

    /// A follower's request for its clients' reads.
    pub(crate) fn next_read_index(&mut self) -> Option<Message<C>> {
        if !self.server.reads.wait_for_leader() {
            return None;
        }
        let patience = self.server.config.heartbeat_interval_at(self.known.timeout_in_force);
        let request = self.server.reads.next_request(self.server.now, patience)?;
        Some(self.server.message(self.known.id, Body::ReadIndex(request)))
    }
}

impl<C: Command, R: Rng> Leading<'_, C, R> {
    /// Confirms at once what a lease allows; with each tick.
    pub(crate) fn confirm_by_lease(&mut self) {
        if self.server.config.lease.is_none() || self.server.reads.asked.is_empty() {
            return;
        }
        if self.holds_lease() && self.server.has_committed_in_term() {
            let index = self.server.commit_index;
            while let Some(read) = self.server.reads.asked.pop_front() {
                self.server.confirm(read, index);
            }
        }
    }

    /// Whether a quorum has promised to elect nobody else by now. This server elects nobody while
    /// it leads.
    fn holds_lease(&self) -> bool {
        let for_ever = Instant::from_micros(u64::MAX);
        let promised =
            self.leader.peers.each(&self.server.members, for_ever, |peer| peer.promised_until);
        let until = self.server.members.quorum.reached(promised);
        !self.leader.lease.ended && self.server.now < until
    }

    /// Sends the reads that wait on a round of their own, once this leader knows what is committed.
    pub(crate) fn begin_read_round(&mut self) {
        if self.server.reads.asked.is_empty() || !self.server.has_committed_in_term() {
            return;
        }
        self.begin_round();
        let (index, round) = (self.server.commit_index, self.leader.round);
        while let Some(read) = self.server.reads.asked.pop_front() {
            self.server.reads.in_round.push_back(InRound { read, index, round });
        }
        self.confirm_reads();
    }

    /// ReadIndex: a follower asks on behalf of its clients. Its newest request says all that its
    /// earlier ones did, and a repeated one whose round is under way is answered with that.
    pub(crate) fn on_read_index(&mut self, from: NodeId, request: ReadIndex) {
        let reads = &mut self.server.reads;
        let read = Read::At(from, request.id);
        if reads.in_round.iter().any(|waiting| waiting.read == read) {
            return;
        }
        let is_earlier =
            |read: &&mut Read| matches!(read, Read::At(follower, _) if *follower == from);
        if let Some(earlier) = reads.asked.iter_mut().find(is_earlier) {
            *earlier = read;
        } else if reads.waiting() < self.server.config.reads_waiting_max {
            reads.asked.push_back(read);
        }
    }

    /// Confirms the reads whose round a quorum has echoed.
    pub(crate) fn confirm_reads(&mut self) {
        if self.server.reads.in_round.is_empty() && !self.leader.lease.awaits_echo() {
            return;
        }
        let echoed =
            self.leader.peers.each(&self.server.members, self.leader.round, Progress::round_echoed);
        let echoed = self.server.members.quorum.reached(echoed);
        self.leader.lease.echoed |= self.leader.lease.left_at(echoed).is_some();
        while let Some(read) =
            self.server.reads.in_round.front().filter(|read| read.round <= echoed)
        {
            let InRound { read, index, .. } = *read;
            self.server.reads.in_round.pop_front();
            self.server.confirm(read, index);
        }
    }
}

impl<C, R> Server<C, R> {
    fn confirm(&mut self, read: Read, index: Index) {
        match read {
            Read::Here(id) => self.reads.confirmed.push_back((id, index)),
            Read::At(follower, id) => {
                self.hold_reply(follower, Body::ReadIndexReply(ReadIndexReply { id, index }));
            }
        }
    }
}
