//! A cluster of `kv` servers grows from one to three to five, and every one of them is replaced,
//! under the load of redis-benchmark.
//!
//! ```text
//! cargo run --release -p kv_mixed --bin grow -- --seconds 60
//! ```
//!
//! The same program is the servers and the operator, by their commands.

mod benchmark;
mod grow;

use std::process::ExitCode;

use kv::program;
use kv_mixed::RUNTIMES;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|word| !word.starts_with('-')) {
        return program::main(&RUNTIMES);
    }
    grow::main(&RUNTIMES)
}
