//! The TCP transport over loopback: what it carries, what it refuses, how it comes back, and whole
//! nodes on it.

// Clippy takes only test functions for tests.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use common::{Log, Runtime, in_time, leader_of, tcp_cluster, until};
use raft_core::host::frame::{self, Decoder};
use raft_core::host::handshake::{
    Answer, HANDSHAKE_BYTES_MAX, HandshakeError, Hello, Refusal, Welcome,
};
use raft_core::host::{
    ClusterId, Identity, Label, MessageInbox, Past, Running, StoreId, Transport as _,
};
use raft_core::{
    Body, LogId, Member, MemberStore, Membership, Message, NodeId, RequestVote, Suffrage, Term,
    codec,
};
use raft_smol::on::{Node, Transport};
use raft_smol::tcp::{Config, Counters, Counts};
use smol::channel::Receiver;

on_each_executor! {
    a_cluster_survives_its_leader,
    messages_go_both_ways_and_in_order,
    a_new_member_is_dialed_and_answers_and_one_that_goes_is_left,
    garbage_and_strangers_are_refused_and_others_get_in,
    a_peer_that_comes_back_replaces_its_lingering_connection,
    damage_ends_the_connection_and_nothing_else,
    an_acceptor_closes_when_it_hears_nothing,
    a_dialer_closes_when_it_hears_nothing_and_dials_again,
    idle_connections_that_live_are_kept,
    a_peer_that_restarts_is_reached_again,
    a_stop_says_last_words_and_frees_the_port,
    a_drop_stops_everything,
    a_full_queue_drops_and_counts,
    a_peer_out_of_reach_costs_nothing_but_its_messages,
    incoming_connections_are_bounded,
    a_configuration_that_cannot_work_is_refused,
}

async fn a_cluster_survives_its_leader<E: Runtime>() {
    let mut nodes: Vec<Node<Log, E>> = tcp_cluster().await;
    let leader = leader_of(&nodes).await;
    for count in 1..=10 {
        assert_eq!(in_time("a reply", nodes[leader].propose("x")).await.unwrap(), count);
    }
    in_time("a shutdown", nodes.remove(leader).shutdown()).await;

    let leader = leader_of(&nodes).await;
    let reply = in_time("a reply", nodes[leader].propose("x")).await.unwrap();
    assert_eq!(reply, 11, "nothing was lost");
    let read = nodes[leader].read(|log| log.commands.len());
    assert_eq!(in_time("a read", read).await.unwrap(), 11);
    for node in &nodes {
        in_time("a shutdown", node.shutdown()).await;
    }
}

async fn messages_go_both_ways_and_in_order<E: Runtime>() {
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let mut one = Endpoint::<E>::start(1, &[(2, address)], Config::default());
    let peers = [(1, one.address()), (2, address)];
    let mut two = Endpoint::<E>::start_at(2, listener, &peers, Config::default());
    two.send_until_received(&mut one).await;
    one.send_until_received(&mut two).await;

    for term in 1..=3_000 {
        one.transport.send(vote(1, 2, term));
        if term % 100 == 0 {
            one.transport.flush();
            smol::future::yield_now().await;
        }
    }
    let mut expected = 1;
    while expected <= 3_000 {
        let message = two.receive().await;
        // Those of term 0 are from before.
        if message.term > Term::ZERO {
            assert_eq!(message, vote(1, 2, expected));
            expected += 1;
        }
    }
    assert_eq!(one.counts().dropped_full, 0);
}

async fn a_new_member_is_dialed_and_answers_and_one_that_goes_is_left<E: Runtime>() {
    let (mut one, mut two) =
        (Endpoint::<E>::start(1, &[], impatient()), Endpoint::<E>::start(2, &[], impatient()));
    let both = members(&[(1, one.address()), (2, two.address())]);
    one.transport.members(&both);
    one.send_until_received(&mut two).await;
    // The other one has yet to be told of the configuration (§6).
    two.send_until_received(&mut one).await;
    one.transport.members(&members(&[(1, one.address())]));
    in_time("the end of the connection", async {
        while one.counts().dropped_unknown_peer == 0 {
            // Longer than it is dialed after the last message.
            smol::Timer::after(IDLE * 4).await;
            one.send(2, 0);
        }
    })
    .await;
}

async fn garbage_and_strangers_are_refused_and_others_get_in<E: Runtime>() {
    let node = acceptor::<E>(Config { unknown_peers_max: 0, ..Config::default() });
    for garbage in [&b"GET / HTTP/1.1\r\nHost: raft\r\n\r\n"[..], &[0; 4_000], &[0xff; 100]] {
        let mut stream = TcpStream::connect(node.address()).unwrap();
        stream.write_all(garbage).unwrap();
        closed(stream).await;
    }
    node.until(|counts| counts.refused == 3).await;
    let (_, answer) = say_hello(&node, hello(9, 1, 5)).await;
    assert_eq!(answer, Err(HandshakeError::Refused(Refusal::UnknownPeer)));
    node.until(|counts| counts.refused == 4).await;

    let (_first, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("a peer gets in");
    let (_, answer) = say_hello(&node, hello(2, 1, 6)).await;
    let duplicate = Refusal::Duplicate { store_id: StoreId::new(5) };
    assert_eq!(answer, Err(HandshakeError::Refused(duplicate)));
}

async fn a_peer_that_comes_back_replaces_its_lingering_connection<E: Runtime>() {
    let mut node = acceptor::<E>(Config::default());
    let (old, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in");
    let (mut new, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in again, though the old connection still stands");
    closed(old).await;
    new.write_all(&message_frame(&vote(2, 1, 3))).unwrap();
    assert_eq!(node.receive().await, vote(2, 1, 3));
    node.until(|counts| counts.closed_replaced == 1).await;
}

async fn damage_ends_the_connection_and_nothing_else<E: Runtime>() {
    let mut node = acceptor::<E>(Config::default());
    let mut flipped = message_frame(&vote(2, 1, 3));
    *flipped.last_mut().unwrap() ^= 1;
    for (count, damage) in (1..).zip([flipped, vec![0xaa; 500]]) {
        let (mut stream, answer) = say_hello(&node, hello(2, 1, 5)).await;
        answer.expect("it gets in");
        stream.write_all(&message_frame(&vote(2, 1, count))).unwrap();
        stream.write_all(&damage).unwrap();
        assert_eq!(node.receive().await, vote(2, 1, count), "what came before is kept");
        closed(stream).await;
        node.until(|counts| counts.closed_damaged == count).await;
    }
    let (mut stream, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in");
    stream.write_all(&message_frame(&vote(2, 1, 9))[..20]).unwrap();
    drop(stream);
    node.until(|counts| counts.closed_damaged == 3).await;
}

async fn an_acceptor_closes_when_it_hears_nothing<E: Runtime>() {
    let node = acceptor::<E>(Config { handshake_timeout: IDLE, ..impatient() });
    closed(TcpStream::connect(node.address()).unwrap()).await;
    node.until(|counts| counts.closed_idle == 1).await;
    let (mute, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in");
    closed(mute).await;
    node.until(|counts| counts.closed_idle == 2).await;
}

async fn a_dialer_closes_when_it_hears_nothing_and_dials_again<E: Runtime>() {
    let listener = listen();
    let peers = [(2, listener.local_addr().unwrap())];
    let node = Endpoint::<E>::start(1, &peers, impatient());
    for count in 1..=2 {
        let accepting = listener.try_clone().unwrap();
        let (mut dialed, _) = in_thread(move || accepting.accept()).await.unwrap();
        dialed = read_frame(dialed).await.0;
        let mut welcome = Vec::new();
        let answer = Answer::Welcome(Welcome {
            version: codec::VERSION,
            store_id: None,
            past: Past::Unknown,
            knows_you: None,
            named_at: None,
            timeouts: None,
        });
        frame::encode(&mut welcome, HANDSHAKE_BYTES_MAX, |out| answer.encode(out)).unwrap();
        dialed.write_all(&welcome).unwrap();
        closed(dialed).await;
        node.until(|counts| counts.connected == count && counts.closed_idle == count).await;
    }
}

async fn idle_connections_that_live_are_kept<E: Runtime>() {
    let config = Config {
        keepalive_interval: Duration::from_millis(20),
        idle_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let mut one = acceptor::<E>(config.clone());
    let mut two = Endpoint::<E>::start(2, &[(1, one.address())], config.clone());
    two.send_until_received(&mut one).await;
    // Nothing is sent for longer than the timeout: only the keepalives can have kept it.
    smol::Timer::after(config.idle_timeout * 3 / 2).await;
    two.send_until_received(&mut one).await;
    assert_eq!((two.counts().connected, one.counts().closed_idle), (1, 0));
}

async fn a_peer_that_restarts_is_reached_again<E: Runtime>() {
    let listener = listen();
    let address = listener.local_addr().unwrap();
    let mut one = Endpoint::<E>::start(1, &[(2, address)], Config::default());
    let peers = [(1, one.address())];
    let mut two = Endpoint::<E>::start_at(2, listener, &peers, Config::default());
    one.send_until_received(&mut two).await;
    two.send_until_received(&mut one).await;

    two.stop().await;
    let listener = TcpListener::bind(address).expect("the port is free at once");
    one.until(|counts| counts.connect_failed >= 1).await;
    let mut two = Endpoint::<E>::start_at(2, listener, &peers, Config::default());
    one.send_until_received(&mut two).await;
    two.send_until_received(&mut one).await;
}

async fn a_stop_says_last_words_and_frees_the_port<E: Runtime>() {
    let mut one = acceptor::<E>(Config::default());
    let mut two = Endpoint::<E>::start(2, &[(1, one.address())], Config::default());
    let address = two.address();
    two.send_until_received(&mut one).await;
    two.transport.send(vote(2, 1, 99));
    two.stop().await;
    while one.receive().await.term != Term::new(99) {}
    TcpListener::bind(address).expect("the port is free at once");
}

async fn a_drop_stops_everything<E: Runtime>() {
    let node = acceptor::<E>(Config::default());
    let address = node.address();
    let (stream, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in");
    drop(node);
    closed(stream).await;
    until("a free port", || async { TcpListener::bind(address).ok() }).await;
}

async fn a_full_queue_drops_and_counts<E: Runtime>() {
    // A peer that takes the connection and never answers.
    let deaf = listen();
    let config = Config { queue_messages_max: 10, ..impatient() };
    let mut node = Endpoint::<E>::start(1, &[(2, deaf.local_addr().unwrap())], config);
    (0..25).for_each(|term| node.send(2, term));
    node.send(8, 0);
    assert_eq!(node.counts().dropped_full, 15);
    assert_eq!(node.counts().dropped_unknown_peer, 1);
}

async fn a_peer_out_of_reach_costs_nothing_but_its_messages<E: Runtime>() {
    let config = Config {
        reconnect_backoff_min: Duration::from_millis(1),
        reconnect_backoff_max: Duration::from_millis(4),
        ..Config::default()
    };
    let mut node = Endpoint::<E>::start(1, &[(2, nobody())], config);
    node.until(|counts| counts.connect_failed >= 3).await;
    node.send(2, 1);
    node.until(|counts| counts.dropped_unreachable == 1).await;
}

async fn incoming_connections_are_bounded<E: Runtime>() {
    let handshake_timeout = Duration::from_millis(50);
    let node = acceptor::<E>(Config { connections_max: 2, handshake_timeout, ..Config::default() });
    let mute: Vec<_> = (0..20).map(|_| TcpStream::connect(node.address()).unwrap()).collect();
    say_hello(&node, hello(2, 1, 5)).await.1.expect("those before it time out, two by two");
    assert!(node.counts().closed_idle >= 19);
    drop(mute);
}

async fn a_configuration_that_cannot_work_is_refused<E: Runtime>() {
    let config = Config { frame_bytes_max: 0, ..Config::default() };
    let error = Transport::<E>::bind("127.0.0.1:0", [], config).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// A transport and what it received.
struct Endpoint<E> {
    id: u64,
    transport: Transport<E>,
    counters: Counters,
    received: Receiver<Message<Bytes>>,
}

impl<E: Runtime> Endpoint<E> {
    fn start(id: u64, peers: &[(u64, SocketAddr)], config: Config) -> Self {
        Self::start_at(id, listen(), peers, config)
    }

    fn start_at(
        id: u64,
        listener: TcpListener,
        peers: &[(u64, SocketAddr)],
        config: Config,
    ) -> Self {
        let peers = peers.iter().map(|(id, address)| (NodeId::new(*id), address.to_string()));
        let listener = listener.try_into().unwrap();
        let mut transport = Transport::new(listener, peers, config).unwrap();
        let (sender, received) = smol::channel::unbounded();
        let inbox = MessageInbox::new(move |message| {
            let _ = sender.try_send(message);
        });
        transport.start(identity(id, id), inbox).expect("it was not started before");
        Self { id, counters: transport.counters(), transport, received }
    }

    fn send(&mut self, to: u64, term: u64) {
        self.transport.send(vote(self.id, to, term));
        self.transport.flush();
    }

    /// Sends until a message arrives: what was sent before the connection stood may be lost.
    async fn send_until_received(&mut self, to: &mut Self) {
        in_time("a message", async {
            while to.received.try_recv().is_err() {
                self.send(to.id, 0);
                smol::Timer::after(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    async fn receive(&mut self) -> Message<Bytes> {
        in_time("a message", self.received.recv()).await.expect("the transport holds the sender")
    }

    async fn stop(mut self) {
        let (running, stopped) = Running::new();
        self.transport.stop(running);
        drop(self.transport);
        in_time("a stop", stopped.into_future()).await;
    }

    fn address(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    fn counts(&self) -> Counts {
        self.counters.read()
    }

    async fn until(&self, condition: impl Fn(&Counts) -> bool) {
        until("a count", || async { condition(&self.counts()).then_some(()) }).await;
    }
}

const IDLE: Duration = Duration::from_millis(50);

/// Gives up on silent peers soon.
fn impatient() -> Config {
    Config {
        keepalive_interval: IDLE / 5,
        idle_timeout: IDLE,
        handshake_timeout: Duration::from_secs(20),
        ..Config::default()
    }
}

/// A node with one peer, number 2, that the test plays.
fn acceptor<E: Runtime>(config: Config) -> Endpoint<E> {
    Endpoint::start(1, &[(2, nobody())], config)
}

/// An address where nobody listens: this port has been out of use for decades, and tests cannot
/// take it.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port is free")
}

/// A configuration of these, with their addresses.
fn members(addresses: &[(u64, SocketAddr)]) -> Membership {
    let member = |(id, address): &(u64, SocketAddr)| Member {
        id: NodeId::new(*id),
        suffrage: Suffrage::Voter,
        priority: 0,
        label: Label::at(address.to_string()).encode().expect("it is short"),
        store: MemberStore::Unrecorded,
    };
    Membership::of_members(addresses.iter().map(member)).expect("a sound configuration")
}

fn identity(node: u64, store_id: u64) -> Identity {
    Identity {
        cluster: ClusterId::new(7),
        node: NodeId::new(node),
        store_id: StoreId::new(store_id),
    }
}

fn hello(from: u64, to: u64, store_id: u64) -> Hello {
    Hello::new(&identity(from, store_id), NodeId::new(to), "")
}

/// What blocks, which must end in time.
async fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    in_time("an end", smol::unblock(work)).await
}

/// Dials the node by hand, and gives back the connection and what was answered.
async fn say_hello<E: Runtime>(
    node: &Endpoint<E>,
    hello: Hello,
) -> (TcpStream, Result<u16, HandshakeError>) {
    let mut stream = TcpStream::connect(node.address()).expect("it listens");
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, HANDSHAKE_BYTES_MAX, |out| hello.encode(out)).expect("it is short");
    stream.write_all(&bytes).expect("the connection stands");
    let (stream, answer) = read_frame(stream).await;
    (stream, Answer::conclude(&answer).map(|welcome| welcome.version))
}

async fn read_frame(mut stream: TcpStream) -> (TcpStream, Bytes) {
    in_thread(move || {
        let mut decoder = Decoder::new(HANDSHAKE_BYTES_MAX);
        let mut byte = [0];
        loop {
            if let Some(payload) = decoder.next_payload().expect("a frame") {
                return (stream, payload);
            }
            stream.read_exact(&mut byte).expect("it is not closed without an answer");
            decoder.space().extend_from_slice(&byte);
        }
    })
    .await
}

/// Waits until the other side has closed, whatever it says before.
async fn closed(mut stream: TcpStream) {
    in_thread(move || {
        let _ = stream.read_to_end(&mut Vec::new());
    })
    .await;
}

fn vote(from: u64, to: u64, term: u64) -> Message<Bytes> {
    let body = Body::RequestVote(RequestVote { last_log: LogId::ZERO, transfer: false });
    Message { from: NodeId::new(from), to: NodeId::new(to), term: Term::new(term), body }
}

fn message_frame(message: &Message<Bytes>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, 1 << 20, |out| codec::encode_message(message, out))
        .expect("it is short");
    bytes
}
