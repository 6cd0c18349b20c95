//! Recordings of real nodes in the page.

use std::fs;

use viewer::Recorded;

/// The recordings of a cluster that lost its leader once.
fn files() -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().expect("a folder");
    failover::record(dir.path()).expect("a recording");
    let files = fs::read_dir(dir.path()).expect("the folder");
    let read = files.map(|file| {
        let path = file.expect("a file").path();
        (path.display().to_string(), fs::read(&path).expect("a file that can be read"))
    });
    read.collect()
}

#[test]
fn the_story_and_the_states_of_recordings() {
    let mut files = files();
    files.push(("nonsense.rec".into(), vec![1, 2, 3]));
    let recorded = Recorded::new(files).expect("recordings");
    let summary = recorded.summary();
    assert_eq!(summary.fault, None);
    assert_eq!(summary.notes, ["nonsense.rec is no recording"]);
    assert!(summary.text.ends_with("no rule is broken."), "{}", summary.text);
    let elections = summary.lines.iter().enumerate();
    let elections = elections.filter(|(_, line)| line.text.contains("leads term"));
    let elected: Vec<_> = elections.map(|(at, line)| (at, line.server)).collect();
    assert!(elected.len() >= 2, "{elected:?}");
    for (at, server) in elected {
        let leads =
            |at| recorded.states(at).iter().any(|one| one.id == server && one.role == "leader");
        // Lines of one event have the states after it in common.
        assert!(leads(at) && !leads(0));
    }
    assert!(recorded.states(usize::MAX).is_empty());
}

#[test]
fn what_is_no_recording_is_named() {
    let error = Recorded::new(vec![("notes.txt".into(), vec![])]).expect_err("no recordings");
    assert_eq!(error, "notes.txt is no recording");
    let error = Recorded::new(Vec::new()).expect_err("no files");
    assert_eq!(error, "this choice of files holds no recordings");
}
