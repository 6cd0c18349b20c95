//! Dialers that say anything, and acceptors that answer anything.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::Bytes;
use raft_core::codec;
use raft_core::host::frame;
use raft_core::host::handshake::{
    Answer, HANDSHAKE_BYTES_MAX, HandshakeError, Hello, Refusal, SAID_NOTE_BYTES_MAX,
    VERSION_OLDEST, Welcome,
};
use raft_core::host::tcp::{Closed, Config, Counters, Peers, Reading, Signals, Ticket};
use raft_core::host::{
    ADDRESS_BYTES_MAX, ClusterId, Identity, MessageInbox, Past, StoreId, Timeouts, Versions,
};
use raft_core::{ClusterIdentity, Index, LogId, NodeId, Term};

use crate::memory;

const ME: Identity =
    Identity { cluster: ClusterId::new(7), node: NodeId::new(1), store_id: StoreId::new(1) };
const PEERS: [NodeId; 2] = [NodeId::new(2), NodeId::new(3)];
/// Where every dialer is.
const SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7_000);
/// How a handshake begins.
const MAGIC: &[u8] = b"raftpeer";
/// What reading a handshake may hold in memory, in bytes: an error's, an address's and a note's,
/// not the input's.
const DECODE_BYTES_MAX: u64 = 256 + ADDRESS_BYTES_MAX as u64 + SAID_NOTE_BYTES_MAX as u64;
/// The longest payload that a dialer frames.
const PAYLOAD_BYTES_MAX: usize = 1 << 12;

/// What waits for messages to send to a peer.
#[derive(Default, Debug)]
struct Nobody;

impl Signals for Nobody {
    fn ready(&self) {}

    fn retry(&self) {}
}

/// Some dialers, one after the other, and an answer to one of ours.
#[derive(Arbitrary, Debug)]
pub struct Input {
    dialers: Vec<Dialer>,
    answer: AnyAnswer,
}

#[derive(Arbitrary, Debug)]
struct Dialer {
    first: First,
    /// What follows before the answer.
    more: Vec<u8>,
    /// How many bytes come at a time.
    piece: u8,
    /// Who was let in stays.
    stays: bool,
}

#[derive(Arbitrary, Debug)]
enum First {
    Hello(AnyHello),
    Altered { hello: AnyHello, at: u8, xor: u8 },
    Ours(Vec<u8>),
    Payload(Vec<u8>),
    Unframed(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct AnyHello {
    version_min: u16,
    version_more: u16,
    stray: bool,
    from: u8,
    to: u8,
    store_id: bool,
    address: Vec<u8>,
    past: AnyPast,
    note: Vec<u8>,
    sends_bytes_max: Option<u64>,
    versions: Option<(u32, u32)>,
    named_at: Option<(u64, u64)>,
    timeouts: Option<AnyTimeouts>,
}

/// Microseconds.
type AnyTimeouts = [u32; 3];

fn timeouts(said: AnyTimeouts) -> Timeouts {
    let [election_timeout_min, election_timeout_max, heartbeat_interval] =
        said.map(|micros| Duration::from_micros(micros.into()));
    Timeouts { election_timeout_min, election_timeout_max, heartbeat_interval }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum AnyPast {
    Unknown,
    Blank,
    Unnamed,
    Begun(u128, Option<bool>),
    Of(u128, Option<bool>),
}

#[derive(Arbitrary, Debug)]
enum AnyAnswer {
    Welcome(u16, Option<u64>, AnyPast, Option<AnyTimeouts>),
    Version(u16, u16),
    Other { kind: u8, number: u64 },
    Ours(Vec<u8>),
    Payload(Vec<u8>),
}

/// Plays all handshakes.
pub fn run(input: &Input) {
    let listed = PEERS.map(|peer| (peer, String::new()));
    let config = Config { unknown_peers_max: 0, ..Config::default() };
    let inbox = MessageInbox::new(drop);
    let (peers, _) = Peers::new(ME, inbox, SOURCE, listed.into(), &config, &Counters::default());
    let mut inside = Inside::default();
    for dialer in &input.dialers {
        accept(&peers, dialer, &mut inside);
    }
    check_answer(&input.answer);
}

/// Who is connected, by which journal; replaced connections may linger.
#[derive(Default)]
struct Inside(BTreeMap<NodeId, (StoreId, Vec<Ticket>)>);

fn accept(peers: &Peers<Nobody>, dialer: &Dialer, inside: &mut Inside) {
    let stream = stream(dialer);
    let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
    let first = first_payload(&mut reading, &stream, usize::from(dialer.piece) + 1);
    let hello = first.as_ref().ok().and_then(|payload| Hello::decode(payload).ok());

    let mut out = Vec::new();
    match peers.judge(first, &reading, SOURCE, &mut out) {
        Ok((inbox, ticket)) => {
            let peer = inbox.peer();
            assert!(conclude(&out).is_ok(), "let in, and not told so");
            let hello = hello.expect("who is let in has said hello");
            assert!(PEERS.contains(&peer) && hello.from == peer && hello.to == ME.node);
            assert_eq!(hello.cluster, ME.cluster);
            let (store_id, tickets) =
                inside.0.entry(peer).or_insert_with(|| (hello.store_id, Vec::new()));
            assert_eq!(*store_id, hello.store_id, "two nodes of one name are let in");
            assert!(tickets.iter().all(|t| t.check().is_err()) && ticket.check().is_ok());
            tickets.push(ticket);
            if !dialer.stays {
                inside.0.remove(&peer);
            }
        }
        Err(Closed::Refused(refusal)) => {
            assert_eq!(conclude(&out), Err(HandshakeError::Refused(refusal)));
            check_refusal(dialer, refusal, inside);
        }
        Err(Closed::Ended | Closed::Cut) => assert!(out.is_empty(), "an answer to nobody"),
        Err(closed) => panic!("closed for another reason: {closed:?}"),
    }
}

/// Who says a proper hello, and nothing more, is refused only because another with the same name is
/// there.
fn check_refusal(dialer: &Dialer, refusal: Refusal, inside: &Inside) {
    let First::Hello(any) = &dialer.first else { return };
    let hello = any.to_hello();
    let versions = hello.version_min..=hello.version_max;
    let proper = hello.cluster == ME.cluster
        && hello.to == ME.node
        && PEERS.contains(&hello.from)
        && (VERSION_OLDEST..=codec::VERSION).any(|version| versions.contains(&version));
    if proper && dialer.more.is_empty() {
        let (store_id, _) = inside.0.get(&hello.from).expect("one is inside already");
        assert_eq!(refusal, Refusal::Duplicate { store_id: *store_id });
        assert_ne!(hello.store_id, *store_id);
    }
}

fn stream(dialer: &Dialer) -> Vec<u8> {
    let mut payload = Vec::new();
    match &dialer.first {
        First::Hello(hello) => hello.to_hello().encode(&mut payload),
        First::Altered { hello, at, xor } => {
            hello.to_hello().encode(&mut payload);
            let at = usize::from(*at) % payload.len();
            payload[at] ^= xor;
        }
        First::Ours(bytes) => payload.extend(MAGIC.iter().chain(bytes)),
        First::Payload(bytes) => payload.extend(bytes),
        First::Unframed(bytes) => return [bytes.as_slice(), &dialer.more].concat(),
    }
    let mut stream = Vec::new();
    // A payload that is too long for a frame leaves the stream empty.
    let _ = frame::encode(&mut stream, PAYLOAD_BYTES_MAX, |out| out.extend_from_slice(&payload));
    stream.extend(&dialer.more);
    stream
}

fn first_payload(reading: &mut Reading, stream: &[u8], piece: usize) -> Result<Bytes, Closed> {
    for bytes in stream.chunks(piece) {
        reading.space().extend_from_slice(bytes);
        reading.on_read(bytes.len())?;
        if let Some(payload) = reading.next_payload()? {
            let (hello, peak) = memory::peak(|| Hello::decode(&payload));
            assert!(peak <= DECODE_BYTES_MAX, "{peak} bytes of memory for {hello:?}");
            return Ok(payload);
        }
    }
    reading.on_read(0)?;
    unreachable!("nothing read is an error")
}

/// What the dialer understands of the acceptor's answer, which must be one frame of the allowed
/// length.
fn conclude(out: &[u8]) -> Result<Welcome, HandshakeError> {
    let mut reading = Reading::new(HANDSHAKE_BYTES_MAX);
    reading.space().extend_from_slice(out);
    let payload = reading.next_payload().expect("a sound frame").expect("a whole frame");
    assert!(reading.on_read(0).is_err_and(|closed| matches!(closed, Closed::Ended)));
    Answer::conclude(&payload)
}

/// Whatever comes back, the dialer knows what to make of it.
fn check_answer(answer: &AnyAnswer) {
    let mut payload = Vec::new();
    match answer {
        AnyAnswer::Welcome(version, store_id, past, said) => {
            let (store_id, version) = (store_id.map(StoreId::new), *version);
            let (past, knows_you) = past.to_past();
            let (named_at, timeouts) = (None, said.map(timeouts));
            let welcome = Welcome { version, store_id, past, knows_you, named_at, timeouts };
            Answer::Welcome(welcome).encode(&mut payload);
        }
        AnyAnswer::Ours(bytes) => payload.extend(MAGIC.iter().chain(bytes)),
        AnyAnswer::Payload(bytes) => payload.extend(bytes),
        AnyAnswer::Version(..) | AnyAnswer::Other { .. } => {
            let refusal = answer.to_refusal();
            Answer::Refused(refusal).encode(&mut payload);
            assert_eq!(Answer::conclude(&payload), Err(HandshakeError::Refused(refusal)));
        }
    }
    let (concluded, peak) = memory::peak(|| Answer::conclude(&payload));
    assert!(peak <= DECODE_BYTES_MAX, "{peak} bytes of memory for {} bytes", payload.len());
    match concluded {
        Ok(welcome) => assert!((VERSION_OLDEST..=codec::VERSION).contains(&welcome.version)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

impl AnyHello {
    fn to_hello(&self) -> Hello {
        let version_min = self.version_min.wrapping_add(VERSION_OLDEST);
        let (past, knows_you) = self.past.to_past();
        let note = &self.note[..self.note.len().min(SAID_NOTE_BYTES_MAX)];
        Hello {
            past,
            knows_you,
            note: Bytes::copy_from_slice(note),
            version_min,
            version_max: version_min.wrapping_add(self.version_more),
            cluster: ClusterId::new(ME.cluster.get() + u64::from(self.stray)),
            from: NodeId::new(u64::from(self.from) + 2),
            to: NodeId::new(u64::from(self.to) + 1),
            store_id: StoreId::new(2 + u64::from(self.store_id)),
            address: String::from_utf8_lossy(&self.address)
                .chars()
                .take(ADDRESS_BYTES_MAX / 4)
                .collect(),
            sends_bytes_max: self.sends_bytes_max.filter(|bytes| *bytes > 0),
            versions: self.versions.map(|(oldest, newest)| Versions::new(oldest, newest)),
            // What is said before it is said as well then.
            named_at: self
                .versions
                .and(self.named_at)
                .map(|(term, index)| LogId::new(Term::new(term), Index::new(index))),
            timeouts: self.timeouts.map(timeouts),
        }
    }
}

impl AnyPast {
    fn to_past(self) -> (Past, Option<bool>) {
        match self {
            Self::Unknown => (Past::Unknown, None),
            Self::Blank => (Past::Blank, None),
            Self::Unnamed => (Past::Unnamed, None),
            Self::Begun(cluster, knows) => (Past::Begun(ClusterIdentity::new(cluster)), knows),
            Self::Of(cluster, knows) => (Past::Of(ClusterIdentity::new(cluster)), knows),
        }
    }
}

impl AnyAnswer {
    fn to_refusal(&self) -> Refusal {
        let (kind, number) = match *self {
            Self::Version(min, max) => return Refusal::Version { min, max },
            Self::Other { kind, number } => (kind, number),
            Self::Welcome(..) | Self::Ours(_) | Self::Payload(_) => return Refusal::NotAHello,
        };
        match kind % 10 {
            0 => Refusal::NotAHello,
            1 => Refusal::Cluster { cluster: ClusterId::new(number) },
            2 => Refusal::NotMe { node: NodeId::new(number) },
            3 => Refusal::UnknownPeer,
            4 => Refusal::Itself { node: NodeId::new(number) },
            5 => Refusal::Duplicate { store_id: StoreId::new(number) },
            6 => Refusal::OtherStore { node: NodeId::new(number) },
            7 => Refusal::LongMessages {
                from: NodeId::new(number),
                sends: number,
                to: ME.node,
                takes: number / 2,
            },
            8 => Refusal::Certificate { node: NodeId::new(number) },
            // Codes below are those of the others.
            _ => Refusal::Other { code: number.max(11) },
        }
    }
}
