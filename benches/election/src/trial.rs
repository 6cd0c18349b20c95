//! A trial: a cluster on a runtime loses its leader, and elects another.
//!
//! ```text
//! t0 leader stops  d first deadline  f its handler runs  v votes counted  c first entry committed
//! |<-- D: detection (chosen) -->|<- S: slop ->|<----------------- E: election ----------------->|
//! ```
//!
//! D is read from the deadlines that the servers had drawn when the leader stopped, so it owes
//! nothing to the runtime; S and E are what the runtime, the network and the disk add.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use raft_core::host::{
    ClusterId, FileJournal, InProcessNetwork, Journal, MemoryJournal, NodeConfig, Transport, tcp,
};
use raft_core::{NodeId, Role, Term, Wake};
use runtimes::{Log, Member, Probe, Runtime};
use tempfile::TempDir;

use super::quiet::Quiet;
use super::setting::{Disk, Failure, On, Setting, Wire};
use super::tape::{Moments, Plug, Tape};

/// Longer than any election that ends.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than any election that goes as it should.
const STRANGE: Duration = Duration::from_secs(2);

/// Between looks at a cluster that is to settle.
const LOOK_INTERVAL: Duration = Duration::from_micros(500);

/// What a trial has measured.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// From the failure until the first deadline; zero for a hand-over; where connections were
    /// closed, until a candidate stood.
    pub detection: Duration,
    /// How late the candidate's handler ran.
    pub slop: Duration,
    /// From then until the new leader had committed its first entry.
    pub election: Duration,
    /// From the failure until then.
    pub downtime: Duration,
    /// From when the candidate stood until it led.
    pub until_leading: Duration,
    /// From when the candidate stood until a majority knew its leader.
    pub until_known: Duration,
    /// Whether the first term in which anybody stood came to nothing.
    pub split: bool,
    /// Messages from the first question until the first commit; zero where they are not counted.
    pub messages: u64,
    /// The same in bytes, as they are encoded on a wire, without framing.
    pub bytes: u64,
    /// Commands that the leader accepted, and went before it could say that they are committed;
    /// they are.
    pub unanswered: u64,
}

impl Outcome {
    /// What the runtime adds to the choice of timeouts.
    pub fn slop_and_election(&self) -> Duration {
        self.slop + self.election
    }
}

/// A cluster in which trials take place one after the other.
pub struct Cluster {
    // The nodes go first and the runtime last.
    pub(super) nodes: Vec<Option<Node>>,
    network: Network,
    journals: Journals,
    pub(super) tape: Arc<Tape>,
    pub(super) setting: Setting,
    pub(super) quiet: Quiet,
    seed: u64,
    /// Clients so far.
    pub(super) clients: u64,
    runtime: Box<dyn Runtime>,
}

pub(super) struct Node {
    pub(super) member: Box<dyn Member>,
    pub(super) plug: Plug,
    pub(super) log: Arc<Probe>,
}

enum Network {
    Channels(InProcessNetwork),
    Tcp { addresses: Vec<SocketAddr>, listeners: Vec<Option<TcpListener>> },
}

enum Journals {
    Memory(Vec<MemoryJournal>),
    Files(TempDir),
}

impl Cluster {
    /// Starts all servers at once and waits until one leads: the outcome is that of a cold start.
    ///
    /// # Errors
    ///
    /// No threads, ports or files are left; or no leader came.
    pub fn start(setting: Setting, on: On, seed: u64) -> io::Result<(Self, Outcome)> {
        Self::start_beside(setting, on, seed, &Quiet::default())
    }

    /// The same beside other clusters that share this quiet.
    ///
    /// # Errors
    ///
    /// As of [`Cluster::start`].
    pub fn start_beside(
        setting: Setting,
        on: On,
        seed: u64,
        quiet: &Quiet,
    ) -> io::Result<(Self, Outcome)> {
        let noise = quiet.make_noise();
        let runtime = on.start()?;
        let servers = setting.servers;
        let network = match setting.wire {
            Wire::Channels => {
                let hub = runtime.network(seed);
                hub.set_faults(setting.link.faults());
                Network::Channels(hub)
            }
            Wire::Tcp => {
                let bind = |_| TcpListener::bind("127.0.0.1:0");
                let listeners = (0..servers).map(bind).collect::<io::Result<Vec<_>>>()?;
                let addresses = listeners.iter().map(TcpListener::local_addr);
                let addresses = addresses.collect::<io::Result<_>>()?;
                let listeners = listeners.into_iter().map(Some).collect();
                Network::Tcp { addresses, listeners }
            }
        };
        let journals = match setting.disk {
            Disk::Memory => Journals::Memory((0..servers).map(|_| MemoryJournal::new()).collect()),
            Disk::Fsync => Journals::Files(tempfile::tempdir()?),
        };
        let tape = Arc::new(Tape::default());
        let nodes = (0..servers).map(|_| None).collect();
        let quiet = quiet.clone();
        let mut cluster =
            Self { nodes, network, journals, tape, setting, quiet, seed, clients: 0, runtime };
        cluster.tape.watch(Term::ZERO, servers);
        for position in 0..servers {
            cluster.start_node(position)?;
        }
        // Where the start itself is measured, nobody else is.
        let noise = (setting.failure == Failure::Cold).then_some(noise);
        let started_at = Instant::now();
        let deadline = cluster.first_deadline(&[]);
        let outcome = cluster.observe()?.outcome(started_at, deadline)?;
        drop(noise);
        Ok((cluster, outcome))
    }

    /// Waits until there is a leader that all servers know, and returns it.
    pub(super) fn settle(&self) -> io::Result<NodeId> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(leader) = self.leader(&[]) {
                return Ok(leader);
            }
            if Instant::now() > until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the cluster did not settle"));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// The leader that all servers know, except for those that are gone.
    pub(super) fn leader(&self, gone: &[NodeId]) -> Option<NodeId> {
        let nodes = self.nodes.iter().enumerate().filter(|(place, _)| !gone.contains(&id(*place)));
        let known =
            nodes.filter_map(|(_, node)| Some(node.as_ref()?.member.leadership().current()));
        let known: Vec<_> = known.collect();
        let first = known.first()?;
        let agreed = known.iter().all(|one| (one.term, one.leader) == (first.term, first.leader));
        let leads = known.iter().any(|one| one.role == Role::Leader);
        first.leader.filter(|_| agreed && leads)
    }

    /// Waits until the election is over. One that takes strangely long is told of, for it is a
    /// finding.
    pub(super) fn observe(&self) -> io::Result<Moments> {
        if let Some(moments) = self.tape.wait(STRANGE) {
            return Ok(moments);
        }
        eprintln!("an election takes more than {STRANGE:?}: {}", self.setting);
        for node in self.nodes.iter().flatten() {
            match node.member.status().wait("a status") {
                Ok(status) => eprintln!("{:?}, wakes at {:?}", status.raft, status.wakes_at),
                Err(error) => eprintln!("{error}"),
            }
        }
        self.tape.wait(PATIENCE).ok_or_else(no_leader)
    }

    /// The earliest of the deadlines that those left have drawn.
    pub(super) fn first_deadline(&self, gone: &[NodeId]) -> Option<Instant> {
        self.deadlines(gone).into_iter().map(|(deadline, _)| deadline).min()
    }

    /// When each follower will stand, but for those that are gone.
    pub(super) fn deadlines(&self, gone: &[NodeId]) -> Vec<(Instant, NodeId)> {
        let nodes = self.nodes.iter().enumerate().map(|(position, node)| (id(position), node));
        let left = nodes.filter(|(node, _)| !gone.contains(node));
        left.filter_map(|(id, node)| Some((node.as_ref()?.deadline()?, id))).collect()
    }

    pub(super) fn start_node(&mut self, position: usize) -> io::Result<()> {
        let node = id(position);
        let cluster = ClusterId::new(7);
        let raft = self.setting.timing.config(node, self.setting.servers);
        let config = NodeConfig { seed: Some(self.seed), ..NodeConfig::new(cluster, raft) };
        let transport = self.transport(position)?;
        let (transport, plug) = self.tape.around(transport);
        let journal: Box<dyn Journal> = match &self.journals {
            Journals::Memory(journals) => Box::new(journals[position].clone()),
            Journals::Files(directory) => {
                let directory = directory.path().join(node.to_string());
                Box::new(FileJournal::open(directory, cluster, node).map_err(io::Error::other)?)
            }
        };
        let (log, probe) = Log::new(false);
        let member = self.runtime.start(config, log, journal, Box::new(transport));
        let member = member.map_err(io::Error::other)?;
        self.nodes[position] = Some(Node { member, plug, log: probe });
        Ok(())
    }

    pub(super) fn stop_node(&mut self, position: usize) -> io::Result<()> {
        if let Some(node) = self.nodes[position].take() {
            node.member.shutdown().wait("the end of the node");
        }
        Ok(())
    }

    fn transport(&mut self, position: usize) -> io::Result<Box<dyn Transport>> {
        match &mut self.network {
            Network::Channels(hub) => Ok(Box::new(hub.endpoint(id(position)))),
            Network::Tcp { addresses, listeners } => {
                let listener = match listeners[position].take() {
                    Some(listener) => listener,
                    None => bind_again(addresses[position])?,
                };
                let peers = addresses.iter().enumerate();
                let peers =
                    peers.map(|(position, address)| (id(position), address.to_string())).collect();
                Ok(self.runtime.tcp(id(position), listener, peers, tcp_config())?.0)
            }
        }
    }
}

impl Drop for Cluster {
    /// Followers first, or a leader would hand over to one that is to stop too. It still waits for
    /// one, which makes no noise.
    fn drop(&mut self) {
        let nodes: Vec<_> = self.nodes.drain(..).flatten().collect();
        let (leaders, others): (Vec<_>, Vec<_>) = nodes
            .into_iter()
            .partition(|node| node.member.leadership().current().role == Role::Leader);
        let noise = self.quiet.make_noise();
        stop(&others);
        drop(noise);
        stop(&leaders);
    }
}

fn stop(nodes: &[Node]) {
    let stopping: Vec<_> = nodes.iter().map(|node| node.member.shutdown()).collect();
    stopping.into_iter().for_each(|stopping| drop(stopping.wait("the end of the node")));
}

impl Moments {
    /// Taken apart, where a candidate would stand at this deadline unless it was told earlier.
    pub(super) fn outcome(
        &self,
        failed_at: Instant,
        deadline: Option<Instant>,
    ) -> io::Result<Outcome> {
        let (Some(leads), Some(committed)) = (self.leads, self.committed) else {
            return Err(no_leader());
        };
        // In a hand-over the candidate may be asked to stand before it says a word itself.
        let stood = self.stood.unwrap_or(leads.at);
        let deadline = deadline.map_or(stood, |deadline| deadline.min(stood)).max(failed_at);
        Ok(Outcome {
            detection: deadline - failed_at,
            slop: stood.saturating_duration_since(deadline),
            election: committed.saturating_duration_since(stood),
            downtime: committed.saturating_duration_since(failed_at),
            until_leading: leads.at.saturating_duration_since(stood),
            until_known: self.known.unwrap_or(committed).saturating_duration_since(stood),
            split: self.is_split(),
            messages: self.messages,
            bytes: self.bytes,
            unanswered: 0,
        })
    }
}

impl Node {
    pub(super) fn term(&self) -> Term {
        self.member.leadership().current().term
    }

    /// When it will stand, unless it hears from a leader.
    fn deadline(&self) -> Option<Instant> {
        loop {
            let status = self.member.status().wait("a status").ok()?;
            match status.raft.wake {
                // A heartbeat came in the same turn; the deadline is drawn at its end.
                Some((_, Wake::Step)) => {}
                Some((_, Wake::Election)) => return status.wakes_at,
                _ => return None,
            }
        }
    }
}

/// A server that comes back is dialed again soon, but not while its successor is elected: by
/// default a server waits for 10 ms at least.
pub(super) fn tcp_config() -> tcp::Config {
    tcp::Config {
        reconnect_backoff_min: Duration::from_millis(5),
        reconnect_backoff_max: Duration::from_millis(5),
        ..tcp::Config::default()
    }
}

fn no_leader() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no leader came")
}

fn id(position: usize) -> NodeId {
    NodeId::new(position as u64 + 1)
}

pub(super) fn position(id: NodeId) -> usize {
    id.get() as usize - 1
}

/// The port is given back a moment after the sockets were told to close.
fn bind_again(address: SocketAddr) -> io::Result<TcpListener> {
    let until = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => thread::sleep(LOOK_INTERVAL),
        }
    }
}
