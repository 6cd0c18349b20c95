//! How fast the simulator is, on one core and with all checks on.

use std::fs;
use std::time::{Duration, Instant};

use progress::Progress;
use raft_core::NodeId;
use raft_core::sim::{Cluster, Crash, Failure, Registers};

const SERVERS: u64 = 5;
/// Virtual time for which an idle cluster is simulated.
const IDLE: Duration = Duration::from_secs(100_000);
const FAILOVERS: u64 = 100_000;
/// After so many failovers a new cluster begins: there are no snapshots here, so a restart costs as
/// much as the log is long.
const FAILOVERS_PER_CLUSTER: u64 = 100;
/// More than any election here takes.
const ELECTION_MAX: Duration = Duration::from_secs(5);

/// Simulated seconds and failovers per second of real time.
pub(crate) fn measure() -> Result<(), Box<Failure>> {
    let mut cluster = Cluster::<Registers>::new(SERVERS, 1);
    let watch = Watch::start();
    cluster.run_for(IDLE)?;
    let messages = cluster.counts().messages as f64;
    println!("{SERVERS} servers, heartbeats every 50 ms, idle:");
    watch.print("simulated seconds", IDLE.as_secs_f64());
    watch.print("messages", messages);

    let progress = Progress::of("speed", FAILOVERS, "failovers");
    let watch = Watch::start();
    let (mut failovers, mut seed, mut simulated) = (0, 0, 0.0);
    while failovers < FAILOVERS {
        let mut cluster = Cluster::<Registers>::new(SERVERS, seed);
        seed += 1;
        let mut leader = elect(&mut cluster, None)?;
        for _ in 0..FAILOVERS_PER_CLUSTER {
            cluster.crash(leader, Crash::Tear);
            let next = elect(&mut cluster, Some(leader))?;
            cluster.start(leader);
            leader = next;
            failovers += 1;
        }
        progress.advance(FAILOVERS_PER_CLUSTER);
        simulated += cluster.now().as_micros() as f64 / 1e6;
    }
    drop(progress);
    println!("{SERVERS} servers, timeouts of 150-300 ms, failing over:");
    watch.print("failovers", failovers as f64);
    watch.print("simulated seconds", simulated);
    Ok(())
}

/// Real time, and what this thread had of it.
struct Watch {
    began: Instant,
    cpu: Option<u64>,
}

impl Watch {
    fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu_nanos() }
    }

    fn print(&self, what: &str, count: f64) {
        print!("  {:>12.0} {what} per second", count / self.began.elapsed().as_secs_f64());
        if let (Some(began), Some(now)) = (self.cpu, cpu_nanos()) {
            print!(", {:>12.0} per second of CPU time", count * 1e9 / (now - began) as f64);
        }
        println!();
    }
}

/// What this thread has computed, in nanoseconds; only Linux tells.
fn cpu_nanos() -> Option<u64> {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split(' ').next()?.parse().ok()
}

fn elect(cluster: &mut Cluster<Registers>, not: Option<NodeId>) -> Result<NodeId, Box<Failure>> {
    let elected = cluster.run_until(ELECTION_MAX, |cluster| cluster.followed_leader().is_some())?;
    assert!(elected, "no leader within {ELECTION_MAX:?}");
    let leader = cluster.followed_leader().expect("just seen");
    assert_ne!(Some(leader), not);
    Ok(leader)
}
