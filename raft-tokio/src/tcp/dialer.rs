//! Dials one peer for as long as the transport lives, and sends what waits for it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use raft_core::host::handshake::{Answer, HANDSHAKE_BYTES_MAX};
use raft_core::host::tcp::{self, Closed, Config, Counters, Dialing, Reading, SendQueue};
use raft_core::{Message, NodeId};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::Shared;
use super::connection::{self, Reader};

/// A peer and what waits for it.
#[derive(Debug)]
pub(super) struct Peer {
    id: NodeId,
    address: String,
    queue: SendQueue,
    ready: Notify,
    retry: Notify,
}

impl Peer {
    pub(super) fn new(id: NodeId, address: String, config: &Config, counters: &Counters) -> Self {
        let queue = SendQueue::new(config, counters.clone());
        let (ready, retry) = (Notify::new(), Notify::new());
        Self { id, address, queue, ready, retry }
    }

    pub(super) fn push(&self, message: Message<Bytes>) {
        self.queue.push(message);
    }

    /// Sends what was pushed.
    pub(super) fn wake(&self) {
        if self.queue.flush() {
            self.ready.notify_one();
        }
    }

    /// The peer is there, for it dialed us: dial it now if it was out of reach.
    pub(super) fn is_back(&self) {
        self.retry.notify_one();
    }
}

pub(super) async fn run(peer: Arc<Peer>, shared: Arc<Shared>, mut stop: watch::Receiver<()>) {
    let Shared { config, counters, .. } = &*shared;
    let mut dialing = Dialing::new(peer.id, peer.address.clone(), config, counters.clone());
    loop {
        let connected = select! {
            _ = stop.changed() => return,
            connected = connect(&peer, &dialing, &shared) => connected,
        };
        let closed = match connected {
            Ok((stream, reading)) => {
                dialing.on_connected();
                carry(&peer, config, stream, reading, &mut stop).await
            }
            Err(closed) => closed,
        };
        peer.queue.clear(0);
        let wait = dialing.on_closed(&closed);
        if closed.is_stop() {
            return;
        }
        select! {
            _ = stop.changed() => return,
            () = peer.retry.notified() => {}
            () = sleep(wait) => {}
        }
    }
}

async fn connect(
    peer: &Peer,
    dialing: &Dialing,
    shared: &Shared,
) -> Result<(TcpStream, Reading), Closed> {
    let Config { connect_timeout, handshake_timeout, .. } = shared.config;
    let connecting = timeout(connect_timeout, TcpStream::connect(&peer.address)).await;
    let mut stream = connecting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    // All that comes back is the answer and empty frames.
    let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
    let handshake = async {
        stream.write_all(&dialing.hello(&shared.identity)?).await?;
        let answer = connection::read_handshake(&mut stream, &mut reading).await?;
        Ok(Answer::conclude(&answer)?)
    };
    let version: Result<u16, Closed> =
        timeout(handshake_timeout, handshake).await.map_err(|_| Closed::Idle)?;
    version.map(|_| (stream, reading))
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
    // What came while there was no connection waits already.
    peer.ready.notify_one();
    loop {
        let turn = select! {
            biased;
            _ = stop.changed() => {
                let last_words = say_last_words(peer, config, &mut writer, &mut buffer);
                let _ = timeout(config.idle_timeout, last_words).await;
                return Closed::Stopped;
            }
            read = reader.read(Dialing::receive) => read,
            _ = keepalives.tick() => match reader.check_heard(config.idle_timeout) {
                Ok(()) => connection::write(&mut writer, &tcp::keepalive(), config.idle_timeout).await,
                idle => idle,
            },
            () = peer.ready.notified() => send(peer, config, &mut writer, &mut buffer).await,
        };
        if let Err(closed) = turn {
            return closed;
        }
    }
}

/// Sends what waits, up to one write's worth.
async fn send(
    peer: &Peer,
    config: &Config,
    writer: &mut WriteHalf<'_>,
    buffer: &mut Vec<u8>,
) -> Result<(), Closed> {
    buffer.clear();
    let messages = peer.queue.take(buffer);
    if let Err(closed) = connection::write(writer, buffer, config.idle_timeout).await {
        peer.queue.clear(messages);
        return Err(closed);
    }
    peer.queue.sent(messages, buffer.len());
    if !peer.queue.is_empty() {
        peer.ready.notify_one();
    }
    Ok(())
}

/// What a node says before it stops, handing over its leadership for one, should still arrive.
async fn say_last_words(
    peer: &Peer,
    config: &Config,
    writer: &mut WriteHalf<'_>,
    buffer: &mut Vec<u8>,
) -> Result<(), Closed> {
    while !peer.queue.is_empty() {
        send(peer, config, writer, buffer).await?;
    }
    Ok(writer.shutdown().await?)
}
