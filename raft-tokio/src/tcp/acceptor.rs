//! Accepts connections, and receives the messages of each peer.

use std::net::SocketAddr;
use std::sync::Arc;

use raft_core::host::handshake::HANDSHAKE_BYTES_MAX;
use raft_core::host::tcp::{self, ACCEPT_RETRY, Closed, Counters, Incoming, Reading};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{self, Connection};
use super::secured;
use super::shared::Shared;

pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(shared.config.connections_max));
    loop {
        select! {
            _ = stop.changed() => break,
            (stream, address, place) = accept(&listener, places.clone(), &shared.counters) => {
                connections.spawn(serve(stream, address, place, shared.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: Arc<Semaphore>,
    counters: &Counters,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let place = places.acquire_owned().await.expect("this semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address, place),
            Err(error) => {
                counters.warn_not_accepting(&error);
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// One connection, from its handshake to its end.
async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
    shared: Arc<Shared>,
) {
    let welcomed =
        timeout(shared.config.handshake_timeout, welcome(stream, address, &shared)).await;
    let (peer, closed) = match welcomed.unwrap_or(Err(Closed::Idle)) {
        Ok((connection, incoming)) => {
            (Some(incoming.peer()), receive(connection, incoming, &shared).await)
        }
        Err(closed) => (None, closed),
    };
    closed.report(&shared.counters, peer, address);
    drop(place);
}

/// Lets a peer in, or tells the dialer why it is refused.
async fn welcome(
    stream: TcpStream,
    address: SocketAddr,
    shared: &Shared,
) -> Result<(Connection, Incoming), Closed> {
    stream.set_nodelay(true)?;
    let (stream, speaker) = secured::accept(&shared.guard, stream).await?;
    let mut connection = Connection::new(stream, Reading::new(HANDSHAKE_BYTES_MAX));
    let first = connection.read_handshake().await;
    let mut answer = Vec::new();
    let reading = connection.reading();
    let judged = shared.peers.judge_speaker(&speaker, first, reading, address, &mut answer);
    connection.write(&answer, shared.config.handshake_timeout).await?;
    let (peer, ticket) = judged?;
    let incoming = shared.on_accepted(peer, ticket, address);
    Ok((connection.with_frames_of(shared.config.frame_bytes_max), incoming))
}

/// Receives until the connection ends.
async fn receive(mut connection: Connection, incoming: Incoming, shared: &Shared) -> Closed {
    let config = &shared.config;
    let mut keepalives = connection::keepalives(config.keepalive_interval);
    loop {
        // Neither branch has priority, because a peer that always sends must still hear that this
        // node is alive.
        let turn = select! {
            read = connection.read(|payload| incoming.receive(payload)) => read,
            _ = keepalives.tick() => match connection.check_heard(config.idle_timeout) {
                Ok(()) => connection.write(&tcp::keepalive(), config.idle_timeout).await,
                idle => idle,
            },
        };
        if let Err(closed) = turn.and_then(|()| incoming.check()) {
            return closed;
        }
    }
}
