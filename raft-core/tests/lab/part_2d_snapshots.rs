//! The classic laboratory, part D: snapshots every ten entries, with cut-offs, crashes and both. In
//! virtual time, on the simulator, whose observer looks after every event.
//!
//! `RAFT_SEEDS=1000` runs every scenario with the seeds from 0 to 999, `RAFT_SEED=7` with that one
//! alone.

use std::env;
use std::ops::Range;
use std::time::Duration;

use raft_core::NodeId;
use raft_core::sim::{Cluster, Crash, Delay, Network, Registers, StateMachine, Swap};

const SERVERS: u64 = 3;
/// Entries between two snapshots.
const INTERVAL: u64 = 10;
/// Rounds of a scenario, as many as the laboratory plays.
const ROUNDS: u64 = 30;
/// Until when a cluster must have agreed, or elected.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that a log may hold: the entries of two intervals and of one round, and a few of what
/// begins terms.
const LOG_BYTES_MAX: usize = 4 * INTERVAL as usize * 64;

type World = Cluster<Registers>;

/// What happens to a server in each round.
#[derive(Clone, Copy, PartialEq)]
enum Mishap {
    None,
    CutOff,
    Crash,
}

fn seeds() -> Range<u64> {
    let number = |name| Some(env::var(name).ok()?.parse().expect("a number in the environment"));
    match number("RAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RAFT_SEEDS").unwrap_or(10),
    }
}

fn world(seed: u64, reliable: bool) -> World {
    let mut world = Cluster::with(SERVERS, seed, |config| {
        config.heartbeat_interval = Duration::from_millis(100);
        config.election_timeout_min = Duration::from_millis(500);
        config.election_timeout_max = Duration::from_millis(800);
        config.snapshot_log_entries = INTERVAL;
        config.log_tail_bytes = 0;
        config.snapshot_chunk_bytes = 8;
    });
    let mut network = Network::reliable(Duration::from_micros(500));
    if !reliable {
        network.delay = Delay::Uniform { min: Duration::ZERO, max: Duration::from_millis(26) };
        network.request_loss_per_mille = 100;
        network.reply_loss_per_mille = 100;
    }
    world.set_network(network);
    world
}

fn wait(world: &mut World, what: &str, condition: impl Fn(&World) -> bool) {
    let done = world.run_until(PATIENCE, condition).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(done, "{what}: not within {PATIENCE:?}");
}

fn elect(world: &mut World) -> NodeId {
    wait(world, "a leader", |world| world.followed_leader().is_some());
    world.followed_leader().expect("just seen")
}

/// The value is written by the leader, and applied by so many servers.
fn agree(world: &mut World, value: u64, servers: usize) {
    let holds = move |world: &World| {
        let ids = world.ids().iter().filter(|id| world.raft(**id).is_some());
        ids.filter(|id| world.machine(**id).query(&0) == value).count() >= servers
    };
    // A leader may be deposed, and its entry replaced: then the next one is asked.
    for _ in 0..10 {
        let leader = elect(world);
        let proposed = world.propose(leader, Swap::new(0, value)).is_ok();
        let agreed = world.run_until(PATIENCE / 5, holds).unwrap_or_else(|f| panic!("{f}"));
        if proposed && agreed {
            return;
        }
    }
    panic!("{servers} servers do not agree on {value}");
}

fn check_that_logs_are_small(world: &World) {
    for id in world.ids() {
        if let Some(raft) = world.raft(*id) {
            let bytes = raft.status().log_bytes;
            assert!(bytes <= LOG_BYTES_MAX, "server {id} keeps {bytes} bytes of log");
        }
    }
}

/// In each round something may happen to a follower or to the leader, while the others write enough
/// for a snapshot; then it returns.
fn rounds(mishap: Mishap, reliable: bool) {
    for seed in seeds() {
        let mut world = world(seed, reliable);
        let mut value = 0;
        let mut next = || {
            value += 1;
            value
        };
        agree(&mut world, next(), SERVERS as usize);
        for round in 0..ROUNDS {
            let leader = elect(&mut world);
            let follower = world.ids().iter().copied().find(|id| *id != leader);
            let victim = if round % 3 == 1 { Some(leader) } else { follower };
            let victim = victim.expect("there are three");
            match mishap {
                Mishap::None => {}
                Mishap::CutOff => world.disconnect(victim),
                Mishap::Crash => world.crash(victim, Crash::Lose),
            }
            let others = SERVERS as usize - usize::from(mishap != Mishap::None);
            agree(&mut world, next(), others);
            let leader = elect(&mut world);
            for _ in 0..INTERVAL / 2 + world.random(INTERVAL) {
                let _ = world.propose(leader, Swap::new(1, round));
            }
            agree(&mut world, next(), others);
            check_that_logs_are_small(&world);
            match mishap {
                Mishap::None => {}
                Mishap::CutOff => world.connect(victim),
                Mishap::Crash => world.start(victim),
            }
            agree(&mut world, next(), SERVERS as usize);
        }
        let counts = world.counts();
        assert!(counts.snapshots > 0, "seed {seed}: snapshots are taken");
        if mishap != Mishap::None {
            assert!(counts.restores > 0, "seed {seed}: who was away is sent one");
        }
    }
}

#[test]
fn snapshots_keep_logs_small() {
    rounds(Mishap::None, true);
}

#[test]
fn servers_that_are_cut_off_catch_up_by_snapshot() {
    rounds(Mishap::CutOff, true);
}

#[test]
fn servers_that_are_cut_off_catch_up_over_a_bad_network() {
    rounds(Mishap::CutOff, false);
}

#[test]
fn servers_that_crash_catch_up_by_snapshot() {
    rounds(Mishap::Crash, true);
}

#[test]
fn servers_that_crash_catch_up_over_a_bad_network() {
    rounds(Mishap::Crash, false);
}

/// All crash at once, again and again, and go on from their snapshots.
#[test]
fn all_crash_and_go_on_from_their_snapshots() {
    for seed in seeds() {
        let mut world = world(seed, true);
        for round in 1..=5 {
            agree(&mut world, 100 * round, SERVERS as usize);
            let leader = elect(&mut world);
            for _ in 0..INTERVAL + world.random(INTERVAL) {
                let _ = world.propose(leader, Swap::new(1, round));
            }
            agree(&mut world, 100 * round + 1, SERVERS as usize);
            restart_all(&mut world);
            elect(&mut world);
            let remembered = |world: &World| {
                world.ids().iter().all(|id| world.machine(*id).query(&0) == 100 * round + 1)
            };
            wait(&mut world, "what was agreed, after a restart", remembered);
        }
    }
}

/// A restart from a snapshot leaves what another restart can begin with.
#[test]
fn a_snapshot_outlives_two_restarts() {
    for seed in seeds() {
        let mut world = world(seed, true);
        for value in 1..=INTERVAL + 1 {
            agree(&mut world, value, SERVERS as usize);
        }
        restart_all(&mut world);
        agree(&mut world, 50, SERVERS as usize);
        restart_all(&mut world);
        elect(&mut world);
        let remembered =
            |world: &World| world.ids().iter().all(|id| world.machine(*id).query(&0) == 50);
        wait(&mut world, "what was agreed, after two restarts", remembered);
    }
}

fn restart_all(world: &mut World) {
    let all: Vec<_> = world.ids().to_vec();
    all.iter().for_each(|id| world.crash(*id, Crash::Lose));
    all.iter().for_each(|id| world.start(*id));
}
