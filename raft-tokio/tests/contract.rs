//! The transport over TCP keeps the contract of transports.

use std::net::TcpListener;

use raft_core::NodeId;
use raft_core::host::contract;
use raft_tokio::tcp::{Config, Transport};
use tokio::runtime::Builder;

#[test]
fn the_transport_over_tcp() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let mut listeners = [1, 2].map(|_| Some(TcpListener::bind("127.0.0.1:0").unwrap()));
    let addresses = listeners.each_ref().map(|listener| {
        listener.as_ref().map(|listener| listener.local_addr().unwrap().to_string()).unwrap()
    });
    contract::transport(|node| {
        let position = node.get() as usize - 1;
        // The first node comes back at the address that it has given up.
        let again = || TcpListener::bind(&addresses[position]).unwrap();
        let listener = listeners[position].take().unwrap_or_else(again);
        let peers = (1..).map(NodeId::new).zip(addresses.iter().cloned());
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        Transport::new(listener, peers, Config::default()).unwrap()
    });
}
