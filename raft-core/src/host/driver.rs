//! The loop's body: everything a node does between two waits, the same under every runtime.

use std::boxed::Box;
use std::format;
use std::io;
use std::mem;
use std::string::ToString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as StdInstant};
use std::vec::Vec;

use bytes::Bytes;
use rand_pcg::Pcg32;

use super::changes::Changes;
use super::clock::Clock;
use super::config::NodeConfig;
use super::ending::Ending;
use super::error::{ChangeError, ProposeError, StartError, StopReason, Stopped};
use super::handle::Handle;
use super::handover::Handover;
use super::handshake::SAID_NOTE_BYTES_MAX;
use super::here;
use super::identity::{ClusterId, Identity};
use super::inbox::{Arrived, Inbox, Limits, Read, Reply, Request};
use super::incarnations::Recorder;
use super::journal::Journal;
use super::journal_worker::JournalWorker;
use super::known_peers::KnownPeers;
use super::leadership::{Board, Leadership};
use super::life::Life;
use super::reasons::Reasons;
use super::snapshots_in_use::SnapshotsInUse;
use super::state_machine::StateMachine;
use super::state_machine_worker::StateMachineWorker;
use super::status::NodeStatus;
use super::transport::{MessageInbox, Running, Transport};
use super::vigil;
use super::waiters::{Waiters, answer};
use super::watch::Watch;
use super::worker::{Stopper, Thread, WorkerKind};
use crate::error::{self, ConfigError};
use crate::membership::Membership;
use crate::output::{Output, Write};
use crate::raft::Raft;
use crate::role::Role;
use crate::status::Wake;
use crate::time::Instant;
use crate::types::{LogId, NodeId, Term, WriteId};

/// A node without its loop: an adapter calls [`turn`](Driver::turn), waits as it says, and calls it again.
///
/// Dropping it stops the node, without blocking; [`Handle::stopped`] says when nothing of it is left.
pub struct Driver<S: StateMachine> {
    raft: Raft<Bytes, Pcg32>,
    clock: Clock,
    inbox: Arc<Inbox<S>>,
    /// What this turn works on; kept for its buffers.
    arrived: Arrived<S>,
    waiters: Waiters<S>,
    changes: Changes,
    handover: Handover<S>,
    /// Leadership was being handed over when the last turn ended.
    was_transferring: bool,
    /// Until when those whose entries a transfer left behind wait for them to come back committed.
    follows_entries_until: Option<Instant>,
    snapshots: SnapshotsInUse,
    transport: Box<dyn Transport>,
    stores: Recorder,
    peers: Arc<KnownPeers>,
    journal: JournalWorker,
    state_machine: StateMachineWorker<S>,
    watch: Watch,
    reasons: Reasons,
    /// The unit of work at which the state machine was stuck when leadership was last handed over
    /// for it, and the term.
    evaded: Option<(u64, Term)>,
    shutdown_max: Duration,
    board: Arc<Board>,
    members: Arc<Mutex<Membership>>,
    life: Arc<Life>,
}

/// How often a turn looks into the inbox again before its node gives somebody up.
const LISTENS_MAX: u32 = 3;

/// What to do after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Inputs are left: let others run, then turn again.
    Again,
    /// Turn again when woken, or at this moment at the latest; never sooner without being woken, and as little later as the
    /// runtime can. `None` is never.
    Wait(Option<StdInstant>),
    /// The node has stopped: drop the driver.
    Stop,
}

impl<S: StateMachine> Driver<S> {
    /// Starts a node: recovers the journal, starts the workers' threads and the transport. Blocks while it reads the journal.
    ///
    /// `wake` must make the adapter's loop turn; it is called from any thread, also while the loop turns, and must not block.
    ///
    /// # Errors
    ///
    /// As [`StartError`] says; nothing is left running then.
    pub fn start(
        config: NodeConfig,
        mut state_machine: S,
        mut journal: Box<dyn Journal>,
        transport: Box<dyn Transport>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Handle<S>, Self), StartError> {
        config.validate(&*transport).map_err(StartError::Config)?;
        let NodeConfig {
            cluster,
            raft: config,
            inbox_max,
            inbox_bytes_max,
            seed,
            note,
            records_addresses,
            stuck_after,
            shutdown_max,
        } = config;
        check_note(&note)?;
        let (node, applies_max) = (config.id, config.inflight_applies_max);
        let (sync_bytes_max, sends_bytes_max) =
            (config.write_bytes_max, config.message_bytes_max());
        check_owner(&*journal, cluster, node)?;
        let restored = journal.recover().map_err(StartError::Journal)?;
        let snapshot = restored.snapshot.clone().filter(|snapshot| snapshot.last > LogId::ZERO);
        let store = journal.snapshots();
        let identity = Identity { cluster, node, incarnation: journal.incarnation() };
        let seed = seed.map_or_else(getrandom::u64, Ok);
        let seed = seed.map_err(|error| StartError::System(io::Error::other(error)))?;
        // Each node draws from a stream of its own, so that equal seeds do not make elections tie.
        let listed = config.voters.clone();
        let raft = Raft::new(config, restored, Pcg32::new(seed, node.get()));
        let raft = raft.map_err(StartError::Config)?;
        warn_of_other_voters(node, &listed, raft.membership());
        let peers = KnownPeers::new(Some(identity));
        let peers = Arc::new(peers.with_lengths(sends_bytes_max, transport.message_bytes_max()));

        let limits = Limits { inputs_max: inbox_max, bytes_max: inbox_bytes_max };
        let inbox = Arc::new(Inbox::new(limits, Box::new(wake)));
        let life = Arc::new(Life::new(node));
        let stops = Arc::clone(&inbox);
        let stop: Stopper = Arc::new(move |reason| stops.stop(reason));
        let board = Arc::new(Board::new(Arc::clone(&life)));
        let members = Arc::new(Mutex::new(raft.membership().clone()));
        let mut snapshots = SnapshotsInUse::start(store, cluster, &inbox, &life, &stop)?;
        if let Some(snapshot) = snapshot {
            snapshots.restore(&mut state_machine, &snapshot).map_err(StartError::Restore)?;
        }
        let state_machine = StateMachineWorker::start(
            state_machine,
            applies_max,
            Arc::clone(&inbox),
            &life,
            Arc::clone(&stop),
            snapshots.jobs(),
        );
        let state_machine = state_machine.map_err(StartError::System)?;
        let journal =
            JournalWorker::start(journal, sync_bytes_max, Arc::clone(&inbox), &life, stop);
        let journal = journal.map_err(StartError::System)?;
        let mut watch = Watch::new(node, stuck_after);
        watch.add(WorkerKind::Journal, journal.activity());
        if let Some(activity) = state_machine.activity() {
            watch.add(WorkerKind::StateMachine, activity);
        }
        snapshots.activities().for_each(|(kind, activity)| watch.add(kind, activity));
        let mut driver = Self {
            raft,
            clock: Clock::new(),
            inbox: Arc::clone(&inbox),
            arrived: Arrived::new(),
            waiters: Waiters::new(),
            changes: Changes::default(),
            handover: Handover::new(limits),
            was_transferring: false,
            follows_entries_until: None,
            snapshots,
            transport,
            stores: Recorder::new(identity, Arc::clone(&peers), note.clone(), records_addresses),
            peers: Arc::clone(&peers),
            journal,
            state_machine,
            watch,
            reasons: Reasons::default(),
            evaded: None,
            shutdown_max,
            board: Arc::clone(&board),
            members: Arc::clone(&members),
            life: Arc::clone(&life),
        };
        driver.board.post(driver.leadership());
        // What this node says of itself is true from its first connection on.
        let membership = driver.raft.membership().clone();
        driver.stores.members(&mut driver.raft, &membership);
        let (suspicions, news) = (Arc::clone(&inbox), Arc::clone(&inbox));
        let messages = MessageInbox::new(move |message| inbox.deliver(message))
            .with_suspicions(move |node| suspicions.suspect(node))
            .with_peers(peers, move || news.wake_up(), note);
        if let Err(error) = driver.transport.start(identity, messages) {
            drop(driver);
            // Never an error; and the reason is the one above.
            let _ = life.wait_over().wait();
            return Err(StartError::Transport(error));
        }
        driver.transport.members(&membership);
        let handle = Handle::new(Arc::clone(&driver.inbox), board, life, members);
        Ok((handle, driver))
    }

    /// Takes what has come, tells Raft the time, and does what it asks. Never blocks; when the node is about to stand for election, it first
    /// watches the clock for up to 300 µs.
    pub fn turn(&mut self) -> Next {
        let _here = here::enter(&self.life, false);
        if let Some((deadline, Wake::Election)) = self.raft.wake() {
            vigil::keep(&self.clock, deadline, || self.inbox.has_arrivals());
        }
        let more = self.inbox.take(&mut self.arrived);
        if let Some(reason) = self.arrived.stop.take() {
            if !self.delays_stop(&reason) {
                self.life.end(reason);
                return Next::Stop;
            }
        }
        self.stores.look(&mut self.raft);
        self.take_arrivals();
        let mut more = more;
        let mut now = self.clock.now();
        // What came before this moment is heard before anybody is given up at it: the process may have stood still since it looked.
        for _ in 0..LISTENS_MAX {
            if !self.raft.gives_somebody_up(now) || !self.inbox.has_arrivals() {
                break;
            }
            more = self.inbox.take(&mut self.arrived);
            self.take_arrivals();
            now = self.clock.now();
        }
        self.stores.record(&mut self.raft, now);
        self.reasons.before_tick(&self.raft, now);
        self.raft.tick(now);
        self.settle_transfer(now);
        self.do_outputs();
        while self.changes.advance(&mut self.raft, &self.peers) {
            self.do_outputs();
        }
        self.snapshots.settle(&self.raft);
        self.look_after_workers();
        self.reasons.after_turn(&self.raft);
        self.was_transferring = self.raft.transferring().is_some();
        if more {
            return Next::Again;
        }
        let own = self.handover.deadline().into_iter().chain(self.follows_entries_until);
        let deadline = self.raft.wake().map(vigil::begin).into_iter().chain(own).min();
        let deadline = deadline.and_then(|moment| self.clock.system_time(moment));
        Next::Wait(deadline.into_iter().chain(self.watch.deadline()).min())
    }

    /// Notices what hangs. A state machine that does answers nobody: clients are answered for it,
    /// and a leader hands over.
    fn look_after_workers(&mut self) {
        if !self.watch.is_due() {
            return;
        }
        self.watch.look(StdInstant::now());
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
                        "hands over: its state machine is stuck"
                    );
                }
                Err(why) => {
                    tracing::warn!(node = node.get(), %why, "leads with a stuck state machine");
                }
            }
            self.do_outputs();
        }
    }

    /// A leader hands over before it stops, if it can still keep a promise: its successor may need its vote. One that cannot write any
    /// more promises nothing by asking another to stand, and does not wait for what comes of it.
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
        self.raft.persisted(id);
        self.snapshots.persisted(id);
    }

    fn take_messages(&mut self) {
        for message in self.arrived.messages.drain(..) {
            self.raft.step(message);
        }
        for suspect in self.arrived.suspects.drain(..) {
            self.raft.suspect_leader(suspect);
        }
    }

    fn take_requests(&mut self) {
        let mut requests = mem::take(&mut self.arrived.requests);
        for request in requests.drain(..) {
            match request {
                Request::Propose { command, reply } => self.propose(command, reply),
                Request::Read(read) => self.read(read),
                Request::Status(reply) => answer(reply, Ok(self.status())),
                Request::Change { changes, reply } => self.changes.push(changes, reply),
                Request::Transfer { to, reply } => self.handover.begin(&mut self.raft, to, reply),
                Request::TakeSnapshot(reply) => self.snapshots.ask(&mut self.raft, reply),
            }
        }
        self.arrived.requests = requests;
    }

    fn propose(&mut self, command: Bytes, reply: Reply<S>) {
        if self.handover.parked() > 0 {
            // Behind those who came before.
            return self.handover.park(command, reply);
        }
        match self.raft.propose(command) {
            Ok((term, index)) => self.waiters.proposed(LogId::new(term, index), reply),
            Err(error::ProposeError::Transferring { command, .. }) => {
                self.handover.park(command, reply);
            }
            Err(error) => answer(reply, Err(error.into())),
        }
    }

    /// A read counts towards [`Config::reads_waiting_max`](crate::Config::reads_waiting_max) until the state machine has served it: the
    /// core knows of it until it is confirmed, the worker from then on.
    fn read(&mut self, read: Read<S>) {
        let waiting_max = self.raft.config().reads_waiting_max;
        if self.reads_waiting() >= waiting_max {
            return read(Err(error::ReadRefused::TooManyReads { waiting_max }.into()));
        }
        match self.raft.read() {
            Ok(id) => self.waiters.reading(id, read),
            Err(refused) => read(Err(refused.into())),
        }
    }

    /// Answers those who waited for the end of a transfer, if it is over.
    fn settle_transfer(&mut self, now: Instant) {
        for (command, reply) in self.handover.settle(&self.raft, now) {
            self.propose(command, reply);
        }
        if self.follows_entries_until.is_some_and(|until| until <= now) {
            self.follows_entries_until = None;
            self.waiters.lose_all();
        }
    }

    fn do_outputs(&mut self) {
        let (mut sent, mut gave_work) = (false, false);
        while let Some(output) = self.raft.poll_outbox() {
            gave_work |= is_work(&output);
            match output {
                Output::Persist(write) => self.persist(write),
                Output::Send(message) => {
                    self.transport.send(message);
                    sent = true;
                }
                Output::Apply(entries) => {
                    let replies = self.waiters.committed(&entries);
                    self.state_machine.apply(entries, replies);
                }
                Output::ReadReady { id, index: _ } => {
                    // What the read must see was handed to the state machine before.
                    if let Some(read) = self.waiters.read_ready(id) {
                        self.state_machine.read(read);
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
                    // Entries that it skips answer nobody.
                    self.waiters.lose_all();
                    self.snapshots.restoring(snapshot.last);
                    self.state_machine.restore(snapshot);
                }
                Output::MembershipChanged(membership) => self.members_changed(membership),
                Output::ReadLost { id } => self.waiters.read_lost(id),
                Output::RoleChanged { role, term, leader } => {
                    let node = self.raft.id();
                    let leads = leader.map(NodeId::get);
                    tracing::info!(node = node.get(), ?role, %term, leader = leads, "role or leader changed");
                    self.role_changed(role, term);
                    self.board.post(Leadership { role, term, leader });
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

    fn members_changed(&mut self, membership: Membership) {
        self.transport.members(&membership);
        self.stores.members(&mut self.raft, &membership);
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = membership;
    }

    /// The log that was handed over with leadership holds all that was proposed here, so its proposers keep waiting for a while.
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
        match self.journal.write(write) {
            Ok(Some(durable)) => self.persisted(durable),
            Ok(None) => {}
            Err(reason) => self.inbox.stop(reason),
        }
    }

    fn leadership(&self) -> Leadership {
        Leadership { role: self.raft.role(), term: self.raft.term(), leader: self.raft.leader() }
    }

    fn reads_waiting(&self) -> usize {
        let (_, unconfirmed) = self.waiters.len();
        unconfirmed + self.state_machine.awaited().reads()
    }

    fn status(&self) -> NodeStatus {
        let (proposals_waiting, reads_waiting) = self.waiters.len();
        let raft = self.raft.status();
        NodeStatus {
            wakes_at: raft.wake.and_then(|(moment, _)| self.clock.system_time(moment)),
            raft,
            proposals_waiting,
            proposals_parked: self.handover.parked(),
            changes_waiting: self.changes.len(),
            takes_snapshot: self.snapshots.takes(),
            refused_peers: self.peers.refused(),
            told_not_to_vote: self.stores.is_told(),
            reads_waiting,
            reads_queued: self.state_machine.awaited().reads(),
            stuck: self.watch.stuck(),
            client_panics: self.life.panics(),
            messages_dropped: self.inbox.messages_dropped(),
            requests_refused: self.inbox.requests_refused(),
        }
    }
}

impl<S: StateMachine> Driver<S> {
    /// Lets others wait for what is left, because the loop must not block.
    fn end(
        &mut self,
        state_machine: Option<Thread>,
        snapshots: Option<Thread>,
        transport: oneshot::Receiver<()>,
        stopped: Stopped,
    ) {
        let (life, awaited) = (Arc::clone(&self.life), Arc::clone(self.state_machine.awaited()));
        let refuse_rest = move || {
            awaited.stop(&stopped, None);
            life.refuse_running_read(|| stopped.into());
        };
        let ending = Ending {
            threads: state_machine.into_iter().chain(self.journal.thread()).collect(),
            transport,
            watch: mem::replace(&mut self.watch, Watch::new(self.raft.id(), Duration::ZERO)),
            life: Arc::clone(&self.life),
            refuse_rest: Box::new(refuse_rest),
            patience: self.shutdown_max,
        };
        let ending = ending.begin().map(|ending| Ending {
            // The journal's thread will wait, and so not for itself.
            threads: ending
                .threads
                .into_iter()
                .filter(|t| t.kind() != WorkerKind::Journal)
                .collect(),
            ..ending
        });
        self.journal.close(snapshots.into_iter().collect(), ending);
    }
}

impl<S: StateMachine> Drop for Driver<S> {
    /// Ends the node's life: everyone who waits is told why, the workers finish what must be finished.
    fn drop(&mut self) {
        self.life.end(StopReason::Abandoned);
        let stopped = self.life.stopped();
        let node = self.raft.id();
        match &stopped.reason {
            StopReason::Shutdown => {
                tracing::info!(node = node.get(), "the node stops: it was asked to");
            }
            reason @ (StopReason::JournalFailed(_)
            | StopReason::JournalPanicked { .. }
            | StopReason::StateMachinePanicked { .. }
            | StopReason::CommandNotUnderstood { .. }
            | StopReason::RestoreFailed(_)
            | StopReason::WorkerPanicked { .. }
            | StopReason::Abandoned) => {
                tracing::error!(node = node.get(), %reason, "the node stops");
            }
        }
        self.board.close();
        let (running, transport) = Running::new();
        self.transport.stop(running);
        // Only now is it dropped, so that it may be asked to stop first.
        self.transport = Box::new(Nowhere);
        let left = self.inbox.close().requests;
        for request in mem::take(&mut self.arrived.requests).into_iter().chain(left) {
            refuse(request, &stopped);
        }
        self.waiters.stop(&stopped);
        self.changes.stop(&stopped);
        self.handover.stop(&stopped);
        self.snapshots.stop(&stopped);
        let state_machine = self.state_machine.finish(&stopped);
        let snapshots = self.snapshots.finish();
        self.end(state_machine, snapshots, transport, stopped);
    }
}

/// Whether this gives a worker something to do.
fn is_work(output: &Output<Bytes>) -> bool {
    match output {
        Output::Persist(_)
        | Output::Apply(_)
        | Output::ReadReady { .. }
        | Output::TakeSnapshot(_)
        | Output::ReadSnapshot(_)
        | Output::WriteSnapshot(_)
        | Output::Restore(_) => true,
        Output::Send(_)
        | Output::MembershipChanged(_)
        | Output::ReadLost { .. }
        | Output::RoleChanged { .. } => false,
    }
}

/// What a node says of itself must fit into a handshake.
fn check_note(note: &Bytes) -> Result<(), StartError> {
    if note.len() <= SAID_NOTE_BYTES_MAX {
        return Ok(());
    }
    Err(StartError::Config(ConfigError(format!(
        "the note has {} bytes: use at most {SAID_NOTE_BYTES_MAX}",
        note.len()
    ))))
}

/// The disk decides who the members are, so other voters in the configuration of this start take no effect.
fn warn_of_other_voters(node: NodeId, listed: &[NodeId], membership: &Membership) {
    let mut listed = listed.to_vec();
    listed.sort_unstable();
    listed.dedup();
    let voters: Vec<_> = membership.voters().collect();
    if !listed.is_empty() && !voters.is_empty() && listed != voters {
        let list =
            |ids: &[NodeId]| ids.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
        let (listed, voters) = (list(&listed), list(&voters));
        tracing::warn!(
            node = node.get(),
            listed,
            voters,
            "the voters that this node was started with are not those of its log, which decide: change the membership through \
             the leader, and correct what this node is started with"
        );
    }
}

/// A journal under another name would make one node speak for two.
fn check_owner(journal: &dyn Journal, cluster: ClusterId, node: NodeId) -> Result<(), StartError> {
    match journal.owner() {
        Some((of_cluster, of_node)) if (of_cluster, of_node) != (cluster, node) => {
            let (its, ours) = (of_cluster.get(), cluster.get());
            Err(StartError::Config(ConfigError(format!(
                "the journal belongs to node {of_node} of cluster {its:#x}, the configuration is for node {node} of \
                 cluster {ours:#x}: open the journal under the same ids"
            ))))
        }
        Some(_) | None => Ok(()),
    }
}

/// The transport of a node that has stopped.
struct Nowhere;

impl Transport for Nowhere {
    fn start(&mut self, _identity: Identity, _inbox: MessageInbox) -> io::Result<()> {
        Ok(())
    }

    fn send(&mut self, _message: crate::message::Message<Bytes>) {}
}

/// Answers a request that the node did not come to; a command was not appended.
fn refuse<S: StateMachine>(request: Request<S>, stopped: &Stopped) {
    match request {
        Request::Propose { command, reply } => {
            let reason = stopped.reason.clone();
            answer(reply, Err(ProposeError::Stopped { reason, command: Some(command) }));
        }
        Request::Read(read) => read(Err(stopped.clone().into())),
        Request::Status(reply) => answer(reply, Err(stopped.clone().into())),
        Request::Change { reply, .. } => {
            let (reason, may_take_effect) = (stopped.reason.clone(), false);
            answer(reply, Err(ChangeError::Stopped { reason, may_take_effect }));
        }
        Request::Transfer { reply, .. } => answer(reply, Err(stopped.clone().into())),
        Request::TakeSnapshot(reply) => answer(reply, Err(stopped.clone().into())),
    }
}
