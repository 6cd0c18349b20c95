//! A key-value store that speaks the Redis protocol: a demonstration without arguments, a server
//! with `serve`.
//!
//! ```text
//! cargo run --release -p raft-threads --example threads_kv
//! cargo run --release -p raft-threads --example threads_kv -- --help
//! ```
//!
//! Here is its node. The packages `kv` and `kv_sockets` have the rest: the store, the protocol,
//! what may be tried again, the command line and the demonstration; and the sockets of its clients,
//! with a thread for each.

use std::error::Error;
use std::process::ExitCode;
use std::thread;

use kv::program::{self, Runtime};
use kv::server::Parts;
use kv_sockets::threads::accept;
use raft_threads::{Node, tcp};

fn main() -> ExitCode {
    program::main(&[Runtime { name: "threads", serve }])
}

/// Runs a server until it is told to stop.
fn serve(parts: Parts) -> Result<(), Box<dyn Error>> {
    let Parts { config, store, journal, listener, peers, transport, tls, clients, front } = parts;
    let mut transport = tcp::Transport::new(listener, peers, transport)?;
    if let Some(tls) = tls {
        transport = transport.with_tls(tls);
    }
    let counters = transport.counters();
    let node = Node::start(config, store, journal, transport)?;
    let server = front.open(&node, counters);
    let accepting = server.clone();
    thread::Builder::new().name("kv-accept".into()).spawn(move || accept(&clients, &accepting))?;
    server.run_until_told()
}
