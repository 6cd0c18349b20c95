//! The report as one page that needs nothing else.

use std::fmt::Write;

use crate::tables::Table;

/// A plot, and what it shows.
pub(crate) struct Plot {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) svg: String,
}

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}\
    h1{font-size:1.7em}h2{font-size:1.15em;line-height:1.3;margin-top:2em}\
    .conclusion{font-size:1.1em}.how{color:#555;font-size:14px}code{font-size:.92em;overflow-wrap:anywhere}\
    figure{margin:1em 0;overflow-x:auto}svg{min-width:720px;max-width:100%;height:auto}\
    table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}\
    td,th{border:1px solid #ccc;padding:3px 8px;text-align:left;white-space:nowrap}\
    td.long{white-space:normal;min-width:16em}\
    th{background:#f3f3f3}.no{color:#b00;font-weight:bold}.yes{color:#070}";

/// Cells with more characters than this are wrapped.
const CELL_MAX: usize = 60;

/// The whole page.
pub(crate) fn html(conclusion: &str, machine: &str, plots: &[Plot], tables: &[Table]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Election report</title>\
         <style>{STYLE}</style></head><body>\n<h1>Election report</h1>\n<p class=\"conclusion\">{}</p>\n\
         <p class=\"how\">{}</p>\n",
        text(conclusion),
        text(machine)
    );
    let (first, rest) = tables.split_at(tables.len().min(1));
    first.iter().for_each(|table| add_table(&mut page, table));
    for plot in plots {
        let (name, about) = (plot.name, text(plot.about));
        // A string takes everything.
        let _ = write!(
            page,
            "<h2 id=\"{name}\">{about}</h2>\n<figure>{}</figure>\n",
            plot.svg.trim_end()
        );
    }
    rest.iter().for_each(|table| add_table(&mut page, table));
    page + "</body></html>\n"
}

fn add_table(page: &mut String, table: &Table) {
    let head: String = table.head.iter().map(|cell| format!("<th>{}</th>", text(cell))).collect();
    // A string takes everything.
    let _ = write!(page, "<h2>{}</h2>\n<table><tr>{head}</tr>\n", text(&table.title));
    for row in &table.rows {
        let cells: String = row.iter().map(|cell| data(cell)).collect();
        let _ = writeln!(page, "<tr>{cells}</tr>");
    }
    page.push_str("</table>\n");
}

fn data(cell: &str) -> String {
    match cell {
        "yes" | "no" => format!("<td class=\"{cell}\">{cell}</td>"),
        _ if cell.chars().count() > CELL_MAX => format!("<td class=\"long\">{}</td>", text(cell)),
        _ => format!("<td>{}</td>", text(cell)),
    }
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
    use super::text;

    #[test]
    fn code_is_marked_and_nothing_is_taken_for_a_tag() {
        assert_eq!(text("S < E, with `run -- <n>` & so on"), {
            "S &lt; E, with <code>run -- &lt;n&gt;</code> &amp; so on"
        });
    }
}
