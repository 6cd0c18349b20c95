//! How fast the simulator is, on one core and with all checks on.

use std::time::{Duration, Instant};

use raft_core::NodeId;
use raft_core::sim::{Cluster, Crash, Failure, Registers};

const SERVERS: u64 = 5;
/// Virtual time for which an idle cluster is simulated.
const IDLE: Duration = Duration::from_secs(100_000);
const FAILOVERS: u64 = 100_000;
/// After so many failovers a new cluster begins: there are no snapshots here, so a restart costs as much as the log is long.
const FAILOVERS_PER_CLUSTER: u64 = 100;
/// More than any election here takes.
const ELECTION_MAX: Duration = Duration::from_secs(5);

/// Simulated seconds and failovers per second of real time.
pub(crate) fn measure() -> Result<(), Box<Failure>> {
    let mut cluster = Cluster::<Registers>::new(SERVERS, 1);
    let began = Instant::now();
    cluster.run_for(IDLE)?;
    let took = began.elapsed();
    let counts = cluster.counts();
    println!(
        "{SERVERS} servers, heartbeats every 50 ms, idle: {:.0} simulated seconds per second, {:.0} ns per message",
        IDLE.as_secs_f64() / took.as_secs_f64(),
        took.as_secs_f64() * 1e9 / counts.messages as f64,
    );

    let began = Instant::now();
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
        simulated += cluster.now().as_micros() as f64 / 1e6;
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "{SERVERS} servers, timeouts of 150-300 ms: {:.0} failovers per second ({:.0} simulated seconds per second)",
        failovers as f64 / took,
        simulated / took,
    );
    Ok(())
}

fn elect(cluster: &mut Cluster<Registers>, not: Option<NodeId>) -> Result<NodeId, Box<Failure>> {
    let elected = cluster.run_until(ELECTION_MAX, |cluster| cluster.followed_leader().is_some())?;
    assert!(elected, "no leader within {ELECTION_MAX:?}");
    let leader = cluster.followed_leader().expect("just seen");
    assert_ne!(Some(leader), not);
    Ok(leader)
}
