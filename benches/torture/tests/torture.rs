//! A short torture of real processes, on loopback and, with root, in network namespaces: see the
//! library beside it.
//!
//! What cannot be done here is said in a line that begins with SKIPPED.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::process::{Command, Output};

fn torture(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_torture")).args(flags).output().unwrap()
}

/// A run with these flags must find nothing.
fn passes(flags: &[&str]) {
    let output = torture(flags);
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("violations: 0"), "{said}");
    for skipped in said.lines().filter(|line| line.contains("SKIPPED")) {
        // Past the harness, which would keep it to itself.
        std::io::stderr().write_all(format!("{skipped}\n").as_bytes()).unwrap();
    }
}

/// The seeds are such that these few seconds have faults of most kinds.
#[test]
fn clients_see_one_copy_whatever_happens_to_the_servers() {
    passes(&["--seconds=8", "--seed=1", "--network=loopback"]);
    passes(&["--seconds=14", "--seed=1", "--network=auto"]);
}

/// The judge of a run is also a command, for the histories that a failed one leaves.
#[test]
fn a_history_that_lost_a_write_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("histories.txt");
    let judge = |lines: &str| {
        std::fs::write(&file, lines).unwrap();
        torture(&["--judge", file.to_str().unwrap()])
    };
    let written = "k\t1\tset 7\t1\t2\tok\n";
    assert!(judge(&format!("{written}k\t2\tget\t3\t4\t7\n")).status.success());
    let lost = judge(&format!("{written}k\t2\tget\t3\t4\tnone\n"));
    assert_eq!(lost.status.code(), Some(1));
    let said = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(said.contains("the history of k is not linearizable"), "{said}");
}
