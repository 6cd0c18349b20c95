//! Figures as rows, for Markdown, CSV and the page alike.

use std::time::Duration;

use election::{Failure, Link, Outcome, Sample, Setting, Timing};

use crate::cells::Cell;
use crate::paper::{RANDOMNESS, SCALING};
use crate::simulated::{Figure, Simulated};

/// A table with a heading.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) title: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(name: &'static str, title: impl Into<String>, head: &[&str]) -> Self {
        let head = head.iter().map(ToString::to_string).collect();
        Self { name, title: title.into(), head, rows: vec![] }
    }

    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = vec!["---".to_string(); self.head.len()];
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("## {}\n\n{}{}{rows}", self.title, line(&self.head), line(&rule))
    }

    pub(crate) fn csv(&self) -> String {
        let cell = |cell: &String| {
            if cell.contains([',', '"', '\n']) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell.clone()
            }
        };
        let line =
            |cells: &Vec<String>| cells.iter().map(cell).collect::<Vec<_>>().join(",") + "\n";
        line(&self.head) + &self.rows.iter().map(line).collect::<String>()
    }
}

/// Every cell that was measured, taken apart.
pub(crate) fn trials(cells: &[Cell]) -> Table {
    let mut table = Table::new(
        "trials",
        "Trials on real runtimes: p50 / p90 / p99 / maximum, in milliseconds",
        &[
            "failure",
            "N",
            "timeouts",
            "on",
            "runtime",
            "trials",
            "without a leader",
            "mean",
            "detection D",
            "slop S",
            "election E",
            "S + E",
            "split",
            "messages",
            "bytes",
        ],
    );
    for cell in cells {
        let setting = cell.setting;
        let four = |figure| four(&cell.sample(figure));
        let counted = |figure: f64, digits| match figure {
            0.0 => String::new(),
            figure => format!("{figure:.digits$}"),
        };
        table.rows.push(vec![
            setting.failure.name().into(),
            setting.servers.to_string(),
            setting.timing.to_string(),
            setting.medium(),
            cell.on.name().into(),
            cell.outcomes.len().to_string(),
            four(|outcome| outcome.downtime),
            millis(cell.downtime().mean()),
            four(|outcome| outcome.detection),
            four(|outcome| outcome.slop),
            four(|outcome| outcome.election),
            four(Outcome::slop_and_election),
            format!("{:.2} %", 100.0 * cell.splits() as f64 / cell.outcomes.len().max(1) as f64),
            counted(cell.messages(), 1),
            counted(cell.bytes(), 0),
        ]);
    }
    table
}

/// What the failures are.
pub(crate) fn failures() -> Table {
    let mut table = Table::new("failures", "What befalls the leader", &["failure", "what happens"]);
    for failure in Failure::ALL {
        table.rows.push(vec![failure.name().into(), failure.about().into()]);
    }
    table
}

/// Figure 16, ours beside the paper's.
pub(crate) fn figure_16(figures: &[Figure]) -> Table {
    let mut table = Table::new(
        "figure-16",
        "The paper's Figure 16: five servers, broadcast time 15 ms (here 1-2 ms each way and a write of 12 ms), until a new leader is elected, in milliseconds; the paper's figures in brackets",
        &["timeouts", "p50", "mean", "p99", "maximum", "split"],
    );
    for figure in figures {
        let Timing { min, max, rank_slot, .. } = figure.timing;
        let range = (min.as_millis() as u64, max.as_millis() as u64);
        let mut lines = SCALING.iter().chain(&RANDOMNESS);
        let line = lines.find(|line| rank_slot.is_none() && (line.min, line.max) == range);
        let beside = |ours: Duration, theirs: Option<f64>| match theirs {
            Some(theirs) => format!("{} ({theirs})", millis(ours)),
            None => millis(ours),
        };
        let sample = &figure.downtime;
        table.rows.push(vec![
            figure.timing.to_string(),
            beside(sample.p50(), line.map(|line| line.p50)),
            beside(sample.mean(), line.map(|line| line.mean)),
            beside(sample.p99(), line.map(|line| line.p99)),
            beside(sample.max(), line.map(|line| line.longest)),
            format!("{:.1} %", 100.0 * figure.splits as f64 / sample.len().max(1) as f64),
        ]);
    }
    table
}

/// Split ballots by the number of servers.
pub(crate) fn splits(simulated: &Simulated) -> Table {
    let mut table = Table::new(
        "splits",
        "Split first ballots, latency of 1 % of the spread, in percent",
        &["servers", "random, measured", "random, by the formula", "with ranks, measured"],
    );
    for split in &simulated.splits {
        let rates = [split.random, split.forecast, split.ranked];
        let rates = rates.map(|rate| format!("{rate:.2}"));
        table.rows.push([vec![split.servers.to_string()], rates.to_vec()].concat());
    }
    table
}

/// The stability guard.
pub(crate) fn guard(simulated: &Simulated) -> Table {
    let mut table = Table::new(
        "guard",
        "Stability guard: needless elections of five servers in simulated time at full load (1 % loss, messages of 0.2-2 ms, \
         timers up to 2 ms late, 20 ms pauses of each server every ten seconds, as often a false hint that its leader is gone, a write \
         each 20 ms)",
        &[
            "timeouts",
            "heartbeat",
            "load",
            "simulated hours",
            "needless elections an hour",
            "at most one",
        ],
    );
    for guard in &simulated.guards {
        table.rows.push(vec![
            guard.timing.to_string(),
            format!("{} ms", guard.timing.heartbeat.as_millis()),
            guard.load.into(),
            guard.hours.to_string(),
            format!("{:.2}", guard.per_hour()),
            if guard.per_hour() <= 1.0 { "yes" } else { "no" }.into(),
        ]);
    }
    table
}

/// Cells of one failure, with five servers on a perfect network.
pub(crate) fn of(cells: &[Cell], failure: Failure, timing: Timing) -> impl Iterator<Item = &Cell> {
    cells.iter().filter(move |cell| {
        let Setting { failure: its, timing: its_timing, servers, link, .. } = cell.setting;
        (its, its_timing, servers, link) == (failure, timing, 5, Link::PERFECT)
    })
}

pub(crate) fn millis(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1e3;
    if millis >= 10.0 { format!("{millis:.1}") } else { format!("{millis:.3}") }
}

fn four(sample: &Sample) -> String {
    [sample.p50(), sample.p90(), sample.p99(), sample.max()].map(millis).join(" / ")
}
