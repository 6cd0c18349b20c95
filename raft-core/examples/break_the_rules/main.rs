//! Breaks the rules of the core, one by one, and tells which tests notice: the tests' own test.
//!
//! `cargo run --release -p raft-core --example break_the_rules` works on a copy under `target`,
//! with what `raft-core/tests/mutations.txt` lists. It fails if a mutation survives without an
//! explanation, if a check does not catch what the list says that it does, or if a mutation no
//! longer fits the source.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use progress::Progress;

mod mutations;
mod workshop;

use mutations::{List, Mutation};
use workshop::{Verdict, Workshop};

/// Applies each mutation of raft-core/tests/mutations.txt to a copy of the workspace, and runs the
/// checks that must catch it.
#[derive(Parser)]
struct Args {
    /// Only mutations whose name, file or first check contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Only see whether each mutation still fits the source.
    #[arg(long)]
    dry_run: bool,
}

/// What became of a mutation.
struct Fate {
    caught_by: Vec<String>,
    /// What is wrong with the list, or with the tests.
    complaints: Vec<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("break_the_rules: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let list = List::read(&workspace.join("raft-core/tests/mutations.txt"))?;
    let workshop = Workshop::new(&workspace)?;
    let chosen = |mutation: &&Mutation| {
        let check = mutation.checks.first();
        let told = [Some(&mutation.name), Some(&mutation.file), check];
        told.into_iter().flatten().any(|text| text.contains(&args.only))
    };
    let chosen: Vec<_> = list.mutations.iter().filter(chosen).collect();
    if !args.dry_run {
        verify_unbroken(&workshop, &chosen)?;
    }

    let (began, mut complaints, mut survivors) = (Instant::now(), 0, 0);
    println!("| mutation | rule | caught by |\n|---|---|---|");
    let progress = Progress::of("break_the_rules", chosen.len() as u64, "mutations");
    for mutation in &chosen {
        progress.detail(&mutation.name);
        let fate = if args.dry_run {
            fits(&workshop, mutation)
        } else {
            try_out(&workshop, &list, mutation)?
        };
        let caught_by = match (&mutation.survives, fate.caught_by.is_empty()) {
            (Some(reason), true) => format!("survives: {reason}"),
            (None, true) if !args.dry_run => "SURVIVED".to_owned(),
            _ => fate.caught_by.join(", "),
        };
        progress::print(format_args!("| {} | {} | {caught_by} |", mutation.name, mutation.rule));
        for complaint in &fate.complaints {
            progress::print(format_args!("| | | **{complaint}** |"));
        }
        progress.advance(1);
        complaints += fate.complaints.len();
        survivors += usize::from(mutation.survives.is_some());
    }
    drop(progress);
    println!(
        "\n{} mutations, {survivors} of which survive for a reason, in {} s; {complaints} complaints",
        chosen.len(),
        began.elapsed().as_secs()
    );
    if complaints > 0 { Err("see the complaints in the table".into()) } else { Ok(()) }
}

/// All checks pass on the source as it is, or their failures would prove nothing.
fn verify_unbroken(workshop: &Workshop, chosen: &[&Mutation]) -> Result<(), Box<dyn Error>> {
    let mut checks: Vec<_> = chosen.iter().flat_map(|mutation| &mutation.checks).collect();
    checks.sort_unstable();
    checks.dedup();
    let progress = Progress::of("unbroken", checks.len() as u64, "checks");
    for check in checks {
        progress.detail(check);
        match workshop.check(check)? {
            Verdict::Passed => {}
            Verdict::Caught(test) => return Err(format!("{check} fails unbroken: {test}").into()),
            Verdict::DoesNotCompile(error) => return Err(format!("{check}: {error}").into()),
        }
        progress.advance(1);
    }
    Ok(())
}

/// Whether the mutation fits the source, and its checks exist.
fn fits(workshop: &Workshop, mutation: &Mutation) -> Fate {
    let broken = workshop.read(&path_of(mutation)).and_then(|text| mutation.apply(&text));
    let mut complaints: Vec<_> = broken.err().into_iter().collect();
    let unknown = mutation.checks.iter().filter(|check| !workshop.has(check));
    complaints.extend(unknown.map(|check| format!("there is no check {check}")));
    Fate { caught_by: Vec::new(), complaints }
}

/// Breaks one rule, runs its checks, and mends it.
fn try_out(workshop: &Workshop, list: &List, mutation: &Mutation) -> Result<Fate, String> {
    let path = path_of(mutation);
    let text = workshop.read(&path)?;
    let broken = match mutation.apply(&text) {
        Ok(broken) => broken,
        Err(complaint) => return Ok(Fate { caught_by: Vec::new(), complaints: vec![complaint] }),
    };
    workshop.write(&path, broken.as_bytes())?;
    let fate = run_checks(workshop, list, mutation);
    workshop.write(&path, text.as_bytes())?;
    fate
}

fn run_checks(workshop: &Workshop, list: &List, mutation: &Mutation) -> Result<Fate, String> {
    let mut fate = Fate { caught_by: Vec::new(), complaints: Vec::new() };
    for check in &mutation.checks {
        match workshop.check(check)? {
            Verdict::Caught(test) => fate.caught_by.push(format!("{check}: {test}")),
            Verdict::Passed => fate.complaints.push(format!("{check} does not catch it")),
            Verdict::DoesNotCompile(error) => {
                fate.complaints.push(format!("does not compile: {error}"));
                return Ok(fate);
            }
        }
    }
    if !fate.caught_by.is_empty() {
        return Ok(fate);
    }
    for check in list.all_checks.iter().filter(|check| !mutation.checks.contains(check)) {
        match workshop.check(check)? {
            Verdict::Caught(test) => {
                fate.caught_by.push(format!("{check}: {test}"));
                if mutation.survives.is_some() {
                    fate.complaints.push("does not survive: name the check".to_owned());
                }
                return Ok(fate);
            }
            Verdict::Passed => {}
            Verdict::DoesNotCompile(error) => {
                fate.complaints.push(format!("does not compile: {error}"));
                return Ok(fate);
            }
        }
    }
    if mutation.survives.is_none() {
        fate.complaints.push("nothing catches it: add a test, or say why none can".to_owned());
    }
    Ok(fate)
}

fn path_of(mutation: &Mutation) -> String {
    format!("raft-core/src/{}", mutation.file)
}
