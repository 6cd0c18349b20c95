//! What the report comes to, in two sentences made of its tables.

use crate::tables::Table;

/// The figures of a failure on every runtime: medians and 99th percentiles, in milliseconds.
struct Found {
    medians: Vec<f64>,
    tails: Vec<f64>,
}

/// Two sentences, or what the tables have of them.
pub(crate) fn of(tables: &[Table]) -> String {
    let Some(trials) = tables.iter().find(|table| table.name == "trials") else {
        return "All of this is simulated: nothing was measured on a machine.".into();
    };
    let mut sentences = Vec::new();
    if let Some(found) = find(trials, "sigkill", "tcp, fsync", "without a leader") {
        let (median, tail) = (range(&found.medians), range(&found.tails));
        sentences.push(format!(
            "After SIGKILL of the leader's process, five servers on TCP with fsynced journals have a new \
             leader in {median} ms (median) and {tail} ms (99th percentile), from the fastest runtime to \
             the slowest."
        ));
    }
    let silence = |column| find(trials, "silence", "channels, memory", column);
    if let (Some(all), Some(added)) = (silence("without a leader"), silence("S + E")) {
        let (median, tail) = (range(&all.medians), range(&all.tails));
        let (added, added_tail) = (range(&added.medians), range(&added.tails));
        sentences.push(format!(
            "If the leader only falls silent, they wait for the timeout, of 150-300 ms here: {median} ms \
             (median) and {tail} ms (99th percentile), to which the late timer and the election add \
             {added} ms (median) and {added_tail} ms (99th percentile) with journals in memory."
        ));
    }
    sentences.join(" ")
}

/// The figures of five servers with timeouts of 150-300 ms, a row for each runtime.
fn find(trials: &Table, failure: &str, on: &str, column: &str) -> Option<Found> {
    let place = |name: &str| trials.head.iter().position(|head| head == name);
    let [failures, servers, timeouts, ons, column] =
        [place("failure")?, place("N")?, place("timeouts")?, place("on")?, place(column)?];
    let rows = trials.rows.iter().filter(|row| {
        let is_long = row[timeouts].starts_with("150-300 ms, ranks");
        is_long && row[servers] == "5" && row[failures] == failure && row[ons] == on
    });
    let mut found = Found { medians: Vec::new(), tails: Vec::new() };
    for row in rows {
        // The median, two more quantiles, the maximum.
        let mut quantiles = row[column].split(" / ").map(str::parse);
        found.medians.push(quantiles.next()?.ok()?);
        found.tails.push(quantiles.nth(1)?.ok()?);
    }
    (!found.medians.is_empty()).then_some(found)
}

/// From the least to the most, with two digits that count.
fn range(figures: &[f64]) -> String {
    let [least, most] = [f64::min, f64::max].map(|pick| figures.iter().copied().reduce(pick));
    let [least, most] = [least, most].map(|figure| short(figure.unwrap_or_default()));
    if least == most { least } else { format!("{least} to {most}") }
}

fn short(figure: f64) -> String {
    match figure {
        10.0.. => format!("{figure:.0}"),
        1.0.. => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_from_the_fastest_runtime_to_the_slowest() {
        let head = ["failure", "N", "timeouts", "on", "runtime", "without a leader", "S + E"];
        let mut table = Table::new("trials", "Trials", &head);
        let mut row = |failure: &str, on: &str, gap: &str, added: &str| {
            let timeouts = "150-300 ms, ranks 5 ms apart";
            let cells = [failure, "5", timeouts, on, "any", gap, added];
            table.rows.push(cells.map(str::to_owned).to_vec());
        };
        row("sigkill", "tcp, fsync", "3.157 / 4.9 / 8.377 / 13.0", "");
        row("sigkill", "tcp, fsync", "4.111 / 6.2 / 9.899 / 13.3", "");
        row("silence", "channels, memory", "125.0 / 146 / 149.9 / 150", "0.096 / 0.2 / 0.339 / 9");
        row("silence", "tcp, fsync", "999.0 / 999 / 999 / 999", "9 / 9 / 9 / 9");
        let said = of(&[table]);
        assert!(
            said.contains("leader in 3.2 to 4.1 ms (median) and 8.4 to 9.9 ms (99th"),
            "{said}"
        );
        assert!(said.contains("here: 125 ms (median) and 150 ms (99th percentile)"), "{said}");
        assert!(
            said.contains(
                "add 0.10 ms (median) and 0.34 ms (99th percentile) with journals in memory"
            ),
            "{said}"
        );
    }
}
