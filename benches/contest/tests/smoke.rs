//! A contest of a few seconds between what needs no package: ours and the drivers, three processes
//! each, one of which is killed. So it shows when it rots.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

const CONTESTANTS: [&str; 5] = ["ours-tokio", "ours-threads", "ours-driver", "openraft", "raft-rs"];

#[test]
fn everyone_is_measured_survives_a_kill_and_is_on_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let contest = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_contest"));
        let output = command.args(flags).arg("--out").arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let only = CONTESTANTS.join(",");
    let common = ["--no-install", "--rounds=1", "--span=300", "--only", &only];
    contest(&[&common[..], &["--parts=load", "--clients=1,16"]].concat());
    let faults = ["--parts=faults", "--faults=sigkill", "--timings=equal", "--trials=1"];
    contest(&[&common[..], &faults].concat());

    let printed = contest(&["--assemble"]);
    assert!(printed.contains("16 clients"), "{printed}");
    let csv = fs::read_to_string(folder.path().join("results.csv")).unwrap();
    for contestant in CONTESTANTS {
        let value = |group: &str, cell: &str, measure: &str| {
            let head = format!("{group},{contestant},{cell},0,{measure},");
            let line = csv.lines().find_map(|line| line.strip_prefix(&head));
            let value = line.unwrap_or_else(|| panic!("no {head} in\n{csv}"));
            value.split(',').next().unwrap().parse::<f64>().unwrap()
        };
        for clients in ["1", "16"] {
            assert!(value("load", clients, "writes_s") > 0.0, "{contestant}");
            assert!(value("load", clients, "failures") == 0.0, "{contestant}");
        }
        assert!(value("fault", "sigkill equal", "gap_ms") > 0.0, "{contestant}");
    }
    let page = fs::read_to_string(folder.path().join("index.html")).unwrap();
    assert!(page.matches("<svg").count() == 3, "a plot is missing");
}

#[test]
fn mistakes_are_named() {
    for (flags, expected) in [
        (&["--only=consul"][..], "begins with 'consul'"),
        (&["--faults=fire"], "'fire' is no fault"),
        (&["--assemble", "--out=/dev/null/x"], "contest: "),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_contest")).args(flags).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{said}");
    }
}
