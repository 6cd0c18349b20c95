//! Replays what the servers of a cluster recorded (`raft_core::host::recorder`), and tells what
//! happened.
//!
//! Each server's core is told again what it was told, and its states are compared with the recorded
//! ones. The recordings of all servers are merged into one order, in which every message leaves
//! before it comes. The simulator's observer watches the whole, and names the first rule that is
//! broken.
//!
//! What the observer cannot tell: whether reads were fresh, because clocks of several machines do
//! not say what came before what; and whether two snapshots are the same, because a recording has
//! no contents.

// A story tells some of all that happens.
#![allow(clippy::wildcard_enum_match_arm)]

mod cluster;
mod merge;
mod story;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cluster::Cluster;
use merge::Merge;
use raft_core::host::recorder::{Input, RecordedCommand, Replay, read_files};
use raft_core::{NodeId, Output, ReadId, Restored, Status};

/// How much is told of a replay while it goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tells {
    /// Nothing.
    Nothing,
    /// What happened, in plain words.
    Story,
    /// Every input and every output as well.
    Inputs,
}

/// What a replay found.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is not as it should be with the recordings.
    pub notes: Vec<String>,
    /// How much was replayed.
    pub tally: Tally,
    /// How long the replay took.
    pub taken: Duration,
    /// The first state that differs, the first rule that is broken, or where the core panicked.
    pub fault: Option<String>,
}

/// How much was replayed.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// Servers that have recordings.
    pub servers: usize,
    /// Processes of theirs.
    pub lives: usize,
    /// What their cores were told.
    pub inputs: u64,
    /// States that were compared with the recorded ones.
    pub compared: u64,
    /// From the first input to the last.
    pub recorded: Duration,
    /// Whether the observer watched to the end.
    pub observed: bool,
    /// Whether nothing of the recordings is missing, damaged or left out, as far as that shows.
    pub whole: bool,
}

/// Replays the recordings in a folder.
///
/// # Errors
///
/// If there are none; the text says what is there instead.
pub fn replay(dir: &Path, tells: Tells) -> Result<Report, String> {
    follow(dir, tells, &mut |_, _| {})
}

/// What happened to a server.
#[derive(Debug)]
pub enum Happening<'h> {
    /// It started with this.
    Started(&'h Restored<RecordedCommand>),
    /// What came before is not on its recording.
    Resumed,
    /// Its core was told something.
    Told {
        /// The input.
        input: &'h Input<RecordedCommand>,
        /// What was polled.
        outputs: &'h [Output<RecordedCommand>],
        /// The read that was accepted, if the input was one.
        read: Option<ReadId>,
    },
    /// This life's recording ends.
    Ended,
}

/// As [`replay`], and shows `follower` all that happens, in one order for all servers, each time
/// with the server as it is after that and before the rules are checked.
///
/// # Errors
///
/// If there are no recordings; the text says what is there instead.
pub fn follow(
    dir: &Path,
    tells: Tells,
    follower: &mut dyn FnMut(&Replay, &Happening<'_>),
) -> Result<Report, String> {
    let begun = Instant::now();
    let mut merge = Merge::new(Cluster::read(dir)?, tells);
    // Where the recorded core panicked, this one does.
    let end = catch_unwind(AssertUnwindSafe(|| merge.run(follower)));
    let fault = match end {
        Ok(Ok(())) => None,
        Ok(Err(fault)) => Some(fault),
        Err(_) => Some(format!("the core panicked at {}", merge.place())),
    };
    Ok(Report { notes: merge.notes(), tally: merge.tally(), taken: begun.elapsed(), fault })
}

/// A line of the story, and what the servers were like right after.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Microseconds since the first server started, by the servers' clocks.
    pub micros: u64,
    /// The server that it is about.
    pub server: NodeId,
    /// What happened.
    pub text: String,
    /// The servers that ran.
    pub states: Vec<Status>,
}

/// What a replay showed.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The story, line by line.
    pub moments: Vec<Moment>,
    /// What is not as it should be with the recordings.
    pub notes: Vec<String>,
    /// How much was replayed.
    pub tally: Tally,
    /// The first state that differs, or the first rule that is broken.
    pub fault: Option<String>,
}

/// Replays recordings that are in memory, and keeps the story up to so many lines.
///
/// # Errors
///
/// If there are none; the text says what is there instead.
///
/// # Panics
///
/// Where the recorded core panicked.
pub fn watch(files: Vec<(PathBuf, Vec<u8>)>, moments_max: usize) -> Result<Watched, String> {
    let (recordings, errors) = read_files(files);
    let cluster = Cluster::of(recordings, &errors, "this choice of files")?;
    let mut merge = Merge::new(cluster, Tells::Story);
    let (moments, fault) = merge.watch(moments_max);
    Ok(Watched { moments, notes: merge.notes(), tally: merge.tally(), fault })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { notes, tally, taken, fault } = self;
        for note in notes {
            writeln!(f, "note: {note}")?;
        }
        let Tally { servers, lives, inputs, compared, recorded, observed, whole: _ } = tally;
        let speed = recorded.as_secs_f64() / taken.as_secs_f64().max(1e-9);
        writeln!(
            f,
            "{servers} servers in {lives} processes, {inputs} inputs in {recorded:.1?}; replayed in {taken:.1?}, {speed:.0} times as fast"
        )?;
        match (fault, observed) {
            (Some(fault), _) => f.write_str(fault),
            (None, true) => write!(f, "{compared} states compared, all equal; no rule is broken"),
            (None, false) => {
                write!(
                    f,
                    "{compared} states compared, all equal; rules were not checked to the end"
                )
            }
        }
    }
}
