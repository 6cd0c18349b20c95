//! A recording becomes a test of raft-core: a scenario in which the same servers lead the same
//! terms.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use raft_core::{Output as CoreOutput, Role};
use replay::{Happening, Tells, follow};

fn replay(dir: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replay"));
    command.arg(dir).args(flags).output().expect("the program runs")
}

/// What a scenario expects of each leader on the recordings.
fn leaders(dir: &Path) -> Vec<String> {
    let mut leaders = Vec::new();
    let report = follow(dir, Tells::Nothing, &mut |_, happening| {
        let Happening::Told { outputs, .. } = happening else { return };
        for output in *outputs {
            if let CoreOutput::RoleChanged { role: Role::Leader, term, leader: Some(id) } = output {
                leaders.push(format!("expect {id} leads term {term}"));
            }
        }
    });
    assert_eq!(report.expect("recordings").fault, None);
    leaders
}

#[test]
fn a_failover_is_a_scenario_with_the_same_leaders() {
    let dir = tempfile::tempdir().expect("a folder");
    let (records, file) = (dir.path().join("records"), dir.path().join("failover.txt"));
    failover::record(&records).expect("a recording");
    // The program plays the file that it has written, and fails if it does not hold.
    let output = replay(&records, &["--scenario", file.to_str().expect("a path")]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let text = fs::read_to_string(&file).expect("a scenario");
    let recorded = leaders(&records);
    assert!(recorded.len() >= 2, "{recorded:?}");
    let mut expected = text.lines().filter(|line| line.contains(" leads term "));
    for leader in &recorded {
        assert!(expected.any(|line| line == leader), "{leader} is not expected:\n{text}");
    }
    assert!(text.contains(" commit "), "{text}");
}

#[test]
fn a_scenario_needs_the_beginning_of_the_recordings() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("none.txt");
    let output = replay(dir.path(), &["--scenario", file.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!file.exists());
}
