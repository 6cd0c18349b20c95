//! A moment of a run.

use serde::{Deserialize, Serialize};

/// A place in a run: every event up to the number has happened, and this is the time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Debug)]
pub struct Position {
    /// Microseconds of virtual time.
    pub micros: u64,
    /// Events so far.
    pub events: u64,
}
