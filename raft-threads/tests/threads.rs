//! What a node leaves behind: nothing. Alone in its process, for it counts threads.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};

use common::{Cluster, DEADLINE, Log, config, until};
use raft_threads::{MemoryJournal, Node, NodeId, channel, tcp};

/// How many threads are the nodes'.
fn node_threads() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let names =
        threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("raft-")).count()
}

fn no_thread_is_left() {
    until("an end of all threads", || (node_threads() == 0).then_some(()));
}

#[test]
fn nothing_is_left_of_a_node() {
    // Shut down, and no handle kept.
    let cluster = Cluster::start(3);
    cluster.propose("x");
    // Three loops, three for journals, three for snapshots, two for state machines, one network.
    assert_eq!(node_threads(), 12);
    cluster.shutdown();
    no_thread_is_left();

    // Shut down, and handles kept.
    let Cluster { network, nodes, .. } = Cluster::start(3);
    drop(network);
    for node in &nodes {
        node.shutdown().wait_timeout(DEADLINE).unwrap();
    }
    no_thread_is_left();

    // Never shut down, only dropped.
    let cluster = Cluster::start(3);
    cluster.leader();
    drop(cluster);
    no_thread_is_left();

    // Never started.
    let network = channel::Network::new(1);
    let wrong = network.endpoint(NodeId::new(2));
    Node::start(config(1, 1), Log::default(), MemoryJournal::new(), wrong).unwrap_err();
    drop(network);
    no_thread_is_left();

    // Over TCP, again and again on the same port: with a peer that never answers, one that is not
    // there, and a mute dialer.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf = deaf.local_addr().map(|address| (deaf, address.to_string())).unwrap();
    let config_tcp = tcp::Config { handshake_timeout: DEADLINE * 2, ..tcp::Config::default() };
    let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for _ in 0..100 {
        let peers = [(2, deaf.1.clone()), (3, "127.0.0.1:1".to_owned())];
        let peers = peers.map(|(id, address)| (NodeId::new(id), address));
        let transport = tcp::Transport::bind(address, peers, config_tcp.clone()).unwrap();
        address = transport.local_addr();
        let node = Node::start(config(1, 3), Log::default(), MemoryJournal::new(), transport);
        let mute = TcpStream::connect(address).unwrap();
        node.unwrap().shutdown().wait_timeout(DEADLINE).unwrap();
        drop(mute);
    }
    no_thread_is_left();
}
