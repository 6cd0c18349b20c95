//! Runs three nodes for a moment, has them lose their leader once, and leaves their recordings in a
//! folder: something to drop into the page.
//!
//! ```text
//! cargo run -p viewer --example record -- DIR
//! ```

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("record DIR")?;
    failover::record(dir.as_ref())
}
