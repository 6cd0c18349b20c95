//! What TLS refuses, on every adapter: counted, and of no harm to the cluster.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::{Authority, Pair, Valid};
use raft_core::host::tcp::Counts;
use raft_core::host::tls::rustls::client::ResolvesClientCert;
use raft_core::host::tls::rustls::server::ResolvesServerCert;
use raft_core::host::tls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use raft_core::host::tls::{NodeTls, Tls};
use raft_core::host::{ClusterId, Identity, StoreId};
use runtimes::DEADLINE;

use crate::cluster::{CLUSTER, Cluster, Stage, id, until};
use crate::strangers::{await_close, connect, hello, third};

type Dialed = StreamOwned<ClientConnection, TcpStream>;

/// Three nodes with certificates, of which the third never starts, so that the test may play it.
fn two_of_three(stage: Stage) -> Cluster {
    let mut cluster = stage.idle(3, |_| ());
    (0..2).for_each(|position| cluster.restart(position));
    cluster.propose_among(&[0, 1], "before");
    cluster
}

/// Dialers without a certificate, with one of another authority, node or cluster, or with an old
/// one, and those who do not speak TLS.
pub(crate) fn wrong_dialers_are_refused(stage: Stage) {
    let cluster = two_of_three(stage);
    let authority = cluster.authority();
    let foreign = Authority::new().pair(CLUSTER, id(2), Valid::Days(1));
    let expired = authority.pair(CLUSTER, id(2), Valid::NoLonger);
    for (what, shown) in [("none", None), ("foreign", Some(foreign)), ("expired", Some(expired))] {
        refuses(
            &cluster,
            what,
            |counts| counts.closed_tls,
            || {
                say(dial(&cluster, shown.as_ref()), &hello(third(), id(0)));
            },
        );
    }
    // These have a sound certificate, for someone else.
    let node = authority.pair(CLUSTER, id(1), Valid::Days(1));
    let other = authority.pair(ClusterId::new(8), id(2), Valid::Days(1));
    for (what, shown) in [("another node", node), ("another cluster", other)] {
        refuses(
            &cluster,
            what,
            |counts| counts.refused,
            || {
                say(dial(&cluster, Some(&shown)), &hello(third(), id(0)));
            },
        );
    }
    let plain = hello(third(), id(0));
    // A record of the handshake that holds none.
    let garbage = [&[22, 3, 3, 0, 100][..], &[0xaa; 100]].concat();
    for (what, bytes) in [("plain text", plain), ("noise", vec![0xff; 9000]), ("garbage", garbage)]
    {
        refuses(
            &cluster,
            what,
            |counts| counts.closed_tls,
            || {
                let mut stream = connect(cluster.address(0));
                let _ = stream.write_all(&bytes);
                await_close(&mut stream);
            },
        );
    }
    assert_eq!(cluster.counters[0].read().accepted, 1, "the second node alone");

    // The right one is let in, until it sends what is no record of its session.
    let right = authority.pair(CLUSTER, id(2), Valid::Days(1));
    let mut stream = dial(&cluster, Some(&right));
    stream.write_all(&hello(third(), id(0))).unwrap();
    assert!(stream.read(&mut [0; 100]).unwrap() > 0, "a welcome");
    until("the count", || (cluster.counters[0].read().accepted == 2).then_some(()));
    refuses(
        &cluster,
        "garbage in a session",
        |counts| counts.closed_tls,
        || {
            stream.sock.write_all(&[23, 3, 3, 0, 50]).unwrap();
            stream.sock.write_all(&[7; 50]).unwrap();
            await_close(&mut stream.sock);
        },
    );
    cluster.propose_among(&[0, 1], "after");
}

/// Acceptors with a certificate of another authority or node, or with an old one, and those who do
/// not speak TLS: nodes that dial them say nothing to them.
pub(crate) fn wrong_acceptors_are_refused(stage: Stage) {
    let mut cluster = stage.idle(3, |_| ());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    cluster.reach_by(2, listener.local_addr().unwrap());
    (0..2).for_each(|position| cluster.restart(position));
    let foreign = Authority::new().pair(CLUSTER, id(2), Valid::Days(1));
    let authority = cluster.authority();
    let expired = authority.pair(CLUSTER, id(2), Valid::NoLonger);
    let other = authority.pair(CLUSTER, id(1), Valid::Days(1));
    let refused =
        || (0..2).map(|position| cluster.counters[position].read().closed_tls).sum::<u64>();
    for (what, shown) in [("foreign", foreign), ("expired", expired), ("another node", other)] {
        let before = refused();
        let heard = accept(&cluster, &listener, &shown);
        assert_eq!(heard, 0, "{what}: a node spoke to it");
        until(what, || (refused() > before).then_some(()));
    }
    let before = refused();
    let (mut plain, _) = listener.accept().unwrap();
    let _ = plain.write_all(&hello(third(), id(0)));
    until("plain text", || (refused() > before).then_some(()));
    drop(plain);

    let right = authority.pair(CLUSTER, id(2), Valid::Days(1));
    assert!(accept(&cluster, &listener, &right) > 0, "the right one is greeted");
    cluster.propose_among(&[0, 1], "after");
}

/// One side stops in the middle of the handshake: the other gives up after `handshake_timeout`.
pub(crate) fn a_peer_that_stalls_is_left(stage: Stage) {
    let mut cluster = stage.idle(3, |_| ());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    cluster.reach_by(2, listener.local_addr().unwrap());
    (0..2).for_each(|position| cluster.restart(position));
    let (mute, _) = listener.accept().unwrap();
    until("a dialer that gives up", || {
        let idle = |position: usize| cluster.counters[position].read().closed_idle;
        (idle(0) + idle(1) > 0).then_some(())
    });
    drop((mute, listener));
    refuses(
        &cluster,
        "half a handshake",
        |counts| counts.closed_idle,
        || {
            let mut stream = connect(cluster.address(0));
            stream.write_all(&[22, 3, 1]).unwrap();
            await_close(&mut stream);
        },
    );
    cluster.propose_among(&[0, 1], "after");
}

/// 3,000 connections that never end their handshake, 100 at a time: none stays, the memory does not
/// grow with them, and a node still gets in.
pub(crate) fn many_half_open_leave_nothing(stage: Stage) {
    const WAVE: usize = 100;
    const GROWTH_BYTES_MAX: usize = 24 << 20;
    let mut cluster = stage.idle(3, |_| ());
    cluster.limit_handshakes(Duration::from_millis(50));
    (0..2).for_each(|position| cluster.restart(position));
    let address = cluster.address(0);
    half_open(address, WAVE);
    let before = resident_bytes();
    for _ in 0..3_000 / WAVE - 1 {
        half_open(address, WAVE);
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes more");
    until("the count of all", || (cluster.counters[0].read().closed_idle >= 3_000).then_some(()));
    cluster.propose_among(&[0, 1], "after");
    cluster.restart(2);
    cluster.await_applied(b"after", 3);
}

/// New certificates, of another authority in the end, one node after the other, and no election.
pub(crate) fn certificates_are_replaced_while_the_cluster_runs(stage: Stage) {
    let cluster = stage.cluster_with(3, crate::cluster::patient);
    cluster.propose("before");
    let leader = cluster.elect();
    let term = cluster.leadership(leader).term;
    let next = Authority::new();
    let both = |position, signer: &Authority| {
        let mut credentials = signer.credentials(CLUSTER, id(position));
        let old = cluster.authority().credentials(CLUSTER, id(position)).authorities;
        credentials.authorities = [old, next.credentials(CLUSTER, id(0)).authorities].concat();
        credentials
    };
    for signer in [cluster.authority(), &next] {
        for position in cluster.all() {
            cluster.tls(position).replace(both(position, signer)).unwrap();
            cluster.propose("while");
        }
    }
    for position in cluster.all() {
        cluster.tls(position).replace(next.credentials(CLUSTER, id(position))).unwrap();
    }
    assert_eq!(cluster.leadership(leader).term, term, "nothing was disturbed");
    // What dials from now on shows the new ones, and the old ones count no more.
    let old = cluster.authority().pair(CLUSTER, id(2), Valid::Days(1));
    refuses(
        &cluster,
        "the old authority",
        |counts| counts.closed_tls,
        || {
            let stale = dialer(&cluster, Some(&old), &next);
            say(stale, &hello(third(), id(0)));
        },
    );
    cluster.propose("after");
    cluster.await_applied(b"after", 3);
}

/// Does something that the first node refuses and counts.
fn refuses(cluster: &Cluster, what: &str, count: fn(&Counts) -> u64, act: impl FnOnce()) {
    let before = count(&cluster.counters[0].read());
    act();
    until(what, || (count(&cluster.counters[0].read()) > before).then_some(()));
}

/// Opens so many connections, says the first bytes of a handshake, and waits until all are closed.
fn half_open(address: SocketAddr, number: usize) {
    let open = |_| {
        let mut stream = connect(address);
        stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        stream
    };
    let open: Vec<_> = (0..number).map(open).collect();
    for mut stream in open {
        await_close(&mut stream);
    }
}

/// The memory of this process, or nothing where it cannot be read.
fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// The third node's TLS, before what it shows is replaced.
fn node_tls(authority: &Authority, position: usize) -> NodeTls {
    let identity = Identity { cluster: CLUSTER, node: id(position), store_id: StoreId::new(1) };
    Tls::new(authority.credentials(CLUSTER, id(position))).unwrap().for_node(identity).unwrap()
}

/// Dials the first node, as one that shows this.
fn dial(cluster: &Cluster, shown: Option<&Pair>) -> Dialed {
    dialer(cluster, shown, cluster.authority())
}

/// The same, as one that trusts this authority.
fn dialer(cluster: &Cluster, shown: Option<&Pair>, trusted: &Authority) -> Dialed {
    let mut config = ClientConfig::clone(&node_tls(trusted, 2).dialer(id(0)));
    config.client_auth_cert_resolver = client_shows(cluster, shown);
    let session = ClientConnection::new(Arc::new(config), NodeTls::server_name()).unwrap();
    StreamOwned::new(session, connect(cluster.address(0)))
}

fn client_shows(cluster: &Cluster, shown: Option<&Pair>) -> Arc<dyn ResolvesClientCert> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
    let config = match shown.map(|shown| cluster.authority().credentials_of(shown)) {
        Some(shown) => config.with_client_auth_cert(shown.certificates, shown.key).unwrap(),
        None => config.with_no_client_auth(),
    };
    config.client_auth_cert_resolver
}

fn server_shows(cluster: &Cluster, shown: &Pair) -> Arc<dyn ResolvesServerCert> {
    let shown = cluster.authority().credentials_of(shown);
    let config = ServerConfig::builder().with_no_client_auth();
    config.with_single_cert(shown.certificates, shown.key).unwrap().cert_resolver
}

/// Says something in TLS, and waits until the node has closed the connection.
fn say(mut stream: Dialed, bytes: &[u8]) {
    // The node may close before it has taken all of it.
    let _ = stream.write_all(bytes);
    let start = Instant::now();
    loop {
        match stream.read(&mut [0; 1000]) {
            Ok(0) => return,
            Ok(_) => assert!(start.elapsed() < DEADLINE, "the connection stays open"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the connection stays open")
            }
            Err(_) => return,
        }
    }
}

/// Accepts the connection of a node, shows it this, and returns how many bytes it says.
fn accept(cluster: &Cluster, listener: &TcpListener, shown: &Pair) -> usize {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut config = ServerConfig::clone(&node_tls(cluster.authority(), 2).acceptor());
    config.cert_resolver = server_shows(cluster, shown);
    let session = ServerConnection::new(Arc::new(config)).unwrap();
    let mut stream = StreamOwned::new(session, stream);
    stream.read(&mut [0; 1000]).unwrap_or(0)
}
