//! Replays the recordings in a folder, and tells what happened.
//!
//! ```text
//! cargo run --release -p replay -- DIR             what happened, in plain words
//! cargo run --release -p replay -- DIR --check     only what is wrong
//! cargo run --release -p replay -- DIR --inputs    every input and every output
//! cargo run --release -p replay -- DIR --scenario FILE    a test of it for raft-core
//! ```

// A story tells some of all that happens.
#![allow(clippy::wildcard_enum_match_arm)]

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use progress::Progress;
use replay::{Report, Tells, follow};

mod scenario;

/// Progress is shown after so many inputs each.
const SHOWN_INPUTS: u64 = 10_000;

/// Replays what the servers of a cluster recorded, compares every state, and checks the rules of
/// Raft.
///
/// Exit code: 0 if all is well, 1 if a state differs, a rule is broken, or a scenario does not lead
/// to what was recorded, 2 if there is nothing to replay, 3 if all is well but a part of the
/// recordings is missing, damaged or left out.
#[derive(Parser)]
#[command(name = "replay", version)]
struct Options {
    /// The folder with the recordings of all servers
    dir: PathBuf,
    /// Tell no story
    #[arg(long)]
    check: bool,
    /// Tell every input and every output of every server
    #[arg(long, conflicts_with = "check")]
    inputs: bool,
    /// Write a scenario for the tests of raft-core to this file, and tell no story
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "inputs"])]
    scenario: Option<PathBuf>,
    /// End the scenario so many seconds after the first server started
    #[arg(long, value_name = "SECONDS", requires = "scenario")]
    until: Option<f64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(file) = &options.scenario {
        return match write_scenario(&options, file) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("replay: {error}");
                ExitCode::from(2)
            }
        };
    }
    let tells = match (options.check, options.inputs) {
        (true, _) => Tells::Nothing,
        (false, true) => Tells::Inputs,
        (false, false) => Tells::Story,
    };
    match watched(&options.dir, tells) {
        Ok(report) => {
            let _ = writeln!(io::stdout().lock(), "{report}");
            match (&report.fault, report.tally.whole) {
                (Some(_), _) => ExitCode::FAILURE,
                (None, true) => ExitCode::SUCCESS,
                (None, false) => ExitCode::from(3),
            }
        }
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::from(2)
        }
    }
}

/// Replays the recordings, and shows how far that is, unless the story itself is on the terminal.
fn watched(dir: &Path, tells: Tells) -> Result<Report, String> {
    let is_shown = tells == Tells::Nothing || !io::stdout().is_terminal();
    let progress = is_shown.then(|| Progress::unknown("replay"));
    let mut inputs = 0_u64;
    follow(dir, tells, &mut |_, _| {
        inputs += 1;
        if let Some(progress) = progress.as_ref().filter(|_| inputs.is_multiple_of(SHOWN_INPUTS)) {
            progress.detail(format!("{inputs} inputs"));
        }
    })
}

/// Returns whether the scenario leads to what was recorded.
fn write_scenario(options: &Options, file: &Path) -> Result<bool, String> {
    let until = options.until.map_or(u64::MAX, |seconds| (seconds * 1e6) as u64);
    let progress = Progress::unknown("scenario");
    let scenario = scenario::scenario(&options.dir, until, file)?;
    drop(progress);
    let path = file.display();
    fs::write(file, &scenario.text).map_err(|error| format!("{path}: {error}"))?;
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{path}: {} sentences", scenario.sentences);
    let _ = writeln!(out, "cargo test -p raft-core --features sim --test scenarios -- {path}");
    for difference in &scenario.differs {
        let _ = writeln!(out, "differs from the recording: {difference}");
    }
    if let Some(fault) = &scenario.fault {
        let _ = writeln!(out, "the recording: {fault}");
    }
    Ok(scenario.differs.is_empty())
}
