//! How long elections take on every runtime:
//! `election/{cold,silence,kill,handover}/{runtime}/{servers}`.
//!
//! One trial is one sample. For a cold start and for silence the time is from the deadline of the
//! first candidate until it has committed its first entry, S + E, for all before is the choice of
//! timeouts. For a kill and for a hand-over it is from the failure until then. `election-report`
//! takes the same trials apart, with runtimes taking turns.
//!
//! By default over channels with journals in memory, and kills over TCP as well, which takes about
//! six minutes. With `ELECTION_FULL=1` in the environment over channels and TCP, with journals in
//! memory and in fsynced files. With feature `peers` other libraries with equal timeouts, too.

#[cfg(feature = "peers")]
mod peers;

use std::env;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main,
};
use election::{Cluster, Disk, Failure, Link, On, Outcome, Setting, Timing, Wire};

/// Short, for what is measured does not depend on them.
const TIMING: Timing = Timing {
    min: Duration::from_millis(50),
    max: Duration::from_millis(100),
    heartbeat: Duration::from_millis(12),
    rank_slot: Some(Duration::from_millis(5)),
    floor: None,
    pre_vote: true,
};

criterion_main!(benches);
criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = elections
}

fn elections(criterion: &mut Criterion) {
    let full = env::var_os("ELECTION_FULL").is_some();
    let wires = [Wire::Channels, Wire::Tcp];
    for (wire, disk) in
        wires.into_iter().flat_map(|wire| [(wire, Disk::Memory), (wire, Disk::Fsync)])
    {
        for failure in Failure::BENCHED {
            let brief = match wire {
                Wire::Channels => disk == Disk::Memory,
                Wire::Tcp => disk == Disk::Memory && failure == Failure::Kill,
            };
            if brief || full {
                bench_failure(criterion, failure, wire, disk);
            }
        }
    }
    #[cfg(feature = "peers")]
    bench_peers(criterion);
}

fn bench_failure(criterion: &mut Criterion, failure: Failure, wire: Wire, disk: Disk) {
    let name = match (wire, disk) {
        (Wire::Channels, Disk::Memory) => format!("election/{}", failure.name()),
        _ => format!("election/{}, {}, {}", failure.name(), wire.name(), disk.name()),
    };
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    for servers in [3, 5, 7] {
        for on in On::ALL {
            bench(
                &mut group,
                Setting { servers, failure, wire, disk, timing: TIMING, link: Link::PERFECT },
                on,
            );
        }
    }
    group.finish();
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, setting: Setting, on: On) {
    let mut cluster = None;
    let mut seed = 0;
    let mut next = || {
        seed += 1;
        if setting.failure == Failure::Cold {
            let (_, outcome) = Cluster::start(setting, on, seed).expect("the machine has room");
            return outcome;
        }
        let start = || Cluster::start(setting, on, 1).expect("the machine has room").0;
        let phase = TIMING.heartbeat * (seed as u32 * 7 % 10) / 10;
        cluster.get_or_insert_with(start).fail_leader(phase).expect("a leader comes")
    };
    group.bench_function(BenchmarkId::new(on.name(), setting.servers), |bencher| {
        bencher.iter_custom(|trials| (0..trials).map(|_| figure(setting.failure, &next())).sum());
    });
}

fn figure(failure: Failure, outcome: &Outcome) -> Duration {
    if failure.is_planned() || failure.closes_connections() {
        outcome.downtime
    } else {
        outcome.slop_and_election()
    }
}

#[cfg(feature = "peers")]
fn bench_peers(criterion: &mut Criterion) {
    use peers::{Peer, RaftRs};

    let mut group = criterion.benchmark_group("election/peers, silence, downtime");
    group.sampling_mode(SamplingMode::Flat);
    for servers in [3, 5, 7] {
        let timing = TIMING;
        let setting = Setting {
            servers,
            failure: Failure::Silence,
            wire: Wire::Channels,
            disk: Disk::Memory,
            timing,
            link: Link::PERFECT,
        };
        let mut ours = Cluster::start(setting, On::Threads, 1).expect("the machine has room").0;
        let mut phases = (0..).map(|trial| timing.heartbeat * (trial * 7 % 10) / 10);
        group.bench_function(BenchmarkId::new("raft-core, threads", servers), |bencher| {
            bencher.iter_custom(|trials| {
                let phases = phases.by_ref().take(trials as usize);
                phases.map(|phase| ours.fail_leader(phase).expect("a leader comes").downtime).sum()
            });
        });
        for peer in Peer::ALL {
            let mut theirs = RaftRs::start(servers, timing, peer);
            group.bench_function(BenchmarkId::new(peer.name(), servers), |bencher| {
                bencher.iter_custom(|trials| {
                    let phases = phases.by_ref().take(trials as usize);
                    phases.map(|phase| theirs.fail_leader(phase)).sum()
                });
            });
        }
    }
    group.finish();
}
