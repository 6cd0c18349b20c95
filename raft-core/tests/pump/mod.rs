//! A small deterministic pump: servers in virtual time, over a network and disks that the test controls.
//!
//! One seed, one run. After every event the pump checks what no run may break: at most one leader per term (Election Safety),
//! and the same command at the same index on every server that applied it (State Machine Safety).
// Each test file is a crate of its own and uses its own part.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::time::Duration;

use raft_core::{
    Body, Config, Entry, Index, Instant, Message, NodeId, Output, Payload, ProposeError, Raft,
    ReadId, Restored, Role, Term, Write, WriteId,
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

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

/// What the network does to messages.
#[derive(Clone, Debug)]
pub struct Network {
    /// One-way latency, drawn from this range.
    pub latency: (Duration, Duration),
    /// Of 1000 requests and of 1000 replies, how many are lost.
    pub request_loss: u64,
    pub reply_loss: u64,
    /// Of 1000 replies, how many are held back, and for how long.
    pub reply_hold: (u64, Duration, Duration),
}

impl Network {
    pub fn reliable(latency: Duration) -> Self {
        let none = (0, Duration::ZERO, Duration::ZERO);
        Self { latency: (latency, latency), request_loss: 0, reply_loss: 0, reply_hold: none }
    }

    /// "Unreliable" as the laboratory has it: requests delayed by 0-26 ms, one in ten requests and replies lost.
    pub fn unreliable() -> Self {
        Self {
            latency: (Duration::ZERO, ms(26)),
            request_loss: 100,
            reply_loss: 100,
            ..Self::reliable(ms(1))
        }
    }
}

/// One server with its disk and its state machine.
pub struct Host {
    /// None while crashed.
    pub raft: Option<Server>,
    pub stored: Restored<Command>,
    pub pending: Vec<(Instant, Write<Command>)>,
    /// While true, no write is answered for.
    pub disk_stuck: bool,
    pub connected: bool,
    /// What the state machine saw, no-ops left out, since the last start.
    pub applied: Vec<(Index, Command)>,
    pub applied_index: Index,
    pub reads_ready: Vec<(ReadId, Index)>,
    pub reads_lost: Vec<ReadId>,
    pub elections: u64,
    life: u64,
}

enum Event {
    Arrive(Message<Command>),
    Written { server: usize, life: u64, id: WriteId },
    Wake { server: usize },
}

pub struct Cluster {
    pub now: Instant,
    pub network: Network,
    pub disk_latency: Duration,
    pub hosts: Vec<Host>,
    /// (from, to) pairs that hear nothing.
    pub cut: Vec<(NodeId, NodeId)>,
    pub messages: u64,
    pub bytes: u64,
    pub log: Vec<(Instant, Message<Command>)>,
    pub keep_log: bool,
    configure: fn(&mut Config),
    rng: Pcg32,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    leaders: BTreeMap<Term, NodeId>,
    committed: BTreeMap<Index, Command>,
}

impl Cluster {
    /// Servers 1 to `size` with latencies of one millisecond, disks of 100 microseconds.
    pub fn new(size: u64, seed: u64) -> Self {
        Self::with(size, seed, |_| {})
    }

    pub fn with(size: u64, seed: u64, configure: fn(&mut Config)) -> Self {
        let host = || Host {
            raft: None,
            stored: Restored::default(),
            pending: Vec::new(),
            disk_stuck: false,
            connected: true,
            applied: Vec::new(),
            applied_index: Index::ZERO,
            reads_ready: Vec::new(),
            reads_lost: Vec::new(),
            elections: 0,
            life: 0,
        };
        let mut cluster = Self {
            now: Instant::ZERO,
            network: Network::reliable(ms(1)),
            disk_latency: us(100),
            hosts: (0..size).map(|_| host()).collect(),
            cut: Vec::new(),
            messages: 0,
            bytes: 0,
            log: Vec::new(),
            keep_log: false,
            configure,
            rng: Pcg32::seed_from_u64(seed),
            events: BTreeMap::new(),
            sequence: 0,
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
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

    pub fn raft(&self, id: NodeId) -> &Server {
        self.host(id).raft.as_ref().expect("the server runs")
    }

    /// Changes a running server directly; then does what it asks.
    pub fn with_raft<T>(&mut self, id: NodeId, change: impl FnOnce(&mut Server) -> T) -> T {
        let result = change(self.hosts[slot(id)].raft.as_mut().expect("the server runs"));
        self.turn(id);
        result
    }

    /// A number below `end`, from the cluster's seed.
    pub fn random(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end.max(1)
    }

    // Faults.

    /// Cuts a server off from all others.
    pub fn disconnect(&mut self, id: NodeId) {
        self.hosts[slot(id)].connected = false;
    }

    pub fn connect(&mut self, id: NodeId) {
        self.hosts[slot(id)].connected = true;
    }

    /// Kills a server. Of the writes that it was not told of, a random number, the first ones, reached the disk.
    pub fn crash(&mut self, id: NodeId) {
        let kept = self.hosts[slot(id)].pending.len() as u64 + 1;
        let kept = self.random(kept) as usize;
        self.crash_keeping(id, kept);
    }

    /// Kills a server; the first `kept` of its unanswered writes survive.
    pub fn crash_keeping(&mut self, id: NodeId, kept: usize) {
        let host = &mut self.hosts[slot(id)];
        host.raft = None;
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
        host.applied.clear();
        host.applied_index = Index::ZERO;
        self.turn(id);
    }

    /// Lets a stuck disk go on.
    pub fn unstick(&mut self, id: NodeId) {
        let host = &mut self.hosts[slot(id)];
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
        let running =
            self.ids().filter(|id| self.host(*id).connected && self.host(*id).raft.is_some());
        let leaders = running.filter(|id| self.raft(*id).role() == Role::Leader);
        leaders.max_by_key(|id| self.raft(*id).term())
    }

    /// Runs until there is a leader whom a majority follows; fails after five seconds, as the laboratory has it.
    pub fn elect(&mut self) -> NodeId {
        let elected = self.run_until(ms(5000), |cluster| cluster.followed_leader().is_some());
        assert!(elected, "no leader within five seconds at {}", self.now);
        self.followed_leader().expect("checked")
    }

    fn followed_leader(&self) -> Option<NodeId> {
        let leader = self.leader()?;
        let term = self.raft(leader).term();
        let follows = |id: &NodeId| {
            let host = self.host(*id);
            let raft = host.raft.as_ref().filter(|_| host.connected);
            raft.is_some_and(|raft| raft.leader() == Some(leader) && raft.term() == term)
        };
        (self.ids().filter(follows).count() * 2 > self.hosts.len()).then_some(leader)
    }

    /// Proposes until the command is applied by `expected` servers; returns its index. Retries as the laboratory's `one` does.
    pub fn agree(&mut self, command: &[u8], expected: usize) -> Index {
        let deadline = self.now + ms(10_000);
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
        panic!("no agreement on {command:?} within ten seconds");
    }

    /// How many servers applied this command at this index.
    pub fn applied_count(&self, index: Index, command: &[u8]) -> usize {
        let applied =
            |host: &&Host| host.applied.iter().any(|(at, c)| *at == index && c == command);
        self.hosts.iter().filter(applied).count()
    }

    pub fn applied_commands(&self, id: NodeId) -> Vec<Command> {
        self.host(id).applied.iter().map(|(_, command)| command.clone()).collect()
    }

    // Time.

    pub fn run_for(&mut self, span: Duration) {
        self.run_until(span, |_| false);
    }

    /// Runs until the condition holds; returns false if it does not within `span`.
    pub fn run_until(&mut self, span: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + span;
        loop {
            if condition(self) {
                return true;
            }
            match self.events.first_key_value() {
                Some(((at, _), _)) if *at <= end => self.next_event(),
                _ => {
                    self.now = end;
                    return condition(self);
                }
            }
        }
    }

    fn next_event(&mut self) {
        let Some(((at, _), event)) = self.events.pop_first() else { return };
        self.now = self.now.max(at);
        match event {
            Event::Arrive(message) => self.arrive(message),
            Event::Wake { server } => self.turn(NodeId::new(server as u64 + 1)),
            Event::Written { server, life, id } => {
                let host = &self.hosts[server];
                if host.life == life && !host.disk_stuck {
                    self.on_written(server, id);
                    self.turn(NodeId::new(server as u64 + 1));
                }
            }
        }
    }

    fn arrive(&mut self, message: Message<Command>) {
        let reaches = self.host(message.from).connected && self.host(message.to).connected;
        if !reaches || self.cut.contains(&(message.from, message.to)) {
            return;
        }
        let to = message.to;
        if let Some(raft) = self.hosts[slot(to)].raft.as_mut() {
            raft.step(message);
            self.turn(to);
        }
    }

    fn on_written(&mut self, server: usize, id: WriteId) {
        let host = &mut self.hosts[server];
        while host.pending.first().is_some_and(|(_, write)| write.id <= id) {
            host.stored.replay(host.pending.remove(0).1);
        }
        if let Some(raft) = host.raft.as_mut() {
            raft.persisted(id);
        }
    }

    /// One turn of the host's loop: tick, do what is asked, sleep until the deadline.
    fn turn(&mut self, id: NodeId) {
        let server = slot(id);
        let now = self.now;
        let Some(mut raft) = self.hosts[server].raft.take() else { return };
        raft.tick(now);
        while let Some(output) = raft.poll_outbox() {
            self.carry_out(server, &mut raft, output);
        }
        if let Some(deadline) = raft.next_deadline() {
            self.schedule(deadline, Event::Wake { server });
        }
        self.hosts[server].raft = Some(raft);
    }

    fn carry_out(&mut self, server: usize, raft: &mut Server, output: Output<Command>) {
        match output {
            Output::Persist(write) => {
                let (life, id) = (self.hosts[server].life, write.id);
                self.hosts[server].pending.push((self.now, write));
                self.schedule(self.now + self.disk_latency, Event::Written { server, life, id });
            }
            Output::Send(message) => self.send(message),
            Output::Apply(entries) => {
                let last = entries.last().expect("a batch is never empty").index;
                entries.into_iter().for_each(|entry| self.apply(server, entry));
                raft.applied(last);
            }
            Output::ReadReady { id, index } => {
                assert!(self.hosts[server].applied_index >= index, "a read before its entries");
                self.hosts[server].reads_ready.push((id, index));
            }
            Output::ReadLost { id } => self.hosts[server].reads_lost.push(id),
            Output::RoleChanged { role, term, .. } => {
                if role == Role::Leader {
                    self.hosts[server].elections += 1;
                    let leader = *self.leaders.entry(term).or_insert(raft.id());
                    assert_eq!(leader, raft.id(), "two leaders in term {term}");
                }
            }
            output => panic!("the pump does not know {output:?}"),
        }
    }

    fn send(&mut self, message: Message<Command>) {
        self.messages += 1;
        self.bytes += size(&message);
        if self.keep_log {
            self.log.push((self.now, message.clone()));
        }
        let is_request = matches!(
            message.body,
            Body::AppendEntries(_) | Body::RequestVote(_) | Body::RequestPreVote(_)
        );
        let loss = if is_request { self.network.request_loss } else { self.network.reply_loss };
        if self.random(1000) < loss {
            return;
        }
        let (min, max) = self.network.latency;
        let mut delay = min + us(self.random((max - min).as_micros() as u64 + 1));
        let (hold, hold_min, hold_max) = self.network.reply_hold;
        if !is_request && self.random(1000) < hold {
            delay += hold_min + us(self.random((hold_max - hold_min).as_micros() as u64 + 1));
        }
        self.schedule(self.now + delay, Event::Arrive(message));
    }

    fn apply(&mut self, server: usize, entry: Entry<Command>) {
        let host = &mut self.hosts[server];
        assert_eq!(entry.index, host.applied_index.next(), "applied one by one, in order");
        host.applied_index = entry.index;
        let command =
            if let Payload::Command(command) = entry.payload { Some(command) } else { None };
        let known =
            self.committed.entry(entry.index).or_insert(command.clone().unwrap_or_default());
        assert_eq!(*known, command.clone().unwrap_or_default(), "two commands at {}", entry.index);
        host.applied.extend(command.map(|command| (entry.index, command)));
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.events.insert((at.max(self.now), self.sequence), event);
    }
}

fn slot(id: NodeId) -> usize {
    id.get() as usize - 1
}

/// Roughly what a message costs on the wire.
fn size(message: &Message<Command>) -> u64 {
    let Body::AppendEntries(append) = &message.body else { return 32 };
    let entries: u64 = append.entries.iter().map(|entry| entry.size() as u64).sum();
    32 + entries
}
