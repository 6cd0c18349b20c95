//! Searches for runs that break Raft: each seed is a cluster with faults of its own, in virtual
//! time.
//!
//! ```text
//! cargo run --release -p raft-core --features sim --example simulate -- --seeds 10000
//! cargo run --release -p raft-core --features sim --example simulate -- --seed 7 --trace
//! cargo run --release -p raft-core --features sim --example simulate -- --seed 7 --shrink
//! cargo run --release -p raft-core --features sim --example simulate -- --speed
//! cargo run --release -p raft-core --features sim --example simulate -- --stability 10
//! ```

mod linear;
mod search;
mod speed;
mod stability;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use raft_core::sim::{Plan, Registers, Simulation, Swarm, Theme, What};
use search::{Broken, Tally};

/// Simulates clusters under faults, checks every event, and every client's history for
/// linearizability.
#[derive(Parser)]
struct Options {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Runs this seed alone, and prints its world.
    #[arg(long)]
    seed: Option<u64>,
    /// Gives every world this theme, which only a share of them has else: limits, deaf, mixed, ...
    #[arg(long, value_name = "THEME", value_parser = theme)]
    theme: Option<Theme>,
    /// Goes on after a violation, and lists every seed that broke something.
    #[arg(long)]
    keep_going: bool,
    /// With --seed: prints everything that happens.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// With --seed: cuts the plan down to the steps that its failure needs, and prints that story.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Measures how fast the simulator is.
    #[arg(long)]
    speed: bool,
    /// Counts needless elections per simulated hour, over this many hours.
    #[arg(long, value_name = "HOURS")]
    stability: Option<u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let ok = match options {
        Options { speed: true, .. } => measure_speed(),
        Options { stability: Some(hours), .. } => {
            stability::measure(hours).inspect_err(|failure| println!("{failure}")).is_ok()
        }
        Options { seed: Some(seed), theme, trace, shrink, .. } => {
            run_one(&Swarm::draw_with(seed, theme), trace, shrink)
        }
        Options { first, seeds, theme, keep_going, .. } => {
            run_many(first, seeds, theme, keep_going)
        }
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure_speed() -> bool {
    let measured = speed::measure();
    measured.inspect_err(|failure| println!("{failure}")).is_ok()
}

/// The theme of this name.
fn theme(name: &str) -> Result<Theme, String> {
    let names = || Theme::ALL.map(|(theme, _)| theme.name()).join(", ");
    Theme::named(name).ok_or_else(|| format!("there are {}", names()))
}

fn run_one(swarm: &Swarm, trace: bool, shrink: bool) -> bool {
    print!("{swarm}");
    let plan = swarm.plan();
    let Err(broken) = replay(&plan, trace && !shrink) else { return true };
    if shrink {
        println!("cutting {} steps down ...", plan.steps.len());
        let story = search::shrink(&plan, broken.property);
        println!("{story}");
        let _ = replay(&story, trace);
    }
    false
}

/// Runs a plan and prints what came of it.
fn replay(plan: &Plan, trace: bool) -> Result<(), Broken> {
    let mut simulation = Simulation::<Registers>::new(plan);
    if trace {
        simulation.keep_trace();
    }
    let result = search::run(&mut simulation);
    for record in simulation.cluster().trace() {
        println!("{record}");
        if let What::Fault(step) = record.what {
            println!("                {}", plan.steps[step as usize].action);
        }
    }
    println!("trace hash {:016x}", simulation.cluster().trace_hash());
    match result {
        Ok(tally) => {
            report(&tally);
            Ok(())
        }
        Err(broken) => {
            println!("VIOLATION: {}", broken.text);
            Err(broken)
        }
    }
}

fn run_many(first: u64, seeds: u64, theme: Option<Theme>, keep_going: bool) -> bool {
    let began = Instant::now();
    let (tally, broken) = search::search(first, seeds, theme, keep_going);
    report(&tally);
    println!("{:.1} s", began.elapsed().as_secs_f64());
    let Some((seed, first)) = broken.first() else {
        println!("zero violations");
        return true;
    };
    if keep_going {
        for (seed, broken) in &broken {
            println!("seed {seed}: {}", broken.text.lines().next().unwrap_or_default());
        }
        println!("{} of {} seeds broke something", broken.len(), seeds);
        return false;
    }
    let themed = theme.map_or_else(String::new, |theme| format!(" --theme {theme}"));
    println!("VIOLATION after {} runs, seed {seed}: {}", tally.runs, first.text);
    println!(
        "replay: --seed {seed}{themed} --trace; make a story of it: --seed {seed}{themed} --shrink"
    );
    false
}

fn report(tally: &Tally) {
    println!("{} runs, {} simulated seconds", tally.runs, tally.micros / 1_000_000);
    print!("{}", tally.counts);
    println!("  {:>13}  client operations checked for linearizability", tally.checked);
}
