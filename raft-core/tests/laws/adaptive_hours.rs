//! Timeouts that adapt, for hours on a network that loses messages and hosts that stand still: no
//! leader is lost for nothing.
//!
//! The time is virtual and the servers are the real ones. What a network of one latency shows is in
//! `adaptive_timeouts.rs`.

use std::time::Duration;

use raft_core::sim::{Cluster, Delay, Network, Registers, Swap};
use raft_core::{Adaptive, Config, NodeId};

const HOUR: Duration = Duration::from_secs(3600);

/// Every server stands still for so long, every ten seconds.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_EVERY: Duration = Duration::from_secs(10);

fn adaptive(config: &mut Config) {
    config.adaptive = Some(Adaptive { election_timeout_floor: Duration::from_millis(50) });
    config.snapshot_log_entries = 10_000;
}

/// One message of a hundred is lost, and each takes between `latency` and ten times that.
fn lossy(latency: Duration) -> Network {
    Network {
        delay: Delay::Uniform { min: latency, max: latency * 10 },
        request_loss_per_mille: 10,
        reply_loss_per_mille: 10,
        ..Network::reliable(latency)
    }
}

fn cluster(configure: fn(&mut Config), network: Network) -> Cluster<Registers> {
    let mut cluster = Cluster::with(5, 1, configure);
    cluster.set_network(network);
    let led = cluster.run_until(HOUR, |cluster| cluster.followed_leader().is_some());
    assert!(led.expect("no rule is broken"));
    cluster
}

/// Lets so much time pass, in which a client writes now and then and servers pause, one after the
/// other, if they do.
fn pass(cluster: &mut Cluster<Registers>, span: Duration, pauses: bool) {
    let ids = cluster.ids().to_vec();
    let each = PAUSE_EVERY / ids.len() as u32;
    let mut turns = ids.iter().cycle();
    let end = cluster.now() + span;
    while cluster.now() < end {
        let sleeper = *turns.next().expect("there are servers");
        if pauses {
            cluster.pause(sleeper);
        }
        cluster.run_for(PAUSE).expect("no rule is broken");
        cluster.resume(sleeper);
        let rest = each - PAUSE + Duration::from_micros(cluster.random(10_000));
        cluster.run_for(rest).expect("no rule is broken");
        if let Some(leader) = cluster.leader() {
            // One that is handing over refuses.
            cluster.propose(leader, Swap::new(0, 1)).ok();
        }
    }
}

fn longest_timeout(cluster: &Cluster<Registers>) -> Duration {
    let status = |id: &NodeId| cluster.raft(*id).expect("it runs").status().election_timeout;
    cluster.ids().iter().map(status).max().expect("there are servers")
}

fn needless_elections(
    configure: fn(&mut Config),
    network: Network,
    span: Duration,
    pauses: bool,
) -> u64 {
    let mut cluster = cluster(configure, network);
    let before = cluster.counts().elections;
    pass(&mut cluster, span, pauses);
    cluster.counts().elections - before
}

/// The guard for published timeouts: at most one election an hour that nothing asked for.
#[test]
fn an_hour_of_losses_and_pauses_costs_no_leader() {
    let lossy = lossy(Duration::from_micros(200));
    let needless = needless_elections(adaptive, lossy, HOUR, true);
    println!("{needless} needless elections in an hour");
    assert!(needless <= 1, "{needless} needless elections in an hour");
}

/// A floor that would not do as a fixed timeout costs nothing on a network that is slower than
/// that: the timeouts stay above it.
#[test]
fn a_floor_too_low_for_the_network_costs_no_leader() {
    const FLOOR: Duration = Duration::from_millis(12);
    let fixed = |config: &mut Config| {
        config.election_timeout_min = FLOOR;
        config.election_timeout_max = FLOOR * 2;
        config.heartbeat_interval = FLOOR / 3;
        config.rank_slot = Some(FLOOR / 4);
        config.snapshot_log_entries = 10_000;
    };
    let low = |config: &mut Config| {
        adaptive(config);
        config.adaptive = Some(Adaptive { election_timeout_floor: FLOOR });
    };
    let slow = lossy(Duration::from_millis(2));
    let needless = needless_elections(fixed, slow, Duration::from_secs(60), false);
    println!("{needless} needless elections in a minute with the floor for a fixed timeout");
    assert!(needless > 1, "{needless}: this network shows nothing");
    assert!(needless_elections(low, slow, HOUR, false) <= 1);
}

/// Quick, slower by little, and quick again: the timeouts go with it, and the leader stays.
#[test]
fn timeouts_follow_a_network_whose_load_comes_and_goes() {
    let mut cluster = cluster(adaptive, lossy(Duration::from_micros(50)));
    let before = cluster.counts().elections;
    for _ in 0..20 {
        cluster.set_network(lossy(Duration::from_micros(50)));
        pass(&mut cluster, Duration::from_secs(60), false);
        assert!(longest_timeout(&cluster) < Duration::from_millis(100));
        cluster.set_network(lossy(Duration::from_millis(2)));
        pass(&mut cluster, Duration::from_secs(60), false);
        assert_eq!(longest_timeout(&cluster), Duration::from_millis(150));
    }
    assert!(cluster.counts().elections - before <= 1);
}
