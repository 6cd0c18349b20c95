//! The classic laboratory, part B: agreement. In virtual time.

use crate::pump::{Cluster, Conditions, for_each_seed, for_each_seed_under, ms};
use raft_core::{AppendResult, Body, Index, NodeId};

const LABORATORY: [Conditions; 2] = [Conditions::Reliable, Conditions::Unreliable];

fn numbered(number: u64) -> Vec<u8> {
    format!("command {number}").into_bytes()
}

/// Waits until all servers that run hold and have applied the same.
fn settle(cluster: &mut Cluster) {
    let settled = cluster.run_until(ms(10_000), |cluster| {
        let first = &cluster.hosts[0];
        cluster.hosts.iter().all(|host| host.log == first.log && host.applied == first.applied)
    });
    assert!(settled, "the logs still differ at {}", cluster.now);
}

/// Nothing is committed before it is proposed; three commands come to the places 1 to 3, not
/// counting no-ops.
#[test]
fn agreement() {
    for_each_seed(&[3, 5, 7], |servers, seed| {
        let mut cluster = Cluster::laboratory(servers, seed);
        for place in 1..=3 {
            assert!(!cluster.is_applied(&numbered(place)), "applied before it was proposed");
            cluster.agree(&numbered(place), servers as usize);
            for id in cluster.ids() {
                let wanted: Vec<_> = (1..=place).map(numbered).collect();
                assert_eq!(cluster.applied_commands(id), wanted);
            }
        }
    });
}

/// Every command travels to every follower once: ten of 5000 bytes cost three times their size and
/// 50 000 bytes at most.
#[test]
fn bytes() {
    const COMMANDS: u64 = 10;
    const COMMAND_BYTES: u64 = 5000;
    for_each_seed(&[3], |servers, seed| {
        let mut cluster = Cluster::laboratory(servers, seed);
        cluster.agree(b"first", 3);
        let before = cluster.bytes;
        for number in 0..COMMANDS {
            cluster.agree(&[number as u8; COMMAND_BYTES as usize], 3);
        }
        let cost = cluster.bytes - before;
        assert!(cost <= servers * COMMANDS * COMMAND_BYTES + 50_000, "{cost} bytes");
        // Two followers, and at most 100 bytes around each command.
        assert!(cost <= 2 * COMMANDS * (COMMAND_BYTES + 300), "{cost} bytes");
    });
}

/// A follower is away and the others agree; it returns and catches up.
#[test]
fn follower_away_and_back() {
    for_each_seed(&[3], |servers, seed| {
        let mut cluster = Cluster::laboratory(servers, seed);
        cluster.agree(b"101", 3);
        let leader = cluster.elect();
        let away = cluster.others(&[leader])[0];
        cluster.disconnect(away);
        for number in 102..=103 {
            cluster.agree(&numbered(number), 2);
        }
        cluster.run_for(ms(800));
        for number in 104..=105 {
            cluster.agree(&numbered(number), 2);
        }
        cluster.connect(away);
        cluster.agree(b"106", 3);
        cluster.agree(b"107", 3);
        settle(&mut cluster);
        assert_eq!(cluster.host(away).applied.len(), 7);
        assert_eq!(cluster.elect(), leader, "the one that returned made another leader");
    });
}

/// The leader is away and the others agree under another; that one is away too, and nobody can
/// agree. Each returns and catches up.
#[test]
fn leader_away_twice() {
    for_each_seed(&[3], |servers, seed| {
        let mut cluster = Cluster::laboratory(servers, seed);
        cluster.agree(b"101", 3);
        let first = cluster.elect();
        cluster.disconnect(first);
        cluster.agree(b"102", 2);
        cluster.run_for(ms(800));
        cluster.agree(b"103", 2);

        let second = cluster.elect();
        cluster.disconnect(second);
        for id in cluster.ids() {
            // ReadRefused, or taken into a log from which it cannot be committed.
            let _ = cluster.propose(id, b"104");
        }
        cluster.run_for(ms(2000));
        assert!(!cluster.is_applied(b"104"), "applied without a quorum");

        cluster.connect(first);
        cluster.agree(b"105", 2);
        cluster.connect(second);
        cluster.agree(b"106", 3);
        settle(&mut cluster);
        assert_ne!(first, second);
    });
}

/// Three of five, or two of four, are away: nothing is committed. They return, and all agree.
#[test]
fn no_agreement_without_a_quorum() {
    for_each_seed(&[4, 5], |servers, seed| {
        let all = servers as usize;
        let mut cluster = Cluster::laboratory(servers, seed);
        cluster.agree(b"10", all);
        let leader = cluster.elect();
        let away = cluster.others(&[leader])[..all.div_ceil(2)].to_vec();
        away.iter().for_each(|id| cluster.disconnect(*id));
        let (_, index) = cluster.propose(leader, b"20").expect("it leads still");
        assert_eq!(index, Index::new(3), "a no-op and a command come before");
        cluster.run_for(ms(2000));
        assert!(!cluster.is_applied(b"20"), "applied without a quorum");
        assert_eq!(cluster.believed_leaders(), [], "leads without a quorum");

        away.iter().for_each(|id| cluster.connect(*id));
        cluster.elect();
        cluster.agree(b"30", all);
        cluster.agree(b"1000", all);
        settle(&mut cluster);
    });
}

/// Five clients propose at once; if the term holds, all five commands commit, each where its client
/// was told.
#[test]
fn concurrent_proposals_of_one_term() {
    for_each_seed_under(&LABORATORY, &[3], |conditions, servers, seed| {
        let mut cluster = Cluster::laboratory_under(conditions, servers, seed);
        cluster.agree(b"first", 3);
        // Where the term changes meanwhile, the laboratory tries again.
        let kept = (0..10).any(|_| {
            let leader = cluster.elect_within(conditions.election_max());
            let proposed = cluster.with_raft(leader, |raft| {
                [0, 1, 2, 3, 4].map(|n| raft.propose(numbered(n)).expect("it leads"))
            });
            let (term, _) = proposed[0];
            assert!(proposed.iter().all(|(at, _)| *at == term), "one turn, one term");
            let applied = cluster.run_until(ms(5000), |cluster| {
                let mut places = proposed.iter().zip(0..);
                places.all(|((_, at), number)| cluster.applied_count(*at, &numbered(number)) == 3)
            });
            let held = cluster.raft(leader).term() == term;
            assert!(applied || !held, "a command of term {term} is lost though the term holds");
            applied
        });
        assert!(kept, "no term held");
    });
}

/// A leader that is cut off takes commands that nobody agrees to; it returns, and gives them up.
#[test]
fn a_cut_off_leader_rejoins() {
    for_each_seed(&[3], |servers, seed| {
        let mut cluster = Cluster::laboratory(servers, seed);
        cluster.agree(b"101", 3);
        let first = cluster.elect();
        cluster.disconnect(first);
        for number in 102..=104 {
            cluster.propose(first, &numbered(number)).expect("it leads still");
        }
        cluster.agree(b"103", 2);
        let second = cluster.elect();
        cluster.disconnect(second);
        cluster.connect(first);
        cluster.agree(b"104", 2);
        cluster.connect(second);
        cluster.agree(b"105", 3);
        settle(&mut cluster);
        let wanted = [&b"101"[..], b"103", b"104", b"105"];
        cluster.ids().for_each(|id| assert_eq!(cluster.applied_commands(id), wanted));
    });
}

/// Two minorities each end with fifty entries that nobody else has, and a majority commits fifty
/// others, twice. The leader finds where the logs part by terms and not by entries.
#[test]
fn long_divergent_logs() {
    for_each_seed_under(&LABORATORY, &[5], divergence);
}

fn divergence(conditions: Conditions, servers: u64, seed: u64) {
    let mut cluster = Cluster::laboratory_under(conditions, servers, seed);
    cluster.agree(b"first", 5);

    // A leader and one follower take fifty commands that cannot commit.
    let first = cluster.elect_within(conditions.election_max());
    let partner = cluster.others(&[first])[0];
    let rest = cluster.others(&[first, partner]);
    rest.iter().for_each(|id| cluster.disconnect(*id));
    propose_fifty(&mut cluster, first, 1000);
    cluster.run_for(ms(300));
    [first, partner].into_iter().for_each(|id| cluster.disconnect(id));

    // The other three commit fifty.
    rest.iter().for_each(|id| cluster.connect(*id));
    commit_fifty(&mut cluster, 2000);

    // Of these three the leader and one more take another fifty that cannot commit.
    let second = cluster.elect_within(conditions.election_max());
    let away = *rest.iter().find(|id| **id != second).expect("one of three");
    cluster.disconnect(away);
    propose_fifty(&mut cluster, second, 3000);
    cluster.run_for(ms(300));

    // The first two come back to the one that was away, and must take its fifty before there can be
    // more.
    cluster.ids().for_each(|id| cluster.disconnect(id));
    [first, partner, away].into_iter().for_each(|id| cluster.connect(id));
    cluster.keep_log = true;
    let third = cluster.elect_within(conditions.election_max());
    if conditions == Conditions::Reliable {
        assert_eq!(third, away, "whose log is the newest of the three");
    }
    commit_fifty(&mut cluster, 4000);

    cluster.ids().for_each(|id| cluster.connect(id));
    cluster.agree(b"last", 5);
    settle(&mut cluster);
    let is_lost = |at: u64| cluster.is_applied(&numbered(at));
    assert!(!(1000..1050).any(is_lost), "a command of the first minority was applied");
    if conditions == Conditions::Reliable {
        assert!(!(3000..3050).any(is_lost), "a command of the second minority was applied");
        let is_rejection = |body: &Body<_>| {
            let Body::AppendEntriesReply(reply) = body else { return false };
            matches!(reply.result, AppendResult::Rejected { .. })
        };
        let rejections = cluster.log.iter().filter(|(_, message)| is_rejection(&message.body));
        // Four followers, each with one conflicting term: once each, and once more for a heartbeat
        // on its way.
        let count = rejections.count();
        assert!(count <= 8, "{count} rejections for four divergent logs");
    }
}

fn propose_fifty(cluster: &mut Cluster, leader: NodeId, from: u64) {
    for number in from..from + 50 {
        // On an unreliable network the leader may have lost its followers.
        let _ = cluster.propose(leader, &numbered(number));
    }
}

fn commit_fifty(cluster: &mut Cluster, from: u64) {
    for number in from..from + 50 {
        cluster.agree(&numbered(number), 3);
    }
}

/// What elections, agreements and idleness may cost in requests, as the laboratory counts; and in
/// all messages, replies too.
#[test]
fn counts() {
    for_each_seed(&[3], |servers, seed| {
        let mut cluster = Cluster::laboratory(servers, seed);
        let leader = cluster.elect();
        let (requests, messages) = (cluster.requests, cluster.messages);
        println!("first election: {requests} requests, {messages} messages");
        assert!((1..=30).contains(&requests) && messages <= 60);

        cluster.agree(b"first", 3);
        let before = (cluster.requests, cluster.messages);
        let places = (0..10).map(|n| cluster.propose(leader, &numbered(n)).expect("it leads"));
        let (_, last) = places.last().expect("there are ten");
        let applied = |cluster: &Cluster| cluster.applied_count(last, &numbered(9)) == 3;
        assert!(cluster.run_until(ms(2000), applied));
        let (requests, messages) = (cluster.requests - before.0, cluster.messages - before.1);
        println!("ten proposals: {requests} requests, {messages} messages");
        assert!(requests <= 42 && messages <= 84);

        cluster.run_for(ms(1000));
        let before = (cluster.requests, cluster.messages);
        cluster.run_for(ms(1000));
        let (requests, messages) = (cluster.requests - before.0, cluster.messages - before.1);
        println!("an idle second: {requests} requests, {messages} messages");
        // The laboratory allows 60; ten to each follower are enough.
        assert!(requests <= 20 && messages <= 40);
    });
}
