//! How a node ends, and what those learn who still ask it something.

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use common::{Cluster, Log, POISON, TestJournal, alone, came_back, config, in_time, until};
use raft_core::host::StoreId;
use raft_core::{Restored, Write};
use raft_tokio::{
    Journal, MemoryJournal, Node, NodeId, ProposeError, ReadError, StartError, StopReason, Stopped,
    StorageError, channel,
};

#[tokio::test]
async fn a_full_inbox_refuses_and_gives_the_command_back() {
    let mut config = config(1, 1);
    config.inbox_max = 8;
    let node = alone(config, Log::default(), MemoryJournal::new()).await;
    // On this one thread all of them run before the node does.
    let proposals: Vec<_> = (0..100)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.propose("x").await })
        })
        .collect();
    let (mut accepted, mut refused) = (0, 0);
    for proposal in proposals {
        match in_time("an answer", proposal).await.unwrap() {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert!(matches!(error, ProposeError::Busy { .. }), "{error:?}");
                assert_eq!(came_back(error), "x");
                refused += 1;
            }
        }
    }
    assert!(accepted >= 8 && refused > 0, "{accepted} accepted, {refused} refused");
    assert_eq!(node.status().await.unwrap().requests_refused, refused);
    assert_eq!(node.read(|log| log.commands.len()).await.unwrap(), accepted);
}

#[tokio::test]
async fn a_panic_of_the_state_machine_stops_the_node_and_names_itself() {
    for in_loop in [false, true] {
        let log = Log { slowness: Arc::new(AtomicU64::new(20)), in_loop, ..Log::default() };
        let node = alone(config(1, 1), log, MemoryJournal::new()).await;
        let commands = ["one", POISON, "three", "four"];
        let proposals = commands.map(|command| {
            let node = node.clone();
            tokio::spawn(async move { node.propose(command).await })
        });
        let mut answers = Vec::new();
        for proposal in proposals {
            answers.push(in_time("an answer", proposal).await.unwrap());
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

#[tokio::test]
async fn a_panic_of_a_read_is_its_own_affair() {
    let node = alone(config(1, 1), Log::default(), MemoryJournal::new()).await;
    let error = node.read(|_| panic!("clumsy")).await.unwrap_err();
    assert!(matches!(&error, ReadError::Panicked { message } if &**message == "clumsy"), "{error}");
    assert_eq!(node.propose("x").await.unwrap(), 1);
}

#[tokio::test]
async fn the_first_failed_write_stops_the_node_and_everyone_learns_it() {
    for blocks in [true, false] {
        let memory = MemoryJournal::new();
        let journal = TestJournal { memory: memory.clone(), blocks };
        let node = alone(config(1, 1), Log::default(), journal).await;
        node.propose("durable").await.unwrap();
        memory.fail();
        let error = in_time("an answer", node.propose("lost")).await.unwrap_err();
        let ProposeError::Stopped { reason: StopReason::JournalFailed(_), .. } = &error else {
            panic!("{error:?}")
        };
        assert!(error.may_commit(), "it may be in the journal all the same");
        assert!(matches!(in_time("the end", node.stopped()).await, StopReason::JournalFailed(_)));
        assert!(matches!(node.stop_reason(), Some(StopReason::JournalFailed(_))));

        let again = alone(config(1, 1), Log::default(), memory).await;
        assert_eq!(again.read(|log| log.commands.clone()).await.unwrap(), ["durable"]);
    }
}

#[tokio::test]
async fn a_panic_of_the_journal_stops_the_node() {
    for blocks in [true, false] {
        let node = Node::start(
            config(1, 1),
            Log::default(),
            Clumsy { blocks },
            channel::Network::new(1).endpoint(NodeId::new(1)),
        );
        let node = node.await.unwrap();
        let reason = in_time("the end", node.stopped()).await;
        assert!(
            matches!(&reason, StopReason::JournalPanicked { message } if &**message == "clumsy"),
            "{reason:?}"
        );
        let error = node.propose("x").await.unwrap_err();
        assert_eq!(came_back(error), "x");
    }
}

/// Panics at the first write.
struct Clumsy {
    blocks: bool,
}

impl Journal for Clumsy {
    fn recover(&mut self) -> Result<Restored<Bytes>, StorageError> {
        Ok(Restored::default())
    }

    fn store_id(&self) -> StoreId {
        StoreId::new(1)
    }

    fn blocks(&self) -> bool {
        self.blocks
    }

    fn append(&mut self, _write: &Write<Bytes>) -> Result<(), StorageError> {
        panic!("clumsy")
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_journal_fails_makes_room_for_another() {
    let cluster = Cluster::start(3).await;
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

#[tokio::test]
async fn a_stopped_node_says_so_to_everyone_who_asks() {
    let node = alone(config(1, 1), Log::default(), MemoryJournal::new()).await;
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

#[tokio::test]
async fn a_shutdown_answers_those_who_wait_and_does_not_wait_for_a_long_queue() {
    let log = Log { slowness: Arc::new(AtomicU64::new(50)), ..Log::default() };
    let node = alone(config(1, 1), log, MemoryJournal::new()).await;
    // An hour's work.
    let proposals: Vec<_> = (0..72_000)
        .step_by(1_000)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move {
                for _ in 0..1_000 {
                    node.propose("x").await?;
                }
                Ok::<(), ProposeError>(())
            })
        })
        .collect();
    until("the first", || async {
        let status = node.status().await.unwrap();
        (status.raft.commit_index.get() > 2).then_some(())
    })
    .await;
    in_time("the end", node.shutdown()).await;
    for proposal in proposals {
        let error = in_time("an answer", proposal).await.unwrap().unwrap_err();
        assert!(matches!(error, ProposeError::Stopped { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_node_ends_with_its_last_handle() {
    let journal = MemoryJournal::new();
    let node = alone(config(1, 1), Log::default(), journal.clone()).await;
    let watch = node.leadership();
    let now = watch.current();
    let clone = node.clone();
    drop(node);
    assert_eq!(clone.propose("x").await.unwrap(), 1);
    drop(clone);
    let error = in_time("word of the end", watch.changed_from(now)).await.unwrap_err();
    assert!(matches!(error.reason, StopReason::Shutdown), "{error}");
}

#[test]
fn a_node_ends_with_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let node = first.block_on(alone(config(1, 1), Log::default(), MemoryJournal::new()));
    drop(first);
    runtime().block_on(async {
        let error = in_time("an answer", node.propose("x")).await.unwrap_err();
        assert!(matches!(&error, ProposeError::Stopped { reason: StopReason::Abandoned, .. }));
        assert_eq!(came_back(error), "x");
        assert!(matches!(in_time("the end", node.stopped()).await, StopReason::Abandoned));
    });
}

#[tokio::test]
async fn a_node_that_cannot_run_does_not_start() {
    let network = channel::Network::new(1);
    let start = |config, endpoint| {
        Node::start(config, Log::default(), MemoryJournal::new(), network.endpoint(endpoint))
    };
    let mut stranger = config(1, 3);
    stranger.raft.id = NodeId::new(4);
    let error = start(stranger, NodeId::new(4)).await.unwrap_err();
    assert!(matches!(error, StartError::Config(_)), "{error:?}");
    let error = start(config(1, 3), NodeId::new(2)).await.unwrap_err();
    assert!(matches!(error, StartError::Transport(_)), "{error:?}");
    assert!(error.to_string().contains("the endpoint of node 2 was given to node 1"), "{error}");
}
