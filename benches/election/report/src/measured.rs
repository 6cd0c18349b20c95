//! Trials on real runtimes, which take turns.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use election::processes;
use election::{Cluster, Failure, On, Outcome, Quiet, Sample, Setting};
use progress::Progress;

use crate::cells::{self, Cell};
use crate::raw::{Line, Raw};

/// How many trials a runtime makes before it is the next one's turn.
const TRIALS_PER_TURN: usize = 20;

/// How a setting is measured.
pub(crate) struct Plan<'a> {
    pub(crate) trials: usize,
    /// How many clusters run at once, at most.
    pub(crate) jobs: usize,
    /// Whether to go on with what is there.
    pub(crate) resume: bool,
    /// Where each trial is written down.
    pub(crate) raw: &'a Path,
}

/// Makes the leader fail this long after a heartbeat.
type FailLeader = Box<dyn FnMut(Duration) -> io::Result<Outcome>>;

struct Turn {
    on: On,
    trials: Vec<usize>,
}

/// All trials of a setting on every runtime, in turns; several at once if the setting bears it.
pub(crate) fn measure(setting: Setting, what: String, plan: &Plan<'_>) -> io::Result<Vec<Cell>> {
    let (mut raw, mut lines) = Raw::open(plan.raw, &setting, plan.resume)?;
    lines.retain(|line| line.trial < plan.trials);
    let progress = Progress::of(what, (plan.trials * On::ALL.len()) as u64, "trials");
    progress.skip(lines.len() as u64);

    let turns = turns(plan.trials, &lines);
    let next = AtomicUsize::new(0);
    let quiet = Quiet::default();
    let work = || {
        let turn = turns.get(next.fetch_add(1, Ordering::Relaxed))?;
        let taken = take_turn(setting, turn, &quiet);
        if taken.is_err() {
            next.store(turns.len(), Ordering::Relaxed);
        }
        Some(taken)
    };
    thread::scope(|scope| {
        let (sender, taken) = mpsc::channel();
        for _ in 0..cells::jobs(&setting, plan.jobs) {
            let sender = sender.clone();
            // The receiver waits until all senders are gone.
            scope.spawn(move || std::iter::from_fn(work).try_for_each(|turn| sender.send(turn)));
        }
        drop(sender);
        taken.into_iter().try_for_each(|turn| {
            let turn = turn?;
            raw.append(&turn)?;
            progress.advance(turn.len() as u64);
            lines.extend(turn);
            io::Result::Ok(())
        })
    })?;

    lines.sort_by_key(|line| line.trial);
    let cell = |on| {
        let of = lines.iter().filter(|line| line.on == on);
        Cell { setting, on, outcomes: of.map(|line| line.outcome).collect() }
    };
    Ok(On::ALL.map(cell).into())
}

/// What there is to measure yet.
fn turns(trials: usize, have: &[Line]) -> Vec<Turn> {
    let had = |on, trial| have.iter().any(|line| (line.on, line.trial) == (on, trial));
    let firsts = (0..trials).step_by(TRIALS_PER_TURN);
    let turns = firsts.flat_map(|first| {
        On::ALL.map(|on| {
            let all = first..trials.min(first + TRIALS_PER_TURN);
            Turn { on, trials: all.filter(|trial| !had(on, *trial)).collect() }
        })
    });
    turns.filter(|turn| !turn.trials.is_empty()).collect()
}

/// Seeds and phases are those of the trials' numbers, the same on every runtime.
fn take_turn(setting: Setting, turn: &Turn, quiet: &Quiet) -> io::Result<Vec<Line>> {
    let line = |trial, outcome| Line { on: turn.on, trial, outcome };
    let seed = |trial: usize| trial as u64;
    if setting.failure == Failure::Cold {
        let start = |trial| Cluster::start_beside(setting, turn.on, seed(trial), quiet);
        let trials = turn.trials.iter().copied();
        return trials.map(|trial| Ok(line(trial, start(trial)?.1))).collect();
    }
    let first = turn.trials.first().copied().unwrap_or_default();
    let mut fail_leader = start(setting, turn.on, seed(first), quiet)?;
    let mut fail = |trial: usize| {
        // Spread evenly between two heartbeats, in an order without a pattern: the golden ratio's
        // multiples.
        let phase = (trial as f64 * 0.618_033_988_749_895).fract();
        fail_leader(setting.timing.heartbeat.mul_f64(phase))
    };
    turn.trials.iter().map(|trial| Ok(line(*trial, fail(*trial)?))).collect()
}

/// A cluster of nodes or of processes.
fn start(setting: Setting, on: On, seed: u64, quiet: &Quiet) -> io::Result<FailLeader> {
    if matches!(setting.failure, Failure::Sigkill | Failure::Sigstop) {
        return start_processes(setting, on, seed, quiet);
    }
    let (mut cluster, _) = Cluster::start_beside(setting, on, seed, quiet)?;
    Ok(Box::new(move |phase| cluster.fail_leader(phase)))
}

#[cfg(target_os = "linux")]
fn start_processes(setting: Setting, on: On, seed: u64, quiet: &Quiet) -> io::Result<FailLeader> {
    let program = std::env::current_exe()?;
    let mut cluster = processes::Cluster::start(&program, setting, on, seed, quiet)?;
    Ok(Box::new(move |phase| cluster.fail_leader(phase)))
}

#[cfg(not(target_os = "linux"))]
fn start_processes(_: Setting, _: On, _: u64, _: &Quiet) -> io::Result<FailLeader> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "processes are measured on Linux alone"))
}

/// How late the operating system's own timer wakes a thread.
pub(crate) fn timer_lateness(waits: usize) -> Sample {
    let wait = |number: usize| {
        let span = Duration::from_micros(5_000 + number as u64 * 37 % 5_000);
        let begin = Instant::now();
        thread::sleep(span);
        begin.elapsed().saturating_sub(span)
    };
    (0..waits).map(wait).collect()
}

/// How long an fdatasync of 8 bytes takes where the journals are: W.
pub(crate) fn durable_write(writes: usize) -> io::Result<Sample> {
    let mut file = tempfile::tempfile()?;
    let write = |_| {
        let begin = Instant::now();
        file.write_all(&[1; 8])?;
        file.sync_data()?;
        Ok(begin.elapsed())
    };
    (0..writes).map(write).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_not_measured_again() {
        let outcome = Outcome {
            detection: Duration::ZERO,
            slop: Duration::ZERO,
            election: Duration::ZERO,
            downtime: Duration::ZERO,
            until_leading: Duration::ZERO,
            until_known: Duration::ZERO,
            split: false,
            messages: 0,
            bytes: 0,
            unanswered: 0,
        };
        let have: Vec<_> = (0..20).map(|trial| Line { on: On::Tokio, trial, outcome }).collect();
        let turns = turns(25, &have);
        assert_eq!(turns.len(), 2 * On::ALL.len() - 1);
        assert!(turns.iter().all(|turn| turn.on != On::Tokio || turn.trials[0] == 20));
        assert_eq!(turns.iter().map(|turn| turn.trials.len()).sum::<usize>(), 5 * 25 - 20);
    }
}
