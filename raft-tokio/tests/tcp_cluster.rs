//! Whole nodes over TCP: they elect, replicate, and go on without their leader.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use raft_tokio::{
    ClusterId, Config, Index, MemoryJournal, Node, NodeConfig, NodeId, StateMachine, tcp,
};
use tokio::net::TcpListener;

const DEADLINE: Duration = Duration::from_secs(20);

/// Counts the commands that it was given.
struct Counter(u64);

impl StateMachine for Counter {
    type Reply = u64;

    fn apply(&mut self, _index: Index, _command: Bytes) -> u64 {
        self.0 += 1;
        self.0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_its_leader() {
    let mut listeners = Vec::new();
    for id in 1..=3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listeners.push((NodeId::new(id), listener));
    }
    let addresses: Vec<_> =
        listeners.iter().map(|(id, socket)| (*id, socket.local_addr().unwrap())).collect();
    let mut nodes = Vec::new();
    for (id, listener) in listeners {
        nodes.push(start(id, listener, &addresses).await);
    }

    let leader = leader_of(&nodes).await;
    for count in 1..=10 {
        assert_eq!(nodes[leader].propose("count").await.unwrap(), count);
    }
    nodes.remove(leader).shutdown().await;

    let leader = leader_of(&nodes).await;
    assert_eq!(nodes[leader].propose("count").await.unwrap(), 11, "nothing was lost");
    assert_eq!(nodes[leader].read(|counter| counter.0).await.unwrap(), 11);
}

async fn start(
    id: NodeId,
    listener: TcpListener,
    addresses: &[(NodeId, SocketAddr)],
) -> Node<Counter> {
    let peers = addresses.iter().map(|(id, address)| (*id, address.to_string()));
    let transport = tcp::Transport::new(listener, peers, tcp::Config::default()).expect("sound");
    let voters = addresses.iter().map(|(id, _)| *id);
    // Patient, so that a busy machine does not depose the leader in the middle of the test.
    let raft = Config {
        election_timeout_min: Duration::from_millis(500),
        election_timeout_max: Duration::from_millis(1000),
        ..Config::new(id, voters)
    };
    let config = NodeConfig::new(ClusterId::new(1), raft);
    Node::start(config, Counter(0), MemoryJournal::new(), transport).await.expect("it starts")
}

/// Waits until one of the nodes leads, and says which.
async fn leader_of(nodes: &[Node<Counter>]) -> usize {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(nodes.len());
    let waiting: Vec<_> = (0..)
        .zip(nodes.iter().cloned())
        .map(|(position, node)| {
            let sender = sender.clone();
            tokio::spawn(async move {
                if node.lead().await.is_ok() {
                    let _ = sender.send(position).await;
                }
            })
        })
        .collect();
    let leader = tokio::time::timeout(DEADLINE, receiver.recv()).await.expect("nobody leads");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    leader.expect("the senders live as long as they wait")
}
