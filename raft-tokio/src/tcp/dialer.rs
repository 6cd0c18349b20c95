//! Dials one peer for as long as the transport exists, and sends the messages that wait for it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use raft_core::host::handshake::HANDSHAKE_BYTES_MAX;
use raft_core::host::tcp::{self, Closed, Config, Reading, Route};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::select;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::connection::{self, Reader};
use super::shared::{Peer, Shared, Signals};

type Dialing<'p> = tcp::Dialing<'p, Signals>;

pub(super) async fn run(peer: Arc<Peer>, shared: Arc<Shared>, mut stop: watch::Receiver<()>) {
    let mut dialing = Dialing::new(&shared.peers, &peer, &shared.inbox);
    loop {
        let connected = select! {
            _ = stop.changed() => return,
            connected = connect(&mut dialing, &shared.config) => connected,
        };
        let closed = match connected {
            Ok((stream, reading)) => carry(&peer, &shared.config, stream, reading, &mut stop).await,
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
    config: &Config,
) -> Result<(TcpStream, Reading), Closed> {
    let lookup = dialing.look_up()?;
    let found = timeout(dialing.lookup_patience(), lookup).await;
    let (mut stream, address) = dial(dialing.route(found.ok())?).await?;
    stream.set_nodelay(true)?;
    // The peer sends nothing back but its answer and empty frames.
    let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
    let handshake = async {
        stream.write_all(&dialing.hello(address)?).await?;
        connection::read_handshake(&mut stream, &mut reading).await
    };
    let answer = timeout(config.handshake_timeout, handshake).await;
    dialing.conclude(&answer.map_err(|_| Closed::Idle)??)?;
    Ok((stream, reading))
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
    mut stream: TcpStream,
    reading: Reading,
    stop: &mut watch::Receiver<()>,
) -> Closed {
    let (reader, mut writer) = stream.split();
    let mut reader = Reader::new(reader, reading);
    let mut keepalives = connection::keepalives(config.keepalive_interval);
    let mut buffer = Vec::new();
    // Messages that arrived while there was no connection already wait.
    peer.signals().ready.notify_one();
    loop {
        let turn = select! {
            biased;
            _ = stop.changed() => {
                let last_words = say_last_words(peer, config, &mut writer, &mut buffer);
                let _ = timeout(config.idle_timeout, last_words).await;
                return Closed::Stopped;
            }
            read = reader.read(Dialing::receive) => read,
            _ = keepalives.tick() => match reader.check_heard(config.idle_timeout).and(peer.check()) {
                Ok(()) => connection::write(&mut writer, &tcp::keepalive(), config.idle_timeout).await,
                idle => idle,
            },
            () = peer.signals().ready.notified() => send(peer, config, &mut writer, &mut buffer).await,
        };
        if let Err(closed) = turn {
            return closed;
        }
    }
}

/// Sends waiting messages, as much as one write takes.
async fn send(
    peer: &Peer,
    config: &Config,
    writer: &mut WriteHalf<'_>,
    buffer: &mut Vec<u8>,
) -> Result<(), Closed> {
    buffer.clear();
    let messages = peer.queue().take(buffer);
    if let Err(closed) = connection::write(writer, buffer, config.idle_timeout).await {
        peer.queue().clear(messages);
        return Err(closed);
    }
    peer.queue().sent(messages, buffer.len());
    if !peer.queue().is_empty() {
        peer.signals().ready.notify_one();
    }
    Ok(())
}

/// The messages that a node sends before it stops, such as the hand-over of its leadership, should
/// still arrive.
async fn say_last_words(
    peer: &Peer,
    config: &Config,
    writer: &mut WriteHalf<'_>,
    buffer: &mut Vec<u8>,
) -> Result<(), Closed> {
    while !peer.queue().is_empty() {
        send(peer, config, writer, buffer).await?;
    }
    Ok(writer.shutdown().await?)
}
