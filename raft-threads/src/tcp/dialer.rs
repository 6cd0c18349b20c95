//! Dials one peer for as long as the transport lives, and sends what waits for it.

use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::handshake::{Answer, HANDSHAKE_BYTES_MAX};
use raft_core::host::tcp::{Closed, Config, Counters, Dialing, Reading, SendQueue, keepalive};
use raft_core::{Message, NodeId};

use super::Shared;
use super::connection::{self, Reader};
use crate::wait::Signal;

/// A peer and what waits for it.
#[derive(Debug)]
pub(super) struct Peer {
    id: NodeId,
    address: String,
    queue: SendQueue,
    /// Whether the peer dialed us since the dialer last looked.
    back: AtomicBool,
    /// Wakes the dialer.
    signal: Signal,
}

impl Peer {
    pub(super) fn new(id: NodeId, address: String, config: &Config, counters: &Counters) -> Self {
        let queue = SendQueue::new(config, counters.clone());
        Self { id, address, queue, back: AtomicBool::new(false), signal: Signal::default() }
    }

    pub(super) fn push(&self, message: Message<Bytes>) {
        self.queue.push(message);
    }

    /// Sends what was pushed.
    pub(super) fn flush(&self) {
        if self.queue.flush() {
            self.wake();
        }
    }

    /// The peer is there, for it dialed us: dial it now if it was out of reach.
    pub(super) fn is_back(&self) {
        self.back.store(true, Relaxed);
        self.wake();
    }

    /// Makes the dialer look for what there is to do.
    pub(super) fn wake(&self) {
        self.signal.wake();
    }
}

pub(super) fn run(peer: &Peer, shared: &Shared) {
    let Shared { config, counters, .. } = shared;
    let mut dialing = Dialing::new(peer.id, peer.address.clone(), config, counters.clone());
    loop {
        let closed = match connect(peer, &dialing, shared) {
            Ok((stream, reading)) => {
                dialing.on_connected();
                carry(peer, shared, &stream, reading)
            }
            Err(closed) => closed,
        };
        peer.queue.clear(0);
        if shared.outgoing.is_stopping() {
            return;
        }
        wait_to_retry(peer, shared, dialing.on_closed(&closed));
    }
}

fn wait_to_retry(peer: &Peer, shared: &Shared, pause: Duration) {
    let until = Instant::now() + pause;
    while !shared.outgoing.is_stopping() && !peer.back.swap(false, Relaxed) {
        if Instant::now() >= until {
            return;
        }
        peer.signal.wait(Some(until));
    }
}

fn connect(
    peer: &Peer,
    dialing: &Dialing,
    shared: &Shared,
) -> Result<(Arc<TcpStream>, Reading), Closed> {
    let Config { connect_timeout, handshake_timeout, idle_timeout, .. } = shared.config;
    let stream = shared.outgoing.enter(dial(&peer.address, connect_timeout)?)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(idle_timeout))?;
    connection::write(&stream, &dialing.hello(&shared.identity)?, None)?;
    // All that comes back is the answer and empty frames.
    let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
    let answer = connection::read_handshake(&stream, &mut reading, handshake_timeout)?;
    Answer::conclude(&answer)?;
    stream.set_read_timeout(Some(idle_timeout))?;
    Ok((stream.leave(), reading))
}

/// Tries the addresses one after the other.
fn dial(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let start = Instant::now();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Sends until the connection ends, while another thread listens for its end.
fn carry(peer: &Peer, shared: &Shared, stream: &TcpStream, reading: Reading) -> Closed {
    let lost = Mutex::new(None);
    let listen = || {
        let closed = hear_keepalives(Reader::new(stream, reading), shared.config.idle_timeout);
        *lost.lock().expect("nothing panics while it holds this lock") = Some(closed);
        peer.wake();
    };
    thread::scope(|scope| {
        let listening = thread::Builder::new().name("raft-hear".into());
        if let Err(error) = listening.spawn_scoped(scope, listen) {
            return error.into();
        }
        let is_lost = || lost.lock().expect("nothing panics while it holds this lock").take();
        let closed = talk(peer, shared, stream, is_lost).unwrap_or_else(|closed| closed);
        let _ = stream.shutdown(Shutdown::Both);
        closed
    })
}

/// Until the connection ends.
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
    peer: &Peer,
    shared: &Shared,
    stream: &TcpStream,
    is_lost: impl Fn() -> Option<Closed>,
) -> Result<Closed, Closed> {
    let Config { keepalive_interval, idle_timeout, .. } = shared.config;
    let keepalive = keepalive();
    let mut next_keepalive = Instant::now() + keepalive_interval;
    let mut buffer = Vec::new();
    loop {
        if let Some(closed) = is_lost() {
            return Ok(closed);
        }
        if shared.outgoing.is_stopping() {
            // What a node says before it stops, handing over its leadership for one, should still arrive.
            let deadline = Instant::now() + idle_timeout;
            while !peer.queue.is_empty() {
                send(peer, stream, &mut buffer, Some(deadline))?;
            }
            return Ok(Closed::Stopped);
        }
        send(peer, stream, &mut buffer, None)?;
        if Instant::now() >= next_keepalive {
            connection::write(stream, &keepalive, None)?;
            next_keepalive = Instant::now() + keepalive_interval;
        }
        if peer.queue.is_empty() {
            peer.signal.wait(Some(next_keepalive));
        }
    }
}

/// Sends what waits, up to one write's worth.
fn send(
    peer: &Peer,
    stream: &TcpStream,
    buffer: &mut Vec<u8>,
    deadline: Option<Instant>,
) -> Result<(), Closed> {
    buffer.clear();
    let messages = peer.queue.take(buffer);
    if let Err(closed) = connection::write(stream, buffer, deadline) {
        peer.queue.clear(messages);
        return Err(closed);
    }
    peer.queue.sent(messages, buffer.len());
    Ok(())
}
