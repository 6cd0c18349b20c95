//! A deterministic cluster in virtual time, over a network and disks that the test controls.
//!
//! One seed, one run. After every event the pump checks what no run may break: see [`checks`].
// Each test crate that includes this file uses its own part.
#![allow(dead_code, unused_imports, unreachable_pub)]

mod checks;
mod laboratory;
mod network;
mod run;
mod seeds;

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::{
    Config, Entry, Index, Instant, Message, NodeId, ProposeError, Raft, ReadId, Restored, Role,
    Term, Write,
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

use checks::Checks;
pub use laboratory::Conditions;
pub use network::Network;
use run::Event;
pub use seeds::{SEEDS, for_each_seed, for_each_seed_under, seeds};

pub type Command = Vec<u8>;
pub type Server = Raft<Command, Pcg32>;

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

pub fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

/// One server with its disk and its state machine.
pub struct Host {
    /// None while crashed.
    pub raft: Option<Server>,
    /// What the disk holds for certain.
    pub stored: Restored<Command>,
    /// Writes that the disk has not answered for, in order, and when they came.
    pub pending: Vec<(Instant, Write<Command>)>,
    /// The log as all writes make it, answered for or not.
    pub log: Vec<Entry<Command>>,
    /// While true, no write is answered for.
    pub disk_stuck: bool,
    /// What a write takes here, if not what it takes elsewhere.
    pub disk_latency: Option<Duration>,
    pub connected: bool,
    /// What the state machine saw, no-ops left out, since the last start.
    pub applied: Vec<(Index, Command)>,
    pub last_applied: Index,
    pub reads_ready: Vec<(ReadId, Index)>,
    pub reads_lost: Vec<ReadId>,
    /// How many elections this server has won.
    pub elections: u64,
    /// When the server wants to be woken.
    deadline: Option<Instant>,
    /// Counts the crashes, so that a write of an earlier life is not answered for in a later one.
    life: u64,
}

impl Host {
    fn new() -> Self {
        Self {
            raft: None,
            stored: Restored::default(),
            pending: Vec::new(),
            log: Vec::new(),
            disk_stuck: false,
            disk_latency: None,
            connected: true,
            applied: Vec::new(),
            last_applied: Index::ZERO,
            reads_ready: Vec::new(),
            reads_lost: Vec::new(),
            elections: 0,
            deadline: None,
            life: 0,
        }
    }

    /// The server, if it runs and the others can reach it.
    fn reachable(&self) -> Option<&Server> {
        self.raft.as_ref().filter(|_| self.connected)
    }
}

/// Returns true for messages to lose.
type Sieve = Box<dyn Fn(&Message<Command>) -> bool>;

pub struct Cluster {
    pub now: Instant,
    pub network: Network,
    pub disk_latency: Duration,
    pub hosts: Vec<Host>,
    /// (from, to) pairs that hear nothing.
    pub cut: Vec<(NodeId, NodeId)>,
    /// What was sent so far, lost or not: all messages, those of them that are requests, and the
    /// bytes of all.
    pub messages: u64,
    pub requests: u64,
    pub bytes: u64,
    pub log: Vec<(Instant, Message<Command>)>,
    pub keep_log: bool,
    /// Set by a test that itself brings about what no correct cluster can.
    pub tolerates_oddities: bool,
    configure: Box<dyn Fn(&mut Config)>,
    rng: Pcg32,
    sieve: Option<Sieve>,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    checks: Checks,
}

impl Cluster {
    /// Servers 1 to `size` with latencies of one millisecond, disks of 100 microseconds.
    pub fn new(size: u64, seed: u64) -> Self {
        Self::with(size, seed, |_| {})
    }

    pub fn with(size: u64, seed: u64, configure: impl Fn(&mut Config) + 'static) -> Self {
        let mut cluster = Self {
            now: Instant::ZERO,
            network: Network::reliable(ms(1)),
            disk_latency: us(100),
            hosts: (0..size).map(|_| Host::new()).collect(),
            cut: Vec::new(),
            messages: 0,
            requests: 0,
            bytes: 0,
            log: Vec::new(),
            keep_log: false,
            tolerates_oddities: false,
            configure: Box::new(configure),
            rng: Pcg32::seed_from_u64(seed),
            sieve: None,
            events: BTreeMap::new(),
            sequence: 0,
            checks: Checks::new(size),
        };
        cluster.ids().for_each(|id| cluster.start(id));
        cluster
    }

    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.hosts.len() as u64).map(NodeId::new)
    }

    pub fn host(&self, id: NodeId) -> &Host {
        &self.hosts[slot(id)]
    }

    pub fn host_mut(&mut self, id: NodeId) -> &mut Host {
        &mut self.hosts[slot(id)]
    }

    pub fn raft(&self, id: NodeId) -> &Server {
        self.host(id).raft.as_ref().expect("the server runs")
    }

    /// Changes a running server directly; then does what it asks.
    pub fn with_raft<T>(&mut self, id: NodeId, change: impl FnOnce(&mut Server) -> T) -> T {
        let result = change(self.host_mut(id).raft.as_mut().expect("the server runs"));
        self.turn(id);
        result
    }

    /// A number below `end`, from the cluster's seed.
    pub fn random(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end.max(1)
    }

    /// Whether one of `in_all` chances comes true.
    pub fn one_in(&mut self, in_all: u64) -> bool {
        self.random(in_all) == 0
    }

    /// So many different servers, drawn from the cluster's seed.
    pub fn random_ids(&mut self, count: usize) -> Vec<NodeId> {
        let mut ids: Vec<_> = self.ids().collect();
        while ids.len() > count {
            let at = self.random(ids.len() as u64);
            ids.swap_remove(at as usize);
        }
        ids
    }

    /// From now on the members may change; checks that take all servers for voters rest.
    pub fn let_members_change(&mut self) {
        self.checks.members_change = true;
    }

    // Faults.

    /// Cuts a server off from all others.
    pub fn disconnect(&mut self, id: NodeId) {
        self.host_mut(id).connected = false;
    }

    pub fn connect(&mut self, id: NodeId) {
        self.host_mut(id).connected = true;
    }

    /// From now on loses the messages that the test picks, and no others.
    pub fn lose_if(&mut self, pick: impl Fn(&Message<Command>) -> bool + 'static) {
        self.sieve = Some(Box::new(pick));
    }

    pub fn lose_nothing(&mut self) {
        self.sieve = None;
    }

    /// Kills a server. Of the writes that it was not told of, a random number, the first ones,
    /// reached the disk.
    pub fn crash(&mut self, id: NodeId) {
        let kept = self.host(id).pending.len() as u64 + 1;
        let kept = self.random(kept) as usize;
        self.crash_keeping(id, kept);
    }

    /// Kills a server; the first `kept` of its unanswered writes survive.
    pub fn crash_keeping(&mut self, id: NodeId, kept: usize) {
        let host = self.host_mut(id);
        host.raft = None;
        host.deadline = None;
        host.life += 1;
        let pending = std::mem::take(&mut host.pending);
        for (_, write) in pending.into_iter().take(kept) {
            host.stored.replay(write);
        }
    }

    /// Starts a server from what its disk holds.
    pub fn start(&mut self, id: NodeId) {
        let mut config = Config::new(id, self.ids());
        (self.configure)(&mut config);
        let rng = Pcg32::seed_from_u64(self.rng.next_u64());
        let host = &mut self.hosts[slot(id)];
        host.raft = Some(Raft::new(config, host.stored.clone(), rng).expect("a sound state"));
        host.log.clone_from(&host.stored.entries);
        host.applied.clear();
        host.last_applied = Index::ZERO;
        self.checks.on_start(slot(id), host);
        self.turn(id);
    }

    pub fn restart(&mut self, id: NodeId) {
        self.crash(id);
        self.start(id);
    }

    /// Lets a stuck disk go on.
    pub fn unstick(&mut self, id: NodeId) {
        let host = self.host_mut(id);
        host.disk_stuck = false;
        let ids: Vec<_> = host.pending.iter().map(|(_, write)| write.id).collect();
        for write in ids {
            self.on_written(slot(id), write);
        }
        self.turn(id);
    }

    // Requests.

    pub fn propose(
        &mut self,
        id: NodeId,
        command: &[u8],
    ) -> Result<(Term, Index), ProposeError<Command>> {
        self.with_raft(id, |raft| raft.propose(command.to_vec()))
    }

    /// The leader of the newest term among connected servers that run.
    pub fn leader(&self) -> Option<NodeId> {
        let reachable = self.hosts.iter().filter_map(Host::reachable);
        let leaders = reachable.filter(|raft| raft.role() == Role::Leader);
        leaders.max_by_key(|raft| raft.term()).map(Raft::id)
    }

    /// Runs until there is a leader whom a majority follows; fails after five seconds, as the
    /// laboratory has it.
    pub fn elect(&mut self) -> NodeId {
        self.elect_within(ms(5000))
    }

    pub fn elect_within(&mut self, span: Duration) -> NodeId {
        let elected = self.run_until(span, |cluster| cluster.followed_leader().is_some());
        assert!(elected, "no leader within {span:?} at {}", self.now);
        self.followed_leader().expect("checked")
    }

    fn followed_leader(&self) -> Option<NodeId> {
        let leader = self.leader()?;
        let term = self.raft(leader).term();
        let reachable = self.hosts.iter().filter_map(Host::reachable);
        let followers = reachable.filter(|r| r.leader() == Some(leader) && r.term() == term);
        (followers.count() * 2 > self.hosts.len()).then_some(leader)
    }

    /// Proposes until the command is applied by `expected` servers; returns its index. Retries as
    /// the laboratory does: a leader is given two seconds, all of them together ten.
    pub fn agree(&mut self, command: &[u8], expected: usize) -> Index {
        self.agree_within(ms(10_000), command, expected)
    }

    pub fn agree_within(&mut self, span: Duration, command: &[u8], expected: usize) -> Index {
        let deadline = self.now + span;
        while self.now < deadline {
            let proposed = self.leader().and_then(|leader| self.propose(leader, command).ok());
            let Some((_, index)) = proposed else {
                self.run_for(ms(10));
                continue;
            };
            let applied = |cluster: &Self| cluster.applied_count(index, command) >= expected;
            if self.run_until(ms(2000), applied) {
                return index;
            }
        }
        panic!("no agreement on {command:?} within {span:?} at {}", self.now);
    }

    /// How many servers applied this command at this index.
    pub fn applied_count(&self, index: Index, command: &[u8]) -> usize {
        let applied = |host: &&Host| {
            let at = host.applied.binary_search_by_key(&index, |(at, _)| *at);
            at.is_ok_and(|at| host.applied[at].1 == command)
        };
        self.hosts.iter().filter(applied).count()
    }

    pub fn applied_commands(&self, id: NodeId) -> Vec<Command> {
        self.host(id).applied.iter().map(|(_, command)| command.clone()).collect()
    }

    /// Whether any server has applied this command anywhere, since it last started.
    pub fn is_applied(&self, command: &[u8]) -> bool {
        self.hosts.iter().any(|host| host.applied.iter().any(|(_, applied)| applied == command))
    }
}

fn slot(id: NodeId) -> usize {
    id.get() as usize - 1
}
