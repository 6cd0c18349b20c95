//! A cluster in virtual time, for tests that control everything: cut and mend links, crash and
//! start servers, hold disks, propose, read, and run until a condition holds.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use rand_core::SeedableRng;
use rand_pcg::Pcg32;

use super::application::Application;
use super::counts::Counts;
use super::delay::Delay;
use super::disk::{Crash, Disk};
use super::draw::{Draw, mix, purpose};
use super::event::Event;
use super::files::Files;
use super::history::{History, OperationOf};
use super::hosts::{Life, MachinePace};
use super::network::{Links, Network, Partition};
use super::observer::Observer;
use super::queue::Queue;
use super::seed_note::SeedNote;
use super::server::{Server, SimRaft};
use super::state_machine::StateMachine;
use super::trace::{Record, Trace, What};
use super::violation::{Failure, Verdict};
use super::worker::Worker;
use crate::config::Config;
use crate::error::{ProposeError, ReadRefused};
use crate::message::Message;
use crate::output::Restored;
use crate::quorum::MEMBERS_MAX;
use crate::raft::Raft;
use crate::role::Role;
use crate::time::{Instant, micros};
use crate::types::{Index, LogId, NodeId, ReadId, Term};

/// Returns true for messages to lose.
type Sieve<C> = Box<dyn Fn(&Message<C>) -> bool>;

/// Configures one life of a server.
type Configure = Box<dyn Fn(&mut Config, Life)>;

/// A cluster of servers 1 to N in virtual time, over a network, disks and clocks that can be made
/// to fail.
///
/// One seed, one run, bit for bit. After every event an [`Observer`] checks what no run may break;
/// what it finds ends the run with a [`Failure`].
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use raft_core::sim::{Cluster, Crash, Registers, Swap};
///
/// let second = Duration::from_secs(1);
/// let mut cluster = Cluster::<Registers>::new(3, 1);
/// assert!(cluster.run_until(second, |cluster| cluster.leader().is_some())?);
///
/// let leader = cluster.leader().expect("just seen");
/// let (_, index) = cluster.propose(leader, Swap::new(0, 7)).expect("it leads");
/// assert!(cluster.run_until(second, |cluster| cluster.applied(leader) >= index)?);
///
/// cluster.crash(leader, Crash::Lose);
/// assert!(cluster.run_until(second, |cluster| cluster.leader().is_some())?);
/// cluster.start(leader);
/// assert!(cluster.run_until(second, |cluster| cluster.applied(leader) >= index)?);
/// # Ok::<(), Box<raft_core::sim::Failure>>(())
/// ```
pub struct Cluster<S: StateMachine> {
    pub(super) seed: u64,
    pub(super) now: Instant,
    pub(super) ids: Vec<NodeId>,
    /// The number of servers with which the cluster began.
    founders: usize,
    pub(super) servers: Vec<Server<S>>,
    /// When each server's timer is due, in microseconds of virtual time.
    pub(super) due: Vec<u64>,
    pub(super) queue: Queue<Event<S::Command>>,
    pub(super) network: Network,
    /// What the network is like when no fault makes it worse.
    pub(super) usual_network: Network,
    pub(super) usual_disk: Delay,
    pub(super) links: Links,
    /// The draws of each link, by sender and receiver.
    pub(super) link_draws: Vec<Vec<Draw>>,
    pub(super) draw: Draw,
    pub(super) sieve: Option<Sieve<S::Command>>,
    /// Messages of the past, to come again; empty unless `remembers`.
    pub(super) memory: Vec<Message<S::Command>>,
    pub(super) remembers: bool,
    pub(super) observer: Observer<S::Command>,
    pub(super) history: History<S>,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    pub(super) failure: Option<Box<Failure>>,
    /// How the reads ended that tests asked for.
    pub(super) reads: VecDeque<ReadEnd>,
    configure: Configure,
    pub(super) machine_pace: Option<MachinePace>,
    _seed_note: SeedNote,
}

/// How a read ended that was asked for by [`Cluster::read`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadEnd {
    /// The server that was asked.
    pub server: NodeId,
    /// The read.
    pub id: ReadId,
    /// What the state must include; none if the read was lost.
    pub index: Option<Index>,
}

/// The most ends of raw reads that are kept.
pub(super) const READ_ENDS_MAX: usize = 4096;

impl<S: StateMachine> fmt::Debug for Cluster<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, now, ids, counts, .. } = self;
        f.debug_struct("Cluster")
            .field("seed", seed)
            .field("now", now)
            .field("servers", ids)
            .field("counts", counts)
            .finish_non_exhaustive()
    }
}

impl<S: StateMachine> Cluster<S> {
    /// Servers 1 to `servers` with the default configuration, latencies of one millisecond and
    /// disks of 100 microseconds.
    pub fn new(servers: u64, seed: u64) -> Self {
        Self::with(servers, seed, |_| {})
    }

    /// The same, with a configuration that is changed before a server starts.
    ///
    /// # Panics
    ///
    /// If there are no servers, more than [`MEMBERS_MAX`], or if none could run with the
    /// configuration.
    pub fn with(servers: u64, seed: u64, configure: impl Fn(&mut Config) + 'static) -> Self {
        Self::with_lives(servers, seed, move |config, _| configure(config))
    }

    /// The same, with a configuration that may differ from one life of a server to the next.
    ///
    /// # Panics
    ///
    /// As [`with`](Self::with).
    pub fn with_lives(
        servers: u64,
        seed: u64,
        configure: impl Fn(&mut Config, Life) + 'static,
    ) -> Self {
        assert!((1..=MEMBERS_MAX as u64).contains(&servers), "sim: 1 to {MEMBERS_MAX} servers");
        let network = Network::reliable(Duration::from_millis(1));
        let mut cluster = Self {
            seed,
            now: Instant::ZERO,
            ids: Vec::new(),
            founders: servers as usize,
            servers: Vec::new(),
            due: Vec::new(),
            queue: Queue::new(),
            network,
            usual_network: network,
            usual_disk: Delay::Constant(Duration::from_micros(100)),
            links: Links::new(0),
            link_draws: Vec::new(),
            draw: Draw::new(seed, purpose::CLUSTER, 0),
            sieve: None,
            memory: Vec::new(),
            remembers: false,
            observer: Observer::new([]),
            history: History::new(),
            trace: Trace::new(),
            counts: Counts::default(),
            failure: None,
            reads: VecDeque::new(),
            configure: Box::new(configure),
            machine_pace: None,
            _seed_note: SeedNote(seed),
        };
        (0..servers).for_each(|_| cluster.put_server(true));
        (0..cluster.ids.len()).for_each(|at| cluster.start_at(at));
        cluster
    }

    // What there is.

    /// Virtual time; a run begins at zero.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// All servers, running or not.
    pub fn ids(&self) -> &[NodeId] {
        &self.ids
    }

    /// The core of a server; none while it is crashed.
    pub fn raft(&self, id: NodeId) -> Option<&SimRaft<S::Command>> {
        self.servers[self.at(id)].raft.as_ref()
    }

    /// A server's state machine, as it was left if the server crashed.
    pub fn machine(&self, id: NodeId) -> &S {
        &self.servers[self.at(id)].application.machine
    }

    /// The last entry that a server's state machine has applied in this life.
    pub fn applied(&self, id: NodeId) -> Index {
        self.servers[self.at(id)].application.applied
    }

    /// What a server's disk holds for certain.
    pub fn stored(&self, id: NodeId) -> &Restored<S::Command> {
        &self.servers[self.at(id)].disk.stored
    }

    /// How many writes a server's disk has not acknowledged yet.
    pub fn pending_writes(&self, id: NodeId) -> usize {
        self.servers[self.at(id)].disk.pending.len()
    }

    /// The leader of the newest term among servers that run and are not disconnected.
    pub fn leader(&self) -> Option<NodeId> {
        let leaders = self.reachable().filter(|raft| raft.role() == Role::Leader);
        leaders.max_by_key(|raft| raft.term()).map(Raft::id)
    }

    /// The same leader, if a majority of its voters follows it. The leader counts as one of them.
    pub fn followed_leader(&self) -> Option<NodeId> {
        let leader = self.leader()?;
        let term = self.raft(leader)?.term();
        let follows =
            |raft: &&SimRaft<S::Command>| raft.leader() == Some(leader) && raft.term() == term;
        let mut voters = 0;
        let following = self.raft(leader)?.membership().voters().filter(|voter| {
            voters += 1;
            let at = self.at(*voter);
            !self.links.is_away(at) && self.servers[at].raft.as_ref().is_some_and(|r| follows(&r))
        });
        (following.count() * 2 > voters).then_some(leader)
    }

    /// What happened so far, in numbers.
    pub fn counts(&self) -> Counts {
        let elections = self.observer.elections();
        let (commits, changes_complete) =
            (self.observer.committed().get(), self.observer.changes());
        Counts { elections, commits, changes_complete, ..self.counts }
    }

    /// What clients asked for and were told.
    pub fn history(&self) -> &[OperationOf<S>] {
        &self.history.operations
    }

    /// A hash over all that happened: two runs with the same hash were the same.
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// Keeps a record of everything that happens from now on.
    pub fn keep_trace(&mut self) {
        self.trace.all.get_or_insert_with(Vec::new);
    }

    /// The records kept; see [`keep_trace`](Self::keep_trace).
    pub fn trace(&self) -> &[Record] {
        self.trace.all.as_deref().unwrap_or_default()
    }

    /// Whether a check has failed.
    ///
    /// # Errors
    ///
    /// The failure, if so.
    pub fn verdict(&self) -> Result<(), Box<Failure>> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    // Requests.

    /// Gives a command to a server.
    ///
    /// # Errors
    ///
    /// As [`Raft::propose`]; a server that does not run knows no leader.
    pub fn propose(
        &mut self,
        id: NodeId,
        command: S::Command,
    ) -> Result<(Term, Index), ProposeError<S::Command>> {
        let at = self.at(id);
        let Some(raft) = self.servers[at].raft.as_mut() else {
            return Err(ProposeError::NotLeader { leader: None, command });
        };
        let (term, index) = raft.propose(command)?;
        self.trace.note(self.now, id, What::Proposed(term, index));
        self.turn(at);
        Ok((term, index))
    }

    /// Asks a server for a linearizable read; [`read_end`](Self::read_end) tells how it ends.
    ///
    /// # Errors
    ///
    /// As [`Raft::read`]; a server that does not run knows no leader.
    pub fn read(&mut self, id: NodeId) -> Result<ReadId, ReadRefused> {
        let at = self.at(id);
        let Some(raft) = self.servers[at].raft.as_mut() else {
            return Err(ReadRefused::NoLeader);
        };
        let read = raft.read()?;
        self.observer.on_read(id, read);
        self.trace.note(self.now, id, What::AskedToRead);
        self.turn(at);
        Ok(read)
    }

    /// How a read ended, if it has; each end is told once, and only the last few thousand are kept.
    pub fn read_end(&mut self, server: NodeId, id: ReadId) -> Option<ReadEnd> {
        let at = self.reads.iter().position(|end| end.server == server && end.id == id)?;
        self.reads.remove(at)
    }

    /// The ends that [`read_end`](Self::read_end) has not told yet, in the order in which they
    /// came.
    pub fn read_ends(&self) -> impl ExactSizeIterator<Item = &ReadEnd> {
        self.reads.iter()
    }

    /// Changes a running server directly, then does what it asks. None if it does not run.
    pub fn with_raft<T>(
        &mut self,
        id: NodeId,
        change: impl FnOnce(&mut SimRaft<S::Command>) -> T,
    ) -> Option<T> {
        let at = self.at(id);
        let result = change(self.servers[at].raft.as_mut()?);
        self.turn(at);
        Some(result)
    }

    // Faults.

    /// From now on the network is like this. Messages on their way are not touched.
    pub fn set_network(&mut self, network: Network) {
        self.network = network;
    }

    /// Messages from one server to another no longer pass; those on their way are lost.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        let (from, to) = (self.at(from), self.at(to));
        self.links.cut(from, to);
    }

    /// Undoes [`cut`](Self::cut).
    pub fn mend(&mut self, from: NodeId, to: NodeId) {
        let (from, to) = (self.at(from), self.at(to));
        self.links.mend(from, to);
    }

    /// Divides the cluster, in place of any division before; `None` unites it.
    pub fn divide(&mut self, partition: Option<&Partition>) {
        self.links.divide(partition, &self.ids);
    }

    /// If `is_deaf`, the server receives no message from now on, and its own messages arrive. If
    /// not, it receives messages again.
    pub fn set_deaf(&mut self, id: NodeId, is_deaf: bool) {
        let at = self.at(id);
        self.links.set_deaf(at, is_deaf);
    }

    /// Cuts a server off from all others.
    pub fn disconnect(&mut self, id: NodeId) {
        let at = self.at(id);
        self.links.set_away(at, true);
    }

    /// Undoes [`disconnect`](Self::disconnect).
    pub fn connect(&mut self, id: NodeId) {
        let at = self.at(id);
        self.links.set_away(at, false);
    }

    /// Whether a server is not disconnected.
    pub fn is_connected(&self, id: NodeId) -> bool {
        !self.links.is_away(self.at(id))
    }

    /// From now on loses the messages for which `pick` says yes, in place of any earlier choice.
    pub fn lose_if(&mut self, pick: impl Fn(&Message<S::Command>) -> bool + 'static) {
        self.sieve = Some(Box::new(pick));
    }

    /// Undoes [`lose_if`](Self::lose_if).
    pub fn lose_nothing(&mut self) {
        self.sieve = None;
    }

    /// How long the syncs of a server's disk take from now on.
    pub fn set_disk_latency(&mut self, id: NodeId, latency: Delay) {
        let at = self.at(id);
        self.servers[at].disk.latency = latency;
    }

    /// The disk answers for nothing until it is released.
    pub fn hold_disk(&mut self, id: NodeId) {
        let at = self.at(id);
        self.servers[at].disk.is_stuck = true;
    }

    /// Undoes [`hold_disk`](Self::hold_disk): what was written meanwhile is synced in one go.
    pub fn release_disk(&mut self, id: NodeId) {
        let at = self.at(id);
        self.servers[at].disk.is_stuck = false;
        self.begin_sync(at);
        self.answer_jobs(at);
    }

    /// How long state machines take from now on; none: everything is done at once.
    pub fn set_machine_pace(&mut self, pace: Option<MachinePace>) {
        self.machine_pace = pace;
        self.servers.iter_mut().for_each(|server| server.worker.pace = pace);
    }

    /// The next sync of this server's disk fails, and stops the server.
    pub fn fail_next_sync(&mut self, id: NodeId) {
        let at = self.at(id);
        self.servers[at].disk.fails = true;
    }

    /// A server stands still: it handles nothing, and its clock runs on.
    pub fn pause(&mut self, id: NodeId) {
        let at = self.at(id);
        self.servers[at].is_paused = true;
        self.due[at] = u64::MAX;
        self.trace.note(self.now, id, What::Paused);
    }

    /// A server's clock runs at this rate from now on, in millionths of true time.
    pub fn set_clock_rate(&mut self, id: NodeId, rate_ppm: u32) {
        let at = self.at(id);
        self.servers[at].clock.set_rate(self.now, rate_ppm);
        self.note_deadline(at);
    }

    /// A server's clock jumps by so many microseconds, forward or back.
    pub fn jump_clock(&mut self, id: NodeId, by_micros: i64) {
        let at = self.at(id);
        self.servers[at].clock.jump(self.now, by_micros);
        self.note_deadline(at);
    }

    /// Kills a server, if it runs.
    pub fn crash(&mut self, id: NodeId, crash: Crash) {
        let at = self.at(id);
        if self.servers[at].raft.is_none() {
            return;
        }
        let server = &mut self.servers[at];
        let kept = server.disk.surviving(crash);
        self.counts.writes_lost += (server.disk.pending.len() - kept) as u64;
        server.disk.crash(kept);
        server.files.crash(&server.disk.stored);
        server.worker.crash();
        server.raft = None;
        server.life += 1;
        server.is_paused = false;
        server.inbox.clear();
        server.synced_in_pause = None;
        // The entries that clients wait for may be committed or not.
        server.application.forget_clients();
        self.due[at] = u64::MAX;
        self.trace.note(self.now, id, What::Crashed(kept));
        let verdict = self.observer.on_crash(id, kept);
        self.note_verdict(verdict);
    }

    /// Starts a server from what its disk holds, if it does not run and is not retired.
    pub fn start(&mut self, id: NodeId) {
        let at = self.at(id);
        if self.servers[at].raft.is_none() && !self.servers[at].is_retired {
            self.counts.restarts += 1;
            self.start_at(at);
        }
    }

    /// A random number below `end`, from the cluster's seed.
    pub fn random(&mut self, end: u64) -> u64 {
        self.draw.below(end)
    }

    pub(super) fn set_usual_network(&mut self, network: Network) {
        (self.network, self.usual_network) = (network, network);
    }

    pub(super) fn set_usual_disks(&mut self, latency: Delay) {
        self.usual_disk = latency;
        self.servers.iter_mut().for_each(|server| server.disk.set_usual(latency));
    }

    pub(super) fn start_at(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let id = server.id;
        let founders = if server.is_founder { self.founders } else { 0 };
        let mut config = Config::new(id, self.ids[..founders].iter().copied());
        let has_past = server.disk.stored.hard_state.current_term > Term::ZERO;
        let life = Life { number: server.life, is_founder: server.is_founder, has_past };
        (self.configure)(&mut config, life);
        let seed = mix(self.seed ^ mix(purpose::RAFT ^ mix(id.get() ^ server.life << 32)));
        let restored = server.disk.stored.clone();
        let snapshot = restored.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let state = server.files.get(snapshot);
        server.application = Application::new();
        if let Some(state) = &state {
            server.application.restore(snapshot.index, state);
        }
        let verdict = self.observer.on_start(id, &restored);
        let verdict = verdict.and_then(|()| self.observer.on_state(id, snapshot, state.as_deref()));
        let last = restored.entries.last().map_or(Index::ZERO, |last| last.index);
        let started = What::Started(restored.hard_state.current_term, last);
        self.trace.note(self.now, id, started);
        let raft = Raft::new(config, restored, Pcg32::seed_from_u64(seed));
        server.raft = match raft {
            Ok(raft) => Some(raft),
            Err(error) => panic!("sim: server {id} cannot start: {error}"),
        };
        self.note_verdict(verdict);
        self.turn(at);
    }

    pub(super) fn at(&self, id: NodeId) -> usize {
        let at = self.ids.binary_search(&id);
        at.unwrap_or_else(|_| panic!("sim: there is no server {id}"))
    }

    /// Adds a server that does not run yet.
    pub(super) fn put_server(&mut self, is_founder: bool) {
        let id = NodeId::new(self.ids.len() as u64 + 1);
        let link = |from: NodeId, to: NodeId| {
            Draw::new(self.seed, purpose::LINK, from.get() << 32 | to.get())
        };
        let row = self.ids.iter().map(|to| link(id, *to)).chain([link(id, id)]).collect();
        for (draws, from) in self.link_draws.iter_mut().zip(&self.ids) {
            draws.push(link(*from, id));
        }
        self.link_draws.push(row);
        self.links.put_server();
        let disk = Disk::new(self.usual_disk, Draw::new(self.seed, purpose::DISK, id.get()));
        let files = Files::new(Draw::new(self.seed, purpose::FILES, id.get()));
        let draw = Draw::new(self.seed, purpose::WORKER, id.get());
        let worker = Worker::new(self.machine_pace, draw);
        self.servers.push(Server::new(id, disk, files, worker, is_founder));
        self.due.push(u64::MAX);
        self.ids.push(id);
        self.observer.watch(id);
    }

    fn reachable(&self) -> impl Iterator<Item = &SimRaft<S::Command>> {
        let servers = self.servers.iter().enumerate();
        servers.filter(|(at, _)| !self.links.is_away(*at)).filter_map(|(_, s)| s.raft.as_ref())
    }

    /// Keeps the first violation.
    pub(super) fn note_verdict(&mut self, verdict: Verdict) {
        let Err(violation) = verdict else { return };
        if self.failure.is_none() {
            self.failure = Some(Box::new(Failure {
                seed: self.seed,
                at: self.now,
                event: self.counts.events,
                violation: *violation,
                recent: self.trace.recent(),
            }));
        }
    }

    /// The end of a span that begins now.
    pub(super) fn after(&self, span: Duration) -> Instant {
        Instant::from_micros(self.now.as_micros().saturating_add(micros(span)))
    }
}
