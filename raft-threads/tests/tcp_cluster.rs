//! Whole nodes over TCP: they elect, replicate, and go on without their leader.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use common::{DEADLINE, Log, answer, config, until};
use raft_threads::{Config, MemoryJournal, Node, NodeConfig, NodeId, Role, tcp};

#[test]
fn a_cluster_survives_its_leader() {
    let listeners = [1, 2, 3].map(|id| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (id, listener)
    });
    let addresses: Vec<_> =
        listeners.iter().map(|(id, socket)| (*id, socket.local_addr().unwrap())).collect();
    let mut nodes: Vec<_> =
        listeners.into_iter().map(|(id, listener)| start(id, listener, &addresses)).collect();

    let leader = leader_of(&nodes);
    for count in 1..=10 {
        assert_eq!(answer(nodes[leader].propose("count").wait_timeout(DEADLINE)).unwrap(), count);
    }
    nodes.remove(leader).shutdown().wait_timeout(DEADLINE).unwrap();
    let address = addresses[leader].1;
    TcpListener::bind(address).expect("the port is free at once");

    let leader = leader_of(&nodes);
    let eleven = answer(nodes[leader].propose("count").wait_timeout(DEADLINE)).unwrap();
    assert_eq!(eleven, 11, "nothing was lost");
    assert_eq!(
        answer(nodes[leader].read(|log| log.commands.len()).wait_timeout(DEADLINE)).unwrap(),
        11
    );
}

fn start(id: u64, listener: TcpListener, addresses: &[(u64, SocketAddr)]) -> Node<Log> {
    let peers = addresses.iter().map(|(id, address)| (NodeId::new(*id), address.to_string()));
    let transport = tcp::Transport::new(listener, peers, tcp::Config::default());
    let config = config(id, 3);
    // Patient, so that a busy machine does not depose the leader in the middle of the test.
    let raft = Config {
        election_timeout_min: Duration::from_millis(500),
        election_timeout_max: Duration::from_millis(1000),
        ..config.raft
    };
    let config = NodeConfig { raft, ..config };
    Node::start(config, Log::default(), MemoryJournal::new(), transport.expect("sound"))
        .expect("it starts")
}

/// Waits until one of the nodes leads, and says which.
fn leader_of(nodes: &[Node<Log>]) -> usize {
    let leads = |node: &Node<Log>| node.leadership().current().role == Role::Leader;
    until("a leader", || nodes.iter().position(leads))
}
