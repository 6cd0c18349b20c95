//! A node on an executor that ends.

// Clippy takes only test functions for tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use common::{Log, Runtime, alone, came_back, config, in_time};
use raft_smol::on;
use raft_smol::{ProposeError, StopReason};
use smol::future::or;
use smol::{Executor, Timer};

/// An executor of its own: the thread that blocks on it drives it, and it can end.
enum Own {}

static OWN: Mutex<Option<Executor<'static>>> = Mutex::new(Some(Executor::new()));

impl on::Executor for Own {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        if let Some(executor) = &*OWN.lock().unwrap() {
            executor.spawn(task).detach();
        }
    }
}

impl Runtime for Own {
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let turns = async {
            loop {
                while OWN.lock().unwrap().as_ref().is_some_and(Executor::try_tick) {}
                Timer::after(Duration::from_millis(1)).await;
            }
        };
        smol::block_on(or(future, turns))
    }
}

#[test]
fn a_node_ends_with_its_executor() {
    let node = Own::block_on(alone::<Own>(config(1, 1), Log::default()));
    drop(OWN.lock().unwrap().take());
    smol::block_on(async {
        let error = in_time("an answer", node.propose("x")).await.unwrap_err();
        assert!(matches!(&error, ProposeError::Stopped { reason: StopReason::Abandoned, .. }));
        assert_eq!(came_back(error), "x");
        assert!(matches!(in_time("the end", node.stopped()).await, StopReason::Abandoned));
    });
}
