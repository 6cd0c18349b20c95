//! How far a long run is, on standard error: standard output holds what the run found.
//!
//! On a terminal one line is written over. Elsewhere, as in the log of a build, a plain line comes
//! every ten seconds, or every `PROGRESS_SECONDS`; with 0, none comes. A run that is over before
//! the first line is due says nothing.
//!
//! The crate `indicatif` would not replace this: it is silent where there is no terminal.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Between two drawings of the line on a terminal.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);
/// Seconds between lines where there is no terminal.
const INTERVAL_VARIABLE: &str = "PROGRESS_SECONDS";
/// The longest interval: a day.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);
/// Erases the line of a terminal and stands at its beginning.
const ERASE: &str = "\r\x1b[K";

/// Shows how far a run is, until it is dropped.
#[derive(Debug)]
pub struct Progress {
    shared: Arc<Shared>,
    drawer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    what: String,
    goal: Goal,
    done: u64,
    /// What was done before this run began, and tells nothing about its speed.
    skipped: u64,
    detail: String,
    began: Instant,
    has_ended: bool,
}

/// When a run is over.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// After so many of these.
    Parts(u64, &'static str),
    /// After this time.
    Span(Duration),
    Unknown,
}

impl Progress {
    /// A run that is over after so many parts, whose name stands behind their number.
    pub fn of(what: impl Into<String>, parts: u64, name: &'static str) -> Self {
        Self::new(what.into(), Goal::Parts(parts, name))
    }

    /// A run that is over after this time.
    pub fn span(what: impl Into<String>, span: Duration) -> Self {
        Self::new(what.into(), Goal::Span(span))
    }

    /// A run of which nobody knows how long it takes.
    pub fn unknown(what: impl Into<String>) -> Self {
        Self::new(what.into(), Goal::Unknown)
    }

    fn new(what: String, goal: Goal) -> Self {
        let state = State {
            what,
            goal,
            done: 0,
            skipped: 0,
            detail: String::new(),
            began: Instant::now(),
            has_ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), ended: Condvar::new() });
        let drawn = shared.clone();
        let drawer = interval().map(|interval| thread::spawn(move || drawn.draw(interval)));
        Self { shared, drawer }
    }

    /// So many parts more are done.
    pub fn advance(&self, parts: u64) {
        self.shared.lock().done += parts;
    }

    /// So many parts were done before this run began, by an earlier one.
    pub fn skip(&self, parts: u64) {
        let mut state = self.shared.lock();
        state.done += parts;
        state.skipped += parts;
    }

    /// So many parts are done, failures included.
    pub fn reach(&self, done: u64) {
        self.shared.lock().done = done;
    }

    /// What is being done, or what was found so far.
    pub fn detail(&self, detail: impl Into<String>) {
        self.shared.lock().detail = detail.into();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.lock().has_ended = true;
        self.shared.ended.notify_all();
        // A drawer that panicked has stopped.
        let _ = self.drawer.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, interval: Duration) {
        let mut was_drawn = false;
        loop {
            let waited = self.ended.wait_timeout_while(self.lock(), interval, |it| !it.has_ended);
            let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let (has_ended, line) = (state.has_ended, state.line(state.began.elapsed()));
            drop(state);
            // Nobody may read it.
            let _ = match (is_terminal(), has_ended) {
                // Lines longer than the terminal is wide are cut, because only one can be erased.
                (true, false) => write!(io::stderr(), "{ERASE}\x1b[?7l{line}\x1b[?7h"),
                (true, true) if was_drawn => write!(io::stderr(), "{ERASE}"),
                (false, false) => writeln!(io::stderr(), "{line}"),
                (false, true) if was_drawn => writeln!(io::stderr(), "{line}"),
                (_, true) => Ok(()),
            };
            if has_ended {
                return;
            }
            was_drawn = true;
        }
    }
}

impl State {
    fn line(&self, elapsed: Duration) -> String {
        let Self { what, goal, done, skipped, detail, .. } = self;
        let far = match *goal {
            Goal::Parts(all, name) => {
                let rest = rest(done - skipped, all.saturating_sub(*done), elapsed);
                let rest = rest.map_or_else(String::new, |rest| format!(", about {rest} left"));
                format!("{done} of {all} {name}, {}{rest}", clock(elapsed))
            }
            Goal::Span(span) => format!("{} of {}", clock(elapsed), clock(span)),
            Goal::Unknown => clock(elapsed),
        };
        let mark = if detail.is_empty() { "" } else { "; " };
        format!("{what}: {far}{mark}{detail}")
    }
}

/// How long the rest takes if it goes on as before.
fn rest(done: u64, rest: u64, elapsed: Duration) -> Option<String> {
    if done == 0 || rest == 0 {
        return None;
    }
    let seconds = elapsed.as_secs_f64() * rest as f64 / done as f64;
    Some(match seconds {
        ..100.0 => format!("{seconds:.0} s"),
        ..6000.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    })
}

fn clock(span: Duration) -> String {
    match span.as_secs_f64().round() as u64 {
        seconds @ ..100 => format!("{seconds} s"),
        seconds @ ..6000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Between two lines, if there are to be lines.
fn interval() -> Option<Duration> {
    if is_terminal() {
        return Some(DRAW_INTERVAL);
    }
    let seconds = env::var(INTERVAL_VARIABLE).ok().and_then(|text| text.parse::<f64>().ok());
    let interval = match seconds.map(Duration::try_from_secs_f64) {
        Some(Ok(interval)) => interval.min(INTERVAL_MAX),
        Some(Err(_)) | None => LINE_INTERVAL,
    };
    (!interval.is_zero()).then_some(interval)
}

fn is_terminal() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Prints a line on standard output. On a terminal it takes the place of the line of progress,
/// which is drawn again below.
pub fn print(line: impl Display) {
    let mut stderr = io::stderr().lock();
    erase(&mut stderr);
    println!("{line}");
}

/// The same on standard error.
pub fn say(line: impl Display) {
    let mut stderr = io::stderr().lock();
    erase(&mut stderr);
    // Nobody may read it.
    let _ = writeln!(stderr, "{line}");
}

fn erase(stderr: &mut impl Write) {
    if is_terminal() {
        let _ = write!(stderr, "{ERASE}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(goal: Goal, done: u64, skipped: u64) -> State {
        State {
            what: "worlds".into(),
            goal,
            done,
            skipped,
            detail: String::new(),
            began: Instant::now(),
            has_ended: false,
        }
    }

    #[test]
    fn a_line_says_what_is_done_of_how_much_and_what_is_left() {
        let line = |state: State, seconds| state.line(Duration::from_secs(seconds));
        let parts = Goal::Parts(400, "runs");
        assert_eq!(line(state(parts, 0, 0), 5), "worlds: 0 of 400 runs, 5 s");
        assert_eq!(
            line(state(parts, 100, 0), 30),
            "worlds: 100 of 400 runs, 30 s, about 90 s left"
        );
        assert_eq!(line(state(parts, 400, 0), 3725), "worlds: 400 of 400 runs, 62 min 05 s");
        assert_eq!(
            line(state(Goal::Span(Duration::from_secs(60)), 0, 0), 7),
            "worlds: 7 s of 60 s"
        );
        let found = State { detail: "3 found".into(), ..state(Goal::Unknown, 0, 0) };
        assert_eq!(line(found, 7320), "worlds: 2 h 02 min; 3 found");
    }

    #[test]
    fn what_an_earlier_run_did_tells_nothing_about_the_speed() {
        let resumed = state(Goal::Parts(400, "runs"), 300, 200);
        let line = resumed.line(Duration::from_secs(100));
        assert_eq!(line, "worlds: 300 of 400 runs, 1 min 40 s, about 2 min left");
    }
}
