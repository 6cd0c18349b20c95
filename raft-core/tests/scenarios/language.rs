//! What the language promises, besides what its sentences mean.

use std::fs;
use std::path::Path;

use raft_core::sim::scenario::{Script, language};

use crate::DIRECTORY;

/// A promise and how it is checked.
pub type Promise = (&'static str, fn() -> Result<(), String>);

pub const PROMISES: [Promise; 3] = [
    ("the_readme_has_the_language", the_readme_has_the_language),
    ("an_error_names_the_line_and_what_is_valid", an_error_names_the_line_and_what_is_valid),
    ("a_failure_tells_the_story_and_the_state", a_failure_tells_the_story_and_the_state),
];

/// The README lists every sentence with its meaning, in this order.
fn the_readme_has_the_language() -> Result<(), String> {
    let path = Path::new(DIRECTORY).join("README.md");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let language = language();
    if text.contains(language.trim_end()) {
        return Ok(());
    }
    Err(format!("{} does not have the language as it is, which is:\n\n{language}", path.display()))
}

fn an_error_names_the_line_and_what_is_valid() -> Result<(), String> {
    let errors = [
        (
            "servers 1 2 3\n\n1 proposes a",
            &["my.txt:3: \"1 proposes a\"", "N proposes COMMAND.."][..],
        ),
        ("servers 1 2 3\nexpect 1 leeds term 1", &["my.txt:2:", "expect N leads term COUNT"]),
        (
            "servers 1 2 3\nexpect in flight 1 -> 2 RequestVote grant",
            &["my.txt:2:", "KIND DETAILS.."],
        ),
        ("servers 1 2 3\n4 campaigns", &["my.txt:2:", "there is no server 4"]),
        ("servers 1 2 3\n1 proposes \"a", &["my.txt:2:", "a quote is not closed"]),
        ("pre-vote off", &["my.txt", "servers 1 2 3"]),
    ];
    for (text, expected) in errors {
        let error = Script::parse("my.txt", text).err().unwrap_or_default();
        says(&error, expected)?;
    }
    Ok(())
}

fn a_failure_tells_the_story_and_the_state() -> Result<(), String> {
    let text = "servers 1 2 3\n1 is elected by 2 3\n2 hears 1\nexpect 1 commit 1";
    let script = Script::parse("my.txt", text)?;
    let story = script.play().err().map_or(String::new(), |failure| failure.to_string());
    says(
        &story,
        &[
            "    2  1 is elected by 2 3\n",
            "           1's disk writes: term 1, vote for 1",
            "           heard: 1 -> 2 AppendEntries term 1 after 0.0 entries 1:noop commit 0\n",
            "my.txt:4: expect 1 commit 1\n    the commit index of 1: 0, not 1\n",
            "    2  follower in term 1, vote for 1, leader 1; voters 1 2 3; log 1:noop; commit 0, applied nothing; disk: term 1, vote for 1, 1:noop; clock",
            "    in flight: 2 -> 1 AppendEntriesReply term 1 matched 1\n",
        ],
    )
}

/// A text has all these parts, in their order.
fn says(text: &str, parts: &[&str]) -> Result<(), String> {
    let mut rest = text;
    for part in parts {
        let found = rest.find(part);
        let at = found.ok_or_else(|| format!("it does not say {part:?} there:\n{text}"))?;
        rest = &rest[at + part.len()..];
    }
    Ok(())
}
