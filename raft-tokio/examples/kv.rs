//! A key-value store that speaks the Redis protocol: a demonstration without arguments, a server
//! with `serve`.
//!
//! ```text
//! cargo run --release -p raft-tokio --example kv
//! cargo run --release -p raft-tokio --example kv -- --help
//! ```
//!
//! Here is its node. The packages `kv` and `kv_sockets` have the rest: the store, the protocol,
//! what may be tried again, the command line and the demonstration; and the sockets of its clients,
//! on tokio.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use kv::program::{self, Runtime};
use kv::server::{Parts, Server};
use kv_sockets::tokio::{accept, adopt};
use raft_tokio::{Node, tcp};

fn main() -> ExitCode {
    program::main(&[Runtime { name: "tokio", serve }])
}

/// Runs a server until it is told to stop.
fn serve(parts: Parts) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(start(parts))?.run_until_told()
}

async fn start(parts: Parts) -> Result<Arc<Server>, Box<dyn Error>> {
    let Parts { config, store, journal, listener, peers, transport, tls, clients, front } = parts;
    let mut transport = tcp::Transport::new(adopt(listener)?, peers, transport)?;
    if let Some(tls) = tls {
        transport = transport.with_tls(tls);
    }
    let counters = transport.counters();
    let node = Node::start(config, store, journal, transport).await?;
    let server = front.open(&node, counters);
    tokio::spawn(accept(adopt(clients)?, server.clone()));
    Ok(server)
}
