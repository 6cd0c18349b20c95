//! A key-value store that speaks the Redis protocol: a demonstration without arguments, a server
//! with `serve`.
//!
//! ```text
//! cargo run --release -p raft-smol --example smol_kv
//! cargo run --release -p raft-smol --example smol_kv -- --help
//! cargo run --release -p raft-smol --example smol_kv --features async-std
//! ```
//!
//! The last runs on async-std. Here is its node. The packages `kv` and `kv_sockets` have the rest:
//! the store, the protocol, what may be tried again, the command line and the demonstration; and
//! the sockets of its clients.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use kv::program::{self, Runtime};
use kv::server::{Parts, Server};
use kv_sockets::smol::accept;
use raft_smol::on::{self, Executor};
use smol::net::TcpListener;

#[cfg(feature = "async-std")]
const RUNTIME: Runtime = Runtime { name: "async-std", serve: serve::<on::AsyncStd> };
#[cfg(not(feature = "async-std"))]
const RUNTIME: Runtime = Runtime { name: "smol", serve: serve::<on::Smol> };

fn main() -> ExitCode {
    program::main(&[RUNTIME])
}

/// Runs a server until it is told to stop.
fn serve<E: Executor>(parts: Parts) -> Result<(), Box<dyn Error>> {
    smol::block_on(start::<E>(parts))?.run_until_told()
}

async fn start<E: Executor>(parts: Parts) -> Result<Arc<Server>, Box<dyn Error>> {
    let Parts { config, store, journal, listener, peers, transport, tls, clients, front } = parts;
    let (listener, clients) = (TcpListener::try_from(listener)?, TcpListener::try_from(clients)?);
    let mut transport = on::Transport::<E>::new(listener, peers, transport)?;
    if let Some(tls) = tls {
        transport = transport.with_tls(tls);
    }
    let counters = transport.counters();
    let node = on::Node::<_, E>::start(config, store, journal, transport).await?;
    let server = front.open(&node, counters);
    E::spawn(accept(clients, server.clone(), E::spawn));
    Ok(server)
}
