//! The simulator: a short search, and proof that it can fail.

#[path = "../examples/simulate/linear.rs"]
mod linear;

use raft_core::sim::{Registers, Simulation, Swarm};

/// Seeds of the short search; the example `simulate` runs as many as one likes.
const SEEDS: u64 = 200;

fn run(seed: u64) -> Simulation<Registers> {
    let mut simulation = Simulation::new(&Swarm::draw(seed).plan());
    simulation.run().unwrap_or_else(|failure| panic!("{failure}"));
    simulation
}

#[test]
fn a_short_search_finds_nothing() {
    for seed in 0..SEEDS {
        let simulation = run(seed);
        let checked = linear::check(simulation.cluster().history());
        checked.unwrap_or_else(|text| panic!("seed {seed}: {text}"));
    }
}

#[test]
fn the_same_seed_makes_the_same_run() {
    for seed in 0..20 {
        let [first, second] = [run(seed), run(seed)];
        assert_eq!(first.cluster().trace_hash(), second.cluster().trace_hash());
        assert_eq!(first.cluster().history(), second.cluster().history());
        assert_ne!(first.cluster().trace_hash(), run(seed + 1).cluster().trace_hash());
    }
}
