//! Elections without a clock: whole clusters in one thread, in a time that jumps from event to
//! event.
//!
//! What is measured is exact, for nothing but the network, the disks and the chosen timeouts takes
//! time; and an hour passes in seconds, so that one can wait for what is rare. The servers are the
//! real ones; only the hosts are not.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use raft_core::{Body, Instant, Message, NodeId, Output, Raft, Restored, Role, Term, WriteId};
use rand_core::Rng;
use rand_pcg::Pcg32;

use super::setting::Timing;

/// What servers replicate.
type Command = [u8; 16];

/// In a part of this many, chances are given.
const MILLION: u32 = 1_000_000;

/// A first leader is there by then, whatever the setting.
const FIRST_LEADER_MAX: Duration = Duration::from_secs(600);

/// What a network, its disks and its hosts are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct World {
    /// How long a message is on its way at least.
    pub latency: Duration,
    /// It takes up to so much longer, each time anew.
    pub jitter: Duration,
    /// How many of a million messages are lost.
    pub loss_ppm: u32,
    /// How long a write takes.
    pub write: Duration,
    /// How late a host wakes at most.
    pub lateness: Duration,
    /// A host stands still for this long...
    pub pause: Duration,
    /// ... so often on average; none: never.
    pub pause_every: Option<Duration>,
    /// A server's connection to its leader breaks so often on average, while the leader lives;
    /// none: never.
    pub false_hint_every: Option<Duration>,
    /// A client writes to the leader so often; none: never.
    pub command_every: Option<Duration>,
}

impl World {
    /// One latency for all messages, one for all writes, and nothing that goes wrong.
    pub const fn calm(latency: Duration, write: Duration) -> Self {
        Self {
            latency,
            jitter: Duration::ZERO,
            loss_ppm: 0,
            write,
            lateness: Duration::ZERO,
            pause: Duration::ZERO,
            pause_every: None,
            false_hint_every: None,
            command_every: None,
        }
    }

    /// Hosts of one building at full load: messages take up to 2 ms, one of a hundred is lost,
    /// hosts wake up to 2 ms late and stand still for 20 ms every ten seconds, connections break as
    /// often, writes take 1 ms, and a client writes every 20 ms.
    pub const fn busy() -> Self {
        Self {
            latency: Duration::from_micros(200),
            jitter: Duration::from_micros(1800),
            loss_ppm: 10_000,
            write: Duration::from_millis(1),
            lateness: Duration::from_millis(2),
            pause: Duration::from_millis(20),
            pause_every: Some(Duration::from_secs(10)),
            false_hint_every: Some(Duration::from_secs(10)),
            command_every: Some(Duration::from_millis(20)),
        }
    }
}

/// What a trial has measured. Spans begin when the leader stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Until the first candidate stood.
    pub stood: Duration,
    /// Until somebody led.
    pub led: Duration,
    /// Until its first entry was committed.
    pub committed: Duration,
    /// Whether the first term in which anybody stood came to nothing.
    pub split: bool,
    /// Messages sent from the first question until somebody led.
    pub messages: u64,
    /// The same for the cluster's first election.
    pub first_messages: u64,
}

/// A cluster whose leader stops somewhere between two heartbeats, and elects another.
pub fn trial(servers: usize, timing: Timing, world: World, seed: u64) -> Outcome {
    let mut cluster = Cluster::new(servers, timing, world, seed);
    cluster.run_until(FIRST_LEADER_MAX, |seen| seen.committed.is_some());
    let phase = cluster.below(timing.heartbeat);
    // Long enough for all to be numbered: ranks follow a heartbeat after answers to the one before.
    cluster.run_for(timing.heartbeat * 4 + world.latency * 4 + phase);
    let first_messages = cluster.seen.messages;
    let leader = cluster.seen.leader;
    let stopped_at = cluster.now;
    cluster.seen = Seen { after: cluster.seen.term, ..Seen::default() };
    if let Some(leader) = leader {
        cluster.servers[position(leader)].stopped = true;
    }
    cluster.run_until(FIRST_LEADER_MAX, |seen| seen.committed.is_some());
    let seen = &cluster.seen;
    let since = |at: Option<Instant>| {
        at.map_or(FIRST_LEADER_MAX, |at| at.saturating_duration_since(stopped_at))
    };
    Outcome {
        stood: since(seen.stood),
        led: since(seen.led),
        committed: since(seen.committed),
        split: seen.asked.is_some_and(|asked| asked < seen.term),
        messages: seen.messages,
        first_messages,
    }
}

/// How often a cluster from which nothing is taken changes its leader all the same, in so long a
/// time.
pub fn needless_elections(
    servers: usize,
    timing: Timing,
    world: World,
    span: Duration,
    seed: u64,
) -> u64 {
    let mut cluster = Cluster::new(servers, timing, world, seed);
    cluster.run_until(FIRST_LEADER_MAX, |seen| seen.committed.is_some());
    let before = cluster.seen.elections;
    cluster.run_for(span);
    cluster.seen.elections - before
}

/// Messages of a cluster that does nothing but know its leader, in so long a time.
pub fn messages_at_rest(servers: usize, timing: Timing, world: World, span: Duration) -> u64 {
    let mut cluster = Cluster::new(servers, timing, world, 1);
    cluster.run_until(FIRST_LEADER_MAX, |seen| seen.committed.is_some());
    cluster.run_for(timing.heartbeat * 4);
    let before = cluster.sent;
    cluster.run_for(span);
    cluster.sent - before
}

struct Cluster {
    servers: Vec<Server>,
    now: Instant,
    events: BinaryHeap<Reverse<Event>>,
    /// Numbers events, so that those of one moment keep their order.
    count: u64,
    rng: Pcg32,
    world: World,
    seen: Seen,
    /// Messages in all.
    sent: u64,
}

struct Server {
    raft: Raft<Command, Pcg32>,
    stopped: bool,
    paused_until: Instant,
    /// How late it wakes the next time.
    late_by: Duration,
    has_work: bool,
}

/// What shows from outside.
#[derive(Default)]
struct Seen {
    /// What happens in later terms counts.
    after: Term,
    stood: Option<Instant>,
    /// The first term in which a vote was asked for.
    asked: Option<Term>,
    led: Option<Instant>,
    /// The newest leader, and its term.
    leader: Option<NodeId>,
    term: Term,
    committed: Option<Instant>,
    elections: u64,
    messages: u64,
}

struct Event {
    at: Instant,
    number: u64,
    server: usize,
    what: What,
}

enum What {
    Arrives(Message<Command>),
    Persisted(WriteId),
    Pauses,
    Suspects,
    Proposes,
}

impl Cluster {
    fn new(count: usize, timing: Timing, world: World, seed: u64) -> Self {
        let server = |position| {
            let config = timing.config(id(position), count);
            let config = raft_core::Config {
                // Nothing is compacted here, so nothing asks for it.
                snapshot_log_entries: u64::MAX,
                ..config
            };
            let rng = Pcg32::new(seed, id(position).get());
            let raft = Raft::new(config, Restored::default(), rng);
            Server {
                raft: raft.expect("only settings that can work are simulated"),
                stopped: false,
                paused_until: Instant::ZERO,
                late_by: Duration::ZERO,
                has_work: true,
            }
        };
        let mut cluster = Self {
            servers: (0..count).map(server).collect(),
            now: Instant::ZERO,
            events: BinaryHeap::new(),
            count: 0,
            rng: Pcg32::new(seed, 0),
            world,
            seen: Seen::default(),
            sent: 0,
        };
        for position in 0..count {
            cluster.plan_pause(position);
            cluster.plan_false_hint(position);
            cluster.turn(position);
        }
        cluster.plan_command();
        cluster
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        self.run_until(span, |_| false);
        self.now = end;
    }

    fn run_until(&mut self, span: Duration, done: impl Fn(&Seen) -> bool) {
        let end = self.now + span;
        while !done(&self.seen) {
            let event = self.events.peek().map(|Reverse(event)| event.at);
            let wakes = self.servers.iter().filter_map(Server::wakes_at).min();
            let Some(next) = event.into_iter().chain(wakes).min().filter(|next| *next <= end)
            else {
                return;
            };
            self.now = self.now.max(next);
            self.take_events();
            for position in 0..self.servers.len() {
                let server = &self.servers[position];
                if server.has_work || server.wakes_at().is_some_and(|at| at <= self.now) {
                    self.turn(position);
                }
            }
        }
    }

    /// All that is due goes to its server before any of them turns, as a host empties its inbox
    /// before it ticks.
    fn take_events(&mut self) {
        while self.events.peek().is_some_and(|Reverse(event)| event.at <= self.now) {
            let Some(Reverse(event)) = self.events.pop() else { return };
            let Event { server: position, what, .. } = event;
            let server = &mut self.servers[position];
            match what {
                What::Proposes => {
                    self.propose();
                    self.plan_command();
                }
                _ if server.stopped => {}
                What::Pauses => {
                    server.paused_until = self.now + self.world.pause;
                    self.plan_pause(position);
                }
                what if self.now < server.paused_until => {
                    let until = server.paused_until;
                    self.plan(until, position, what);
                }
                What::Suspects => {
                    if let Some(leader) = server.raft.leader() {
                        server.raft.suspect_leader(leader);
                        server.has_work = true;
                    }
                    self.plan_false_hint(position);
                }
                What::Arrives(message) => {
                    server.raft.step(message);
                    server.has_work = true;
                }
                What::Persisted(write) => {
                    server.raft.persisted(write);
                    server.has_work = true;
                }
            }
        }
    }

    fn propose(&mut self) {
        let leads = |server: &&mut Server| server.raft.role() == Role::Leader && !server.stopped;
        if let Some(leader) = self.servers.iter_mut().filter(leads).max_by_key(|s| s.raft.term()) {
            // A leader that is full, or hands over, refuses; the client tries again later.
            leader.has_work |= leader.raft.propose([7; 16]).is_ok();
        }
    }

    fn turn(&mut self, position: usize) {
        let (now, world) = (self.now, self.world);
        let server = &mut self.servers[position];
        server.has_work = false;
        server.raft.tick(now);
        while let Some(output) = self.servers[position].raft.poll_outbox() {
            match output {
                Output::Send(message) => self.send(message),
                Output::Persist(write) => {
                    self.plan(now + world.write, position, What::Persisted(write.id));
                }
                Output::Apply { through, .. } => {
                    let raft = &mut self.servers[position].raft;
                    let term = raft.entries(through, through).next().map(|last| last.term);
                    raft.applied(through);
                    if raft.role() == Role::Leader
                        && term == Some(raft.term())
                        && term > Some(self.seen.after)
                    {
                        self.seen.committed.get_or_insert(now);
                    }
                }
                Output::RoleChanged { role: Role::Leader, term, .. } if term > self.seen.after => {
                    self.seen.elections += 1;
                    self.seen.led.get_or_insert(now);
                    self.seen.leader = Some(id(position));
                    self.seen.term = term;
                }
                Output::TakeSnapshot(_) => self.servers[position].raft.snapshot_failed(),
                // Nothing of the rest takes time or shows the leader.
                Output::RoleChanged { .. }
                | Output::MembershipChanged(_)
                | Output::ReadReady { .. }
                | Output::ReadLost { .. }
                | Output::Forwarded { .. }
                | Output::ReadSnapshot(_)
                | Output::WriteSnapshot(_)
                | Output::Restore(_)
                | _ => {}
            }
        }
        self.servers[position].late_by = self.below(world.lateness);
    }

    fn send(&mut self, message: Message<Command>) {
        self.sent += 1;
        let seen = &mut self.seen;
        if let Body::RequestPreVote(_) = &message.body {
            seen.stood.get_or_insert(self.now);
        }
        if let (Body::RequestVote(_), true) = (&message.body, message.term > seen.after) {
            seen.stood.get_or_insert(self.now);
            seen.asked.get_or_insert(message.term);
        }
        if seen.stood.is_some() && seen.led.is_none() {
            seen.messages += 1;
        }
        if self.rng.next_u32() % MILLION < self.world.loss_ppm {
            return;
        }
        let at = self.now + self.world.latency + self.below(self.world.jitter);
        self.plan(at, position(message.to), What::Arrives(message));
    }

    fn plan_pause(&mut self, position: usize) {
        if let Some(every) = self.world.pause_every {
            let at = self.now + self.below(every * 2);
            self.plan(at, position, What::Pauses);
        }
    }

    fn plan_false_hint(&mut self, position: usize) {
        if let Some(every) = self.world.false_hint_every {
            let at = self.now + self.below(every * 2);
            self.plan(at, position, What::Suspects);
        }
    }

    fn plan_command(&mut self) {
        if let Some(every) = self.world.command_every {
            self.plan(self.now + every, 0, What::Proposes);
        }
    }

    fn plan(&mut self, at: Instant, server: usize, what: What) {
        self.count += 1;
        self.events.push(Reverse(Event { at, number: self.count, server, what }));
    }

    fn below(&mut self, span: Duration) -> Duration {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        if micros == 0 {
            return Duration::ZERO;
        }
        Duration::from_micros(self.rng.next_u64() % micros)
    }
}

impl Server {
    fn wakes_at(&self) -> Option<Instant> {
        let deadline = self.raft.next_deadline().filter(|_| !self.stopped)?;
        Some((deadline + self.late_by).max(self.paused_until))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

fn id(position: usize) -> NodeId {
    NodeId::new(position as u64 + 1)
}

fn position(id: NodeId) -> usize {
    id.get() as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Duration = Duration::from_micros(500);
    const WRITE: Duration = Duration::from_micros(100);

    #[test]
    fn a_calm_election_takes_four_latencies_and_a_write() {
        let timing = Timing::paper(150, 300).ranked(Duration::from_millis(5));
        for servers in [3, 5, 7, 51] {
            let outcome = trial(servers, timing, World::calm(LATENCY, WRITE), 1);
            assert_eq!(outcome.led - outcome.stood, 4 * LATENCY + WRITE, "{servers} servers");
            assert!(!outcome.split);
        }
    }

    /// Means of five hundred trials, with a standard error of a tenth of the spread's part that is
    /// random.
    #[test]
    fn the_forecast_is_what_happens() {
        let random = Timing { heartbeat: Duration::from_millis(50), ..Timing::paper(150, 300) };
        for (timing, servers) in
            [(random, 3), (random, 5), (random, 9), (random.ranked(LATENCY * 5), 5)]
        {
            let config = timing.config(NodeId::new(1), servers);
            let forecast = config.forecast(LATENCY, WRITE).expect("three or more");
            let trials = 500;
            let led: Duration = (0..trials)
                .map(|seed| trial(servers, timing, World::calm(LATENCY, WRITE), seed).led)
                .sum();
            let (mean, forecast) = (led / trials as u32, forecast.downtime());
            let apart = mean.abs_diff(forecast);
            assert!(
                apart < forecast / 25,
                "{servers} servers, {timing}: {mean:?}, not {forecast:?}"
            );
        }
    }

    #[test]
    fn ballots_are_split_as_often_as_forecast() {
        let timing = Timing { heartbeat: Duration::from_millis(50), ..Timing::paper(150, 300) };
        let latency = (timing.max - timing.min) / 20;
        let config = timing.config(NodeId::new(1), 3);
        let forecast = config.forecast(latency, WRITE).expect("three").split_ppm;
        assert_eq!(forecast, 97_500, "one or both of two draws of five percent");
        let trials = 1000;
        let split =
            (0..trials).filter(|seed| trial(3, timing, World::calm(latency, WRITE), *seed).split);
        let percent = 100.0 * split.count() as f64 / trials as f64;
        // Three standard errors.
        assert!((percent - 9.75).abs() < 2.8, "{percent} %");
    }

    #[test]
    fn a_cluster_at_rest_says_two_messages_a_heartbeat_and_follower() {
        let timing = Timing { heartbeat: Duration::from_millis(100), ..Timing::paper(500, 1000) };
        let world = World::calm(LATENCY, WRITE);
        let messages = messages_at_rest(3, timing, world, Duration::from_secs(10));
        assert!((396..=404).contains(&messages), "{messages}");
    }

    /// Timeouts as short as these change leaders for nothing: the present leader is stopped, not
    /// the first one.
    #[test]
    fn the_present_leader_is_stopped() {
        let millisecond = Duration::from_millis(1);
        let world = World { jitter: millisecond, ..World::calm(millisecond, millisecond * 12) };
        let timing = Timing { pre_vote: false, ..Timing::paper(12, 24) };
        let longest = (0..100).map(|seed| trial(5, timing, world, seed).led).max();
        assert!(longest < Some(Duration::from_secs(2)), "{longest:?}");
    }

    #[test]
    fn the_same_seed_measures_the_same() {
        let run = |seed| trial(5, Timing::paper(12, 24), World::busy(), seed);
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn pauses_longer_than_the_timeout_cost_elections_and_calm_costs_none() {
        let minutes = Duration::from_secs(120);
        let calm = World::calm(LATENCY, WRITE);
        assert_eq!(needless_elections(3, Timing::paper(12, 24), calm, minutes, 1), 0);
        assert!(needless_elections(3, Timing::paper(12, 24), World::busy(), minutes, 1) > 0);
    }
}
