//! The plots, as SVG.

use std::error::Error;
use std::time::Duration;

use election::{Failure, On, Outcome, Sample, Setting, Timing, Wire};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::cells::{Cell, FAR, LONG, LOSSY, MIDDLE, NEAR, PLAIN};
use crate::paper::{self, Line};
use crate::simulated::{Figure, Split};
use crate::tables;

type Drawn = Result<String, Box<dyn Error>>;
/// A line of rates: its name, its color, and what it shows.
type Rate = (&'static str, RGBColor, fn(&Split) -> f64);
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const FONT: &str = "sans-serif";
const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 420;

/// Beyond so many there is nothing to see; the table has them.
const SERVERS_SHOWN: usize = 15;

/// Told apart by the colour-blind, too (Okabe and Ito).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// Cumulative distributions over a logarithmic axis of time.
struct Panel {
    title: String,
    x_label: String,
    /// What is less is drawn here.
    least: f64,
    /// The axis begins here at the latest.
    from: f64,
    curves: Vec<Curve>,
    marks: Vec<Mark>,
}

struct Curve {
    name: String,
    color: RGBColor,
    /// In milliseconds, or in whatever the axis says, and in percent.
    points: Vec<(f64, f64)>,
}

/// Measured elsewhere.
struct Mark {
    color: RGBColor,
    point: (f64, f64),
}

impl Panel {
    fn range(&self) -> (f64, f64) {
        let curves = self.curves.iter().flat_map(|curve| &curve.points).map(|point| point.0);
        let all = || curves.clone().chain(self.marks.iter().map(|mark| mark.point.0));
        let least = all().fold(f64::INFINITY, f64::min).max(self.least);
        let most = all().fold(least, f64::max);
        let least = least.min(self.from);
        // The legend stands beside the curves, not on them.
        (least * 0.9, most * (most / least).powf(0.35))
    }
}

/// How long we are without a leader on the paper's network, with the paper's figures beside.
pub(crate) fn figure_16(figures: &[Figure]) -> Drawn {
    let halves = [
        ("How much randomness is needed", &paper::RANDOMNESS[..]),
        ("How short timeouts may be", &paper::SCALING[..]),
    ];
    let panels = halves.map(|(title, lines)| {
        let colored = || lines.iter().zip(COLORS);
        let mut curves: Vec<_> =
            colored().filter_map(|(line, color)| ours(figures, line, color)).collect();
        let ranked = figures.iter().find(|figure| figure.timing.rank_slot.is_some());
        curves.extend(
            ranked.map(|figure| curve(figure.timing.to_string(), COLORS[5], &figure.downtime, 1e3)),
        );
        Panel {
            title: format!(
                "{title}: 5 servers, broadcast time {} ms, virtual time",
                paper::BROADCAST_MS
            ),
            x_label:
                "time without a leader, ms (log scale); circles: the paper's p50, p99 and maximum"
                    .into(),
            least: 10.0,
            from: f64::INFINITY,
            curves,
            marks: colored().flat_map(|(line, color)| theirs(line, color)).collect(),
        }
    });
    cumulative(&panels, false)
}

fn ours(figures: &[Figure], line: &Line, color: RGBColor) -> Option<Curve> {
    let is_it = |timing: Timing| {
        let range = (timing.min.as_millis() as u64, timing.max.as_millis() as u64);
        timing.rank_slot.is_none() && range == (line.min, line.max)
    };
    let figure = figures.iter().find(|figure| is_it(figure.timing))?;
    Some(curve(figure.timing.to_string(), color, &figure.downtime, 1e3))
}

fn theirs(line: &Line, color: RGBColor) -> [Mark; 3] {
    let points = [(line.p50, 50.0), (line.p99, 99.0), (line.longest, 100.0)];
    points.map(|point| Mark { color, point })
}

/// What each runtime adds: how late it wakes, and how long its elections take.
pub(crate) fn slop_and_election(cells: &[Cell], os: &Sample) -> Drawn {
    let silence = |cell: &&Cell| {
        let setting = cell.setting;
        let channels = setting.wire == Wire::Channels && setting.timing == LONG;
        channels && setting.failure == Failure::Silence
    };
    let curves = |figure| -> Vec<_> {
        cells.iter().filter(silence).map(|cell| by_runtime(cell, figure, 1e6)).collect()
    };
    let mut late = curves(|outcome| outcome.slop);
    late.push(curve("std::thread::sleep, 5-10 ms".into(), COLORS[5], os, 1e6));
    let cell = "5 servers, 150-300 ms, channels, journals in memory";
    let panels = [
        Panel {
            title: format!("S, how late the candidate's timer fires: {cell}"),
            x_label: "after its deadline, µs (log scale)".into(),
            least: 1e-3,
            from: 10.0,
            curves: late,
            marks: vec![],
        },
        Panel {
            title: format!("E, how long the election takes: {cell}"),
            x_label: "from the first question to the first commit, µs (log scale)".into(),
            least: 1e-3,
            from: 10.0,
            curves: curves(|outcome| outcome.election),
            marks: vec![],
        },
    ];
    cumulative(&panels, true)
}

fn by_runtime(cell: &Cell, figure: fn(&Outcome) -> Duration, parts: f64) -> Curve {
    let place = On::ALL.iter().position(|on| *on == cell.on).unwrap_or_default();
    curve(cell.on.name().into(), COLORS[place], &cell.sample(figure), parts)
}

/// How much sooner a failure is noticed that closes connections, or that is announced.
pub(crate) fn kill_and_silence(cells: &[Cell]) -> Drawn {
    let failures = [
        ("The leader falls silent; fsync", Failure::Silence, LONG),
        ("The leader's process is stopped (SIGSTOP); fsync", Failure::Sigstop, LONG),
        ("The leader's process is killed (SIGKILL); fsync", Failure::Sigkill, LONG),
        ("The leader's connections end; memory", Failure::Kill, LONG),
        ("The leader is told to shut down; memory", Failure::Handover, LONG),
        ("The same with 64 commands on their way; memory", Failure::LoadedHandover, MIDDLE),
    ];
    let panels = failures.map(|(title, failure, timing)| {
        let tcp = tables::of(cells, failure, timing).filter(|cell| cell.setting.wire == Wire::Tcp);
        Panel {
            title: format!("{title}, TCP on the loopback, 5 servers, {timing}"),
            x_label: "from the failure to the first commit, ms (log scale, the same in all)".into(),
            least: 1e-3,
            from: 0.1,
            curves: tcp.map(|cell| by_runtime(cell, |outcome| outcome.downtime, 1e3)).collect(),
            marks: vec![],
        }
    });
    cumulative(&measured(panels), true)
}

/// What the cluster's size, the network and further failures add. All runtimes together.
pub(crate) fn circumstances(cells: &[Cell]) -> Drawn {
    let sized = |servers| Setting { servers, ..PLAIN };
    let with = |failure| Setting { failure, ..PLAIN };
    let panel = |title: &str, from, x_label: &str, settings: &[(&str, Setting)], figure| Panel {
        title: format!("{title}; silence on channels, journals in memory, all runtimes"),
        x_label: format!("{x_label}, ms (log scale)"),
        least: 1e-3,
        from,
        curves: pooled(cells, settings, figure),
        marks: vec![],
    };
    let panels = [
        panel(
            &format!("S + E by the number of servers: {MIDDLE}"),
            0.01,
            "from the deadline to the first commit",
            &[("3 servers", sized(3)), ("5 servers", PLAIN), ("7 servers", sized(7))],
            Outcome::slop_and_election,
        ),
        panel(
            "S + E by the network: 5 servers",
            0.01,
            "from the deadline to the first commit",
            &[
                ("nothing added", PLAIN),
                ("1 % lost", LOSSY),
                ("0.5 ms each way", NEAR),
                ("5 ms each way", FAR),
            ],
            Outcome::slop_and_election,
        ),
        panel(
            &format!("By who is gone: 5 servers, {MIDDLE}"),
            20.0,
            "from the failure to the first commit",
            &[
                ("the leader", PLAIN),
                ("the leader and the first in line", with(Failure::WithSuccessor)),
                ("the leader, and one before", with(Failure::BareMajority)),
            ],
            |outcome| outcome.downtime,
        ),
    ];
    cumulative(&measured(panels), false)
}

fn pooled(
    cells: &[Cell],
    settings: &[(&str, Setting)],
    figure: fn(&Outcome) -> Duration,
) -> Vec<Curve> {
    let curves = settings.iter().zip(COLORS).filter_map(|((name, setting), color)| {
        let of = cells.iter().filter(|cell| cell.setting == *setting);
        let all: Sample = of.flat_map(|cell| cell.outcomes.iter().map(figure)).collect();
        (!all.is_empty()).then(|| curve((*name).into(), color, &all, 1e3))
    });
    curves.collect()
}

/// Panels with something to show: a report may be of some settings only.
fn measured<const N: usize>(panels: [Panel; N]) -> Vec<Panel> {
    panels.into_iter().filter(|panel| !panel.curves.is_empty()).collect()
}

/// How often first ballots are split.
pub(crate) fn splits(splits: &[Split]) -> Drawn {
    let splits: Vec<_> = splits.iter().filter(|split| split.servers <= SERVERS_SHOWN).collect();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, PANEL_HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        let most = splits.iter().map(|split| split.random.max(split.forecast)).fold(0.2, f64::max);
        let last = splits.iter().map(|split| split.servers).max().unwrap_or(3);
        let mut chart = ChartBuilder::on(&root)
            .caption(
                "Split first ballots: latency of 1 % of the timeouts' spread, virtual time",
                (FONT, 18),
            )
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(2.0..last as f64 + 1.0, 0.0..most * 1.15)?;
        chart
            .configure_mesh()
            .x_desc("servers")
            .y_desc("first ballots that are split, %")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .label_style((FONT, 14))
            .axis_desc_style((FONT, 15))
            .max_light_lines(0)
            .draw()?;
        let lines: [Rate; 3] = [
            ("random, measured", COLORS[1], |split| split.random),
            ("random, by the formula", COLORS[5], |split| split.forecast),
            ("with ranks, measured", COLORS[0], |split| split.ranked),
        ];
        for (name, color, rate) in lines {
            let points: Vec<_> =
                splits.iter().map(|split| (split.servers as f64, rate(split))).collect();
            chart
                .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3))
                });
            chart.draw_series(points.into_iter().map(|at| Circle::new(at, 3, color.filled())))?;
        }
        legend(&mut chart, SeriesLabelPosition::UpperRight)?;
        root.present()?;
    }
    Ok(svg)
}

/// Panels one above the other, with the same axis of time or with one for each.
fn cumulative(panels: &[Panel], is_same_axis: bool) -> Drawn {
    if panels.is_empty() {
        return Ok(String::new());
    }
    let mut svg = String::new();
    {
        let size = (WIDTH, PANEL_HEIGHT * panels.len() as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let ranges = panels.iter().map(Panel::range);
        let range = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((1.0, 10.0));
        for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(panels) {
            draw(area, panel, if is_same_axis { range } else { panel.range() })?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn draw(area: &Area<'_>, panel: &Panel, (least, most): (f64, f64)) -> Result<(), Box<dyn Error>> {
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 18))
        .margin(14)
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (least..most).log_scale().with_key_points(ticks(least, most)),
            0.0..101.0,
        )?;
    chart
        .configure_mesh()
        .x_desc(&panel.x_label)
        .y_desc("trials, cumulative %")
        .x_labels(40)
        .max_light_lines(0)
        .x_label_formatter(&|x| label(*x))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .draw()?;
    for Curve { name, color, points } in &panel.curves {
        let color = *color;
        chart
            .draw_series(LineSeries::new(
                points.iter().map(|point| (point.0.max(least), point.1)),
                color.stroke_width(2),
            ))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
    }
    let marks = panel.marks.iter();
    chart.draw_series(marks.map(|mark| Circle::new(mark.point, 5, mark.color.stroke_width(2))))?;
    legend(&mut chart, SeriesLabelPosition::LowerRight)
}

fn legend<'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
    position: SeriesLabelPosition,
) -> Result<(), Box<dyn Error>> {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(180, 180, 180))
        .label_font((FONT, 14))
        .draw()?;
    Ok(())
}

/// A step up at every measurement, in so many parts of a second.
fn curve(name: String, color: RGBColor, sample: &Sample, parts: f64) -> Curve {
    let count = sample.len().max(1) as f64;
    let steps = sample.sorted().iter().enumerate().flat_map(|(place, span)| {
        let x = (span.as_secs_f64() * parts).max(1e-3);
        [(x, 100.0 * place as f64 / count), (x, 100.0 * (place + 1) as f64 / count)]
    });
    Curve { name, color, points: steps.collect() }
}

/// One, two and five of each power of ten; all digits where there is no more than one power to see.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let few = [1.0, 2.0, 5.0];
    let all = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
    let digits = if most < least * 10.0 { &all[..] } else { &few[..] };
    let powers = (-3..=9).map(|power| 10f64.powi(power));
    let ticks = powers.flat_map(|power| digits.iter().map(move |digit| digit * power));
    ticks.filter(|tick| (least..most).contains(tick)).collect()
}

fn label(x: f64) -> String {
    if x >= 0.99 { format!("{x:.0}") } else { format!("{x:.3}").trim_end_matches('0').into() }
}
