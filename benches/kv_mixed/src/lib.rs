//! The `kv` server on every runtime, for programs that have them all.
//!
//! Each adapter's example begins a server in the same few lines, which stand there for people to
//! read. The two cannot share them: what an example depends on does not depend on its adapter.

use std::error::Error;
use std::sync::Arc;
use std::thread;

use kv::program::Runtime;
use kv::server::{Parts, Server};
use kv_sockets::tokio::adopt;
use raft_smol::on::{self, AsyncStd, Executor, Smol};

/// Every runtime that can host a server.
pub const RUNTIMES: [Runtime; 4] = [
    Runtime { name: "tokio", serve: serve_on_tokio },
    Runtime { name: "smol", serve: serve_on_smol::<Smol> },
    Runtime { name: "threads", serve: serve_on_threads },
    Runtime { name: "async-std", serve: serve_on_smol::<AsyncStd> },
];

fn serve_on_tokio(parts: Parts) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(start_on_tokio(parts))?.run_until_told()
}

async fn start_on_tokio(parts: Parts) -> Result<Arc<Server>, Box<dyn Error>> {
    let Parts { config, store, journal, listener, peers, transport, tls, clients, front } = parts;
    let mut transport = raft_tokio::tcp::Transport::new(adopt(listener)?, peers, transport)?;
    if let Some(tls) = tls {
        transport = transport.with_tls(tls);
    }
    let counters = transport.counters();
    let node = raft_tokio::Node::start(config, store, journal, transport).await?;
    let server = front.open(&node, counters);
    tokio::spawn(kv_sockets::tokio::accept(adopt(clients)?, server.clone()));
    Ok(server)
}

fn serve_on_smol<E: Executor>(parts: Parts) -> Result<(), Box<dyn Error>> {
    smol::block_on(start_on_smol::<E>(parts))?.run_until_told()
}

async fn start_on_smol<E: Executor>(parts: Parts) -> Result<Arc<Server>, Box<dyn Error>> {
    let Parts { config, store, journal, listener, peers, transport, tls, clients, front } = parts;
    let mut transport = on::Transport::<E>::new(listener.try_into()?, peers, transport)?;
    if let Some(tls) = tls {
        transport = transport.with_tls(tls);
    }
    let counters = transport.counters();
    let node = on::Node::<_, E>::start(config, store, journal, transport).await?;
    let server = front.open(&node, counters);
    E::spawn(kv_sockets::smol::accept(clients.try_into()?, server.clone(), E::spawn));
    Ok(server)
}

fn serve_on_threads(parts: Parts) -> Result<(), Box<dyn Error>> {
    let Parts { config, store, journal, listener, peers, transport, tls, clients, front } = parts;
    let mut transport = raft_threads::tcp::Transport::new(listener, peers, transport)?;
    if let Some(tls) = tls {
        transport = transport.with_tls(tls);
    }
    let counters = transport.counters();
    let node = raft_threads::Node::start(config, store, journal, transport)?;
    let server = front.open(&node, counters);
    let admitting = server.clone();
    let accept = move || kv_sockets::threads::accept(&clients, &admitting);
    thread::Builder::new().name("kv-accept".into()).spawn(accept)?;
    server.run_until_told()
}
