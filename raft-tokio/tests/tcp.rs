//! The TCP transport over loopback: what it carries, what it refuses, and how it comes back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::frame::{self, Decoder, HEADER_BYTES};
use raft_core::host::handshake::{
    Answer, HANDSHAKE_BYTES_MAX, HandshakeError, Hello, Refusal, Welcome,
};
use raft_core::host::{
    ClusterId, Identity, Label, MessageInbox, Past, Running, StoreId, Transport as _,
};
use raft_core::{
    AppendEntries, Body, Entry, Index, LogId, Member, MemberStore, Membership, Message, NodeId,
    Payload, RequestVote, Round, Session, Suffrage, Term, codec,
};
use raft_tokio::tcp::{Config, Counters, Counts, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// After which a test has failed. None waits that long if all is well.
const DEADLINE: Duration = Duration::from_secs(20);

const ANYWHERE: &str = "127.0.0.1:0";

/// A transport and what it received.
struct Endpoint {
    id: u64,
    transport: Transport,
    counters: Counters,
    received: UnboundedReceiver<Message<Bytes>>,
}

impl Endpoint {
    async fn start(id: u64, peers: &[(u64, SocketAddr)], config: Config) -> Self {
        let listener = TcpListener::bind(ANYWHERE).await.expect("a port is free");
        Self::start_at(id, listener, peers, config)
    }

    fn start_at(
        id: u64,
        listener: TcpListener,
        peers: &[(u64, SocketAddr)],
        config: Config,
    ) -> Self {
        let peers = peers.iter().map(|(id, address)| (NodeId::new(*id), address.to_string()));
        let mut transport = Transport::new(listener, peers, config).expect("a sound configuration");
        let (sender, received) = unbounded_channel();
        let inbox = MessageInbox::new(move |message| {
            let _ = sender.send(message);
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
        let start = Instant::now();
        while to.received.try_recv().is_err() {
            assert!(start.elapsed() < DEADLINE, "nothing arrived; {:?}", self.counts());
            self.send(to.id, 0);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn receive(&mut self) -> Message<Bytes> {
        within(self.received.recv()).await.expect("the transport holds the sender")
    }

    async fn stop(mut self) {
        let (running, stopped) = Running::new();
        self.transport.stop(running);
        drop(self.transport);
        within(stopped.into_future()).await;
    }

    fn address(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    fn counts(&self) -> Counts {
        self.counters.read()
    }

    async fn until(&self, condition: impl Fn(&Counts) -> bool) {
        let start = Instant::now();
        while !condition(&self.counts()) {
            assert!(start.elapsed() < DEADLINE, "still {:?}", self.counts());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

const IDLE: Duration = Duration::from_millis(50);

/// Gives up on silent peers soon.
fn impatient() -> Config {
    let keepalive_interval = IDLE / 5;
    Config {
        keepalive_interval,
        idle_timeout: IDLE,
        handshake_timeout: DEADLINE,
        ..Config::default()
    }
}

/// A node with one peer, number 2, that the test plays.
async fn acceptor(config: Config) -> Endpoint {
    Endpoint::start(1, &[(2, nobody())], config).await
}

#[tokio::test]
async fn messages_go_both_ways_and_in_order() {
    let listener = TcpListener::bind(ANYWHERE).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut one = Endpoint::start(1, &[(2, address)], Config::default()).await;
    let peers = [(1, one.address()), (2, address)];
    let mut two = Endpoint::start_at(2, listener, &peers, Config::default());
    two.send_until_received(&mut one).await;

    for term in 1..=3_000 {
        one.transport.send(vote(1, 2, term));
        if term % 100 == 0 {
            one.transport.flush();
            tokio::task::yield_now().await;
        }
    }
    for term in 1..=3_000 {
        assert_eq!(two.receive().await, vote(1, 2, term));
    }
    one.until(|counts| counts.messages_sent == 3_000).await;
    two.until(|counts| counts.messages_received == 3_000).await;
    assert_eq!(one.counts().dropped_unreachable + one.counts().dropped_full, 0);
}

#[tokio::test]
async fn a_new_member_is_dialed_and_answers_and_one_that_goes_is_left() {
    let (mut one, mut two) =
        (Endpoint::start(1, &[], impatient()).await, Endpoint::start(2, &[], impatient()).await);
    let both = members(&[(1, one.address()), (2, two.address())]);
    one.transport.members(&both);
    one.send_until_received(&mut two).await;
    // The other one has yet to be told of the configuration (§6).
    two.send_until_received(&mut one).await;
    one.transport.members(&members(&[(1, one.address())]));
    let start = Instant::now();
    while one.counts().dropped_unknown_peer == 0 {
        assert!(start.elapsed() < DEADLINE, "still dialed: {:?}", one.counts());
        // Longer than it is dialed after the last message.
        tokio::time::sleep(IDLE * 4).await;
        one.send(2, 0);
    }
}

#[tokio::test]
async fn long_messages_arrive_and_longer_ones_are_dropped_alone() {
    let mut two = acceptor(Config::default()).await;
    let config = Config { frame_bytes_max: 1 << 20, ..Config::default() };
    let mut two_as_peer = Endpoint::start(2, &[(1, two.address())], config).await;
    let one = &mut two_as_peer;
    one.send_until_received(&mut two).await;
    let long = append(2, 1, vec![7; 1_000_000]);
    one.transport.send(append(2, 1, vec![7; 1 << 20]));
    one.transport.send(long.clone());
    one.transport.flush();
    let mut received = two.receive().await;
    while received.term == Term::ZERO {
        received = two.receive().await;
    }
    assert_eq!(received, long);
    one.until(|counts| counts.dropped_too_long == 1).await;
}

#[tokio::test]
async fn garbage_is_refused_and_counted() {
    let node = acceptor(Config::default()).await;
    for garbage in [&b"GET / HTTP/1.1\r\nHost: raft\r\n\r\n"[..], &[0; 4_000], &[0xff; 100]] {
        let mut stream = TcpStream::connect(node.address()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        closed(&mut stream).await;
    }
    node.until(|counts| counts.refused == 3).await;
    say_hello(&node, hello(2, 1, 5)).await.1.expect("others still get in");
}

#[tokio::test]
async fn the_wrong_nodes_are_refused_with_a_reason() {
    let node = acceptor(Config { unknown_peers_max: 0, ..Config::default() }).await;
    let good = hello(2, 1, 5);
    let newer = codec::VERSION + 1;
    let wrong = [
        (
            Hello { version_min: newer, version_max: newer, ..good.clone() },
            Refusal::Version { min: 1, max: codec::VERSION },
        ),
        (
            Hello { cluster: ClusterId::new(6), ..good },
            Refusal::Cluster { cluster: ClusterId::new(7) },
        ),
        (hello(2, 3, 5), Refusal::NotMe { node: NodeId::new(1) }),
        (hello(9, 1, 5), Refusal::UnknownPeer),
        (hello(1, 1, 5), Refusal::Itself { node: NodeId::new(1) }),
    ];
    for (hello, refusal) in wrong {
        let (mut stream, answer) = say_hello(&node, hello).await;
        assert_eq!(answer, Err(HandshakeError::Refused(refusal)));
        closed(&mut stream).await;
    }
    node.until(|counts| counts.refused == 5).await;
    assert_eq!(node.counts().accepted, 0);
}

#[tokio::test]
async fn one_who_speaks_before_being_welcome_is_refused() {
    let node = acceptor(Config::default()).await;
    let mut stream = TcpStream::connect(node.address()).await.unwrap();
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, HANDSHAKE_BYTES_MAX, |out| hello(2, 1, 5).encode(out)).unwrap();
    bytes.extend(message_frame(&vote(2, 1, 1)));
    stream.write_all(&bytes).await.unwrap();
    closed(&mut stream).await;
    node.until(|counts| counts.refused == 1).await;
}

#[tokio::test]
async fn another_node_with_the_same_id_waits_until_the_first_is_gone() {
    let node = acceptor(Config::default()).await;
    let (first, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("the first gets in");
    let duplicate = Refusal::Duplicate { store_id: StoreId::new(5) };
    let (_, answer) = say_hello(&node, hello(2, 1, 6)).await;
    assert_eq!(answer, Err(HandshakeError::Refused(duplicate)));

    drop(first);
    let start = Instant::now();
    while say_hello(&node, hello(2, 1, 6)).await.1.is_err() {
        assert!(start.elapsed() < DEADLINE, "the second never got in");
    }
}

#[tokio::test]
async fn a_peer_that_comes_back_replaces_its_lingering_connection() {
    let mut node = acceptor(Config::default()).await;
    let (mut old, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in");
    let (mut new, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in again, though the old connection still stands");
    closed(&mut old).await;
    new.write_all(&message_frame(&vote(2, 1, 3))).await.unwrap();
    assert_eq!(node.receive().await, vote(2, 1, 3));
    node.until(|counts| counts.closed_replaced == 1).await;
}

#[tokio::test]
async fn damage_ends_the_connection_and_nothing_else() {
    let mut node = acceptor(Config { frame_bytes_max: 1_000, ..Config::default() }).await;
    let mut too_long = Vec::new();
    frame::encode(&mut too_long, 2_000, |out| out.resize(out.len() + 2_000, 0)).unwrap();
    let mut flipped = message_frame(&vote(2, 1, 3));
    *flipped.last_mut().unwrap() ^= 1;
    let mut not_a_message = Vec::new();
    frame::encode(&mut not_a_message, 100, |out| out.extend_from_slice(b"garbage")).unwrap();
    let header_only = too_long[..HEADER_BYTES].to_vec();

    let damages = [too_long, header_only, flipped, not_a_message, vec![0xaa; 500]];
    for (count, damage) in (1..).zip(damages) {
        let (mut stream, answer) = say_hello(&node, hello(2, 1, 5)).await;
        answer.expect("it gets in");
        stream.write_all(&message_frame(&vote(2, 1, count))).await.unwrap();
        stream.write_all(&damage).await.unwrap();
        assert_eq!(node.receive().await, vote(2, 1, count), "what came before is kept");
        closed(&mut stream).await;
        node.until(|counts| counts.closed_damaged == count).await;
    }

    let (mut stream, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in");
    stream.write_all(&message_frame(&vote(2, 1, 9))[..20]).await.unwrap();
    drop(stream);
    node.until(|counts| counts.closed_damaged == 6).await;
}

#[tokio::test]
async fn messages_from_or_for_others_end_the_connection() {
    let mut node = acceptor(Config::default()).await;
    for (count, (from, to)) in (1..).zip([(3, 1), (2, 3)]) {
        let (mut stream, answer) = say_hello(&node, hello(2, 1, 5)).await;
        answer.expect("it gets in");
        stream.write_all(&message_frame(&vote(from, to, 1))).await.unwrap();
        closed(&mut stream).await;
        node.until(|counts| counts.closed_misaddressed == count).await;
    }
    assert!(node.received.try_recv().is_err());
}

#[tokio::test]
async fn what_only_a_newer_node_understands_is_dropped_alone() {
    let mut node = acceptor(Config::default()).await;
    let (mut stream, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in");
    let mut bytes = Vec::new();
    let newer = b"\x85\x02\x01\x07\x18\x63\x80";
    frame::encode(&mut bytes, 100, |out| out.extend_from_slice(newer)).unwrap();
    bytes.extend(message_frame(&vote(2, 1, 4)));
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(node.receive().await, vote(2, 1, 4));
    node.until(|counts| counts.dropped_from_newer == 1).await;
}

#[tokio::test]
async fn an_acceptor_closes_when_it_hears_nothing() {
    let node = acceptor(Config { handshake_timeout: IDLE, ..impatient() }).await;
    let mut mute = TcpStream::connect(node.address()).await.unwrap();
    closed(&mut mute).await;
    node.until(|counts| counts.closed_idle == 1).await;
    let (mut mute, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in");
    closed(&mut mute).await;
    node.until(|counts| counts.closed_idle == 2).await;
}

#[tokio::test]
async fn a_dialer_closes_when_it_hears_nothing_and_dials_again() {
    let listener = TcpListener::bind(ANYWHERE).await.unwrap();
    let peers = [(2, listener.local_addr().unwrap())];
    let node = Endpoint::start(1, &peers, impatient()).await;
    for count in 1..=2 {
        let (mut dialed, _) = within(listener.accept()).await.unwrap();
        read_frame(&mut dialed).await;
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
        dialed.write_all(&welcome).await.unwrap();
        closed(&mut dialed).await;
        node.until(|counts| counts.connected == count && counts.closed_idle == count).await;
    }
}

#[tokio::test]
async fn a_peer_that_always_sends_hears_that_the_node_is_alive() {
    let node = acceptor(impatient()).await;
    let (mut stream, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in");
    let (mut reader, mut writer) = stream.split();
    let messages = message_frame(&vote(2, 1, 1)).repeat(1_000);
    let flood = async { while writer.write_all(&messages).await.is_ok() {} };
    let mut keepalive = [0; HEADER_BYTES];
    tokio::select! {
        () = flood => panic!("the node has closed the connection: {:?}", node.counts()),
        read = within(reader.read_exact(&mut keepalive)) => assert!(read.is_ok()),
    }
}

#[tokio::test]
async fn idle_connections_that_live_are_kept() {
    let config = Config {
        keepalive_interval: Duration::from_millis(20),
        idle_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let mut one = acceptor(config.clone()).await;
    let mut two = Endpoint::start(2, &[(1, one.address())], config.clone()).await;
    two.send_until_received(&mut one).await;
    // Nothing is sent for longer than the timeout: only the keepalives can have kept it.
    tokio::time::sleep(config.idle_timeout * 3 / 2).await;
    two.send_until_received(&mut one).await;
    assert_eq!((two.counts().connected, one.counts().closed_idle), (1, 0));
}

#[tokio::test]
async fn a_peer_that_restarts_is_reached_again() {
    let listener = TcpListener::bind(ANYWHERE).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut one = Endpoint::start(1, &[(2, address)], Config::default()).await;
    let peers = [(1, one.address())];
    let mut two = Endpoint::start_at(2, listener, &peers, Config::default());
    one.send_until_received(&mut two).await;
    two.send_until_received(&mut one).await;

    two.stop().await;
    let listener = TcpListener::bind(address).await.expect("the port is free at once");
    one.until(|counts| counts.connect_failed >= 1).await;
    let mut two = Endpoint::start_at(2, listener, &peers, Config::default());
    one.send_until_received(&mut two).await;
    two.send_until_received(&mut one).await;
}

#[tokio::test]
async fn a_stop_says_last_words_and_frees_the_port() {
    let mut one = acceptor(Config::default()).await;
    let mut two = Endpoint::start(2, &[(1, one.address())], Config::default()).await;
    let address = two.address();
    two.send_until_received(&mut one).await;
    two.transport.send(vote(2, 1, 99));
    two.stop().await;
    while one.receive().await.term != Term::new(99) {}
    TcpListener::bind(address).await.expect("the port is free at once");
}

#[tokio::test]
async fn a_drop_stops_everything() {
    let node = acceptor(Config::default()).await;
    let address = node.address();
    let (mut stream, answer) = say_hello(&node, hello(2, 1, 5)).await;
    answer.expect("it gets in");
    drop(node);
    closed(&mut stream).await;
    let start = Instant::now();
    while TcpListener::bind(address).await.is_err() {
        assert!(start.elapsed() < DEADLINE, "the port is still taken");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    // A peer that takes the connection and never answers.
    let deaf = TcpListener::bind(ANYWHERE).await.unwrap();
    let config =
        Config { queue_messages_max: 10, handshake_timeout: DEADLINE, ..Config::default() };
    let mut node = Endpoint::start(1, &[(2, deaf.local_addr().unwrap())], config).await;
    (0..25).for_each(|term| node.send(2, term));
    node.send(8, 0);
    assert_eq!(node.counts().dropped_full, 15);
    assert_eq!(node.counts().dropped_unknown_peer, 1);
}

#[tokio::test]
async fn a_peer_out_of_reach_costs_nothing_but_its_messages() {
    let config = Config {
        reconnect_backoff_min: Duration::from_millis(1),
        reconnect_backoff_max: Duration::from_millis(4),
        ..Config::default()
    };
    let mut node = Endpoint::start(1, &[(2, nobody())], config).await;
    node.until(|counts| counts.connect_failed >= 3).await;
    node.send(2, 1);
    node.until(|counts| counts.dropped_unreachable == 1).await;
}

#[tokio::test]
async fn an_address_of_something_else_is_not_believed() {
    let web = TcpListener::bind(ANYWHERE).await.unwrap();
    let node = Endpoint::start(1, &[(2, web.local_addr().unwrap())], Config::default()).await;
    let (mut dialed, _) = within(web.accept()).await.unwrap();
    dialed.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    node.until(|counts| counts.connect_failed == 1).await;
    assert_eq!(node.counts().connected, 0);
}

#[tokio::test]
async fn incoming_connections_are_bounded() {
    let handshake_timeout = Duration::from_millis(50);
    let node =
        acceptor(Config { connections_max: 2, handshake_timeout, ..Config::default() }).await;
    let mut mute = Vec::new();
    for _ in 0..20 {
        mute.push(TcpStream::connect(node.address()).await.unwrap());
    }
    say_hello(&node, hello(2, 1, 5)).await.1.expect("those before it time out, two by two");
    assert!(node.counts().closed_idle >= 19);
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let config = Config { frame_bytes_max: 0, ..Config::default() };
    let error = Transport::bind(ANYWHERE, [], config).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

async fn within<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("it should not take that long")
}

/// An address where nobody listens: this port has been out of use for decades, and tests cannot
/// take it.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
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

/// Dials the node by hand, and gives back the connection and what was answered.
async fn say_hello(node: &Endpoint, hello: Hello) -> (TcpStream, Result<u16, HandshakeError>) {
    let mut stream = TcpStream::connect(node.address()).await.expect("it listens");
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, HANDSHAKE_BYTES_MAX, |out| hello.encode(out)).expect("it is short");
    stream.write_all(&bytes).await.expect("the connection stands");
    let answer = read_frame(&mut stream).await;
    (stream, Answer::conclude(&answer).map(|welcome| welcome.version))
}

async fn read_frame(stream: &mut TcpStream) -> Bytes {
    let mut decoder = Decoder::new(HANDSHAKE_BYTES_MAX);
    loop {
        if let Some(payload) = decoder.next_payload().expect("a frame") {
            return payload;
        }
        let read = within(stream.read_buf(decoder.space())).await.expect("the connection stands");
        assert!(read > 0, "closed without an answer");
    }
}

/// Waits until the other side has closed, whatever it says before.
async fn closed(stream: &mut TcpStream) {
    let mut ignored = Vec::new();
    let _ = within(stream.read_to_end(&mut ignored)).await;
}

fn vote(from: u64, to: u64, term: u64) -> Message<Bytes> {
    let body = Body::RequestVote(RequestVote { last_log: LogId::ZERO, transfer: false });
    Message { from: NodeId::new(from), to: NodeId::new(to), term: Term::new(term), body }
}

fn append(from: u64, to: u64, command: Vec<u8>) -> Message<Bytes> {
    let payload = Payload::Command(command.into());
    let entry = Entry { term: Term::new(1), index: Index::new(1), payload };
    let body = Body::AppendEntries(AppendEntries {
        session: Session::new(1),
        round: Round::new(1),
        prev_log: LogId::ZERO,
        entries: vec![entry].into(),
        leader_commit: Index::ZERO,
        rank: None,
        election_timeout_micros: None,
        takes_proposals: false,
    });
    Message { body, ..vote(from, to, 1) }
}

fn message_frame(message: &Message<Bytes>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, 1 << 20, |out| codec::encode_message(message, out))
        .expect("it is short");
    bytes
}
