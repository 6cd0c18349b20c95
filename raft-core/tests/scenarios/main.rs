//! Scenarios: bugs that other Raft systems had in the field, told in a small language, one file each.
//!
//! ```sh
//! cargo test -p raft-core --test scenarios                      # all
//! cargo test -p raft-core --test scenarios -- 13                # bug 13, or any part of a name
//! cargo test -p raft-core --test scenarios -- path/to/my.txt    # a file of one's own
//! SCENARIO_STORY=1 cargo test -p raft-core --test scenarios -- 13     # tells what happens, line by line
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
        None => scripts().into_iter().map(trial).chain(promises()).collect(),
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The scripts that a filter means if it is a file or a number.
fn choose(filter: &str) -> Option<Vec<PathBuf>> {
    if filter.ends_with(".txt") {
        return Some(vec![find(filter)]);
    }
    let number: u32 = filter.parse().ok()?;
    Some(scripts().into_iter().filter(|path| number_of(path) == Some(number)).collect())
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
