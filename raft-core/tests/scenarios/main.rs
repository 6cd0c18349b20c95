//! Scenarios: bugs that other Raft systems had in the field, told in a small language, one file
//! each.
//!
//! ```sh
//! cargo test -p raft-core --features sim --test scenarios          # all
//! cargo test -p raft-core --features sim --test scenarios -- 13    # bug 13, or a part of a name
//! cargo test -p raft-core --features sim --test scenarios -- path/to/my.txt    # one's own
//! ```
//!
//! `SCENARIO_STORY=1` before such a command tells what happens, line by line.
//!
//! `README.md` beside this file has the language, and how each scenario was seen to fail.

#![allow(missing_docs, unreachable_pub)]

use std::cell::RefCell;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use raft_core::sim::scenario::{Script, Stage};

mod language;

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

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Panics are kept for the story instead of printed where they happen.
    panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
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
    Trial::test(name, move || play(&path).map_err(Into::into))
}

/// A panic of the core fails the line like anything else.
fn play(path: &Path) -> Result<(), String> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let script = Script::parse(&name.to_string(), &text)?;
    let mut stage = Stage::default();
    let played = panic::catch_unwind(AssertUnwindSafe(|| stage.play(&script)));
    let failed = match played {
        Ok(played) => played.map_err(|failure| failure.to_string()),
        Err(_) => {
            let said = PANIC.take().unwrap_or_else(|| "a panic".into());
            Err(stage.failure(said).to_string())
        }
    };
    if failed.is_ok() && std::env::var_os("SCENARIO_STORY").is_some() {
        println!("\n{name}\n{}\n{}", stage.story(), stage.state());
    }
    failed
}
