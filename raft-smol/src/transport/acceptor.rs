//! Accepts connections, and receives the messages of each peer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use async_channel::Receiver;
use async_io::Timer;
use async_lock::{Semaphore, SemaphoreGuardArc};
use async_net::{TcpListener, TcpStream};
use futures_lite::future::or;
use raft_core::host::handshake::HANDSHAKE_BYTES_MAX;
use raft_core::host::tcp::{self, ACCEPT_RETRY, Closed, Counters, Incoming};

use super::connection::{self, Link, Reader, Stream};
use super::shared::Shared;
use crate::executor::Executor;
use crate::wait::{dropped, timeout};

pub(super) async fn run<E: Executor>(
    shared: Arc<Shared>,
    listener: TcpListener,
    stop: Receiver<()>,
) {
    let places = Arc::new(Semaphore::new(shared.config.connections_max));
    let accepting = async {
        loop {
            let place = places.acquire_arc().await;
            let (stream, address) = accept(&listener, &shared.counters).await;
            E::spawn(serve(shared.clone(), stream, address, place, stop.clone()));
        }
    };
    or(dropped(&stop), accepting).await;
}

async fn accept(listener: &TcpListener, counters: &Counters) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                counters.warn_not_accepting(&error);
                Timer::after(ACCEPT_RETRY).await;
            }
        }
    }
}

/// One connection, from its handshake to its end.
async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    place: SemaphoreGuardArc,
    stop: Receiver<()>,
) {
    let mut peer = None;
    let serving = async {
        stream.set_nodelay(true)?;
        let stream = Stream::new(Link::new(stream, shared.guard.accept()?));
        let welcomed = welcome(&stream, address, &shared);
        let handshake_timeout = shared.config.handshake_timeout;
        let incoming = timeout(handshake_timeout, Closed::Idle, welcomed).await?;
        peer = Some(incoming.peer());
        receive(&stream, incoming, &shared).await
    };
    let stopped = async {
        dropped(&stop).await;
        Err::<Infallible, _>(Closed::Stopped)
    };
    let Err(closed) = or(stopped, serving).await;
    closed.report(&shared.counters, peer, address);
    drop(place);
}

/// Lets a peer in, or tells the dialer why it is refused.
async fn welcome(
    stream: &Stream,
    address: SocketAddr,
    shared: &Shared,
) -> Result<Incoming, Closed> {
    stream.secure(shared.config.handshake_timeout).await?;
    let speaker = stream.cipher().speaker();
    let mut reader = Reader::new(stream.clone(), HANDSHAKE_BYTES_MAX);
    let first = reader.handshake().await;
    let mut answer = Vec::new();
    let reading = reader.reading();
    let judged = shared.peers.judge_speaker(&speaker, first, reading, address, &mut answer);
    connection::write(stream, &answer, shared.config.handshake_timeout).await?;
    let (peer, ticket) = judged?;
    Ok(shared.on_accepted(peer, ticket, address))
}

/// Receives until the connection ends.
async fn receive(
    stream: &Stream,
    incoming: Incoming,
    shared: &Shared,
) -> Result<Infallible, Closed> {
    let config = &shared.config;
    let mut reader = Reader::new(stream.clone(), config.frame_bytes_max);
    let hear = reader.hear(config, |payload| {
        incoming.receive(payload)?;
        incoming.check()
    });
    let tell = async {
        loop {
            Timer::after(config.keepalive_interval).await;
            incoming.check()?;
            connection::write(stream, &tcp::keepalive(), config.idle_timeout).await?;
        }
    };
    or(hear, tell).await
}
