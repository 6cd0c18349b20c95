//! Plays sentences, and keeps their story.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::failure::Failure;
use super::script::{Line, Script};
use super::stage::Stage;
use super::{Told, tell};

impl Stage {
    /// Plays one more sentence. Its line has the number behind the last one's.
    ///
    /// # Errors
    ///
    /// If it is no sentence, names a server that is not there, or does not hold.
    pub fn say(&mut self, sentence: &str) -> Result<(), Box<Failure>> {
        let servers: Vec<_> = self.hosts.keys().copied().collect();
        let number = self.line.0 + 1;
        let told = match Line::parse(sentence, number, &servers) {
            Ok(None) => Ok(()),
            Ok(Some(line)) => self.play_line(&line),
            Err(error) => {
                self.begin_line(number, sentence.trim());
                Err(error)
            }
        };
        told.map_err(|error| Box::new(self.failure(error)))
    }

    /// Plays a script to its end.
    ///
    /// # Errors
    ///
    /// At the first line that does not hold.
    pub fn play(&mut self, script: &Script) -> Result<(), Box<Failure>> {
        self.script.clone_from(&script.name);
        for line in &script.lines {
            let told = self.play_line(line);
            told.map_err(|error| Box::new(self.failure(error)))?;
        }
        Ok(())
    }

    fn play_line(&mut self, line: &Line) -> Told {
        self.begin_line(line.number, &line.text);
        line.step.run(self)
    }

    fn begin_line(&mut self, number: usize, text: &str) {
        write_events(&mut self.noted, &self.events);
        self.events.clear();
        let _ = writeln!(self.noted, "{number:5}  {text}");
        self.line = (number, text.into());
    }

    /// The lines that were played, each with what was said and written.
    pub fn story(&self) -> String {
        let mut story = self.noted.clone();
        write_events(&mut story, &self.events);
        story
    }

    /// The servers, and the messages in flight, a line each.
    pub fn state(&self) -> String {
        let servers = self.hosts.values().map(|host| format!("    {}\n", host.describe()));
        let in_flight =
            self.in_flight.iter().map(|m| format!("    in flight: {}\n", tell::message(m)));
        servers.chain(in_flight).collect()
    }

    /// The failure of the line that was played last, for this reason: what a core said when it
    /// panicked, say.
    pub fn failure(&self, reason: impl Into<String>) -> Failure {
        let (line, sentence) = self.line.clone();
        Failure {
            script: self.script.clone(),
            line,
            sentence,
            reason: reason.into(),
            story: self.story(),
            state: self.state(),
        }
    }
}

fn write_events(story: &mut String, events: &[String]) {
    for event in events {
        let _ = writeln!(story, "           {event}");
    }
}
