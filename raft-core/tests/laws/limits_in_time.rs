//! Limits in virtual time, with snapshots, disks and messages: no server is flooded, and a cluster
//! goes on whatever its limits are.

use std::time::Duration;

use raft_core::sim::{Cluster, Network, StateMachine};
use raft_core::{Config, Entry, Index, NodeId};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

const SECOND: Duration = Duration::from_secs(1);

fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

/// Lets time pass, in which no property breaks.
fn run<S: StateMachine>(cluster: &mut Cluster<S>, span: Duration) {
    cluster.run_for(span).unwrap_or_else(|failure| panic!("{failure}"));
}

/// Runs until this holds, which it does within this time.
fn wait<S: StateMachine>(
    cluster: &mut Cluster<S>,
    span: Duration,
    holds: impl Fn(&Cluster<S>) -> bool,
) {
    let held = cluster.run_until(span, holds).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(held, "not within {span:?}");
}

fn elect<S: StateMachine>(cluster: &mut Cluster<S>) -> NodeId {
    wait(cluster, SECOND * 5, |cluster| cluster.followed_leader().is_some());
    cluster.followed_leader().expect("just seen")
}

/// A state of which nothing is kept: its snapshots have no bytes.
#[derive(Default)]
struct Nothing;

impl StateMachine for Nothing {
    type Command = Vec<u8>;
    type Query = ();
    type Reply = ();

    fn apply(&mut self, _index: Index, _command: &Vec<u8>) {}

    fn query(&self, (): &()) {}

    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }

    fn restore(&mut self, _snapshot: &[u8]) {}

    fn chunk(snapshot: &[u8]) -> Vec<u8> {
        snapshot.to_vec()
    }
}

/// A follower that needs a snapshot of no bytes gets it, whatever is lost on the way (§7).
#[test]
fn a_snapshot_of_no_bytes_reaches_a_follower() {
    for seed in 0..20 {
        let configure = |config: &mut Config| {
            config.snapshot_log_entries = 5;
            config.log_tail_bytes = 0;
        };
        let mut cluster = Cluster::<Nothing>::with(3, seed, configure);
        let leader = elect(&mut cluster);
        let behind = id(1 + leader.get() % 3);
        cluster.disconnect(behind);
        for _ in 0..20 {
            cluster.propose(leader, b"command".to_vec()).expect("it leads");
            run(&mut cluster, SECOND / 100);
        }
        let mut network = Network::reliable(SECOND / 1000);
        network.request_loss_per_mille = 300;
        network.reply_loss_per_mille = 300;
        cluster.set_network(network);
        cluster.connect(behind);
        let through = cluster.applied(leader);
        wait(&mut cluster, SECOND * 30, |cluster| cluster.applied(behind) >= through);
        assert!(cluster.counts().restores > 0);
    }
}

/// Counts the bytes of all commands.
#[derive(Default)]
struct Total(u64);

impl StateMachine for Total {
    type Command = Vec<u8>;
    type Query = ();
    type Reply = u64;

    fn apply(&mut self, _index: Index, command: &Vec<u8>) -> u64 {
        self.0 += command.len() as u64;
        self.0
    }

    fn query(&self, (): &()) -> u64 {
        self.0
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn restore(&mut self, snapshot: &[u8]) {
        self.0 = snapshot.iter().fold(0, |total, byte| total << 8 | u64::from(*byte));
    }

    fn chunk(snapshot: &[u8]) -> Vec<u8> {
        snapshot.to_vec()
    }
}

/// Limits near the smallest that validate.
fn tight(seed: u64, config: &mut Config) {
    let mut rng = Pcg32::seed_from_u64(seed);
    let mut pick = |from: &[usize]| from[rng.next_u32() as usize % from.len()];
    let overhead = Entry::<()>::OVERHEAD_BYTES;
    let command = pick(&[1, 10, 64, 300]);
    config.command_bytes_max = command;
    config.append_bytes_max = command + pick(&[0, 1, 200]);
    config.inflight_appends_max = pick(&[1, 2, 128]);
    config.inflight_bytes_max = pick(&[1, 100, 1 << 20]);
    config.write_bytes_max = pick(&[1, 100, 1 << 20]);
    config.inflight_writes_max = pick(&[1, 2, 64]);
    config.apply_bytes_max = pick(&[1, 100, 1 << 20]);
    config.inflight_applies_max = pick(&[1, 4]);
    config.uncommitted_bytes_max = pick(&[1, 100, usize::MAX]);
    config.reads_waiting_max = 1;
    config.log_tail_bytes = pick(&[0, 1, 100, 500]);
    config.snapshot_log_bytes = pick(&[1, 33, 100, 1000]);
    config.snapshot_log_entries = [0, 1, 10, u64::MAX][pick(&[0, 1, 2, 3])];
    config.snapshot_chunk_bytes = pick(&[1, 5, 100]);
    config.inflight_chunks_max = pick(&[1, 2, 8]);
    let least = config.log_tail_bytes + config.snapshot_log_bytes + command + 2 * overhead;
    config.log_bytes_max = least - 1;
    assert!(config.validate().is_err(), "{config:?}");
    config.log_bytes_max = least + pick(&[0, 0, 1, 50, 1000]);
    assert_eq!(config.validate(), Ok(()));
}

/// Limits that differ from server to server; but each log has room for what any leader may leave
/// uncommitted.
fn different(seed: u64, config: &mut Config) {
    tight(seed + 1000 * config.id.get(), config);
    config.uncommitted_bytes_max = config.uncommitted_bytes_max.min(100);
    config.log_bytes_max += 1000;
}

/// Every configuration that validates lets a cluster go on committing commands of
/// `command_bytes_max`, through changes of leaders that leave behind all that they may have
/// uncommitted.
#[test]
fn a_cluster_goes_on_within_any_limits() {
    for seed in 0..150 {
        let configure = move |config: &mut Config| match seed % 3 {
            0 => different(seed, config),
            _ => tight(seed, config),
        };
        let mut cluster = Cluster::<Total>::with(3, seed, configure);
        let mut network = Network::reliable(SECOND / 1000);
        if seed % 2 == 0 {
            network.request_loss_per_mille = 100;
            network.reply_loss_per_mille = 100;
        }
        cluster.set_network(network);
        for turn in 0..12 {
            for _ in 0..20 {
                commit(&mut cluster, seed);
            }
            // As much as is accepted, then this leader is lost, or one of its followers is.
            let leader = elect(&mut cluster);
            let away = if turn % 2 == 0 { leader } else { id(1 + (leader.get() + turn) % 3) };
            if turn % 3 == 0 {
                cluster.disconnect(away);
            }
            let command = command(&cluster, leader);
            for _ in 0..1000 {
                if cluster.propose(leader, command.clone()).is_err() {
                    break;
                }
            }
            if turn % 4 == 1 {
                run(&mut cluster, SECOND / 500);
            }
            cluster.disconnect(away);
            commit(&mut cluster, seed);
            cluster.connect(away);
        }
        let leader = elect(&mut cluster);
        let through = cluster.applied(leader);
        let all = |cluster: &Cluster<Total>| (1..=3).all(|at| cluster.applied(id(at)) >= through);
        wait(&mut cluster, SECOND * 60, all);
    }
}

fn command<S: StateMachine>(cluster: &Cluster<S>, leader: NodeId) -> Vec<u8> {
    vec![7; cluster.raft(leader).map_or(0, |raft| raft.config().command_bytes_max)]
}

/// Commits a command of the longest length at whichever server leads.
fn commit(cluster: &mut Cluster<Total>, seed: u64) {
    let deadline = cluster.now() + SECOND * 60;
    loop {
        assert!(cluster.now() < deadline, "seed {seed}: nothing is committed by {deadline:?}");
        let Some(leader) = cluster.followed_leader() else {
            run(cluster, SECOND / 50);
            continue;
        };
        let longest = command(cluster, leader);
        let Ok((term, index)) = cluster.propose(leader, longest) else {
            run(cluster, SECOND / 50);
            continue;
        };
        let applied = move |cluster: &Cluster<Total>| {
            let leads = cluster.raft(leader).is_some_and(|raft| raft.term() == term);
            !leads || cluster.applied(leader) >= index
        };
        let done = cluster.run_until(SECOND * 10, applied);
        done.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        if cluster.raft(leader).is_some_and(|raft| raft.term() == term)
            && cluster.applied(leader) >= index
        {
            return;
        }
    }
}
