//! The election after SIGKILL of the leader's process, taken apart: on every runtime in turns, one
//! cluster at a time.

use std::io;
use std::time::Duration;

use election::processes::{Cluster, Parts};
use election::{On, Quiet, Sample, Setting};

use crate::measured;

/// How many trials a runtime makes before it is the next one's turn.
const TRIALS_PER_TURN: usize = 20;

/// Prints a table of the parts, p50 / p99 in milliseconds.
pub(crate) fn print(setting: Setting, trials: usize) -> io::Result<()> {
    let mut parts = On::ALL.map(|on| (on, Vec::new()));
    for first in (0..trials).step_by(TRIALS_PER_TURN) {
        for (on, parts) in &mut parts {
            let last = trials.min(first + TRIALS_PER_TURN);
            take_turn(setting, *on, first..last, parts)?;
        }
    }
    println!("| {setting} | process ends | stands | asks for votes | leads | commits | in all |");
    println!("|---|---|---|---|---|---|---|");
    for (on, parts) in parts {
        let cells: [fn(&Parts) -> Duration; 6] = [
            |parts| parts.ends,
            |parts| parts.stands,
            |parts| parts.asks,
            |parts| parts.leads,
            |parts| parts.commits,
            |parts| parts.ends + parts.stands + parts.asks + parts.leads + parts.commits,
        ];
        print!("| {} |", on.name());
        for cell in cells {
            let sample: Sample = parts.iter().map(cell).collect();
            let [p50, p99] = [sample.p50(), sample.p99()].map(|span| span.as_secs_f64() * 1e3);
            print!(" {p50:.2} / {p99:.2} |");
        }
        println!();
    }
    let write = measured::durable_write(trials.max(100))?;
    println!("\nan fdatasync of 8 bytes: {:?} / {:?}", write.p50(), write.p99());
    Ok(())
}

fn take_turn(
    setting: Setting,
    on: On,
    trials: std::ops::Range<usize>,
    parts: &mut Vec<Parts>,
) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let seed = trials.start as u64;
    let mut cluster = Cluster::start(&program, setting, on, seed, &Quiet::default())?;
    for trial in trials {
        cluster.fail_leader(measured::phase(setting, trial))?;
        let taken = cluster.parts();
        parts.push(taken.ok_or_else(|| io::Error::other("a server did not say what it did"))?);
    }
    Ok(())
}
