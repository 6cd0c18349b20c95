//! Says what happens while it happens: on standard output, and in a file beside the servers' logs.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// The lines of a run, each with the time since its start.
#[derive(Debug)]
pub struct Timeline {
    start: Instant,
    file: Option<File>,
}

impl Timeline {
    /// Begins now; without a file if it cannot be made.
    pub fn start(file: &Path) -> Self {
        Self { start: Instant::now(), file: File::create(file).ok() }
    }

    /// Says something.
    pub fn tell(&mut self, label: &str, text: &str) {
        let line = format!("{:8.3} s  {label:<13} {text}", self.start.elapsed().as_secs_f64());
        progress::print(&line);
        if let Some(file) = &mut self.file {
            // It was said on standard output.
            let _ = writeln!(file, "{line}");
        }
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.start
    }
}
