//! What the `main` of every adapter's example does.

use std::error::Error;
use std::io::{self, Read};
use std::process::ExitCode;
use std::{env, thread};

use super::demo;
use super::flags::{Command, Options, ServeOptions};

/// Runs the command line: the demonstration, with servers of this same program, or one server by `serve`, on `runtime`.
///
/// The exit code is 0 after a clean end and 1 after a failure, which is printed; wrong flags end the process with 2.
pub fn main(
    runtime: &str,
    serve: impl FnOnce(ServeOptions) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    let done = match Options::from_process().command {
        Some(Command::Serve(flags)) => {
            let options = flags.check_or_exit();
            log_to_stderr();
            serve(options)
        }
        None => demonstrate(runtime),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("kv: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Calls `ended` once standard input has ended, from a thread of its own.
pub fn when_stdin_ends(ended: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let mut chunk = [0; 64];
        // An error ends it as well.
        while io::stdin().read(&mut chunk).is_ok_and(|read| read > 0) {}
        ended();
    });
}

fn demonstrate(runtime: &str) -> Result<(), Box<dyn Error>> {
    let program = env::current_exe()?;
    Ok(demo::run(&program, runtime)?)
}

fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(tracing::Level::INFO)
        .with_target(false)
        .with_ansi(false)
        .init();
}
