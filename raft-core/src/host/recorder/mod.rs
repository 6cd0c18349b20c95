//! The flight recorder: what a node's core was told, so that a run can be replayed bit for bit.
//!
//! The core is a pure function of its first state, its inputs and its random numbers. A recording
//! holds these and no outputs: a [`Replay`] computes the outputs again. The contents of commands
//! and snapshots are left out unless [`RecorderConfig::contents`] asks for them. Their lengths and
//! digests are kept, and the core asks for no more ([`Command`](crate::Command)).
//!
//! # What a directory holds
//!
//! One file for each segment: `node-ID-RUN-SEGMENT.rec`, where `RUN` says when the process started.
//! A segment begins with a whole state, so that the oldest segments can be removed: a recording is
//! a ring of [`RecorderConfig::bytes_max`] bytes.
//!
//! ```text
//! file    = "RAFTREC\n", version (u16), frame*
//! frame   = length of the payload (u32), CRC-32 of the payload (u32), payload
//! payload = 0, header            which node, which run, which segment
//!         | 1, config, restored, random numbers       the node started with this
//!         | 2, state             the state before the next input
//!         | 3, number of the first input, input*
//! ```
//!
//! Fixed numbers are little-endian. What is inside of a payload is told in the modules `checkpoint`
//! and `input`; it means something to the version that wrote it, which the file's beginning names.
//! The first payload is a header, the second is 1 or 2, and all others are 3. A tail that is torn
//! or damaged is found by its checksum, and ends the segment.
//!
//! # When it is written
//!
//! The loop fills a buffer in memory. A thread of the recorder writes buffers to the files, so the
//! loop waits for no disk. A buffer leaves when it is full, 100 ms after the last one, when the
//! node loses its leadership, when [`flush_recording`](crate::host::Handle::flush_recording) asks,
//! and when the node ends or panics. If the thread falls behind by more than [`QUEUE_MAX`] buffers,
//! inputs are left out, and a new segment begins behind the gap.
//!
//! With [`RecorderConfig::write_ahead`] the loop writes its inputs itself, before anyone sees what
//! follows from them. Then the recording of a process that was killed lacks nothing that its peers
//! have seen, at the cost of a system call for each turn of the loop.

mod command;
mod files;
mod input;
mod random;
mod reader;
mod replay;
mod tape;

use std::path::PathBuf;

pub use command::RecordedCommand;
pub use input::Input;
pub(crate) use random::Random;
pub use random::RecordedRandom;
pub use reader::{ReadingError, Recording, Segment, read_dir, read_files};
pub use replay::{Difference, Event, Replay, ReplayError};
pub(crate) use tape::{Flusher, Tape};

/// The version of the format. It changes with every change of the core's state or inputs, because
/// a state of another version cannot go on here.
pub const VERSION: u16 = 1;

/// The most buffers that wait to be written.
pub const QUEUE_MAX: usize = 64;

const MAGIC: &[u8; 8] = b"RAFTREC\n";

/// What is recorded, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecorderConfig {
    /// The directory of the recordings. It is created if it does not exist. Several nodes may share
    /// it.
    pub dir: PathBuf,
    /// The most bytes of this node's recordings: the oldest segments are removed. A state that is
    /// larger than this is recorded all the same.
    pub bytes_max: u64,
    /// Whether commands and snapshots are recorded with their contents. Without it only their
    /// lengths and digests are.
    pub contents: bool,
    /// Whether the loop writes the inputs before anyone sees what follows from them. For tests that
    /// kill processes.
    pub write_ahead: bool,
}

impl RecorderConfig {
    /// Recordings in this directory, of at most 256 MiB, without contents, written by a thread.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), bytes_max: 256 << 20, contents: false, write_ahead: false }
    }
}
