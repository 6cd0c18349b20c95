//! Dials one peer for as long as the transport exists, and sends the messages that wait for it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use raft_core::host::handshake::HANDSHAKE_BYTES_MAX;
use raft_core::host::tcp::{self, Cipher, Closed, Config, Reading, Route, Writing};
use tokio::net::TcpStream;
use tokio::select;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::connection::{self, Connection};
use super::secured;
use super::shared::{Peer, Shared, Signals};

type Dialing<'p> = tcp::Dialing<'p, Signals>;

pub(super) async fn run(peer: Arc<Peer>, shared: Arc<Shared>, mut stop: watch::Receiver<()>) {
    let mut dialing = Dialing::new(&shared.peers, &peer, &shared.inbox);
    loop {
        peer.signals().attempt_begins();
        let connected = select! {
            _ = stop.changed() => return,
            connected = connect(&mut dialing, &peer, &shared) => connected,
        };
        let closed = match connected {
            Ok(connection) => carry(&peer, &shared.config, connection, &mut stop).await,
            Err(closed) => closed,
        };
        let Some(wait) = dialing.on_closed(&closed) else { return };
        if wait.is_zero() {
            continue;
        }
        select! {
            _ = stop.changed() => return,
            () = peer.signals().retry.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

async fn connect(
    dialing: &mut Dialing<'_>,
    peer: &Peer,
    shared: &Shared,
) -> Result<Connection, Closed> {
    let lookup = dialing.look_up()?;
    let found = timeout(dialing.lookup_patience(), lookup).await;
    let (stream, address) = dial(dialing.route(found.ok())?).await?;
    stream.set_nodelay(true)?;
    let handshake_timeout = shared.config.handshake_timeout;
    let handshake = async {
        let stream = secured::dial(&shared.guard, stream, peer.id()).await?;
        // The peer sends nothing back but its answer and empty frames.
        let mut connection = Connection::new(stream, Reading::new(HANDSHAKE_BYTES_MAX));
        connection.write(&dialing.hello(address)?, handshake_timeout).await?;
        Ok((connection.read_handshake().await?, connection))
    };
    let answered = timeout(handshake_timeout, handshake).await;
    let (answer, connection) = answered.unwrap_or(Err(Closed::Idle))?;
    dialing.conclude(&answer)?;
    Ok(connection)
}

/// Tries the addresses one after the other.
async fn dial(mut route: Route) -> Result<(TcpStream, SocketAddr), Closed> {
    while let Some((address, patience)) = route.next_address() {
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(error)) => route.on_failed(error),
            Err(_) => route.on_failed(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(route.into_error())
}

/// Sends until the connection ends.
async fn carry(
    peer: &Peer,
    config: &Config,
    mut connection: Connection,
    stop: &mut watch::Receiver<()>,
) -> Closed {
    let mut keepalives = connection::keepalives(config.keepalive_interval);
    let mut writing = Writing::new(Arc::clone(peer.queue()));
    // Messages that arrived while there was no connection already wait.
    peer.signals().ready.notify_one();
    loop {
        let turn = select! {
            biased;
            _ = stop.changed() => {
                let last_words = say_last_words(config, &mut connection, &mut writing);
                let _ = timeout(config.idle_timeout, last_words).await;
                return Closed::Stopped;
            }
            read = connection.read(Dialing::receive) => read,
            _ = keepalives.tick() => match connection.check_heard(config.idle_timeout).and(peer.check()) {
                Ok(()) => connection.write(&tcp::keepalive(), config.idle_timeout).await,
                idle => idle,
            },
            () = peer.signals().ready.notified() => {
                let sent = send(config, &mut connection, &mut writing).await;
                if writing.has_more() {
                    peer.signals().ready.notify_one();
                }
                sent
            }
        };
        if let Err(closed) = turn {
            return closed;
        }
    }
}

/// Sends waiting messages, as much as one write takes.
async fn send(
    config: &Config,
    connection: &mut Connection,
    writing: &mut Writing,
) -> Result<(), Closed> {
    // Tokio's stream seals what it is given.
    writing.take(&Cipher::none())?;
    connection.write(writing.bytes(), config.idle_timeout).await?;
    writing.on_all_written();
    Ok(())
}

/// The messages that a node sends before it stops, such as the hand-over of its leadership, should
/// still arrive.
async fn say_last_words(
    config: &Config,
    connection: &mut Connection,
    writing: &mut Writing,
) -> Result<(), Closed> {
    while writing.has_more() {
        send(config, connection, writing).await?;
    }
    connection.shutdown().await
}
