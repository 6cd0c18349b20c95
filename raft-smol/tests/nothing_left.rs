//! What a node leaves behind: nothing. Alone in its process, for it counts threads.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::future::{Future, pending};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use common::{Cluster, Log, Runtime, config, in_time, until};
use raft_smol::on::{self, Network, Node};
use raft_smol::{MemoryJournal, NodeId};
use smol::Executor;

/// An executor of one's own, which counts the tasks that live.
enum Counting {}

static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// One that lives.
struct Alive;

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, SeqCst);
    }
}

impl on::Executor for Counting {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        static EXECUTOR: LazyLock<&'static Executor<'static>> = LazyLock::new(|| {
            let executor: &'static Executor<'static> = Box::leak(Box::default());
            thread::spawn(|| smol::block_on(executor.run(pending::<()>())));
            executor
        });
        ALIVE.fetch_add(1, SeqCst);
        let alive = Alive;
        let counted = async move {
            task.await;
            drop(alive);
        };
        EXECUTOR.spawn(counted).detach();
    }
}

impl Runtime for Counting {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }
}

/// How many threads are the nodes'.
fn node_threads() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let names =
        threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("raft-")).count()
}

async fn nothing_is_left() {
    until("an end of all threads and tasks", || async {
        (node_threads() == 0 && ALIVE.load(SeqCst) == 0).then_some(())
    })
    .await;
}

#[test]
fn nothing_is_left_of_a_node() {
    smol::block_on(async {
        // Shut down, and no handle kept.
        let cluster = Cluster::<Counting>::start(3).await;
        cluster.propose("x").await;
        assert_eq!(ALIVE.load(SeqCst), 4, "three nodes and a network");
        assert!(node_threads() > 0);
        cluster.shutdown().await;
        nothing_is_left().await;

        // Shut down, and handles kept.
        let cluster = Cluster::<Counting>::start(3).await;
        for node in &cluster.nodes {
            in_time("a shutdown", node.shutdown()).await;
        }
        until("an end of all threads", || async { (node_threads() == 0).then_some(()) }).await;
        drop(cluster);
        nothing_is_left().await;

        // Never shut down, only dropped.
        let cluster = Cluster::<Counting>::start(3).await;
        cluster.leader().await;
        drop(cluster);
        nothing_is_left().await;

        // Never started.
        let network = Network::<Counting>::new(1);
        let wrong = network.endpoint(NodeId::new(2));
        let start = Node::<_, Counting>::start;
        start(config(1, 1), Log::default(), MemoryJournal::new(), wrong).await.unwrap_err();
        drop(network);
        nothing_is_left().await;

        // Over TCP, with connections that stand.
        let nodes = common::tcp_cluster::<Counting>().await;
        let leader = common::leader_of(&nodes).await;
        in_time("a reply", nodes[leader].propose("x")).await.unwrap();
        for node in &nodes {
            in_time("a shutdown", node.shutdown()).await;
        }
        nothing_is_left().await;
    });
}
