//! The calculator's table in `docs/timeouts.md` is what the calculator says.

use std::fmt::Write;
use std::time::Duration;

use raft_core::{Config, NodeId};

/// One-way latencies with what they are, and the smallest timeouts for each, in milliseconds.
const NETWORKS: [(&str, Duration, [u64; 3]); 4] = [
    ("0.1 ms, one rack", Duration::from_micros(100), [12, 50, 150]),
    ("0.5 ms, one building", Duration::from_micros(500), [50, 150, 500]),
    ("5 ms, one region", Duration::from_millis(5), [150, 500, 1000]),
    ("35 ms, one continent", Duration::from_millis(35), [750, 1000, 2000]),
];

const WRITE: Duration = Duration::from_millis(1);

#[test]
fn the_table_is_what_the_calculator_says() {
    let page = include_str!("../../docs/timeouts.md");
    let table = table();
    assert!(page.contains(&table), "docs/timeouts.md should say:\n{table}");
}

fn table() -> String {
    let mut table = String::new();
    for (network, latency, timeouts) in NETWORKS {
        for min in timeouts {
            let random = Config {
                election_timeout_min: Duration::from_millis(min),
                election_timeout_max: Duration::from_millis(2 * min),
                heartbeat_interval: Duration::from_millis(min) / 3,
                rank_slot: None,
                ..Config::new(NodeId::new(1), (1..=5).map(NodeId::new))
            };
            let ranked = Config { rank_slot: Some(latency * 5), ..random.clone() };
            let of = |config: &Config| {
                assert_eq!(config.validate(), Ok(()), "{network}, {min} ms");
                let forecast = config.forecast(latency, WRITE).expect("five voters");
                let downtime = forecast.downtime().as_secs_f64() * 1e3;
                format!("{downtime:.0} | {:.2} %", f64::from(forecast.split_ppm) / 1e4)
            };
            let (random, ranked) = (of(&random), of(&ranked));
            writeln!(table, "| {network} | {min}-{} ms | {random} | {ranked} |", 2 * min)
                .expect("a string takes everything");
        }
    }
    table
}
