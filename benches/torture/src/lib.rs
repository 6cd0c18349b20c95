//! Torture: servers of the example `kv` as processes of their own, whatever an operating system can
//! do to them, and clients whose histories must be linearizable all the same, with no acknowledged
//! write lost.
//!
//! | module | what |
//! |---|---|
//! | [`schedule`] | which faults come, from the seed |
//! | [`servers`] | the processes |
//! | [`namespaces`], [`switch`] | a host for each, and a network that loses, delays and cuts |
//! | [`disk`] | a disk that can be full |
//! | [`membership`] | servers that leave, lose their disk, bring another, or move |
//! | [`clients`] | clients that ask |
//! | [`history`] | what they asked and were told |
//! | [`judge`] | whether that can be |
//! | [`run`] | one fault after another, and the deadlines |
//! | [`options`], [`timeline`] | the command line, and what is said meanwhile |
#![cfg(target_os = "linux")]

pub mod clients;
pub mod disk;
pub mod history;
pub mod judge;
pub mod membership;
pub mod namespaces;
pub mod options;
pub mod run;
pub mod schedule;
pub mod servers;
pub mod switch;
pub mod timeline;

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::replay::{Report, Tells};
use clap::Parser;
use kv::demo::cluster::Failure;
use progress::Progress;

use self::history::{Counts, History, parse_all};
use self::options::Options;
use self::run::{Run, Tally, judge_all};

/// Random seeds are below this, so that they are short to write.
const SEED_MAX: u64 = 1_000_000;

/// Runs the command line.
///
/// The exit code is 0 if nothing was found and 1 if something was, which is printed; wrong flags
/// end the process with 2.
pub fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.judge {
        Some(file) => judge_file(file),
        None => torture(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("torture: {e}");
            ExitCode::FAILURE
        }
    }
}

fn judge_file(file: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(file);
    let text = text.map_err(|e| Failure(format!("{} cannot be read: {e}", file.display())))?;
    let judged = judge_all(parse_all(&text)?)?;
    println!("{judged} histories, all linearizable");
    Ok(())
}

fn torture(options: &Options) -> Result<(), Failure> {
    let cannot = |e: &dyn std::fmt::Display| Failure(format!("the run cannot start: {e}"));
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..SEED_MAX));
    let interrupted = Arc::new(AtomicBool::new(false));
    let told = interrupted.clone();
    ctrlc::set_handler(move || told.store(true, Ordering::Relaxed)).map_err(|e| cannot(&e))?;
    let program = options.program.clone().map_or_else(env::current_exe, Ok);
    let program = program.map_err(|e| cannot(&e))?;
    let parent = options.folder.clone().unwrap_or_else(env::temp_dir);
    let prefix = format!("torture-seed-{seed}-");
    let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent);
    let folder = folder.map_err(|e| cannot(&e))?;

    println!("replay: {}\n", replay(options, seed));
    let mut run = Run::start(options, seed, &program, folder.path(), interrupted.clone())?;
    let records = options.records(folder.path());
    let done = run
        .torture(seed, &options.only, Duration::from_secs(options.seconds))
        .and_then(|()| run.finish())
        .and_then(|tally| Ok((tally, judge_records(&mut run, &records)?)));
    let (counts, gap) = (run.recorder().counts(), run.recorder().longest_without_write());
    match done {
        Ok((tally, replayed)) => {
            report(&tally, counts, gap);
            println!("{replayed}");
            Ok(())
        }
        Err(failure) if interrupted.load(Ordering::Relaxed) => Err(failure),
        Err(failure) => {
            run.tell("FAILED", &failure.0);
            leave_evidence(&mut run, folder.path(), &records, &failure, &replay(options, seed));
            drop(run);
            let folder = folder.keep();
            Err(Failure(format!(
                "seed {seed} failed: {}\n\nhistories, journals, recordings, the servers' logs and how to replay are in {}",
                failure.0.lines().next().unwrap_or_default(),
                folder.display()
            )))
        }
    }
}

/// Replays what all servers recorded: states must be the recorded ones, and no rule broken.
fn judge_records(run: &mut Run, records: &Path) -> Result<Report, Failure> {
    run.tell("replay", "what the servers recorded");
    run.end_servers();
    let progress = Progress::unknown("replaying what the servers recorded");
    let report = ::replay::replay(records, Tells::Nothing).map_err(Failure)?;
    drop(progress);
    if let Some(fault) = &report.fault {
        return Err(Failure(format!("the recordings: {fault}\n{report}")));
    }
    Ok(report)
}

fn leave_evidence(run: &mut Run, folder: &Path, records: &Path, failure: &Failure, replay: &str) {
    let histories: String = run.recorder().histories().iter().map(History::to_string).collect();
    run.leave_journals(folder);
    let judge = "cargo run --release -p torture -- --judge histories.txt";
    // A folder of recordings that the run left where it was is found from here.
    let records = records.strip_prefix(folder).unwrap_or(records).display();
    let recorded = format!("cargo run --release -p replay -- {records}");
    let readme = format!(
        "{failure}\n\nThe same faults in the same order (when packets and processes meet differs every time):\n  {replay}\n\n\
         This run, input by input, as the servers recorded it:\n  {recorded}\n\n\
         The histories judged again:\n  {judge}\n"
    );
    for (name, text) in [("histories.txt", histories), ("README.txt", readme)] {
        if let Err(e) = fs::write(folder.join(name), text) {
            run.tell("evidence", &format!("without {name}: {e}"));
        }
    }
}

fn replay(options: &Options, seed: u64) -> String {
    let Options { seconds, runtime, servers, groups, only, .. } = options;
    let only: Vec<_> = only.iter().map(ToString::to_string).collect();
    let only =
        if only.is_empty() { String::new() } else { format!(" --only '{}'", only.join(",")) };
    let network = match options.network {
        options::Network::Auto => "auto",
        options::Network::Namespaces => "namespaces",
        options::Network::Loopback => "loopback",
    };
    format!(
        "cargo run --release -p torture -- --seconds {seconds} --seed {seed} --runtime {} --network {network} \
         --servers {servers} --groups {groups}{}{only}",
        runtime.flag(),
        if options.tls { " --tls" } else { "" },
    )
}

fn report(tally: &Tally, counts: Counts, gap: Duration) {
    let Counts { answered, written, refused, unknown } = counts;
    println!(
        "\noperations: {answered} answered (of which {written} writes), {refused} refused, {unknown} of unknown fate"
    );
    let faults: Vec<_> =
        tally.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let count = tally.count();
    println!("faults: {count}, {} in bad weather: {}", tally.in_weather, faults.join(", "));
    if let Some(packets) = tally.packets {
        println!(
            "packets: {} carried, {} cut off, {} lost, {} doubled, {} delayed",
            packets.carried, packets.cut, packets.lost, packets.doubled, packets.delayed
        );
    }
    println!("until a majority went on: {}", spans(&tally.failovers));
    println!("until every server was back: {}", spans(&tally.recoveries));
    println!("longest time without a successful write: {gap:.3?}");
    println!("histories judged: {}, violations: 0", tally.judged);
}

fn spans(spans: &[Duration]) -> String {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    match (spans.get(spans.len() / 2), spans.last()) {
        (Some(median), Some(longest)) => {
            format!("{median:.3?} at the median, {longest:.3?} at most")
        }
        _ => "never needed".to_owned(),
    }
}
