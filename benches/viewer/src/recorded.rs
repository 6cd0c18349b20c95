//! Recordings of production, replayed in the page: their story, and the states at each of its
//! lines.

use std::fmt;
use std::path::PathBuf;

use raft_core::{NodeId, Status};
use replay::{Watched, watch};
use serde::Serialize;

use crate::words::role;

/// The most lines of a story that are kept, each with the states of all servers.
pub const MOMENTS_MAX: usize = 20_000;

/// Recordings that were replayed.
pub struct Recorded(Watched);

/// What was found, and the whole story.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Summary {
    /// In one sentence, how much was replayed.
    pub text: String,
    /// The first state that differs, or the first rule that is broken.
    pub fault: Option<String>,
    /// What is not as it should be with the recordings.
    pub notes: Vec<String>,
    /// The story.
    pub lines: Vec<Told>,
}

/// A line of the story.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct Told {
    /// Microseconds since the first server started.
    pub micros: u64,
    /// The server.
    pub server: u64,
    /// What happened.
    pub text: String,
}

/// A server at a moment of the recordings.
#[derive(Clone, PartialEq, Serialize, Debug)]
pub struct State {
    /// Its number.
    pub id: u64,
    /// Its role.
    pub role: &'static str,
    /// Its term.
    pub term: u64,
    /// Its vote in that term.
    pub voted_for: Option<u64>,
    /// The leader that it knows.
    pub leader: Option<u64>,
    /// The last entry of its log.
    pub last: u64,
    /// The last entry that is durable.
    pub durable: u64,
    /// The last entry known to be committed.
    pub commit: u64,
    /// The last entry applied.
    pub applied: u64,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recorded").field(&self.0.tally).finish()
    }
}

impl Recorded {
    /// Replays these files, each with its name.
    ///
    /// # Errors
    ///
    /// If none is a recording; the text says what they are instead.
    pub fn new(files: Vec<(String, Vec<u8>)>) -> Result<Self, String> {
        let files = files.into_iter().map(|(name, bytes)| (PathBuf::from(name), bytes));
        watch(files.collect(), MOMENTS_MAX).map(Self)
    }

    /// What was found, and the whole story.
    pub fn summary(&self) -> Summary {
        let Watched { moments, notes, tally, fault } = &self.0;
        let checked =
            if tally.observed { "no rule is broken" } else { "rules were not checked to the end" };
        let end = if fault.is_some() { "and there is a fault" } else { checked };
        let text = format!(
            "{} servers in {} processes, {} inputs in {:.1?}; {} states compared, {end}.",
            tally.servers, tally.lives, tally.inputs, tally.recorded, tally.compared
        );
        let lines = moments.iter().map(|moment| Told {
            micros: moment.micros,
            server: moment.server.get(),
            text: moment.text.clone(),
        });
        let mut notes = notes.clone();
        if moments.len() == MOMENTS_MAX {
            notes.push(format!(
                "the story is longer than {MOMENTS_MAX} lines: the rest is left out"
            ));
        }
        Summary { text, fault: fault.clone(), notes, lines: lines.collect() }
    }

    /// The servers that ran right after this line of the story.
    pub fn states(&self, line: usize) -> Vec<State> {
        let moment = self.0.moments.get(line);
        moment.map(|moment| moment.states.iter().map(State::of).collect()).unwrap_or_default()
    }
}

impl State {
    fn of(status: &Status) -> Self {
        Self {
            id: status.id.get(),
            role: role(status.role),
            term: status.current_term.get(),
            voted_for: status.voted_for.map(NodeId::get),
            leader: status.leader.map(NodeId::get),
            last: status.last_log.index.get(),
            durable: status.durable_index.get(),
            commit: status.commit_index.get(),
            applied: status.last_applied.get(),
        }
    }
}
