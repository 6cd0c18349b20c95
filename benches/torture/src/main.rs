//! Torture of real processes: one command with a duration and a seed.
//!
//! ```text
//! cargo run --release -p torture -- --seconds 60 --seed 1 --runtime mixed
//! ```
//!
//! The same program is the servers, by `serve`.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|command| command == "serve") {
        return kv::program::main(&kv_mixed::RUNTIMES);
    }
    torture::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("torture: only on Linux, whose signals, limits and network namespaces it uses");
    ExitCode::FAILURE
}
