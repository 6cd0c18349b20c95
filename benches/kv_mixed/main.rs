//! The example `kv` of all adapters in one program: the demonstration with a server on each of three runtimes, or a server on the one
//! that `--runtime` names.
//!
//! ```text
//! cargo run --release -p benches --example kv_mixed
//! cargo run --release -p benches --example kv_mixed -- serve --runtime=async-std --id=1 ...
//! ```
//!
//! Servers of the adapters' own examples are the same, and form clusters with these.

#[path = "../../raft-smol/examples/kv/serve.rs"]
mod on_smol;
#[path = "../../raft-threads/examples/kv/serve.rs"]
mod on_threads;
#[path = "../../raft-tokio/examples/kv/serve.rs"]
mod on_tokio;

use std::process::ExitCode;

use benches::kv::program::{self, Runtime};
use raft_smol::on::{AsyncStd, Smol};

fn main() -> ExitCode {
    program::main(&[
        Runtime { name: "tokio", serve: on_tokio::serve },
        Runtime { name: "smol", serve: on_smol::serve::<Smol> },
        Runtime { name: "threads", serve: on_threads::serve },
        Runtime { name: "async-std", serve: on_smol::serve::<AsyncStd> },
    ])
}
