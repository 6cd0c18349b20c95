//! Measures how long clusters are without a leader, and writes a page, plots and tables about it.
//!
//! ```sh
//! cargo run --release -p election-report -- --trials 1000
//! ```
//!
//! First in virtual time, where figures are exact; then on every runtime, in turns. It writes
//! `index.html`, which needs nothing else, the plots as SVG, and the tables as CSV and Markdown.
//! Each trial is a line in the folder `raw` as soon as its turn is over: an interrupted report goes
//! on with `--resume`, and settings can be measured one by one with `--only` and put together so.
//! On Linux it also starts itself as servers, which it kills and stops.

mod cells;
mod conclusion;
mod measured;
mod page;
mod paper;
mod plots;
mod raw;
mod reprint;
mod simulated;
mod tables;
mod targets;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use clap::Parser;
use election::{On, Sample, Timing};
use progress::Progress;

use cells::Cell;
use measured::Plan;
use page::Plot;
use raw::Raw;
use simulated::{SERVERS_MAX, Simulated};

/// Measure elections, and report.
#[derive(Parser, Debug)]
#[command(version, about)]
struct Flags {
    /// How many trials for each figure.
    #[arg(long, default_value_t = 1000)]
    trials: usize,
    /// How many clusters are measured at once, where their trials mostly wait.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Only what has these words in its name, as progress shows it.
    #[arg(long, default_value = "")]
    only: String,
    /// Go on with the trials that are in the folder already.
    #[arg(long)]
    resume: bool,
    /// Measure nothing: report what the folder holds whole.
    #[arg(long, conflicts_with_all = ["only", "resume"])]
    assemble: bool,
    /// Measure nothing: make page and report anew from the report and the plots that are in the
    /// folder.
    #[arg(long, conflicts_with_all = ["only", "resume", "assemble"])]
    page: bool,
    /// How many hours each published setting is simulated at full load.
    #[arg(long, default_value_t = 10)]
    guard_hours: u64,
    /// Only what is simulated, without the runtimes.
    #[arg(long)]
    simulated_only: bool,
    /// Only the stability guard, on standard output.
    #[arg(long)]
    guard_only: bool,
    /// Where the report goes.
    #[arg(long, default_value = "target/election-report")]
    out: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    #[cfg(target_os = "linux")]
    if std::env::args().nth(1).is_some_and(|first| first == "serve") {
        return election::processes::serve(std::env::args().skip(2));
    }
    let flags = Flags::parse();
    if flags.guard_only {
        let simulated = Simulated {
            figures: vec![],
            splits: vec![],
            exact: simulated::Exact::default(),
            guards: guards(&flags),
        };
        print!("{}", tables::guard(&simulated).markdown());
        return Ok(());
    }
    if flags.page {
        let reprint::Report { machine, tables, plots } = reprint::read(&flags.out)?;
        return write_pages(&flags.out, &machine, &plots, &tables);
    }
    // Before hours of measuring, not after.
    fs::create_dir_all(&flags.out)?;
    let simulated = simulate(&flags);
    let cells = if flags.simulated_only { vec![] } else { measure(&flags)? };
    write(&flags, &simulated, &cells)
}

fn simulate(flags: &Flags) -> Simulated {
    let lines = paper::RANDOMNESS.iter().take(3).chain(&paper::SCALING);
    let paper_timing = |min, max| Timing { pre_vote: false, ..Timing::paper(min, max) };
    let mut timings: Vec<_> = lines.map(|line| paper_timing(line.min, line.max)).collect();
    timings.push(paper_timing(150, 300).ranked(Duration::from_micros(paper::BROADCAST_MS * 500)));
    let progress = Progress::of("Figure 16, virtual time", timings.len() as u64, "timeouts");
    let figures = timings.into_iter().map(|timing| {
        let figure = simulated::figure(timing, flags.trials);
        progress.advance(1);
        figure
    });
    let figures = figures.collect();
    drop(progress);

    let sizes: Vec<_> = (3..=9).chain([11, 15, 21, 31, SERVERS_MAX]).collect();
    let progress = Progress::of("split ballots, virtual time", sizes.len() as u64, "sizes");
    let splits = sizes.into_iter().map(|servers| {
        let split = simulated::split(servers, flags.trials);
        progress.advance(1);
        split
    });
    let splits = splits.collect();
    drop(progress);
    let exact = simulated::exact(flags.trials.div_ceil(100));
    Simulated { figures, splits, exact, guards: guards(flags) }
}

fn guards(flags: &Flags) -> Vec<simulated::Guard> {
    let published = simulated::published();
    let progress =
        Progress::of("stability guard, virtual time", published.len() as u64, "settings");
    let guards = published.into_iter().flat_map(|timing| {
        let guard = simulated::guard(timing, flags.guard_hours);
        progress.advance(1);
        guard
    });
    guards.collect()
}

fn measure(flags: &Flags) -> Result<Vec<Cell>, Box<dyn Error>> {
    let raw = flags.out.join("raw");
    let (trials, jobs) = (flags.trials, usize::from(flags.jobs));
    let resume = flags.resume || flags.assemble;
    let plan = Plan { trials, jobs, resume, raw: &raw };
    let mut settings = cells::settings();
    settings.retain(|setting| setting.to_string().contains(&flags.only));
    if flags.assemble {
        settings.retain(|setting| Raw::holds(&raw, setting, trials * On::ALL.len()));
    } else if settings.is_empty() {
        let names = cells::settings().iter().map(ToString::to_string).collect::<Vec<_>>();
        return Err(
            format!("nothing is called {:?}: there is\n{}", flags.only, names.join("\n")).into()
        );
    }
    let all: Duration = settings.iter().map(|setting| cells::forecast(setting, trials, jobs)).sum();
    let minutes = all.as_secs_f64() / 60.0;
    eprintln!(
        "{} settings, {trials} trials of each on every runtime: about {minutes:.0} minutes",
        settings.len()
    );
    let mut cells = Vec::new();
    let count = settings.len();
    for (setting, number) in settings.into_iter().zip(1..) {
        let what = format!("setting {number} of {count}: {setting}");
        cells.extend(measured::measure(setting, what, &plan)?);
    }
    Ok(cells)
}

/// The plots, by the names of their files, and what each shows.
const PLOTS: [(&str, &str); 5] = [
    ("figure-16", "Time without a leader, in the manner of the paper's Figure 16"),
    ("splits", "Split ballots by the number of servers"),
    ("slop-and-election", "What each runtime adds: timer lateness S, election E"),
    (
        "kill-and-silence",
        "Kill against silence: a leader that vanishes, that is killed, and that hands over",
    ),
    ("circumstances", "More servers, worse networks, and more that fails than the leader"),
];

fn write(flags: &Flags, simulated: &Simulated, cells: &[Cell]) -> Result<(), Box<dyn Error>> {
    let mut drawn = vec![plots::figure_16(&simulated.figures)?, plots::splits(&simulated.splits)?];
    let mut all = vec![
        tables::figure_16(&simulated.figures),
        tables::splits(simulated),
        tables::guard(simulated),
    ];
    if !cells.is_empty() {
        let os = measured::timer_lateness(flags.trials.min(1000));
        drawn.push(plots::slop_and_election(cells, &os)?);
        drawn.push(plots::kill_and_silence(cells)?);
        drawn.push(plots::circumstances(cells)?);
        all.insert(0, tables::failures());
        all.insert(0, tables::trials(cells));
        all.insert(0, targets::table(cells, simulated));
    }
    let machine = machine(flags, &measured::durable_write(flags.trials.min(1000))?);
    let plots = PLOTS.into_iter().zip(drawn);
    let plots = plots.map(|((name, about), svg)| Plot { name, about, svg });
    // Of settings that were left out there is nothing to show.
    let plots: Vec<_> = plots.filter(|plot| !plot.svg.is_empty()).collect();
    let out = &flags.out;
    for plot in &plots {
        fs::write(out.join(plot.name).with_extension("svg"), &plot.svg)?;
    }
    for table in &all {
        fs::write(out.join(table.name).with_extension("csv"), table.csv())?;
    }
    write_pages(out, &machine, &plots, &all)
}

/// The report as Markdown, and as a page.
fn write_pages(
    out: &Path,
    machine: &str,
    plots: &[Plot],
    tables: &[tables::Table],
) -> Result<(), Box<dyn Error>> {
    let conclusion = conclusion::of(tables);
    let sections: Vec<_> = tables.iter().map(tables::Table::markdown).collect();
    let sections = sections.join("\n");
    let markdown = format!("# Election report\n\n{conclusion}\n\n{machine}\n\n{sections}");
    fs::write(out.join("report.md"), markdown)?;
    fs::write(out.join("index.html"), page::html(&conclusion, machine, plots, tables))?;
    println!("{}", out.join("index.html").display());
    Ok(())
}

/// Where, when and how.
fn machine(flags: &Flags, durable_write: &Sample) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let date = date(now.as_secs() / 86_400);
    let commit = commit();
    let (system, trials, jobs, hours) =
        (std::env::consts::OS, flags.trials, flags.jobs, flags.guard_hours);
    let [p50, p99] = [durable_write.p50(), durable_write.p99()].map(|span| span.as_micros());
    format!(
        "Measured on {date} at {commit} on {model}, {cores} cores, {system}, load {load} at the end, with \
         `cargo run --release -p election-report -- --trials {trials} --jobs {jobs} --guard-hours {hours}`. \
         Up to {jobs} clusters ran at once, none of which started or ended a server while another's leader was gone; clusters under load and \
         with timeouts below 50 ms were measured alone. Several clusters keep a processor awake that would sleep: their medians of S + E \
         are smaller than those with `--jobs 1`. \
         W, an fdatasync of 8 bytes, took {p50} µs (p50) and {p99} µs (p99)."
    )
}

/// The commit, if git knows it.
fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let output = output.ok().filter(|output| output.status.success());
    let known = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    known.map_or_else(|| "an unknown commit".to_owned(), |commit| format!("commit {commit}"))
}

/// The day of the Gregorian calendar, from days since 1970 began.
fn date(days: u64) -> String {
    let divides = |by, year: u64| year.is_multiple_of(by);
    let is_leap = |year| divides(4, year) && (!divides(100, year) || divides(400, year));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_have_names() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_453), "2025-12-31");
    }
}
