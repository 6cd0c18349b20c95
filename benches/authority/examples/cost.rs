//! What TLS costs in cryptography alone, without sockets, on one core: a handshake of both sides,
//! and a byte that is sealed and opened.
//!
//! `cargo run --release -p authority --example cost`

use std::io::{self, ErrorKind, Read};
use std::time::Instant;

use authority::Authority;
use clap::Parser;
use raft_core::NodeId;
use raft_core::host::tls::{Session, Tls};
use raft_core::host::{ClusterId, Identity, StoreId};

const HANDSHAKES: u32 = 500;
const WRITES: usize = 2_000;
const WRITE_BYTES: usize = 64 * 1024;

/// Measures what TLS costs in cryptography alone, on one core.
#[derive(Parser)]
struct Options {}

fn main() -> io::Result<()> {
    let Options {} = Options::parse();
    let authority = Authority::new();
    let cluster = ClusterId::new(7);
    let node_tls = |node| {
        let identity = Identity { cluster, node, store_id: StoreId::new(1) };
        Tls::new(authority.credentials(cluster, node))?.for_node(identity)
    };
    let (one, two) = (node_tls(NodeId::new(1))?, node_tls(NodeId::new(2))?);
    let connect = || {
        let (dialed, accepted) = (Session::dial(&one, NodeId::new(2))?, Session::accept(&two)?);
        while dialed.is_handshaking() || accepted.is_handshaking() {
            carry(&dialed, &accepted, b"")?;
            carry(&accepted, &dialed, b"")?;
        }
        Ok::<_, io::Error>((dialed, accepted))
    };

    let start = Instant::now();
    for _ in 0..HANDSHAKES {
        connect()?;
    }
    println!("handshake, both sides: {:?}", start.elapsed() / HANDSHAKES);

    let (dialed, accepted) = connect()?;
    let plain = vec![7; WRITE_BYTES];
    let start = Instant::now();
    for _ in 0..WRITES {
        carry(&dialed, &accepted, &plain)?;
    }
    let mib = (WRITES * WRITE_BYTES) >> 20;
    println!("sealed and opened: {:.0} MiB/s", mib as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

/// Moves the bytes of one session to the other.
fn carry(from: &Session, to: &Session, plain: &[u8]) -> io::Result<()> {
    let sealed = from.seal(plain)?;
    let mut rest = &sealed[..];
    let mut fetch = |space: &mut [u8]| match rest.read(space)? {
        0 => Err(ErrorKind::WouldBlock.into()),
        fetched => Ok(fetched),
    };
    let mut buffer = [0; 64 * 1024];
    loop {
        let read = match to.is_handshaking() {
            true => to.advance(&mut fetch).map(|()| 0),
            false => to.read(&mut buffer, &mut fetch),
        };
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
