//! A short search, runs that repeat to the bit, and plans that are cut down.

use raft_core::sim::{Action, Plan, Registers, Simulation, Swarm, Theme};

use crate::linear;

/// Seeds of the short search; the example `simulate` runs as many as one likes.
const SEEDS: u64 = 100;

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

/// Each theme makes worlds of its own, the same every time, and nothing is found in those that are
/// drawn.
#[test]
fn a_theme_makes_a_world_of_its_own() {
    for (theme, share) in Theme::ALL {
        let plan = |seed| Swarm::draw_with(seed, Some(theme)).plan();
        assert!((0..9).any(|seed| plan(seed) != Swarm::draw(seed).plan()), "{theme}");
        for seed in 0..3 {
            let plan = plan(seed);
            if share > 0 {
                let mut simulation = Simulation::<Registers>::new(&plan);
                simulation.run().unwrap_or_else(|failure| panic!("{theme}: {failure}"));
            }
        }
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

/// What was dropped has nothing to do with the failure, and what is left has.
#[test]
fn a_plan_is_cut_down_to_what_its_failure_needs() {
    let plan = Swarm::draw(3).plan();
    let crashes = |plan: &Plan| {
        plan.steps.iter().filter(|step| matches!(step.action, Action::Ask { .. })).count()
    };
    assert!(crashes(&plan) > 2);
    let mut runs = 0;
    let story = plan.shrink(|plan| {
        runs += 1;
        crashes(plan) >= 2
    });
    assert_eq!(story.steps.len(), 2, "after {runs} runs");
}

/// A swap that returns what was there before another, which had returned, is not linearizable.
#[test]
fn a_history_that_is_not_linearizable_is_seen() {
    use raft_core::sim::{Outcome, Request};
    let simulation = run(0);
    let mut history = simulation.cluster().history().to_vec();
    assert!(linear::check(&history).expect("it is linearizable") > 10);
    let swaps = history.iter_mut().filter(|operation| {
        matches!(operation.request, Request::Command(_))
            && matches!(operation.outcome, Outcome::Returned { .. })
    });
    let last = swaps.last().expect("there are swaps");
    if let Outcome::Returned { reply, .. } = &mut last.outcome {
        *reply ^= 1 << 40;
    }
    linear::check(&history).expect_err("no such value was ever written");
}
