//! Dials one peer for as long as the transport exists, and sends the messages that wait for it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_channel::Receiver;
use async_io::Timer;
use async_net::TcpStream;
use futures_lite::future::{or, yield_now};
use raft_core::host::handshake::HANDSHAKE_BYTES_MAX;
use raft_core::host::tcp::{self, Closed, Config, Route, Writing};

use super::connection::{self, Link, Reader, Stream};
use super::shared::{Peer, Shared, Signals};
use crate::wait::{dropped, timeout};

type Dialing<'p> = tcp::Dialing<'p, Signals>;

pub(super) async fn run(shared: Arc<Shared>, peer: Arc<Peer>, stop: Receiver<()>) {
    let config = &shared.config;
    let mut dialing = Dialing::new(&shared.peers, &peer, &shared.inbox);
    loop {
        // The attempt that begins now is what an earlier signal asked for.
        peer.signals().retry.forget();
        let stopped = async {
            dropped(&stop).await;
            None
        };
        let connecting = async { Some(connect(&mut dialing, &peer, &shared).await) };
        let Some(connected) = or(stopped, connecting).await else { return };
        let closed = match connected {
            Ok(reader) => carry(&peer, config, reader, &stop).await,
            Err(closed) => closed,
        };
        let Some(wait) = dialing.on_closed(&closed) else { return };
        if wait.is_zero() {
            continue;
        }
        let waited = async {
            Timer::after(wait).await;
        };
        or(dropped(&stop), or(peer.signals().retry.notified(), waited)).await;
    }
}

async fn connect(
    dialing: &mut Dialing<'_>,
    peer: &Peer,
    shared: &Shared,
) -> Result<Reader, Closed> {
    let handshake_timeout = shared.config.handshake_timeout;
    let lookup = dialing.look_up()?;
    let looking_up = async { Ok(lookup.await) };
    let found = timeout(dialing.lookup_patience(), Closed::Idle, looking_up).await;
    let (stream, address) = dial(dialing.route(found.ok())?).await?;
    stream.set_nodelay(true)?;
    let stream = Stream::new(Link::new(stream, shared.guard.dial(peer.id())?));
    // The peer sends nothing back but its answer and empty frames.
    let mut reader = Reader::new(stream.clone(), HANDSHAKE_BYTES_MAX);
    let handshake = async {
        stream.secure(handshake_timeout).await?;
        connection::write(&stream, &dialing.hello(address)?, handshake_timeout).await?;
        reader.handshake().await
    };
    let answer = timeout(handshake_timeout, Closed::Idle, handshake).await?;
    dialing.conclude(&answer)?;
    Ok(reader)
}

/// Tries the addresses one after the other.
async fn dial(mut route: Route) -> Result<(TcpStream, SocketAddr), Closed> {
    while let Some((address, patience)) = route.next_address() {
        let connecting = async { Ok(TcpStream::connect(address).await) };
        match timeout(patience, Closed::Idle, connecting).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(error)) => route.on_failed(error),
            Err(_) => route.on_failed(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(route.into_error())
}

/// Sends until the connection ends.
async fn carry(peer: &Peer, config: &Config, mut reader: Reader, stop: &Receiver<()>) -> Closed {
    let stream = reader.stream();
    let hear = reader.hear(config, Dialing::receive);
    let Err(closed) = or(hear, tell(peer, config, &stream, stop)).await;
    closed
}

/// Sends the waiting messages, or a keepalive.
async fn tell(
    peer: &Peer,
    config: &Config,
    stream: &Stream,
    stop: &Receiver<()>,
) -> Result<Infallible, Closed> {
    let mut keepalives = Timer::after(config.keepalive_interval);
    let mut writing = Writing::new(Arc::clone(peer.queue()));
    // Messages that arrived while there was no connection already wait.
    peer.signals().ready.notify();
    loop {
        let stopped = async {
            dropped(stop).await;
            Event::Stopped
        };
        let ready = async {
            peer.signals().ready.notified().await;
            Event::Ready
        };
        let tick = async {
            (&mut keepalives).await;
            Event::Tick
        };
        match or(stopped, or(tick, ready)).await {
            Event::Stopped => {
                let last_words = say_last_words(config, stream, &mut writing);
                // Whether they arrived or not, the connection ends.
                let _ = timeout(config.idle_timeout, Closed::Idle, last_words).await;
                return Err(Closed::Stopped);
            }
            Event::Ready => {
                send(config, stream, &mut writing).await?;
                if writing.has_more() {
                    peer.signals().ready.notify();
                    yield_now().await;
                }
            }
            Event::Tick => {
                peer.check()?;
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

/// Sends waiting messages, as much as one write takes.
async fn send(config: &Config, stream: &Stream, writing: &mut Writing) -> Result<(), Closed> {
    writing.take(stream.cipher())?;
    connection::write_sealed(stream, writing.bytes(), config.idle_timeout).await?;
    writing.on_all_written();
    Ok(())
}

/// The messages that a node sends before it stops, such as the hand-over of its leadership, should
/// still arrive.
async fn say_last_words(
    config: &Config,
    stream: &Stream,
    writing: &mut Writing,
) -> Result<(), Closed> {
    while writing.has_more() {
        send(config, stream, writing).await?;
        yield_now().await;
    }
    stream.shutdown()
}
