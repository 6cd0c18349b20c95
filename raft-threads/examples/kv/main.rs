//! A key-value store that speaks the Redis protocol: a demonstration without arguments, a server with `serve`.
//!
//! ```text
//! cargo run --release -p raft-threads --example kv
//! cargo run --release -p raft-threads --example kv -- --help
//! ```
//!
//! Here are the sockets and the waiting, by threads. What knows no runtime is in the package `kv`: the store, the protocol, what may
//! be tried again, the command line and the demonstration.

mod serve;

use std::process::ExitCode;

use kv::program::{self, Runtime};

fn main() -> ExitCode {
    program::main(&[Runtime { name: "threads", serve: serve::serve }])
}
