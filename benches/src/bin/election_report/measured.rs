//! What is measured on real runtimes, which take turns.

use std::io;
use std::time::Duration;

use benches::election::{Cluster, Disk, Failure, On, Outcome, Sample, Setting, Timing, Wire};

use crate::progress::Progress;

/// How many trials a runtime makes before it is the next one's turn.
const TRIALS_PER_TURN: usize = 10;

/// One setting on one runtime.
pub(crate) struct Cell {
    pub(crate) setting: Setting,
    pub(crate) on: On,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Cell {
    pub(crate) fn sample(&self, figure: fn(&Outcome) -> Duration) -> Sample {
        self.outcomes.iter().map(figure).collect()
    }

    pub(crate) fn splits(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.split).count()
    }

    pub(crate) fn messages(&self) -> f64 {
        let all: u64 = self.outcomes.iter().map(|outcome| outcome.messages).sum();
        all as f64 / self.outcomes.len().max(1) as f64
    }
}

/// Timeouts of 150-300 ms, with ranks.
pub(crate) const LONG: Timing = Timing {
    min: Duration::from_millis(150),
    max: Duration::from_millis(300),
    heartbeat: Duration::from_millis(50),
    rank_slot: Some(Duration::from_millis(5)),
    pre_vote: true,
};

/// Timeouts of 12-24 ms, with ranks.
pub(crate) const SHORT: Timing = Timing {
    min: Duration::from_millis(12),
    max: Duration::from_millis(24),
    heartbeat: Duration::from_millis(6),
    rank_slot: Some(Duration::from_millis(2)),
    pre_vote: true,
};

/// What is measured.
pub(crate) fn settings() -> Vec<Setting> {
    let of = |failure, wire, disk, timing| Setting { servers: 5, failure, wire, disk, timing };
    vec![
        of(Failure::Silence, Wire::Channels, Disk::Memory, SHORT),
        of(Failure::Silence, Wire::Channels, Disk::Memory, LONG),
        of(Failure::Silence, Wire::Tcp, Disk::Fsync, LONG),
        of(Failure::Kill, Wire::Tcp, Disk::Memory, LONG),
        of(Failure::Handover, Wire::Tcp, Disk::Memory, LONG),
        of(Failure::Cold, Wire::Channels, Disk::Memory, SHORT),
    ]
}

/// So many trials of a setting on every runtime, in turns.
pub(crate) fn measure(
    setting: Setting,
    trials: usize,
    progress: &mut Progress,
) -> io::Result<Vec<Cell>> {
    let cell = |on| Cell { setting, on, outcomes: Vec::with_capacity(trials) };
    let mut cells = On::ALL.map(cell);
    for turn in 0..trials.div_ceil(TRIALS_PER_TURN) {
        let first = turn * TRIALS_PER_TURN;
        let count = TRIALS_PER_TURN.min(trials - first);
        for cell in &mut cells {
            take_turn(cell, first, count)?;
            progress.advance(count);
        }
    }
    Ok(cells.into())
}

/// Seeds and phases are those of the trials' numbers, the same on every runtime.
fn take_turn(cell: &mut Cell, first: usize, count: usize) -> io::Result<()> {
    let Cell { setting, on, outcomes } = cell;
    if setting.failure == Failure::Cold {
        for trial in first..first + count {
            outcomes.push(Cluster::start(*setting, *on, trial as u64)?.1);
        }
        return Ok(());
    }
    let (mut cluster, _) = Cluster::start(*setting, *on, first as u64)?;
    for trial in first..first + count {
        // Spread evenly between two heartbeats, in an order without a pattern: the golden ratio's multiples.
        let phase = (trial as f64 * 0.618_033_988_749_895).fract();
        outcomes.push(cluster.fail_leader(setting.timing.heartbeat.mul_f64(phase))?);
    }
    Ok(())
}

/// How late the operating system's own timer wakes a thread.
pub(crate) fn timer_lateness(waits: usize) -> Sample {
    let wait = |number: usize| {
        let span = Duration::from_micros(5_000 + number as u64 * 37 % 5_000);
        let begin = std::time::Instant::now();
        std::thread::sleep(span);
        begin.elapsed().saturating_sub(span)
    };
    (0..waits).map(wait).collect()
}
