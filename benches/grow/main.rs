//! A cluster of `kv` servers grows from one to three to five, and every one of them is replaced, under the load of redis-benchmark.
//! What it does is in `kv::demo::grow`.
//!
//! ```text
//! cargo run --release -p benches --example grow -- --seconds 60
//! ```
//!
//! The same program is the servers and the operator, by their commands.

#[path = "../kv_mixed/runtimes.rs"]
mod runtimes;

use std::process::ExitCode;

use kv::demo::grow;
use kv::program;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|word| !word.starts_with('-')) {
        return program::main(&runtimes::RUNTIMES);
    }
    grow::main(&runtimes::RUNTIMES)
}
