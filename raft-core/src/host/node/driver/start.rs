//! How a node starts: what is checked, recovered and started, in which order.

use std::boxed::Box;
use std::format;
use std::io;
use std::string::ToString;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

use bytes::Bytes;

use super::NodeLoop;
use super::shared::{Driver, SharedLoop};
use crate::config::Config;
use crate::config_error::ConfigError;
use crate::host::clock::Clock;
use crate::host::error::StartError;
use crate::host::identity::{ClusterId, Identity};
use crate::host::journal::Journal;
use crate::host::known_peers::KnownPeers;
use crate::host::metrics::{MetricCells, MetricsReader};
use crate::host::node::apply_place::ApplyPlace;
use crate::host::node::config::NodeConfig;
use crate::host::node::digests::Comparison;
use crate::host::node::forwards::Forwards;
use crate::host::node::handle::{Handle, wait_over};
use crate::host::node::inbox::{Arrived, Inbox, Limits};
use crate::host::node::inputs::Core;
use crate::host::node::journal_thread::JournalWorker;
use crate::host::node::leader_address::LeaderAddress;
use crate::host::node::leadership::{Leadership, LeadershipState};
use crate::host::node::members::Members;
use crate::host::node::membership_changes::Changes;
use crate::host::node::meter::Meter;
use crate::host::node::reasons::Reasons;
use crate::host::node::snapshots::SnapshotsInUse;
use crate::host::node::state_machine_jobs::StateMachineJobs;
use crate::host::node::state_machine_thread::{
    Entering, Sharing, StateMachineWorker, tell_version,
};
use crate::host::node::store_recorder::Recorder;
use crate::host::node::trace::Trace;
use crate::host::node::transfer::Handover;
use crate::host::node::waiters::Waiters;
use crate::host::recorder::{Flusher, Random, RecorderConfig, Tape};
use crate::host::state_machine::StateMachine;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::watch::Watch;
use crate::host::threads::worker::Stopper;
use crate::host::timeouts::Timeouts;
use crate::host::transport::{MessageInbox, Transport};
use crate::host::versions::Versions;
use crate::host::wire::handshake::SAID_NOTE_BYTES_MAX;
use crate::host::worker_kind::WorkerKind;
use crate::membership::Membership;
use crate::message::SnapshotMeta;
use crate::output::Restored;
use crate::raft::Raft;
use crate::types::{LogId, NodeId};

impl<S: StateMachine> Driver<S> {
    /// Starts a node: recovers the journal, starts the workers' threads and the transport. Blocks
    /// while it reads the journal.
    ///
    /// `wake` must make the adapter's loop turn. It is called from any thread, also while the loop
    /// turns, and must not block.
    ///
    /// # Errors
    ///
    /// As [`StartError`] says; nothing is left running then.
    pub fn start(
        config: NodeConfig,
        state_machine: S,
        mut journal: Box<dyn Journal>,
        transport: Box<dyn Transport>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Handle<S>, Self), StartError> {
        check(&config, &*transport, &*journal)?;
        let (cluster, node) = (config.cluster, config.raft.id);
        let restored = journal.recover().map_err(StartError::Journal)?;
        let identity = Identity { cluster, node, store_id: journal.store_id() };
        let snapshot = restored.snapshot.clone().filter(|snapshot| snapshot.last > LogId::ZERO);
        let clock = Clock::new();
        let metrics = Arc::new(MetricCells::new(node, clock));
        let (raft, flusher) =
            recover_core(config.raft, config.seed, config.record, restored, identity, &metrics)?;
        check_version(raft.membership(), config.versions)?;
        let peers = known_peers(identity, raft.config(), &*transport, config.versions);
        let limits = Limits { inputs_max: config.inbox_max, bytes_max: config.inbox_bytes_max };
        let jobs = jobs_of(&state_machine, raft.config().heartbeat_interval);
        let inbox = Arc::new(Inbox::new(limits, waking_both(wake, &jobs)));
        let lifecycle = Arc::new(Lifecycle::new(node));
        let leadership_state = Arc::new(LeadershipState::new(Arc::clone(&lifecycle)));
        let members = Arc::new(Members::new(raft.membership().clone(), Arc::clone(&lifecycle)));
        let shared = Arc::new(SharedLoop::default());
        let threads = Threads {
            inbox: &inbox,
            lifecycle: &lifecycle,
            jobs: &jobs,
            shared: &shared,
            metrics: &metrics,
        };
        let workers = threads.start(&raft, cluster, snapshot, state_machine, journal)?;
        let work = Arc::clone(workers.state_machine.work());
        let (note, says_addresses) = (config.note.clone(), config.records_addresses);
        let reader = MetricsReader::new(Arc::clone(&metrics));
        let meter = Meter::new(metrics, raft.membership(), raft.server.campaigns);
        let node_loop = NodeLoop {
            raft,
            clock,
            meter,
            inbox: Arc::clone(&inbox),
            arrived: Arrived::new(),
            waiters: Waiters::new(),
            forwards: Forwards::new(),
            changes: Changes::default(),
            handover: Handover::new(limits),
            was_transferring: false,
            follows_entries_until: None,
            watch: workers.watch(node, config.stuck_after),
            snapshots: workers.snapshots,
            transport,
            stores: Recorder::new(identity, Arc::clone(&peers), note, says_addresses),
            peers,
            journal: workers.journal,
            states: Comparison::new(node, Arc::clone(workers.state_machine.digests())),
            state_machine: workers.state_machine,
            reasons: Reasons::default(),
            evaded: None,
            versions: config.versions,
            shutdown_max: config.shutdown_max,
            leader_address: LeaderAddress::default(),
            leadership_state: Arc::clone(&leadership_state),
            members: Arc::clone(&members),
            lifecycle: Arc::clone(&lifecycle),
        };
        shared.put(node_loop.connected(identity, config.note)?);
        let handle = Handle::new(inbox, leadership_state, lifecycle, members, flusher, reader);
        Ok((handle, Self::new(shared, work)))
    }
}

impl<S: StateMachine> NodeLoop<S> {
    /// The same node with its transport started. If that fails, nothing is left of the node.
    fn connected(mut self, identity: Identity, note: Bytes) -> Result<Self, StartError> {
        // It follows nobody yet.
        let leadership = Leadership { term: self.raft.term(), ..Leadership::default() };
        self.leadership_state.publish(leadership);
        let Err(error) = self.connect(identity, note) else { return Ok(self) };
        let lifecycle = Arc::clone(&self.lifecycle);
        drop(self);
        // The answer is never an error, and says less than the transport did.
        let _ = wait_over(&lifecycle).wait();
        Err(StartError::Transport(error))
    }

    /// Starts the transport, which receives from then on.
    fn connect(&mut self, identity: Identity, note: Bytes) -> io::Result<()> {
        // What this node says of itself is true from its first connection on.
        let membership = self.raft.membership().clone();
        self.stores.members(&mut self.raft, &membership);
        let inbox = Arc::clone(&self.inbox);
        let suspicions = Arc::clone(&self.inbox);
        let news = Arc::clone(&self.inbox);
        let messages = MessageInbox::new(move |message| inbox.deliver(message))
            .with_suspicions(move |node| suspicions.suspect(node))
            .with_peers(Arc::clone(&self.peers), move || news.wake_up(), note);
        self.transport.start(identity, messages)?;
        self.transport.members(&membership);
        Ok(())
    }
}

/// What the threads of a node report to.
struct Threads<'n, S: StateMachine> {
    inbox: &'n Arc<Inbox<S>>,
    lifecycle: &'n Arc<Lifecycle>,
    jobs: &'n Arc<StateMachineJobs>,
    shared: &'n Arc<SharedLoop<S>>,
    metrics: &'n Arc<MetricCells>,
}

/// What works for a node beside its loop.
struct Workers<S: StateMachine> {
    snapshots: SnapshotsInUse,
    state_machine: StateMachineWorker<S>,
    journal: JournalWorker,
}

impl<S: StateMachine> Threads<'_, S> {
    /// Starts the threads, with the state restored from `snapshot` if there is one.
    fn start(
        &self,
        raft: &Raft<Bytes, Random>,
        cluster: ClusterId,
        snapshot: Option<SnapshotMeta>,
        mut state_machine: S,
        mut journal: Box<dyn Journal>,
    ) -> Result<Workers<S>, StartError> {
        let Self { inbox, lifecycle, jobs, shared, metrics } = *self;
        let config = raft.config();
        let stops = Arc::clone(inbox);
        let stop: Stopper = Arc::new(move |reason| stops.stop(reason));
        let mut snapshots =
            SnapshotsInUse::start(journal.snapshots(), cluster, inbox, lifecycle, &stop, metrics)?;
        let version = snapshot.as_ref().map_or(0, |snapshot| snapshot.membership.version());
        if let Some(snapshot) = snapshot {
            // What the state includes already, it has on a disk of its own.
            if state_machine.applied_index() < snapshot.last.index {
                snapshots.restore(&mut state_machine, &snapshot).map_err(StartError::Restore)?;
            } else {
                snapshots.use_without_restore(&snapshot);
                tell_version(&mut state_machine, &snapshot);
            }
        }
        let state_machine = StateMachineWorker::start(
            state_machine,
            Entering {
                replays_through: raft.log_range().1.index,
                version,
                inflight_applies_max: config.inflight_applies_max,
            },
            Sharing {
                jobs: Arc::clone(jobs),
                turns: Arc::<SharedLoop<S>>::clone(shared),
                metrics: Arc::clone(metrics),
            },
            Arc::clone(inbox),
            lifecycle,
            Arc::clone(&stop),
            snapshots.jobs(),
        );
        let state_machine = state_machine.map_err(StartError::System)?;
        let sync_bytes_max = config.write_bytes_max;
        let inbox = Arc::clone(inbox);
        let journal =
            JournalWorker::start(journal, sync_bytes_max, inbox, lifecycle, stop, metrics);
        let journal = journal.map_err(StartError::System)?;
        Ok(Workers { snapshots, state_machine, journal })
    }
}

impl<S: StateMachine> Workers<S> {
    /// A watch over these threads. A thread is stuck if it works on one unit for longer than
    /// `stuck_after`.
    fn watch(&self, node: NodeId, stuck_after: Duration) -> Watch {
        let mut watch = Watch::new(node, stuck_after);
        watch.add(WorkerKind::Journal, self.journal.activity());
        if let Some(activity) = self.state_machine.activity() {
            watch.add(WorkerKind::StateMachine, activity);
        }
        for (kind, activity) in self.snapshots.activities() {
            watch.add(kind, activity);
        }
        watch
    }
}

/// The random numbers of a node. If no seed is given, the operating system draws one.
fn random_of(node: NodeId, seed: Option<u64>) -> io::Result<Random> {
    let seed = seed.map_or_else(getrandom::u64, Ok).map_err(io::Error::other)?;
    // Each node draws from a stream of its own, so that equal seeds do not make elections tie.
    Ok(Random::new(seed, node.get()))
}

/// The jobs of a state machine, which is asked where they are done.
fn jobs_of<S: StateMachine>(state_machine: &S, heartbeat: Duration) -> Arc<StateMachineJobs> {
    let place = ApplyPlace::new(state_machine.blocks(), heartbeat);
    Arc::new(StateMachineJobs::new(place, heartbeat))
}

/// A wake-up for the loop, and for the thread that stands in for it.
fn waking_both(
    wake: impl Fn() + Send + Sync + 'static,
    jobs: &Arc<StateMachineJobs>,
) -> Box<dyn Fn() + Send + Sync> {
    let stand_in = Arc::clone(jobs);
    Box::new(move || {
        wake();
        stand_in.wake();
    })
}

/// The peers that this node knows, with how long its messages and theirs may be, what it
/// understands, and its timeouts.
fn known_peers(
    identity: Identity,
    config: &Config,
    transport: &dyn Transport,
    versions: Versions,
) -> Arc<KnownPeers> {
    let peers = KnownPeers::new(Some(identity)).with_versions(versions);
    let peers = peers.with_timeouts(Timeouts::of(config));
    Arc::new(peers.with_lengths(config.message_bytes_max(), transport.message_bytes_max()))
}

/// Refuses to run while a version is in force that the program does not understand.
fn check_version(membership: &Membership, versions: Versions) -> Result<(), StartError> {
    let version = membership.version();
    if versions.understand(version) {
        return Ok(());
    }
    Err(StartError::VersionNotUnderstood { version, versions })
}

/// Raft as the journal left it, with its recording if there shall be one.
fn recover_core(
    config: Config,
    seed: Option<u64>,
    record: Option<RecorderConfig>,
    restored: Restored<Bytes>,
    identity: Identity,
    metrics: &Arc<MetricCells>,
) -> Result<(Core, Option<Flusher>), StartError> {
    let node = config.id;
    let listed = config.voters.clone();
    let trace = Trace::start(node, &restored);
    let random = random_of(node, seed).map_err(StartError::System)?;
    let begin = |record| Tape::start(record, identity, &config, &restored, &random);
    let tape = record.map(begin).transpose().map_err(StartError::Recorder)?;
    let flusher = tape.as_ref().map(Tape::flusher);
    let raft = Raft::new(config, restored, random).map_err(StartError::Config)?;
    warn_of_other_voters(node, &listed, raft.membership());
    Ok((Core::new(raft, tape.map(Box::new), trace, Arc::clone(metrics)), flusher))
}

/// Refuses what no node can be started with.
fn check(
    config: &NodeConfig,
    transport: &dyn Transport,
    journal: &dyn Journal,
) -> Result<(), StartError> {
    config.validate(transport).map_err(StartError::Config)?;
    check_note(&config.note)?;
    check_owner(journal, config.cluster, config.raft.id)
}

/// Refuses a note that does not fit into a handshake.
fn check_note(note: &Bytes) -> Result<(), StartError> {
    if note.len() <= SAID_NOTE_BYTES_MAX {
        return Ok(());
    }
    Err(StartError::Config(ConfigError::of_host(format!(
        "the note has {} bytes: use at most {SAID_NOTE_BYTES_MAX}",
        note.len()
    ))))
}

/// Warns if the configuration of this start lists other voters than the log. They take no effect,
/// because the log decides who the members are.
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
            "this node was started with other voters than those of its log, and the log decides: change the membership through \
             the leader, and correct the voters with which this node is started"
        );
    }
}

/// Refuses a journal of another node or cluster, because with it one node would speak for two.
fn check_owner(journal: &dyn Journal, cluster: ClusterId, node: NodeId) -> Result<(), StartError> {
    match journal.owner() {
        Some((of_cluster, of_node)) if (of_cluster, of_node) != (cluster, node) => {
            let (its, ours) = (of_cluster.get(), cluster.get());
            Err(StartError::Config(ConfigError::of_host(format!(
                "the journal belongs to node {of_node} of cluster {its:#x}, the configuration is for node {node} of \
                 cluster {ours:#x}: open the journal under the same ids"
            ))))
        }
        Some(_) | None => Ok(()),
    }
}
