//! Dials one peer for as long as the transport exists, and sends the messages that wait for it.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::connection::Connection;
use super::runtime::Runtime;
use super::shared::{Peer, Shared, Signals};
use super::stop::Stopping;
use super::wait::{or, timeout, yield_now};
use crate::host::tcp::{self, Closed, Config, Route, Writing, keepalive};

type Dialing<'p> = tcp::Dialing<'p, Signals>;

pub(super) async fn run<R: Runtime>(shared: Arc<Shared<R>>, peer: Arc<Peer>, mut stop: Stopping) {
    let mut dialing = Dialing::new(&shared.peers, &peer, &shared.inbox);
    loop {
        // The attempt that begins now is what an earlier signal asked for.
        peer.signals().retry.forget();
        let stopped = async {
            stop.stopped().await;
            None
        };
        let connecting = async { Some(connect(&mut dialing, &peer, &shared).await) };
        let Some(connected) = or(stopped, connecting).await else { return };
        let closed = match connected {
            Ok(connection) => match carry(&peer, &shared.config, connection, &mut stop).await {
                Ok(()) => Closed::Stopped,
                Err(closed) => closed,
            },
            Err(closed) => closed,
        };
        let Some(wait) = dialing.on_closed(&closed) else { return };
        if wait.is_zero() {
            continue;
        }
        or(stop.stopped(), or(peer.signals().retry.notified(), R::sleep(wait))).await;
    }
}

async fn connect<R: Runtime>(
    dialing: &mut Dialing<'_>,
    peer: &Peer,
    shared: &Shared<R>,
) -> Result<Connection<R>, Closed> {
    let handshake_timeout = shared.config.handshake_timeout;
    let lookup = dialing.look_up()?;
    let looking_up = async { Ok(lookup.await) };
    let found = timeout::<R, _>(dialing.lookup_patience(), looking_up).await;
    let (socket, address) = dial::<R>(dialing.route(found.ok())?).await?;
    // The peer sends nothing back but its answer and empty frames.
    let mut connection = Connection::<R>::new(socket, shared.guard.dial(peer.id())?)?;
    let handshake = async {
        connection.secure(handshake_timeout).await?;
        connection.write(&dialing.hello(address)?, handshake_timeout).await?;
        connection.read_handshake().await
    };
    let answer = timeout::<R, _>(handshake_timeout, handshake).await?;
    dialing.conclude(&answer)?;
    Ok(connection)
}

/// Tries the addresses one after the other.
async fn dial<R: Runtime>(mut route: Route) -> Result<(R::Socket, SocketAddr), Closed> {
    while let Some((address, patience)) = route.next_address() {
        let connecting = async { Ok(R::connect(address).await) };
        match timeout::<R, _>(patience, connecting).await {
            Ok(Ok(socket)) => return Ok((socket, address)),
            Ok(Err(error)) => route.on_failed(error),
            Err(_) => route.on_failed(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(route.into_error())
}

/// What a dialer has to do. Its order is this one.
struct Due {
    is_stopped: bool,
    read: Poll<Result<(), Closed>>,
    is_tick: bool,
    is_ready: bool,
}

/// Sends until the connection ends, or the transport stops.
async fn carry<R: Runtime>(
    peer: &Peer,
    config: &Config,
    mut connection: Connection<R>,
    stop: &mut Stopping,
) -> Result<(), Closed> {
    let ready = &peer.signals().ready;
    let mut tick = pin!(R::sleep(config.keepalive_interval));
    let mut writing = Writing::new(Arc::clone(peer.queue()));
    // Messages that arrived while there was no connection already wait.
    ready.notify();
    loop {
        let due = poll_fn(|cx| {
            let due = Due {
                is_stopped: stop.poll_stopped(cx).is_ready(),
                read: connection.poll_read(cx),
                is_tick: tick.as_mut().poll(cx).is_ready(),
                is_ready: ready.poll_notified(cx).is_ready(),
            };
            let is_any = due.is_stopped || due.read.is_ready() || due.is_tick || due.is_ready;
            if is_any { Poll::Ready(due) } else { Poll::Pending }
        })
        .await;
        if due.is_stopped {
            let last_words = say_last_words(config, &mut connection, &mut writing);
            // Whether they arrived or not, the connection ends.
            let _ = timeout::<R, _>(config.idle_timeout, last_words).await;
            return Ok(());
        }
        if let Poll::Ready(read) = due.read {
            read?;
            connection.take(Dialing::receive)?;
        }
        if due.is_tick {
            connection.reading().check_heard(config.idle_timeout)?;
            peer.check()?;
            connection.write(&keepalive(), config.idle_timeout).await?;
            tick.set(R::sleep(config.keepalive_interval));
        }
        if due.is_ready {
            send(config, &mut connection, &mut writing).await?;
            if writing.has_more() {
                ready.notify();
                yield_now().await;
            }
        }
    }
}

/// Sends waiting messages, as much as one write takes.
async fn send<R: Runtime>(
    config: &Config,
    connection: &mut Connection<R>,
    writing: &mut Writing,
) -> Result<(), Closed> {
    writing.take(connection.cipher())?;
    connection.write_sealed(writing.bytes(), config.idle_timeout).await?;
    writing.on_all_written();
    Ok(())
}

/// The messages that a node sends before it stops, such as the hand-over of its leadership, should
/// still arrive.
async fn say_last_words<R: Runtime>(
    config: &Config,
    connection: &mut Connection<R>,
    writing: &mut Writing,
) -> Result<(), Closed> {
    while writing.has_more() {
        send(config, connection, writing).await?;
        yield_now().await;
    }
    connection.shutdown().await
}
