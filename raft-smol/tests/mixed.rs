//! One program, one cluster, two executors.
#![cfg(feature = "async-std")]

mod common;

use common::{Log, config, in_time, until};
use raft_smol::on::{AsyncStd, Network, Node, Smol};
use raft_smol::{MemoryJournal, StopReason};

#[test]
fn nodes_on_smol_and_on_async_std_form_one_cluster() {
    let network = Network::<Smol>::new(1);
    let parts = |id| {
        let config = config(id, 2);
        let endpoint = network.endpoint(config.raft.id);
        (config, Log::default(), MemoryJournal::new(), endpoint)
    };
    smol::block_on(async {
        let (config, log, journal, endpoint) = parts(1);
        let one = Node::<_, Smol>::start(config, log, journal, endpoint).await.unwrap();
        let (config, log, journal, endpoint) = parts(2);
        let two = Node::<_, AsyncStd>::start(config, log, journal, endpoint).await.unwrap();
        // A majority is both of them, whichever of them leads.
        until("a reply", || async {
            match one.propose("x").await {
                Ok(count) => Some(count),
                Err(_) => two.propose("x").await.ok(),
            }
        })
        .await;
        assert!(matches!(in_time("a shutdown", one.shutdown()).await, StopReason::Shutdown));
        assert!(matches!(in_time("a shutdown", two.shutdown()).await, StopReason::Shutdown));
    });
}
