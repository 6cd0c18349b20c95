//! Runs three nodes for a moment, has them lose their leader once, and leaves their recordings in a
//! folder: something to drop into the page.
//!
//! ```text
//! cargo run -p viewer --example record -- DIR
//! ```

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;

/// Records three nodes that lose their leader once.
#[derive(Parser)]
struct Options {
    /// The folder of the recordings.
    dir: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Options { dir } = Options::parse();
    failover::record(&dir)
}
