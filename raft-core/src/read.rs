//! Linearizable reads without a log entry (§8, thesis 6.4): ReadIndex.
//!
//! A read takes the commit index of a leader that has committed in its own term, and waits until a quorum has echoed a
//! heartbeat round which left after the read came. An earlier round proves nothing: a newer leader could have committed between
//! the two. Reads that come together share a round.

use alloc::collections::VecDeque;

use rand_core::Rng;

use crate::error::Refused;
use crate::quorum::reached_by_majority;
use crate::raft::Raft;
use crate::role::RoleState;
use crate::types::{Command, Index, ReadId, Round};

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Reads {
    last_id: ReadId,
    /// Wait for a round to leave.
    asked: VecDeque<ReadId>,
    /// Wait for a quorum to echo a round; in the order of rounds.
    in_round: VecDeque<InRound>,
    /// Confirmed; wait until the entries up to the index have been handed out.
    confirmed: VecDeque<(ReadId, Index)>,
    /// Leadership ended before they were confirmed.
    lost: VecDeque<ReadId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct InRound {
    id: ReadId,
    index: Index,
    round: Round,
}

impl Reads {
    pub(crate) fn new() -> Self {
        Self {
            last_id: ReadId::new(0),
            asked: VecDeque::new(),
            in_round: VecDeque::new(),
            confirmed: VecDeque::new(),
            lost: VecDeque::new(),
        }
    }

    /// Reads that the host has yet to hear of.
    pub(crate) fn waiting(&self) -> usize {
        [self.asked.len(), self.in_round.len(), self.confirmed.len(), self.lost.len()].iter().sum()
    }

    /// Leadership ended: what is confirmed stays good, the rest is lost.
    pub(crate) fn on_leadership_lost(&mut self) {
        self.lost.extend(self.in_round.drain(..).map(|read| read.id));
        self.lost.extend(self.asked.drain(..));
    }

    pub(crate) fn next_lost(&mut self) -> Option<ReadId> {
        self.lost.pop_front()
    }

    /// The next confirmed read whose entries have all been handed out.
    pub(crate) fn next_ready(&mut self, handed_out: Index) -> Option<(ReadId, Index)> {
        let (_, index) = *self.confirmed.front()?;
        if index <= handed_out { self.confirmed.pop_front() } else { None }
    }
}

impl<C: Command, R: Rng> Raft<C, R> {
    pub(crate) fn accept_read(&mut self) -> Result<ReadId, Refused> {
        if !matches!(self.role, RoleState::Leader(_)) {
            return Err(Refused::NotLeader { leader: self.leader() });
        }
        let waiting_max = self.config.reads_waiting_max;
        if self.reads.waiting() >= waiting_max {
            return Err(Refused::TooManyReads { waiting_max });
        }
        self.reads.last_id = self.reads.last_id.next();
        self.reads.asked.push_back(self.reads.last_id);
        Ok(self.reads.last_id)
    }

    /// Sends the reads that wait on a round of their own, once this leader knows what is committed.
    pub(crate) fn begin_read_round(&mut self) {
        if self.reads.asked.is_empty() || !self.has_committed_in_term() {
            return;
        }
        self.begin_round();
        let RoleState::Leader(leader) = &self.role else { return };
        let (index, round) = (self.commit_index, leader.round);
        let reads = self.reads.asked.drain(..).map(|id| InRound { id, index, round });
        self.reads.in_round.extend(reads);
        self.confirm_reads();
    }

    /// Confirms the reads whose round a quorum has echoed.
    pub(crate) fn confirm_reads(&mut self) {
        if self.reads.in_round.is_empty() {
            return;
        }
        let RoleState::Leader(leader) = &self.role else { return };
        let echoed = leader.peers.iter().enumerate();
        let echoed = echoed
            .map(|(at, peer)| if at == self.position { leader.round } else { peer.round_echoed() });
        let echoed = reached_by_majority(echoed);
        while let Some(read) = self.reads.in_round.front().filter(|read| read.round <= echoed) {
            self.reads.confirmed.push_back((read.id, read.index));
            self.reads.in_round.pop_front();
        }
    }
}
