//! Scenarios: bugs that other Raft systems had in the field, told in a small language, one file
//! each.
//!
//! ```sh
//! cargo test -p raft-core --test scenarios                      # all
//! cargo test -p raft-core --test scenarios -- 13                # bug 13, or any part of a name
//! cargo test -p raft-core --test scenarios -- path/to/my.txt    # a file of one's own
//! SCENARIO_STORY=1 cargo test -p raft-core --test scenarios -- 13    # tells it line by line
//! ```
//!
//! `README.md` beside this file has the language, and how each scenario was seen to fail.

#![allow(missing_docs, unreachable_pub)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod actions;
mod expectations;
mod forgery;
mod host;
mod language;
mod membership;
mod play;
mod script;
mod sentences;
mod setup;
mod snapshots;
mod stage;
mod tell;
mod truth;
mod words;

use script::Script;

pub type Command = Vec<u8>;
/// What went wrong, if something did.
pub type Told = Result<(), String>;

/// Bugs below the core, each with the file that has its test and how to run that test.
const BELOW_THE_CORE: [(u32, &str, &str); 8] = [
    (49, "tests/host/identity.rs", "--test host a_foreign_history"),
    (51, "tests/host/unknown.rs", "--test host unknown"),
    (53, "tests/host/hangs.rs", "--test host hangs"),
    (54, "tests/host/states.rs", "--test host states"),
    (55, "tests/host/identity.rs", "--test host a_server_in_the_flags"),
    (56, "tests/host/field_bugs.rs", "--test host bug_56"),
    (57, "tests/host/field_bugs.rs", "--test host bug_57"),
    (58, "src/host/journal/power.rs", "--lib host::journal"),
];

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    play::keep_panics();
    let chosen = arguments.filter.as_deref().and_then(choose);
    let trials: Vec<_> = match chosen {
        Some(paths) => {
            arguments.filter = None;
            paths.into_iter().map(trial).collect()
        }
        None => {
            let trials = scripts().into_iter().map(trial).chain(promises());
            let below = Trial::test("bugs_below_the_core_have_tests", have_tests);
            trials.chain([below]).collect()
        }
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The scripts that a filter means if it is a file or a number.
fn choose(filter: &str) -> Option<Vec<PathBuf>> {
    if filter.ends_with(".txt") {
        return Some(vec![find(filter)]);
    }
    let number: u32 = filter.parse().ok()?;
    for (_, _, test) in BELOW_THE_CORE.iter().filter(|(bug, ..)| *bug == number) {
        println!("bug {number} lies below the core: cargo test -p raft-core --features std {test}");
    }
    Some(scripts().into_iter().filter(|path| number_of(path) == Some(number)).collect())
}

/// The files that [`BELOW_THE_CORE`] names are there, and each names its bug.
fn have_tests() -> Result<(), libtest_mimic::Failed> {
    for (bug, file, _) in BELOW_THE_CORE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
        if !text.contains(&format!("ield bug {bug}")) {
            return Err(format!("{file} does not name field bug {bug}").into());
        }
    }
    Ok(())
}

fn promises() -> impl Iterator<Item = Trial> {
    let promises = language::PROMISES.iter();
    promises.map(|(name, check)| Trial::test(*name, move || check().map_err(Into::into)))
}

fn scripts() -> Vec<PathBuf> {
    let files = fs::read_dir(DIRECTORY).expect("the directory of the scenarios is there");
    let paths = files.map(|file| file.expect("its files can be listed").path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    paths.sort();
    paths
}

/// A file as named, or one of ours; cargo runs tests in the directory of the package.
fn find(name: &str) -> PathBuf {
    let places =
        [Path::new("").join(name), Path::new("..").join(name), Path::new(DIRECTORY).join(name)];
    let found = places.iter().find(|path| path.exists());
    found.unwrap_or(&places[0]).clone()
}

/// The number of the bug, with which the name of the file begins.
fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.split('_').next()?.parse().ok()
}

fn trial(path: PathBuf) -> Trial {
    let name = path.file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
    Trial::test(name, move || play::play(&Script::read(&path)?).map_err(Into::into))
}
