//! A trial: a cluster on a runtime loses its leader, and elects another.
//!
//! ```text
//! t0 leader stops … d first deadline … f its handler runs … v votes counted … k a majority knows … c first entry committed
//!    |<-- D: detection (chosen) -->|<- S: slop ->|<------------------ E: election ------------------>|
//! ```
//!
//! D is read from the deadlines that the servers had drawn when the leader stopped, so it owes nothing to the runtime; S and E are what the
//! runtime, the network and the disk add.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use raft_core::host::{
    ClusterId, FileJournal, Hub, Journal, MemoryJournal, NodeConfig, Transport, tcp,
};
use raft_core::{NodeId, Role, Term, Wake};
use tempfile::TempDir;

use super::setting::{Disk, Failure, On, Setting, Wire};
use super::tape::{Plug, Tape};
use crate::runtime::{Log, Member, Runtime};

/// Longer than any election that ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between looks at a cluster that is to settle.
const LOOK_INTERVAL: Duration = Duration::from_micros(500);

/// What a trial has measured.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// From the failure until the first deadline; zero for a hand-over, and where a hint came before the deadline until that.
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
    /// Messages from the first question until the first commit.
    pub messages: u64,
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
    nodes: Vec<Option<Node>>,
    network: Network,
    journals: Journals,
    tape: Arc<Tape>,
    setting: Setting,
    seed: u64,
    runtime: Box<dyn Runtime>,
}

struct Node {
    member: Box<dyn Member>,
    plug: Plug,
}

enum Network {
    Channels(Hub),
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
        let runtime = on.start()?;
        let servers = setting.servers;
        let network = match setting.wire {
            Wire::Channels => Network::Channels(runtime.network(seed)),
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
        let mut cluster = Self { nodes, network, journals, tape, setting, seed, runtime };
        cluster.tape.watch(Term::ZERO, servers);
        for position in 0..servers {
            cluster.start_node(position)?;
        }
        let outcome = cluster.measure(Instant::now(), None)?;
        Ok((cluster, outcome))
    }

    /// The leader fails as the setting says, and another is elected. For a cold start it is silence.
    ///
    /// Afterwards the failed server is back, and all follow the new leader.
    ///
    /// # Errors
    ///
    /// As of [`Cluster::start`].
    pub fn fail_leader(&mut self, phase: Duration) -> io::Result<Outcome> {
        let leader = self.settle()?;
        thread::sleep(self.setting.timing.heartbeat * 2 + phase);
        let position = position(leader);
        let term = self.nodes[position].as_ref().map_or(Term::ZERO, Node::term);
        self.tape.watch(term, self.setting.servers);
        let failed_at = Instant::now();
        match self.setting.failure {
            Failure::Cold | Failure::Silence => {
                self.tape.cut_off(leader);
                let outcome = self.measure(failed_at, Some(leader))?;
                self.tape.rejoin(leader);
                Ok(outcome)
            }
            Failure::Kill => {
                self.tape.cut_off(leader);
                if let Some(node) = &self.nodes[position] {
                    node.plug.pull();
                }
                let outcome = self.measure(failed_at, Some(leader))?;
                self.stop_node(position)?;
                self.tape.rejoin(leader);
                self.start_node(position)?;
                Ok(outcome)
            }
            Failure::Handover => {
                let node = self.nodes[position].take();
                let stopping = node.as_ref().map(|node| node.member.shutdown());
                let outcome = self.measure(failed_at, Some(leader))?;
                if let Some(stopping) = stopping {
                    stopping.wait("the end of the node");
                }
                drop(node);
                self.start_node(position)?;
                Ok(outcome)
            }
        }
    }

    /// Waits until one leads and all know it, and says who.
    fn settle(&self) -> io::Result<NodeId> {
        let until = Instant::now() + PATIENCE;
        loop {
            let known = self.nodes.iter().flatten().map(|node| node.member.leadership().current());
            let known: Vec<_> = known.collect();
            let agreed =
                known.iter().all(|one| (one.term, one.leader) == (known[0].term, known[0].leader));
            let leads = known.iter().any(|one| one.role == Role::Leader);
            if let (true, true, Some(leader)) = (agreed, leads, known[0].leader) {
                return Ok(leader);
            }
            if Instant::now() > until {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the cluster did not settle"));
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    fn measure(&self, failed_at: Instant, failed: Option<NodeId>) -> io::Result<Outcome> {
        let is_planned = self.setting.failure == Failure::Handover && failed.is_some();
        let deadline = if is_planned { Some(failed_at) } else { self.first_deadline(failed) };
        let moments = self.tape.wait(PATIENCE);
        let no_leader = || io::Error::new(io::ErrorKind::TimedOut, "no leader came");
        let moments = moments.ok_or_else(no_leader)?;
        let (Some(leads), Some(committed)) = (moments.leads, moments.committed) else {
            return Err(no_leader());
        };
        // In a hand-over the candidate may be asked to stand before it says a word itself.
        let stood = moments.stood.unwrap_or(leads.at);
        // Who hears that a connection died stands before its deadline: then that moment is all there is to see.
        let deadline = deadline.map_or(stood, |deadline| deadline.min(stood)).max(failed_at);
        Ok(Outcome {
            detection: deadline - failed_at,
            slop: stood.saturating_duration_since(deadline),
            election: committed.saturating_duration_since(stood),
            downtime: committed.saturating_duration_since(failed_at),
            until_leading: leads.at.saturating_duration_since(stood),
            until_known: moments.known.unwrap_or(committed).saturating_duration_since(stood),
            split: moments.is_split(),
            messages: moments.messages,
        })
    }

    /// The earliest of the deadlines that those left have drawn.
    fn first_deadline(&self, failed: Option<NodeId>) -> Option<Instant> {
        let left = self.nodes.iter().enumerate();
        let left = left.filter(|(position, _)| Some(id(*position)) != failed);
        left.filter_map(|(_, node)| node.as_ref()?.deadline()).min()
    }

    fn start_node(&mut self, position: usize) -> io::Result<()> {
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
        let (log, _) = Log::new(false);
        let member = self.runtime.start(config, log, journal, Box::new(transport));
        let member = member.map_err(io::Error::other)?;
        self.nodes[position] = Some(Node { member, plug });
        Ok(())
    }

    fn stop_node(&mut self, position: usize) -> io::Result<()> {
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
                let peers = peers.map(|(position, address)| (id(position), *address)).collect();
                let config = tcp::Config {
                    reconnect_backoff_min: Duration::from_millis(1),
                    reconnect_backoff_max: Duration::from_millis(5),
                    ..tcp::Config::default()
                };
                Ok(self.runtime.tcp(id(position), listener, peers, config)?.0)
            }
        }
    }
}

impl Drop for Cluster {
    /// Followers first: a leader that stops would hand over to one that is to stop too.
    fn drop(&mut self) {
        let nodes: Vec<_> = self.nodes.drain(..).flatten().collect();
        let (leaders, others): (Vec<_>, Vec<_>) = nodes
            .into_iter()
            .partition(|node| node.member.leadership().current().role == Role::Leader);
        for group in [others, leaders] {
            let stopping: Vec<_> = group.iter().map(|node| node.member.shutdown()).collect();
            stopping.into_iter().for_each(|stopping| drop(stopping.wait("the end of the node")));
        }
    }
}

impl Node {
    fn term(&self) -> Term {
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

fn id(position: usize) -> NodeId {
    NodeId::new(position as u64 + 1)
}

fn position(id: NodeId) -> usize {
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
