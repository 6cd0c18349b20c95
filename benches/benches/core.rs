//! raft-core beside raft-rs in the same run: replication and election, all servers in one thread.
//!
//! Times of `replicate` are per entry: from the proposal until all three servers have applied it,
//! in batches that are proposed together. Times of `election` are per election, from the moment the
//! candidate stands: `known` until every server knows the new leader, `settled` until also its
//! no-op is committed and applied by all and nothing is on its way any more.
//!
//! Clusters are replaced before their logs grow large. What that takes, a new cluster's first
//! election and the time in which a leader is missed, is not measured.

use std::hint::black_box;
use std::time::{Duration, Instant};

use benches::one_thread::{COMMAND_BYTES, Cluster, CoreServer, RaftRsServer, Server};
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};

/// How many entries a cluster replicates before it is replaced.
const ENTRIES_PER_CLUSTER: usize = 16 * 1024;

/// How many elections a cluster holds before it is replaced.
const ELECTIONS_PER_CLUSTER: u64 = 1024;

/// The largest block that still raises the allocator's thresholds is 32 MiB.
const LARGE_BLOCK_BYTES: usize = 24 << 20;

type CoreOfArrays = CoreServer<[u8; COMMAND_BYTES]>;
type CoreOfBytes = CoreServer<Bytes>;

criterion_main!(benches);
criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50);
    targets = replication, elections
}

fn replication(criterion: &mut Criterion) {
    keep_freed_memory();
    for batch in [1, 64, 1024] {
        let mut group = criterion.benchmark_group(format!("replicate/{batch}"));
        bench_replication::<CoreOfArrays>(&mut group, "raft-core, arrays", batch);
        bench_replication::<CoreOfBytes>(&mut group, "raft-core, Bytes", batch);
        bench_replication::<RaftRsServer<false>>(&mut group, "raft-rs", batch);
        bench_replication::<RaftRsServer<true>>(&mut group, "raft-rs, one message", batch);
        group.finish();
    }
}

fn bench_replication<S: Server>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    batch: usize,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|entries| {
            let batches = entries.div_ceil(batch as u64);
            let elapsed = replicate::<S>(batch, batches);
            elapsed.mul_f64(entries as f64 / (batches * batch as u64) as f64)
        });
    });
}

/// How long it takes to replicate so many batches.
fn replicate<S: Server>(batch: usize, mut batches: u64) -> Duration {
    let batches_per_cluster = (ENTRIES_PER_CLUSTER / batch) as u64;
    let mut elapsed = Duration::ZERO;
    while batches > 0 {
        let mut cluster = Cluster::<S>::elected(3, true);
        let now = batches.min(batches_per_cluster);
        let start = Instant::now();
        (0..now).for_each(|_| cluster.replicate(batch));
        elapsed += start.elapsed();
        batches -= now;
    }
    elapsed
}

fn elections(criterion: &mut Criterion) {
    keep_freed_memory();
    for pre_vote in [false, true] {
        for until in [Until::Known, Until::Settled] {
            let vote = if pre_vote { "pre-vote" } else { "vote" };
            let mut group = criterion.benchmark_group(format!("election/{vote}/{until:?}"));
            for voters in [3, 5, 51] {
                bench_election::<CoreOfArrays>(&mut group, "raft-core", voters, pre_vote, until);
                bench_election::<RaftRsServer<false>>(
                    &mut group, "raft-rs", voters, pre_vote, until,
                );
            }
            group.finish();
        }
    }
}

/// Which moment ends a measured election.
#[derive(Clone, Copy, Debug)]
enum Until {
    Known,
    Settled,
}

fn bench_election<S: Server>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    voters: usize,
    pre_vote: bool,
    until: Until,
) {
    group.bench_function(BenchmarkId::new(name, voters), |bencher| {
        bencher.iter_custom(|elections| elect::<S>(voters, pre_vote, until, elections));
    });
}

/// How long it takes to hold so many elections.
fn elect<S: Server>(voters: usize, pre_vote: bool, until: Until, mut elections: u64) -> Duration {
    let mut elapsed = Duration::ZERO;
    while elections > 0 {
        let mut cluster = Cluster::<S>::elected(voters, pre_vote);
        let now = elections.min(ELECTIONS_PER_CLUSTER);
        for _ in 0..now {
            let candidate = cluster.lose_leader();
            let start = Instant::now();
            cluster.elect(candidate);
            match until {
                Until::Known => elapsed += start.elapsed(),
                Until::Settled => {
                    cluster.settle();
                    elapsed += start.elapsed();
                }
            }
            cluster.settle();
        }
        elections -= now;
    }
    elapsed
}

/// Teaches glibc's allocator to keep what is freed, as it does in a process that has run for long:
/// it raises its thresholds once a large block is given back. Else each new cluster would take its
/// memory page by page from the kernel.
fn keep_freed_memory() {
    drop(black_box(Vec::<u8>::with_capacity(LARGE_BLOCK_BYTES)));
}
