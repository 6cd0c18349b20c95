//! Dials one peer for as long as the transport lives, and sends what waits for it.

use std::convert::Infallible;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;

use async_channel::Receiver;
use async_io::Timer;
use async_net::TcpStream;
use bytes::Bytes;
use futures_lite::future::{or, yield_now};
use raft_core::host::handshake::{Answer, HANDSHAKE_BYTES_MAX};
use raft_core::host::tcp::{self, Closed, Config, Counters, Dialing, SendQueue};
use raft_core::{Message, NodeId};

use super::Shared;
use super::connection::{self, Reader, Stream};
use crate::wait::{Notify, dropped, timeout};

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
        Self { id, address, queue, ready: Notify::new(), retry: Notify::new() }
    }

    pub(super) fn push(&self, message: Message<Bytes>) {
        self.queue.push(message);
    }

    /// Sends what was pushed.
    pub(super) fn wake(&self) {
        if self.queue.flush() {
            self.ready.notify();
        }
    }

    /// The peer is there, for it dialed us: dial it now if it was out of reach.
    pub(super) fn is_back(&self) {
        self.retry.notify();
    }
}

pub(super) async fn run(shared: Arc<Shared>, peer: Arc<Peer>, stop: Receiver<()>) {
    let Shared { config, counters, .. } = &*shared;
    let mut dialing = Dialing::new(peer.id, peer.address.clone(), config, counters.clone());
    loop {
        let stopped = async {
            dropped(&stop).await;
            None
        };
        let connecting = async { Some(connect(&peer, &dialing, &shared).await) };
        let Some(connected) = or(stopped, connecting).await else { return };
        let closed = match connected {
            Ok(reader) => {
                dialing.on_connected();
                carry(&peer, config, reader, &stop).await
            }
            Err(closed) => closed,
        };
        peer.queue.clear(0);
        let wait = dialing.on_closed(&closed);
        let waited = async {
            Timer::after(wait).await;
        };
        or(dropped(&stop), or(peer.retry.notified(), waited)).await;
    }
}

async fn connect(peer: &Peer, dialing: &Dialing, shared: &Shared) -> Result<Reader, Closed> {
    let Config { connect_timeout, handshake_timeout, .. } = shared.config;
    let late = io::Error::from(io::ErrorKind::TimedOut).into();
    let connecting = async { Ok(TcpStream::connect(&*peer.address).await?) };
    let stream = timeout(connect_timeout, late, connecting).await?;
    stream.set_nodelay(true)?;
    let stream = Stream::from(stream);
    let hello = dialing.hello(&shared.identity)?;
    connection::write(&stream, &hello, handshake_timeout).await?;
    // All that comes back is the answer and empty frames.
    let mut reader = Reader::new(stream, HANDSHAKE_BYTES_MAX);
    let answer = timeout(handshake_timeout, Closed::Idle, reader.handshake()).await?;
    Answer::conclude(&answer)?;
    Ok(reader)
}

/// Sends until the connection ends.
async fn carry(peer: &Peer, config: &Config, mut reader: Reader, stop: &Receiver<()>) -> Closed {
    let stream = reader.stream();
    let hear = reader.hear(config, Dialing::receive);
    let Err(closed) = or(hear, tell(peer, config, &stream, stop)).await;
    closed
}

/// Says what waits, or that one is there.
async fn tell(
    peer: &Peer,
    config: &Config,
    stream: &Stream,
    stop: &Receiver<()>,
) -> Result<Infallible, Closed> {
    let mut keepalives = Timer::after(config.keepalive_interval);
    let mut buffer = Vec::new();
    // What came while there was no connection waits already.
    peer.ready.notify();
    loop {
        let stopped = async {
            dropped(stop).await;
            Event::Stopped
        };
        let ready = async {
            peer.ready.notified().await;
            Event::Ready
        };
        let tick = async {
            (&mut keepalives).await;
            Event::Tick
        };
        match or(stopped, or(tick, ready)).await {
            Event::Stopped => {
                let last_words = say_last_words(peer, config, stream, &mut buffer);
                // Whether they arrived or not, it is over.
                let _ = timeout(config.idle_timeout, Closed::Idle, last_words).await;
                return Err(Closed::Stopped);
            }
            Event::Ready => send(peer, config, stream, &mut buffer).await?,
            Event::Tick => {
                connection::write(stream, &tcp::keepalive(), config.idle_timeout).await?;
                keepalives.set_after(config.keepalive_interval);
            }
        }
    }
}

enum Event {
    Stopped,
    Ready,
    Tick,
}

/// Sends what waits, up to one write's worth.
async fn send(
    peer: &Peer,
    config: &Config,
    stream: &Stream,
    buffer: &mut Vec<u8>,
) -> Result<(), Closed> {
    buffer.clear();
    let messages = peer.queue.take(buffer);
    if let Err(closed) = connection::write(stream, buffer, config.idle_timeout).await {
        peer.queue.clear(messages);
        return Err(closed);
    }
    peer.queue.sent(messages, buffer.len());
    if !peer.queue.is_empty() {
        peer.ready.notify();
        yield_now().await;
    }
    Ok(())
}

/// What a node says before it stops, handing over its leadership for one, should still arrive.
async fn say_last_words(
    peer: &Peer,
    config: &Config,
    stream: &Stream,
    buffer: &mut Vec<u8>,
) -> Result<(), Closed> {
    while !peer.queue.is_empty() {
        send(peer, config, stream, buffer).await?;
    }
    Ok(stream.get_ref().shutdown(Shutdown::Write)?)
}
