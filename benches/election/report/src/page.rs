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
    table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}\
    td,th{border:1px solid #ccc;padding:3px 8px;text-align:left;white-space:nowrap}\
    th{background:#f3f3f3}svg{max-width:100%;height:auto}.no{color:#b00;font-weight:bold}.yes{color:#070}";

/// The whole page.
pub(crate) fn html(machine: &str, plots: &[Plot], tables: &[Table]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Election report</title>\
         <style>{STYLE}</style></head><body>\n<h1>Election report</h1>\n<p>{}</p>\n",
        escape(machine)
    );
    let (first, rest) = tables.split_at(tables.len().min(1));
    first.iter().for_each(|table| add_table(&mut page, table));
    for plot in plots {
        // A string takes everything.
        let _ =
            write!(page, "<h2 id=\"{}\">{}</h2>\n{}\n", plot.name, escape(plot.about), plot.svg);
    }
    rest.iter().for_each(|table| add_table(&mut page, table));
    page + "</body></html>\n"
}

fn add_table(page: &mut String, table: &Table) {
    let head: String = table.head.iter().map(|cell| format!("<th>{}</th>", escape(cell))).collect();
    // A string takes everything.
    let _ = write!(page, "<h2>{}</h2>\n<table><tr>{head}</tr>\n", escape(&table.title));
    for row in &table.rows {
        let cells: String = row.iter().map(|cell| data(cell)).collect();
        let _ = writeln!(page, "<tr>{cells}</tr>");
    }
    page.push_str("</table>\n");
}

fn data(cell: &str) -> String {
    match cell {
        "yes" | "no" => format!("<td class=\"{cell}\">{cell}</td>"),
        _ => format!("<td>{}</td>", escape(cell)),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
