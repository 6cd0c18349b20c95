//! Runs one scenario on one runtime, again if it was disturbed, and keeps the time.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use runtimes::{Mixed, Runtime, Smol, Threads, Tokio};

use crate::cluster::Stage;
use crate::network::Wire;

/// How often a scenario is tried that the machine disturbs.
const ATTEMPTS_MAX: usize = 3;

/// A story that holds on every runtime.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) wires: &'static [Wire],
    pub(crate) run: fn(Stage),
}

/// Which runtime.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Tokio,
    TokioCurrentThread,
    Smol,
    AsyncStd,
    Threads,
    Mixed,
}

impl Kind {
    pub(crate) const ALL: &[Self] = &[
        Self::Tokio,
        Self::TokioCurrentThread,
        Self::Smol,
        Self::AsyncStd,
        Self::Threads,
        Self::Mixed,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::TokioCurrentThread => "tokio_current_thread",
            Self::Smol => "smol",
            Self::AsyncStd => "async_std",
            Self::Threads => "threads",
            Self::Mixed => "mixed",
        }
    }

    fn start(self) -> Box<dyn Runtime> {
        let started = "the system has threads to give";
        match self {
            Self::Tokio => Box::new(Tokio::multi_thread().expect(started)),
            Self::TokioCurrentThread => Box::new(Tokio::current_thread().expect(started)),
            Self::Smol => Box::new(Smol::global()),
            Self::AsyncStd => Box::new(Smol::of_async_std()),
            Self::Threads => Box::new(Threads),
            Self::Mixed => {
                // The first of five nodes is the second of these, and so on; so are those of three.
                let kinds = [
                    Self::AsyncStd,
                    Self::Tokio,
                    Self::Smol,
                    Self::Threads,
                    Self::TokioCurrentThread,
                ];
                Box::new(Mixed::new(kinds.map(Self::start).into()))
            }
        }
    }
}

/// How long scenarios took.
#[derive(Clone, Default)]
pub(crate) struct Matrix {
    cells: Arc<Mutex<BTreeMap<Cell, Duration>>>,
}

/// The scenario's name, and where it ran.
type Cell = (&'static str, Wire, Kind);

impl Matrix {
    fn note(&self, scenario: &'static str, wire: Wire, kind: Kind, took: Duration) {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.insert((scenario, wire, kind), took);
    }
}

/// Milliseconds, or `-` where a scenario did not pass or did not run.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "{:52}", "milliseconds")?;
        for kind in Kind::ALL {
            write!(f, " {:>20}", kind.name())?;
        }
        writeln!(f)?;
        let mut rows: Vec<_> = cells.keys().map(|(scenario, wire, _)| (*scenario, *wire)).collect();
        rows.dedup();
        for (scenario, wire) in rows {
            write!(f, "{:52}", format!("{scenario}, {wire}"))?;
            for kind in Kind::ALL {
                match cells.get(&(scenario, wire, *kind)) {
                    Some(took) => write!(f, " {:>20}", took.as_millis())?,
                    None => write!(f, " {:>20}", "-")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// One line of the suite.
pub(crate) fn trial(scenario: &'static Scenario, wire: Wire, kind: Kind, matrix: &Matrix) -> Trial {
    let name = format!("{}::{wire}::{}", kind.name(), scenario.name);
    let matrix = matrix.clone();
    let line = name.clone();
    Trial::test(name, move || {
        let start = Instant::now();
        for attempt in 1..=ATTEMPTS_MAX {
            let stage = Stage { runtime: kind.start(), wire };
            let ended = panic::catch_unwind(AssertUnwindSafe(|| (scenario.run)(stage)));
            match ended.map_err(Box::<dyn Any + Send>::downcast::<Disturbed>) {
                Ok(()) => {
                    matrix.note(scenario.name, wire, kind, start.elapsed());
                    return Ok(());
                }
                Err(Ok(disturbed)) => println!("{line}: attempt {attempt}: {}", disturbed.0),
                Err(Err(panic)) => return Err(message(&*panic).into()),
            }
        }
        Err(Failed::from(format!("disturbed {ATTEMPTS_MAX} times, so it is no accident")))
    })
}

/// The machine, or a node, held things up for too long; one cannot tell which.
struct Disturbed(String);

/// Ends the scenario, which is tried again.
pub(crate) fn disturbed(how: impl Into<String>) -> ! {
    panic::resume_unwind(Box::new(Disturbed(how.into())))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".into())
}
