//! Which seeds a scenario runs with, and how to run a failing one again.
//!
//! `RAFT_SEEDS=1000` runs every scenario with the seeds from 0 to 999, `RAFT_SEED=7` with that one
//! alone.

use std::env;
use std::ops::Range;
use std::thread;

use super::Conditions;

/// How many seeds a scenario runs with unless the environment says otherwise.
pub const SEEDS: u64 = 10;

/// Runs the scenario for every number of servers and every seed. If it fails, says how to do so
/// again.
pub fn for_each_seed(servers: &[u64], scenario: impl Fn(u64, u64)) {
    for_each_seed_under(&[Conditions::Reliable], servers, |_, servers, seed| {
        scenario(servers, seed);
    });
}

/// The same, under each of these conditions.
pub fn for_each_seed_under(
    conditions: &[Conditions],
    servers: &[u64],
    scenario: impl Fn(Conditions, u64, u64),
) {
    for conditions in conditions {
        for servers in servers {
            for seed in seeds(SEEDS) {
                let _replay = Replay { conditions: *conditions, servers: *servers, seed };
                scenario(*conditions, *servers, seed);
            }
        }
    }
}

/// The seeds to run with: the first `default` ones, or what the environment says.
pub fn seeds(default: u64) -> Range<u64> {
    let number = |name| Some(env::var(name).ok()?.parse().expect("a number in the environment"));
    match number("RAFT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RAFT_SEEDS").unwrap_or(default),
    }
}

/// Speaks when a scenario panics.
struct Replay {
    conditions: Conditions,
    servers: u64,
    seed: u64,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { conditions, servers, seed } = self;
            let file = env!("CARGO_CRATE_NAME");
            let thread = thread::current();
            let test = thread.name().unwrap_or_default();
            eprintln!("failed: {servers} servers, network {conditions:?}, seed {seed}; again with");
            eprintln!("    RAFT_SEED={seed} cargo test -p raft-core --test {file} {test}");
        }
    }
}
