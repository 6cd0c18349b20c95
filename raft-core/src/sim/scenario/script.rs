//! A script: sentences, one a line. What follows `#` is the story, for people.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::failure::Failure;
use super::language::understand;
use super::sentence::Step;
use super::stage::Stage;
use super::words::split;
use crate::NodeId;

/// A script that was understood.
#[derive(Clone, Debug)]
pub struct Script {
    pub(super) name: String,
    pub(super) lines: Vec<Line>,
}

#[derive(Clone, Debug)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    pub(super) text: String,
    pub(super) step: Step,
}

impl Script {
    /// Understands a script. Its name stands in errors before the number of a line.
    ///
    /// # Errors
    ///
    /// If a line is no sentence, or names a server that is not there; the text names the line, and
    /// says what would be valid.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        let mut servers = Vec::new();
        for (text, number) in text.lines().zip(1..) {
            let line = Line::parse(text, number, &servers)
                .map_err(|error| format!("{name}:{number}: \"{}\": {error}", text.trim()))?;
            let Some(line) = line else { continue };
            if line.names_the_servers() {
                servers = line.step.servers();
            }
            lines.push(line);
        }
        if servers.is_empty() {
            return Err(format!("{name}: no servers: say `servers 1 2 3`"));
        }
        Ok(Self { name: name.into(), lines })
    }

    /// Plays the script to its end, and shows how the stage is then.
    ///
    /// # Errors
    ///
    /// At the first line that does not hold.
    pub fn play(&self) -> Result<Stage, Box<Failure>> {
        let mut stage = Stage::default();
        stage.play(self)?;
        Ok(stage)
    }
}

impl Line {
    /// None if it is only for people.
    pub(super) fn parse(
        text: &str,
        number: usize,
        servers: &[NodeId],
    ) -> Result<Option<Self>, String> {
        let words = split(text)?;
        let Some(first) = words.first() else { return Ok(None) };
        let line = Self { number, text: text.trim().into(), step: understand(&words)? };
        // What is chosen for servers before they start names them before they are there.
        let comes_before = line.names_the_servers() || ["voters", "pre-vote"].contains(&&**first);
        let named = line.step.servers();
        match named.iter().find(|id| !servers.contains(id)) {
            Some(stranger) if !comes_before => {
                Err(format!("there is no server {stranger}: add it to the line `servers`"))
            }
            _ => Ok(Some(line)),
        }
    }

    fn names_the_servers(&self) -> bool {
        self.text.split_whitespace().next() == Some("servers")
    }
}
