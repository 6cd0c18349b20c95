//! A demonstration: a cluster grows from one server to three to five, then every one of them is
//! replaced, one by one, under load. In the end all data is there, on servers none of which was
//! there when it was written first.

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use kv::demo::cluster::{Cluster, Failure};
use kv::demo::timeline::{Timeline, grouped, ms, plural};
use kv::demo::workload::Workload;
use kv::program::Runtime;
use progress::Progress;

use crate::benchmark::Benchmark;

/// To how many servers the cluster grows; each of them is replaced.
const SERVERS: u64 = 5;
/// How many clients write beside redis-benchmark and remember what they were told.
const CLIENTS: usize = 3;
/// After how much log a snapshot is due, in MiB: little, so that servers are sent snapshots and not
/// only logs.
const SNAPSHOT_LOG: &str = "--snapshot-log=8";
/// How long anything may take before the demonstration fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A kv cluster grows from one server to three to five, and every one of them is replaced, under
/// the load of redis-benchmark
///
/// Exit code: 0 if all data is there in the end, 1 if not, 2 for wrong flags.
#[derive(Parser, Debug)]
#[command(name = "grow", version)]
struct Options {
    /// How long it goes on, verifying everything not included. Steps that take longer than their
    /// share make it longer
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Runs the command line; the servers run on these in turn.
///
/// The exit code is 0 if all data is there in the end and 1 if not, which is printed; wrong flags
/// end the process with 2.
pub(crate) fn main(runtimes: &[Runtime]) -> ExitCode {
    let options = Options::parse();
    let names: Vec<_> = runtimes.iter().map(|runtime| runtime.name).collect();
    let program = env::current_exe().map_err(|e| Failure(e.to_string()));
    let span = Duration::from_secs(options.seconds);
    match program.and_then(|program| run(&program, &names, span)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("grow: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The demonstration while it goes on.
struct Show {
    timeline: Timeline,
    cluster: Cluster,
    workload: Workload,
    /// None if it is not installed.
    benchmark: Option<Benchmark>,
    /// When each step begins, at the earliest.
    step: Duration,
    steps: u32,
    /// What was applied when, at the end of the last step.
    before: (u64, Instant),
    progress: Progress,
}

fn run(program: &Path, runtimes: &[&str], span: Duration) -> Result<(), Failure> {
    let timeline = Timeline::begin();
    println!("\nkv grows from 1 server to {SERVERS}, and each of them is replaced, under load\n");
    let mut cluster = Cluster::start_unrecorded(program, 1, runtimes, &[SNAPSHOT_LOG])?;
    let interrupted = cluster.interrupted();
    ctrlc::set_handler(move || interrupted.store(true, Ordering::Relaxed))
        .map_err(|e| Failure(format!("signals cannot be handled: {e}")))?;
    cluster.wait_for_leader(0, PATIENCE)?;
    timeline.tell("start", "server 1 is a cluster of one");
    let benchmark = match Benchmark::start(cluster.client_address(1)) {
        Ok(benchmark) => {
            timeline.tell("load", &Benchmark::describe());
            Some(benchmark)
        }
        Err(e) => {
            timeline
                .alarm("load", &format!("NO redis-benchmark ({e}): our own clients write alone"));
            None
        }
    };
    let beside = format!("{CLIENTS} clients that remember every write they were acknowledged");
    timeline.tell("", &beside);
    let workload = Workload::start_with(&cluster, 0, CLIENTS);
    // A step for each server that comes, one for each that is replaced, and the time after the
    // last.
    let count = 2 * SERVERS;
    let step = span / count as u32;
    let before = (0, Instant::now());
    let progress = Progress::of("grow", count, "steps");
    let mut show =
        Show { timeline, cluster, workload, benchmark, step, steps: 0, before, progress };
    for id in 2..=SERVERS {
        show.wait_for_step()?;
        show.grow()?;
        if id == 3 || id == SERVERS {
            show.tell_members()?;
        }
    }
    for old in 1..=SERVERS {
        show.wait_for_step()?;
        show.replace(old)?;
    }
    show.wait_for_step()?;
    show.tell_members()?;
    show.verify()
}

impl Show {
    /// Lets the clients write until the next step is due, and tells what they did.
    fn wait_for_step(&mut self) -> Result<(), Failure> {
        self.steps += 1;
        let due = self.step * self.steps;
        self.cluster.run_for(due.saturating_sub(self.timeline.elapsed()))?;
        let applied = self.applied()?;
        let (before, since) = self.before;
        let rate = (applied - before) as f64 / since.elapsed().as_secs_f64();
        let silence = self.workload.take_longest_silence();
        let text = format!(
            "{} writes per second; longest time without one {}",
            grouped(rate as u64),
            ms(silence)
        );
        self.timeline.tell("", &text);
        if let Some(benchmark) = &mut self.benchmark {
            benchmark.check().map_err(|e| Failure(format!("redis-benchmark: {e}")))?;
        }
        self.before = (applied, Instant::now());
        self.progress.advance(1);
        Ok(())
    }

    /// How far the one is that has applied most.
    fn applied(&mut self) -> Result<u64, Failure> {
        self.cluster.wait(PATIENCE, "a server to tell how far it is", |cluster| {
            let ids = cluster.ids();
            ids.into_iter().filter_map(|id| cluster.view(id)).map(|view| view.applied).max()
        })
    }

    /// Starts a server, and has it added.
    fn grow(&mut self) -> Result<u64, Failure> {
        let began = Instant::now();
        let member = self.cluster.ids()[0];
        let new = self.cluster.join()?;
        self.cluster.add(new, member)?;
        let runtime = self.cluster.runtime(new).unwrap_or_default().to_owned();
        let text =
            format!("server {new}, on {runtime}, votes {} after its start", ms(began.elapsed()));
        self.timeline.good("add", &text);
        self.go_through(new)?;
        Ok(new)
    }

    /// Puts a new server in the place of this one.
    fn replace(&mut self, old: u64) -> Result<(), Failure> {
        let new = self.grow()?;
        let led = self.cluster.view(old).is_some_and(|view| view.leads);
        let began = Instant::now();
        self.cluster.order(new, &["remove", &old.to_string()])?;
        let took = ms(began.elapsed());
        let status = self.cluster.terminate(old, PATIENCE)?;
        if !status.success() {
            return Err(self.cluster.failure(&format!("server {old} ended with {status}")));
        }
        let was = if led { ", the leader," } else { "" };
        self.timeline
            .tell("remove", &format!("server {old}{was} is out after {took}, and stopped"));
        self.cluster.forget(old)?;
        self.go_through(new)
    }

    /// The load goes through this server from now on, for it is the one that will be there the
    /// longest.
    fn go_through(&mut self, id: u64) -> Result<(), Failure> {
        self.workload.follow(&self.cluster);
        let address = self.cluster.client_address(id);
        match &mut self.benchmark {
            Some(benchmark) => {
                benchmark.go_through(address).map_err(|e| Failure(format!("redis-benchmark: {e}")))
            }
            None => Ok(()),
        }
    }

    fn tell_members(&self) -> Result<(), Failure> {
        let id = self.cluster.ids()[0];
        for line in self.cluster.order(id, &["members"])?.lines() {
            self.timeline.tell("", line);
        }
        Ok(())
    }

    /// Ends the load, and reads everything back through every server.
    fn verify(self) -> Result<(), Failure> {
        let Self { timeline, mut cluster, workload, benchmark, progress, .. } = self;
        drop(progress);
        let ended = match benchmark {
            Some(mut benchmark) => {
                benchmark.check().map_err(|e| Failure(format!("redis-benchmark: {e}")))?
            }
            None => 0,
        };
        if ended > 0 {
            let text = format!("redis-benchmark met an error {}", plural(ended, "time"));
            timeline.alarm("load", &text);
        }
        let ledger = workload.stop();
        timeline.tell("verify", "every write is read back through every server");
        let progress = Progress::unknown("verify");
        let verdict = ledger.verify_beside(&mut cluster, &Benchmark::keys(), PATIENCE)?;
        drop(progress);
        for id in cluster.ids() {
            let text = format!(
                "gives back all; its memory: entry {}, {} keys, digest {}",
                verdict.applied,
                grouped(verdict.keys),
                verdict.digest
            );
            timeline.good(&format!("server {id}"), &text);
        }
        println!(
            "\n{} 0 of {} acknowledged writes lost; {} of unknown fate, {} of them applied, none twice.\n",
            timeline.paint("1;32", "All data is there."),
            grouped(verdict.acknowledged),
            verdict.unknown,
            verdict.unknown_applied
        );
        Ok(())
    }
}
