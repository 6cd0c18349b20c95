//! The handshake: what two nodes say before the first message, so that only the right ones talk.
//!
//! ```text
//! dialer                                     acceptor
//!   │ ── Hello: versions, cluster, from, to, ──► │  is it for me, from my cluster, with the store that the
//!   │           incarnation, address             │  cluster knows, in a version that I know?
//!   │ ◄── Welcome: version, incarnation ──────── │  yes: messages follow, from dialer to acceptor
//!   │ ◄── Refused: reason ────────────────────── │  no: both close
//! ```
//!
//! Both sides also say what their stores hold, and whether they know each other as members: an
//! [`Introduction`]. The host judges it, the same on every transport.
//!
//! The dialer also says how long its messages are at most, because a message that the acceptor
//! does not take would be lost each time it is sent, and nothing behind it would ever commit. An
//! acceptor that takes less refuses the dialer: [`Refusal::LongMessages`].
//!
//! The address is where the dialer itself is reached, so that one who does not know it yet can answer: a configuration reaches its
//! members one by one, and §6 wants requests to be heard whoever sends them.
//!
//! Each is the payload of one frame of at most [`HANDSHAKE_BYTES_MAX`]: eight bytes that name the protocol, then a CBOR array by the
//! rules of [`codec`], so that later versions can add to it. Nothing here does I/O.

use std::error::Error;
use std::fmt;
use std::string::String;
use std::vec::Vec;

use bytes::Bytes;
use minicbor::{Decoder, Encoder};

use super::label::ADDRESS_BYTES_MAX;
use crate::codec::{self, DecodeError};
use crate::host::identity::{ClusterId, Identity, Incarnation, Introduction, Past};
use crate::identity::ClusterIdentity;
use crate::types::NodeId;

/// The most bytes in the payload of a handshake frame. Most of it is the longest address and the
/// longest note.
pub const HANDSHAKE_BYTES_MAX: usize = 640;

/// The oldest version of the protocol that this one still speaks; the newest is [`codec::VERSION`].
pub const VERSION_OLDEST: u16 = 1;

/// The longest note of a node that a [`Hello`] carries, in bytes.
pub const SAID_NOTE_BYTES_MAX: usize = 260;

const MAGIC: &[u8; 8] = b"raftpeer";

const WELCOME: u64 = 0;
const REFUSED: u64 = 1;

const NOT_A_HELLO: u64 = 0;
const VERSION: u64 = 1;
const CLUSTER: u64 = 2;
const NOT_ME: u64 = 3;
const UNKNOWN_PEER: u64 = 4;
const ITSELF: u64 = 5;
const DUPLICATE: u64 = 6;
const OTHER_STORE: u64 = 7;
const OTHER_HISTORY: u64 = 8;
const LONG_MESSAGES: u64 = 9;

/// A past that is not said, though something behind it is.
const UNKNOWN: u64 = 0;
const BLANK: u64 = 1;
const UNNAMED: u64 = 2;
const BEGUN: u64 = 3;
const OF: u64 = 4;

/// What a node says of its past: a kind and the two halves of an identity, and whether it knows the
/// other node.
const SAID_FIELDS: usize = 4;

/// What a dialer says first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The oldest version that it speaks.
    pub version_min: u16,
    /// The newest.
    pub version_max: u16,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Who it is.
    pub from: NodeId,
    /// Whom it believes to have reached.
    pub to: NodeId,
    /// Its journal.
    pub incarnation: Incarnation,
    /// Where it is reached; empty if it does not say. At most [`ADDRESS_BYTES_MAX`].
    pub address: String,
    /// What its store holds.
    pub past: Past,
    /// Whether it knows the acceptor as a member, if it says.
    pub knows_you: Option<bool>,
    /// What its application says of it. At most [`SAID_NOTE_BYTES_MAX`].
    pub note: Bytes,
    /// The longest [`Message::size`](crate::Message::size) that it sends, in bytes, if it says.
    pub sends_bytes_max: Option<u64>,
}

impl Hello {
    /// What `me` says to `to`; others reach it at `address`. It says nothing of its past.
    pub fn new(me: &Identity, to: NodeId, address: impl Into<String>) -> Self {
        let Identity { cluster, node, incarnation } = *me;
        let (version_min, version_max) = (VERSION_OLDEST, codec::VERSION);
        let (address, past, knows_you, note) = (address.into(), Past::Unknown, None, Bytes::new());
        Self {
            version_min,
            version_max,
            cluster,
            from: node,
            to,
            incarnation,
            address,
            past,
            knows_you,
            note,
            sends_bytes_max: None,
        }
    }

    /// How `me` introduces itself to `to`.
    pub fn of(me: &Identity, to: NodeId, introduction: Introduction) -> Self {
        let Introduction { node: _, store: _, past, knows_you, address, note, sends_bytes_max } =
            introduction;
        let hello = Self::new(me, to, address.unwrap_or_default());
        Self { past, knows_you, note, sends_bytes_max, ..hello }
    }

    /// How the dialer introduces itself; `address` is where it is reached.
    pub fn introduction(&self, address: Option<String>) -> Introduction {
        let Self { from, incarnation, past, knows_you, ref note, sends_bytes_max, .. } = *self;
        let (node, store, note) = (from, incarnation, note.clone());
        Introduction { node, store, past, knows_you, address, note, sends_bytes_max }
    }

    /// Appends the frame's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self { version_min, version_max, cluster, from, to, incarnation, address, .. } = self;
        let (cluster, incarnation) = (cluster.get(), incarnation.get());
        let (min, max) = ((*version_min).into(), (*version_max).into());
        let numbers = [min, max, cluster, from.get(), to.get(), incarnation];
        let mut said = said(self.past, self.knows_you);
        // A field is found by its place: those before the last are there, if only as nothing.
        if self.sends_bytes_max.is_some() {
            said = said.or(Some([UNKNOWN, 0, 0, 0]));
        }
        let is_noted = !self.note.is_empty() || self.sends_bytes_max.is_some();
        let note = Some(&self.note[..]).filter(|_| said.is_some() && is_noted);
        encode(out, &numbers, Some(address), said, note, self.sends_bytes_max);
    }

    /// Reads the frame's payload.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotAHello`], to be answered.
    pub fn decode(payload: &[u8]) -> Result<Self, Refusal> {
        Self::read(payload).map_err(|_| Refusal::NotAHello)
    }

    fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(payload)?;
        let hello = Self {
            version_min: fields.version()?,
            version_max: fields.version()?,
            cluster: ClusterId::new(fields.number()?),
            from: NodeId::new(fields.number()?),
            to: NodeId::new(fields.number()?),
            incarnation: Incarnation::new(fields.number()?),
            address: fields.address()?,
            past: Past::Unknown,
            knows_you: None,
            note: Bytes::new(),
            sends_bytes_max: None,
        };
        let hello = if fields.left < SAID_FIELDS as u64 {
            hello
        } else {
            let (past, knows_you) = fields.said()?;
            let note = fields.note()?;
            let sends_bytes_max = fields.if_more(Fields::number)?;
            Self { past, knows_you, note, sends_bytes_max, ..hello }
        };
        fields.close()?;
        Ok(hello)
    }

    /// Whether `me` lets the dialer in, and the version to speak. `stores` are those of the members, as far as the cluster knows
    /// them. What only shows when it is compared with the connections that exist, [`Refusal::Duplicate`] and
    /// [`Refusal::UnknownPeer`], is left to the caller.
    ///
    /// # Errors
    ///
    /// The reason against it, to be answered and logged.
    pub fn check(
        &self,
        me: &Identity,
        stores: impl Fn(NodeId) -> Option<Incarnation>,
    ) -> Result<u16, Refusal> {
        let version = self.version_max.min(codec::VERSION);
        if version < self.version_min || version < VERSION_OLDEST {
            return Err(Refusal::Version { min: VERSION_OLDEST, max: codec::VERSION });
        }
        if self.cluster != me.cluster {
            return Err(Refusal::Cluster { cluster: me.cluster });
        }
        if self.from == me.node {
            return Err(Refusal::Itself { node: me.node });
        }
        if self.to != me.node {
            return Err(Refusal::NotMe { node: me.node });
        }
        if stores(self.from).is_some_and(|known| known != self.incarnation) {
            return Err(Refusal::OtherStore { node: self.from });
        }
        Ok(version)
    }
}

/// Messages may follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The version to speak.
    pub version: u16,
    /// The acceptor's journal, if it says.
    pub incarnation: Option<Incarnation>,
    /// What the acceptor's store holds.
    pub past: Past,
    /// Whether the acceptor knows the dialer as a member, if it says.
    pub knows_you: Option<bool>,
}

impl Welcome {
    /// How the acceptor introduces itself, which is that node; none if it does not say which store
    /// it has.
    pub fn introduction(&self, node: NodeId) -> Option<Introduction> {
        let Self { version: _, incarnation, past, knows_you } = *self;
        let (address, note, sends_bytes_max) = (None, Bytes::new(), None);
        let store = incarnation?;
        Some(Introduction { node, store, past, knows_you, address, note, sends_bytes_max })
    }
}

/// What an acceptor answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Messages may follow.
    Welcome(Welcome),
    /// The connection is about to be closed.
    Refused(Refusal),
}

impl Answer {
    /// Appends the frame's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Welcome(Welcome { version, incarnation: None, .. }) => {
                encode_numbers(out, &[WELCOME, version.into()]);
            }
            Self::Welcome(Welcome { version, incarnation: Some(incarnation), past, knows_you }) => {
                let numbers = [WELCOME, version.into(), incarnation.get()];
                encode(out, &numbers, None, said(past, knows_you), None, None);
            }
            Self::Refused(refusal) => match refusal {
                Refusal::NotAHello => encode_numbers(out, &[REFUSED, NOT_A_HELLO]),
                Refusal::Version { min, max } => {
                    encode_numbers(out, &[REFUSED, VERSION, min.into(), max.into()]);
                }
                Refusal::Cluster { cluster } => {
                    encode_numbers(out, &[REFUSED, CLUSTER, cluster.get()]);
                }
                Refusal::NotMe { node } => {
                    encode_numbers(out, &[REFUSED, NOT_ME, node.get()]);
                }
                Refusal::UnknownPeer => encode_numbers(out, &[REFUSED, UNKNOWN_PEER]),
                Refusal::Itself { node } => {
                    encode_numbers(out, &[REFUSED, ITSELF, node.get()]);
                }
                Refusal::Duplicate { incarnation } => {
                    encode_numbers(out, &[REFUSED, DUPLICATE, incarnation.get()]);
                }
                Refusal::OtherStore { node } => {
                    encode_numbers(out, &[REFUSED, OTHER_STORE, node.get()]);
                }
                Refusal::OtherHistory { node, cluster, its } => {
                    let [high, low] = halves(cluster);
                    let numbers = [REFUSED, OTHER_HISTORY, node.get(), high, low];
                    match its.map(halves) {
                        Some(its) => encode_numbers(out, &[&numbers[..], &its].concat()),
                        None => encode_numbers(out, &numbers),
                    }
                }
                Refusal::LongMessages { from, sends, to, takes } => {
                    let numbers = [REFUSED, LONG_MESSAGES, from.get(), sends, to.get(), takes];
                    encode_numbers(out, &numbers);
                }
                Refusal::Other { code } => encode_numbers(out, &[REFUSED, code]),
            },
        }
    }

    /// What the frame's payload means to the dialer.
    ///
    /// # Errors
    ///
    /// It was refused, or no node answered.
    pub fn conclude(payload: &[u8]) -> Result<Welcome, HandshakeError> {
        let is_known = |version| (VERSION_OLDEST..=codec::VERSION).contains(&version);
        match Self::read(payload).map_err(|_| HandshakeError::NotAnAnswer)? {
            Self::Welcome(welcome) if is_known(welcome.version) => Ok(welcome),
            Self::Welcome(_) => Err(HandshakeError::NotAnAnswer),
            Self::Refused(refusal) => Err(HandshakeError::Refused(refusal)),
        }
    }

    fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(payload)?;
        let answer = match fields.number()? {
            WELCOME => {
                let version = fields.version()?;
                let incarnation = fields.if_more(Fields::number)?.map(Incarnation::new);
                let (past, knows_you) = fields.said()?;
                Self::Welcome(Welcome { version, incarnation, past, knows_you })
            }
            REFUSED => Self::Refused(match fields.number()? {
                NOT_A_HELLO => Refusal::NotAHello,
                VERSION => Refusal::Version { min: fields.version()?, max: fields.version()? },
                CLUSTER => Refusal::Cluster { cluster: ClusterId::new(fields.number()?) },
                NOT_ME => Refusal::NotMe { node: NodeId::new(fields.number()?) },
                UNKNOWN_PEER => Refusal::UnknownPeer,
                ITSELF => Refusal::Itself { node: NodeId::new(fields.number()?) },
                DUPLICATE => Refusal::Duplicate { incarnation: Incarnation::new(fields.number()?) },
                OTHER_STORE => Refusal::OtherStore { node: NodeId::new(fields.number()?) },
                OTHER_HISTORY => Refusal::OtherHistory {
                    node: NodeId::new(fields.number()?),
                    cluster: fields.identity()?,
                    its: fields.if_more(Fields::identity)?,
                },
                LONG_MESSAGES => Refusal::LongMessages {
                    from: NodeId::new(fields.number()?),
                    sends: fields.number()?,
                    to: NodeId::new(fields.number()?),
                    takes: fields.number()?,
                },
                code => Refusal::Other { code },
            }),
            kind => return Err(DecodeError::UnknownMessage { kind }),
        };
        fields.close()?;
        Ok(answer)
    }
}

/// Why an acceptor does not let a dialer in. The text says what to do about it, in words that hold on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// What came first was not a [`Hello`].
    NotAHello,
    /// No version is known to both.
    Version {
        /// The oldest that the acceptor speaks.
        min: u16,
        /// The newest.
        max: u16,
    },
    /// The dialer belongs to another cluster.
    Cluster {
        /// The acceptor's.
        cluster: ClusterId,
    },
    /// The dialer looks for another node.
    NotMe {
        /// Who the acceptor is.
        node: NodeId,
    },
    /// The dialer is no member of the cluster as the acceptor knows it, and as many such as it allows are connected.
    UnknownPeer,
    /// The dialer has the acceptor's own id.
    Itself {
        /// The id.
        node: NodeId,
    },
    /// Another node with the dialer's id, but with another journal, is connected.
    Duplicate {
        /// The other one's journal.
        incarnation: Incarnation,
    },
    /// The dialer has the id of a member, but not its memory.
    OtherStore {
        /// The id.
        node: NodeId,
    },
    /// The store of a node holds the history of another cluster.
    OtherHistory {
        /// The node.
        node: NodeId,
        /// The cluster of the node that refuses it.
        cluster: ClusterIdentity,
        /// The other cluster, if it has an identity.
        its: Option<ClusterIdentity>,
    },
    /// The dialer may send a message that the acceptor does not take. Such a message would be lost
    /// each time it is sent, and nothing behind it would ever commit.
    LongMessages {
        /// The dialer.
        from: NodeId,
        /// The longest [`Message::size`](crate::Message::size) that the dialer sends, in bytes.
        sends: u64,
        /// The acceptor.
        to: NodeId,
        /// The longest that the acceptor takes, in bytes.
        takes: u64,
    },
    /// A reason that only newer versions know.
    Other {
        /// Its number.
        code: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAHello => f.write_str(
                "the dialer does not speak the protocol of Raft nodes: check which program uses this address",
            ),
            Self::Version { min, max } => write!(
                f,
                "the acceptor speaks versions {min} to {max} of the protocol and the dialer none of them: \
                 upgrade the older node"
            ),
            Self::Cluster { cluster } => write!(
                f,
                "the acceptor belongs to cluster {cluster} and the dialer to another: check the cluster ids \
                 and the addresses of the peers"
            ),
            Self::NotMe { node } => write!(
                f,
                "the acceptor is node {node}, not the one that the dialer looks for: correct the address in \
                 the dialer's list of peers"
            ),
            Self::UnknownPeer => f.write_str(
                "the dialer is no member of the cluster, and too many such are connected: add it to the cluster, \
                 correct its node id, or stop the others",
            ),
            Self::Itself { node } => write!(
                f,
                "the dialer has the acceptor's own id {node}: two nodes have the same id, or an address in \
                 the list of peers leads back to the node itself"
            ),
            Self::Duplicate { incarnation } => write!(
                f,
                "a node with the dialer's id and journal {incarnation} is connected: stop one of the two, or \
                 wait until its connection is gone if it was replaced"
            ),
            Self::OtherStore { node } => other_store(f, *node),
            Self::OtherHistory { node, cluster, its } => {
                write!(f, "node {node}'s store holds the history of ")?;
                match its {
                    Some(its) => write!(f, "cluster {its}")?,
                    None => f.write_str("a cluster without an identity")?,
                }
                write!(
                    f,
                    ", and the node that refuses it belongs to cluster {cluster}: correct the addresses of the peers, or empty the \
                     store of the server that is in the wrong cluster before it is added as a learner"
                )
            }
            Self::LongMessages { from, sends, to, takes } => write!(
                f,
                "node {from} may send messages of {sends} bytes and node {to} takes {takes}: raise \
                 frame_bytes_max on node {to} by {} at least, or lower append_bytes_max or \
                 snapshot_chunk_bytes on node {from}, whichever is above {takes}",
                sends.saturating_sub(*takes)
            ),
            Self::Other { code } => {
                write!(f, "the acceptor gives reason {code}, which only newer versions know: see its log")
            }
        }
    }
}

/// Why a dialer was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The acceptor said no.
    Refused(Refusal),
    /// What came back is no [`Answer`] to what was asked.
    NotAnAnswer,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::NotAnAnswer => f.write_str(
                "the answer is not that of a Raft node: check the peer's address and which program uses it",
            ),
        }
    }
}

impl Error for HandshakeError {}

/// What to do about a member that has lost its memory, in words that hold on both sides.
pub(in crate::host) fn other_store(f: &mut fmt::Formatter<'_>, node: NodeId) -> fmt::Result {
    write!(
        f,
        "node {node}'s store is not the one that the cluster knows: its disk was wiped or replaced; remove node {node} from \
         the cluster and add it again as a learner"
    )
}

type Said = [u64; SAID_FIELDS];

/// What a node says of its past; nothing, if it says none.
fn said(past: Past, knows_you: Option<bool>) -> Option<Said> {
    let (kind, [high, low]) = match past {
        Past::Unknown => return None,
        Past::Blank => (BLANK, [0, 0]),
        Past::Unnamed => (UNNAMED, [0, 0]),
        Past::Begun(cluster) => (BEGUN, halves(cluster)),
        Past::Of(cluster) => (OF, halves(cluster)),
    };
    let knows_you = match knows_you {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    };
    Some([kind, high, low, knows_you])
}

fn halves(cluster: ClusterIdentity) -> [u64; 2] {
    [(cluster.get() >> 64) as u64, cluster.get() as u64]
}

fn encode_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    encode(out, numbers, None, None, None, None);
}

fn encode(
    out: &mut Vec<u8>,
    numbers: &[u64],
    address: Option<&str>,
    said: Option<Said>,
    note: Option<&[u8]>,
    last: Option<u64>,
) {
    out.extend_from_slice(MAGIC);
    let said = said.as_ref().map_or(&[][..], |said| &said[..]);
    let present = [address.is_some(), note.is_some(), last.is_some()].map(usize::from);
    let fields = numbers.len() + said.len() + present.iter().sum::<usize>();
    let mut encoder = Encoder::new(out);
    let written = encoder.array(fields as u64).and_then(|encoder| {
        let encoder = numbers.iter().try_fold(encoder, |encoder, number| encoder.u64(*number))?;
        let encoder = match address {
            Some(address) => encoder.str(address)?,
            None => encoder,
        };
        let encoder = said.iter().try_fold(encoder, |encoder, number| encoder.u64(*number))?;
        let encoder = match note {
            Some(note) => encoder.bytes(note)?,
            None => encoder,
        };
        last.map_or(Ok(()), |last| encoder.u64(last).map(drop))
    });
    written.expect("a vector takes all bytes");
}

/// Reads the numbers of a handshake one by one.
struct Fields<'b> {
    decoder: Decoder<'b>,
    left: u64,
}

impl<'b> Fields<'b> {
    fn open(payload: &'b [u8]) -> Result<Self, DecodeError> {
        let not_ours = DecodeError::Malformed { offset: 0 };
        let mut decoder = Decoder::new(payload.strip_prefix(MAGIC).ok_or(not_ours)?);
        let left = codec::open(&mut decoder, 0)?;
        Ok(Self { decoder, left })
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        self.left = self.left.checked_sub(1).ok_or(DecodeError::Truncated)?;
        Ok(self.decoder.u64()?)
    }

    fn version(&mut self) -> Result<u16, DecodeError> {
        let offset = self.decoder.position();
        u16::try_from(self.number()?).map_err(|_| DecodeError::Malformed { offset })
    }

    /// None and an empty one are the same.
    fn address(&mut self) -> Result<String, DecodeError> {
        let offset = self.decoder.position();
        let address = self.if_more(|fields| {
            fields.left = fields.left.saturating_sub(1);
            Ok(fields.decoder.str()?)
        })?;
        match address.unwrap_or_default() {
            long if long.len() > ADDRESS_BYTES_MAX => Err(DecodeError::Malformed { offset }),
            address => Ok(address.into()),
        }
    }

    fn identity(&mut self) -> Result<ClusterIdentity, DecodeError> {
        let [high, low] = [self.number()?, self.number()?].map(u128::from);
        Ok(ClusterIdentity::new(high << 64 | low))
    }

    /// What older versions do not say. A kind of past that only newer versions know counts as
    /// unknown.
    fn said(&mut self) -> Result<(Past, Option<bool>), DecodeError> {
        if self.left < SAID_FIELDS as u64 {
            return Ok((Past::Unknown, None));
        }
        let (kind, cluster) = (self.number()?, self.identity()?);
        let past = match kind {
            BLANK => Past::Blank,
            UNNAMED => Past::Unnamed,
            BEGUN => Past::Begun(cluster),
            OF => Past::Of(cluster),
            _ => Past::Unknown,
        };
        let knows_you = match self.number()? {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        };
        Ok((past, knows_you))
    }

    fn note(&mut self) -> Result<Bytes, DecodeError> {
        let offset = self.decoder.position();
        let note = self.if_more(|fields| {
            fields.left = fields.left.saturating_sub(1);
            Ok(fields.decoder.bytes()?)
        })?;
        match note.unwrap_or_default() {
            long if long.len() > SAID_NOTE_BYTES_MAX => Err(DecodeError::Malformed { offset }),
            note => Ok(Bytes::copy_from_slice(note)),
        }
    }

    /// A field that older versions do not send.
    fn if_more<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.left == 0 { Ok(None) } else { read(self).map(Some) }
    }

    fn close(mut self) -> Result<(), DecodeError> {
        codec::close(&mut self.decoder, self.left)?;
        codec::expect_end(&self.decoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    const ME: Identity = Identity {
        cluster: ClusterId::new(77),
        node: NodeId::new(1),
        incarnation: Incarnation::new(0xabc),
    };

    const CLUSTER: ClusterIdentity = ClusterIdentity::new(0xa << 64 | 0xb);
    const OTHER: ClusterIdentity = ClusterIdentity::new(u128::MAX);

    fn hello() -> Hello {
        let peer = Identity { node: NodeId::new(2), incarnation: Incarnation::new(0xdef), ..ME };
        Hello::new(&peer, ME.node, "b:1")
    }

    fn welcome(version: u16, incarnation: Option<Incarnation>) -> Welcome {
        Welcome { version, incarnation, past: Past::Unknown, knows_you: None }
    }

    fn check(hello: Hello) -> Result<u16, Refusal> {
        hello.check(&ME, |_| None)
    }

    fn payload(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out);
        assert!(out.len() <= HANDSHAKE_BYTES_MAX);
        out
    }

    #[test]
    fn a_peer_is_welcome() {
        let version = check(Hello::decode(&payload(|out| hello().encode(out))).unwrap()).unwrap();
        assert_eq!(version, codec::VERSION);
        for incarnation in [None, Some(ME.incarnation)] {
            let welcome = welcome(version, incarnation);
            let answer = payload(|out| Answer::Welcome(welcome).encode(out));
            assert_eq!(Answer::conclude(&answer), Ok(welcome));
        }
    }

    #[test]
    fn the_layout_is_fixed() {
        let expected = b"raftpeer\x87\x01\x01\x18\x4d\x02\x01\x19\x0d\xef\x63b:1";
        assert_eq!(payload(|out| hello().encode(out)), expected);
        let incarnation = Some(Incarnation::new(9));
        let welcome = Answer::Welcome(welcome(1, incarnation));
        assert_eq!(payload(|out| welcome.encode(out)), b"raftpeer\x83\x00\x01\x09");
        let refused = Answer::Refused(Refusal::NotMe { node: ME.node });
        assert_eq!(payload(|out| refused.encode(out)), b"raftpeer\x83\x01\x03\x01");
    }

    #[test]
    fn what_a_node_says_of_its_past_is_heard() {
        for past in [Past::Blank, Past::Unnamed, Past::Begun(CLUSTER), Past::Of(OTHER)] {
            for knows_you in [None, Some(false), Some(true)] {
                let note = Bytes::from_static(b"client:1");
                let said = Hello { past, knows_you, note, ..hello() };
                assert_eq!(Hello::decode(&payload(|out| said.encode(out))), Ok(said));
                let said = Welcome { past, knows_you, ..welcome(1, Some(ME.incarnation)) };
                let answer = payload(|out| Answer::Welcome(said).encode(out));
                assert_eq!(Answer::conclude(&answer), Ok(said));
            }
        }
        let unheard = b"raftpeer\x87\x00\x01\x09\x18\x63\x01\x02\x00";
        assert_eq!(Answer::conclude(unheard), Ok(welcome(1, Some(Incarnation::new(9)))));
    }

    #[test]
    fn the_length_of_messages_is_said_behind_all_else() {
        let sends_bytes_max = Some(300);
        let said = Hello { sends_bytes_max, ..hello() };
        let expected =
            b"raftpeer\x8d\x01\x01\x18\x4d\x02\x01\x19\x0d\xef\x63b:1\0\0\0\0\x40\x19\x01\x2c";
        assert_eq!(payload(|out| said.encode(out)), expected);
        let note = Bytes::from_static(b"client:1");
        let more = Hello { past: Past::Of(CLUSTER), knows_you: Some(true), note, ..said.clone() };
        for said in [said, more] {
            assert_eq!(Hello::decode(&payload(|out| said.encode(out))), Ok(said));
        }
    }

    #[test]
    fn another_version_is_refused() {
        let versions = Refusal::Version { min: VERSION_OLDEST, max: codec::VERSION };
        let newer = codec::VERSION + 1;
        assert_eq!(
            check(Hello { version_min: newer, version_max: newer, ..hello() }),
            Err(versions)
        );
        assert_eq!(check(Hello { version_min: 0, version_max: 0, ..hello() }), Err(versions));
        assert_eq!(check(Hello { version_max: newer, ..hello() }), Ok(codec::VERSION));
    }

    #[test]
    fn another_cluster_is_refused() {
        let stranger = Hello { cluster: ClusterId::new(78), ..hello() };
        assert_eq!(check(stranger), Err(Refusal::Cluster { cluster: ME.cluster }));
    }

    #[test]
    fn one_who_looks_for_somebody_else_is_refused() {
        let lost = Hello { to: NodeId::new(3), ..hello() };
        assert_eq!(check(lost), Err(Refusal::NotMe { node: ME.node }));
    }

    #[test]
    fn a_member_with_another_store_is_refused() {
        let check = |known: u64| hello().check(&ME, |_| Some(Incarnation::new(known)));
        assert_eq!(check(0xdef), Ok(codec::VERSION));
        let node = NodeId::new(2);
        assert_eq!(check(0xdee), Err(Refusal::OtherStore { node }));
    }

    #[test]
    fn one_with_the_same_id_is_refused() {
        let refused = Err(Refusal::Itself { node: ME.node });
        assert_eq!(check(Hello { from: ME.node, ..hello() }), refused);
        assert_eq!(
            check(Hello::new(&ME, NodeId::new(2), "")),
            refused,
            "an address that leads back"
        );
    }

    #[test]
    fn what_is_not_a_hello_is_refused() {
        let mut good = payload(|out| hello().encode(out));
        for end in 0..good.len() {
            assert_eq!(Hello::decode(&good[..end]), Err(Refusal::NotAHello));
        }
        good[0] ^= 1;
        assert_eq!(Hello::decode(&good), Err(Refusal::NotAHello));
        assert_eq!(Hello::decode(b"GET / HTTP/1.1\r\n\r\n"), Err(Refusal::NotAHello));
        assert_eq!(Answer::conclude(b"HTTP/1.1 400"), Err(HandshakeError::NotAnAnswer));
    }

    #[test]
    fn every_refusal_reaches_the_dialer_with_a_text() {
        let refusals = [
            Refusal::NotAHello,
            Refusal::Version { min: 3, max: 4 },
            Refusal::Cluster { cluster: ME.cluster },
            Refusal::NotMe { node: ME.node },
            Refusal::UnknownPeer,
            Refusal::Itself { node: ME.node },
            Refusal::Duplicate { incarnation: ME.incarnation },
            Refusal::OtherStore { node: ME.node },
            Refusal::OtherHistory { node: ME.node, cluster: CLUSTER, its: None },
            Refusal::OtherHistory { node: ME.node, cluster: CLUSTER, its: Some(OTHER) },
            Refusal::LongMessages {
                from: ME.node,
                sends: u64::MAX,
                to: NodeId::new(2),
                takes: 1 << 20,
            },
            Refusal::Other { code: 99 },
        ];
        for refusal in refusals {
            let answer = payload(|out| Answer::Refused(refusal).encode(out));
            assert_eq!(Answer::conclude(&answer), Err(HandshakeError::Refused(refusal)));
            assert!(refusal.to_string().contains(": "), "{refusal}: says what to do");
        }
    }

    #[test]
    fn a_version_that_was_not_offered_is_no_answer() {
        let (version, incarnation) = (codec::VERSION + 1, None);
        let answer = payload(|out| Answer::Welcome(welcome(version, incarnation)).encode(out));
        assert_eq!(Answer::conclude(&answer), Err(HandshakeError::NotAnAnswer));
    }

    #[test]
    fn a_newer_node_may_say_more_and_an_older_one_less() {
        let newer = b"raftpeer\x88\x01\x02\x18\x4d\x02\x01\x19\x0d\xef\x63b:1\x63new";
        let expected = Hello { version_max: 2, ..hello() };
        assert_eq!(Hello::decode(newer), Ok(expected));
        let older = b"raftpeer\x86\x01\x01\x18\x4d\x02\x01\x19\x0d\xef";
        let expected = Hello { address: String::new(), ..hello() };
        assert_eq!(Hello::decode(older), Ok(expected));
        let incarnation = Some(Incarnation::new(9));
        let said = welcome(1, incarnation);
        assert_eq!(Answer::conclude(b"raftpeer\x84\x00\x01\x09\x63new"), Ok(said));
        assert_eq!(Answer::conclude(b"raftpeer\x82\x00\x01"), Ok(welcome(1, None)));
    }

    #[test]
    fn the_longest_address_fits_and_a_longer_one_is_refused() {
        let note = Bytes::from(std::vec![7; SAID_NOTE_BYTES_MAX]);
        let past = Past::Of(OTHER);
        let at = |bytes: usize| Hello {
            address: "b".repeat(bytes),
            past,
            note: note.clone(),
            sends_bytes_max: Some(u64::MAX),
            ..hello()
        };
        let longest = at(ADDRESS_BYTES_MAX);
        assert_eq!(Hello::decode(&payload(|out| longest.encode(out))), Ok(longest));
        let mut out = Vec::new();
        at(ADDRESS_BYTES_MAX + 1).encode(&mut out);
        assert_eq!(Hello::decode(&out), Err(Refusal::NotAHello));
    }
}
