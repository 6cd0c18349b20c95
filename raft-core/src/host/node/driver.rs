//! The body of the loop: everything that a node does between two waits, the same under every
//! runtime.

use std::boxed::Box;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;

use super::digests::Comparison;
use super::findings::findings;
use super::forwards::Forwards;
use super::inbox::{Arrived, Freshness, Inbox, NodeRequest, ProposeRequest, Query};
use super::inputs::Core;
use super::journal_thread::JournalWorker;
use super::leader_address::LeaderAddress;
use super::leadership::{Leadership, LeadershipState};
use super::life;
use super::members::Members;
use super::membership_changes::Changes;
use super::meter::Meter;
use super::reasons::Reasons;
use super::snapshots::SnapshotsInUse;
use super::spin_wait;
use super::state_machine_thread::StateMachineWorker;
use super::status::NodeStatus;
use super::store_recorder::Recorder;
use super::transfer::Handover;
use super::waiters::Waiters;
use crate::entries::{Entries, Entry};
use crate::error;
use crate::host::clock::{Clock, Next};
use crate::host::error::{NamesLeader, StopReason};
use crate::host::known_peers::KnownPeers;
use crate::host::state_machine::StateMachine;
use crate::host::threads::here;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::panics::answer;
use crate::host::threads::watch::Watch;
use crate::host::transport::Transport;
use crate::host::versions::Versions;
use crate::host::worker_kind::WorkerKind;
use crate::membership::Membership;
use crate::output::{Output, Write};

use crate::role::Role;
use crate::status::Wake;
use crate::time::Instant;
use crate::types::{Index, LogId, NodeId, Term, WriteId};

mod backups;
mod end;
mod measure;
mod shared;
mod start;

pub use shared::Driver;

/// A node without its loop, and without the work of the state machine. Dropping it stops the node.
struct NodeLoop<S: StateMachine> {
    raft: Core,
    clock: Clock,
    meter: Meter,
    inbox: Arc<Inbox<S>>,
    /// The inputs of this turn; kept for its buffers.
    arrived: Arrived<S>,
    waiters: Waiters<S>,
    forwards: Forwards<S>,
    changes: Changes,
    handover: Handover<S>,
    /// Whether leadership was being handed over when the last turn ended.
    was_transferring: bool,
    /// Until when the proposers of entries that a former leadership left behind wait for these
    /// entries to commit.
    follows_entries_until: Option<Instant>,
    snapshots: SnapshotsInUse,
    transport: Box<dyn Transport>,
    stores: Recorder,
    peers: Arc<KnownPeers>,
    journal: JournalWorker,
    state_machine: StateMachineWorker<S>,
    states: Comparison,
    watch: Watch,
    reasons: Reasons,
    /// The unit of work for which leadership was last handed over because the state machine was
    /// stuck at it, and the term.
    evaded: Option<(u64, Term)>,
    /// The versions of the application that this program understands.
    versions: Versions,
    shutdown_max: Duration,
    leader_address: LeaderAddress,
    leadership_state: Arc<LeadershipState>,
    members: Arc<Members>,
    lifecycle: Arc<Lifecycle>,
}

impl<S: StateMachine> NodeLoop<S> {
    /// Takes the inputs, tells Raft the time, and carries out Raft's outputs. Never blocks. If the
    /// node is about to stand for election, the turn first watches the clock for up to 300 µs.
    fn turn(&mut self) -> Next {
        let next = self.turn_unmeasured();
        self.meter.turn_ends(&next);
        next
    }

    fn turn_unmeasured(&mut self) -> Next {
        let _here = here::enter(self.lifecycle.threads_node(), false);
        if let Some((deadline, Wake::Election)) = self.raft.wake() {
            if !self.inbox.has_arrivals() {
                self.meter.turn_begins(StdInstant::now());
                spin_wait::wait(&self.clock, deadline, || self.inbox.has_arrivals());
            }
        }
        let more = self.inbox.take(&mut self.arrived);
        // The moment of the turn. Its inputs arrived before, so that a read is served only under a
        // lease that held when the read had come. They are heard behind it, so that nobody is given
        // up because the loop stands still in the midst of a turn, while a heartbeat comes.
        let begun = StdInstant::now();
        self.meter.turn_begins(begun);
        let now = self.meter.now();
        if let Some(reason) = self.arrived.stop.take() {
            if !self.delays_stop(&reason) {
                self.lifecycle.end(reason);
                return Next::Stop;
            }
        }
        self.stores.look(&mut self.raft);
        self.take_arrivals();
        let own = self.raft.id();
        self.stores.record(&mut self.raft, now, || self.transport.address(own));
        self.reasons.before_tick(&self.raft, now);
        self.raft.tick(now);
        self.settle_transfer(now);
        self.do_outputs();
        while self.changes.advance(&mut self.raft, &self.peers, |raft, error| {
            self.leader_address.complete(error, raft.membership(), &*self.transport);
        }) {
            self.do_outputs();
        }
        self.snapshots.settle(&self.raft);
        self.look_after_workers(begun);
        self.reasons.after_turn(&self.raft);
        if self.raft.is_membership_committed() {
            self.members.publish_version(self.raft.membership().version());
        }
        self.was_transferring = self.raft.transferring().is_some();
        self.publish_metrics();
        self.waiters.turn_ends();
        if more {
            return Next::Again;
        }
        let own = self.handover.deadline().into_iter().chain(self.follows_entries_until);
        let own = own.chain(self.forwards.deadline());
        let deadline = self.raft.wake().map(spin_wait::wake_at).into_iter().chain(own).min();
        let deadline = deadline.and_then(|moment| self.clock.system_time(moment));
        Next::Wait(deadline.into_iter().chain(self.watch.deadline()).min())
    }

    /// Notices threads that hang. If the state machine hangs, the loop answers its clients for it,
    /// and a leader hands over.
    fn look_after_workers(&mut self, now: StdInstant) {
        if !self.watch.is_due(now) {
            return;
        }
        self.watch.look(now);
        let Some(unit) = self.watch.stuck_at(WorkerKind::StateMachine) else { return };
        let leads = self.raft.role() == Role::Leader;
        self.state_machine.answer_for_it(leads);
        let now = (unit, self.raft.term());
        if leads && self.evaded != Some(now) {
            self.evaded = Some(now);
            let node = self.raft.id();
            match self.raft.transfer_leadership(None) {
                Ok(to) => {
                    let peer = to.get();
                    tracing::warn!(
                        node = node.get(),
                        peer,
                        "this node hands over leadership, because its state machine is stuck"
                    );
                }
                Err(why) => {
                    tracing::warn!(node = node.get(), %why, "this node leads with a stuck state machine, because it cannot hand over");
                }
            }
            self.do_outputs();
        }
    }

    /// Hands leadership over before the node stops; returns whether the stop has to wait for that.
    /// A leader that can still keep a promise waits, because its successor may need its vote. A
    /// leader that cannot write any more promises nothing when it asks another server to stand, so
    /// it does not wait for the outcome.
    fn delays_stop(&mut self, reason: &StopReason) -> bool {
        match reason {
            StopReason::Shutdown
            | StopReason::StateMachinePanicked { .. }
            | StopReason::CommandNotUnderstood { .. } => {
                self.handover.delays_stop(&mut self.raft, self.clock.now())
            }
            StopReason::JournalFailed(_) | StopReason::JournalPanicked { .. } => {
                if self.raft.transfer_leadership(None).is_ok() {
                    self.do_outputs();
                }
                false
            }
            StopReason::RestoreFailed(_)
            | StopReason::VersionNotUnderstood { .. }
            | StopReason::WorkerPanicked { .. }
            | StopReason::Abandoned => false,
        }
    }

    fn take_arrivals(&mut self) {
        self.take_reports();
        self.take_messages();
        self.take_requests();
    }

    fn take_reports(&mut self) {
        if let Some(id) = self.arrived.persisted.take() {
            self.persisted(id);
        }
        if let Some(index) = self.arrived.applied.take() {
            self.raft.applied(index);
            self.snapshots.applied(index);
        }
        for report in self.arrived.snapshots.drain(..) {
            self.snapshots.take_report(&mut self.raft, report);
        }
    }

    fn persisted(&mut self, id: WriteId) {
        self.meter.persisted(id);
        let durable = self.raft.server.durable.index();
        self.raft.persisted(id);
        life::durable(self.raft.id(), durable, self.raft.server.durable.index());
        self.snapshots.persisted(id);
    }

    fn take_messages(&mut self) {
        let mut sent = false;
        for message in self.arrived.messages.drain(..) {
            self.meter.received(&message);
            if let Some(answer) = self.states.hear(&message, self.raft.membership()) {
                self.transport.send(answer);
                sent = true;
            }
            self.raft.step(message);
        }
        for answer in self.states.look() {
            self.transport.send(answer);
            sent = true;
        }
        if sent {
            self.transport.flush();
        }
        for suspect in self.arrived.suspects.drain(..) {
            self.raft.suspect_leader(suspect);
        }
    }

    fn take_requests(&mut self) {
        let mut requests = mem::take(&mut self.arrived.requests);
        for request in requests.drain(..) {
            match request {
                NodeRequest::Propose(proposal) => self.propose(proposal),
                NodeRequest::Read { query, freshness } => self.read(query, freshness),
                NodeRequest::Status(reply) => answer(reply, Ok(self.status())),
                NodeRequest::Change { changes, reply } => self.changes.push(changes, reply),
                NodeRequest::Transfer { to, reply } => {
                    let begun = self.handover.begin(&mut self.raft, to, reply);
                    if let Err((reply, error)) = begun {
                        self.refuse(reply, error);
                    }
                }
                NodeRequest::TakeSnapshot(reply) => self.snapshots.ask(&mut self.raft, reply),
            }
        }
        self.arrived.requests = requests;
    }

    fn propose(&mut self, proposal: ProposeRequest<S>) {
        if self.handover.parked() > 0 {
            // Keeps the order: commands that came earlier wait for the end of the transfer.
            return self.handover.park(proposal, &self.meter);
        }
        let ProposeRequest { command, reply, forwards } = proposal;
        match self.raft.propose(command) {
            Ok((term, index)) => {
                self.meter.cells().totals.proposals_accepted.add_alone(1);
                let entry = LogId::new(term, index);
                life::accepted(self.raft.id(), entry);
                self.waiters.proposed(entry, self.meter.now(), reply);
            }
            Err(error::ProposeError::Transferring { command, .. }) => {
                self.handover.park(ProposeRequest { command, reply, forwards }, &self.meter);
            }
            Err(error::ProposeError::NotLeader { command, .. }) if forwards => {
                let begun = self.forwards.begin(&mut self.raft, command, reply, &self.meter);
                if let Err((reply, error)) = begun {
                    self.refuse(reply, error);
                }
            }
            Err(error) => {
                self.meter.refused(&error);
                self.refuse(reply, error.into());
            }
        }
    }

    /// Refuses a request, with the address of the leader if the error names one.
    fn refuse<T, E: NamesLeader>(&mut self, reply: oneshot::Sender<Result<T, E>>, mut error: E) {
        self.leader_address.complete(&mut error, self.raft.membership(), &*self.transport);
        answer(reply, Err(error));
    }

    /// Takes a read. The read counts towards
    /// [`Config::reads_waiting_max`](crate::Config::reads_waiting_max) until the state machine has
    /// served it. The core counts it until it is confirmed, and the state machine's thread from
    /// then on.
    fn read(&mut self, query: Query<S>, freshness: Freshness) {
        let waiting_max = self.raft.config().reads_waiting_max;
        self.count_read(freshness);
        if self.reads_waiting() >= waiting_max {
            self.meter.cells().totals.reads_refused_busy.add_alone(1);
            return query.refuse(error::ReadRefused::TooManyReads { waiting_max }.into());
        }
        let now = self.clock.now();
        let is_fresh = match freshness {
            Freshness::Linearizable => false,
            Freshness::AtMost(age) => self.waiters.fresh_at().is_some_and(|at| now <= at + age),
            Freshness::Local => true,
        };
        if is_fresh {
            self.serve(query);
            return self.watch.expect_work();
        }
        match self.raft.read() {
            Ok(id) => self.waiters.reading(id, now, query),
            Err(refused) => {
                self.count_refused_read(refused);
                query.refuse(refused.into());
            }
        }
    }

    /// If a transfer is over, answers the requests that waited for its end.
    fn settle_transfer(&mut self, now: Instant) {
        for proposal in self.handover.settle(&self.raft, now) {
            self.propose(proposal);
        }
        if self.follows_entries_until.is_some_and(|until| until <= now) {
            self.follows_entries_until = None;
            self.waiters.lose_all();
        }
        self.forwards.expire(&self.raft, now);
    }

    fn do_outputs(&mut self) {
        let (mut sent, mut gave_work) = (false, false);
        while let Some(output) = self.raft.poll_outbox() {
            gave_work |= is_work(&output);
            match output {
                Output::Persist(write) => self.persist(write),
                Output::Send(mut message) => {
                    self.states.tell(&mut message);
                    self.meter.sent(&message);
                    self.transport.send(message);
                    sent = true;
                }
                Output::Apply { from, through } => self.apply(from, through),
                Output::ReadReady { id, index: _ } => {
                    // The state machine already has every entry that the read must see.
                    if let Some(query) = self.waiters.read_ready(id) {
                        self.serve(query);
                    }
                }
                Output::TakeSnapshot(snapshot) => {
                    if let Some(capture) = self.snapshots.begin(&mut self.raft, &snapshot) {
                        self.state_machine.snapshot(capture, snapshot);
                    }
                }
                Output::ReadSnapshot(read) => self.snapshots.read(&mut self.raft, read),
                Output::WriteSnapshot(write) => self.snapshots.write(write),
                Output::Restore(snapshot) => {
                    // The entries that the snapshot replaces are not applied here, so their
                    // proposers get no reply.
                    self.waiters.lose_all();
                    self.forwards.lose_through(snapshot.last.index);
                    self.snapshots.restoring(snapshot.last);
                    self.state_machine.restore(snapshot);
                }
                Output::MembershipChanged(membership) => self.members_changed(membership),
                Output::Forwarded { id, outcome } => {
                    if let Some((reply, error)) = self.forwards.answered(id, outcome) {
                        self.refuse(reply, error);
                    }
                    self.forwards.leader_changed(&self.raft, self.clock.now());
                }
                Output::ReadLost { id } => {
                    self.meter.cells().totals.reads_lost.add_alone(1);
                    self.waiters.read_lost(id);
                }
                Output::RoleChanged { role, term, leader } => {
                    let node = self.raft.id();
                    let leads = leader.map(NodeId::get);
                    tracing::info!(
                        node = node.get(),
                        ?role,
                        term = term.get(),
                        leader = leads,
                        "role or leader changed"
                    );
                    self.role_changed(role, term);
                    self.forwards.leader_changed(&self.raft, self.clock.now());
                    self.publish_leadership(role, term, leader);
                }
            }
        }
        if gave_work {
            self.watch.expect_work();
        }
        if sent {
            self.transport.flush();
        }
    }

    /// Hands committed entries to the state machine, with the clients that wait for them.
    fn apply(&mut self, from: Index, through: Index) {
        let entries: Entries<_> = self.raft.entries(from, through).cloned().collect();
        life::committed(self.raft.id(), entries.iter().map(Entry::id));
        let mut proposers = self.waiters.committed(&entries);
        self.count_committed(entries.len(), &proposers);
        self.forwards.committed(&entries, &mut proposers);
        self.state_machine.apply(entries, proposers);
    }

    fn members_changed(&mut self, membership: Membership) {
        let (version, versions) = (membership.version(), self.versions);
        if !versions.understand(version) {
            self.inbox.stop(StopReason::VersionNotUnderstood { version, versions });
        }
        self.transport.members(&membership);
        self.stores.members(&mut self.raft, &membership);
        self.states.members(&membership);
        self.meter.members(&membership);
        self.members.publish(membership);
        self.leader_address.forget();
        let leader = self.leadership_state.leader();
        let leader_address = self.address_of(leader);
        self.leadership_state.publish_address(leader_address);
    }

    fn publish_leadership(&mut self, role: Role, term: Term, leader: Option<NodeId>) {
        self.leader_address.forget();
        let leader_address = self.address_of(leader);
        self.leadership_state.publish(Leadership { role, term, leader, leader_address });
    }

    /// Where the other nodes reach this leader.
    fn address_of(&mut self, leader: Option<NodeId>) -> Option<Arc<str>> {
        self.leader_address.of(leader?, self.raft.membership(), &*self.transport)
    }

    /// Tells waiting proposers of a new role. After a transfer they keep waiting for a while,
    /// because the log of the new leader holds all that was proposed here.
    fn role_changed(&mut self, role: Role, term: Term) {
        if role == Role::Leader {
            self.follows_entries_until = None;
        } else if mem::take(&mut self.was_transferring) {
            let patience = self.raft.config().election_timeout_max;
            self.follows_entries_until = Some(self.clock.now() + patience);
        }
        if self.follows_entries_until.is_none() {
            self.waiters.role_changed(role, term);
        }
    }

    fn persist(&mut self, write: Write<Bytes>) {
        self.snapshots.written(&write);
        self.meter.handed(write.id);
        match self.journal.write(write) {
            Ok(Some(durable)) => self.persisted(durable),
            Ok(None) => {}
            Err(reason) => self.inbox.stop(reason),
        }
    }

    fn reads_waiting(&self) -> usize {
        let (_, unconfirmed) = self.waiters.len();
        unconfirmed + self.state_machine.awaited().reads()
    }

    fn status(&self) -> NodeStatus {
        let (proposals_waiting, reads_waiting) = self.waiters.len();
        let raft = self.raft.status();
        let mut status = NodeStatus {
            findings: std::vec::Vec::new(),
            wakes_at: raft.wake.and_then(|(moment, _)| self.clock.system_time(moment)),
            raft,
            proposals_waiting,
            proposals_parked: self.handover.parked(),
            changes_waiting: self.changes.len(),
            takes_snapshot: self.snapshots.takes(),
            refused_peers: self.peers.refused(),
            told_not_to_vote: self.stores.is_told(),
            forwards_waiting: self.forwards.len(),
            reads_waiting,
            reads_queued: self.state_machine.awaited().reads(),
            stuck: self.watch.stuck(),
            state_differences: self.states.differences(),
            states_compared: self.states.compared(),
            client_panics: self.lifecycle.panics(),
            messages_dropped: self.inbox.messages_dropped(),
            requests_refused: self.inbox.requests_refused(),
        };
        status.findings = findings(&self.raft, &status, &self.peers);
        status
    }
}

/// Whether this output gives a worker something to do.
fn is_work(output: &Output<Bytes>) -> bool {
    match output {
        Output::Persist(_)
        | Output::Apply { .. }
        | Output::ReadReady { .. }
        | Output::TakeSnapshot(_)
        | Output::ReadSnapshot(_)
        | Output::WriteSnapshot(_)
        | Output::Restore(_) => true,
        Output::Send(_)
        | Output::MembershipChanged(_)
        | Output::Forwarded { .. }
        | Output::ReadLost { .. }
        | Output::RoleChanged { .. } => false,
    }
}
