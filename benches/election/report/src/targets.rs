//! What was to be reached, and whether it was.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::one_thread::{self, CoreServer};
use election::{Failure, Outcome, Sample, Timing, Wire};

use crate::cells::{Cell, LONG, MIDDLE, SHORT};
use crate::simulated::Simulated;
use crate::tables::{Table, millis, of};

const HANDOVER: &str = "p50 ≤ 0.3 ms, p99 ≤ 1 ms";
const KILL: &str = "p50 ≤ 1 ms, p99 ≤ 3 ms";

/// Every target with its figure.
pub(crate) fn table(cells: &[Cell], simulated: &Simulated) -> Table {
    let mut table = Table::new("targets", "Targets", &["what", "target", "figure", "met"]);
    let mut row = |what: &str, target: &str, figure: String, met: bool| {
        let met = if met { "yes" } else { "no" };
        table.rows.push(vec![what.into(), target.into(), figure, met.into()]);
    };

    let exact = &simulated.exact;
    row(
        "virtual time, N from 3 to 51, pre-vote and ranks",
        "leader at exactly first deadline + 4L + W",
        format!("{} of {} elections", exact.exact, exact.held),
        exact.exact == exact.held,
    );

    let channels = |cell: &&Cell| cell.setting.wire == Wire::Channels;
    let added: Vec<_> = of(cells, Failure::Silence, LONG)
        .filter(channels)
        .map(|cell| (cell.on.name(), cell.sample(Outcome::slop_and_election)))
        .collect();
    for (name, sample) in &added {
        row(
            &format!("S + E on channels, {name}"),
            "p50 ≤ 150 µs, p99 ≤ 500 µs",
            quantiles(sample),
            within(sample.p50(), 150) && within(sample.p99(), 500),
        );
    }
    let medians = || added.iter().map(|(_, sample)| sample.p50().as_secs_f64());
    let ratio = medians().fold(0.0, f64::max) / medians().fold(f64::INFINITY, f64::min);
    row("S + E, slowest runtime against the fastest", "≤ 1.5", format!("{ratio:.2}"), ratio <= 1.5);

    silence(cells, SHORT, 11, 20, &mut row);
    silence(cells, LONG, 130, 170, &mut row);
    for (failure, timing, what, target, micros_max) in [
        (Failure::Sigkill, LONG, "SIGKILL of the leader's process, fsync", KILL, [1000, 3000]),
        (Failure::Kill, LONG, "the leader's connections end, memory", KILL, [1000, 3000]),
        (Failure::Handover, LONG, "orderly hand-over at rest", HANDOVER, [300, 1000]),
        (Failure::LoadedHandover, MIDDLE, "orderly hand-over under load", HANDOVER, [300, 1000]),
    ] {
        for cell in of(cells, failure, timing) {
            let sample = cell.downtime();
            row(
                &format!("{what}, TCP, {timing}, {}", cell.on.name()),
                target,
                quantiles(&sample),
                within(sample.p50(), micros_max[0]) && within(sample.p99(), micros_max[1]),
            );
        }
    }
    let loaded: Vec<_> = of(cells, Failure::LoadedHandover, MIDDLE).collect();
    let trials: usize = loaded.iter().map(|cell| cell.outcomes.len()).sum();
    if trials > 0 {
        let outcomes = loaded.iter().flat_map(|cell| &cell.outcomes);
        let unanswered: u64 = outcomes.map(|outcome| outcome.unanswered).sum();
        // A trial that loses one is an error, and there is no report.
        let figure = format!("none of {trials} trials lost one; {unanswered} unanswered");
        row(
            "commands that the leader accepted before a loaded hand-over",
            "none lost",
            figure,
            true,
        );
    }

    let worst = |rate: fn(&crate::simulated::Split) -> f64| {
        simulated.splits.iter().map(rate).fold(0.0, f64::max)
    };
    let (ranked, random) = (worst(|split| split.ranked), worst(|split| split.random));
    row(
        "split votes, N from 3 to 51, L 1 % of the spread, ranks",
        "≤ 0.1 %",
        format!("{ranked:.2} %"),
        ranked <= 0.1,
    );
    row("the same, random timeouts", "≤ 0.1 %", format!("{random:.2} %"), random <= 0.1);

    for (servers, micros_max) in [(3, 0.4), (5, 0.7), (51, 10.0)] {
        let micros = election_cpu(servers).as_secs_f64() * 1e6;
        row(
            &format!("processor time of one election, N = {servers}, all in one thread"),
            &format!("≤ {micros_max} µs"),
            format!("{micros:.2} µs"),
            micros <= micros_max,
        );
    }
    row(
        "messages of the first election, N = 3, with pre-vote",
        "≤ 8",
        exact.messages.to_string(),
        exact.messages <= 8,
    );
    row(
        "messages at rest, N = 3, heartbeats of 100 ms",
        "≤ 20 a second",
        exact.idle_messages.to_string(),
        exact.idle_messages <= 20,
    );
    table
}

fn silence(
    cells: &[Cell],
    timing: Timing,
    mean_max: u64,
    longest_max: u64,
    row: &mut impl FnMut(&str, &str, String, bool),
) {
    for cell in
        of(cells, Failure::Silence, timing).filter(|cell| cell.setting.wire == Wire::Channels)
    {
        let sample = cell.downtime();
        let (mean, longest) = (sample.mean(), sample.max());
        row(
            &format!("silence, {timing}, {}", cell.on.name()),
            &format!("mean ≤ {mean_max}, max ≤ {longest_max} ms"),
            format!("mean {}, max {} ms", millis(mean), millis(longest)),
            within(mean, mean_max * 1000) && within(longest, longest_max * 1000),
        );
    }
}

/// From the moment a candidate stands until all know that it leads; the median of many, for the
/// machine does other things, too.
fn election_cpu(servers: usize) -> Duration {
    let elections = 1000;
    let mut cluster = one_thread::Cluster::<CoreServer<[u8; 16]>>::elected(servers, true);
    let sample: Sample = (0..elections)
        .map(|_| {
            let candidate = cluster.lose_leader();
            let begin = Instant::now();
            black_box(&mut cluster).elect(candidate);
            let took = begin.elapsed();
            cluster.settle();
            took
        })
        .collect();
    sample.p50()
}

fn quantiles(sample: &Sample) -> String {
    format!("p50 {}, p99 {} ms", millis(sample.p50()), millis(sample.p99()))
}

fn within(span: Duration, micros_max: u64) -> bool {
    !span.is_zero() && span <= Duration::from_micros(micros_max)
}
