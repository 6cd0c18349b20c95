//! The example `kv` of all adapters in one program: the demonstration with a server on each of
//! three runtimes, or a server on the one that `--runtime` names.
//!
//! ```text
//! cargo run --release -p kv_mixed
//! cargo run --release -p kv_mixed -- serve --runtime=async-std --id=1 ...
//! ```
//!
//! Servers of the adapters' own examples are the same, and form clusters with these.

use std::process::ExitCode;

use kv::program;
use kv_mixed::RUNTIMES;

fn main() -> ExitCode {
    program::main(&RUNTIMES)
}
