//! What a cluster promises, through [`Node`](raft_tokio::Node) alone.

mod common;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Cluster, Log, alone, came_back, config, in_time, until};
use raft_tokio::{Config, Faults, MemoryJournal, NodeId, ProposeError, ReadError, Role, Term};

#[tokio::test]
async fn a_cluster_of_one_elects_itself_and_serves() {
    let node = alone(config(1, 1), Log::default(), MemoryJournal::new()).await;
    assert_eq!(in_time("a reply", node.propose("one")).await.unwrap(), 1);
    assert_eq!(in_time("a reply", node.propose("two")).await.unwrap(), 2);
    let read = node.read(|log| log.commands.clone());
    assert_eq!(in_time("a read", read).await.unwrap(), ["one", "two"]);
    let status = node.status().await.unwrap();
    assert_eq!(status.raft.role, Role::Leader);
    assert_eq!(status.raft.last_applied.get(), 3, "the no-op and two commands");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_elect_one_and_agree() {
    let cluster = Cluster::start(3).await;
    let leader = &cluster.nodes[cluster.leader().await];
    let proposals: Vec<_> = (0..100u8)
        .map(|number| {
            let leader = leader.clone();
            tokio::spawn(async move { leader.propose(vec![number]).await })
        })
        .collect();
    let mut replies = Vec::new();
    for proposal in proposals {
        replies.push(in_time("a reply", proposal).await.unwrap().unwrap());
    }
    replies.sort_unstable();
    assert_eq!(replies, (1..=100).collect::<Vec<_>>());
    assert_eq!(cluster.agreed().await.len(), 100);
    let leaders = cluster.nodes.iter().map(|node| node.leadership().current().leader);
    assert_eq!(leaders.collect::<std::collections::BTreeSet<_>>().len(), 1);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_follower_names_the_leader_gives_the_command_back_and_reads() {
    let cluster = Cluster::start(3).await;
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

#[tokio::test]
async fn a_command_over_the_limit_comes_back() {
    let mut config = config(1, 1);
    config.raft.command_bytes_max = 10;
    let node = alone(config, Log::default(), MemoryJournal::new()).await;
    let error = node.propose(vec![7; 11]).await.unwrap_err();
    assert!(matches!(error, ProposeError::TooLarge { bytes: 11, bytes_max: 10, .. }), "{error:?}");
    assert_eq!(came_back(error), vec![7; 11]);
}

#[tokio::test]
async fn a_full_log_gives_the_command_back_and_goes_on_reading() {
    let mut config = config(1, 1);
    config.raft = Config {
        log_bytes_max: 200,
        log_tail_bytes: 0,
        snapshot_log_bytes: 100,
        command_bytes_max: 20,
        ..config.raft
    };
    let node = alone(config, Log::default(), MemoryJournal::new()).await;
    let mut written = 0;
    let error = loop {
        match in_time("a reply", node.propose(vec![7; 20])).await {
            Ok(count) => written = count,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ProposeError::LogFull { bytes_max: 200, .. }), "{error:?}");
    assert_eq!(came_back(error), vec![7; 20]);
    assert!(written > 0);
    assert_eq!(node.read(|log| log.commands.len()).await.unwrap(), written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_loses_its_lead_and_tells_everyone_who_waits() {
    let cluster = Cluster::start(3).await;
    cluster.propose("before").await;
    let old = cluster.leader().await;
    let lead = in_time("a lead", cluster.nodes[old].lead()).await.unwrap();
    assert!(lead.is_leading());
    cluster.network.isolate(NodeId::new(old as u64 + 1));

    let waiters: Vec<_> = (0..10)
        .map(|_| {
            let node = cluster.nodes[old].clone();
            tokio::spawn(async move { node.propose("in vain").await })
        })
        .collect();
    let reader = cluster.nodes[old].clone();
    let read = tokio::spawn(async move { reader.read(|log| log.commands.len()).await });

    let others: Vec<_> = (0..3).filter(|position| *position != old).collect();
    let new = cluster.leader_among(&others).await;
    in_time("a reply", cluster.nodes[new].propose("after")).await.unwrap();

    for waiter in waiters {
        let error = in_time("an answer", waiter).await.unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                ProposeError::LeadershipLost { may_commit: true } | ProposeError::NotLeader { .. }
            ),
            "{error:?}"
        );
    }
    let error = in_time("an answer", read).await.unwrap().unwrap_err();
    assert!(matches!(error, ReadError::LeadershipLost | ReadError::NoLeader), "{error:?}");
    in_time("word of the loss", lead.lost()).await.unwrap();
    assert!(!lead.is_leading());

    cluster.network.heal();
    assert_eq!(cluster.agreed().await, ["before", "after"]);
    let newer = in_time("a lead", cluster.nodes[cluster.leader().await].lead()).await.unwrap();
    assert!(newer.term() > lead.term(), "a fencing token rises");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_everything_over_a_restart_of_all() {
    let mut cluster = Cluster::start(3).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_crash_one_after_the_other_lose_nothing() {
    let mut cluster = Cluster::start(3).await;
    for (position, command) in [(0, "one"), (1, "two"), (2, "three")] {
        cluster.propose(command).await;
        // The earlier life is not asked to stop: it is cut off from journal and network, as by a
        // crash.
        cluster.nodes[position] = cluster.start_node(position).await;
    }
    cluster.propose("four").await;
    let mut commands = cluster.agreed().await;
    // A proposal whose answer was lost with its leader is proposed again.
    commands.dedup();
    assert_eq!(commands, ["one", "two", "three", "four"]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_state_machine_costs_no_election() {
    let cluster = Cluster::start(3).await;
    let leader = until("a leader with a thread for its state machine", || async {
        let leader = cluster.leader().await;
        if leader == 1 {
            // Its state machine is called by its loop.
            cluster.network.isolate(NodeId::new(2));
            cluster.leader_among(&[0, 2]).await;
            cluster.network.heal();
        }
        (leader != 1).then_some(leader)
    })
    .await;
    let lead = in_time("a lead", cluster.nodes[leader].lead()).await.unwrap();
    cluster.slowness[leader].store(100, Ordering::Relaxed);
    let start = Instant::now();
    let proposals: Vec<_> = (0..15)
        .map(|_| {
            let node = cluster.nodes[leader].clone();
            tokio::spawn(async move { node.propose("slow").await })
        })
        .collect();
    for proposal in proposals {
        in_time("a reply", proposal).await.unwrap().unwrap();
    }
    assert!(start.elapsed() >= Duration::from_millis(1500), "it was slow for many timeouts");
    // Who leads by now also says so: this takes a turn of the leader's loop.
    in_time("a reply", cluster.nodes[leader].propose("last")).await.unwrap();
    assert!(lead.is_leading());
    for node in &cluster.nodes {
        assert_eq!(node.leadership().current().term, lead.term());
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_bad_network() {
    let cluster = Cluster::start(3).await;
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

#[tokio::test]
async fn a_watch_sees_every_lasting_change() {
    let cluster = Cluster::start(3).await;
    let watch = cluster.nodes[0].leadership();
    let mut now = watch.current();
    let mut terms = vec![now.term];
    while now.leader.is_none() {
        now = in_time("a change", watch.changed_from(now)).await.unwrap();
        terms.push(now.term);
    }
    assert!(terms.is_sorted());
    assert!(now.term > Term::ZERO);
}

/// Tokio would turn the leader's loop behind each client that wakes it, with one command each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn commands_of_clients_that_are_ready_together_travel_together() {
    const WAVES: u64 = 50;
    const CLIENTS: u64 = 64;
    let cluster = Cluster::start(3).await;
    let (leader, id) = (cluster.nodes[1].clone(), NodeId::new(2));
    let first = &cluster.nodes[cluster.leader().await];
    if first.leadership().current().leader != Some(id) {
        in_time("a transfer", first.transfer_leadership(Some(id))).await.unwrap();
    }
    in_time("a lead", leader.lead()).await.unwrap();
    let before = cluster.network.traffic().sent;
    let waves = tokio::spawn(async move {
        for _ in 0..WAVES {
            let clients = (0..CLIENTS).map(|_| {
                let leader = leader.clone();
                tokio::spawn(async move { leader.propose("x").await })
            });
            for client in clients.collect::<Vec<_>>() {
                client.await.unwrap().unwrap();
            }
        }
    });
    in_time("the waves", waves).await.unwrap();
    let sent = cluster.network.traffic().sent - before;
    // About 500 here, and 6,000 if each command travels alone.
    assert!(sent < WAVES * CLIENTS, "{sent} messages for {} commands", WAVES * CLIENTS);
    cluster.shutdown().await;
}
