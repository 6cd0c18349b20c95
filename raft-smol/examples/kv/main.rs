//! A key-value store that speaks the Redis protocol: a demonstration without arguments, a server with `serve`.
//!
//! ```text
//! cargo run --release -p raft-smol --example kv
//! cargo run --release -p raft-smol --example kv -- --help
//! cargo run --release -p raft-smol --example kv --features async-std
//! ```
//!
//! The last runs on async-std. Here are the sockets and the waiting. What knows no runtime is in the package `kv`: the store, the
//! protocol, what may be tried again, the command line and the demonstration.

mod serve;

use std::process::ExitCode;

use kv::program::{self, Runtime};
use raft_smol::on;

#[cfg(feature = "async-std")]
const RUNTIME: Runtime = Runtime { name: "async-std", serve: serve::serve::<on::AsyncStd> };
#[cfg(not(feature = "async-std"))]
const RUNTIME: Runtime = Runtime { name: "smol", serve: serve::serve::<on::Smol> };

fn main() -> ExitCode {
    program::main(&[RUNTIME])
}
