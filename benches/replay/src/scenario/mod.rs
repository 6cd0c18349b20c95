//! Writes a scenario for the tests of raft-core from recordings: what the servers did, in the
//! language of `raft-core/tests/scenarios`.
//!
//! The writer plays every line as it writes it, on a stage as those tests do: so it knows which
//! messages are in flight there, and that the file plays to its end. What a recording says of time
//! is told by what it led to (`2 campaigns`), because a scenario has clocks and random numbers of
//! its own. A heartbeat that changed nothing is left out.

mod names;
mod panics;
mod turns;
mod writer;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use raft_core::sim::scenario::{Script, Stage};
use raft_core::{Index, NodeId, Role};

use panics::{caught, keep_panics};
use turns::{Recorded, read};
use writer::{End, Writer};

/// A scenario, and how far it is what was recorded.
pub(crate) struct Scenario {
    pub(crate) text: String,
    /// How many lines have a sentence.
    pub(crate) sentences: usize,
    /// What the recording has and the scenario has not.
    pub(crate) differs: Vec<String>,
    /// What the replay of the recordings found.
    pub(crate) fault: Option<String>,
}

/// Makes a scenario of the recordings in a folder, up to so many microseconds.
///
/// # Errors
///
/// If there are no recordings, or they lack the beginning; the text says what to do.
pub(crate) fn scenario(dir: &Path, until: u64, path: &Path) -> Result<Scenario, String> {
    keep_panics();
    let recorded = read(dir, until)?;
    let (all, members) = recorded.members();
    let mut writer = Writer::new(&recorded, &all, &members)?;
    let steps = recorded.steps.iter().try_for_each(|step| writer.step(step));
    match steps.and_then(|()| end(&mut writer, &recorded)) {
        Ok(()) => {}
        Err(End::Failed(error)) => writer.differs.push(format!("its last line fails: {error}")),
        Err(End::None(error)) => return Err(error),
    }
    let Writer { lines, differs, left_out, .. } = writer;
    let mut text = String::new();
    head(&mut text, &recorded, &left_out, &differs);
    lines.iter().for_each(|line| {
        let _ = writeln!(text, "{line}");
    });
    let is_sentence = |line: &&String| !line.is_empty() && !line.starts_with('#');
    let sentences = lines.iter().filter(is_sentence).count();
    let mut scenario = Scenario { text, sentences, differs, fault: recorded.report.fault.clone() };
    // The file from the beginning, as the tests play it.
    if let (Err(error), true) = (play(path, &scenario.text), scenario.differs.is_empty()) {
        scenario.differs.push(format!("it does not play to its end: {error}"));
    }
    Ok(scenario)
}

/// Plays a script; if it fails, says where.
fn play(path: &Path, text: &str) -> Result<(), String> {
    let script = Script::parse(&path.display().to_string(), text)?;
    let mut stage = Stage::default();
    let played = caught(|| stage.play(&script).map_err(|failure| failure.reason));
    played.map_err(|reason| {
        let failure = stage.failure(reason);
        format!("{}:{}: {}", failure.script, failure.line, failure.sentence)
    })
}

/// What the servers are at the end, as far as the scenario's are the same.
fn end(writer: &mut Writer, recorded: &Recorded) -> Result<(), End> {
    writer.comment("What the recording ends with.");
    let mut commits: BTreeMap<Index, Vec<NodeId>> = BTreeMap::new();
    for (node, status) in &recorded.ends {
        let Some(found) = writer.status(*node) else { continue };
        let (wanted, is) =
            ((status.last_log, status.commit_index), (found.last_log, found.commit_index));
        if wanted.0 != is.0 {
            writer.differs.push(format!(
                "the log of server {node} ends at {}, and in the scenario at {}",
                wanted.0, is.0
            ));
        }
        if wanted.1 == is.1 {
            commits.entry(is.1).or_default().push(*node);
        } else {
            writer.differs.push(format!(
                "server {node} knows {} to be committed, and in the scenario {}",
                wanted.1, is.1
            ));
        }
    }
    for (commit, mut nodes) in commits {
        nodes.sort();
        writer.say(&format!("expect {} commit {commit}", names::list(&nodes)))?;
    }
    for (node, status) in &recorded.ends {
        if status.role == Role::Leader {
            writer.expect_leader(*node, status.current_term)?;
        }
    }
    Ok(())
}

fn head(
    text: &mut String,
    recorded: &Recorded,
    left_out: &BTreeMap<&'static str, u64>,
    differs: &[String],
) {
    let tally = &recorded.report.tally;
    let mut note = |line: &str| {
        let _ = writeln!(text, "# {line}");
    };
    note(&format!(
        "From a recording of {} servers, {:.1?}, {} inputs; written by `replay --scenario`.",
        tally.servers, tally.recorded, tally.inputs
    ));
    note("Commands are named by their order: c1, c2. State machines apply at once.");
    if let Some(fault) = &recorded.report.fault {
        note(&format!("The replay found: {fault}"));
    }
    for (what, count) in left_out {
        note(&format!("Left out: {count} {what}."));
    }
    if recorded.reads > 0 {
        note(&format!("Left out: {} reads.", recorded.reads));
    }
    if recorded.refused > 0 {
        note(&format!("Left out: {} requests that were refused.", recorded.refused));
    }
    for line in differs {
        note(&format!("Differs from the recording: {}", line.lines().next().unwrap_or_default()));
    }
    let _ = writeln!(text);
}
