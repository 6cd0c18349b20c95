//! What the loop and the state machine measure: the bookkeeping between an event and its cell.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant as StdInstant;
use std::vec::Vec;

use bytes::Bytes;
use rand_core::Rng;

use crate::error::ProposeError;
use crate::host::clock::Next;
use crate::host::metrics::{Gauges, MetricCells, PeerCells};
use crate::membership::Membership;
use crate::message::Message;
use crate::raft::Raft;
use crate::reason::StepDown;
use crate::role::Role;
use crate::state::roles::RoleState;
use crate::time::Instant;
use crate::types::{NodeId, Term, WriteId};

/// The measurements of the loop. No call allocates, but for the one that takes new members.
pub(super) struct Meter {
    cells: Arc<MetricCells>,
    /// The members but for this node, by rising id, and last all other nodes.
    peers: Vec<Arc<PeerCells>>,
    /// When each write that is not durable was handed to the journal, by rising id. Bounded by
    /// [`Config::inflight_writes_max`](crate::Config::inflight_writes_max).
    writes: VecDeque<(WriteId, Instant)>,
    /// How many rounds of pre-votes the core had begun when they were last counted.
    campaigns: u64,
    /// When the loop asked to turn again.
    turns_by: Option<StdInstant>,
    /// The newest moment that this turn has read from the clock.
    now: Instant,
}

impl Meter {
    pub(super) fn new(cells: Arc<MetricCells>, membership: &Membership, campaigns: u64) -> Self {
        let now = cells.now();
        let (peers, writes) = (Vec::new(), VecDeque::new());
        let mut meter = Self { cells, peers, writes, campaigns, turns_by: None, now };
        meter.members(membership);
        meter
    }

    pub(super) fn cells(&self) -> &MetricCells {
        &self.cells
    }

    /// The newest moment that this turn has read from the clock.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// A turn begins, or goes on at this moment after a wait.
    pub(super) fn turn_begins(&mut self, now: StdInstant) {
        self.now = self.cells.at(now);
        let late = self.turns_by.take().and_then(|by| now.checked_duration_since(by));
        if let Some(late) = late {
            self.cells.histograms.loop_lateness.record(late);
        }
    }

    /// A turn ends.
    pub(super) fn turn_ends(&mut self, next: &Next) {
        self.turns_by = match next {
            Next::Wait(deadline) => *deadline,
            Next::Again | Next::Stop => None,
        };
    }

    pub(super) fn members(&mut self, membership: &Membership) {
        self.peers = self.cells.keep_peers(membership.members().iter().map(|member| member.id));
    }

    pub(super) fn sent(&self, message: &Message<Bytes>) {
        if let Some(peer) = self.peer(message.to) {
            peer.count_sent(message);
        }
    }

    pub(super) fn received(&self, message: &Message<Bytes>) {
        if let Some(peer) = self.peer(message.from) {
            peer.count_received(message);
        }
    }

    /// The journal gets this write.
    pub(super) fn handed(&mut self, id: WriteId) {
        self.writes.push_back((id, self.now));
    }

    /// Everything up to this write is durable.
    pub(super) fn persisted(&mut self, id: WriteId) {
        while let Some((write, handed_at)) = self.writes.front().copied() {
            if write > id {
                break;
            }
            self.writes.pop_front();
            let span = self.now.saturating_duration_since(handed_at);
            self.cells.histograms.append_to_durable.record(span);
        }
    }

    /// A command was refused.
    pub(super) fn refused(&self, error: &ProposeError<Bytes>) {
        let totals = &self.cells.totals;
        let counter = match error {
            ProposeError::NotLeader { .. } => &totals.proposals_refused_not_leader,
            ProposeError::TooLarge { .. } => &totals.proposals_refused_too_large,
            ProposeError::LogFull { .. } => &totals.proposals_refused_log_full,
            ProposeError::TooManyUncommitted { .. } => &totals.proposals_refused_uncommitted,
            ProposeError::Transferring { .. } | ProposeError::TooManyForwarded { .. } => {
                &totals.proposals_refused_busy
            }
        };
        counter.add(1);
    }

    /// Publishes the state at the end of a turn.
    pub(super) fn publish<R: Rng>(&mut self, raft: &Raft<Bytes, R>, gauges: &Gauges) {
        self.cells.gauges.publish(gauges);
        self.cells.publish_role(raft.role(), raft.leader());
        let begun = raft.server.campaigns.wrapping_sub(self.campaigns);
        self.campaigns = raft.server.campaigns;
        let totals = &self.cells.totals;
        totals.pre_votes_started.add_alone(begun);
        let counters = &raft.server.counters;
        totals.forwards_taken.set(counters.forwards_taken);
        totals.forwards_refused.set(counters.forwards_refused);
        totals.messages_dropped_misrouted.set(counters.misrouted);
        totals.messages_dropped_unknown_sender.set(counters.unknown_sender);
        totals.messages_dropped_malformed.set(counters.malformed);
        totals.messages_dropped_stale_term.set(counters.stale_term);
        totals.messages_dropped_stale_reply.set(counters.stale_replies);
        totals.messages_dropped_stale_forward.set(counters.stale_forwards);
        totals.votes_refused_for_leader.set(counters.sticky_refusals);
        totals.protocol_violations.set(counters.protocol_violations);
        totals.api_misuse.set(counters.api_misuse);
        self.publish_peers(raft);
    }

    fn publish_peers<R: Rng>(&self, raft: &Raft<Bytes, R>) {
        let server = &raft.server;
        match &raft.role {
            RoleState::Leader(leader) => {
                let last = server.log.last().index.get();
                for (id, progress) in server.members.ids.iter().zip(leader.peers.iter()) {
                    let Some(peer) = self.peer(*id).filter(|peer| peer.id().is_some()) else {
                        continue;
                    };
                    let lag = last.saturating_sub(progress.match_index().get());
                    peer.publish(Some(lag), Some(progress.heard_at()));
                }
            }
            RoleState::Follower(follower) => {
                let leader = follower.leader.as_ref();
                let heard_at = leader.map(|leader| (leader.id, leader.heard.at(server.now)));
                for peer in &self.peers {
                    let heard_at = heard_at.filter(|(id, _)| peer.id() == Some(*id));
                    peer.publish(None, heard_at.map(|(_, at)| at));
                }
            }
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                self.peers.iter().for_each(|peer| peer.publish(None, None));
            }
        }
    }

    /// The cells of this member, or of all other nodes. `None` for this node itself, which sends
    /// nothing to itself.
    fn peer(&self, id: NodeId) -> Option<&PeerCells> {
        let is_meant = |peer: &&Arc<PeerCells>| peer.id().is_none_or(|known| known == id);
        self.peers.iter().find(is_meant).map(|peer| &**peer)
    }
}

/// Counts elections and leaderships. Looks at the core after each input, because a turn may see a
/// leadership come and go.
pub(super) struct RoleMeter {
    cells: Arc<MetricCells>,
    seen: (Role, Term),
}

impl RoleMeter {
    pub(super) fn new<R: Rng>(cells: Arc<MetricCells>, raft: &Raft<Bytes, R>) -> Self {
        Self { cells, seen: (raft.role(), raft.term()) }
    }

    pub(super) fn look<R: Rng>(&mut self, raft: &Raft<Bytes, R>) {
        let now = (raft.role(), raft.term());
        if now == self.seen {
            return;
        }
        let (was, term) = std::mem::replace(&mut self.seen, now);
        let totals = &self.cells.totals;
        match was {
            Role::Leader => {
                let ended = raft.server.reasons.stepped_down.filter(|ended| ended.term == term);
                let counter = match ended.map(|ended| ended.reason) {
                    Some(StepDown::HigherTerm) => &totals.step_downs_higher_term,
                    Some(StepDown::HandedOver) => &totals.step_downs_handed_over,
                    Some(StepDown::NoQuorum) => &totals.step_downs_no_quorum,
                    Some(StepDown::DiskSilent) => &totals.step_downs_disk_silent,
                    Some(StepDown::NotAMember) => &totals.step_downs_not_a_member,
                    Some(StepDown::Abstains) => &totals.step_downs_abstains,
                    Some(StepDown::OtherLeader | StepDown::GaveVote) | None => {
                        &totals.step_downs_other
                    }
                };
                counter.add(1);
            }
            Role::Candidate if now != (Role::Leader, term) => totals.elections_lost.add(1),
            Role::Candidate | Role::Follower | Role::PreCandidate => {}
        }
        match now.0 {
            Role::Candidate => totals.elections_started.add(1),
            Role::Leader => totals.elections_won.add(1),
            Role::Follower | Role::PreCandidate => {}
        }
    }
}

/// What the state machine measures of the batch that it applies. Commands of one turn of the loop
/// were appended at the same moment, so they are measured together.
pub(super) struct ApplyMeter {
    cells: Arc<MetricCells>,
    begun: Instant,
    /// When the newest commands were appended, and how many of them have been applied.
    newest: Option<(Instant, u64)>,
}

impl ApplyMeter {
    pub(super) fn new(cells: Arc<MetricCells>) -> Self {
        Self { cells, begun: Instant::ZERO, newest: None }
    }

    pub(super) fn begin(&mut self, now: StdInstant) {
        self.begun = self.cells.at(now);
    }

    /// A command was applied whose client waits.
    pub(super) fn applied(&mut self, proposed_at: Option<Instant>) {
        let Some(at) = proposed_at else { return };
        match &mut self.newest {
            Some((newest, count)) if *newest == at => *count += 1,
            Some(_) | None => {
                let now = if self.newest.is_some() { self.cells.now() } else { self.begun };
                self.record(now);
                self.newest = Some((at, 1));
            }
        }
    }

    /// The batch ends now, which had so many entries. Returns the moment.
    pub(super) fn end(&mut self, entries: u64) -> StdInstant {
        let ended = StdInstant::now();
        let now = self.cells.at(ended);
        self.record(now);
        self.cells.histograms.apply.record(now.saturating_duration_since(self.begun));
        self.cells.totals.entries_applied.add_alone(entries);
        ended
    }

    /// A snapshot was restored.
    pub(super) fn restored(&self) {
        self.cells.totals.snapshots_installed.add_alone(1);
    }

    fn record(&mut self, now: Instant) {
        if let Some((at, count)) = self.newest.take() {
            let span = now.saturating_duration_since(at);
            self.cells.histograms.proposal_to_applied.record_many(span, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_pcg::{Pcg32, rand_core::SeedableRng};

    use super::*;
    use crate::config::Config;
    use crate::host::clock::Clock;
    use crate::message::{AppendEntries, Body, RequestVoteReply};
    use crate::output::{Output, Restored};
    use crate::types::{Index, LogId, Round, Session};

    struct Server {
        raft: Raft<Bytes, Pcg32>,
        roles: RoleMeter,
        cells: Arc<MetricCells>,
    }

    fn server() -> Server {
        let id = NodeId::new(1);
        let config = Config { pre_vote: false, ..Config::new(id, [1, 2, 3].map(NodeId::new)) };
        let raft = Raft::new(config, Restored::default(), Pcg32::seed_from_u64(1)).unwrap();
        let cells = Arc::new(MetricCells::new(id, Clock::new()));
        let roles = RoleMeter::new(Arc::clone(&cells), &raft);
        Server { raft, roles, cells }
    }

    impl Server {
        /// Lets the time pass to the next deadline; the disk works.
        fn tick(&mut self) {
            let now = self.raft.next_deadline().unwrap();
            self.raft.tick(now);
            self.roles.look(&self.raft);
            while let Some(output) = self.raft.poll_outbox() {
                if let Output::Persist(write) = output {
                    self.raft.persisted(write.id);
                    self.roles.look(&self.raft);
                }
            }
        }

        fn step(&mut self, term: Term, body: Body<Bytes>) {
            let (from, to) = (NodeId::new(2), NodeId::new(1));
            self.raft.step(Message { from, to, term, body });
            self.roles.look(&self.raft);
        }

        /// Elections started, won and lost.
        fn elections(&self) -> (u64, u64, u64) {
            let totals = &self.cells.totals;
            let (started, won) = (totals.elections_started.get(), totals.elections_won.get());
            (started, won, totals.elections_lost.get())
        }
    }

    #[test]
    fn each_election_and_each_end_of_a_leadership_counts_once() {
        let mut server = server();
        while server.raft.role() != Role::Candidate {
            server.tick();
        }
        assert_eq!(server.elections(), (1, 0, 0));
        let first = server.raft.term();
        while server.raft.term() == first {
            server.tick();
        }
        assert_eq!(server.elections(), (2, 0, 1), "nobody answered, so it stands again");
        let term = server.raft.term();
        let reply = RequestVoteReply { granted: true, last_log: LogId::ZERO };
        server.step(term, Body::RequestVoteReply(reply));
        assert_eq!(server.raft.role(), Role::Leader);
        assert_eq!(server.elections(), (2, 1, 1));
        let append = AppendEntries {
            session: Session::new(1),
            round: Round::new(1),
            prev_log: LogId::ZERO,
            entries: crate::entries::Entries::new(),
            leader_commit: Index::ZERO,
            rank: None,
            election_timeout_micros: None,
            takes_proposals: false,
        };
        server.step(Term::new(term.get() + 1), Body::AppendEntries(append));
        assert_eq!(server.raft.role(), Role::Follower);
        assert_eq!(server.cells.totals.step_downs_higher_term.get(), 1);
        assert_eq!(server.cells.totals.step_downs_other.get(), 0);
        while server.raft.role() != Role::Candidate {
            server.tick();
        }
        assert_eq!(server.elections(), (3, 1, 1));
    }

    #[test]
    fn a_leader_without_a_quorum_counts_that() {
        let mut server = server();
        while server.raft.role() != Role::Candidate {
            server.tick();
        }
        let reply = RequestVoteReply { granted: true, last_log: LogId::ZERO };
        server.step(server.raft.term(), Body::RequestVoteReply(reply));
        while server.raft.role() == Role::Leader {
            server.tick();
        }
        assert_eq!(server.cells.totals.step_downs_no_quorum.get(), 1);
        assert_eq!(server.elections(), (1, 1, 0));
    }
}
