//! The page: `index.html`, which needs nothing else, the plots as SVG, the tables as Markdown.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::conclusion;
use crate::plots;
use crate::results::Results;
use crate::tables::{self, REFERENCES, Table};

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;background:#fff;color:#222}\
h1{font-size:1.7em}h2{font-size:1.15em;line-height:1.3;margin-top:2em}.conclusion{font-size:1.1em}\
.how{color:#666;font-size:14px}\
table{border-collapse:collapse;font-size:14px;display:block;overflow-x:auto}\
td,th{border:1px solid #bbb;padding:3px 9px;text-align:right;white-space:nowrap}\
td:first-child,.text td{text-align:left}.text td+td{white-space:normal;min-width:9em}th{background:#f0f0f0}\
.best{font-weight:bold;background:#d5f0dd}\
figure{margin:1em 0;background:#fff;border-radius:6px;padding:4px;overflow-x:auto}\
svg{min-width:720px;max-width:100%;height:auto}\
@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}td,th{border-color:#444}\
th{background:#24272d}.how{color:#999}.best{background:#1d4a2d}}";

const HOW: &str = "Three server processes of each contestant on one machine and one disk, TCP over the \
     loopback, every write synced. The same clients for all: one connection each to the leader, one \
     write of 16 bytes at a time, all in one thread. Contestants took turns. Cells may come from several \
     calls of the program, each with its own floors; cells of one column were measured in one call unless \
     the dates below say otherwise. A cut link takes the leader's wire to the other servers out of a bridge \
     between network namespaces: nobody is told.";

/// Writes the page into the folder, and says where it is.
pub(crate) fn write(out: &Path, results: &Results) -> Result<PathBuf, Box<dyn Error>> {
    let tables = tables::all(results);
    let plots = plots::all(results)?;
    for plot in &plots {
        fs::write(out.join(plot.name).with_extension("svg"), &plot.svg)?;
    }
    let machine = results.group("machine").last().map(|row| row.value.replace(';', ","));
    let ours = results.group("version").find(|row| row.contestant.starts_with("ours"));
    // Behind the commit the version names timeouts.
    let ours = ours.and_then(|row| row.value.split("; timeouts").next());
    let preface = format!(
        "Measured on {}, on {}; {}. {HOW} The best of each column is marked. {REFERENCES}",
        results.dates().join(", "),
        machine.unwrap_or_default(),
        ours.unwrap_or("without this repository")
    );
    let conclusion = conclusion::of(results);
    let sections: Vec<_> = tables.iter().map(Table::markdown).collect();
    let sections = sections.join("\n");
    let markdown = format!("# The contest\n\n{conclusion}\n\n{preface}\n\n{sections}");
    fs::write(out.join("report.md"), markdown)?;
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>The contest</title>\
         <style>{STYLE}</style></head><body>\n<h1>The contest</h1>\n<p class=\"conclusion\">{}</p>\n\
         <p class=\"how\">{}</p>\n",
        text(&conclusion),
        text(&preface)
    );
    for plot in &plots {
        write!(html, "<h2>{}</h2>\n<figure>{}</figure>\n", text(plot.about), plot.svg)?;
    }
    for table in &tables {
        write_table(&mut html, table)?;
    }
    html += "</body></html>\n";
    let index = out.join("index.html");
    fs::write(&index, html)?;
    Ok(index)
}

fn write_table(html: &mut String, table: &Table) -> Result<(), std::fmt::Error> {
    let title = text(&table.title);
    let class = if table.title.starts_with("Versions") { " class=\"text\"" } else { "" };
    writeln!(html, "<h2>{title}</h2>")?;
    if !table.about.is_empty() {
        writeln!(html, "<p>{}</p>", text(&table.about))?;
    }
    write!(html, "<table{class}><tr>")?;
    for cell in &table.head {
        write!(html, "<th>{}</th>", text(cell))?;
    }
    html.push_str("</tr>\n");
    for row in &table.rows {
        html.push_str("<tr>");
        for (cell, is_best) in row {
            let class = if *is_best { " class=\"best\"" } else { "" };
            write!(html, "<td{class}>{}</td>", text(cell))?;
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
    Ok(())
}

/// The processor, the kernel, the file system of temporary files.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let system = read("/etc/os-release");
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let system = system.unwrap_or("Linux").trim_matches('"');
    let file_system = file_system(&std::env::temp_dir(), &read("/proc/mounts"));
    format!("{model}, {cores} cores, Linux {kernel}, {system}, journals on {file_system}")
}

/// The type of the file system that a folder is on.
fn file_system(folder: &Path, mounts: &str) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((Path::new(fields.next()?), fields.next()?))
    });
    let holding = mounts.filter(|(point, _)| folder.starts_with(point));
    let deepest = holding.max_by_key(|(point, _)| point.as_os_str().len());
    deepest.map_or("an unknown file system", |(_, name)| name).to_owned()
}

/// A text of Markdown, in which only code is marked.
fn text(markdown: &str) -> String {
    let escaped = markdown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let parts = escaped.split('`').enumerate();
    let parts = parts.map(|(place, part)| match place % 2 {
        1 => format!("<code>{part}</code>"),
        _ => part.to_owned(),
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        assert_eq!(file_system(Path::new("/tmp/x"), mounts), "tmpfs");
        assert_eq!(file_system(Path::new("/var"), mounts), "ext4");
    }
}
