//! Agreement: the classic laboratory's part B in real time, and reads.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::Role;
use raft_core::host::ReadError;
use runtimes::Answer;

use crate::cluster::{Cluster, Stage, patient, until};
use crate::runner::disturbed;

fn numbered(number: usize) -> Bytes {
    format!("command {number}").into()
}

/// A hundred proposals at once: each is answered with its own place, and all nodes end with all of
/// them.
pub(crate) fn proposals_and_reads(stage: Stage) {
    const PROPOSALS: usize = 100;
    let cluster = stage.cluster_with(3, patient);
    let leader = cluster.elect();
    let answers: Vec<_> =
        (0..PROPOSALS).map(|number| cluster.nodes[leader].propose(numbered(number))).collect();
    let mut replies = Vec::new();
    for answer in answers {
        match answer.wait("a reply") {
            Ok(reply) => replies.push(reply),
            Err(error) => disturbed(error.to_string()),
        }
    }
    replies.sort_unstable();
    assert_eq!(replies, (1..=PROPOSALS).collect::<Vec<_>>());
    let read = cluster.nodes[leader].read().wait("a read").expect("it leads");
    assert_eq!(cluster.agreed(), read);
    let mut commands = read;
    commands.sort_unstable();
    let mut wanted: Vec<_> = (0..PROPOSALS).map(numbered).collect();
    wanted.sort_unstable();
    assert_eq!(commands, wanted);
    cluster.shutdown();
}

/// A server that answers a read has seen everything that was answered before: the leader, and an
/// old one that was cut off and, for it does not watch its quorum, believes that it leads.
pub(crate) fn reads_are_linearizable(stage: Stage) {
    let mut cluster = stage.cluster_with(3, |config| {
        config.raft.check_quorum = false;
        config.raft.pre_vote = false;
    });
    let mut acknowledged = 0;
    for _ in 0..3 {
        let old = cluster.elect();
        for _ in 0..5 {
            cluster.propose(numbered(acknowledged));
            acknowledged += 1;
            let reads = cluster.nodes.iter().map(|node| node.read()).collect();
            check_reads(reads, acknowledged);
        }
        until("a read", || {
            let leader = cluster.elect();
            let read = cluster.nodes[leader].read();
            (check_reads(vec![read], acknowledged) == 1).then_some(())
        });

        cluster.isolate(old);
        cluster.propose(numbered(acknowledged));
        acknowledged += 1;
        let reads = cluster.nodes.iter().map(|node| node.read()).collect();
        // The old leader answers only now that it learns of the new one.
        cluster.rejoin(old);
        check_reads(reads, acknowledged);
    }
    assert_eq!(cluster.agreed(), (0..acknowledged).map(numbered).collect::<Vec<_>>());
}

/// How many were answered with a state; each must hold so many commands.
fn check_reads(reads: Vec<Read>, acknowledged: usize) -> usize {
    let states = reads.into_iter().filter_map(|read| read.wait("an answer").ok());
    let mut count = 0;
    for mut commands in states {
        commands.dedup();
        assert!(commands.len() >= acknowledged, "a stale read");
        count += 1;
    }
    count
}

type Read = Answer<Result<Vec<Bytes>, ReadError>>;

/// Nothing is committed before it is proposed; three commands come in order, to the same places
/// everywhere.
pub(crate) fn in_order(stage: Stage) {
    let cluster = stage.cluster(3);
    for place in 1..=3 {
        let is_there = |commands: Vec<Bytes>| commands.contains(&numbered(place));
        assert!(!cluster.probes.iter().any(|probe| is_there(probe.commands())));
        cluster.propose(numbered(place));
        cluster.await_applied(&numbered(place), 3);
    }
    assert_eq!(cluster.agreed(), [1, 2, 3].map(numbered));
    let entries = cluster.probes[0].entries();
    assert!(entries.is_sorted_by(|one, next| one.0 < next.0));
}

/// Ten commands of 5000 bytes cost at most three times their size and 50 000 bytes.
pub(crate) fn bytes(stage: Stage) {
    let cluster = stage.cluster_with(3, patient);
    cluster.agree("first", 3);
    let term = cluster.leadership(0).term;
    let before = cluster.hub().traffic().bytes_sent;
    for number in 0..10u8 {
        let command = vec![number; 5000];
        cluster.propose(command.clone());
        cluster.await_applied(&command, 3);
    }
    let cost = cluster.hub().traffic().bytes_sent - before;
    if cluster.leadership(0).term != term {
        disturbed("an election though nothing failed");
    }
    assert!(cost <= 200_000, "{cost} bytes");
}

/// What elections, agreements and idleness may cost, in messages with their replies: twice what the
/// laboratory counts, which counts requests.
pub(crate) fn counts(stage: Stage) {
    let cluster = stage.cluster_with(3, |config| {
        config.raft.election_timeout_min = Duration::from_millis(500);
        config.raft.election_timeout_max = Duration::from_millis(800);
        config.raft.heartbeat_interval = Duration::from_millis(100);
    });
    let leader = cluster.elect();
    let sent = || cluster.hub().traffic().sent;
    let election = sent();

    cluster.agree("first", 3);
    let before = sent();
    let answers: Vec<_> = (0..10).map(|n| cluster.nodes[leader].propose(numbered(n))).collect();
    let committed = answers.into_iter().all(|answer| answer.wait("a reply").is_ok());
    cluster.await_applied(&numbered(9), 3);
    let proposals = sent() - before;

    // A cluster is idle once it has written down its identity and those of its stores.
    until("identities", || {
        let membership = cluster.nodes[leader].membership();
        let known = membership.members().iter().all(|member| member.store.recorded().is_some());
        (known && membership.identity().is_some()).then_some(())
    });
    cluster.agree("last", 3);
    // Word of the last commit may still be on its way.
    cluster.agreed();
    let before = sent();
    thread::sleep(Duration::from_secs(1));
    let idle = sent() - before;
    if !committed || election > 60 || idle > 40 {
        disturbed(format!("{election} messages for an election, {idle} in an idle second"));
    }
    assert!(proposals <= 84, "{proposals} messages for ten proposals");
    assert!(idle >= 10, "{idle} messages in an idle second: where are the heartbeats?");
}

/// A follower is away and the others agree; it returns and catches up.
pub(crate) fn follower_away_and_back(stage: Stage) {
    let mut cluster = stage.cluster(3);
    cluster.agree("101", 3);
    let away = cluster.others(&[cluster.elect()])[0];
    cluster.isolate(away);
    for command in ["102", "103", "104", "105"] {
        cluster.agree(command, 2);
    }
    assert_eq!(cluster.probes[away].commands().last().map(|last| &**last), Some(&b"101"[..]));
    cluster.rejoin(away);
    cluster.agree("106", 3);
    assert_eq!(cluster.agreed(), ["101", "102", "103", "104", "105", "106"]);
}

/// The leader is away and the others agree under another; that one is away too, and nobody can
/// agree. Each returns and catches up.
pub(crate) fn leader_away_twice(stage: Stage) {
    let mut cluster = stage.cluster(3);
    cluster.agree("101", 3);
    let first = cluster.elect();
    cluster.isolate(first);
    cluster.agree("102", 2);
    cluster.agree("103", 2);

    let second = cluster.elect();
    cluster.isolate(second);
    // Refused, or taken into a log from which it cannot be committed.
    let vain: Vec<_> = cluster.nodes.iter().map(|node| node.propose("104".into())).collect();
    for answer in vain {
        answer.wait("an answer").expect_err("it was applied without a quorum");
    }
    cluster.rejoin(first);
    cluster.agree("105", 2);
    cluster.rejoin(second);
    cluster.agree("106", 3);
    let mut commands = cluster.agreed();
    // It may have been committed with what came later, as its proposer was told.
    commands.retain(|command| command != "104");
    assert_eq!(commands, ["101", "102", "103", "105", "106"]);
}

/// Three of five are away: nothing is committed. They return, and all agree.
pub(crate) fn nothing_without_a_quorum(stage: Stage) {
    let mut cluster = stage.cluster(5);
    cluster.agree("10", 5);
    let leader = cluster.elect();
    let away = cluster.others(&[leader])[..3].to_vec();
    away.iter().for_each(|position| cluster.isolate(*position));
    let vain = cluster.nodes[leader].propose("20".into());
    cluster.await_no_leader();
    vain.wait("an answer").expect_err("it was applied without a quorum");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        assert!(cluster.nobody_leads(), "leads without a quorum");
        assert!(cluster.probes.iter().all(|probe| !probe.commands().contains(&"20".into())));
        thread::sleep(Duration::from_millis(2));
    }
    away.iter().for_each(|position| cluster.rejoin(*position));
    cluster.agree("30", 5);
    let commands = cluster.agreed();
    assert!(commands == ["10", "30"] || commands == ["10", "20", "30"], "{commands:?}");
}

/// A leader that is cut off takes commands that nobody agrees to; it returns, and gives them up.
pub(crate) fn a_cut_off_leader_rejoins(stage: Stage) {
    let mut cluster = stage.cluster(3);
    cluster.agree("101", 3);
    let first = cluster.elect();
    cluster.isolate(first);
    propose_in_vain(&cluster, first, 3);
    cluster.agree("103", 2);
    let second = cluster.elect();
    cluster.isolate(second);
    cluster.rejoin(first);
    cluster.agree("104", 2);
    cluster.rejoin(second);
    cluster.agree("105", 3);
    assert_eq!(cluster.agreed(), ["101", "103", "104", "105"]);
}

/// Two minorities each end with thirty entries that nobody else has, and a majority commits thirty
/// others, twice.
pub(crate) fn divergent_logs(stage: Stage) {
    const ENTRIES: usize = 30;
    let mut cluster = stage.cluster_with(5, patient);
    cluster.agree("first", 5);

    // A leader and one follower take commands that cannot commit.
    let first = cluster.elect();
    let partner = cluster.others(&[first])[0];
    let rest = cluster.others(&[first, partner]);
    rest.iter().for_each(|position| cluster.isolate(*position));
    propose_in_vain(&cluster, first, ENTRIES);
    [first, partner].into_iter().for_each(|position| cluster.isolate(position));

    // The other three commit as many.
    rest.iter().for_each(|position| cluster.rejoin(*position));
    (0..ENTRIES).for_each(|number| cluster.propose(numbered(number)));

    // Of these three the leader and one more take others that cannot commit.
    let second = cluster.elect();
    let away = *rest.iter().find(|position| **position != second).expect("one of three");
    cluster.isolate(away);
    propose_in_vain(&cluster, second, ENTRIES);

    // The first two come back to the one that was away.
    cluster.all().into_iter().for_each(|position| cluster.isolate(position));
    [first, partner, away].into_iter().for_each(|position| cluster.rejoin(position));
    (ENTRIES..2 * ENTRIES).for_each(|number| cluster.propose(numbered(number)));

    cluster.all().into_iter().for_each(|position| cluster.rejoin(position));
    cluster.agree("last", 5);
    let mut wanted: Vec<Bytes> = vec!["first".into()];
    wanted.extend((0..2 * ENTRIES).map(numbered));
    wanted.push("last".into());
    assert_eq!(cluster.agreed(), wanted);
}

/// Proposes to a leader that has no quorum, and waits until its log has so many more entries.
fn propose_in_vain(cluster: &Cluster, leader: usize, count: usize) {
    let before = cluster.status(leader).raft;
    if before.role != Role::Leader {
        disturbed("the lead was lost before it was used");
    }
    let answers: Vec<_> = (0..count)
        .map(|number| cluster.nodes[leader].propose(format!("in vain {number}").into()))
        .collect();
    let wanted = before.last_log.index.get() + count as u64;
    until("entries in the log", || {
        let now = cluster.status(leader).raft;
        let taken = now.last_log.index.get() >= wanted;
        if now.role != Role::Leader && !taken {
            disturbed("the lead was lost before it was used");
        }
        taken.then_some(())
    });
    drop(answers);
}
