//! How a node begins: what is checked, recovered and started, in which order.

use std::boxed::Box;
use std::format;
use std::io;
use std::string::ToString;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use bytes::Bytes;
use rand_pcg::Pcg32;

use super::Driver;
use crate::error::ConfigError;
use crate::host::clock::Clock;
use crate::host::error::StartError;
use crate::host::identity::{ClusterId, Identity};
use crate::host::journal::Journal;
use crate::host::known_peers::KnownPeers;
use crate::host::node::config::NodeConfig;
use crate::host::node::digests::Comparison;
use crate::host::node::handle::{Handle, wait_over};
use crate::host::node::inbox::{Arrived, Inbox, Limits};
use crate::host::node::journal_thread::JournalWorker;
use crate::host::node::leadership::LeadershipState;
use crate::host::node::membership_changes::Changes;
use crate::host::node::reasons::Reasons;
use crate::host::node::snapshots::SnapshotsInUse;
use crate::host::node::state_machine_thread::StateMachineWorker;
use crate::host::node::store_recorder::Recorder;
use crate::host::node::transfer::Handover;
use crate::host::node::waiters::Waiters;
use crate::host::state_machine::StateMachine;
use crate::host::threads::lifecycle::Lifecycle;
use crate::host::threads::watch::Watch;
use crate::host::threads::worker::Stopper;
use crate::host::transport::{MessageInbox, Transport};
use crate::host::wire::handshake::SAID_NOTE_BYTES_MAX;
use crate::host::worker_kind::WorkerKind;
use crate::membership::Membership;
use crate::raft::Raft;
use crate::types::{LogId, NodeId};

impl<S: StateMachine> Driver<S> {
    /// Starts a node: recovers the journal, starts the workers' threads and the transport. Blocks
    /// while it reads the journal.
    ///
    /// `wake` must make the adapter's loop turn; it is called from any thread, also while the loop
    /// turns, and must not block.
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
        let identity = Identity { cluster, node, store_id: journal.store_id() };
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
        let lifecycle = Arc::new(Lifecycle::new(node));
        let stops = Arc::clone(&inbox);
        let stop: Stopper = Arc::new(move |reason| stops.stop(reason));
        let leadership_state = Arc::new(LeadershipState::new(Arc::clone(&lifecycle)));
        let members = Arc::new(Mutex::new(raft.membership().clone()));
        let mut snapshots = SnapshotsInUse::start(store, cluster, &inbox, &lifecycle, &stop)?;
        if let Some(snapshot) = snapshot {
            snapshots.restore(&mut state_machine, &snapshot).map_err(StartError::Restore)?;
        }
        let state_machine = StateMachineWorker::start(
            state_machine,
            applies_max,
            Arc::clone(&inbox),
            &lifecycle,
            Arc::clone(&stop),
            snapshots.jobs(),
        );
        let state_machine = state_machine.map_err(StartError::System)?;
        let journal =
            JournalWorker::start(journal, sync_bytes_max, Arc::clone(&inbox), &lifecycle, stop);
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
            states: Comparison::new(node, Arc::clone(state_machine.digests())),
            state_machine,
            watch,
            reasons: Reasons::default(),
            evaded: None,
            shutdown_max,
            leadership_state: Arc::clone(&leadership_state),
            members: Arc::clone(&members),
            lifecycle: Arc::clone(&lifecycle),
        };
        driver.leadership_state.publish(driver.leadership());
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
            let _ = wait_over(&lifecycle).wait();
            return Err(StartError::Transport(error));
        }
        driver.transport.members(&membership);
        let handle = Handle::new(Arc::clone(&driver.inbox), leadership_state, lifecycle, members);
        Ok((handle, driver))
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

/// The disk decides who the members are, so other voters in the configuration of this start take no
/// effect.
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
