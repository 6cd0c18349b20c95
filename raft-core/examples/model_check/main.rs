//! Searches every behaviour of a small cluster for one that breaks a rule, within bounds that the
//! flags set.
//!
//! `cargo run --release -p raft-core --example model_check -- --help`

use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use progress::Progress;
use stateright::{Checker, Expectation, HasDiscoveries, Model};

#[path = "../../tests/model/world/mod.rs"]
mod model;

use model::{Bounds, Cluster};

/// Model checking of the real core: three servers, their disks, and a network without limits on
/// loss, repetition and disorder.
#[derive(Parser)]
struct Args {
    /// Servers that ever stand for election.
    #[arg(long, default_value_t = 2)]
    candidates: usize,
    /// Servers whose writes land late.
    #[arg(long, default_value_t = 1)]
    slow_disks: usize,
    /// The last term in which a server stands.
    #[arg(long, default_value_t = 2)]
    terms: u64,
    /// Commands of clients.
    #[arg(long, default_value_t = 1)]
    commands: u8,
    /// Crashes of servers.
    #[arg(long, default_value_t = 1)]
    crashes: u8,
    /// Heartbeats of a leader in its term, besides the first.
    #[arg(long, default_value_t = 0)]
    heartbeats: u8,
    /// Pre-votes of each server in one life; 0 switches them off.
    #[arg(long, default_value_t = 0)]
    pre_votes: u8,
    /// Threads that search.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Breadth first, for the shortest counter-example, at the cost of memory.
    #[arg(long)]
    breadth_first: bool,
    /// Give up after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Give up after so many states, repetitions included.
    #[arg(long)]
    states: Option<NonZeroUsize>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("model_check: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let bounds = Bounds {
        candidates: args.candidates,
        slow_disks: args.slow_disks,
        terms: args.terms,
        commands: args.commands,
        crashes: args.crashes,
        heartbeats: args.heartbeats,
        pre_votes: args.pre_votes,
    };
    println!("{bounds:?}");
    let mut checker = Cluster::new(bounds)
        .checker()
        .threads(args.threads)
        .finish_when(HasDiscoveries::AnyFailures);
    if let Some(seconds) = args.seconds {
        checker = checker.timeout(Duration::from_secs(seconds));
    }
    if let Some(states) = args.states {
        checker = checker.target_state_count(states.get());
    }
    let began = Instant::now();
    let found = match args.breadth_first {
        true => report(checker.spawn_bfs(), &args),
        false => report(checker.spawn_dfs(), &args),
    };
    let limited = args.states.is_some()
        || args.seconds.is_some_and(|seconds| began.elapsed().as_secs() >= seconds);
    match (limited, found.is_ok()) {
        (true, _) => println!("stopped at a limit: not exhaustive"),
        (false, true) => println!("exhaustive"),
        (false, false) => println!("stopped at the first failure"),
    }
    found
}

/// Waits for the end of the search, and tells what it found.
fn report(mut checker: impl Checker<Cluster>, args: &Args) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let handles = checker.handles();
    let progress = match (args.states, args.seconds) {
        (Some(states), _) => Progress::of("model_check", states.get() as u64, "states at most"),
        (None, Some(seconds)) => Progress::span("model_check", Duration::from_secs(seconds)),
        // How many states there are, only the end shows.
        (None, None) => Progress::unknown("model_check"),
    };
    while handles.iter().any(|handle| !handle.is_finished()) {
        std::thread::sleep(Duration::from_millis(20));
        progress.reach(checker.state_count() as u64);
        progress.detail(found_so_far(&checker));
    }
    drop(progress);
    for handle in handles {
        handle.join().map_err(|_| "a thread of the search has panicked: see above")?;
    }
    println!("{:>6.1} s: {}", began.elapsed().as_secs_f64(), found_so_far(&checker));

    let mut failures = Vec::new();
    let discoveries = checker.discoveries();
    for property in checker.model().properties() {
        let found = discoveries.get(property.name);
        let (verdict, failed) = match (&property.expectation, found.is_some()) {
            (Expectation::Always | Expectation::Eventually, false) => ("holds", false),
            (Expectation::Always | Expectation::Eventually, true) => ("BROKEN", true),
            (Expectation::Sometimes, true) => ("happens", false),
            (Expectation::Sometimes, false) => ("NEVER HAPPENS", true),
        };
        println!("  {verdict:13}  {}", property.name);
        if failed {
            failures.push(property.name);
        }
        if let Some(path) = found.filter(|_| failed) {
            for (state, action) in path.clone().into_vec() {
                print!("{state:?}");
                action.iter().for_each(|action| println!("    {action:?}"));
            }
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failures.join(", ")).into())
    }
}

fn found_so_far(checker: &impl Checker<Cluster>) -> String {
    format!(
        "{} states, {} of them unique, depth {}, {} turns of servers",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        checker.model().turns(),
    )
}
