//! The plots, as SVG. They have a white ground of their own, so that they are legible on any.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::contestants::{ALL, Contestant, Timing};
use crate::faults::Fault;
use crate::results::{Results, median};
use crate::tables::{client_counts, fault_title, gaps, thousands};

/// A plot of the page.
pub(crate) struct Plot {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) svg: String,
}

type Drawn = Result<String, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FONT: &str = "sans-serif";
const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 440;
/// What a row of a plot of gaps takes, and what its panel takes beside the rows.
const ROW_HEIGHT: u32 = 26;
const ROWS_MARGIN: u32 = 110;
/// The least and most of an axis are so far beyond the figures.
const AIR: f64 = 1.3;

/// Told apart by the colour-blind, too (Okabe and Ito), and grey for what is shown for comparison.
fn color(contestant: Contestant) -> RGBColor {
    match contestant.id {
        "ours-tokio" => RGBColor(0, 114, 178),
        "ours-threads" => RGBColor(86, 180, 233),
        "ours-smol" => RGBColor(0, 70, 110),
        "ours-driver" => RGBColor(60, 200, 210),
        "openraft" => RGBColor(0, 158, 115),
        "raft-rs" => RGBColor(213, 94, 0),
        "etcd" => RGBColor(204, 121, 167),
        "zookeeper" => RGBColor(190, 160, 0),
        "nats" => RGBColor(120, 120, 120),
        _ => RGBColor(170, 170, 170),
    }
}

pub(crate) fn all(results: &Results) -> Result<Vec<Plot>, Box<dyn Error>> {
    let mut plots = Vec::new();
    if client_counts(results).len() > 1 {
        plots.push(Plot {
            name: "throughput",
            about: "Throughput, by the number of clients",
            svg: load(results, &[("writes a second", "writes_s")])?,
        });
        plots.push(Plot {
            name: "latency",
            about: "Latency, by the number of clients",
            svg: load(results, &[("latency, p50, µs", "p50_us"), ("latency, p99, µs", "p99_us")])?,
        });
    }
    if !results.cells("fault").is_empty() {
        plots.push(Plot {
            name: "gaps",
            about: "The longest time without a write when the leader fails",
            svg: all_gaps(results)?,
        });
    }
    Ok(plots)
}

/// A panel for each measure: a line for each contestant, its name at the right end.
fn load(results: &Results, measures: &[(&str, &str)]) -> Drawn {
    let mut svg = String::new();
    {
        let size = (WIDTH, PANEL_HEIGHT * measures.len() as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let areas = root.split_evenly((measures.len(), 1));
        for (area, (title, measure)) in areas.iter().zip(measures) {
            load_panel(area, results, title, measure)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn load_panel(
    area: &Area<'_>,
    results: &Results,
    title: &str,
    measure: &str,
) -> Result<(), Box<dyn Error>> {
    let clients = client_counts(results);
    let lines: Vec<(Contestant, Vec<(f64, f64)>)> = ALL
        .into_iter()
        .map(|contestant| {
            let points = clients.iter().filter_map(|count| {
                let key = ["load", contestant.id, &count.to_string()];
                Some((*count as f64, results.median(key, measure)?))
            });
            (contestant, points.collect())
        })
        .filter(|(_, points): &(Contestant, Vec<_>)| !points.is_empty())
        .collect();
    let values = || lines.iter().flat_map(|(_, points)| points.iter().map(|point| point.1));
    let least = values().fold(f64::INFINITY, f64::min) / AIR;
    let most = values().fold(0.0, f64::max) * AIR;
    let (first, last) = (clients[0] as f64, clients[clients.len() - 1] as f64);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{title} (both axes logarithmic)"), (FONT, 18))
        .margin(14)
        .margin_right(150)
        .x_label_area_size(46)
        .y_label_area_size(80)
        .build_cartesian_2d(
            (first * 0.9..last * 1.1)
                .log_scale()
                .with_key_points(clients.iter().map(|count| *count as f64).collect()),
            (least..most).log_scale().with_key_points(ticks(least, most)),
        )?;
    chart
        .configure_mesh()
        .x_desc("clients")
        .y_desc(title)
        .x_labels(clients.len())
        .y_labels(20)
        .max_light_lines(0)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| label(*y))
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .draw()?;
    for (contestant, points) in &lines {
        let color = color(*contestant);
        let style = color.stroke_width(if contestant.is_reference { 1 } else { 3 });
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        chart.draw_series(points.iter().map(|at| Circle::new(*at, 4, color.filled())))?;
    }
    // Names beside the ends of their lines, moved apart where lines end close together.
    let mut ends: Vec<_> = lines
        .iter()
        .filter_map(|(contestant, points)| Some((*contestant, chart.backend_coord(points.last()?))))
        .collect();
    ends.sort_by_key(|(_, (_, y))| *y);
    let mut free_from = i32::MIN;
    let origin = area.get_base_pixel();
    for (contestant, (_, y)) in ends {
        let y = y.max(free_from);
        free_from = y + 17;
        let x = WIDTH as i32 - 156;
        let style = (FONT, 14).into_font().color(&color(contestant));
        area.draw_text(contestant.name, &style, (x - origin.0, y - origin.1 - 8))?;
    }
    Ok(())
}

/// A panel for each fault and kind of timeouts; a row for each contestant, a dot for each trial.
fn all_gaps(results: &Results) -> Drawn {
    let panels: Vec<_> = [Timing::Default, Timing::Equal]
        .into_iter()
        .flat_map(|timing| Fault::ALL.map(|fault| (fault, timing)))
        .filter_map(|(fault, timing)| {
            let rows: Vec<_> = ALL
                .into_iter()
                .map(|contestant| (contestant, gaps(results, contestant.id, fault, timing)))
                .filter(|(_, gaps)| !gaps.is_empty())
                .collect();
            (!rows.is_empty()).then_some((fault, timing, rows))
        })
        .collect();
    let every = || panels.iter().flat_map(|(.., rows)| rows.iter().flat_map(|(_, gaps)| gaps));
    let least = every().copied().fold(f64::INFINITY, f64::min) / AIR;
    let most = every().copied().fold(0.0, f64::max) * AIR;
    let height = |rows: usize| rows as u32 * ROW_HEIGHT + ROWS_MARGIN;
    let total = panels.iter().map(|(.., rows)| height(rows.len())).sum();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, total)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut rest = root.clone();
        for (fault, timing, rows) in &panels {
            let (area, below) = rest.split_vertically(height(rows.len()));
            let timeouts = match timing {
                Timing::Default => "default timeouts",
                Timing::Equal => "equal timeouts, 150-300 ms",
            };
            let title = format!("{} of the leader, {timeouts}", fault_title(*fault));
            gaps_panel(&area, &title, rows, (least.max(0.1), most))?;
            rest = below;
        }
        root.present()?;
    }
    Ok(svg)
}

fn gaps_panel(
    area: &Area<'_>,
    title: &str,
    rows: &[(Contestant, Vec<f64>)],
    (least, most): (f64, f64),
) -> Result<(), Box<dyn Error>> {
    let last = rows.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 18))
        .margin(10)
        .x_label_area_size(46)
        .y_label_area_size(130)
        .build_cartesian_2d(
            (least..most).log_scale().with_key_points(ticks(least, most)),
            last - 0.5..-0.5,
        )?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc("ms without a write (logarithmic, the same in all panels); a dot for each trial, a line at the median")
        .x_labels(40)
        .max_light_lines(0)
        .x_label_formatter(&|x| label(*x))
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 14))
        .draw()?;
    for (row, (contestant, gaps)) in rows.iter().enumerate() {
        let (row, color) = (row as f64, color(*contestant));
        if let Some(middle) = median(gaps) {
            let ends = [(middle, row - 0.4), (middle, row + 0.4)];
            chart.draw_series([PathElement::new(ends, color.stroke_width(3))])?;
        }
        let dots = gaps.iter().map(|gap| Circle::new((*gap, row), 5, color.mix(0.55).filled()));
        chart.draw_series(dots)?;
        let (_, y) = chart.backend_coord(&(least, row));
        let origin = area.get_base_pixel();
        let style = (FONT, 14).into_font().color(&color);
        area.draw_text(contestant.name, &style, (10, y - origin.1 - 8))?;
    }
    Ok(())
}

/// One, two and five of each power of ten.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let powers = (-2..=7).map(|power| 10f64.powi(power));
    let ticks = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * power));
    ticks.filter(|tick| (least..most).contains(tick)).collect()
}

fn label(number: f64) -> String {
    if number >= 0.99 { thousands(number) } else { format!("{number:.2}") }
}
