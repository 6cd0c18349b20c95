//! Accepts connections, and receives the messages of each peer.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use raft_core::host::handshake::HANDSHAKE_BYTES_MAX;
use raft_core::host::tcp::{ACCEPT_RETRY, Cipher, Closed, Incoming, Reading, keepalive};

use super::connection;
use super::shared::{Shared, spawn};
use super::sockets::Socket;

/// Into how many parts a connection's thread divides its sleep between two keepalives. A keepalive
/// is late by one part at most.
const KEEPALIVE_PARTS: u32 = 4;

pub(super) fn run(listener: TcpListener, shared: &Arc<Shared>) {
    wake_now_and_then(&listener);
    while shared.incoming.wait_for_place(shared.config.connections_max) {
        match listener.accept() {
            Ok((stream, address)) => receive_on(stream, address, shared),
            Err(error) if connection::is_timeout(&error) => {}
            Err(error) => {
                shared.counters.warn_not_accepting(&error);
                shared.incoming.pause(ACCEPT_RETRY);
            }
        }
    }
}

/// Lets the thread that accepts wake by itself now and then. A stop dials the listener to wake it,
/// and that fails if the address is no longer this machine's.
#[cfg(target_os = "linux")]
fn wake_now_and_then(listener: &TcpListener) {
    use rustix::net::sockopt::{Timeout, set_socket_timeout};

    // If this fails, such a stop is over with the next connection.
    let _ = set_socket_timeout(listener, Timeout::Recv, Some(Duration::from_secs(1)));
}

#[cfg(not(target_os = "linux"))]
fn wake_now_and_then(_listener: &TcpListener) {}

fn receive_on(stream: TcpStream, address: SocketAddr, shared: &Arc<Shared>) {
    let Ok(socket) = shared.incoming.enter(stream) else { return };
    let serving = shared.clone();
    if let Err(error) = spawn("raft-receive", move || serve(socket, address, &serving)) {
        Closed::Io(error).report(&shared.counters, None, address);
    }
}

/// One connection, from its handshake to its end.
fn serve(socket: Socket, address: SocketAddr, shared: &Shared) {
    let mut peer = None;
    let served = welcome(&socket, address, shared).and_then(|(cipher, incoming)| {
        peer = Some(incoming.peer());
        receive(&socket, &cipher, &incoming, shared)
    });
    drop(socket);
    // While the transport stops, the reason is the stop, however it shows here.
    let closed = match served {
        Err(closed) if !shared.incoming.is_stopping() => closed,
        Ok(()) | Err(_) => Closed::Stopped,
    };
    closed.report(&shared.counters, peer, address);
}

/// Lets a peer in, or tells the dialer why it is refused.
fn welcome(
    stream: &TcpStream,
    address: SocketAddr,
    shared: &Shared,
) -> Result<(Cipher, Incoming), Closed> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(shared.config.idle_timeout))?;
    let deadline = shared.config.handshake_deadline();
    let cipher = shared.guard.accept()?;
    connection::secure(stream, &cipher, deadline)?;
    let speaker = cipher.speaker();
    let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
    let first = connection::read_handshake(stream, &cipher, &mut reading, deadline);
    let mut answer = Vec::new();
    let judged = shared.peers.judge_speaker(&speaker, first, &reading, address, &mut answer);
    connection::write(stream, &cipher, &answer, None)?;
    let (peer, ticket) = judged?;
    Ok((cipher, shared.on_accepted(peer, ticket, address)))
}

/// Receives until the connection ends.
fn receive(
    stream: &TcpStream,
    cipher: &Cipher,
    incoming: &Incoming,
    shared: &Shared,
) -> Result<(), Closed> {
    let config = &shared.config;
    stream.set_read_timeout(Some(config.keepalive_interval / KEEPALIVE_PARTS))?;
    let mut reading = Reading::new(config.frame_bytes_max);
    let keepalive = keepalive();
    let mut said = Instant::now();
    loop {
        connection::receive(stream, cipher, &mut reading, |payload| incoming.receive(payload))?;
        if said.elapsed() >= config.keepalive_interval {
            reading.check_heard(config.idle_timeout)?;
            connection::write(stream, cipher, &keepalive, None)?;
            said = Instant::now();
        }
        incoming.check()?;
    }
}
