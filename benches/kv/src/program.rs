//! What the `main` of every adapter's example does.

use std::env;
use std::error::Error;
use std::io;
use std::process::ExitCode;

use crate::admin;
use crate::backup;
use crate::demo;
use crate::flags::{Command, Options};
use crate::server::Parts;
use crate::tls;

/// A runtime that can host a server.
#[derive(Clone, Copy, Debug)]
pub struct Runtime {
    /// What people call it.
    pub name: &'static str,
    /// Runs a server until it is told to stop.
    pub serve: fn(Parts) -> Result<(), Box<dyn Error>>,
}

/// Runs the command line: the demonstration, with servers of this same program, one server by
/// `serve`, or an order of an operator. The servers of the demonstration run on the `runtimes` in
/// turn.
///
/// The exit code is 0 after a clean end and 1 after a failure, which is printed; wrong flags end
/// the process with 2.
pub fn main(runtimes: &[Runtime]) -> ExitCode {
    let done = match Options::from_process().command {
        Some(Command::Serve(flags)) => {
            let runtime = flags.runtime.clone();
            let options = flags.check_or_exit();
            log_to_stderr();
            find(runtimes, runtime.as_deref())
                .and_then(|runtime| (runtime.serve)(Parts::open(options)?))
        }
        Some(Command::Order(order)) => admin::run(order).map_err(Into::into),
        Some(Command::RestoreFromSurvivor(flags)) => {
            log_to_stderr();
            admin::restore_from_survivor(&flags).map_err(Into::into)
        }
        Some(Command::Restore(flags)) => backup::restore(&flags).map_err(Into::into),
        Some(Command::TlsCa(flags)) => tls::make(&flags).map_err(Into::into),
        None => demonstrate(runtimes),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("kv: {e}");
            ExitCode::FAILURE
        }
    }
}

fn find<'a>(runtimes: &'a [Runtime], name: Option<&str>) -> Result<&'a Runtime, Box<dyn Error>> {
    let is_meant = |runtime: &&Runtime| name.is_none_or(|name| name == runtime.name);
    runtimes.iter().find(is_meant).ok_or_else(|| {
        let names = names(runtimes).join(", ");
        format!("--runtime is none of this program's: {names}").into()
    })
}

fn demonstrate(runtimes: &[Runtime]) -> Result<(), Box<dyn Error>> {
    let program = env::current_exe()?;
    Ok(demo::run(&program, &names(runtimes))?)
}

fn names(runtimes: &[Runtime]) -> Vec<&str> {
    runtimes.iter().map(|runtime| runtime.name).collect()
}

fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(tracing::Level::INFO)
        .with_target(false)
        .with_ansi(false)
        .init();
}
