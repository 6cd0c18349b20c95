//! Plays a script, and tells its story where it fails.

use std::cell::RefCell;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};

use crate::Told;
use crate::script::{Line, Script};
use crate::stage::Stage;
use crate::tell;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics are kept for the story instead of printed where they happen.
pub fn keep_panics() {
    panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
}

/// Plays a script to its end.
pub fn play(script: &Script) -> Told {
    let mut stage = Stage::default();
    let mut story = String::new();
    for line in &script.lines {
        let told = run(line, &mut stage);
        let _ = writeln!(story, "{:5}  {}", line.number, line.text);
        for event in stage.events.drain(..) {
            let _ = writeln!(story, "           {event}");
        }
        if let Err(error) = told {
            let place = format!("{}:{}", script.path.display(), line.number);
            let state = describe(&stage);
            return Err(format!("\n{story}\n{place}: {}\n    {error}\n\n{state}", line.text));
        }
    }
    if std::env::var_os("SCENARIO_STORY").is_some() {
        println!("\n{}\n{story}\n{}", script.path.display(), describe(&stage));
    }
    Ok(())
}

/// A panic of the core fails the line like anything else.
pub fn run(line: &Line, stage: &mut Stage) -> Told {
    let told = panic::catch_unwind(AssertUnwindSafe(|| line.step.run(stage)));
    told.unwrap_or_else(|_| Err(PANIC.take().unwrap_or_else(|| "a panic".into())))
}

fn describe(stage: &Stage) -> String {
    let servers = stage.hosts.values().map(|host| format!("    {}\n", host.describe()));
    let in_flight =
        stage.in_flight.iter().map(|m| format!("    in flight: {}\n", tell::message(m)));
    servers.chain(in_flight).collect()
}
