//! A script: a file of sentences, one a line. What follows `#` is the story, for people.

use std::fs;
use std::path::{Path, PathBuf};

use raft_core::NodeId;

use crate::sentences::{Step, understand};
use crate::words::split;

pub struct Script {
    pub path: PathBuf,
    pub lines: Vec<Line>,
}

pub struct Line {
    /// From 1.
    pub number: usize,
    pub text: String,
    pub step: Step,
}

impl Script {
    /// Reads a file. An error names file and line, and says what would be valid.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(path, &text)
    }

    pub fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let mut script = Self { path: path.into(), lines: Vec::new() };
        let mut servers = Vec::new();
        for (text, number) in text.lines().zip(1..) {
            script.parse_line(text, number, &mut servers).map_err(|error| {
                format!("{}:{number}: \"{}\": {error}", path.display(), text.trim())
            })?;
        }
        if servers.is_empty() {
            return Err(format!("{}: no servers: say `servers 1 2 3`", path.display()));
        }
        Ok(script)
    }

    fn parse_line(
        &mut self,
        text: &str,
        number: usize,
        servers: &mut Vec<NodeId>,
    ) -> Result<(), String> {
        let words = split(text)?;
        let Some(first) = words.first() else { return Ok(()) };
        let step = understand(&words)?;
        let named = step.servers();
        if first == "servers" {
            *servers = named;
        } else if let Some(stranger) = named.iter().find(|id| !servers.contains(id)) {
            // What is chosen for servers before they start names them before they are there.
            if !["voters", "pre-vote"].contains(&first.as_str()) {
                return Err(format!("there is no server {stranger}: add it to the line `servers`"));
            }
        }
        self.lines.push(Line { number, text: text.trim().into(), step });
        Ok(())
    }
}
