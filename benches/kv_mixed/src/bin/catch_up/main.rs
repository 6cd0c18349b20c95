//! What snapshots and transfers cost: how fast a server catches up that lost its disk, or that was
//! away, and what that costs the leader, how long a transfer of leadership stalls clients, whether
//! memory stays flat.
//!
//! ```text
//! cargo run --release -p kv_mixed --bin catch_up   # 1 GiB, 512 MiB of log, 50 transfers, 10 min
//! cargo run --release -p kv_mixed --bin catch_up -- --mib 128 --log-mib 64 --memory-seconds 30
//! ```
//!
//! The same program is the servers and the operator, by their commands.

mod figures;
mod load;

use std::process::ExitCode;

use kv::program;
use kv_mixed::RUNTIMES;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|word| !word.starts_with('-')) {
        return program::main(&RUNTIMES);
    }
    figures::main()
}
