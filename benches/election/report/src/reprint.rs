//! The page anew, from the report, the tables and the plots of an earlier one: so that how it looks
//! can change without hours of measuring.

use std::fs;
use std::io;
use std::path::Path;

use crate::PLOTS;
use crate::page::Plot;
use crate::tables::Table;

/// The tables of a report, in their order. What is only simulated lacks the first ones.
const TABLES: [&str; 6] = ["targets", "trials", "failures", "figure-16", "splits", "guard"];
/// What the paragraph on the machine begins with.
const MACHINE: &str = "Measured on ";

/// A report that was written before.
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
}

/// Reads what is in this folder.
pub(crate) fn read(out: &Path) -> io::Result<Report> {
    let path = out.join("report.md");
    let strange = |what| io::Error::other(format!("{}: {what}", path.display()));
    let (machine, tables) = parse(&fs::read_to_string(&path)?).map_err(strange)?;
    let mut plots = Vec::new();
    for (name, about) in PLOTS {
        let path = out.join(name).with_extension("svg");
        if path.exists() {
            plots.push(Plot { name, about, svg: fs::read_to_string(path)? });
        }
    }
    Ok(Report { machine, tables, plots })
}

fn parse(text: &str) -> Result<(String, Vec<Table>), &'static str> {
    let machine = text.lines().find(|line| line.starts_with(MACHINE));
    let machine = machine.ok_or("it does not say where it was measured")?.to_owned();
    let sections: Vec<_> = text.split("\n## ").skip(1).collect();
    let first = TABLES.len().checked_sub(sections.len()).ok_or("it has more tables than known")?;
    let tables = TABLES[first..].iter().zip(sections);
    let tables = tables.map(|(name, section)| table(name, section).ok_or("a table has no head"));
    Ok((machine, tables.collect::<Result<_, _>>()?))
}

fn table(name: &'static str, section: &str) -> Option<Table> {
    let mut lines = section.lines();
    let title = lines.next()?.to_owned();
    let cells = |line: &str| -> Option<Vec<String>> {
        let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some(row.split(" | ").map(str::to_owned).collect())
    };
    let mut rows = lines.filter_map(cells);
    let head = rows.next()?;
    // The next row is the rule below the head.
    Some(Table { name, title, head, rows: rows.skip(1).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let mut table = Table::new("guard", "Stability guard", &["timeouts", "messages", ""]);
        table.rows.push(vec!["150-300 ms".into(), String::new(), "yes".into()]);
        let text = format!(
            "# Election report\n\nIn short.\n\nMeasured on a machine.\n\n{}",
            table.markdown()
        );
        let (machine, tables) = parse(&text).unwrap();
        assert_eq!(machine, "Measured on a machine.");
        assert_eq!(tables.len(), 1);
        assert_eq!((tables[0].name, tables[0].markdown()), ("guard", table.markdown()));
        assert!(parse("# Election report\n").is_err());
    }
}
