//! The classic laboratory, part C: crashes that lose what the disk was not done with, and Figure 8
//! at random. In virtual time.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::pump::{Cluster, Conditions, Host, Network, for_each_seed, for_each_seed_under, ms, us};
use raft_core::{Index, Instant, NodeId};

/// Rounds of Figure 8 for each seed, as many as the laboratory plays.
const FIGURE_8_ROUNDS: u64 = 1000;

fn numbered(number: u64) -> Vec<u8> {
    format!("command {number}").into_bytes()
}

/// Commands that were applied somewhere are applied everywhere, in the same order; returns them.
fn settle(cluster: &mut Cluster, last: Index) -> Vec<Vec<u8>> {
    let caught_up = |cluster: &Cluster| cluster.hosts.iter().all(|h| h.last_applied >= last);
    assert!(cluster.run_until(ms(10_000), caught_up), "not all caught up at {}", cluster.now);
    let shortest = cluster.hosts.iter().map(|host| host.applied.len()).min().expect("some");
    let commands = cluster.hosts[0].applied[..shortest].to_vec();
    for host in &cluster.hosts {
        assert_eq!(host.applied[..shortest], commands);
    }
    commands.into_iter().map(|(_, command)| command).collect()
}

/// All restart, then the leader, then a follower, and between them commands commit. Nothing that
/// was agreed is lost.
#[test]
fn crashes_between_commits() {
    for_each_seed(&[3, 5], |servers, seed| {
        let all = servers as usize;
        let mut cluster = Cluster::laboratory_at_odds(Conditions::Reliable, servers, seed);
        cluster.agree(b"11", all);

        cluster.ids().for_each(|id| cluster.restart(id));
        cluster.agree(b"12", all);

        let leader = cluster.elect();
        cluster.restart(leader);
        cluster.agree(b"13", all);

        let leader = cluster.elect();
        cluster.crash(leader);
        cluster.agree(b"14", all - 1);
        cluster.start(leader);
        let caught_up = |cluster: &Cluster| cluster.applied_commands(leader).len() == 4;
        assert!(cluster.run_until(ms(5000), caught_up), "the one that returned does not catch up");

        let leader = cluster.elect();
        let follower = cluster.others(&[leader])[0];
        cluster.crash(follower);
        cluster.agree(b"15", all - 1);
        cluster.start(follower);
        let last = cluster.agree(b"16", all);
        let commands = settle(&mut cluster, last);
        assert_eq!(commands, [b"11", b"12", b"13", b"14", b"15", b"16"]);
    });
}

/// Minorities fall and return in turn while the rest agrees.
#[test]
fn minorities_crash_in_turn() {
    for_each_seed(&[5], |servers, seed| {
        let mut cluster = Cluster::laboratory_at_odds(Conditions::Reliable, servers, seed);
        for round in 0..5 {
            cluster.agree(&numbered(10 * round), 5);
            let leader = cluster.elect();
            let others = cluster.others(&[leader]);
            cluster.crash(others[0]);
            cluster.crash(others[1]);
            cluster.agree(&numbered(10 * round + 1), 3);
            cluster.crash(leader);
            cluster.crash(others[2]);
            cluster.crash(others[3]);
            cluster.start(others[0]);
            cluster.start(others[1]);
            cluster.run_for(ms(1000));
            cluster.start(others[2]);
            cluster.agree(&numbered(10 * round + 2), 3);
            cluster.start(others[3]);
            cluster.start(leader);
        }
        let last = cluster.agree(b"last", 5);
        let commands = settle(&mut cluster, last);
        let wanted = (0..5).flat_map(|round| (0..3).map(move |n| numbered(10 * round + n)));
        assert_eq!(commands, wanted.chain([b"last".to_vec()]).collect::<Vec<_>>());
    });
}

/// All stop in the middle of a burst on slow disks, with whatever of it was written: what any state
/// machine has seen is there after the restart.
#[test]
fn a_power_cut_in_a_burst_loses_nothing_that_was_applied() {
    for_each_seed(&[3, 5], |servers, seed| {
        let mut cluster = Cluster::laboratory_at_odds(Conditions::Reliable, servers, seed);
        cluster.disk_latency = us(3000);
        cluster.agree(b"first", servers as usize);
        for round in 0..10 {
            let leader = cluster.elect();
            for number in 0..20 {
                cluster.propose(leader, &numbered(100 * round + number)).expect("it leads");
                let pause = us(cluster.random(1000));
                cluster.run_for(pause);
            }
            let seen = cluster.hosts.iter().map(|host| host.applied.clone());
            let seen = seen.max_by_key(Vec::len).expect("some");
            cluster.ids().for_each(|id| cluster.crash(id));
            cluster.run_for(ms(100));
            cluster.ids().for_each(|id| cluster.start(id));
            let last = cluster.agree(&numbered(100 * round + 99), servers as usize);
            settle(&mut cluster, last);
            for host in &cluster.hosts {
                assert_eq!(host.applied[..seen.len()], seen, "an applied command is lost");
            }
        }
    });
}

/// Some disks are quick and some take longer than a round trip, now these and now those, and
/// minorities crash in the middle of their writes: a leader may commit before its own disk is done,
/// and a follower may hear of a commit before its own is.
#[test]
fn disks_of_all_speeds() {
    for_each_seed(&[3, 5], |servers, seed| {
        let mut cluster = Cluster::laboratory_at_odds(Conditions::Reliable, servers, seed);
        let minority = servers as usize / 2;
        for round in 0..20 {
            for id in cluster.ids() {
                let millis = cluster.random(4) * cluster.random(10);
                cluster.host_mut(id).disk_latency = Some(ms(millis));
            }
            if let Some(leader) = cluster.leader() {
                for number in 1..5 {
                    let _ = cluster.propose(leader, &numbered(10 * round + number));
                    let pause = us(cluster.random(5000));
                    cluster.run_for(pause);
                }
            }
            let fallen = cluster.random_ids(minority);
            fallen.iter().for_each(|id| cluster.crash(*id));
            cluster.agree(&numbered(10 * round), servers as usize - minority);
            fallen.iter().for_each(|id| cluster.start(*id));
        }
        let last = cluster.agree(b"last", servers as usize);
        let commands = settle(&mut cluster, last);
        for round in 0..20 {
            assert!(commands.contains(&numbered(10 * round)), "an agreed command is lost");
        }
    });
}

/// Figure 8 at random: leaders take a command and crash at once or a little later, and others
/// return, so that many terms leave entries that are on a majority and not committed.
#[test]
fn figure_8() {
    for_each_seed(&[5], |servers, seed| {
        let mut cluster = Cluster::laboratory_at_odds(Conditions::Reliable, servers, seed);
        cluster.agree(b"first", 5);
        let mut number = 0;
        for _ in 0..FIGURE_8_ROUNDS {
            let leader = propose_to_all(&mut cluster, &mut number);
            pause(&mut cluster);
            let Some(leader) = leader else { continue };
            if cluster.host(leader).raft.is_some() {
                cluster.crash(leader);
            }
            let fallen = fallen(&cluster);
            if fallen.len() > 2 {
                let at = cluster.random(fallen.len() as u64);
                cluster.start(fallen[at as usize]);
            }
        }
        fallen(&cluster).into_iter().for_each(|id| cluster.start(id));
        let last = cluster.agree(b"last", 5);
        settle(&mut cluster, last);
    });
}

/// The same on a bad network, where leaders are cut off rather than killed.
#[test]
fn figure_8_on_a_bad_network() {
    let bad = [Conditions::Unreliable, Conditions::LongReordering];
    for_each_seed_under(&bad, &[5], |conditions, servers, seed| {
        let mut cluster = Cluster::laboratory_at_odds(conditions, servers, seed);
        cluster.agree_within(ms(120_000), b"first", 1);
        let mut number = 0;
        for _ in 0..FIGURE_8_ROUNDS {
            let leader = propose_to_all(&mut cluster, &mut number);
            pause(&mut cluster);
            if let Some(leader) = leader.filter(|_| cluster.one_in(2)) {
                cluster.disconnect(leader);
            }
            let away: Vec<_> = cluster.ids().filter(|id| !cluster.host(*id).connected).collect();
            if away.len() > 2 {
                let at = cluster.random(away.len() as u64);
                cluster.connect(away[at as usize]);
            }
        }
        cluster.ids().for_each(|id| cluster.connect(id));
        cluster.agree_within(ms(300_000), b"last", 5);
    });
}

fn fallen(cluster: &Cluster) -> Vec<NodeId> {
    cluster.ids().filter(|id| cluster.host(*id).raft.is_none()).collect()
}

/// Gives every server that believes to lead a new command; returns the last such server.
fn propose_to_all(cluster: &mut Cluster, number: &mut u64) -> Option<NodeId> {
    let leaders = cluster.believed_leaders();
    for leader in &leaders {
        *number += 1;
        let _ = cluster.propose(*leader, &numbered(*number));
    }
    leaders.last().copied()
}

/// Mostly some ten milliseconds, now and then long enough for an election.
fn pause(cluster: &mut Cluster) {
    let max = if cluster.one_in(10) { ms(1000) } else { ms(13) };
    let span = cluster.random(max.as_micros() as u64);
    cluster.run_for(us(span));
}

/// On an unreliable network, fifty rounds of five commands, and servers that restart: all commands
/// are agreed on.
#[test]
fn agreement_on_an_unreliable_network() {
    for_each_seed_under(&[Conditions::Unreliable], &[5], |conditions, servers, seed| {
        let mut cluster = Cluster::laboratory_at_odds(conditions, servers, seed);
        for round in 0..50 {
            if let Some(leader) = cluster.leader() {
                for number in 1..5 {
                    let _ = cluster.propose(leader, &numbered(10 * round + number));
                }
            }
            cluster.agree_within(ms(60_000), &numbered(10 * round), 1);
            if cluster.one_in(5) {
                let at = cluster.random(servers);
                cluster.restart(NodeId::new(at + 1));
            }
        }
        cluster.network = Network::reliable(ms(1));
        let last = cluster.agree(b"last", 5);
        let commands = settle(&mut cluster, last);
        for round in 0..50 {
            assert!(commands.contains(&numbered(10 * round)), "an agreed command is lost");
        }
    });
}

/// A client that waits for its command to be applied where it was told, and gives up after two
/// seconds.
#[derive(Default)]
struct Client {
    waits: Option<(Index, Vec<u8>, Instant)>,
    acknowledged: Vec<Vec<u8>>,
}

impl Client {
    fn turn(&mut self, cluster: &mut Cluster, number: &mut u64) {
        if let Some((index, command, deadline)) = self.waits.take() {
            if cluster.applied_count(index, &command) > 0 {
                self.acknowledged.push(command);
            } else if cluster.now < deadline {
                self.waits = Some((index, command, deadline));
                return;
            }
        }
        let Some(leader) = cluster.leader() else { return };
        *number += 1;
        let command = numbered(*number);
        if let Ok((_, index)) = cluster.propose(leader, &command) {
            self.waits = Some((index, command, cluster.now + ms(2000)));
        }
    }
}

/// Three clients work while servers are cut off, come back, crash and start again: what a client
/// was told is never lost.
#[test]
fn churn() {
    let conditions = [Conditions::Reliable, Conditions::Unreliable];
    let told = Cell::new(0);
    for_each_seed_under(&conditions, &[5], |conditions, servers, seed| {
        let mut cluster = Cluster::laboratory_at_odds(conditions, servers, seed);
        let mut clients = [Client::default(), Client::default(), Client::default()];
        let mut number = 0;
        for _ in 0..20 {
            disturb(&mut cluster);
            for _ in 0..14 {
                clients.iter_mut().for_each(|client| client.turn(&mut cluster, &mut number));
                cluster.run_for(ms(50));
            }
        }
        cluster.network = Network::reliable(ms(1));
        cluster.ids().for_each(|id| cluster.connect(id));
        fallen(&cluster).into_iter().for_each(|id| cluster.start(id));
        let last = cluster.agree(b"last", 5);
        let commands = settle(&mut cluster, last);
        let mut times = BTreeMap::new();
        commands.iter().for_each(|command| *times.entry(command).or_insert(0) += 1);
        for command in clients.iter().flat_map(|client| &client.acknowledged) {
            assert_eq!(times.get(command), Some(&1), "an acknowledged command, applied once");
            told.set(told.get() + 1);
        }
    });
    assert!(told.get() > 0, "no client was told anything");
}

/// Sometimes cuts a server off, sometimes kills one, and takes one of those back more often than
/// not.
fn disturb(cluster: &mut Cluster) {
    let victims = cluster.random_ids(2);
    if cluster.one_in(5) {
        cluster.disconnect(victims[0]);
    }
    if cluster.one_in(5) && cluster.host(victims[1]).raft.is_some() {
        cluster.crash(victims[1]);
    }
    let away = |host: &Host| !host.connected || host.raft.is_none();
    let away: Vec<_> = cluster.ids().filter(|id| away(cluster.host(*id))).collect();
    if !away.is_empty() && cluster.one_in(2) {
        let at = cluster.random(away.len() as u64);
        let back = away[at as usize];
        cluster.connect(back);
        if cluster.host(back).raft.is_none() {
            cluster.start(back);
        }
    }
}
