//! The course of a contest: turns, cells, and what is printed meanwhile.

use std::error::Error;
use std::fs;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use progress::Progress;
use tokio::sync::oneshot;

use crate::cluster::Cluster;
use crate::contestants::{Contestant, Timing};
use crate::faults::{self, Fault};
use crate::flags::{Flags, Part};
use crate::load::{self, quantile};
use crate::namespaces::Namespaces;
use crate::results::Results;
use crate::{floors, install, page, syncs, tables};

/// How long clients write before they are measured.
const WARM: Duration = Duration::from_millis(300);
/// With how many clients syncs are counted.
const SYNC_CLIENTS: [usize; 2] = [1, 128];
/// What figures are kept in, within the folder.
const RESULTS: &str = "results.csv";

/// Measures what the flags say, prints it, and writes the page.
pub(crate) fn hold(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let contestants = flags.contestants()?;
    fs::create_dir_all(&flags.out)?;
    let path = flags.out.join(RESULTS);
    let date = chrono::Utc::now().format("%Y-%m-%d").to_string();
    let mut results = Results::read(&path, date)?;
    let mut measured = Ok(());
    if !flags.assemble {
        let contestants = install::install(&contestants, !flags.no_install);
        let (interrupted, interruption) = oneshot::channel();
        let interrupted = Mutex::new(Some(interrupted));
        ctrlc::set_handler(move || {
            let mut interrupted = interrupted.lock().unwrap_or_else(PoisonError::into_inner);
            // Told once; afterwards servers are being ended.
            let _ = interrupted.take().map(|interrupted| interrupted.send(()));
        })?;
        // All in one thread: it leaves the processors to the servers.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        measured = runtime.block_on(async {
            tokio::select! {
                measured = measure(flags, &contestants, &mut results) => measured,
                _ = interruption => Err("interrupted; what was measured is kept".into()),
            }
        });
        results.write(&path)?;
    }
    tables::print(&results);
    let index = page::write(&flags.out, &results)?;
    println!("\n{}", index.display());
    measured
}

async fn measure(
    flags: &Flags,
    contestants: &[Contestant],
    results: &mut Results,
) -> Result<(), Box<dyn Error>> {
    results.add(["machine", "", ""], 0, "machine", page::machine());
    for contestant in contestants {
        results.add(["version", contestant.id, ""], 0, "version", contestant.version());
    }
    if flags.has(Part::Load) {
        let _progress = Progress::unknown("floors");
        measure_floors(flags, results)?;
    }
    let mut failures = Failures(0);
    let progress = Progress::of("contest", planned(flags, contestants), "cells");
    // A turn that fails is over, too.
    let mut mark = 0;
    if flags.has(Part::Load) {
        for round in 0..flags.rounds() {
            // In every round another begins.
            let turns = contestants.iter().cycle().skip(round).take(contestants.len());
            for contestant in turns {
                failures.note(measure_loads(*contestant, round, flags, results, &progress).await);
                mark += flags.clients.len();
                progress.reach(mark as u64);
            }
        }
    }
    if flags.has(Part::Syncs) {
        if syncs::is_possible() {
            for contestant in contestants {
                failures.note(measure_syncs(*contestant, results, &progress).await);
                mark += SYNC_CLIENTS.len();
                progress.reach(mark as u64);
            }
        } else {
            progress::say("syncs are not counted: there is no strace (package strace)");
        }
    }
    if flags.has(Part::Faults) {
        for timing in &flags.timings {
            for contestant in contestants.iter().filter(|contestant| contestant.has(*timing)) {
                let turn = measure_faults(*contestant, *timing, flags, results, &progress);
                failures.note(turn.await);
                mark += flags.faults.len() * flags.trials();
                progress.reach(mark as u64);
            }
        }
    }
    match failures.0 {
        0 => Ok(()),
        failures => Err(format!("{failures} turns failed, as said above").into()),
    }
}

/// How many cells and trials there are to measure.
fn planned(flags: &Flags, contestants: &[Contestant]) -> u64 {
    let mut parts = 0;
    if flags.has(Part::Load) {
        parts += flags.rounds() * contestants.len() * flags.clients.len();
    }
    if flags.has(Part::Syncs) && syncs::is_possible() {
        parts += contestants.len() * SYNC_CLIENTS.len();
    }
    if flags.has(Part::Faults) {
        let having = |timing: &Timing| contestants.iter().filter(|one| one.has(*timing)).count();
        let turns: usize = flags.timings.iter().map(having).sum();
        parts += turns * flags.faults.len() * flags.trials();
    }
    parts as u64
}

/// How many turns failed. The contest goes on without them.
struct Failures(usize);

impl Failures {
    fn note(&mut self, turn: io::Result<()>) {
        if let Err(e) = turn {
            progress::say(e);
            self.0 += 1;
        }
    }
}

async fn measure_loads(
    contestant: Contestant,
    round: usize,
    flags: &Flags,
    results: &mut Results,
    progress: &Progress,
) -> io::Result<()> {
    let cluster = start(contestant, Timing::Default, None).await?;
    for clients in &flags.clients {
        progress.detail(format!("{}, clients: {clients}", contestant.name));
        measure_load(&cluster, (*clients).into(), round, flags, results).await?;
        progress.advance(1);
    }
    Ok(())
}

async fn start(
    contestant: Contestant,
    timing: Timing,
    hosts: Option<Namespaces>,
) -> io::Result<Cluster> {
    let begin = Instant::now();
    let cluster = Cluster::start(contestant, timing, hosts).await?;
    let seconds = begin.elapsed().as_secs_f64();
    progress::say(format_args!("{}: serves after {seconds:.1} s", contestant.name));
    Ok(cluster)
}

fn measure_floors(flags: &Flags, results: &mut Results) -> io::Result<()> {
    let floors = floors::measure(&std::env::temp_dir())?;
    let clients: Vec<_> = flags.clients.iter().map(ToString::to_string).collect();
    let cell = clients.join(" ");
    let samples = [
        ("round trip", &floors.round_trip),
        ("fdatasync growing", &floors.append),
        ("fdatasync allocated", &floors.overwrite),
    ];
    for (name, sample) in samples {
        let [p50, p99] = [0.5, 0.99].map(|part| quantile(sample, part).as_micros());
        results.add(["floor", name, &cell], 0, "p50_us", p50);
        results.add(["floor", name, &cell], 0, "p99_us", p99);
        progress::say(format_args!("floor: {name}: p50 {p50} µs, p99 {p99} µs"));
    }
    Ok(())
}

async fn measure_load(
    cluster: &Cluster,
    clients: usize,
    round: usize,
    flags: &Flags,
    results: &mut Results,
) -> io::Result<()> {
    let load = load::run(cluster, clients, WARM, flags.span()).await?;
    let name = cluster.contestant.name;
    let micros = |span: Duration| span.as_nanos() as f64 / 1e3;
    let cell = clients.to_string();
    let key = ["load", cluster.contestant.id, &cell];
    let (failures, servers_time) = (load.failures, load.servers_time);
    let clients_time = load.clients_time;
    let figures = [
        ("writes_s", load.writes_per_second()),
        ("p50_us", micros(load.quantile(0.5))),
        ("p99_us", micros(load.quantile(0.99))),
        ("p999_us", micros(load.quantile(0.999))),
        ("failures", failures as f64),
        ("servers_cpu_us", micros(load.each(servers_time))),
        ("clients_cpu_us", micros(load.each(clients_time))),
    ];
    for (measure, figure) in figures {
        results.add(key, round, measure, format!("{figure:.1}"));
    }
    progress::say(format_args!(
        "{name}: {clients} clients, turn {}: {:.0} writes/s, p50 {:?}, p99 {:?}, {failures} failures",
        round + 1,
        load.writes_per_second(),
        load.quantile(0.5),
        load.quantile(0.99),
    ));
    if let Some(why) = load.refusal {
        progress::say(format_args!("{name} refused some: {why}"));
    }
    Ok(())
}

async fn measure_syncs(
    contestant: Contestant,
    results: &mut Results,
    progress: &Progress,
) -> io::Result<()> {
    let cluster = start(contestant, Timing::Default, None).await?;
    for clients in SYNC_CLIENTS {
        progress.detail(format!("{}, syncs, clients: {clients}", contestant.name));
        let syncs = syncs::per_write(&cluster, clients).await?;
        let key = ["syncs", contestant.id, &clients.to_string()];
        results.add(key, 0, "per_write", format!("{syncs:.3}"));
        let name = contestant.name;
        progress::say(format_args!("{name}: {clients} clients: {syncs:.3} syncs for each write"));
        progress.advance(1);
    }
    Ok(())
}

async fn measure_faults(
    contestant: Contestant,
    timing: Timing,
    flags: &Flags,
    results: &mut Results,
    progress: &Progress,
) -> io::Result<()> {
    let (cut, others): (Vec<_>, Vec<_>) =
        flags.faults.iter().partition(|fault| **fault == Fault::Cut);
    for (faults, needs_hosts) in [(others, false), (cut, true)] {
        if faults.is_empty() {
            continue;
        }
        let hosts = match needs_hosts.then(|| Namespaces::create(contestant.servers())) {
            Some(Ok(hosts)) => Some(hosts),
            Some(Err(e)) => {
                progress::say(format_args!(
                    "{}: no link is cut, for want of network namespaces: {e}",
                    contestant.name
                ));
                continue;
            }
            None => None,
        };
        let mut cluster = start(contestant, timing, hosts).await?;
        for fault in faults {
            measure_fault(&mut cluster, timing, fault, flags.trials(), results, progress).await?;
        }
    }
    Ok(())
}

async fn measure_fault(
    cluster: &mut Cluster,
    timing: Timing,
    fault: Fault,
    trials: usize,
    results: &mut Results,
    progress: &Progress,
) -> io::Result<()> {
    let timing = tables::timing_name(timing);
    let cell = format!("{} {timing}", fault.name());
    let mut gaps = Vec::new();
    progress.detail(format!("{}, {} of the leader", cluster.contestant.name, fault.name()));
    for trial in 0..trials {
        let gap = faults::trial(cluster, fault).await?.as_secs_f64() * 1e3;
        let key = ["fault", cluster.contestant.id, &cell];
        results.add(key, trial, "gap_ms", format!("{gap:.1}"));
        gaps.push(format!("{gap:.0}"));
        progress.advance(1);
    }
    let name = cluster.contestant.name;
    progress::say(format_args!(
        "{name}: {} of the leader, {timing} timeouts: {} ms without a write",
        fault.name(),
        gaps.join(", ")
    ));
    Ok(())
}
