//! Dials one peer for as long as the transport exists, and sends the messages that wait for it.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use raft_core::host::handshake::HANDSHAKE_BYTES_MAX;
use raft_core::host::tcp::{self, Cipher, Closed, Config, Reading, keepalive};

use super::connection;
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
                let link = Link::new(Arc::clone(peer.queue()), stream, cipher);
                carry(peer, &Arc::new(link), shared, reading)
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
    let idle_timeout = shared.config.idle_timeout;
    let lookup = dialing.look_up()?;
    let found = lookup.wait(dialing.lookup_patience());
    let (stream, address) = dialing.route(found)?.connect(TcpStream::connect_timeout)?;
    let stream = shared.outgoing.enter(stream)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(idle_timeout))?;
    let deadline = shared.config.handshake_deadline();
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

/// Sends until the connection ends, while another thread listens for its end.
fn carry(peer: &Peer, link: &Arc<Link>, shared: &Shared, reading: Reading) -> Closed {
    let (loses, lost) = mpsc::channel();
    let listen = move || {
        let closed = hear_keepalives(link, reading, shared.config.idle_timeout);
        // The talk may be over.
        let _ = loses.send(closed);
        peer.signals().signal.wake();
    };
    thread::scope(|scope| {
        let listening = thread::Builder::new().name("raft-hear".into());
        if let Err(error) = listening.spawn_scoped(scope, listen) {
            return error.into();
        }
        peer.signals().set_link(Some(Arc::clone(link)));
        let closed = talk(peer, link, shared, &lost).unwrap_or_else(|closed| closed);
        peer.signals().set_link(None);
        let _ = link.stream().shutdown(Shutdown::Both);
        closed
    })
}

/// Reads keepalives until the connection ends, and returns why it ended.
fn hear_keepalives(link: &Link, mut reading: Reading, idle_timeout: Duration) -> Closed {
    let (stream, cipher) = (link.stream(), link.cipher());
    loop {
        let heard = connection::receive(stream, cipher, &mut reading, Dialing::receive);
        if let Err(closed) = heard.and_then(|()| reading.check_heard(idle_timeout)) {
            return closed;
        }
    }
}

/// Sends until the connection is lost or the transport stops.
fn talk(
    peer: &Peer,
    link: &Link,
    shared: &Shared,
    lost: &mpsc::Receiver<Closed>,
) -> Result<Closed, Closed> {
    let Config { keepalive_interval, idle_timeout, .. } = shared.config;
    let keepalive = keepalive();
    let mut next_keepalive = Instant::now() + keepalive_interval;
    loop {
        if let Ok(closed) = lost.try_recv() {
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
