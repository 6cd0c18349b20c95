//! Measures what an operator wants to know before it happens: how fast a server that lost its disk
//! catches up and what that costs the others, how long a transfer of leadership stalls clients,
//! whether memory stays flat under load.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use kv::client::Client;
use kv::demo::cluster::{Cluster, Failure};
use kv::demo::timeline::{Timeline, grouped, ms};
use kv::demo::workload::Workload;
use kv::server::resp::Frame;
use progress::Progress;

use crate::load::{Load, Shape};

/// How long one thing may take before the measurement fails.
const PATIENCE: Duration = Duration::from_secs(300);
/// How large the values are with which the state is filled.
const VALUE_BYTES: usize = 64 << 10;
/// How long the throughput is measured that catching up is compared with.
const BASELINE: Duration = Duration::from_secs(5);
/// How long clients write around each transfer.
const AROUND_TRANSFER: Duration = Duration::from_millis(200);
/// How often the memory is looked at.
const MEMORY_INTERVAL: Duration = Duration::from_secs(1);
/// The load beside which all is measured, but for transfers.
const LOAD: Shape = Shape { clients: 4, keys: 1000, value_bytes: 1024 };

/// Measures how a kv cluster catches up, hands over, and uses memory
///
/// Exit code: 0 if it could be measured, 1 if not, 2 for wrong flags.
#[derive(Parser, Debug)]
#[command(name = "catch_up", version)]
struct Options {
    /// How much state a server that lost its disk has to be sent, in MiB; 0 leaves this out
    #[arg(long, default_value_t = 1024)]
    mib: usize,
    /// How much of the log a server has missed that was away for a while, in MiB; 0 leaves this out
    #[arg(long, default_value_t = 512)]
    log_mib: usize,
    /// How often leadership is transferred; 0 leaves this out
    #[arg(long, default_value_t = 50)]
    transfers: usize,
    /// How long memory is looked at under load; 0 leaves this out
    #[arg(long, default_value_t = 600)]
    memory_seconds: u64,
    /// What the servers run on
    #[arg(long, default_value = "tokio")]
    runtime: String,
}

/// Runs the command line.
///
/// The exit code is 0 if everything was measured and 1 if not, which is printed; wrong flags end
/// the process with 2.
pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    let program = env::current_exe().map_err(|e| Failure(e.to_string()));
    match program.and_then(|program| measure(&program, &options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("catch_up: {e}");
            ExitCode::FAILURE
        }
    }
}

fn measure(program: &Path, options: &Options) -> Result<(), Failure> {
    let Options { mib, log_mib, transfers, memory_seconds, .. } = *options;
    let timeline = Timeline::begin();
    if mib > 0 {
        catch_up(&timeline, &mut start(program, options, (mib / 4).max(64))?, mib)?;
    }
    if log_mib > 0 {
        // No snapshot is taken before the server is back.
        catch_up_by_log(&timeline, &mut start(program, options, 4 * log_mib)?, log_mib)?;
    }
    if transfers > 0 {
        transfer(&timeline, &mut start(program, options, 64)?, transfers)?;
    }
    if memory_seconds > 0 {
        let span = Duration::from_secs(memory_seconds);
        memory(&timeline, &mut start(program, options, 64)?, span)?;
    }
    Ok(())
}

/// Three servers that take a snapshot after so many MiB of log.
fn start(program: &Path, options: &Options, snapshot_log: usize) -> Result<Cluster, Failure> {
    let flag = format!("--snapshot-log={snapshot_log}");
    let mut cluster = Cluster::start_unrecorded(program, 3, &[&options.runtime], &[&flag])?;
    let interrupted = cluster.interrupted();
    // From the second cluster on, signals are handled already, and end nothing but the first: its
    // servers are gone.
    let _ = ctrlc::set_handler(move || interrupted.store(true, Ordering::Relaxed));
    cluster.wait_for_leader(0, PATIENCE)?;
    Ok(cluster)
}

fn catch_up(timeline: &Timeline, cluster: &mut Cluster, mib: usize) -> Result<(), Failure> {
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    fill(timeline, cluster, leader, mib)?;
    let snapshot = cluster.order(leader, &["snapshot"])?;
    timeline.tell("snapshot", snapshot.trim_end());

    let lost = cluster.ids().into_iter().find(|id| *id != leader).unwrap_or(leader);
    cluster.order(leader, &["remove", &lost.to_string()])?;
    cluster.kill(lost)?;
    cluster.wipe(lost)?;
    cluster.let_join(lost);

    let (load, alone) = load_of_two(timeline, cluster, leader)?;
    let progress = Progress::unknown("catch up");
    cluster.start_server(lost)?;
    cluster.wait(PATIENCE, "the wiped server to answer", |cluster| cluster.view(lost))?;
    let mark = (load.written(), Instant::now());
    let goal = cluster.view(leader).map_or(0, |view| view.applied);
    cluster.add(lost, leader)?;
    let held = mark.1.elapsed();
    let beside = load.rate_since(mark);
    cluster.wait(PATIENCE, "the wiped server to apply everything", |cluster| {
        cluster.view(lost).filter(|view| view.applied >= goal)
    })?;
    let applied = mark.1.elapsed();
    drop(progress);
    timeline.good(
        "catch up",
        &format!(
            "server {lost} votes after {} ({:.0} MB/s), and has it all in its store after {} ({:.0} MB/s)",
            ms(held),
            megabytes_per_second(mib, held),
            ms(applied),
            megabytes_per_second(mib, applied)
        ),
    );
    tell_kept(timeline, cluster, &load, beside, alone)
}

/// A server that was away comes back, while the leader still has all that it missed in its log.
fn catch_up_by_log(timeline: &Timeline, cluster: &mut Cluster, mib: usize) -> Result<(), Failure> {
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    let away = cluster.ids().into_iter().find(|id| *id != leader).unwrap_or(leader);
    cluster.kill(away)?;
    fill(timeline, cluster, leader, mib)?;

    let (load, alone) = load_of_two(timeline, cluster, leader)?;
    let progress = Progress::unknown("catch up by the log");
    let goal = cluster.view(leader).map_or(0, |view| view.applied);
    cluster.start_server(away)?;
    cluster.wait(PATIENCE, "the server that was away to answer", |cluster| cluster.view(away))?;
    let mark = (load.written(), Instant::now());
    let written = usize::try_from(mark.0).unwrap_or(usize::MAX);
    cluster.wait(PATIENCE, "the server to apply what it missed", |cluster| {
        cluster.view(away).filter(|view| view.applied >= goal)
    })?;
    let (applied, beside) = (mark.1.elapsed(), load.rate_since(mark));
    drop(progress);
    // The clients wrote as well while it was away.
    let missed = mib + ((written * LOAD.value_bytes) >> 20);
    let rate = megabytes_per_second(missed, applied);
    let applied = ms(applied);
    let text = format!(
        "server {away} has applied {missed} MiB of values after {applied} ({rate:.0} MB/s)"
    );
    timeline.good("by the log", &text);
    tell_kept(timeline, cluster, &load, beside, alone)
}

/// Clients of the leader while one of three servers is away, and how many writes per second they
/// do.
fn load_of_two(
    timeline: &Timeline,
    cluster: &mut Cluster,
    leader: u64,
) -> Result<(Load, f64), Failure> {
    let load = Load::start(&[cluster.client_address(leader)], LOAD);
    cluster.run_for(BASELINE / 5)?;
    let mark = (load.written(), Instant::now());
    cluster.run_for(BASELINE)?;
    let alone = load.rate_since(mark);
    timeline.tell("load", &format!("{} writes of 1 KiB per second by two", grouped(alone as u64)));
    Ok((load, alone))
}

fn megabytes_per_second(mib: usize, span: Duration) -> f64 {
    (mib << 20) as f64 / 1e6 / span.as_secs_f64()
}

/// What was left of the load beside a server that caught up, of that beside two servers and of that
/// beside three.
fn tell_kept(
    timeline: &Timeline,
    cluster: &mut Cluster,
    load: &Load,
    beside: f64,
    of_two: f64,
) -> Result<(), Failure> {
    cluster.run_for(BASELINE / 5)?;
    let mark = (load.written(), Instant::now());
    cluster.run_for(BASELINE)?;
    let of_three = load.rate_since(mark);
    let [by_two, by_three] = [of_two, of_three].map(|rate| 100.0 * beside / rate.max(1.0));
    let text = format!(
        "meanwhile {} writes per second: {by_two:.0} %, and {by_three:.0} % of the {} by three \
         afterwards",
        grouped(beside as u64),
        grouped(of_three as u64)
    );
    timeline.good("", &text);
    Ok(())
}

fn fill(timeline: &Timeline, cluster: &Cluster, leader: u64, mib: usize) -> Result<(), Failure> {
    timeline.tell("fill", &format!("{mib} MiB in values of {} KiB", VALUE_BYTES >> 10));
    let values = (mib << 20) / VALUE_BYTES;
    let failed = |e: std::io::Error| Failure(format!("the state cannot be filled: {e}"));
    let mut client = Client::connect(cluster.client_address(leader)).map_err(failed)?;
    // Each value is another one, so that nobody can share them.
    let mut value = vec![b'x'; VALUE_BYTES];
    let progress = Progress::of("fill", values as u64, "values");
    for number in 0..values {
        value[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let words = ["SET".into(), format!("fill:{number}").into(), Bytes::from(value.clone())];
        if let Frame::Error(text) = client.call(words).map_err(failed)? {
            return Err(Failure(format!("the state cannot be filled: {text}")));
        }
        progress.advance(1);
    }
    Ok(())
}

fn transfer(timeline: &Timeline, cluster: &mut Cluster, count: usize) -> Result<(), Failure> {
    let fsync = fsync(cluster.folder())?;
    let workload = Workload::start(cluster, 0);
    cluster.run_for(BASELINE / 5)?;
    let (mut stalls, mut quiet) = (Vec::new(), Vec::new());
    let progress = Progress::of("transfer", count as u64, "transfers");
    for _ in 0..count {
        let leader = cluster.wait_for_leader(0, PATIENCE)?;
        workload.take_slowest();
        cluster.run_for(AROUND_TRANSFER)?;
        quiet.push(workload.take_slowest());
        let mut client = Client::connect(cluster.client_address(leader.id))
            .map_err(|e| Failure(format!("no connection to the leader: {e}")))?;
        // Elections do come between on a busy machine: then the next round counts.
        let answer = client.call(["TRANSFER"]);
        let done = answer.is_ok_and(|answer| !matches!(answer, Frame::Error(_)));
        cluster.run_for(AROUND_TRANSFER)?;
        let stall = workload.take_slowest();
        if done {
            stalls.push(stall);
        }
        progress.advance(1);
    }
    drop(progress);
    workload.take_latencies();
    cluster.run_for(BASELINE / 5)?;
    let (write, _) = workload.take_latencies();
    let ping = ping(cluster)?;
    let ledger = workload.stop();
    ledger.verify(cluster, PATIENCE)?;
    let text = format!(
        "{} of {count}; the slowest write around each took {} at the median, {} at most; around none {}",
        stalls.len(),
        ms(median(&mut stalls)),
        ms(stalls.last().copied().unwrap_or_default()),
        ms(median(&mut quiet))
    );
    timeline.good("transfers", &text);
    let text = format!(
        "for comparison: a write takes {} at the median, a PING {}, an fsync of 4 KiB {}; two PINGs and an fsync {}",
        ms(write),
        ms(ping),
        ms(fsync),
        ms(2 * ping + fsync)
    );
    timeline.tell("", &text);
    Ok(())
}

/// The median time of a request that needs no other server.
fn ping(cluster: &Cluster) -> Result<Duration, Failure> {
    let failed = |e: std::io::Error| Failure(format!("no answer to PING: {e}"));
    let id = cluster.ids().first().copied().unwrap_or(1);
    let mut client = Client::connect(cluster.client_address(id)).map_err(failed)?;
    let mut spans = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        client.call(["PING"]).map_err(failed)?;
        spans.push(began.elapsed());
    }
    Ok(median(&mut spans))
}

/// The median time until 4 KiB more of a file are durable, where the journals are.
fn fsync(folder: &Path) -> Result<Duration, Failure> {
    let failed = |e: std::io::Error| Failure(format!("fsync cannot be measured: {e}"));
    let mut file = File::create(folder.join("fsync")).map_err(failed)?;
    let mut spans = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).map_err(failed)?;
        spans.push(began.elapsed());
    }
    Ok(median(&mut spans))
}

fn memory(timeline: &Timeline, cluster: &mut Cluster, span: Duration) -> Result<(), Failure> {
    let addresses: Vec<_> =
        cluster.ids().into_iter().map(|id| cluster.client_address(id)).collect();
    let load = Load::start(&addresses, LOAD);
    let began = Instant::now();
    let mut samples: Vec<(Duration, u64)> = Vec::new();
    let progress = Progress::span("memory", span);
    while began.elapsed() < span {
        cluster.run_for(MEMORY_INTERVAL)?;
        let resident = cluster.ids().into_iter().map(|id| {
            let process = cluster.process_id(id).unwrap_or_default();
            resident_kib(process).unwrap_or_default()
        });
        samples.push((began.elapsed(), resident.max().unwrap_or_default()));
    }
    drop(progress);
    let rate = load.rate_since((0, began));
    drop(load);
    let text = format!("{} writes of 1 KiB per second for {span:.0?}", grouped(rate as u64));
    timeline.tell("memory", &text);
    // A tenth of the time each, so that growth shows.
    for part in samples.chunks(samples.len().div_ceil(10).max(1)) {
        let (least, most) = part
            .iter()
            .fold((u64::MAX, 0), |(least, most), (_, kib)| (least.min(*kib), most.max(*kib)));
        let until = part.last().map(|(at, _)| at.as_secs()).unwrap_or_default();
        let text = format!(
            "until {until:>4} s: the largest server has {} to {} MiB resident",
            least >> 10,
            most >> 10
        );
        timeline.tell("", &text);
    }
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    for line in cluster.order(leader, &["status"])?.lines() {
        timeline.tell("", line);
    }
    Ok(())
}

/// The resident size of a process, as Linux tells it.
fn resident_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().split(' ').next()?.parse().ok()
}

fn median(spans: &mut [Duration]) -> Duration {
    spans.sort_unstable();
    spans.get(spans.len() / 2).copied().unwrap_or_default()
}
