//! What a node leaves behind: nothing. Alone in its process, for it counts threads and tasks.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Cluster, Log, config, in_time, until};
use raft_tokio::{MemoryJournal, Node, NodeId, channel};

/// How many threads are the nodes'.
fn node_threads() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let names =
        threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("raft-")).count()
}

async fn nothing_is_left() {
    until("an end of all threads and tasks", || async {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        (node_threads() == 0 && tasks == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_is_left_of_a_node() {
    // Shut down, and no handle kept.
    let cluster = Cluster::start(3).await;
    cluster.propose("x").await;
    // One state machine is called by its node's loop.
    assert_eq!(node_threads(), 5);
    cluster.shutdown().await;
    nothing_is_left().await;

    // Shut down, and handles kept.
    let cluster = Cluster::start(3).await;
    for node in &cluster.nodes {
        in_time("a shutdown", node.shutdown()).await;
    }
    until("an end of all threads", || async { (node_threads() == 0).then_some(()) }).await;
    drop(cluster);
    nothing_is_left().await;

    // Never shut down, only dropped.
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    drop(cluster);
    nothing_is_left().await;

    // Never started.
    let network = channel::Network::new(1);
    let wrong = network.endpoint(NodeId::new(2));
    Node::start(config(1, 1), Log::default(), MemoryJournal::new(), wrong).await.unwrap_err();
    drop(network);
    nothing_is_left().await;
}
