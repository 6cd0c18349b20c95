//! Runs seeds, one after the other or on all cores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use progress::Progress;
use raft_core::sim::{Counts, Plan, Property, Registers, Simulation, Swarm, Theme};

use crate::linear;

/// What a run was, if nothing was broken in it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) runs: u64,
    pub(crate) counts: Counts,
    /// Operations in histories that were found linearizable.
    pub(crate) checked: u64,
    /// Virtual time, in microseconds.
    pub(crate) micros: u64,
}

/// What was broken.
pub(crate) struct Broken {
    pub(crate) property: Option<Property>,
    pub(crate) text: String,
}

/// Runs a plan and checks the history.
pub(crate) fn run(simulation: &mut Simulation<Registers>) -> Result<Tally, Broken> {
    match catch_unwind(AssertUnwindSafe(|| simulation.run())) {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            return Err(Broken {
                property: Some(failure.violation.property),
                text: failure.to_string(),
            });
        }
        Err(_) => return Err(Broken { property: None, text: "the core panicked".into() }),
    }
    let cluster = simulation.cluster();
    let checked = linear::check(cluster.history())
        .map_err(|text| Broken { property: Some(Property::Linearizability), text })?;
    let micros = cluster.now().as_micros();
    Ok(Tally { runs: 1, counts: simulation.counts(), checked, micros })
}

/// Runs the seeds from `first` on, on all cores. Stops at the first that breaks something, unless
/// it is to keep going; returns what was broken, by seed.
pub(crate) fn search(
    first: u64,
    seeds: u64,
    theme: Option<Theme>,
    keep_going: bool,
) -> (Tally, Vec<(u64, Broken)>) {
    let next = AtomicU64::new(first);
    let end = first.saturating_add(seeds);
    let found = Mutex::new((Tally::default(), Vec::new()));
    let progress = Progress::of("simulate", seeds, "worlds");
    let worker = || {
        let mut own = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let plan = Swarm::draw_with(seed, theme).plan();
            match run(&mut Simulation::new(&plan)) {
                Ok(tally) => own.add(tally),
                Err(broken) => {
                    let (_, all) = &mut *found.lock().expect("no worker panics with it");
                    all.push((seed, broken));
                    if !keep_going {
                        next.store(end, Ordering::Relaxed);
                    }
                }
            }
            progress.advance(1);
        }
        found.lock().expect("no worker panics with it").0.add(own);
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(worker);
        }
    });
    let (tally, mut broken) = found.into_inner().expect("no worker panics with it");
    broken.sort_by_key(|(seed, _)| *seed);
    (tally, broken)
}

/// Cuts a plan down to the steps without which it would not fail in this way.
pub(crate) fn shrink(plan: &Plan, property: Option<Property>) -> Plan {
    let progress = Progress::unknown("shrink");
    let mut tries = 0;
    plan.shrink(|plan| {
        tries += 1;
        progress.detail(format!("{tries} smaller worlds tried"));
        run(&mut Simulation::new(plan)).is_err_and(|broken| broken.property == property)
    })
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.counts += other.counts;
        self.checked += other.checked;
        self.micros += other.micros;
    }
}
