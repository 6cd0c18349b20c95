//! Timeouts that adapt to the network (§5.6), an option: what one server makes of them, and what a
//! cluster does.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::pump::{Cluster, Network, ms, us};
use crate::server::{TestServer, append, at, id, index, term};
use raft_core::{Adaptive, AppendResult, Body, Config, Instant, Lease, LogId, NodeId, Role, Round};

const FLOOR: Duration = ms(50);
const CONFIGURED: Duration = ms(150);

fn adaptive(config: &mut Config) {
    config.adaptive = Some(Adaptive { election_timeout_floor: FLOOR });
}

// A follower.

/// A follower of server 2 in term 1, whose leader says that this timeout is in force.
fn told(timeout: Option<Duration>, configure: impl FnOnce(&mut Config)) -> TestServer {
    let mut server = TestServer::with(3, configure);
    tell(&mut server, timeout);
    server
}

fn tell(server: &mut TestServer, timeout: Option<Duration>) {
    let mut heartbeat = append(LogId::ZERO, Vec::new(), 0);
    heartbeat.election_timeout_micros = timeout.and_then(micros);
    server.hear(2, 1, Body::AppendEntries(heartbeat));
}

fn micros(timeout: Duration) -> Option<NonZeroU32> {
    NonZeroU32::new(timeout.as_micros() as u32)
}

/// How long the server waits for its leader.
fn patience(server: &TestServer) -> Duration {
    let deadline = server.next_deadline().expect("it follows");
    deadline.saturating_duration_since(server.now)
}

fn in_force(server: &TestServer) -> Duration {
    server.status().election_timeout
}

/// Deadlines are drawn from the range that the leader tells of, which is as wide for its timeouts
/// as the configured one.
#[test]
fn a_follower_waits_as_long_as_its_leader_says() {
    let mut waits = Vec::new();
    let mut server = told(Some(ms(60)), adaptive);
    for _ in 0..1000 {
        tell(&mut server, Some(ms(60)));
        waits.push(patience(&server));
    }
    assert!(waits.iter().all(|wait| (ms(60)..ms(120)).contains(wait)));
    assert!(waits.iter().any(|wait| *wait < ms(63)) && waits.iter().any(|wait| *wait > ms(117)));
}

/// Whatever a message says, a server keeps within its own floor and what it is configured to.
#[test]
fn no_message_sets_a_timeout_out_of_bounds() {
    for (said, believed) in [
        (us(1), FLOOR),
        (us(49_999), FLOOR),
        (us(50_001), us(50_001)),
        (us(149_999), us(149_999)),
        (us(150_001), CONFIGURED),
        (us(u32::MAX.into()), CONFIGURED),
    ] {
        let server = told(Some(said), adaptive);
        assert_eq!(in_force(&server), believed, "told {said:?}");
        assert!((believed..believed * 2).contains(&patience(&server)));
    }
}

/// A leader without the option says nothing, and a follower without it takes no word of it.
#[test]
fn who_has_not_the_option_keeps_the_configured_timeouts() {
    for server in [told(None, adaptive), told(Some(FLOOR), |_| {})] {
        assert_eq!(in_force(&server), CONFIGURED);
        assert!((CONFIGURED..CONFIGURED * 2).contains(&patience(&server)));
    }
}

/// A voter is as sticky as its leader's other followers are patient: else they would stand and be
/// refused (thesis 4.2.3).
#[test]
fn stickiness_follows_the_timeout() {
    let sticky_for = |configure: fn(&mut Config)| {
        let mut server = told(Some(ms(60)), configure);
        let heard_at = server.now;
        (1..).map(ms).find(|span| {
            server.now = heard_at + *span;
            server.asked_to_pre_vote(3, 1, at(1, 1)) == Some(true)
        })
    };
    assert_eq!(sticky_for(adaptive), Some(ms(60)));
    let slot = |config: &mut Config| {
        adaptive(config);
        config.rank_slot = Some(ms(5));
    };
    assert_eq!(sticky_for(slot), Some(ms(55)));
}

/// Slots are a matter of latencies, and stay what they are up to a quarter of the timeout.
#[test]
fn successors_stand_a_slot_apart_or_a_quarter_of_the_timeout() {
    for (slot, apart) in [(ms(5), ms(5)), (ms(30), ms(15))] {
        let mut server = TestServer::with(3, |config| {
            adaptive(config);
            config.rank_slot = Some(slot);
        });
        let mut heartbeat = append(LogId::ZERO, Vec::new(), 0);
        (heartbeat.rank, heartbeat.election_timeout_micros) = (Some(2), micros(ms(60)));
        server.hear(2, 1, Body::AppendEntries(heartbeat));
        assert_eq!(patience(&server), ms(60) + 2 * apart);
    }
}

/// A first try that fails may have failed because the network has become slow; the next ones have
/// all the time that is configured.
#[test]
fn a_failed_try_falls_back_to_the_configured_timeouts() {
    let mut server = told(Some(FLOOR), adaptive);
    server.time_out();
    assert_eq!((server.role(), in_force(&server)), (Role::PreCandidate, CONFIGURED));
    let stood_at = server.now;
    server.time_out();
    assert!(server.now >= stood_at + CONFIGURED);
    let campaign = server.campaign().expect("it asks");
    server.pre_granted(2, campaign);
    assert_eq!((server.role(), in_force(&server)), (Role::Candidate, CONFIGURED));
}

/// A new leader has measured nothing yet. What the last one said is forgotten with it.
#[test]
fn a_new_term_begins_with_the_configured_timeouts() {
    let mut server = told(Some(FLOOR), adaptive);
    server.hear(3, 2, Body::AppendEntries(append(LogId::ZERO, Vec::new(), 0)));
    assert_eq!((server.term(), in_force(&server)), (term(2), CONFIGURED));
}

/// Who suspects that its leader is gone stands in its turn, by the slots that the leader's timeouts
/// make.
#[test]
fn a_hint_keeps_the_slots() {
    let mut server = TestServer::with(3, |config| {
        adaptive(config);
        config.rank_slot = Some(ms(30));
    });
    let mut heartbeat = append(LogId::ZERO, Vec::new(), 0);
    (heartbeat.rank, heartbeat.election_timeout_micros) = (Some(1), micros(ms(60)));
    server.hear(2, 1, Body::AppendEntries(heartbeat));
    server.suspect_leader(id(2));
    server.turn();
    assert_eq!(patience(&server), ms(15));
}

// A leader.

/// A leader of three, all of whose followers have answered so many heartbeats after these times.
fn leader(beats: u32, answer_after: [Option<Duration>; 2]) -> TestServer {
    let mut server = TestServer::with(3, adaptive);
    server.lead();
    beat(&mut server, beats, answer_after);
    server
}

/// Heartbeats, and the answers to them.
fn beat(server: &mut TestServer, beats: u32, answer_after: [Option<Duration>; 2]) {
    for _ in 0..beats {
        let (sent_at, round) = (next_heartbeat(server), server.newest_round());
        let mut answers: Vec<_> = answer_after.into_iter().zip(2..).collect();
        answers.sort();
        for (after, peer) in answers {
            if let Some(after) = after {
                server.now = sent_at + after;
                server.answered(peer, round, AppendResult::Matched(index(1)));
            }
        }
    }
}

/// Sleeps until it sends heartbeats.
fn next_heartbeat(server: &mut TestServer) -> Instant {
    server.take_sent();
    while server.newest_round() == Round::new(0) {
        server.now = server.next_deadline().expect("it leads");
        server.turn();
    }
    server.now
}

fn heartbeat_interval(server: &mut TestServer) -> Duration {
    beat(server, 1, [Some(ms(1)); 2]);
    let last = server.now;
    next_heartbeat(server).saturating_duration_since(last) + ms(1)
}

/// Too few answers say nothing; and then the timeouts fall little by little, and the heartbeats
/// with them.
#[test]
fn a_leader_measures_before_it_shortens_anything() {
    let quick = [Some(ms(1)); 2];
    // What leaves with the no-op is timed and not answered here, so that the first beat is no
    // measurement.
    let mut server = leader(17, quick);
    assert_eq!(in_force(&server), CONFIGURED);
    beat(&mut server, 1, quick);
    assert_eq!(in_force(&server), CONFIGURED - (CONFIGURED - FLOOR) / 16);
    beat(&mut server, 500, quick);
    assert!(in_force(&server) - FLOOR < us(16), "{:?}", in_force(&server));
    assert!(heartbeat_interval(&mut server) - FLOOR / 3 < us(16));
}

/// Ten times the broadcast time of the slowest voter that answers.
#[test]
fn the_slowest_voter_that_answers_sets_the_timeout() {
    let slow = leader(500, [Some(ms(1)), Some(ms(8))]);
    assert!((ms(80)..ms(81)).contains(&in_force(&slow)), "{:?}", in_force(&slow));
    let mut silent = leader(17, [Some(ms(1)), Some(ms(8))]);
    beat(&mut silent, 500, [Some(ms(1)), None]);
    assert!(in_force(&silent) < FLOOR + us(16));
    // It answers again, and has its say at once.
    beat(&mut silent, 2, [Some(ms(1)), Some(ms(8))]);
    assert!(in_force(&silent) > ms(79), "{:?}", in_force(&silent));
}

/// A voter that comes, or comes back after a long time, may be slow: the configured timeouts are in
/// force until it is known.
#[test]
fn a_voter_that_comes_is_measured_first() {
    let mut server = leader(500, [Some(ms(1)), None]);
    assert!(in_force(&server) < FLOOR + us(16));
    // The answer that it owes since it fell silent tells nothing.
    beat(&mut server, 1, [Some(ms(1)); 2]);
    for _ in 0..16 {
        beat(&mut server, 1, [Some(ms(1)); 2]);
        assert_eq!(in_force(&server), CONFIGURED);
    }
    beat(&mut server, 500, [Some(ms(1)); 2]);
    assert!(in_force(&server) < FLOOR + us(16));
}

/// One late answer, and the next heartbeat tells of longer timeouts. The heartbeats stay quick for
/// as long as somebody may not have heard of it.
#[test]
fn timeouts_rise_at_once_and_heartbeats_slow_down_later() {
    let mut server = leader(500, [Some(ms(1)); 2]);
    beat(&mut server, 2, [Some(ms(1)), Some(ms(12))]);
    assert!(in_force(&server) > ms(100), "{:?}", in_force(&server));
    let rose_at = server.now;
    while server.now < rose_at + (CONFIGURED - FLOOR) {
        assert!(heartbeat_interval(&mut server) <= FLOOR / 3 + us(16));
    }
    let slow = |server: &mut TestServer| heartbeat_interval(server) > FLOOR / 3 + ms(1);
    assert!((0..100).any(|_| slow(&mut server)), "they never slow down");
}

/// An answer to a later round says nothing of how long an earlier one took: that one may be lost.
#[test]
fn an_answer_to_another_round_is_no_measurement() {
    let mut server = leader(500, [Some(ms(1)); 2]);
    let before = in_force(&server);
    for _ in 0..10 {
        beat(&mut server, 1, [Some(ms(1)), None]);
        beat(&mut server, 1, [Some(ms(1)); 2]);
    }
    assert_eq!(in_force(&server), before);
    assert_eq!(server.status().peers[1].round_trip, Some(ms(1)));
}

/// Without the option nothing is measured, and messages are what they were.
#[test]
fn nothing_of_it_without_the_option() {
    let mut server = TestServer::new(3);
    server.lead();
    beat(&mut server, 50, [Some(ms(1)); 2]);
    assert_eq!(in_force(&server), CONFIGURED);
    assert!(server.status().peers.iter().all(|peer| peer.round_trip.is_none()));
    next_heartbeat(&mut server);
    let heartbeats = server.appends_to(2);
    assert!(heartbeats.iter().all(|heartbeat| heartbeat.election_timeout_micros.is_none()));
}

// A cluster.

fn cluster(servers: u64, configure: fn(&mut Config)) -> Cluster {
    let mut cluster = Cluster::with(servers, 1, configure);
    cluster.network = Network::reliable(us(500));
    cluster
}

fn timeouts(cluster: &Cluster) -> Vec<Duration> {
    let running = cluster.hosts.iter().filter_map(|host| host.raft.as_ref());
    running.map(|raft| raft.status().election_timeout).collect()
}

/// How long it takes until somebody else leads.
fn downtime(cluster: &mut Cluster, leader: NodeId) -> Duration {
    let crashed_at = cluster.now;
    cluster.crash(leader);
    assert!(cluster.run_until(ms(5000), |cluster| cluster.leader().is_some()));
    cluster.now.saturating_duration_since(crashed_at)
}

/// On a quick network all hold the floor within seconds, and a leader that falls silent is replaced
/// by that.
#[test]
fn a_quick_network_replaces_a_silent_leader_within_the_floor() {
    let random = |config: &mut Config| {
        adaptive(config);
        config.rank_slot = None;
    };
    let ranked: fn(&mut Config) = adaptive;
    for (configure, most) in [(ranked, FLOOR + ms(5)), (random, FLOOR * 2)] {
        let mut cluster = cluster(5, configure);
        let leader = cluster.elect();
        cluster.run_for(Duration::from_secs(6));
        assert!(timeouts(&cluster).iter().all(|timeout| *timeout < FLOOR + ms(1)));
        let took = downtime(&mut cluster, leader);
        assert!((FLOOR / 2..most).contains(&took), "{took:?}");
    }
}

/// The network gets slow all at once; nobody loses the leader, and soon all have the time that they
/// need.
#[test]
fn a_network_that_gets_slow_costs_no_election() {
    let mut cluster = cluster(5, adaptive);
    let leader = cluster.elect();
    let term = cluster.raft(leader).term();
    cluster.run_for(Duration::from_secs(6));
    for latency in [ms(20), us(500), ms(2), ms(10), ms(20)] {
        cluster.network =
            Network { latency: (latency, latency + latency / 4), ..Network::reliable(latency) };
        cluster.run_for(Duration::from_secs(6));
        let least = (latency * 20).min(CONFIGURED);
        assert!(timeouts(&cluster).iter().all(|timeout| *timeout >= least), "{latency:?}");
    }
    assert_eq!((cluster.leader(), cluster.raft(leader).term()), (Some(leader), term));
}

/// The leader dies, and at the same moment the network becomes slower than its timeouts were: the
/// configured ones elect.
#[test]
fn a_network_that_has_become_too_slow_elects_by_the_configured_timeouts() {
    let mut cluster = cluster(5, adaptive);
    let leader = cluster.elect();
    cluster.run_for(Duration::from_secs(6));
    cluster.network = Network::reliable(ms(25));
    let took = downtime(&mut cluster, leader);
    assert!(took < CONFIGURED * 6, "{took:?}");
}

/// A broken word about timeouts costs no more than time: a follower that stands too early is told
/// that the leader lives.
#[test]
fn a_lost_word_costs_no_election() {
    let mut cluster = cluster(3, adaptive);
    let leader = cluster.elect();
    let term = cluster.raft(leader).term();
    cluster.run_for(Duration::from_secs(6));
    let deaf = cluster.others(&[leader])[0];
    // The timeouts rise while one server hears nothing, and for longer than it waits.
    cluster.network = Network::reliable(ms(8));
    cluster.lose_if(move |message| message.to == deaf);
    cluster.run_for(ms(90));
    cluster.lose_nothing();
    cluster.run_for(Duration::from_secs(2));
    assert_eq!((cluster.leader(), cluster.raft(leader).term()), (Some(leader), term));
}

// What cannot work.

#[test]
fn bounds_that_cannot_work_are_refused_and_say_what_would() {
    type Break = fn(&mut Config);
    let floor = |config: &mut Config, floor| {
        config.adaptive = Some(Adaptive { election_timeout_floor: floor });
    };
    assert_eq!(TestServer::with(3, adaptive).config().validate(), Ok(()));
    let broken: [(Break, &str); 8] = [
        (|config| config.lease = Some(Lease { drift_ppm_max: 500 }), "lease"),
        (|config| config.pre_vote = false, "pre_vote"),
        (|config| config.check_quorum = false, "check_quorum"),
        (|config| config.election_timeout_max = ms(3_600_001), "3600s"),
        (|config| config.election_timeout_min = ms(40), "heartbeat_interval"),
        (|config| config.adaptive = Some(Adaptive { election_timeout_floor: ms(0) }), "above zero"),
        (|config| config.adaptive = Some(Adaptive { election_timeout_floor: ms(151) }), "150ms"),
        (|config| config.adaptive = Some(Adaptive { election_timeout_floor: us(2999) }), "4ms"),
    ];
    for (break_it, says) in broken {
        let mut config = Config::new(id(1), [1, 2, 3].map(id));
        adaptive(&mut config);
        break_it(&mut config);
        let error = config.validate().expect_err("it cannot work").to_string();
        assert!(error.contains(says), "{error}");
    }
    let mut works = Config::new(id(1), [1, 2, 3].map(id));
    floor(&mut works, ms(4));
    assert_eq!(works.validate(), Ok(()));
}
