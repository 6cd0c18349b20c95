//! Dials one peer for as long as the transport exists, and sends the messages that wait for it.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use raft_core::host::handshake::HANDSHAKE_BYTES_MAX;
use raft_core::host::tcp::{self, Cipher, Closed, Config, Reading, Route, keepalive};

use super::connection::{self, Reader};
use super::link::Link;
use super::shared::{Peer, Shared, Signals};

type Dialing<'p> = tcp::Dialing<'p, Signals>;

pub(super) fn run(peer: &Arc<Peer>, shared: &Shared) {
    let mut dialing = Dialing::new(&shared.peers, peer, &shared.inbox);
    loop {
        // The attempt that begins now is what an earlier signal asked for.
        peer.signals().retry.store(false, Relaxed);
        let closed = match connect(&mut dialing, peer, shared) {
            Ok((stream, cipher, reading)) => {
                carry(&Arc::new(Link::new(Arc::clone(peer), stream, cipher)), shared, reading)
            }
            Err(closed) => closed,
        };
        // A stop closes sockets, which must not look as if the peer had closed them.
        let closed = if shared.outgoing.is_stopping() { Closed::Stopped } else { closed };
        let Some(wait) = dialing.on_closed(&closed) else { return };
        wait_to_retry(peer.signals(), shared, wait);
    }
}

fn wait_to_retry(signals: &Signals, shared: &Shared, pause: Duration) {
    let until = Instant::now() + pause;
    while !shared.outgoing.is_stopping() && !signals.retry.swap(false, Relaxed) {
        if Instant::now() >= until {
            return;
        }
        signals.signal.wait(Some(until));
    }
}

fn connect(
    dialing: &mut Dialing<'_>,
    peer: &Peer,
    shared: &Shared,
) -> Result<(Arc<TcpStream>, Cipher, Reading), Closed> {
    let Config { handshake_timeout, idle_timeout, .. } = shared.config;
    let lookup = dialing.look_up()?;
    let found = lookup.wait(dialing.lookup_patience());
    let (stream, address) = dial(dialing.route(found)?)?;
    let stream = shared.outgoing.enter(stream)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(idle_timeout))?;
    let deadline = connection::deadline(handshake_timeout);
    let cipher = shared.guard.dial(peer.id())?;
    connection::secure(&stream, &cipher, deadline)?;
    connection::write(&stream, &cipher, &dialing.hello(address)?, None)?;
    // The peer sends nothing back but its answer and empty frames.
    let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
    let answer = connection::read_handshake(&stream, &cipher, &mut reading, deadline)?;
    dialing.conclude(&answer)?;
    stream.set_read_timeout(Some(idle_timeout))?;
    Ok((stream.leave(), cipher, reading))
}

/// Tries the addresses one after the other.
fn dial(mut route: Route) -> Result<(TcpStream, SocketAddr), Closed> {
    while let Some((address, patience)) = route.next_address() {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => route.on_failed(error),
        }
    }
    Err(route.into_error())
}

/// Sends until the connection ends, while another thread listens for its end.
fn carry(link: &Arc<Link>, shared: &Shared, reading: Reading) -> Closed {
    let lost = Mutex::new(None);
    let listen = || {
        let closed = hear_keepalives(
            Reader::new(link.stream(), link.cipher(), reading),
            shared.config.idle_timeout,
        );
        *lost.lock().expect("nothing panics while it holds this lock") = Some(closed);
        link.peer().signals().wake();
    };
    thread::scope(|scope| {
        let listening = thread::Builder::new().name("raft-hear".into());
        if let Err(error) = listening.spawn_scoped(scope, listen) {
            return error.into();
        }
        let is_lost = || lost.lock().expect("nothing panics while it holds this lock").take();
        shared.enter(link);
        let closed = talk(link, shared, is_lost).unwrap_or_else(|closed| closed);
        shared.leave(link);
        link.end();
        let _ = link.stream().shutdown(Shutdown::Both);
        closed
    })
}

/// Reads keepalives until the connection ends, and returns why it ended.
fn hear_keepalives(mut reader: Reader<'_>, idle_timeout: Duration) -> Closed {
    loop {
        let heard = reader.read(Dialing::receive).and_then(|()| reader.check_heard(idle_timeout));
        if let Err(closed) = heard {
            return closed;
        }
    }
}

/// Sends until the connection is lost or the transport stops.
fn talk(
    link: &Link,
    shared: &Shared,
    is_lost: impl Fn() -> Option<Closed>,
) -> Result<Closed, Closed> {
    let Config { keepalive_interval, idle_timeout, .. } = shared.config;
    let peer = link.peer();
    let keepalive = keepalive();
    let mut next_keepalive = Instant::now() + keepalive_interval;
    loop {
        if let Some(closed) = is_lost() {
            return Ok(closed);
        }
        if shared.outgoing.is_stopping() {
            // The messages that a node sends before it stops, such as the hand-over of its
            // leadership, should still arrive.
            let deadline = Instant::now() + idle_timeout;
            while link.has_more() {
                link.send(Some(deadline))?;
            }
            return Ok(Closed::Stopped);
        }
        link.send(None)?;
        if Instant::now() >= next_keepalive {
            peer.check()?;
            link.write(&keepalive)?;
            next_keepalive = Instant::now() + keepalive_interval;
        }
        if !link.has_more() {
            peer.signals().signal.wait(Some(next_keepalive));
        }
    }
}
