//! The server (Figure 2): the public verbs, the dispatch of messages, the rules for all servers,
//! and the changes of role (Figure 4), all of which pass through `change_role`. The role is
//! borrowed mutably in this file alone.
//!
//! What a server holds is in `state/`. What the paper says about each remote procedure call is in
//! the file that bears its name. A rule for one role is a method of [`Leading`], [`Following`] or
//! [`Standing`], which borrow the state of that role and all else that the server holds. So the
//! type of a rule says which role it is for, and what it returns ([`Next`]) how the role goes on.

use alloc::vec::Vec;

use rand_core::Rng;

use crate::checkpoint::stored;
use crate::config::Config;
use crate::config_error::ConfigError;
use crate::entries::{Entry, Payload};
use crate::error::{ProposeError, ReadRefused};
use crate::membership::Membership;
use crate::message::{AppendEntriesReply, AppendResult, Body, Message, SnapshotMeta};
use crate::output::{Output, Restored};
use crate::reason::{Reasons, StepDown, SteppedDown};
use crate::role::Role;
use crate::state::durable::Durable;
use crate::state::forwards::Forwards;
use crate::state::inflights::Inflights;
use crate::state::log::Log;
use crate::state::members::Members;
use crate::state::memberships::Memberships;
use crate::state::outbox::Outbox;
use crate::state::progress::Progress;
use crate::state::promise::Promise;
use crate::state::reads::Reads;
use crate::state::roles::{
    Ballot, Candidate, Follower, KnownLeader, Leader, PreCandidate, RoleState, VoteKind,
    VoteRequest,
};
use crate::state::server::Server;
use crate::state::snapshots::Snapshots;
use crate::state::timers::Timers;
use crate::status::{Counters, PeerStatus, Status, count};
use crate::time::Instant;
use crate::types::{
    Command, Index, LogId, NodeId, ProposalId, ReadId, Round, Session, Term, WriteId,
};

/// One Raft server, as a state machine without clock, disk or network.
///
/// The host feeds it messages ([`step`](Raft::step)), the time ([`tick`](Raft::tick)) and requests;
/// and does what [`poll_outbox`](Raft::poll_outbox) asks, until it asks nothing more. Inputs and
/// polls may be mixed freely. Nothing here fails, blocks or panics because of what a peer said.
///
/// `C` is the command, `R` the source of random election timeouts.
///
/// # Example
///
/// A cluster of one, whose host writes to a disk that is always done at once:
///
/// ```
/// use rand_core::SeedableRng;
/// use raft_core::{Config, Instant, NodeId, Output, Payload, Raft, Restored};
///
/// let config = Config::new(NodeId::new(1), [NodeId::new(1)]);
/// let rng = rand_pcg::Pcg32::seed_from_u64(1);
/// let mut raft = Raft::<Vec<u8>, _>::new(config, Restored::default(), rng)?;
/// let mut applied = Vec::new();
/// let mut proposed = false;
///
/// while applied.is_empty() {
///     raft.tick(raft.next_deadline().unwrap_or(Instant::ZERO));
///     while let Some(output) = raft.poll_outbox() {
///         match output {
///             Output::Persist(write) => raft.persisted(write.id),
///             Output::Apply { from, through } => {
///                 applied.extend(raft.entries(from, through).filter_map(|entry| {
///                     match &entry.payload {
///                         Payload::Command(command) => Some(command.clone()),
///                         _ => None,
///                     }
///                 }));
///                 raft.applied(through);
///             }
///             _ => {}
///         }
///     }
///     if !proposed {
///         proposed = raft.propose(b"hello".to_vec()).is_ok();
///     }
/// }
/// assert_eq!(applied, [b"hello".to_vec()]);
/// # Ok::<(), raft_core::ConfigError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Raft<C, R> {
    pub(crate) server: Server<C, R>,
    pub(crate) role: RoleState,
}

stored! { struct Raft<C, R> { server, role } }

/// A server that leads: the leader's state, and beside it all else that the server holds. The rules
/// for leaders are methods of this.
pub(crate) struct Leading<'r, C, R> {
    pub(crate) leader: &'r mut Leader,
    pub(crate) server: &'r mut Server<C, R>,
}

/// A follower that knows its leader. The rules for followers are methods of this.
pub(crate) struct Following<'r, C, R> {
    pub(crate) known: &'r mut KnownLeader,
    pub(crate) server: &'r mut Server<C, R>,
}

/// A server that asks for votes or for pre-votes. The rules for candidates are methods of this.
pub(crate) struct Standing<'r, C, R> {
    pub(crate) kind: VoteKind,
    pub(crate) ballot: &'r mut Ballot,
    pub(crate) server: &'r mut Server<C, R>,
}

/// What a rule demands of the role (Figure 4). A rule borrows the state of its role, so it cannot
/// end the role itself; [`Raft`] does what it returns.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// The role goes on.
    Stay,
    /// This server follows nobody yet, for this reason.
    Follow(StepDown),
    /// It stands for election; on its leader's request if that is a transfer.
    Stand { transfer: bool },
    /// It leads.
    Lead,
}

impl<C: Command, R: Rng> Raft<C, R> {
    /// A server that starts, or starts again with what its disk holds.
    ///
    /// # Errors
    ///
    /// If no server could run with this configuration, or no server could have written this state;
    /// the text says why.
    pub fn new(config: Config, restored: Restored<C>, rng: R) -> Result<Self, ConfigError> {
        config.validate()?;
        restored.validate()?;
        let has_run = restored.has_run();
        let Restored { hard_state, snapshot, base, entries } = restored;
        let snapshot = snapshot.unwrap_or_else(|| {
            // A server that joined learns its members from the log alone, also if it is told of
            // voters when it starts again.
            let voters = if has_run { &[][..] } else { &config.voters };
            let membership = Membership::of_voters(voters.iter().copied());
            SnapshotMeta { last: LogId::ZERO, membership }
        });
        let begin = snapshot.last.index;
        let mut memberships = Memberships::new(begin, snapshot.membership.clone());
        for entry in &entries {
            if let Payload::Configuration(membership) = &entry.payload {
                // What the snapshot includes, its own configuration says.
                if entry.index > begin {
                    memberships.append(entry.index, (**membership).clone());
                }
            }
        }
        let mut log = Log::of_entries(base, entries);
        // The tail may have been longer in an earlier life, and must leave room for what is allowed
        // now.
        log.compact_to(begin, config.log_tail_bytes, begin);
        // A log that ends sooner is a part of what was committed.
        let commit_index = begin.max(hard_state.committed.min(log.last().index));
        let members = Members::new(config.id, memberships.in_force(), memberships.previous());
        let promise = Promise::after_restart(hard_state.promise_micros, &config, has_run);
        let mut server = Server {
            config,
            membership_changed: false,
            now: Instant::ZERO,
            promise,
            current_term: hard_state.current_term,
            voted_for: hard_state.voted_for,
            durable: Durable::new(log.last().index, !has_run),
            log,
            snapshots: Snapshots::new(snapshot),
            timers: Timers::new(),
            vote_requests: Vec::with_capacity(members.ids.len()),
            campaigns: 0,
            commit_index,
            uncommitted_bytes: 0,
            apply_sent: begin,
            last_applied: begin,
            inflight_applies: Inflights::default(),
            reads: Reads::new(),
            forwards: Forwards::new(),
            outbox: Outbox::new(),
            reported: (Role::Follower, hard_state.current_term, None),
            counters: Counters::default(),
            reasons: Reasons::default(),
            idle_peers: members.ids.iter().map(|_| Progress::new()).collect(),
            memberships,
            members,
            rng,
        };
        // Answers to the questions of an earlier life must not fit those of this one.
        server.campaigns = server.rng.next_u64();
        server.reads.number_requests_from(server.campaigns);
        server.forwards.number_from(server.campaigns);
        Ok(Self { server, role: RoleState::Follower(Follower::default()) })
    }

    /// Takes a message from another server. What makes no sense is counted and dropped.
    pub fn step(&mut self, message: Message<C>) {
        let Some(position) = self.position_of_sender(&message) else { return };
        self.dispatch(position, message);
        self.check_invariants();
    }

    /// Tells the time. Arms the timers that steps touched, judges the vote requests that waited,
    /// then fires what is due.
    ///
    /// Call it when [`next_deadline`](Self::next_deadline) has come and after every batch of
    /// inputs; a call too many changes nothing. Time that goes back is taken to stand still.
    pub fn tick(&mut self, now: Instant) {
        self.server.now = self.server.now.max(now);
        self.server.promise.on_tick(self.server.now);
        self.arm_timers();
        if !self.server.vote_requests.is_empty() {
            self.judge_vote_requests();
            self.arm_timers();
        }
        if self.server.timers.any_is_due(self.server.now) {
            if self.server.timers.election.is_due(self.server.now)
                && !self.listens_first(self.server.timers.election)
            {
                self.on_election_timeout();
            }
            if self.server.timers.heartbeat.is_due(self.server.now) {
                self.on_heartbeat_timeout();
            }
            if self.server.timers.quorum.is_due(self.server.now)
                && !self.listens_first(self.server.timers.quorum)
            {
                self.as_leader(|mut leading| leading.on_quorum_timeout());
            }
            if self.server.timers.transfer.is_due(self.server.now) {
                self.server.timers.transfer.stop();
                self.as_leader(|mut leading| leading.on_transfer_timeout());
            }
            self.arm_timers();
        }
        if let Some(mut leading) = self.leading() {
            leading.confirm_by_lease();
        }
        self.server.give_up_forwards();
        self.check_invariants();
    }

    /// When the next [`tick`](Self::tick) has something to do; at once (no later than the last
    /// tick) if a step left work for it. `None` only if nothing will ever happen by itself.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wake().map(|(at, _)| at)
    }

    /// The next thing for the host to do; `None` if there is nothing until the next input.
    pub fn poll_outbox(&mut self) -> Option<Output<C>> {
        let output = self.next_output();
        self.check_invariants();
        output
    }

    /// Appends a command to the log of the leader, to be replicated. Returns where: if an entry of
    /// this term is applied at this index, it is this command, and else it is lost.
    ///
    /// # Errors
    ///
    /// Gives the command back if this server does not lead or is handing over, if the command is
    /// too long, or if the log or what is not committed of it is at its limit.
    pub fn propose(&mut self, command: C) -> Result<(Term, Index), ProposeError<C>> {
        let known = self.leader();
        let Some(mut leading) = self.leading() else {
            return Err(ProposeError::NotLeader { leader: known, command });
        };
        let index = leading.propose(command)?;
        self.check_invariants();
        Ok((self.server.current_term, index))
    }

    /// Forwards a command to the leader that this server follows, to be appended to its log. What
    /// becomes of it, [`Output::Forwarded`] says.
    ///
    /// # Errors
    ///
    /// Gives the command back if this server follows no leader, or one whose version takes no
    /// forwarded commands ([`ProposeError::NotLeader`]), if the command is too long, or if as many
    /// commands as [`Config::forwards_waiting_max`] or as many bytes as
    /// [`Config::forwards_bytes_max`] wait already.
    pub fn forward(&mut self, command: C) -> Result<ProposalId, ProposeError<C>> {
        let accepted = self.accept_forward(command);
        self.check_invariants();
        accepted
    }

    /// Asks for a linearizable read (thesis 6.4), of this leader or, at a follower, through the
    /// leader that it knows. [`Output::ReadReady`] says when it may be served, [`Output::ReadLost`]
    /// that this server can no longer tell.
    ///
    /// # Errors
    ///
    /// If this server knows no leader, or as many reads as [`Config::reads_waiting_max`] wait
    /// already.
    pub fn read(&mut self) -> Result<ReadId, ReadRefused> {
        self.accept_read()
    }

    /// The host made this write durable, and all before it. Several may be answered for at once, by
    /// the last.
    pub fn persisted(&mut self, id: WriteId) {
        if !self.server.durable.on_persisted(id) {
            count(&mut self.server.counters.api_misuse);
        }
        self.as_candidate(|standing| standing.count_votes());
        self.as_leader(|mut leading| leading.advance_commit());
        self.check_invariants();
    }

    /// The entries from `from` to `through`, in order, for [`Output::Apply`]. The log holds all of
    /// them until the next input; then a compaction or a snapshot may remove them, whether they
    /// were applied or not. Of other ranges, those that the log holds; none if it lacks the first.
    pub fn entries(&self, from: Index, through: Index) -> impl Iterator<Item = &Entry<C>> {
        self.server.log.range(from, through)
    }

    /// The state machine has applied the entries up to this one, as [`Output::Apply`] asked.
    pub fn applied(&mut self, index: Index) {
        if index > self.server.apply_sent {
            count(&mut self.server.counters.api_misuse);
            return;
        }
        self.server.last_applied = self.server.last_applied.max(index);
        self.server.inflight_applies.acknowledge(index);
    }

    /// This server.
    pub fn id(&self) -> NodeId {
        self.server.config.id
    }

    /// What this server is.
    pub fn role(&self) -> Role {
        self.role.role()
    }

    /// The latest term that this server has seen.
    pub fn term(&self) -> Term {
        self.server.current_term
    }

    /// The leader of the current term, if this server knows it.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            RoleState::Follower(follower) => follower.leader.as_ref().map(|known| known.id),
            RoleState::Leader(_) => Some(self.id()),
            RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }

    /// The last entry known to be committed.
    pub fn commit_index(&self) -> Index {
        self.server.commit_index
    }

    /// The position before the first entry that the log holds, and its last entry. For hosts whose
    /// memory is small: see [`Status`], which holds the same and allocates.
    pub fn log_range(&self) -> (LogId, LogId) {
        (self.server.log.base(), self.server.log.last())
    }

    /// What this server was told before it started.
    pub fn config(&self) -> &Config {
        &self.server.config
    }

    /// What can be seen from outside. Allocates; meant for operators and tests, not for every turn
    /// of the loop.
    pub fn status(&self) -> Status {
        let peers = match &self.role {
            RoleState::Leader(leader) => {
                let all = self.server.members.ids.iter().zip(leader.peers.iter());
                let others = all.filter(|(id, _)| **id != self.id());
                others.map(|(id, progress)| PeerStatus::new(*id, progress)).collect()
            }
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => {
                Vec::new()
            }
        };
        Status {
            id: self.id(),
            now: self.server.now,
            role: self.role(),
            current_term: self.server.current_term,
            voted_for: self.server.voted_for,
            leader: self.leader(),
            election_timeout: self.timeout_in_force().election_timeout(),
            last_log: self.server.log.last(),
            durable_index: self.server.durable.index(),
            commit_index: self.server.commit_index,
            last_applied: self.server.last_applied,
            log_bytes: self.server.log.bytes(),
            log_base: self.server.log.base(),
            snapshot: self.server.snapshots.last.last,
            membership: self.membership().clone(),
            writes_in_flight: self.server.durable.writes_in_flight(),
            reads_waiting: self.server.reads.waiting(),
            forwards_waiting: self.server.forwards.len(),
            peers,
            counters: self.server.counters,
            stepped_down: self.server.reasons.stepped_down,
            refused_vote: self.server.reasons.refused_vote,
            wake: self.wake(),
        }
    }

    // Rules for all servers (Figure 2).

    /// The position of the sender among the members. None if the message is not to be heard. For a
    /// request of a server that is no member it has no meaning: requests are heard from any server,
    /// because a configuration may have come to the sender first (§6).
    fn position_of_sender(&mut self, message: &Message<C>) -> Option<usize> {
        if message.to != self.id() {
            count(&mut self.server.counters.misrouted);
            return None;
        }
        let position = self.server.members.position(message.from);
        let is_reply = matches!(
            message.body,
            Body::RequestPreVoteReply(_)
                | Body::RequestVoteReply(_)
                | Body::AppendEntriesReply(_)
                | Body::InstallSnapshotReply(_)
        );
        if message.from == message.to || (is_reply && position.is_none()) {
            count(&mut self.server.counters.unknown_sender);
            return None;
        }
        Some(position.unwrap_or_default())
    }

    /// A message to the rule for its kind. Vote requests wait for the next tick, in whatever term
    /// they are; all else but answers to pre-votes counts only in the current term.
    fn dispatch(&mut self, position: usize, message: Message<C>) {
        let Message { from, term, body, .. } = message;
        match body {
            Body::RequestPreVote(request) => {
                let kind = VoteKind::PreVote { campaign: request.campaign };
                self.server.hold_vote_request(VoteRequest::new(from, term, request.last_log, kind));
            }
            Body::RequestVote(request) => {
                let kind = VoteKind::Vote { transfer: request.transfer };
                self.server.hold_vote_request(VoteRequest::new(from, term, request.last_log, kind));
            }
            Body::RequestPreVoteReply(reply) => {
                // A voter of an earlier term may grant; which attempt it answers, the reply says.
                self.adopt(term);
                self.as_candidate(|mut standing| {
                    standing.on_request_pre_vote_reply(position, reply)
                });
            }
            body if self.is_current(term) => self.dispatch_current(position, from, body),
            Body::AppendEntries(_) | Body::InstallSnapshot(_) => self.refuse_stale_append(from),
            Body::RequestVoteReply(_)
            | Body::AppendEntriesReply(_)
            | Body::InstallSnapshotReply(_)
            | Body::TimeoutNow(_)
            | Body::ReadIndex(_)
            | Body::ReadIndexReply(_)
            | Body::Propose(_)
            | Body::ProposeReply(_) => {}
        }
    }

    /// A message of the current term to the rule for its kind and for the role of this server.
    fn dispatch_current(&mut self, position: usize, from: NodeId, body: Body<C>) {
        match body {
            Body::AppendEntries(append) => self.on_append_entries(from, append),
            Body::InstallSnapshot(install) => self.on_install_snapshot(from, install),
            Body::ProposeReply(reply) => self.on_propose_reply(from, reply),
            Body::RequestVoteReply(reply) => {
                self.as_candidate(|mut standing| standing.on_request_vote_reply(position, reply));
            }
            Body::AppendEntriesReply(reply) => {
                self.as_leader(|mut leading| leading.on_append_entries_reply(position, reply));
            }
            Body::TimeoutNow(request) => {
                self.as_follower(|mut following| following.on_timeout_now(from, request));
            }
            Body::InstallSnapshotReply(reply) => {
                if let Some(mut leading) = self.leading() {
                    leading.on_install_snapshot_reply(position, reply);
                }
            }
            Body::ReadIndex(request) => {
                if let Some(mut leading) = self.leading() {
                    leading.on_read_index(from, request);
                }
            }
            Body::ReadIndexReply(reply) => {
                if let Some(mut following) = self.following() {
                    following.on_read_index_reply(from, reply);
                }
            }
            Body::Propose(request) => {
                if let Some(mut leading) = self.leading() {
                    leading.on_propose(from, request);
                }
            }
            Body::RequestPreVote(_) | Body::RequestVote(_) | Body::RequestPreVoteReply(_) => {}
        }
    }

    /// Adopts a higher term; returns whether `term` is then the current one.
    fn is_current(&mut self, term: Term) -> bool {
        self.adopt(term);
        if term < self.server.current_term {
            count(&mut self.server.counters.stale_term);
        }
        term == self.server.current_term
    }

    /// "If the term is higher than the current one: adopt it, become follower" (§5.1).
    fn adopt(&mut self, term: Term) {
        if term > self.server.current_term {
            self.step_down(term, StepDown::HigherTerm);
        }
    }

    // Changes of role (Figure 4).

    /// Follows nobody yet.
    pub(crate) fn become_follower(&mut self, term: Term) {
        if term > self.server.current_term {
            self.server.advance_term(term);
        }
        self.change_role(RoleState::Follower(Follower::default()));
    }

    /// Becomes a follower that follows nobody yet. Keeps the reason, unless it is a follower
    /// already.
    pub(crate) fn step_down(&mut self, term: Term, reason: StepDown) {
        let role = self.role();
        if role != Role::Follower {
            let handed_over = reason == StepDown::HigherTerm && self.transferring().is_some();
            let reason = if handed_over { StepDown::HandedOver } else { reason };
            let ended = SteppedDown { role, term: self.server.current_term, reason };
            self.server.reasons.stepped_down = Some(ended);
        }
        self.become_follower(term);
    }

    /// Ends the present role and begins this one.
    ///
    /// In line, so that the new role is built where it stays: a role is large, and copying it twice
    /// costs a tenth of an election.
    #[inline(always)]
    pub(crate) fn change_role(&mut self, role: RoleState) {
        self.end_role();
        self.role = role;
    }

    fn end_role(&mut self) {
        self.server.timers.heartbeat.stop();
        if let RoleState::Leader(leader) = &mut self.role {
            self.server.idle_peers = leader.peers.take();
            self.server.idle_peers.iter_mut().for_each(Progress::end);
            self.server.reads.on_leadership_lost();
            self.server.timers = Timers::new();
        }
    }

    /// Does what a rule demands of the role.
    pub(crate) fn change_to(&mut self, next: Next) {
        match next {
            Next::Stay => {}
            Next::Follow(reason) => self.step_down(self.server.current_term, reason),
            Next::Stand { transfer } => self.become_candidate(transfer),
            Next::Lead => self.become_leader(),
        }
    }

    // The role, which is borrowed mutably in this file alone.

    /// This server as a leader, if it is one.
    pub(crate) fn leading(&mut self) -> Option<Leading<'_, C, R>> {
        match &mut self.role {
            RoleState::Leader(leader) => Some(Leading { leader, server: &mut self.server }),
            RoleState::Follower(_) | RoleState::PreCandidate(_) | RoleState::Candidate(_) => None,
        }
    }

    /// This server as a follower, if it is one and knows its leader.
    pub(crate) fn following(&mut self) -> Option<Following<'_, C, R>> {
        match &mut self.role {
            RoleState::Follower(Follower { leader: Some(known), .. }) => {
                Some(Following { known, server: &mut self.server })
            }
            RoleState::Follower(_)
            | RoleState::PreCandidate(_)
            | RoleState::Candidate(_)
            | RoleState::Leader(_) => None,
        }
    }

    /// This server as one that asks for votes or pre-votes, if it does.
    pub(crate) fn standing(&mut self) -> Option<Standing<'_, C, R>> {
        let server = &mut self.server;
        match &mut self.role {
            RoleState::PreCandidate(PreCandidate { campaign, ballot }) => {
                let kind = VoteKind::PreVote { campaign: *campaign };
                Some(Standing { kind, ballot, server })
            }
            RoleState::Candidate(Candidate { ballot, transfer }) => {
                let kind = VoteKind::Vote { transfer: *transfer };
                Some(Standing { kind, ballot, server })
            }
            RoleState::Follower(_) | RoleState::Leader(_) => None,
        }
    }

    /// Applies a rule for leaders, and does what it demands.
    fn as_leader(&mut self, rule: impl FnOnce(Leading<'_, C, R>) -> Next) {
        let next = self.leading().map_or(Next::Stay, rule);
        self.change_to(next);
    }

    /// Applies a rule for followers, and does what it demands.
    fn as_follower(&mut self, rule: impl FnOnce(Following<'_, C, R>) -> Next) {
        let next = self.following().map_or(Next::Stay, rule);
        self.change_to(next);
    }

    /// Applies a rule for candidates, and does what it demands.
    pub(crate) fn as_candidate(&mut self, rule: impl FnOnce(Standing<'_, C, R>) -> Next) {
        let next = self.standing().map_or(Next::Stay, rule);
        self.change_to(next);
    }

    /// Follows this leader from now on.
    pub(crate) fn follow_leader(&mut self, known: KnownLeader) {
        if let RoleState::Follower(follower) = &mut self.role {
            follower.leader = Some(known);
        }
    }

    /// A follower draws its election timeout once by the hint that its leader is gone.
    pub(crate) fn forget_suspicion(&mut self) {
        if let RoleState::Follower(follower) = &mut self.role {
            follower.suspicion = None;
        }
    }

    // Messages.

    /// Tells a leader of an earlier term that its time is over. Echoes neither its session nor its
    /// round: should it lead the term that it is told of, this answer must not pass for one to what
    /// it says there. No session has the number 0.
    fn refuse_stale_append(&mut self, to: NodeId) {
        let (session, round) = (Session::new(0), Round::new(0));
        let result = AppendResult::Matched(Index::ZERO);
        let reply = AppendEntriesReply { session, round, result, promise_micros: 0, state: None };
        self.server.hold_reply(to, Body::AppendEntriesReply(reply));
    }
}

impl<C: Command, R: Rng> Server<C, R> {
    /// Begins a term, in which this server has not voted and has said nothing.
    pub(crate) fn advance_term(&mut self, term: Term) {
        debug_assert!(term > self.current_term);
        self.current_term = term;
        self.voted_for = None;
        self.promise.on_new_term(&self.config, self.now);
        self.durable.on_hard_state_changed();
        self.outbox.clear();
        self.reads.on_leadership_lost();
        self.forwards.on_leader_lost();
    }

    pub(crate) fn vote_for(&mut self, candidate: NodeId) {
        debug_assert!(self.voted_for.is_none_or(|earlier| earlier == candidate));
        if self.voted_for != Some(candidate) {
            self.voted_for = Some(candidate);
            self.durable.on_hard_state_changed();
        }
    }
}
