//! The tables: for the terminal, Markdown, and the page.

use crate::contestants::{ALL, Contestant, Timing};
use crate::faults::{Fault, GAP_MAX};
use crate::results::{Results, median};

pub(crate) fn timing_name(timing: Timing) -> &'static str {
    match timing {
        Timing::Default => "default",
        Timing::Equal => "equal",
    }
}

/// A table, each cell with whether it is the best of its column.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) about: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<(String, bool)>>,
}

impl Table {
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let about = if self.about.is_empty() { "" } else { "\n\n" };
        let mut text = format!("## {}\n\n{}{about}", self.title, self.about);
        text += &line(self.head.clone());
        text += &line(self.head.iter().map(|_| "---".into()).collect());
        for row in &self.rows {
            let cells = row.iter().map(
                |(cell, is_best)| {
                    if *is_best { format!("**{cell}**") } else { cell.clone() }
                },
            );
            text += &line(cells.collect());
        }
        text
    }

    fn print(&self) {
        let marked = |(cell, is_best): &(String, bool)| {
            if *is_best { format!("{cell} *") } else { cell.clone() }
        };
        let rows = self.rows.iter().map(|row| row.iter().map(marked).collect::<Vec<_>>());
        let all: Vec<_> = [self.head.clone()].into_iter().chain(rows).collect();
        let width = |column: usize| {
            let cells = all.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        println!("\n{}\n{}\n", self.title, self.about);
        for row in &all {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let space = " ".repeat(width(column) - cell.chars().count());
                // Names to the left, figures to the right.
                if column == 0 { format!("{cell}{space}") } else { format!("{space}{cell}") }
            });
            println!("{}", cells.collect::<Vec<_>>().join("   ").trim_end());
        }
    }
}

pub(crate) fn print(results: &Results) {
    println!("The best of each column is marked with *. {REFERENCES}");
    all(results).iter().filter(|table| !table.rows.is_empty()).for_each(Table::print);
}

pub(crate) const REFERENCES: &str = "NATS acknowledges before a write is on any disk, and Redis has no replicas: they are shown for \
     comparison and win nothing.";

/// All tables that have something to show.
pub(crate) fn all(results: &Results) -> Vec<Table> {
    let mut tables = vec![
        load(
            results,
            "Writes a second, by the number of clients",
            &format!("Medians of {}. More is better.", turns(results)),
            "writes_s",
            true,
            thousands,
        ),
        load(
            results,
            "Latency, p50, in microseconds",
            &format!("Medians of {}. Less is better, here and below.", turns(results)),
            "p50_us",
            false,
            thousands,
        ),
        load(results, "Latency, p99, in microseconds", "", "p99_us", false, thousands),
        load(results, "Latency, p99.9, in microseconds", "", "p999_us", false, thousands),
    ];
    for timing in [Timing::Default, Timing::Equal] {
        tables.push(faults(results, timing));
    }
    tables.push(syncs(results));
    tables.push(load(
        results,
        "Processor time of a write, all servers together, in microseconds",
        "From the kernel's table, in hundredths of a second.",
        "servers_cpu_us",
        false,
        thousands,
    ));
    tables.push(load(
        results,
        "Processor time of a write, the clients' own, in microseconds",
        "What the measuring itself costs on the same processors. It is no merit: nobody is marked.",
        "clients_cpu_us",
        false,
        thousands,
    ));
    if let Some(last) = tables.last_mut() {
        last.rows.iter_mut().flatten().for_each(|(_, is_best)| *is_best = false);
    }
    tables.push(floors(results));
    tables.push(versions(results));
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// A figure without decimals, its thousands set apart.
pub(crate) fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let first = (digits.len() + 2) % 3 + 1;
    let (first, rest) = digits.split_at(first.min(digits.len()));
    let rest = rest.as_bytes().chunks(3).map(String::from_utf8_lossy);
    rest.fold(first.to_owned(), |text, group| text + "," + &group)
}

/// How many turns the cells of the load had.
pub(crate) fn turns(results: &Results) -> String {
    let mut counts: Vec<_> = ALL
        .into_iter()
        .flat_map(|contestant| {
            let cells = results.cells("load").into_iter();
            cells.map(move |cell| (contestant, cell))
        })
        .map(|(contestant, cell)| results.values(["load", contestant.id, &cell], "writes_s").len())
        .filter(|count| *count > 0)
        .collect();
    counts.sort_unstable();
    match (counts.first(), counts.last()) {
        (Some(1), Some(1)) => "one turn, so without a spread".into(),
        (Some(least), Some(most)) if least == most => format!("{most} turns"),
        (Some(least), Some(most)) => format!("{least} to {most} turns"),
        _ => "the turns".into(),
    }
}

pub(crate) fn client_counts(results: &Results) -> Vec<usize> {
    let mut clients: Vec<usize> =
        results.cells("load").iter().filter_map(|cell| cell.parse().ok()).collect();
    clients.sort_unstable();
    clients
}

fn load(
    results: &Results,
    title: &str,
    about: &str,
    measure: &str,
    is_more_better: bool,
    format: fn(f64) -> String,
) -> Table {
    let clients = client_counts(results);
    let columns: Vec<_> = clients.iter().map(ToString::to_string).collect();
    let value = |contestant: Contestant, column: usize| {
        results.median(["load", contestant.id, &columns[column]], measure)
    };
    let head = clients.iter().map(|clients| match clients {
        1 => "1 client".to_owned(),
        clients => format!("{clients} clients"),
    });
    Table {
        title: title.into(),
        about: about.into(),
        head: ["".into()].into_iter().chain(head).collect(),
        rows: rows(columns.len(), is_more_better, value, format),
    }
}

/// A row for each contestant with a value, the best of each column marked.
fn rows(
    columns: usize,
    is_more_better: bool,
    value: impl Fn(Contestant, usize) -> Option<f64>,
    format: impl Fn(f64) -> String,
) -> Vec<Vec<(String, bool)>> {
    let best = |column: usize| {
        let able = ALL.into_iter().filter(|contestant| !contestant.is_reference);
        let values = able.filter_map(|contestant| value(contestant, column));
        values.reduce(if is_more_better { f64::max } else { f64::min })
    };
    let bests: Vec<_> = (0..columns).map(best).collect();
    let mut rows = Vec::new();
    for contestant in ALL {
        let values: Vec<_> = (0..columns).map(|column| value(contestant, column)).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let cells = values.iter().zip(&bests).map(|(value, best)| {
            let is_best = value.is_some() && value == best && !contestant.is_reference;
            (value.map_or_else(|| "-".to_owned(), &format), is_best)
        });
        rows.push([(contestant.name.to_owned(), false)].into_iter().chain(cells).collect());
    }
    rows
}

/// The gaps of all trials of a fault, ascending.
pub(crate) fn gaps(results: &Results, id: &str, fault: Fault, timing: Timing) -> Vec<f64> {
    let cell = format!("{} {}", fault.name(), timing_name(timing));
    results.values(["fault", id, &cell], "gap_ms")
}

/// What a fault is called where people read.
pub(crate) fn fault_title(fault: Fault) -> &'static str {
    match fault {
        Fault::Sigkill => "SIGKILL",
        Fault::Sigstop => "SIGSTOP",
        Fault::Cut => "Cut link",
        Fault::Sigterm => "SIGTERM",
    }
}

fn faults(results: &Results, timing: Timing) -> Table {
    let value = |contestant: Contestant, column: usize| {
        median(&gaps(results, contestant.id, Fault::ALL[column], timing))
    };
    let mut rows = rows(Fault::ALL.len(), false, value, thousands);
    for row in &mut rows {
        let contestant = ALL.into_iter().find(|contestant| contestant.name == row[0].0);
        for (fault, cell) in Fault::ALL.into_iter().zip(&mut row[1..]) {
            let gaps = contestant.map(|contestant| gaps(results, contestant.id, fault, timing));
            if let Some(most) = gaps.and_then(|gaps| gaps.last().copied()) {
                cell.0 += &format!(" / {}", thousands(most));
            }
        }
    }
    let head = Fault::ALL.into_iter().map(|fault| fault_title(fault).to_owned());
    let trials = results.cells("fault").into_iter().flat_map(|cell| {
        let of =
            ALL.map(|contestant| results.values(["fault", contestant.id, &cell], "gap_ms").len());
        of.into_iter().filter(|trials| *trials > 0)
    });
    let trials: Vec<_> = trials.collect();
    let trials = match (trials.iter().min(), trials.iter().max()) {
        (Some(least), Some(most)) if least == most => format!("{most} trials each"),
        (Some(least), Some(most)) => format!("{least} to {most} trials each"),
        _ => String::new(),
    };
    let timeouts = match timing {
        Timing::Default => "each contestant's own timeouts",
        Timing::Equal => "timeouts of 150 to 300 ms, heartbeats of 30 ms",
    };
    Table {
        title: format!(
            "The longest time without a write when the leader fails, {} timeouts",
            timing_name(timing)
        ),
        about: format!(
            "In milliseconds, median / longest; {timeouts}; {trials}; 12 clients. A trial ends after {} s \
             without a write.",
            GAP_MAX.as_secs()
        ),
        head: ["".into()].into_iter().chain(head).collect(),
        rows,
    }
}

fn syncs(results: &Results) -> Table {
    let columns = results.cells("syncs");
    let value = |contestant: Contestant, column: usize| {
        results.median(["syncs", contestant.id, &columns[column]], "per_write")
    };
    let mut rows = rows(columns.len(), false, value, |value| format!("{value:.2}"));
    // Few syncs may be good batching or a weak promise.
    rows.iter_mut().flatten().for_each(|(_, is_best)| *is_best = false);
    let head = columns.iter().map(|clients| format!("clients: {clients}"));
    Table {
        title: "Syncs to a disk for each acknowledged write, all servers together".into(),
        about:
            "Counted by `strace -c`, which slows everybody down. With one client, a write that is \
                durable on three servers takes three; less than two is no promise."
                .into(),
        head: ["".into()].into_iter().chain(head).collect(),
        rows,
    }
}

fn floors(results: &Results) -> Table {
    let mut rows = Vec::new();
    for cell in results.cells("floor") {
        let names: Vec<_> = results
            .group("floor")
            .filter(|row| row.cell == cell && row.measure == "p50_us")
            .map(|row| row.contestant.clone())
            .collect();
        for name in names {
            let key = ["floor", name.as_str(), cell.as_str()];
            let figure = |measure| {
                let value = results.median(key, measure).unwrap_or_default();
                (thousands(value), false)
            };
            let clients = (cell.replace(' ', ", "), false);
            rows.push(vec![(name.clone(), false), figure("p50_us"), figure("p99_us"), clients]);
        }
    }
    Table {
        title: "Floors, in microseconds".into(),
        about: "A message of 64 bytes there and back on the loopback; 64 bytes written and synced by \
                fdatasync, to a file that grows and to one that is allocated. A write of one client \
                takes at least two round trips and one fdatasync. Measured in the same call as the cells \
                with so many clients."
            .into(),
        head: ["", "p50", "p99", "measured with the clients"].map(str::to_owned).to_vec(),
        rows,
    }
}

fn versions(results: &Results) -> Table {
    let rows = results.group("version").map(|row| {
        let name = Contestant::find(&row.contestant).map_or("", |contestant| contestant.name);
        [name, &row.value, &row.date].map(|text| (text.to_owned(), false)).to_vec()
    });
    let mut rows: Vec<Vec<_>> = rows.collect();
    rows.sort_by_key(|row| ALL.iter().position(|contestant| contestant.name == row[0].0));
    Table {
        title: "Versions and default timeouts".into(),
        about: String::new(),
        head: ["", "version", "measured last"].map(str::to_owned).to_vec(),
        rows,
    }
}
