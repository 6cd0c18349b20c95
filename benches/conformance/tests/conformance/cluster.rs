//! A cluster on any runtime and network, and waiting that has an end.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use authority::Authority;
use bytes::Bytes;
use raft_core::host::tcp::{Counters, Found};
use raft_core::host::tls::Tls;
use raft_core::host::{
    ChangeError, ClusterId, InProcessNetwork, Journal, Label, Leadership, MemoryJournal,
    NodeConfig, NodeStatus, ProposeError, StartError,
};
use raft_core::{Change, Config, Membership, NodeId, Role};
use runtimes::{DEADLINE, Log, Member, Probe, Runtime};

use crate::network::{Names, Network, Wire};

/// Where a scenario takes place.
pub(crate) struct Stage {
    pub(crate) runtime: Box<dyn Runtime>,
    pub(crate) wire: Wire,
}

impl Stage {
    /// A cluster of this size, all of whose nodes run.
    pub(crate) fn cluster(self, size: usize) -> Cluster {
        self.cluster_with(size, |_| ())
    }

    /// The same, with the configuration changed.
    pub(crate) fn cluster_with(self, size: usize, change: fn(&mut NodeConfig)) -> Cluster {
        let mut cluster = self.idle(size, change);
        (0..size).for_each(|position| cluster.restart(position));
        cluster
    }

    /// The same, with no node started yet.
    pub(crate) fn idle(self, size: usize, change: fn(&mut NodeConfig)) -> Cluster {
        let mut journals = Vec::new();
        journals.resize_with(size, MemoryJournal::new);
        let network = Network::new(self.wire, size, &*self.runtime);
        Cluster {
            nodes: Vec::new(),
            probes: Vec::new(),
            counters: vec![Counters::default(); size],
            away: BTreeSet::new(),
            joiners: BTreeSet::new(),
            founders: size,
            network,
            journals,
            change,
            runtime: self.runtime,
        }
    }
}

/// Nodes numbered from 1, at positions from 0.
pub(crate) struct Cluster {
    // The nodes go first and the runtime last.
    pub(crate) nodes: Vec<Box<dyn Member>>,
    /// Of each node's present life.
    pub(crate) probes: Vec<Arc<Probe>>,
    /// Of each node's present transport, over TCP.
    pub(crate) counters: Vec<Counters>,
    /// The nodes that are cut off.
    away: BTreeSet<usize>,
    /// The nodes that start without members, and are told of them.
    joiners: BTreeSet<usize>,
    /// How many there were to begin with.
    founders: usize,
    network: Network,
    pub(crate) journals: Vec<MemoryJournal>,
    change: fn(&mut NodeConfig),
    pub(crate) runtime: Box<dyn Runtime>,
}

/// The cluster.
pub(crate) const CLUSTER: ClusterId = ClusterId::new(7);

/// Timeouts that a busy machine seldom reaches.
pub(crate) fn patient(config: &mut NodeConfig) {
    config.raft.election_timeout_min = Duration::from_millis(300);
    config.raft.election_timeout_max = Duration::from_millis(600);
}

/// The number of the node at this position.
pub(crate) fn id(position: usize) -> NodeId {
    NodeId::new(position as u64 + 1)
}

impl Cluster {
    pub(crate) fn size(&self) -> usize {
        self.journals.len()
    }

    /// All positions.
    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.size()).collect()
    }

    /// All positions but these.
    pub(crate) fn others(&self, than: &[usize]) -> Vec<usize> {
        self.all().into_iter().filter(|position| !than.contains(position)).collect()
    }

    /// The nodes that are not cut off.
    pub(crate) fn present(&self) -> Vec<usize> {
        self.all().into_iter().filter(|position| !self.away.contains(position)).collect()
    }

    /// The configuration of a node.
    pub(crate) fn config(&self, position: usize) -> NodeConfig {
        let raft = Config {
            election_timeout_min: Duration::from_millis(100),
            election_timeout_max: Duration::from_millis(200),
            heartbeat_interval: Duration::from_millis(20),
            ..Config::new(id(position), self.voters(position))
        };
        let mut config = NodeConfig::new(CLUSTER, raft);
        (self.change)(&mut config);
        config
    }

    fn voters(&self, position: usize) -> Vec<NodeId> {
        let voters = if self.joiners.contains(&position) { 0 } else { self.founders };
        (0..voters).map(id).collect()
    }

    /// Starts one more node, which has yet to be told of its cluster. Its position.
    pub(crate) fn join(&mut self) -> usize {
        let position = self.size();
        self.journals.push(MemoryJournal::new());
        self.counters.push(Counters::default());
        self.network.add();
        self.rejoin_empty(position);
        position
    }

    /// Starts a node with an empty journal, to be told of its cluster.
    pub(crate) fn rejoin_empty(&mut self, position: usize) {
        self.joiners.insert(position);
        self.wipe(position);
        self.restart(position);
    }

    /// Empties a node's journal.
    pub(crate) fn wipe(&mut self, position: usize) {
        self.journals[position] = MemoryJournal::new();
    }

    /// The label of the node at this position.
    pub(crate) fn label(&self, position: usize) -> Label {
        self.network.label(position)
    }

    /// The change that adds the node at this position.
    pub(crate) fn add(&self, position: usize) -> Change {
        self.label(position).add_learner(id(position)).expect("it is short")
    }

    /// Changes the membership through the leader of these nodes, until it is done.
    pub(crate) fn change(&self, positions: &[usize], changes: &[Change]) -> Membership {
        let mut may_be_done = false;
        until("a change of membership", || {
            let leader = self.elect_among(positions);
            let changed = self.nodes[leader].change_membership(changes.to_vec());
            match changed.wait("an answer to a change") {
                Ok(membership) => Some(membership),
                Err(ChangeError::Invalid(error)) => {
                    assert!(may_be_done, "{error}");
                    Some(self.nodes[leader].membership())
                }
                Err(error) => {
                    may_be_done |= error.may_take_effect();
                    None
                }
            }
        })
    }

    /// Starts a node from its journal in memory, in the place of its earlier life.
    pub(crate) fn restart(&mut self, position: usize) {
        let journal = self.journals[position].clone();
        self.restart_with(position, journal, true).expect("it can run");
    }

    /// The same, with another journal, and a state machine that blocks or does not.
    pub(crate) fn restart_with(
        &mut self,
        position: usize,
        journal: impl Journal,
        blocks: bool,
    ) -> Result<(), StartError> {
        let (log, probe) = Log::new(blocks);
        let (transport, counters) = self.network.transport(position, self.founders, &*self.runtime);
        let config = self.config(position);
        let node = self.runtime.start(config, log, Box::new(journal), transport)?;
        if position == self.nodes.len() {
            self.nodes.push(node);
            self.probes.push(probe);
        } else {
            self.nodes[position] = node;
            self.probes[position] = probe;
        }
        self.counters[position] = counters;
        Ok(())
    }

    /// The authority that signs the nodes' certificates, over TLS.
    pub(crate) fn authority(&self) -> &Authority {
        self.network.sockets().authority.as_ref().expect("over TLS")
    }

    /// What the node at this position uses, over TLS.
    pub(crate) fn tls(&self, position: usize) -> &Tls {
        &self.network.sockets().tls[&position]
    }

    /// From now on nodes that are started give up handshakes after this time.
    pub(crate) fn limit_handshakes(&mut self, timeout: Duration) {
        self.network.sockets_mut().handshake_timeout = Some(timeout);
    }

    /// Where a node listens, over TCP.
    pub(crate) fn address(&self, position: usize) -> SocketAddr {
        self.network.sockets().addresses[position]
    }

    /// From now on nodes that are started dial this one there.
    pub(crate) fn reach_by(&mut self, position: usize, way: SocketAddr) {
        self.network.sockets_mut().ways[position] = way;
    }

    /// From now on nodes that are started know each other by names, which `look` looks up.
    pub(crate) fn name_peers(
        &mut self,
        connect_timeout: Duration,
        look: impl Fn(&str, SocketAddr) -> Found + Send + Sync + 'static,
    ) {
        self.network.sockets_mut().names = Some(Names { look: Arc::new(look), connect_timeout });
    }

    /// From its next start on, the node at this position sends and takes frames of so many bytes.
    pub(crate) fn limit_frames(&mut self, position: usize, bytes_max: usize) {
        self.network.sockets_mut().frames.insert(position, bytes_max);
    }

    /// The next life of a node listens at another address.
    pub(crate) fn move_away(&mut self, position: usize) {
        self.network.sockets_mut().move_away(position);
    }

    /// Closes a node's sockets behind its back, over TCP.
    pub(crate) fn unplug(&self, position: usize) {
        self.network.sockets().links.unplug(id(position));
    }

    /// Waits until the node's port is free, over TCP.
    pub(crate) fn await_port(&self, position: usize) {
        if let Network::Sockets(sockets) = &self.network {
            until("a free port", || TcpListener::bind(sockets.addresses[position]).ok());
        }
    }

    /// The in-process network.
    pub(crate) fn hub(&self) -> &InProcessNetwork {
        self.network.hub()
    }

    /// Cuts one way.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        self.network.cut(id(from), id(to));
    }

    /// Undoes all one-way cuts.
    pub(crate) fn mend(&self) {
        for from in self.all() {
            for to in self.all() {
                self.network.mend(id(from), id(to));
            }
        }
    }

    /// Cuts a node off.
    pub(crate) fn isolate(&mut self, position: usize) {
        self.away.insert(position);
        self.network.isolate(id(position));
    }

    /// Undoes [`Cluster::isolate`].
    pub(crate) fn rejoin(&mut self, position: usize) {
        self.away.remove(&position);
        self.network.rejoin(id(position));
    }

    /// Loses this part of all messages from now on.
    pub(crate) fn lose(&self, part: f64) {
        self.network.lose(part);
    }

    pub(crate) fn leadership(&self, position: usize) -> Leadership {
        self.nodes[position].leadership().current()
    }

    pub(crate) fn status(&self, position: usize) -> NodeStatus {
        let status = self.nodes[position].status().wait("a status");
        status.expect("the node runs and is not busy")
    }

    /// Waits until one of those present leads and all present know it.
    pub(crate) fn elect(&self) -> usize {
        self.elect_among(&self.present())
    }

    /// Waits until one of these leads and all of these know it.
    pub(crate) fn elect_among(&self, positions: &[usize]) -> usize {
        until("a leader whom all know", || self.leader_of(positions))
    }

    /// The leader of these nodes, if all of them know it.
    pub(crate) fn leader_of(&self, positions: &[usize]) -> Option<usize> {
        let first = self.leadership(positions[0]);
        let leader =
            positions.iter().copied().find(|position| Some(id(*position)) == first.leader)?;
        let agree = |position: &usize| {
            let now = self.leadership(*position);
            (now.term, now.leader) == (first.term, first.leader)
        };
        let leads = self.leadership(leader).role == Role::Leader;
        (leads && positions.iter().all(agree)).then_some(leader)
    }

    /// Waits until no node believes that it leads.
    pub(crate) fn await_no_leader(&self) {
        until("the end of all leaderships", || self.nobody_leads().then_some(()));
    }

    pub(crate) fn nobody_leads(&self) -> bool {
        self.all().into_iter().all(|position| self.leadership(position).role != Role::Leader)
    }

    /// Proposes to the leader of those present, until it is answered. The command may be applied
    /// more than once.
    pub(crate) fn propose(&self, command: impl Into<Bytes>) {
        self.propose_among(&self.present(), command);
    }

    pub(crate) fn propose_among(&self, positions: &[usize], command: impl Into<Bytes>) {
        let command = command.into();
        until("a reply to a proposal", || {
            let leader = self.elect_among(positions);
            self.nodes[leader].propose(command.clone()).wait("an answer").ok()
        });
    }

    /// Waits until this many have applied the command.
    pub(crate) fn await_applied(&self, command: &[u8], nodes: usize) {
        until("a command on enough nodes", || {
            let has = |probe: &&Arc<Probe>| probe.commands().iter().any(|one| one == command);
            (self.probes.iter().filter(has).count() >= nodes).then_some(())
        });
    }

    /// Proposes until it is answered, and waits until this many have applied it.
    pub(crate) fn agree(&self, command: &'static str, nodes: usize) {
        self.propose(command);
        self.await_applied(command.as_bytes(), nodes);
    }

    /// Waits until all nodes have applied all there is, and checks that it is the same. What was
    /// proposed again because its answer was lost is there once.
    pub(crate) fn agreed(&self) -> Vec<Bytes> {
        until("agreement", || {
            let states = self.all().into_iter().map(|position| {
                let raft = self.status(position).raft;
                (raft.last_applied, raft.commit_index, raft.last_log)
            });
            let states: Vec<_> = states.collect();
            let (applied, commit, last) = states[0];
            let quiet = applied == commit && commit == last.index;
            (quiet && states.iter().all(|state| *state == states[0])).then_some(())
        });
        let entries = self.probes[0].entries();
        for probe in &self.probes {
            assert_eq!(probe.entries(), entries, "the nodes differ");
        }
        let mut commands = self.probes[0].commands();
        commands.dedup();
        commands
    }

    /// Stops all nodes, and waits until nothing is left of them.
    pub(crate) fn shutdown(&self) {
        let ends: Vec<_> = self.nodes.iter().map(|node| node.shutdown()).collect();
        for end in ends {
            end.wait("the end of a node");
        }
    }
}

/// A node whose requests still wait, such as for a lead, lives on without its cluster: they hold
/// handles to it.
impl Drop for Cluster {
    fn drop(&mut self) {
        // What a failed scenario has left shut would hold up others on the same runtime.
        self.probes.iter().for_each(|probe| probe.open_gate());
        if thread::panicking() {
            self.nodes.iter().for_each(|node| drop(node.shutdown()));
        } else {
            self.shutdown();
        }
    }
}

/// Asks until there is an answer, which must come in time.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{what} did not come within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The command came back, so it may be proposed elsewhere.
pub(crate) fn came_back(error: ProposeError) -> Bytes {
    assert!(!error.may_commit(), "{error}");
    error.into_command().expect("a command that was not appended comes back")
}
