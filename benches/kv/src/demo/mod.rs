//! The demonstration: a cluster of three loses its leader under load, and nothing else.

pub mod cluster;
pub mod timeline;
pub mod workload;

use std::path::Path;
use std::time::{Duration, Instant};

use self::cluster::{Cluster, Failure};
use self::timeline::{Timeline, grouped, ms, plural};
use self::workload::{Verdict, Workload};

/// How many servers there are.
const SERVERS: usize = 3;
/// How long anything may take before the demonstration fails.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs the demonstration with servers of this `program`, on the first of its `runtimes` in turn,
/// and prints what happens.
pub fn run(program: &Path, runtimes: &[&str]) -> Result<(), Failure> {
    let runtimes = &runtimes[..runtimes.len().min(SERVERS)];
    let timeline = Timeline::start(runtimes);
    let mut cluster = Cluster::start(program, SERVERS as u64, runtimes)?;
    stop_on_signals(&cluster)?;
    timeline.started(&cluster);

    let first = cluster.wait_for_leader(0, PATIENCE)?;
    timeline.tell("elected", &format!("server {} leads in term {}", first.id, first.term));

    let workload = Workload::start(&cluster, 0);
    timeline.tell("write", "three clients write without pause, one through each server");
    let before = timeline.write_for(Duration::from_millis(1500), &mut cluster, &workload, 0)?;

    let killed = Instant::now();
    cluster.kill(first.id)?;
    workload.await_write_since(killed);
    timeline.alarm("kill -9", &format!("server {}, the leader, is dead", first.id));
    let second = cluster.wait_for_leader(first.term, PATIENCE)?;
    let elected = killed.elapsed();
    let acknowledged = cluster
        .wait(PATIENCE, "a write after the failover", |_| workload.awaited_write())?
        .saturating_duration_since(killed);
    // The leader is polled for; a client may have its answer before the poll has one.
    let elected = elected.min(acknowledged);
    timeline.tell(
        "elected",
        &format!(
            "server {} leads in term {}, {} after the kill",
            second.id,
            second.term,
            ms(elected)
        ),
    );
    timeline.good(
        "failover",
        &format!("the next write is acknowledged {} after the kill", ms(acknowledged)),
    );
    let between =
        timeline.write_for(Duration::from_millis(1000), &mut cluster, &workload, before)?;

    let goal = cluster.view(second.id).map_or(0, |view| view.applied);
    let restarted = Instant::now();
    cluster.start_server(first.id)?;
    timeline.tell("restart", &format!("server {}, from its journal", first.id));
    let caught_up = cluster.wait(PATIENCE, "the restarted server to catch up", |cluster| {
        cluster.view(first.id).filter(|view| view.applied >= goal)
    })?;
    timeline.tell(
        "caught up",
        &format!(
            "server {} has applied everything up to entry {}, {} after its start",
            first.id,
            caught_up.applied,
            ms(restarted.elapsed())
        ),
    );
    timeline.write_for(Duration::from_millis(500), &mut cluster, &workload, between)?;

    let ledger = workload.stop();
    timeline.tell("verify", "the clients stop; every write is read back through every server");
    let verdict = ledger.verify(&mut cluster, PATIENCE)?;
    timeline.verified(&cluster, &verdict);
    drop(cluster);
    timeline.ended(elected, acknowledged, &verdict);
    Ok(())
}

/// Ctrl-C and SIGTERM end the demonstration in order: servers stopped, folder removed.
fn stop_on_signals(cluster: &Cluster) -> Result<(), Failure> {
    let interrupted = cluster.interrupted();
    ctrlc::set_handler(move || interrupted.store(true, std::sync::atomic::Ordering::Relaxed))
        .map_err(|e| Failure(format!("signals cannot be handled: {e}")))
}

impl Timeline {
    fn start(runtimes: &[&str]) -> Self {
        let timeline = Self::begin();
        let title = "kv: a key-value store on three servers that agree by Raft";
        println!("\n{}, on {}\n", timeline.paint("1", title), runtimes.join(", "));
        println!(
            "Each server is a process of its own. It talks to the others over TCP and acknowledges a write"
        );
        println!("when the journals of two of the three have it on disk (fsync).\n");
        timeline
    }

    fn started(&self, cluster: &Cluster) {
        for id in cluster.ids() {
            let runtime = cluster.runtime(id).unwrap_or_default();
            let process = cluster.process_id(id).unwrap_or_default();
            let label = if id == 1 { "start" } else { "" };
            self.tell(label, &format!("server {id}, on {runtime}, is process {process}"));
        }
        self.tell("", &format!("journals and logs in {}", cluster.folder().display()));
        let port = cluster.client_address(1).port();
        self.tell("", &format!("any Redis client can join in: redis-cli -p {port}"));
    }

    /// Lets the clients write for a while, and tells what they did since `before` writes were
    /// acknowledged.
    fn write_for(
        &self,
        span: Duration,
        cluster: &mut Cluster,
        workload: &Workload,
        before: u64,
    ) -> Result<u64, Failure> {
        workload.take_latencies();
        cluster.run_for(span)?;
        let acknowledged = workload.acknowledged();
        let (median, slow) = workload.take_latencies();
        let more = if before == 0 { "" } else { " more" };
        self.tell(
            "",
            &format!(
                "{}{more} writes acknowledged; each took {} (median), 99 % at most {}",
                grouped(acknowledged - before),
                ms(median),
                ms(slow)
            ),
        );
        Ok(acknowledged)
    }

    fn verified(&self, cluster: &Cluster, verdict: &Verdict) {
        let Verdict { acknowledged, keys, applied, digest, .. } = verdict;
        for id in cluster.ids() {
            let acknowledged = grouped(*acknowledged);
            self.good(
                &format!("server {id}"),
                &format!(
                    "gives back all {acknowledged} writes; its memory: entry {applied}, {} keys, digest {digest}",
                    grouped(*keys)
                ),
            );
        }
        if verdict.unknown > 0 {
            self.tell(
                "",
                &format!(
                    "{} in flight at the kill got no answer: {} applied, none twice",
                    plural(verdict.unknown, "write"),
                    verdict.unknown_applied
                ),
            );
        }
    }

    fn ended(&self, elected: Duration, acknowledged: Duration, verdict: &Verdict) {
        println!(
            "\n{} {} of {} acknowledged writes lost. New leader after {}, first write after {}.\n",
            self.paint("1;32", "Survived."),
            0,
            grouped(verdict.acknowledged),
            ms(elected),
            ms(acknowledged)
        );
    }
}
