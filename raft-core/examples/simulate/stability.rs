//! The stability guard: how often a cluster changes its leader though no server failed, in
//! simulated hours.
//!
//! Five servers with the default timeouts of 150-300 ms, and a client that writes every 20 ms.
//! Messages take 0.2-2 ms and one of a hundred is lost. Each row adds one thing that happens to
//! healthy hosts.

use std::fmt;
use std::time::Duration;

use progress::Progress;
use raft_core::sim::{Cluster, Delay, Failure, Network, Registers, Swap};

const SERVERS: u64 = 5;
/// How often the client writes.
const WRITE_EVERY: Duration = Duration::from_millis(20);
/// How often something happens that a row adds.
const EVERY: Duration = Duration::from_secs(10);
/// A simulated hour.
const HOUR: Duration = Duration::from_secs(3600);
/// More than a first election takes.
const FIRST_LEADER_MAX: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);

/// What happens to the hosts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// One sync in a thousand takes 200 ms.
    Hiccups,
    /// A server stands still for 20 ms.
    Pause,
    /// All servers stand still at once for 250 ms.
    HostPause,
    /// One follower is told that the connection to the living leader died.
    FalseHint,
    /// All of the above.
    AllOfThese,
    /// All followers are told so within a millisecond, as when a proxy refuses to dial it again.
    /// They agree, so an election is right, unless a write that is on its way shows them before
    /// that the leader lives. The client has just written in this row, and has not in the next.
    FalseHints,
    /// Everything.
    All,
}

const ROWS: [Trouble; 8] = [
    Trouble::None,
    Trouble::Hiccups,
    Trouble::Pause,
    Trouble::HostPause,
    Trouble::FalseHint,
    Trouble::AllOfThese,
    Trouble::FalseHints,
    Trouble::All,
];

/// Prints a table of needless elections per simulated hour.
pub(crate) fn measure(hours: u64) -> Result<(), Box<Failure>> {
    println!("{SERVERS} servers, timeouts of 150-300 ms, {hours} simulated hours for each row:");
    println!("  needless elections an hour, of them at most in one hour");
    let rows = ROWS.len() as u64;
    let progress = Progress::of("stability", rows * hours, "simulated hours");
    for trouble in ROWS {
        let mut counts = Vec::new();
        for seed in 0..hours {
            counts.push(needless_elections(trouble, seed)?);
            progress.advance(1);
        }
        let (sum, most) = (counts.iter().sum::<u64>(), counts.iter().max().unwrap_or(&0));
        let mean = sum as f64 / hours.max(1) as f64;
        progress::print(format_args!("  {mean:>8.1} {most:>8}  {trouble}"));
    }
    Ok(())
}

/// Elections in an hour, after the first.
fn needless_elections(trouble: Trouble, seed: u64) -> Result<u64, Box<Failure>> {
    let mut cluster = Cluster::<Registers>::new(SERVERS, seed);
    let delay = Delay::Uniform { min: MILLISECOND / 5, max: MILLISECOND * 2 };
    let (request_loss_per_mille, reply_loss_per_mille) = (10, 10);
    let network = Network::reliable(MILLISECOND);
    cluster.set_network(Network { delay, request_loss_per_mille, reply_loss_per_mille, ..network });
    let hiccups = Delay::Hiccups { usual: MILLISECOND, long: MILLISECOND * 200, per_mille: 1 };
    let disk =
        if trouble.includes(Trouble::Hiccups) { hiccups } else { Delay::Constant(MILLISECOND) };
    cluster.ids().to_vec().into_iter().for_each(|id| cluster.set_disk_latency(id, disk));
    cluster.run_until(FIRST_LEADER_MAX, |cluster| cluster.followed_leader().is_some())?;
    let before = cluster.counts().elections;
    let turns = u64::try_from(EVERY.as_millis() / WRITE_EVERY.as_millis()).unwrap_or(1);
    let mut value = 0;
    for _ in 0..HOUR.as_millis() / WRITE_EVERY.as_millis() {
        cluster.run_for(WRITE_EVERY)?;
        if let Some(leader) = cluster.leader() {
            value += 1;
            // One that is full refuses, and the client asks again.
            let _ = cluster.propose(leader, Swap::new(0, value));
        }
        if cluster.random(turns) == 0 {
            happen(trouble, &mut cluster)?;
        }
    }
    Ok(cluster.counts().elections - before)
}

fn happen(trouble: Trouble, cluster: &mut Cluster<Registers>) -> Result<(), Box<Failure>> {
    let ids = cluster.ids().to_vec();
    let any = ids[cluster.random(SERVERS) as usize];
    if trouble.includes(Trouble::Pause) {
        cluster.pause(any);
        cluster.run_for(MILLISECOND * 20)?;
        cluster.resume(any);
        cluster.run_for(WRITE_EVERY)?;
    }
    if trouble.includes(Trouble::HostPause) {
        ids.iter().for_each(|id| cluster.pause(*id));
        cluster.run_for(MILLISECOND * 250)?;
        cluster.resume_all();
        cluster.run_for(WRITE_EVERY)?;
    }
    let Some(leader) = cluster.leader() else { return Ok(()) };
    if trouble.includes(Trouble::FalseHint) && any != leader {
        cluster.suspect_leader(any, leader);
        cluster.run_for(WRITE_EVERY)?;
    }
    if trouble.includes(Trouble::FalseHints) {
        for id in ids.into_iter().filter(|id| *id != leader) {
            cluster.suspect_leader(id, leader);
            let later = Duration::from_micros(cluster.random(250));
            cluster.run_for(later)?;
        }
    }
    Ok(())
}

impl Trouble {
    fn includes(self, other: Self) -> bool {
        let by_all_of_these = self == Self::AllOfThese && other != Self::FalseHints;
        self == other || self == Self::All || by_all_of_these
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "nothing else",
            Self::Hiccups => "one sync in 1,000 takes 200 ms",
            Self::Pause => "every 10 s a server stands still for 20 ms",
            Self::HostPause => "every 10 s all servers stand still at once for 250 ms",
            Self::FalseHint => "every 10 s a follower is told that the leader's connection died",
            Self::AllOfThese => "all of these",
            Self::FalseHints => "every 10 s all followers are told so within a millisecond",
            Self::All => "everything",
        })
    }
}
