//! How a node ends, and what those learn who still ask it something.

// Clippy takes only test functions for tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use common::{Cluster, Log, POISON, Runtime, alone, came_back, config, in_time};
use raft_core::host::StoreId;
use raft_core::{Restored, Write};
use raft_smol::on::{Network, Node};
use raft_smol::{
    Journal, MemoryJournal, NodeId, ProposeError, ReadError, StartError, StopReason, Stopped,
    StorageError,
};

on_each_executor! {
    a_panic_of_the_state_machine_stops_the_node_and_names_itself,
    a_stopped_node_says_so_to_everyone_who_asks,
    a_node_ends_with_its_last_handle,
    a_node_that_cannot_run_does_not_start,
    a_leader_whose_journal_fails_makes_room_for_another,
    a_panic_at_the_start_is_an_error,
}

async fn a_panic_of_the_state_machine_stops_the_node_and_names_itself<E: Runtime>() {
    for in_loop in [false, true] {
        let log = Log { slowness: Arc::new(AtomicU64::new(20)), in_loop, ..Log::default() };
        let node = alone::<E>(config(1, 1), log).await;
        let commands = ["one", POISON, "three", "four"];
        // Queued here and now, for tasks of their own would run in any order.
        let proposals = commands.map(|command| node.propose(command));
        let mut answers = Vec::new();
        for proposal in proposals {
            answers.push(in_time("an answer", proposal).await);
        }
        assert!(answers[0].is_ok());
        for answer in &answers[1..] {
            let Err(ProposeError::Stopped { reason, .. }) = answer else { panic!("{answer:?}") };
            let StopReason::StateMachinePanicked { index, message } = reason else {
                panic!("{reason:?}")
            };
            assert_eq!((index.get(), &**message), (3, "poisoned"));
        }
        let reason = in_time("the end", node.stopped()).await;
        assert!(reason.to_string().contains("index 3: poisoned"), "{reason}");
    }
}

async fn a_stopped_node_says_so_to_everyone_who_asks<E: Runtime>() {
    let node = alone::<E>(config(1, 1), Log::default()).await;
    let (watch, lead) = (node.leadership(), node.lead().await.unwrap());
    let other = node.clone();
    assert!(matches!(in_time("the end", node.shutdown()).await, StopReason::Shutdown));
    assert!(matches!(in_time("the end", other.shutdown()).await, StopReason::Shutdown));

    let error = node.propose("x").await.unwrap_err();
    assert!(matches!(error, ProposeError::Stopped { reason: StopReason::Shutdown, .. }));
    assert_eq!(came_back(error), "x");
    let stopped = ReadError::Stopped { reason: StopReason::Shutdown }.to_string();
    assert_eq!(node.read(|_| ()).await.unwrap_err().to_string(), stopped);
    assert_eq!(node.status().await.unwrap_err().to_string(), stopped);
    assert!(matches!(node.lead().await, Err(Stopped { reason: StopReason::Shutdown })));
    assert!(matches!(node.stop_reason(), Some(StopReason::Shutdown)));
    assert!(!lead.is_leading());
    assert!(in_time("word of the loss", lead.lost()).await.is_err());
    let now = watch.current();
    assert_eq!(now.leader, None);
    assert!(in_time("word of the end", watch.changed_from(now)).await.is_err());
}

async fn a_node_ends_with_its_last_handle<E: Runtime>() {
    let node = alone::<E>(config(1, 1), Log::default()).await;
    let watch = node.leadership();
    let now = watch.current();
    let clone = node.clone();
    drop(node);
    assert_eq!(clone.propose("x").await.unwrap(), 1);
    drop(clone);
    let error = in_time("word of the end", watch.changed_from(now)).await.unwrap_err();
    assert!(matches!(error.reason, StopReason::Shutdown), "{error}");
}

async fn a_node_that_cannot_run_does_not_start<E: Runtime>() {
    let network = Network::<E>::new(1);
    let start = |config, endpoint| {
        Node::<_, E>::start(
            config,
            Log::default(),
            MemoryJournal::new(),
            network.endpoint(endpoint),
        )
    };
    let mut stranger = config(1, 3);
    stranger.raft.id = NodeId::new(4);
    let error = start(stranger, NodeId::new(4)).await.unwrap_err();
    assert!(matches!(error, StartError::Config(_)), "{error:?}");
    let error = start(config(1, 3), NodeId::new(2)).await.unwrap_err();
    assert!(matches!(error, StartError::Transport(_)), "{error:?}");
    assert!(error.to_string().contains("the endpoint of node 2 was given to node 1"), "{error}");
}

async fn a_leader_whose_journal_fails_makes_room_for_another<E: Runtime>() {
    let cluster = Cluster::<E>::start(3).await;
    cluster.propose("before").await;
    let old = cluster.leader().await;
    cluster.journals[old].fail();
    // Its own copy is not needed for a majority, so this may be answered yet.
    let _ = in_time("an answer", cluster.nodes[old].propose("between")).await;
    in_time("the end", cluster.nodes[old].stopped()).await;
    let others: Vec<_> = (0..3).filter(|position| *position != old).collect();
    let new = cluster.leader_among(&others).await;
    in_time("a reply", cluster.nodes[new].propose("after")).await.unwrap();
    let commands = cluster.nodes[new].read(|log| log.commands.clone()).await.unwrap();
    assert_eq!((&commands[0], commands.last().unwrap()), (&"before".into(), &"after".into()));
    cluster.shutdown().await;
}

async fn a_panic_at_the_start_is_an_error<E: Runtime>() {
    let endpoint = Network::<E>::new(1).endpoint(NodeId::new(1));
    let start = Node::<_, E>::start(config(1, 1), Log::default(), Clumsy, endpoint);
    let error = in_time("an error", start).await.unwrap_err();
    assert!(matches!(error, StartError::System(_)), "{error:?}");
}

/// Panics at the first call.
struct Clumsy;

impl Journal for Clumsy {
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError> {
        panic!("clumsy")
    }

    fn store_id(&self) -> StoreId {
        StoreId::new(1)
    }

    fn append(&mut self, _write: &Write<Bytes>) -> Result<(), StorageError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}
