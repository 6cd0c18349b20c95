//! A key-value store that speaks the Redis protocol: a demonstration without arguments, a server with `serve`.
//!
//! ```text
//! cargo run --release -p raft-tokio --example kv
//! cargo run --release -p raft-tokio --example kv -- --help
//! ```
//!
//! Here are the sockets and the waiting, by tokio. What knows no runtime is in `benches::kv`: the store, the protocol, what may
//! be tried again, the command line and the demonstration.

mod connection;
mod forwarder;

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use benches::kv::flags::ServeOptions;
use benches::kv::local;
use benches::kv::once::Writers;
use benches::kv::program::{self, when_stdin_ends};
use benches::kv::resp::{Frame, error};
use benches::kv::session::CONNECTIONS_MAX;
use benches::kv::store::{Store, Watch};
use bytes::BytesMut;
use raft_tokio::{ClusterId, FileJournal, Node, NodeConfig, NodeId, tcp};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How long no client is let in after the operating system refused one, as it does when too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections of a server share.
struct Server {
    id: NodeId,
    node: Node<Store>,
    store: Watch,
    /// Where every server listens for clients.
    client_peers: BTreeMap<NodeId, String>,
}

fn main() -> ExitCode {
    program::main("tokio", |options| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(serve(options))
    })
}

/// Runs a server until it is told to stop.
async fn serve(options: ServeOptions) -> Result<(), Box<dyn Error>> {
    let id = options.raft.id;
    let listener = listen(&options.client, "clients").await?;
    let peers = listen(&options.listen, "other servers").await?;
    let transport = tcp::Transport::new(peers, options.peers, tcp::Config::default())?;
    let cluster = ClusterId::new(options.cluster);
    let journal = FileJournal::open(&options.data, cluster, id)?;
    let store = Store::new();
    let watch = store.watch();
    let node =
        Node::start(NodeConfig::new(cluster, options.raft), store, journal, transport).await?;
    tracing::info!(%id, clients = %options.client, "serving");

    let stdin_ended = Arc::new(Notify::new());
    if options.until_stdin_ends {
        let ended = stdin_ended.clone();
        when_stdin_ends(move || ended.notify_one());
    }
    let server =
        Server { id, node: node.clone(), store: watch, client_peers: options.client_peers };
    tokio::select! {
        never = accept(listener, Arc::new(server)) => match never {},
        reason = node.stopped() => return Err(reason.to_string().into()),
        ended = told_to_end() => ended?,
        ended = tokio::signal::ctrl_c() => ended?,
        () = stdin_ended.notified() => {}
    }
    tracing::info!(%id, "stopping");
    node.shutdown().await;
    Ok(())
}

/// SIGTERM came.
#[cfg(unix)]
async fn told_to_end() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}

/// Nothing like SIGTERM exists here.
#[cfg(not(unix))]
async fn told_to_end() -> io::Result<()> {
    std::future::pending().await
}

async fn listen(address: &str, whom: &str) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|e| format!("cannot listen on {address} for {whom}: {e}"))
}

/// Lets clients in.
async fn accept(listener: TcpListener, server: Arc<Server>) -> std::convert::Infallible {
    let writers = Writers::new();
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(e) => {
                tracing::warn!("a client could not be let in: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (server, writers) = (server.clone(), writers.clone());
        match writers.take() {
            Some(writer) => drop(tokio::spawn(async move {
                writers.give_back(connection::serve(socket, writer, &server).await);
            })),
            None => drop(tokio::spawn(turn_away(socket))),
        }
    }
}

async fn turn_away(mut socket: TcpStream) {
    let mut out = BytesMut::new();
    let text = format!("ERR this server has its {CONNECTIONS_MAX} connections already");
    benches::kv::resp::encode(&mut out, &error(text));
    // A client that does not wait for the reason needs none.
    let _ = socket.write_all(&out).await;
}

impl Server {
    async fn info(&self) -> Frame {
        match self.node.status().await {
            Ok(status) => local::info(&status, self.store.summary()),
            Err(e) => error(format!("ERR {e}")),
        }
    }
}
