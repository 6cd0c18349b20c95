//! The contest: replicated stores side by side, measured alike.
//!
//! ```sh
//! cargo run --release -p contest -- --quick
//! ```
//!
//! The same program is the servers of this repository (`serve`), those of the drivers
//! (`serve-openraft`, `serve-raft-rs`), and what other programs are started through (`child`).

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod clients;
#[cfg(target_os = "linux")]
mod cluster;
#[cfg(target_os = "linux")]
mod conclusion;
#[cfg(target_os = "linux")]
mod contest;
#[cfg(target_os = "linux")]
mod contestants;
#[cfg(target_os = "linux")]
mod drivers;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod flags;
#[cfg(target_os = "linux")]
mod floors;
#[cfg(target_os = "linux")]
mod install;
#[cfg(target_os = "linux")]
mod layout;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod page;
#[cfg(target_os = "linux")]
mod plots;
#[cfg(target_os = "linux")]
mod results;
#[cfg(target_os = "linux")]
mod syncs;
#[cfg(target_os = "linux")]
mod tables;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use clap::Parser;

    let words: Vec<_> = std::env::args().skip(1).collect();
    let ended = match words.first().map(String::as_str) {
        Some("serve") => return kv::program::main(&kv_mixed::RUNTIMES),
        Some("serve-ours-driver") => {
            drivers::ours::serve(&drivers::options::Options::parse_from(&words))
        }
        Some("serve-openraft") => {
            drivers::openraft::serve(&drivers::options::Options::parse_from(&words))
        }
        Some("serve-raft-rs") => {
            drivers::raft_rs::serve(&drivers::options::Options::parse_from(&words))
        }
        Some("child") => Err(cluster::become_server(&words[1..]).into()),
        _ => contest::hold(&flags::Flags::parse()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("contest: {e}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("contest: only on Linux, whose signals and network namespaces it uses");
    ExitCode::FAILURE
}
