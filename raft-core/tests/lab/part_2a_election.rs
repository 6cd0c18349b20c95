//! The classic laboratory, part A: leader election. In virtual time, on a network that is reliable,
//! unreliable, or reorders over seconds.

use crate::pump::{Cluster, Conditions, for_each_seed, for_each_seed_under, ms};
use raft_core::NodeId;

const BAD: [Conditions; 2] = [Conditions::Unreliable, Conditions::LongReordering];

/// One leader, whose term all agree on, and none other while nothing fails.
#[test]
fn initial_election() {
    for_each_seed(&[3, 5, 7], |servers, seed| {
        let mut cluster = Cluster::laboratory(servers, seed);
        let leader = cluster.elect();
        cluster.run_for(ms(50));
        cluster.assert_steady(leader, ms(4000));
        assert_eq!(cluster.hosts.iter().map(|host| host.elections).sum::<u64>(), 1);
    });
}

/// On a bad network a leader stands all the same.
#[test]
fn initial_election_on_a_bad_network() {
    for_each_seed_under(&BAD, &[3, 5, 7], |conditions, servers, seed| {
        let mut cluster = Cluster::laboratory_under(conditions, servers, seed);
        cluster.elect_within(conditions.election_max());
    });
}

/// The leader is cut off, and there is a new one; the old one returns, and it still leads; without
/// a quorum nobody does; with one there is a leader again, whom the last to return does not
/// disturb.
#[test]
fn re_election() {
    for_each_seed(&[3, 4, 5, 7], |servers, seed| {
        let mut cluster = Cluster::laboratory(servers, seed);
        let first = cluster.elect();
        cluster.disconnect(first);
        let second = cluster.elect();
        assert_ne!(first, second);

        cluster.connect(first);
        cluster.run_for(ms(150));
        cluster.assert_steady(second, ms(2000));

        let rest = cluster.others(&[second]);
        // One short of a quorum, which of an even number is half.
        let (_, cut_off) = rest.split_at(servers as usize / 2);
        cluster.disconnect(second);
        cut_off.iter().for_each(|id| cluster.disconnect(*id));
        cluster.run_for(ms(2000));
        assert_eq!(cluster.believed_leaders(), [], "leads without a quorum");

        cluster.connect(cut_off[0]);
        let third = cluster.elect();
        let away = cluster.ids().filter(|id| !cluster.host(*id).connected);
        for id in away.collect::<Vec<_>>() {
            cluster.connect(id);
            cluster.run_for(ms(150));
            cluster.assert_steady(third, ms(1000));
        }
    });
}

/// The same on a bad network, where all that can be asked for is that a leader stands whenever a
/// quorum is there.
#[test]
fn re_election_on_a_bad_network() {
    for_each_seed_under(&BAD, &[3, 5], |conditions, servers, seed| {
        let election_max = conditions.election_max();
        let mut cluster = Cluster::laboratory_under(conditions, servers, seed);
        let first = cluster.elect_within(election_max);
        cluster.disconnect(first);
        let second = cluster.elect_within(election_max);
        assert_ne!(first, second);
        cluster.connect(first);
        let leader = cluster.elect_within(election_max);

        let quorum = servers as usize / 2 + 1;
        let minority: Vec<NodeId> = cluster.others(&[leader])[..quorum - 1].to_vec();
        let cut_off = cluster.others(&minority);
        cut_off.iter().for_each(|id| cluster.disconnect(*id));
        // Replies of before may come for another two seconds, and each proves that the leader was
        // followed.
        cluster.run_for(ms(4000));
        assert_eq!(cluster.believed_leaders(), [], "leads without a quorum");

        cut_off.iter().for_each(|id| cluster.connect(*id));
        cluster.elect_within(election_max);
    });
}

/// Nine rounds; in each, three of seven servers are cut off, and there is one leader among the
/// rest, whom those who return do not disturb.
#[test]
fn many_elections() {
    for_each_seed(&[7], |servers, seed| {
        let mut cluster = Cluster::laboratory(servers, seed);
        cluster.elect();
        for _ in 0..9 {
            let cut_off = cluster.random_ids(3);
            cut_off.iter().for_each(|id| cluster.disconnect(*id));
            let leader = cluster.elect();
            assert!(!cut_off.contains(&leader));
            cut_off.iter().for_each(|id| cluster.connect(*id));
            cluster.run_for(ms(150));
            cluster.assert_steady(leader, ms(500));
        }
    });
}

/// The same on a bad network. One server less is cut off: where all four of four must say yes
/// twice, and one of five answers is lost, only one ballot in four succeeds.
#[test]
fn many_elections_on_a_bad_network() {
    for_each_seed_under(&BAD, &[7], |conditions, servers, seed| {
        let mut cluster = Cluster::laboratory_under(conditions, servers, seed);
        for _ in 0..9 {
            let cut_off = cluster.random_ids(3);
            cut_off.iter().for_each(|id| cluster.disconnect(*id));
            let leader = cluster.elect_within(conditions.election_max());
            assert!(!cut_off.contains(&leader));
            cut_off.iter().for_each(|id| cluster.connect(*id));
            cluster.elect_within(conditions.election_max());
        }
    });
}

/// A server that was cut off again and again asks in vain, and its term is what it was (thesis
/// 9.6).
#[test]
fn returning_servers_do_not_disturb() {
    for_each_seed(&[3, 5, 7], |servers, seed| {
        let mut cluster = Cluster::laboratory(servers, seed);
        let leader = cluster.elect();
        cluster.run_for(ms(50));
        let term = cluster.raft(leader).term();
        for away in cluster.others(&[leader]) {
            cluster.disconnect(away);
            cluster.run_for(ms(3000));
            assert_eq!(cluster.raft(away).term(), term, "a lonely server raises its term");
            cluster.connect(away);
            cluster.run_for(ms(150));
            cluster.assert_steady(leader, ms(500));
        }
    });
}

/// A server that can speak and hears nothing takes its leader for dead. Those who hear the leader
/// do not listen to it, whether it asks first or stands at once (thesis 4.2.3).
#[test]
fn a_deaf_server_deposes_nobody() {
    for_each_seed(&[3, 5, 7], |servers, seed| {
        let mut cluster =
            Cluster::with(servers, seed, move |config| config.pre_vote = seed % 2 == 0);
        let leader = cluster.elect();
        cluster.run_for(ms(50));
        let term = cluster.raft(leader).term();
        let deaf = cluster.others(&[leader])[0];
        cluster.cut = cluster.others(&[deaf]).into_iter().map(|id| (id, deaf)).collect();
        for _ in 0..40 {
            cluster.run_for(ms(50));
            for raft in cluster.others(&[deaf]).into_iter().map(|id| cluster.raft(id)) {
                assert_eq!((raft.leader(), raft.term()), (Some(leader), term));
            }
        }
    });
}
