//! What comes in over TCP and is not from a peer: refused, counted, and of no harm.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use raft_core::host::frame::{self, Decoder, HEADER_BYTES};
use raft_core::host::handshake::{Answer, HANDSHAKE_BYTES_MAX, Hello, Refusal};
use raft_core::host::tcp::{Config, Counts};
use raft_core::host::{ClusterId, Identity, StoreId};
use raft_core::{Body, LogId, Message, NodeId, RequestPreVote, Term, codec};
use runtimes::DEADLINE;

use crate::cluster::{Cluster, Stage, id, until};

/// Noise, frames that are too long or damaged, nodes of another cluster, and messages in another's
/// name.
pub(crate) fn are_refused(stage: Stage) {
    let mut cluster = stage.idle(3, |_| ());
    // The third never starts, so that the test may play it.
    (0..2).for_each(|position| cluster.restart(position));
    cluster.propose_among(&[0, 1], "before");
    let address = cluster.address(0);

    // Before the handshake.
    closes(&cluster, address, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", |counts| {
        counts.closed_damaged + counts.refused
    });
    closes(&cluster, address, &[0; 4096], |counts| counts.closed_damaged + counts.refused);
    closes(&cluster, address, &announcement(), |counts| counts.closed_damaged + counts.refused);
    closes(&cluster, address, &framed(&[7; HANDSHAKE_BYTES_MAX]), |counts| {
        counts.closed_damaged + counts.refused
    });

    // In the handshake.
    let foreign = Identity { cluster: ClusterId::new(8), ..third() };
    closes(&cluster, address, &hello(foreign, id(0)), |counts| counts.refused);
    closes(&cluster, address, &hello(Identity { node: id(0), ..third() }, id(0)), |counts| {
        counts.refused
    });
    closes(&cluster, address, &hello(third(), id(1)), |counts| counts.refused);

    // After it.
    let mut damaged = framed(&encoded(id(2)));
    *damaged.last_mut().expect("a frame is not empty") ^= 1;
    for bytes in [announcement(), damaged, framed(b"not a message")] {
        breaks(&cluster, address, &bytes, |counts| counts.closed_damaged);
    }
    breaks(&cluster, address, &framed(&encoded(id(1))), |counts| counts.closed_misaddressed);

    cluster.propose_among(&[0, 1], "after");
    cluster.await_applied(b"after", 2);
}

/// The third node's `frame_bytes_max` is smaller than what the other two may send, and larger than
/// what it may send itself. It refuses them and shows why, until its limit is raised.
pub(crate) fn a_node_whose_messages_are_too_long_is_refused(stage: Stage) {
    const COMMAND_BYTES: usize = 512 << 10;
    let mut cluster = stage.idle(3, |config| {
        if config.raft.id == id(2) {
            config.raft.command_bytes_max = 64 << 10;
            config.raft.append_bytes_max = 64 << 10;
            config.raft.snapshot_chunk_bytes = 64 << 10;
        }
    });
    cluster.limit_frames(2, 256 << 10);
    cluster.all().into_iter().for_each(|position| cluster.restart(position));
    cluster.propose_among(&[0, 1], vec![7; COMMAND_BYTES]);
    let refused = until("both are refused", || {
        let refused = cluster.status(2).refused_peers;
        (refused.len() == 2).then_some(refused)
    });
    for (node, refusal) in refused {
        let Refusal::LongMessages { from, sends, to, takes } = refusal else {
            panic!("refused for another reason: {refusal}");
        };
        assert_eq!((from, to), (node, id(2)));
        assert!(sends > 1 << 20 && takes < 256 << 10, "{refusal}");
        assert!(refusal.to_string().contains("frame_bytes_max on node 3"), "{refusal}");
    }
    assert!(cluster.counters[2].read().refused > 0);

    cluster.limit_frames(2, Config::default().frame_bytes_max);
    cluster.nodes[2].shutdown().wait("the end of the third");
    cluster.await_port(2);
    cluster.restart(2);
    cluster.await_applied(&[7; COMMAND_BYTES], 3);
}

/// The identity that the test plays.
pub(crate) fn third() -> Identity {
    Identity { cluster: ClusterId::new(7), node: id(2), store_id: StoreId::new(1) }
}

/// Connects and says something; the node closes the connection and counts it.
fn closes(cluster: &Cluster, address: SocketAddr, bytes: &[u8], count: fn(&Counts) -> u64) {
    let before = count(&cluster.counters[0].read());
    let mut stream = connect(address);
    // It may close before it has taken all of it.
    let _ = stream.write_all(bytes);
    await_close(&mut stream);
    until("a count", || (count(&cluster.counters[0].read()) > before).then_some(()));
}

/// The same after a handshake as the third node.
fn breaks(cluster: &Cluster, address: SocketAddr, bytes: &[u8], count: fn(&Counts) -> u64) {
    let before = count(&cluster.counters[0].read());
    let mut stream = connect(address);
    stream.write_all(&hello(third(), id(0))).expect("it listens");
    let mut decoder = Decoder::new(HANDSHAKE_BYTES_MAX);
    let payload = loop {
        if let Some(payload) = decoder.next_payload().expect("a sound frame") {
            break payload;
        }
        let mut buffer = [0; 256];
        let read = stream.read(&mut buffer).expect("an answer in time");
        assert!(read > 0, "closed without an answer");
        decoder.space().extend_from_slice(&buffer[..read]);
    };
    Answer::conclude(&payload).expect("the third node is welcome");
    let _ = stream.write_all(bytes);
    await_close(&mut stream);
    until("a count", || (count(&cluster.counters[0].read()) > before).then_some(()));
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stream
}

/// Reads until the other side has closed.
pub(crate) fn await_close(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                panic!("the connection stays open")
            }
            // Reset is as good as closed.
            Err(_) => return,
        }
    }
}

pub(crate) fn hello(me: Identity, to: NodeId) -> Vec<u8> {
    let mut payload = Vec::new();
    Hello::new(&me, to, "").encode(&mut payload);
    framed(&payload)
}

/// A message in this node's name.
fn encoded(from: NodeId) -> Vec<u8> {
    let body = Body::RequestPreVote(RequestPreVote { last_log: LogId::ZERO, campaign: 1 });
    let message: Message<Bytes> = Message { from, to: id(0), term: Term::new(1), body };
    let mut payload = Vec::new();
    codec::encode_message(&message, &mut payload);
    payload
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, usize::MAX, |out| out.extend_from_slice(payload))
        .expect("it is short");
    bytes
}

/// The header alone of a frame that is longer than any node accepts.
fn announcement() -> Vec<u8> {
    let mut bytes = framed(&vec![0; Config::default().frame_bytes_max + 1]);
    bytes.truncate(HEADER_BYTES);
    bytes
}
