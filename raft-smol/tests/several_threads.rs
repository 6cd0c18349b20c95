//! Nodes on an executor of the application's own with several threads: their loops apply quick
//! commands, and a slow one delays no heartbeat.

// Clippy takes only test functions for tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::{Future, pending};
use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use common::{Runtime, in_time, leader_of, tcp_cluster, until};
use raft_smol::on;
use smol::Executor;

/// Two threads.
enum Own {}

const THREADS: usize = 2;
const THREAD_NAME: &str = "own-executor";

impl on::Executor for Own {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        static EXECUTOR: LazyLock<&'static Executor<'static>> = LazyLock::new(|| {
            let executor: &'static Executor<'static> = Box::leak(Box::default());
            for _ in 0..THREADS {
                let thread = thread::Builder::new().name(THREAD_NAME.into());
                thread.spawn(|| smol::block_on(executor.run(pending::<()>()))).unwrap();
            }
            executor
        });
        EXECUTOR.spawn(task).detach();
    }

    fn has_several_threads() -> bool {
        true
    }
}

impl Runtime for Own {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }
}

/// A slow command costs neither the leader nor a follower an election, although it holds up a
/// thread of their executor for several election timeouts.
#[test]
fn a_slow_command_in_the_loop_costs_no_election() {
    const SLOWNESS: Duration = Duration::from_secs(3);
    Own::block_on(async {
        let nodes = tcp_cluster::<Own>().await;
        let leader = leader_of(&nodes).await;
        let lead = in_time("a lead", nodes[leader].lead()).await.unwrap();
        for sick in [leader, (leader + 1) % 3] {
            let (slow, node) = (&nodes[sick], &nodes[leader]);
            until("a loop that applies commands", || async {
                node.propose("quick").await.unwrap();
                let by = slow.read(|log| log.applied_by.clone()).await.unwrap();
                by.is_some_and(|thread| thread == THREAD_NAME).then_some(())
            })
            .await;
            let slowness = slow.read(|log| log.slowness.clone()).await.unwrap();
            slowness.store(SLOWNESS.as_millis().try_into().unwrap(), Relaxed);
            let begun = Instant::now();
            in_time("a reply", node.propose("slow")).await.unwrap();
            let (by, commands) =
                slow.read(|log| (log.applied_by.clone(), log.commands.len())).await.unwrap();
            assert!(begun.elapsed() >= SLOWNESS, "it was slow for several timeouts");
            assert_eq!(by.as_deref(), Some(THREAD_NAME), "command {commands} was not in the loop");
            slowness.store(0, Relaxed);
        }
        in_time("a reply", nodes[leader].propose("last")).await.unwrap();
        assert!(lead.is_leading());
        for node in &nodes {
            assert_eq!(node.leadership().current().term, lead.term());
        }
        for node in &nodes {
            in_time("a shutdown", node.shutdown()).await;
        }
    });
}
