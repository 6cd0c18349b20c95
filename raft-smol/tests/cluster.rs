//! What a cluster promises, through [`Node`](raft_smol::on::Node) alone.

// Clippy takes only test functions for tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Runtime, came_back, in_time, until};
use raft_smol::{Faults, NodeId, ProposeError, ReadError};

on_each_executor! {
    three_nodes_elect_one_and_agree,
    a_follower_names_the_leader_gives_the_command_back_and_reads,
    a_leader_that_is_cut_off_loses_its_lead_and_tells_everyone_who_waits,
    a_cluster_keeps_everything_over_a_restart_of_all,
    what_was_acknowledged_survives_a_bad_network,
}

async fn three_nodes_elect_one_and_agree<E: Runtime>() {
    let cluster = Cluster::<E>::start(3).await;
    let leader = &cluster.nodes[cluster.leader().await];
    let proposals: Vec<_> = (0..100u8)
        .map(|number| {
            let leader = leader.clone();
            E::run(async move { leader.propose(vec![number]).await })
        })
        .collect();
    let mut replies = Vec::new();
    for proposal in proposals {
        replies.push(proposal.output().await.unwrap());
    }
    replies.sort_unstable();
    assert_eq!(replies, (1..=100).collect::<Vec<_>>());
    assert_eq!(cluster.agreed().await.len(), 100);
    let leaders = cluster.nodes.iter().map(|node| node.leadership().current().leader);
    assert_eq!(leaders.collect::<std::collections::BTreeSet<_>>().len(), 1);
    cluster.shutdown().await;
}

async fn a_follower_names_the_leader_gives_the_command_back_and_reads<E: Runtime>() {
    let cluster = Cluster::<E>::start(3).await;
    let leader = cluster.leader().await;
    let id = NodeId::new(leader as u64 + 1);
    let follower = &cluster.nodes[(leader + 1) % 3];
    until("word of the leader", || async {
        (follower.leadership().current().leader == Some(id)).then_some(())
    })
    .await;
    let error = follower.propose("x").await.unwrap_err();
    assert!(
        matches!(error, ProposeError::NotLeader { leader: Some(leader), .. } if leader == id),
        "{error:?}"
    );
    assert_eq!(came_back(error), "x");
    // A read it serves itself, once the leader has said how far the log is committed.
    follower.read(|_| ()).await.unwrap();
}

async fn a_leader_that_is_cut_off_loses_its_lead_and_tells_everyone_who_waits<E: Runtime>() {
    let cluster = Cluster::<E>::start(3).await;
    cluster.propose("before").await;
    let old = cluster.leader().await;
    let lead = in_time("a lead", cluster.nodes[old].lead()).await.unwrap();
    assert!(lead.is_leading());
    cluster.network.isolate(NodeId::new(old as u64 + 1));

    let waiters: Vec<_> = (0..10)
        .map(|_| {
            let node = cluster.nodes[old].clone();
            E::run(async move { node.propose("in vain").await })
        })
        .collect();
    let reader = cluster.nodes[old].clone();
    let read = E::run(async move { reader.read(|log| log.commands.len()).await });

    let others: Vec<_> = (0..3).filter(|position| *position != old).collect();
    let new = cluster.leader_among(&others).await;
    in_time("a reply", cluster.nodes[new].propose("after")).await.unwrap();

    for waiter in waiters {
        let error = waiter.output().await.unwrap_err();
        assert!(
            matches!(
                error,
                ProposeError::LeadershipLost { may_commit: true } | ProposeError::NotLeader { .. }
            ),
            "{error:?}"
        );
    }
    let error = read.output().await.unwrap_err();
    assert!(matches!(error, ReadError::LeadershipLost | ReadError::NoLeader), "{error:?}");
    in_time("word of the loss", lead.lost()).await.unwrap();
    assert!(!lead.is_leading());

    cluster.network.heal();
    assert_eq!(cluster.agreed().await, ["before", "after"]);
    let newer = in_time("a lead", cluster.nodes[cluster.leader().await].lead()).await.unwrap();
    assert!(newer.term() > lead.term(), "a fencing token rises");
    cluster.shutdown().await;
}

async fn a_cluster_keeps_everything_over_a_restart_of_all<E: Runtime>() {
    let mut cluster = Cluster::<E>::start(3).await;
    for command in ["one", "two", "three"] {
        cluster.propose(command).await;
    }
    let before = cluster.nodes[0].leadership().current().term;
    for node in &cluster.nodes {
        in_time("a shutdown", node.shutdown()).await;
    }
    for position in 0..3 {
        cluster.nodes[position] = cluster.start_node(position).await;
    }
    cluster.propose("four").await;
    assert_eq!(cluster.agreed().await, ["one", "two", "three", "four"]);
    assert!(cluster.nodes[0].leadership().current().term > before, "terms survive too");
    cluster.shutdown().await;
}

async fn what_was_acknowledged_survives_a_bad_network<E: Runtime>() {
    let cluster = Cluster::<E>::start(3).await;
    cluster.network.set_faults(Faults {
        drop: 0.05,
        duplicate: 0.1,
        reorder: 0.2,
        reorder_by: Duration::from_millis(10),
        delay_min: Duration::from_micros(100),
        delay_max: Duration::from_millis(2),
    });
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 100 {
        let leader = cluster.leader().await;
        let command = Bytes::from(format!("command {}", acknowledged.len()));
        if in_time("an answer", cluster.nodes[leader].propose(command.clone())).await.is_ok() {
            acknowledged.push(command);
        }
    }
    cluster.network.set_faults(Faults::default());
    let mut commands = cluster.agreed().await;
    commands.dedup();
    assert_eq!(commands, acknowledged);
    let traffic = cluster.network.traffic();
    assert!(traffic.dropped > 0 && traffic.duplicated > 0 && traffic.bytes_sent > 0);
    cluster.shutdown().await;
}
