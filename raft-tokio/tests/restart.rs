//! A node on a real disk and a real port, stopped and started again: when a shutdown is over, both
//! are free.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::path::Path;

use common::{Log, config, in_time, until};
use raft_tokio::{ClusterId, FileJournal, Node, NodeId, StartError, StopReason, channel, tcp};

const NODE: NodeId = NodeId::new(1);

/// Nothing here is tried twice: what is in use is an error.
async fn start(directory: &Path, address: &str) -> Result<(Node<Log>, SocketAddr), StartError> {
    let config = config(1, 1);
    let journal =
        FileJournal::open(directory, config.cluster, NODE).map_err(StartError::Journal)?;
    let transport =
        tcp::Transport::bind(address, Vec::<(NodeId, String)>::new(), tcp::Config::default());
    let transport = transport.await.map_err(StartError::Transport)?;
    let address = transport.local_addr();
    let node = Node::start(config, Log::default(), journal, transport).await?;
    in_time("a lead", node.lead()).await.unwrap();
    Ok((node, address))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_can_start_again_as_soon_as_its_shutdown_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let (mut node, address) = start(directory.path(), "127.0.0.1:0").await.unwrap();
    let mut term = node.leadership().current().term;
    for life in 1..=10 {
        assert_eq!(node.propose(format!("life {life}")).await.unwrap(), life);
        assert!(matches!(in_time("the end", node.shutdown()).await, StopReason::Shutdown));
        (node, _) = start(directory.path(), &address.to_string()).await.unwrap();
        let now = node.leadership().current().term;
        assert!(now > term, "terms rise from life to life");
        term = now;
        assert_eq!(node.read(|log| log.commands.len()).await.unwrap(), life);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_on_the_same_disk_or_port_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let (node, address) = start(directory.path(), "127.0.0.1:0").await.unwrap();
    let error = start(directory.path(), "127.0.0.1:0").await.unwrap_err();
    assert!(matches!(error, StartError::Journal(_)), "{error:?}");
    assert!(error.to_string().contains("in use"), "{error}");
    let other = tempfile::tempdir().unwrap();
    let error = start(other.path(), &address.to_string()).await.unwrap_err();
    assert!(matches!(error, StartError::Transport(_)), "{error:?}");
    assert_eq!(node.propose("still here").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_handle_frees_disk_and_port_too() {
    let directory = tempfile::tempdir().unwrap();
    let (node, address) = start(directory.path(), "127.0.0.1:0").await.unwrap();
    node.propose("kept").await.unwrap();
    drop(node);
    let again = until("a second life", || async {
        start(directory.path(), &address.to_string()).await.ok()
    });
    let (node, _) = again.await;
    assert_eq!(node.read(|log| log.commands.clone()).await.unwrap(), ["kept"]);
}

#[tokio::test]
async fn a_journal_of_another_cluster_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _) = start(directory.path(), "127.0.0.1:0").await.unwrap();
    in_time("the end", node.shutdown()).await;
    let error = FileJournal::open(directory.path(), ClusterId::new(8), NODE).unwrap_err();
    assert!(error.to_string().contains("belongs to node 1"), "{error}");

    // Opened under the right name, and then given to another node.
    let config = config(2, 2);
    let journal = FileJournal::open(directory.path(), config.cluster, NODE).unwrap();
    let endpoint = channel::Network::new(1).endpoint(config.raft.id);
    let error = Node::start(config, Log::default(), journal, endpoint).await.unwrap_err();
    assert!(error.to_string().contains("the journal belongs to node 1"), "{error}");
}
