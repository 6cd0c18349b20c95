//! How long an election takes, exactly. With a one-way latency of `L` and durable writes of `W`, on
//! hosts that wake on time:
//!
//! ```text
//! without pre-vote          candidate                         voter
//! d            the deadline passes; its own write begins,
//!              RequestVote leaves beside it
//! d + W        its own write is durable
//! d + L                                                       is asked, writes term and vote
//! d + L + W                                                   the vote is durable and leaves
//! d + 2L + W   leads
//! ```
//!
//! Two latencies and one write: of the two writes only the voter's is on the path, for the
//! candidate's own begins a latency earlier and nothing but its leadership waits for it. So it
//! shows only on a candidate whose disk is slower than a round trip and the voter's disk together:
//! then the leader stands at `d + W'`, `W'` being that candidate's write. A pre-vote comes first,
//! changes nothing that would have to be written, and costs `2L` more.
//!
//! That holds while no rival spoils the ballot. On a network of one latency the first to ask is the
//! first to be heard everywhere, so it loses only the votes of servers whose own deadline came
//! before its request. It wins unless it is left without a majority; then the ballot is split, and
//! the tests say how often that comes about.

use std::time::Duration;

use crate::pump::{Cluster, Network, seeds, us};
use raft_core::{Config, Instant, NodeId, Raft, Role};

/// A rival must wake within this of the first, out of the 150 ms from which deadlines are drawn.
const LATENCY: Duration = us(500);
const WRITE: Duration = us(115);

/// Seeds per number of servers, unless the environment says otherwise.
const SEEDS: u64 = 3;

fn without_pre_vote(config: &mut Config) {
    config.pre_vote = false;
}

fn with_pre_vote(config: &mut Config) {
    assert!(config.pre_vote, "it is on by default");
}

fn cluster(servers: u64, seed: u64, configure: fn(&mut Config)) -> Cluster {
    let mut cluster = Cluster::with(servers, seed, configure);
    cluster.network = Network::reliable(LATENCY);
    cluster.disk_latency = WRITE;
    cluster
}

/// The deadlines of all servers that run, earliest first.
fn deadlines(cluster: &Cluster) -> Vec<(Instant, NodeId)> {
    let running = cluster.hosts.iter().filter_map(|host| host.raft.as_ref());
    let mut deadlines: Vec<_> =
        running.filter_map(|raft| Some((raft.next_deadline()?, raft.id()))).collect();
    deadlines.sort_unstable();
    deadlines
}

/// Runs until somebody leads a later term than now; returns who and when.
fn next_leader(cluster: &mut Cluster) -> (Instant, NodeId) {
    let known = cluster.hosts.iter().filter_map(|host| host.raft.as_ref()).map(Raft::term);
    let known = known.max().expect("somebody runs");
    let leads = |cluster: &Cluster| cluster.leader().filter(|id| cluster.raft(*id).term() > known);
    assert!(cluster.run_until(Duration::from_secs(5), |cluster| leads(cluster).is_some()));
    (cluster.now, leads(cluster).expect("it was just seen"))
}

/// The next election is won by the first deadline's owner, exactly `span` after it. Returns false
/// if rivals spoil it.
fn next_election_takes(cluster: &mut Cluster, span: Duration) -> bool {
    let deadlines = deadlines(cluster);
    let (first, candidate) = deadlines[0];
    let asked_at = first + LATENCY;
    let rivals = deadlines.iter().skip(1).filter(|(at, _)| *at < asked_at).count();
    let servers = cluster.hosts.len();
    let votes = deadlines.len() - rivals;
    let (elected_at, leader) = next_leader(cluster);
    let took = elected_at.saturating_duration_since(first);
    if votes <= servers / 2 {
        assert!(took > span, "{servers} servers, {rivals} rivals");
        return false;
    }
    assert_eq!((leader, took), (candidate, span), "{servers} servers, {rivals} rivals");
    true
}

/// The first election of a cluster, and the one after its leader is gone.
fn every_election_takes(configure: fn(&mut Config), span: Duration) {
    let (mut elections, mut spoilt) = (0, 0);
    for servers in 3..=51 {
        for seed in seeds(SEEDS) {
            let mut cluster = cluster(servers, seed, configure);
            let first = next_election_takes(&mut cluster, span);
            let leader = cluster.leader().expect("just elected");
            cluster.run_for(Duration::from_millis(120));
            assert_eq!(cluster.leader(), Some(leader), "{servers} servers, seed {seed}");
            cluster.crash(leader);
            // Its last heartbeat may be on its way still, and arms the deadlines anew.
            cluster.run_for(2 * LATENCY);
            let second = next_election_takes(&mut cluster, span);
            elections += 2;
            spoilt += [first, second].into_iter().filter(|held| !held).count();
        }
    }
    println!("{spoilt} of {elections} elections were spoilt by rivals");
    assert!(spoilt <= 1 + elections / 1000, "{spoilt} of {elections} elections were spoilt");
}

#[test]
fn an_election_takes_two_latencies_and_a_write() {
    every_election_takes(without_pre_vote, 2 * LATENCY + WRITE);
}

#[test]
fn an_election_with_pre_vote_takes_four_latencies_and_a_write() {
    every_election_takes(with_pre_vote, 4 * LATENCY + WRITE);
}

/// The candidate's own write overlaps the round trip and the voters' writes, and shows only where
/// it outlasts them.
#[test]
fn the_candidates_own_write_is_off_the_path() {
    for (own, span) in [
        (us(0), 2 * LATENCY + WRITE),
        (2 * LATENCY + WRITE, 2 * LATENCY + WRITE),
        (2 * LATENCY + WRITE + us(1), 2 * LATENCY + WRITE + us(1)),
        (us(9000), us(9000)),
    ] {
        let mut cluster = cluster(5, 1, without_pre_vote);
        let (_, candidate) = deadlines(&cluster)[0];
        cluster.host_mut(candidate).disk_latency = Some(own);
        assert!(next_election_takes(&mut cluster, span));
    }
}

/// Of the voters only those count who make the majority: slow disks among the rest cost nothing.
#[test]
fn the_slow_minority_is_not_waited_for() {
    for servers in [3, 5, 7, 51] {
        let mut cluster = cluster(servers, 2, with_pre_vote);
        let (_, candidate) = deadlines(&cluster)[0];
        let slow = cluster.others(&[candidate]);
        for id in slow.into_iter().take(servers as usize / 2) {
            cluster.host_mut(id).disk_latency = Some(us(50_000));
        }
        assert!(next_election_takes(&mut cluster, 4 * LATENCY + WRITE));
    }
}

/// Each server but the candidate is asked twice and answers twice; with three servers that makes
/// eight messages.
#[test]
fn a_first_election_costs_four_messages_for_each_voter() {
    for servers in 3..=51 {
        let seed = (0..1000).find(|seed| is_unrivalled(&cluster(servers, *seed, with_pre_vote)));
        let mut cluster = cluster(servers, seed.expect("most are"), with_pre_vote);
        let _ = next_leader(&mut cluster);
        let asked = servers - 1;
        let appends = asked;
        assert_eq!(
            (cluster.requests, cluster.messages),
            (2 * asked + appends, 4 * asked + appends)
        );
        if servers == 3 {
            let spent = cluster.messages - appends;
            assert!(spent <= 8, "{spent} messages for the first election of three servers");
        }
    }
}

fn is_unrivalled(cluster: &Cluster) -> bool {
    let deadlines = deadlines(cluster);
    // A follower that times out before it was asked for its vote asks for votes itself.
    deadlines[0].0 + 3 * LATENCY + WRITE < deadlines[1].0
}

/// At ten heartbeats a second each follower is asked ten times and answers ten times. Two
/// followers: twenty requests.
#[test]
fn idleness_costs_one_round_trip_per_follower_and_heartbeat() {
    for servers in [3, 5, 7, 51] {
        let mut cluster = cluster(servers, 3, |config| {
            config.heartbeat_interval = Duration::from_millis(100);
            config.election_timeout_min = Duration::from_millis(500);
            config.election_timeout_max = Duration::from_millis(800);
        });
        let leader = cluster.elect();
        cluster.run_for(Duration::from_secs(1));
        let before = (cluster.requests, cluster.messages);
        cluster.run_for(Duration::from_secs(10));
        let (requests, messages) = (cluster.requests - before.0, cluster.messages - before.1);
        let followers = servers - 1;
        assert!(requests <= 100 * followers, "{requests} requests in ten idle seconds");
        assert!(messages <= 200 * followers, "{messages} messages in ten idle seconds");
        assert_eq!(cluster.raft(leader).role(), Role::Leader);
        println!("{servers} servers idle: {requests} requests, {messages} messages in ten seconds");
    }
}

const SLOT: Duration = Duration::from_millis(5);

fn ranked(config: &mut Config) {
    config.rank_slot = Some(SLOT);
}

/// A cluster whose leader has ranked its followers, and is gone with these.
fn without_leader(servers: u64, seed: u64, gone: impl Fn(&Cluster) -> Vec<NodeId>) -> Cluster {
    let mut cluster = cluster(servers, seed, ranked);
    cluster.elect();
    cluster.run_for(Duration::from_millis(120));
    gone(&cluster).into_iter().for_each(|id| cluster.crash(id));
    cluster.run_for(2 * LATENCY);
    cluster
}

fn leader(cluster: &Cluster) -> NodeId {
    cluster.leader().expect("one was elected")
}

/// The successors stand one after the other, a slot apart; so the first of them wins, and no rival
/// spoils it.
#[test]
fn ranked_successors_stand_a_slot_apart() {
    for servers in 3..=51 {
        let mut cluster = without_leader(servers, 1, |cluster| vec![leader(cluster)]);
        let line = deadlines(&cluster);
        let slots = line.windows(2).map(|pair| pair[1].0.saturating_duration_since(pair[0].0));
        assert!(slots.into_iter().all(|slot| slot == SLOT), "{line:?}");
        assert!(next_election_takes(&mut cluster, 4 * LATENCY + WRITE));
    }
}

/// If the first in line is gone too, the second takes over a slot later.
#[test]
fn a_dead_successor_costs_a_slot() {
    for servers in [5, 7, 51] {
        let mut all = without_leader(servers, 1, |cluster| vec![leader(cluster)]);
        let line = deadlines(&all);
        assert!(next_election_takes(&mut all, 4 * LATENCY + WRITE));
        let mut rest = without_leader(servers, 1, |cluster| {
            let first = cluster.others(&[leader(cluster)]);
            let first = first.into_iter().find(|id| *id == line[0].1);
            vec![leader(cluster), first.expect("it follows")]
        });
        assert_eq!(deadlines(&rest), line[1..]);
        assert!(next_election_takes(&mut rest, 4 * LATENCY + WRITE));
    }
}

/// Everyone's connection to the leader breaks: the first in line is elected without waiting for any
/// timeout.
#[test]
fn a_broken_connection_elects_the_first_in_line_at_once() {
    for servers in 3..=51 {
        let mut cluster = without_leader(servers, 1, |_| Vec::new());
        let gone = leader(&cluster);
        cluster.crash(gone);
        cluster.run_for(2 * LATENCY);
        let crashed_at = cluster.now;
        for id in cluster.others(&[gone]) {
            cluster.with_raft(id, |raft| raft.suspect_leader(gone));
        }
        let (elected_at, _) = next_leader(&mut cluster);
        let took = elected_at.saturating_duration_since(crashed_at);
        assert_eq!(took, 4 * LATENCY + WRITE, "{servers} servers");
    }
}

/// A hint that is wrong costs nobody an election: the others still hear their leader, and refuse.
#[test]
fn a_wrong_hint_elects_nobody() {
    for servers in [3, 5, 7] {
        let mut cluster = without_leader(servers, 1, |_| Vec::new());
        let (alive, term) = (leader(&cluster), cluster.raft(leader(&cluster)).term());
        for round in 0..20 {
            let others = cluster.others(&[alive]);
            let deceived = others[round % others.len()];
            cluster.with_raft(deceived, |raft| raft.suspect_leader(alive));
            cluster.run_for(Duration::from_millis(30));
        }
        assert_eq!((leader(&cluster), cluster.raft(alive).term()), (alive, term));
    }
}
