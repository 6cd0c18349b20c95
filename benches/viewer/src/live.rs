//! A cluster that is led by hand, forward and back.
//!
//! A run follows from its setup and its actions. To go back is to run again from the beginning and
//! to stop earlier; a minute of virtual time takes some milliseconds.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use raft_core::sim::{Cluster, Crash, Delay, Network, Record, Registers, Swap, What};
use raft_core::{Instant, NodeId, ProposeError};
use serde::{Deserialize, Serialize};

use crate::position::Position;
use crate::story::{Line, Story};
use crate::words;

/// The longest run, in virtual time, because going back takes as long as the run.
pub const LIVE_SPAN_MAX: Duration = Duration::from_secs(600);

/// The fewest and the most servers of a cluster in the page.
const SERVERS: (u64, u64) = (3, 7);

/// The least and the greatest election timeout that can be chosen, in milliseconds.
const TIMEOUT_MS: (u64, u64) = (60, 5000);

/// How long the picture shows that a message was lost.
const LOSS_SHOWN: Duration = Duration::from_millis(25);

/// The latency of a disk that is not slowed down, in milliseconds.
const SYNC_MS: u64 = 4;

/// With what a run begins.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Setup {
    /// The number of servers, 3 to 7.
    pub servers: u64,
    /// All else that is random follows from this.
    pub seed: u64,
}

/// What a person does to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Cuts the link between two servers, both ways.
    Cut {
        /// One.
        a: u64,
        /// The other.
        b: u64,
    },
    /// Mends such a link.
    Mend {
        /// One.
        a: u64,
        /// The other.
        b: u64,
    },
    /// Mends all links.
    MendAll,
    /// Cuts all links of a server.
    Isolate {
        /// The server.
        id: u64,
    },
    /// The machine loses power: what is not on the disk is gone.
    Kill {
        /// The server.
        id: u64,
    },
    /// Starts a killed server from its disk.
    Start {
        /// The server.
        id: u64,
    },
    /// A server stands still.
    Pause {
        /// The server.
        id: u64,
    },
    /// And goes on.
    Resume {
        /// The server.
        id: u64,
    },
    /// How long each sync of a server's disk takes from now on.
    Disk {
        /// The server.
        id: u64,
        /// Milliseconds.
        ms: u64,
    },
    /// Gives a command to a server.
    Propose {
        /// The server.
        id: u64,
    },
    /// The election timeouts of all servers. Every running server is restarted with them.
    Timeouts {
        /// The least, in milliseconds.
        min: u64,
        /// The greatest, in milliseconds.
        max: u64,
    },
    /// The network from now on.
    Network {
        /// How long a message travels, in milliseconds; a fifth less or more at random.
        ms: u64,
        /// How many of 100 messages are lost.
        loss: u32,
    },
}

/// A message that was lost.
#[derive(Clone, Copy, PartialEq, Serialize, Debug)]
pub struct Lost {
    /// The sender.
    #[serde(serialize_with = "node")]
    pub from: NodeId,
    /// The receiver.
    #[serde(serialize_with = "node")]
    pub to: NodeId,
    /// When.
    #[serde(serialize_with = "micros")]
    pub at: Instant,
}

/// A cluster in the page.
pub struct Live {
    setup: Setup,
    cluster: Cluster<Registers>,
    timeouts: Rc<Cell<(u64, u64)>>,
    network: (u64, u32),
    disks: BTreeMap<u64, u64>,
    /// What is done, and where; those from `done` on lie ahead.
    actions: Vec<(Position, Action)>,
    done: usize,
    /// The value of the next command.
    value: u64,
    /// The end of what was seen; going back leaves it.
    end: Position,
    /// When each message left that is on its way, by number.
    sent: BTreeMap<u64, Instant>,
    last_sent: u64,
    lost: Vec<Lost>,
    story: Story,
    failure: Option<String>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setup, cluster, .. } = self;
        f.debug_struct("Live")
            .field("setup", setup)
            .field("cluster", cluster)
            .finish_non_exhaustive()
    }
}

impl Live {
    /// A cluster at the beginning of its run. The number of servers is brought within its limits.
    pub fn new(setup: Setup) -> Self {
        let servers = setup.servers.clamp(SERVERS.0, SERVERS.1);
        let setup = Setup { servers, ..setup };
        let timeouts = Rc::new(Cell::new((150, 300)));
        let network = (10, 0);
        let mut live = Self {
            setup,
            cluster: new_cluster(setup, &timeouts),
            timeouts,
            network,
            disks: BTreeMap::new(),
            actions: Vec::new(),
            done: 0,
            value: 1,
            end: Position { micros: 0, events: 0 },
            sent: BTreeMap::new(),
            last_sent: 0,
            lost: Vec::new(),
            story: Story::default(),
            failure: None,
        };
        live.prepare();
        live
    }

    /// Sets up what the cluster is like at the beginning.
    fn prepare(&mut self) {
        self.set_network(10, 0);
        for id in self.ids() {
            self.set_disk(id, SYNC_MS);
        }
        self.note();
    }

    fn ids(&self) -> Vec<NodeId> {
        self.cluster.ids().to_vec()
    }

    /// Where the run stands.
    pub fn position(&self) -> Position {
        Position { micros: self.cluster.now().as_micros(), events: self.cluster.counts().events }
    }

    /// The farthest position that the run has reached with these actions.
    pub fn end(&self) -> Position {
        self.end
    }

    /// A hash over all that happened.
    pub fn hash(&self) -> u64 {
        self.cluster.trace_hash()
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster<Registers> {
        &self.cluster
    }

    /// What happened so far, in plain words; after going back, also what lies ahead.
    pub fn story(&self) -> &[Line] {
        self.story.lines()
    }

    /// The rule that was broken, if one was.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether the run has reached its greatest length.
    pub fn is_over(&self) -> bool {
        self.failure.is_some() || u128::from(self.position().micros) >= LIVE_SPAN_MAX.as_micros()
    }

    /// Lets so much virtual time pass.
    pub fn run(&mut self, micros: u64) {
        let longest = LIVE_SPAN_MAX.as_micros() as u64;
        let until = self.position().micros.saturating_add(micros).min(longest);
        while !self.is_over() && self.step_until(until) {}
        self.wait_until(until);
        self.end = self.end.max(self.position());
    }

    /// Lets the next event happen, or the next action that was done here before.
    pub fn step(&mut self) {
        if !self.is_over() {
            self.step_until(u64::MAX);
        }
    }

    /// Runs to the next line of the story; at most for ten seconds of virtual time.
    pub fn step_story(&mut self) {
        let (told, begun) = (self.story.told(), self.position().micros);
        let until = begun.saturating_add(10_000_000);
        while self.story.told() == told && !self.is_over() && self.step_until(until) {}
    }

    /// The next event or action up to `until`. Returns false if there is none.
    fn step_until(&mut self, until: u64) -> bool {
        let here = self.position();
        if let Some((at, action)) = self.actions.get(self.done).copied() {
            if at.events <= here.events {
                // Between two events, time passes.
                if at.micros > until {
                    return false;
                }
                self.wait_until(at.micros);
                self.carry_out(action);
                self.done += 1;
                self.end = self.end.max(self.position());
                return true;
            }
        }
        if self.cluster.next_at().is_none_or(|next| next.as_micros() > until) {
            return false;
        }
        match self.cluster.step() {
            Ok(_) => {}
            Err(failure) => self.failure = Some(failure.to_string()),
        }
        self.note();
        true
    }

    /// Goes to a position, forward or back. What was done on the way there is done again.
    pub fn go_to(&mut self, to: Position) {
        if to < self.position() {
            self.restart();
        }
        while self.failure.is_none() && self.position().events < to.events {
            if !self.step_until(u64::MAX) {
                break;
            }
        }
        while self.is_action_due(to) && self.step_until(to.micros) {}
        if self.position().events == to.events {
            self.wait_until(to.micros);
        }
    }

    fn is_action_due(&self, to: Position) -> bool {
        self.actions.get(self.done).is_some_and(|(at, _)| *at <= to)
    }

    /// Goes back by one event, or to the moment right after the last event.
    pub fn step_back(&mut self) {
        let here = self.position();
        let Some(events) = here.events.checked_sub(1) else { return };
        self.restart();
        while self.failure.is_none() && self.position().events < events {
            if !self.step_until(u64::MAX) {
                break;
            }
        }
    }

    /// Goes back to the line of the story before this moment.
    pub fn back_story(&mut self) {
        let here = self.position();
        let earlier = self.story.lines().iter().rev().find(|line| line.at < here);
        let to = earlier.map_or(Position { micros: 0, events: 0 }, |line| line.at);
        self.go_to(to);
    }

    /// Goes back by so much virtual time.
    pub fn run_back(&mut self, micros: u64) {
        let to = self.position().micros.saturating_sub(micros);
        self.restart();
        while self.failure.is_none() && self.step_until(to) {}
        self.wait_until(to);
    }

    /// Lets time pass in which no event is due.
    fn wait_until(&mut self, micros: u64) {
        let rest = micros.saturating_sub(self.position().micros);
        // Without this check events of this very moment would happen that are yet to be stepped to.
        if rest > 0 && self.failure.is_none() {
            let ended = self.cluster.run_for(Duration::from_micros(rest));
            self.failure = ended.err().map(|failure| failure.to_string());
        }
    }

    /// Does something to the cluster, here and now. What was done later in this run before is
    /// forgotten, because it would meet another cluster.
    pub fn act(&mut self, action: Action) {
        if self.is_over() {
            return;
        }
        let here = self.position();
        self.actions.truncate(self.done);
        self.actions.push((here, action));
        self.done += 1;
        self.story.forget_ahead();
        self.carry_out(action);
        self.end = self.position();
    }

    fn restart(&mut self) {
        self.timeouts.set((150, 300));
        self.cluster = new_cluster(self.setup, &self.timeouts);
        self.disks.clear();
        self.done = 0;
        self.value = 1;
        self.sent.clear();
        self.last_sent = 0;
        self.lost.clear();
        self.story.rewind();
        self.failure = None;
        self.prepare();
    }

    fn carry_out(&mut self, action: Action) {
        let id = |id: u64| NodeId::new(id.clamp(1, self.setup.servers));
        let all = self.ids();
        let what = match action {
            Action::Cut { a, b } => {
                self.link(id(a), id(b), false);
                format!("You cut the link between S{a} and S{b}.")
            }
            Action::Mend { a, b } => {
                self.link(id(a), id(b), true);
                format!("You mend the link between S{a} and S{b}.")
            }
            Action::MendAll => {
                let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b)));
                pairs.for_each(|(a, b)| self.cluster.mend(a, b));
                "You mend all links.".to_owned()
            }
            Action::Isolate { id: one } => {
                let one = id(one);
                let others = all.iter().filter(|other| **other != one);
                others.for_each(|other| self.link(one, *other, false));
                format!("You cut S{one} off from all others.")
            }
            Action::Kill { id: one } => {
                self.cluster.crash(id(one), Crash::Lose);
                format!("S{one} loses power. It forgets all but what is on its disk (§5).")
            }
            Action::Start { id: one } => {
                self.cluster.start(id(one));
                format!(
                    "You start S{one}. It reads its term, its vote and its log from its disk (Figure 2)."
                )
            }
            Action::Pause { id: one } => {
                self.cluster.pause(id(one));
                format!("You stop S{one}'s process for a while.")
            }
            Action::Resume { id: one } => {
                self.cluster.resume(id(one));
                format!("S{one}'s process goes on.")
            }
            Action::Disk { id: one, ms } => {
                self.set_disk(id(one), ms.clamp(1, 10_000));
                format!("From now on S{one}'s disk takes {ms} ms for each sync.")
            }
            Action::Propose { id: one } => self.propose(id(one)),
            Action::Timeouts { min, max } => self.set_timeouts(min, max),
            Action::Network { ms, loss } => {
                self.set_network(ms.clamp(1, 1000), loss.min(100));
                format!("From now on messages take about {ms} ms, and {loss} of 100 are lost.")
            }
        };
        let at = self.position();
        self.story.tell(at, 0, "you", &what);
        self.note();
    }

    fn link(&mut self, a: NodeId, b: NodeId, passes: bool) {
        for (from, to) in [(a, b), (b, a)] {
            match passes {
                true => self.cluster.mend(from, to),
                false => self.cluster.cut(from, to),
            }
        }
    }

    fn set_network(&mut self, ms: u64, loss: u32) {
        let (min, max) = (ms * 800, ms * 1200);
        let delay =
            Delay::Uniform { min: Duration::from_micros(min), max: Duration::from_micros(max) };
        let mut network = Network::reliable(Duration::ZERO);
        network.delay = delay;
        (network.request_loss_per_mille, network.reply_loss_per_mille) = (loss * 10, loss * 10);
        self.network = (ms, loss);
        self.cluster.set_network(network);
    }

    fn set_disk(&mut self, id: NodeId, ms: u64) {
        self.disks.insert(id.get(), ms);
        self.cluster.set_disk_latency(id, Delay::Constant(Duration::from_millis(ms)));
    }

    fn set_timeouts(&mut self, min: u64, max: u64) -> String {
        let min = min.clamp(TIMEOUT_MS.0, TIMEOUT_MS.1);
        let max = max.clamp(min, TIMEOUT_MS.1);
        self.timeouts.set((min, max));
        for id in self.ids() {
            if self.cluster.raft(id).is_some() {
                self.cluster.crash(id, Crash::Keep);
                self.cluster.start(id);
            }
        }
        format!("You restart all servers with election timeouts of {min} to {max} ms (§5.2, §9.3).")
    }

    fn propose(&mut self, id: NodeId) -> String {
        let value = self.value;
        self.value += 1;
        let command = Swap::new((value as usize - 1) % 4, value);
        let name = words::command(&command);
        match self.cluster.propose(id, command) {
            Ok((term, index)) => format!(
                "S{id} appends {name} to its log as entry {index} of term {term}, and sends it to the others (§5.3)."
            ),
            Err(ProposeError::NotLeader { leader: Some(leader), .. }) => {
                format!("S{id} refuses the command and names its leader, S{leader} (§8).")
            }
            Err(ProposeError::NotLeader { leader: None, .. }) => {
                format!("S{id} refuses the command: it knows no leader (§8).")
            }
            Err(error) => format!("S{id} refuses the command: {error}."),
        }
    }

    /// Takes in what the last event did.
    fn note(&mut self) {
        let now = self.cluster.now();
        let before = self.last_sent;
        for flight in self.cluster.in_flight() {
            if flight.number > before {
                self.sent.insert(flight.number, now);
                self.last_sent = self.last_sent.max(flight.number);
            }
        }
        if self.sent.len() > 512 {
            let flying: Vec<_> = self.cluster.in_flight().map(|flight| flight.number).collect();
            self.sent.retain(|number, _| flying.contains(number));
        }
        self.lost.retain(|lost| now.saturating_duration_since(lost.at) < LOSS_SHOWN);
        let records = self.cluster.take_trace();
        self.lost.extend(records.iter().filter_map(lost));
        let at = self.position();
        self.story.note(at, &records, &self.cluster);
        self.end = self.end.max(at);
    }

    pub(crate) fn told(&self) -> usize {
        self.story.told()
    }

    pub(crate) fn timeouts(&self) -> (u64, u64) {
        self.timeouts.get()
    }

    pub(crate) fn network(&self) -> (u64, u32) {
        self.network
    }

    pub(crate) fn disk(&self, id: NodeId) -> u64 {
        self.disks.get(&id.get()).copied().unwrap_or(SYNC_MS)
    }

    pub(crate) fn sent_at(&self, number: u64) -> Option<Instant> {
        self.sent.get(&number).copied()
    }

    pub(crate) fn lost(&self) -> &[Lost] {
        &self.lost
    }

    pub(crate) fn setup(&self) -> Setup {
        self.setup
    }
}

fn new_cluster(setup: Setup, timeouts: &Rc<Cell<(u64, u64)>>) -> Cluster<Registers> {
    let timeouts = timeouts.clone();
    let mut cluster = Cluster::with(setup.servers, setup.seed, move |config| {
        let (min, max) = timeouts.get();
        config.election_timeout_min = Duration::from_millis(min);
        config.election_timeout_max = Duration::from_millis(max);
        config.heartbeat_interval = Duration::from_millis(min / 3);
    });
    cluster.keep_trace();
    cluster
}

fn node<S: serde::Serializer>(id: &NodeId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(id.get())
}

fn micros<S: serde::Serializer>(at: &Instant, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(at.as_micros())
}

fn lost(record: &Record) -> Option<Lost> {
    match record.what {
        What::Lost(gist) => Some(Lost { from: record.server, to: gist.peer, at: record.at }),
        _ => None,
    }
}
