//! What was measured, as lines of a file that further runs add to: a contest can be held in pieces.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

const HEAD: &str = "group,contestant,cell,round,measure,value,date";

/// One figure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) group: String,
    /// Its [id](crate::contestants::Contestant::id), or what floor it is.
    pub(crate) contestant: String,
    /// The number of clients, or fault and timeouts.
    pub(crate) cell: String,
    pub(crate) round: usize,
    pub(crate) measure: String,
    pub(crate) value: String,
    pub(crate) date: String,
}

/// All figures of a folder.
#[derive(Default, Debug)]
pub(crate) struct Results {
    rows: Vec<Row>,
    /// What this run has measured, so that it replaces what was measured before.
    fresh: BTreeSet<(String, String, String)>,
    date: String,
}

impl Results {
    /// Reads what earlier runs left, if there were any.
    pub(crate) fn read(path: &Path, date: String) -> io::Result<Self> {
        if !path.exists() {
            return Ok(Self { date, ..Self::default() });
        }
        let text = fs::read_to_string(path)?;
        let rows = text.lines().skip(1).map(|line| {
            parse(line).ok_or_else(|| {
                let text =
                    format!("{} has a line that is not of a contest: {line}", path.display());
                io::Error::other(text)
            })
        });
        Ok(Self { rows: rows.collect::<Result<_, _>>()?, fresh: BTreeSet::new(), date })
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let lines = self.rows.iter().map(|row| {
            let Row { group, contestant, cell, round, measure, value, date } = row;
            format!("{group},{contestant},{cell},{round},{measure},{value},{date}\n")
        });
        fs::write(path, format!("{HEAD}\n{}", lines.collect::<String>()))
    }

    /// Adds a figure. The first of its cell in this run takes the place of older ones.
    pub(crate) fn add(
        &mut self,
        [group, contestant, cell]: [&str; 3],
        round: usize,
        measure: &str,
        value: impl ToString,
    ) {
        let key = (group.to_owned(), contestant.to_owned(), cell.to_owned());
        if self.fresh.insert(key) {
            self.rows.retain(|row| {
                (&*row.group, &*row.contestant, &*row.cell) != (group, contestant, cell)
            });
        }
        self.rows.push(Row {
            group: group.into(),
            contestant: contestant.into(),
            cell: cell.into(),
            round,
            measure: measure.into(),
            value: value.to_string().replace([',', '\n'], ";"),
            date: self.date.clone(),
        });
    }

    pub(crate) fn group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.group == group)
    }

    /// All values of a measure, ascending.
    pub(crate) fn values(&self, [group, contestant, cell]: [&str; 3], measure: &str) -> Vec<f64> {
        let rows = self.group(group).filter(|row| {
            (&*row.contestant, &*row.cell, &*row.measure) == (contestant, cell, measure)
        });
        let mut values: Vec<f64> = rows.filter_map(|row| row.value.parse().ok()).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median over rounds.
    pub(crate) fn median(&self, key: [&str; 3], measure: &str) -> Option<f64> {
        median(&self.values(key, measure))
    }

    /// The cells of a group, in the order of their measurement, each once.
    pub(crate) fn cells(&self, group: &str) -> Vec<String> {
        let mut cells = Vec::new();
        for row in self.group(group) {
            if !cells.contains(&row.cell) {
                cells.push(row.cell.clone());
            }
        }
        cells
    }

    /// The days on which rows were measured.
    pub(crate) fn dates(&self) -> Vec<&str> {
        let dates: BTreeSet<_> = self.rows.iter().map(|row| row.date.as_str()).collect();
        dates.into_iter().collect()
    }
}

/// Of an ascending sample; of two in the middle their mean.
pub(crate) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    let lower = if sorted.len().is_multiple_of(2) { sorted.get(middle - 1)? } else { upper };
    Some(f64::midpoint(*lower, *upper))
}

fn parse(line: &str) -> Option<Row> {
    let fields: Vec<_> = line.split(',').collect();
    let [group, contestant, cell, round, measure, value, date] = fields[..] else { return None };
    Some(Row {
        group: group.into(),
        contestant: contestant.into(),
        cell: cell.into(),
        round: round.parse().ok()?,
        measure: measure.into(),
        value: value.into(),
        date: date.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: [&str; 3] = ["load", "etcd", "16"];

    #[test]
    fn a_later_run_replaces_the_cells_that_it_measures_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let mut first = Results::read(&path, "2026-01-01".into()).unwrap();
        first.add(CELL, 0, "writes_s", 100);
        first.add(CELL, 1, "writes_s", 200);
        first.add(["load", "etcd", "1"], 0, "writes_s", 7);
        first.add(["version", "etcd", ""], 0, "version", "3.4, by Debian");
        first.write(&path).unwrap();
        let mut second = Results::read(&path, "2026-01-02".into()).unwrap();
        assert_eq!(second.values(CELL, "writes_s"), [100.0, 200.0]);
        assert_eq!(second.median(CELL, "writes_s"), Some(150.0));
        second.add(CELL, 0, "writes_s", 300);
        second.add(CELL, 1, "writes_s", 400);
        assert_eq!(second.values(CELL, "writes_s"), [300.0, 400.0]);
        assert_eq!(second.values(["load", "etcd", "1"], "writes_s"), [7.0]);
        assert_eq!(second.dates(), ["2026-01-01", "2026-01-02"]);
        assert_eq!(second.group("version").next().unwrap().value, "3.4; by Debian");
    }

    #[test]
    fn a_strange_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        fs::write(&path, "head\nload,etcd\n").unwrap();
        assert!(Results::read(&path, String::new()).is_err());
    }
}
