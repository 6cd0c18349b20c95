//! Accepts connections, and receives the messages of each peer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::vec::Vec;

use super::super::{ACCEPT_RETRY, Closed, Config, Counters, Incoming, keepalive};
use super::connection::Connection;
use super::runtime::Runtime;
use super::shared::Shared;
use super::stop::Stopping;
use super::wait::{or, timeout};
use crate::host::tasks::Notify;

pub(super) async fn run<R: Runtime>(
    shared: Arc<Shared<R>>,
    listener: R::Listener,
    mut stop: Stopping,
) {
    let places = Arc::new(Places::new(shared.config.connections_max));
    let stopping = stop.clone();
    let accepting = async {
        loop {
            let place = places.enter().await;
            let (socket, address) = accept::<R>(&listener, &shared.counters).await;
            let serving = serve(Arc::clone(&shared), socket, address, place, stopping.clone());
            shared.runtime.spawn(serving);
        }
    };
    or(stop.stopped(), accepting).await;
}

async fn accept<R: Runtime>(
    listener: &R::Listener,
    counters: &Counters,
) -> (R::Socket, SocketAddr) {
    loop {
        match R::accept(listener).await {
            Ok(accepted) => return accepted,
            Err(error) => {
                counters.warn_not_accepting(&error);
                R::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// One connection, from its handshake to its end.
async fn serve<R: Runtime>(
    shared: Arc<Shared<R>>,
    socket: R::Socket,
    address: SocketAddr,
    place: Place,
    mut stop: Stopping,
) {
    let mut peer = None;
    let serving = async {
        let welcoming = welcome(socket, address, &shared);
        let (connection, incoming) =
            timeout::<R, _>(shared.config.handshake_timeout, welcoming).await?;
        peer = Some(incoming.peer());
        receive(connection, incoming, &shared.config).await
    };
    let stopped = async {
        stop.stopped().await;
        Err::<Infallible, _>(Closed::Stopped)
    };
    let Err(closed) = or(stopped, serving).await;
    closed.report(&shared.counters, peer, address);
    drop(place);
}

/// Lets a peer in, or tells the dialer why it is refused.
async fn welcome<R: Runtime>(
    socket: R::Socket,
    address: SocketAddr,
    shared: &Shared<R>,
) -> Result<(Connection<R>, Incoming), Closed> {
    let handshake_timeout = shared.config.handshake_timeout;
    let mut connection = Connection::<R>::new(socket, shared.guard.accept()?)?;
    connection.secure(handshake_timeout).await?;
    let speaker = connection.cipher().speaker();
    let first = connection.read_handshake().await;
    let mut answer = Vec::new();
    let reading = connection.reading();
    let judged = shared.peers.judge_speaker(&speaker, first, reading, address, &mut answer);
    connection.write(&answer, handshake_timeout).await?;
    let (peer, ticket) = judged?;
    let incoming = shared.on_accepted(peer, ticket, address);
    Ok((connection.with_frames_of(shared.config.frame_bytes_max), incoming))
}

/// Receives until the connection ends.
async fn receive<R: Runtime>(
    mut connection: Connection<R>,
    incoming: Incoming,
    config: &Config,
) -> Result<Infallible, Closed> {
    let mut tick = pin!(R::sleep(config.keepalive_interval));
    loop {
        // Both are served, because a peer that always sends must still hear that this node is
        // alive.
        let (read, is_tick) = poll_fn(|cx| {
            let read = connection.poll_read(cx);
            let is_tick = tick.as_mut().poll(cx).is_ready();
            if read.is_pending() && !is_tick { Poll::Pending } else { Poll::Ready((read, is_tick)) }
        })
        .await;
        if let Poll::Ready(read) = read {
            read?;
            connection.take(|payload| incoming.receive(payload))?;
        }
        if is_tick {
            connection.reading().check_heard(config.idle_timeout)?;
            connection.write(&keepalive(), config.idle_timeout).await?;
            tick.set(R::sleep(config.keepalive_interval));
        }
        incoming.check()?;
    }
}

/// How many more connections may be accepted. Only the acceptor waits for a place.
struct Places {
    free: AtomicUsize,
    freed: Notify,
}

/// One connection's place, which is free again when this is dropped.
struct Place(Arc<Places>);

impl Places {
    fn new(connections_max: usize) -> Self {
        Self { free: AtomicUsize::new(connections_max), freed: Notify::new() }
    }

    async fn enter(self: &Arc<Self>) -> Place {
        poll_fn(|cx| self.poll_enter(cx)).await
    }

    fn poll_enter(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<Place> {
        // Only this function takes places, and only for one task.
        while self.free.load(Ordering::SeqCst) == 0 {
            if self.freed.poll_notified(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.free.fetch_sub(1, Ordering::SeqCst);
        Poll::Ready(Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::SeqCst);
        self.0.freed.notify();
    }
}
