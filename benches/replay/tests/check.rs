//! What is wrong with a run or its recordings is named, and the exit code says whether a rule is
//! broken.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use raft_core::host::recorder::RecorderConfig;
use raft_threads::{ClusterId, Config, FileJournal, Node, NodeConfig, NodeId, channel};

/// Longer than anything here takes on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(60);

type Done = Result<(), Box<dyn Error>>;

/// One life of a server that is a cluster by itself: so many commands.
fn live(cluster: u64, record: RecorderConfig, journal: &Path, commands: u32) -> Done {
    let (id, cluster) = (NodeId::new(1), ClusterId::new(cluster));
    let mut config = NodeConfig::new(cluster, Config::new(id, [id]));
    config.record = Some(record);
    let journal = FileJournal::open(journal, cluster, id)?;
    let network = channel::Network::new(1);
    let node = Node::start(config, (), journal, network.endpoint(id))?;
    node.lead().wait_timeout(DEADLINE)?;
    for _ in 0..commands {
        node.propose("command").wait_timeout(DEADLINE)?;
    }
    node.shutdown().wait_timeout(DEADLINE).ok_or("the node does not end")?;
    Ok(())
}

fn check(dir: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replay"));
    let Output { status, stdout, stderr } =
        command.arg(dir).arg("--check").output().expect("the program runs");
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

fn copy(from: &Path, to: &Path) -> Done {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// Somebody restores an old copy of a server's disk, so that it forgets what it has promised.
#[test]
fn a_broken_rule_is_named_with_the_server_and_the_input() -> Done {
    let dir = tempfile::tempdir()?;
    let (journal, backup) = (dir.path().join("journal"), dir.path().join("backup"));
    let records = dir.path().join("records");
    live(7, RecorderConfig::new(&records), &journal, 3)?;
    copy(&journal, &backup)?;
    live(7, RecorderConfig::new(&records), &journal, 3)?;
    let (code, said) = check(&records);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no rule is broken"), "{said}");

    fs::remove_dir_all(&journal)?;
    copy(&backup, &journal)?;
    live(7, RecorderConfig::new(&records), &journal, 0)?;
    let (code, said) = check(&records);
    assert_eq!(code, Some(1), "{said}");
    let named = "broken rule: nothing said that could be forgotten: ";
    assert!(said.contains(named), "{said}");
    assert!(said.contains("; at input 0 of server 1, "), "{said}");
    Ok(())
}

#[test]
fn recordings_of_another_cluster_are_named_and_left_out() -> Done {
    let dir = tempfile::tempdir()?;
    let records = dir.path().join("records");
    live(7, RecorderConfig::new(&records), &dir.path().join("one"), 1)?;
    live(7, RecorderConfig::new(&records), &dir.path().join("one"), 1)?;
    live(8, RecorderConfig::new(&records), &dir.path().join("other"), 1)?;
    let (code, said) = check(&records);
    assert_eq!(code, Some(3), "{said}");
    let left_out = "left out: a recording of server 1 of cluster 0x8, the others are of 0x7";
    assert!(said.contains(left_out), "{said}");
    Ok(())
}

/// The files of a recording, the oldest first.
fn segments(records: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let files: Result<Vec<_>, _> = fs::read_dir(records)?.collect();
    let mut paths: Vec<_> = files?.into_iter().map(|file| file.path()).collect();
    paths.sort();
    Ok(paths)
}

#[test]
fn a_gap_is_named_and_the_rest_replayed() -> Done {
    let dir = tempfile::tempdir()?;
    let records = dir.path().join("records");
    // A file begins with digests of the log, and two files must find room.
    let record = RecorderConfig { bytes_max: 32 << 10, ..RecorderConfig::new(&records) };
    live(7, record, &dir.path().join("journal"), 1000)?;
    let files = segments(&records)?;
    assert!(files.len() >= 2, "{files:?}");
    let bytes = fs::read(&files[0])?;
    fs::write(&files[0], &bytes[..bytes.len() - 10])?;
    let (code, said) = check(&records);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("are damaged"), "{said}");
    assert!(said.contains("server 1: a gap, from input "), "{said}");
    Ok(())
}

#[test]
fn damage_and_what_is_no_recording_are_named() -> Done {
    let dir = tempfile::tempdir()?;
    let records = dir.path().join("records");
    live(7, RecorderConfig::new(&records), &dir.path().join("journal"), 1)?;
    let whole = segments(&records)?.remove(0);
    let bytes = fs::read(&whole)?;
    fs::write(records.join("noise.rec"), "noise")?;
    fs::write(&whole, &bytes[..bytes.len() - 3])?;
    let (code, said) = check(&records);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("noise.rec is no recording"), "{said}");
    assert!(said.contains("are damaged"), "{said}");

    let mut newer = bytes;
    newer[8] += 1;
    fs::write(&whole, newer)?;
    let (code, said) = check(&records);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("replay it with the version that recorded it"), "{said}");
    Ok(())
}

/// Where no terminal is, progress comes as lines on standard error; standard output is as without.
#[test]
fn progress_goes_to_standard_error() -> Done {
    let folder = tempfile::tempdir()?;
    let records = folder.path().join("records");
    live(7, RecorderConfig::new(&records), &folder.path().join("journal"), 1000)?;
    let run = |seconds: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_replay"));
        let output = command.arg(&records).env("PROGRESS_SECONDS", seconds).output();
        let Output { stdout, stderr, .. } = output.expect("the program runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // How long it took differs from run to run.
        let is_same = |line: &&str| !line.contains("replayed in");
        let story: Vec<_> = text(&stdout).lines().filter(is_same).map(str::to_owned).collect();
        (story, text(&stderr))
    };
    let (silent_story, nothing) = run("0");
    let (story, progress) = run("0.001");
    assert!(!story.is_empty());
    assert_eq!(story, silent_story);
    assert_eq!(nothing, "");
    assert!(progress.lines().count() > 1, "{progress:?}");
    assert!(progress.lines().all(|line| line.starts_with("replay: ")), "{progress:?}");
    assert!(!progress.contains(['\r', '\x1b']), "{progress:?}");
    Ok(())
}

/// What is missing at the end explains what the next process starts with.
#[test]
fn a_damaged_end_before_a_restart_is_no_broken_rule() -> Done {
    let dir = tempfile::tempdir()?;
    let (records, journal) = (dir.path().join("records"), dir.path().join("journal"));
    let record = RecorderConfig { write_ahead: true, ..RecorderConfig::new(&records) };
    live(7, record.clone(), &journal, 50)?;
    live(7, record, &journal, 1)?;
    let first = segments(&records)?.remove(0);
    let bytes = fs::read(&first)?;
    fs::write(&first, &bytes[..bytes.len() * 2 / 3])?;
    let (code, said) = check(&records);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("server 1: the end of a recording is missing"), "{said}");
    Ok(())
}
