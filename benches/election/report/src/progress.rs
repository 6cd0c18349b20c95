//! How far the report is, on standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between lines where there is no terminal to write over.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Counts the parts of one step.
pub(crate) struct Progress {
    what: String,
    done: usize,
    all: usize,
    began: Instant,
    shown: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(what: impl Into<String>, all: usize) -> Self {
        let mut progress =
            Self { what: what.into(), done: 0, all, began: Instant::now(), shown: None };
        progress.advance(0);
        progress
    }

    pub(crate) fn advance(&mut self, parts: usize) {
        self.done += parts;
        let terminal = io::stderr().is_terminal();
        let due = self.shown.is_none_or(|shown| terminal || shown.elapsed() >= LINE_INTERVAL);
        let ended = self.done >= self.all;
        if due || ended {
            self.shown = Some(Instant::now());
            let (begin, end) =
                if terminal { ("\r\x1b[K", if ended { "\n" } else { "" }) } else { ("", "\n") };
            let Self { what, done, all, .. } = self;
            let seconds = self.began.elapsed().as_secs();
            // Perhaps no one reads it.
            let _ = write!(io::stderr(), "{begin}{what}: {done} of {all}, {seconds} s{end}");
        }
    }
}
