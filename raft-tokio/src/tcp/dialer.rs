//! Dials one peer for as long as the transport lives, and sends what waits for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;
use raft_core::host::frame::Decoder;
use raft_core::host::handshake::{Answer, HANDSHAKE_BYTES_MAX, Hello};
use raft_core::host::tcp::{Backoff, Closed, Config, Counters, SendQueue};
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
    /// Whether messages were pushed since the last wake.
    pushed: AtomicBool,
    ready: Notify,
    retry: Notify,
}

impl Peer {
    pub(super) fn new(id: NodeId, address: String, config: &Config, counters: &Counters) -> Self {
        let queue = SendQueue::new(config, counters.clone());
        let (ready, retry) = (Notify::new(), Notify::new());
        Self { id, address, queue, pushed: AtomicBool::new(false), ready, retry }
    }

    pub(super) fn push(&self, message: Message<Bytes>) {
        self.queue.push(message);
        self.pushed.store(true, Relaxed);
    }

    /// Sends what was pushed.
    pub(super) fn wake(&self) {
        if self.pushed.swap(false, Relaxed) {
            self.ready.notify_one();
        }
    }

    /// The peer is there, for it dialed us: dial it now if it was out of reach.
    pub(super) fn is_back(&self) {
        self.retry.notify_one();
    }
}

pub(super) async fn run(peer: Arc<Peer>, shared: Arc<Shared>, mut stop: watch::Receiver<()>) {
    let Config { reconnect_backoff_min, reconnect_backoff_max, .. } = shared.config;
    let mut backoff = Backoff::new(reconnect_backoff_min, reconnect_backoff_max);
    let mut last_failure = String::new();
    loop {
        let connected = select! {
            _ = stop.changed() => return,
            connected = connect(&peer, &shared) => connected,
        };
        let closed = match connected {
            Ok((stream, decoder)) => {
                tracing::info!(peer = %peer.id, address = peer.address, "connected");
                shared.counters.count_connected();
                last_failure.clear();
                let since = Instant::now();
                let closed = carry(&peer, &shared.config, stream, decoder, &mut stop).await;
                backoff.connected_for(since.elapsed());
                closed
            }
            Err(closed) => {
                shared.counters.count_connect_failed();
                closed
            }
        };
        closed.count(&shared.counters);
        peer.queue.clear(0);
        if matches!(closed, Closed::Stopped) {
            return;
        }
        warn_once(&peer, &closed, &mut last_failure);
        select! {
            _ = stop.changed() => return,
            () = peer.retry.notified() => {}
            () = sleep(backoff.next_wait()) => {}
        }
    }
}

/// A peer that is down for long fails the same way each time: that is one line in the log.
fn warn_once(peer: &Peer, closed: &Closed, last_failure: &mut String) {
    let failure = closed.to_string();
    if failure == *last_failure {
        tracing::debug!(peer = %peer.id, address = peer.address, reason = failure, "not connected");
    } else {
        tracing::warn!(peer = %peer.id, address = peer.address, reason = failure, "not connected");
        *last_failure = failure;
    }
}

async fn connect(peer: &Peer, shared: &Shared) -> Result<(TcpStream, Decoder), Closed> {
    let Config { connect_timeout, handshake_timeout, .. } = shared.config;
    let connecting = timeout(connect_timeout, TcpStream::connect(&peer.address)).await;
    let mut stream = connecting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    // All that comes back is the answer and empty frames.
    let mut decoder = Decoder::new(HANDSHAKE_BYTES_MAX);
    let handshake = async {
        let hello = Hello::new(&shared.identity, peer.id);
        connection::write_handshake(&mut stream, |out| hello.encode(out)).await?;
        let answer = connection::read_handshake(&mut stream, &mut decoder).await?;
        Ok(Answer::conclude(&answer)?)
    };
    let version: Result<u16, Closed> =
        timeout(handshake_timeout, handshake).await.map_err(|_| Closed::Idle)?;
    version.map(|_| (stream, decoder))
}

/// Sends until the connection ends.
async fn carry(
    peer: &Peer,
    config: &Config,
    mut stream: TcpStream,
    decoder: Decoder,
    stop: &mut watch::Receiver<()>,
) -> Closed {
    let (reader, mut writer) = stream.split();
    let mut reader = Reader::new(reader, decoder);
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
            read = reader.read(only_keepalives) => read,
            _ = keepalives.tick() => match reader.check_heard(config.idle_timeout) {
                Ok(()) => connection::write_keepalive(&mut writer, config.idle_timeout).await,
                idle => idle,
            },
            () = peer.ready.notified() => send(peer, config, &mut writer, &mut buffer).await,
        };
        if let Err(closed) = turn {
            return closed;
        }
    }
}

fn only_keepalives(payload: Bytes) -> Result<(), Closed> {
    if payload.is_empty() { Ok(()) } else { Err(Closed::Unexpected) }
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
