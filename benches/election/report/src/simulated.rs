//! What is measured in virtual time: exact, and the same on every machine.

use std::time::Duration;

use election::virtual_time::{self, World};
use election::{Sample, Timing};
use raft_core::{Config, NodeId};

use crate::paper;

const LATENCY: Duration = Duration::from_micros(500);
const WRITE: Duration = Duration::from_micros(115);

/// Clusters of up to so many servers.
pub(crate) const SERVERS_MAX: usize = 51;

/// Everything that virtual time tells.
pub(crate) struct Simulated {
    pub(crate) figures: Vec<Figure>,
    pub(crate) splits: Vec<Split>,
    pub(crate) exact: Exact,
    pub(crate) guards: Vec<Guard>,
}

/// One line of Figure 16, ours.
pub(crate) struct Figure {
    pub(crate) timing: Timing,
    pub(crate) downtime: Sample,
    pub(crate) splits: usize,
}

/// How often first ballots are split, in percent.
pub(crate) struct Split {
    pub(crate) servers: usize,
    pub(crate) random: f64,
    pub(crate) forecast: f64,
    pub(crate) ranked: f64,
}

/// Whether elections take exactly what they must.
#[derive(Default)]
pub(crate) struct Exact {
    pub(crate) held: usize,
    pub(crate) exact: usize,
    /// Messages of the first election among three.
    pub(crate) messages: u64,
    /// Messages a second of three servers at rest, with heartbeats of 100 ms.
    pub(crate) idle_messages: u64,
}

/// How often a setting changes its leader for nothing.
pub(crate) struct Guard {
    pub(crate) timing: Timing,
    pub(crate) load: &'static str,
    pub(crate) hours: u64,
    pub(crate) needless: u64,
}

impl Guard {
    pub(crate) fn per_hour(&self) -> f64 {
        self.needless as f64 / self.hours.max(1) as f64
    }
}

/// Settings that documentation and report recommend or name, each with ranks and without.
pub(crate) fn published() -> Vec<Timing> {
    let ranges = [
        (12, 24, 6, 2),
        (50, 100, 16, 5),
        (100, 200, 25, 25),
        (150, 300, 50, 5),
        (150, 300, 50, 20),
        (500, 1000, 100, 20),
    ];
    let floor = Duration::from_millis(50);
    let with_and_without = ranges.map(|(min, max, heartbeat, slot)| {
        let heartbeat = Duration::from_millis(heartbeat);
        let random = Timing { heartbeat, ..Timing::paper(min, max) };
        [random, random.ranked(Duration::from_millis(slot))]
    });
    let mut all = with_and_without.concat();
    let adapting = |timing: &Timing| timing.min > 2 * floor && timing.rank_slot.is_some();
    let adaptive: Vec<_> = all.iter().filter(|timing| adapting(timing)).collect();
    let adaptive: Vec<_> = adaptive.into_iter().map(|timing| timing.adaptive(floor)).collect();
    all.extend(adaptive);
    all.dedup();
    let mut kept = Vec::new();
    for timing in all {
        if !kept.contains(&timing) {
            kept.push(timing);
        }
    }
    kept
}

/// The lines of Figure 16 on the paper's network, without pre-vote as there.
pub(crate) fn figure(timing: Timing, trials: usize) -> Figure {
    let mut splits = 0;
    let downtime = (0..trials as u64).map(|seed| {
        let outcome = virtual_time::trial(5, timing, network_of_the_paper(), seed);
        splits += usize::from(outcome.split);
        outcome.led
    });
    Figure { timing, downtime: downtime.collect(), splits }
}

/// Its broadcast time, a message there, a durable write and the answer back, is given as 15 ms on
/// average. Here the write takes most of it, for on a network that took most of it the paper's
/// shortest timeouts could not elect as fast as they did.
fn network_of_the_paper() -> World {
    let millisecond = Duration::from_millis(1);
    let write = Duration::from_millis(paper::BROADCAST_MS) - 3 * millisecond;
    World { jitter: millisecond, ..World::calm(millisecond, write) }
}

/// With a latency of one percent of the spread.
pub(crate) fn split(servers: usize, trials: usize) -> Split {
    let random = Timing { heartbeat: Duration::from_millis(50), ..Timing::paper(150, 300) };
    let latency = (random.max - random.min) / 100;
    let ranked = random.ranked(latency * 5);
    let percent = |timing| {
        let outcomes = (0..trials as u64)
            .map(|seed| virtual_time::trial(servers, timing, World::calm(latency, WRITE), seed));
        100.0 * outcomes.filter(|outcome| outcome.split).count() as f64 / trials as f64
    };
    let config: Config = random.config(NodeId::new(1), servers);
    let forecast = config.forecast(latency, WRITE).map_or(0, |forecast| forecast.split_ppm);
    Split {
        servers,
        random: percent(random),
        forecast: f64::from(forecast) / 1e4,
        ranked: percent(ranked),
    }
}

/// With pre-vote and ranks, in every size: the leader is there at the first deadline + 4L + W.
pub(crate) fn exact(trials: usize) -> Exact {
    let timing = Timing::paper(150, 300).ranked(LATENCY * 5);
    let idle = Timing { heartbeat: Duration::from_millis(100), ..Timing::paper(500, 1000) };
    let seconds = 60;
    let idle = virtual_time::messages_at_rest(
        3,
        idle,
        World::calm(LATENCY, WRITE),
        Duration::from_secs(seconds),
    );
    let mut exact = Exact { idle_messages: idle.div_ceil(seconds), ..Exact::default() };
    for servers in 3..=SERVERS_MAX {
        for seed in 0..trials as u64 {
            let outcome = virtual_time::trial(servers, timing, World::calm(LATENCY, WRITE), seed);
            exact.held += 1;
            exact.exact += usize::from(outcome.led - outcome.stood == 4 * LATENCY + WRITE);
            if servers == 3 {
                exact.messages = exact.messages.max(outcome.first_messages);
            }
        }
    }
    exact
}

/// Hosts at full load, with clients that write and without: what is written keeps followers from
/// doubting, too.
const LOADS: [(&str, World); 2] = [
    ("hosts and clients", World::busy()),
    ("hosts alone", World { command_every: None, ..World::busy() }),
];

/// One setting among five servers at full load.
pub(crate) fn guard(timing: Timing, hours: u64) -> [Guard; 2] {
    LOADS.map(|(load, world)| guard_in(load, world, timing, hours))
}

fn guard_in(load: &'static str, world: World, timing: Timing, hours: u64) -> Guard {
    let hour = Duration::from_secs(3600);
    let needless =
        (0..hours).map(|seed| virtual_time::needless_elections(5, timing, world, hour, seed)).sum();
    Guard { timing, load, hours, needless }
}
