//! Replays the recordings in a folder, and tells what happened.
//!
//! ```text
//! cargo run --release -p replay -- DIR             what happened, in plain words
//! cargo run --release -p replay -- DIR --check     only what is wrong
//! cargo run --release -p replay -- DIR --inputs    every input and every output
//! ```

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use replay::{Tells, replay};

/// Replays what the servers of a cluster recorded, compares every state, and checks the rules of
/// Raft.
///
/// Exit code: 0 if all is well, 1 if a state differs or a rule is broken, 2 if there is nothing to
/// replay.
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
}

fn main() -> ExitCode {
    let options = Options::parse();
    let tells = match (options.check, options.inputs) {
        (true, _) => Tells::Nothing,
        (false, true) => Tells::Inputs,
        (false, false) => Tells::Story,
    };
    match replay(&options.dir, tells) {
        Ok(report) => {
            let _ = writeln!(io::stdout().lock(), "{report}");
            if report.fault.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::from(2)
        }
    }
}
