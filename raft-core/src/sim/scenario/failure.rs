//! What went wrong with a script.

use alloc::string::String;
use core::fmt;

/// A sentence that does not hold, and the story so far.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// The name of the script.
    pub script: String,
    /// The number of the line, from 1.
    pub line: usize,
    /// The line.
    pub sentence: String,
    /// What is wrong with it.
    pub reason: String,
    /// The lines up to this one, each with what was said and written.
    pub story: String,
    /// The servers, and the messages in flight.
    pub state: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { script, line, sentence, reason, story, state } = self;
        writeln!(f, "\n{story}")?;
        writeln!(f, "{script}:{line}: {sentence}")?;
        writeln!(f, "    {reason}")?;
        write!(f, "\n{state}")
    }
}

impl core::error::Error for Failure {}
