//! The handshake: what two nodes say before the first message, so that only the right ones talk.
//!
//! ```text
//! dialer                                     acceptor
//!   │ ── Hello: versions, cluster, from, to, ──► │  is it for me, from a peer of mine,
//!   │           incarnation                      │  in a version that I know?
//!   │ ◄── Welcome: version ───────────────────── │  yes: messages follow, from dialer to acceptor
//!   │ ◄── Refused: reason ────────────────────── │  no: both close
//! ```
//!
//! Each is the payload of one frame of at most [`HANDSHAKE_BYTES_MAX`]: eight bytes that name the protocol, then a CBOR array by the
//! rules of [`codec`], so that later versions can add to it. Nothing here does I/O.

use std::error::Error;
use std::fmt;
use std::vec::Vec;

use minicbor::{Decoder, Encoder};

use super::identity::{ClusterId, Identity, Incarnation};
use crate::codec::{self, DecodeError};
use crate::types::NodeId;

/// The most bytes in the payload of a handshake frame. Today's take less than half.
pub const HANDSHAKE_BYTES_MAX: usize = 128;

/// The oldest version of the protocol that this one still speaks; the newest is [`codec::VERSION`].
pub const VERSION_OLDEST: u16 = 1;

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

/// What a dialer says first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

impl Hello {
    /// What `me` says to `to`.
    pub fn new(me: &Identity, to: NodeId) -> Self {
        let Identity { cluster, node, incarnation } = *me;
        let (version_min, version_max) = (VERSION_OLDEST, codec::VERSION);
        Self { version_min, version_max, cluster, from: node, to, incarnation }
    }

    /// Appends the frame's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self { version_min, version_max, cluster, from, to, incarnation } = *self;
        let (cluster, incarnation) = (cluster.get(), incarnation.get());
        let (min, max) = (version_min.into(), version_max.into());
        encode(out, &[min, max, cluster, from.get(), to.get(), incarnation]);
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
        };
        fields.close()?;
        Ok(hello)
    }

    /// Whether `me` lets the dialer in, and the version to speak. What only shows when it is compared with the connections that
    /// exist, [`Refusal::Duplicate`], is left to the caller.
    ///
    /// # Errors
    ///
    /// The reason against it, to be answered and logged.
    pub fn check(&self, me: &Identity, is_peer: impl Fn(NodeId) -> bool) -> Result<u16, Refusal> {
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
        if !is_peer(self.from) {
            return Err(Refusal::UnknownPeer);
        }
        Ok(version)
    }
}

/// What an acceptor answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Messages may follow.
    Welcome {
        /// The version to speak.
        version: u16,
    },
    /// The connection is about to be closed.
    Refused(Refusal),
}

impl Answer {
    /// Appends the frame's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Welcome { version } => encode(out, &[WELCOME, version.into()]),
            Self::Refused(refusal) => match refusal {
                Refusal::NotAHello => encode(out, &[REFUSED, NOT_A_HELLO]),
                Refusal::Version { min, max } => {
                    encode(out, &[REFUSED, VERSION, min.into(), max.into()]);
                }
                Refusal::Cluster { cluster } => encode(out, &[REFUSED, CLUSTER, cluster.get()]),
                Refusal::NotMe { node } => encode(out, &[REFUSED, NOT_ME, node.get()]),
                Refusal::UnknownPeer => encode(out, &[REFUSED, UNKNOWN_PEER]),
                Refusal::Itself { node } => encode(out, &[REFUSED, ITSELF, node.get()]),
                Refusal::Duplicate { incarnation } => {
                    encode(out, &[REFUSED, DUPLICATE, incarnation.get()]);
                }
                Refusal::Other { code } => encode(out, &[REFUSED, code]),
            },
        }
    }

    /// What the frame's payload means to the dialer: the version to speak.
    ///
    /// # Errors
    ///
    /// It was refused, or no node answered.
    pub fn conclude(payload: &[u8]) -> Result<u16, HandshakeError> {
        match Self::read(payload).map_err(|_| HandshakeError::NotAnAnswer)? {
            Self::Welcome { version } if (VERSION_OLDEST..=codec::VERSION).contains(&version) => {
                Ok(version)
            }
            Self::Welcome { .. } => Err(HandshakeError::NotAnAnswer),
            Self::Refused(refusal) => Err(HandshakeError::Refused(refusal)),
        }
    }

    fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::open(payload)?;
        let answer = match fields.number()? {
            WELCOME => Self::Welcome { version: fields.version()? },
            REFUSED => Self::Refused(match fields.number()? {
                NOT_A_HELLO => Refusal::NotAHello,
                VERSION => Refusal::Version { min: fields.version()?, max: fields.version()? },
                CLUSTER => Refusal::Cluster { cluster: ClusterId::new(fields.number()?) },
                NOT_ME => Refusal::NotMe { node: NodeId::new(fields.number()?) },
                UNKNOWN_PEER => Refusal::UnknownPeer,
                ITSELF => Refusal::Itself { node: NodeId::new(fields.number()?) },
                DUPLICATE => Refusal::Duplicate { incarnation: Incarnation::new(fields.number()?) },
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
    /// The acceptor does not know the dialer.
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
                "the dialer is not among the acceptor's peers: add it there, or correct its node id",
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

fn encode(out: &mut Vec<u8>, numbers: &[u64]) {
    out.extend_from_slice(MAGIC);
    let mut encoder = Encoder::new(out);
    let written = encoder.array(numbers.len() as u64).and_then(|encoder| {
        numbers.iter().try_fold(encoder, |encoder, number| encoder.u64(*number))
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

    fn hello() -> Hello {
        let peer = Identity { node: NodeId::new(2), incarnation: Incarnation::new(0xdef), ..ME };
        Hello::new(&peer, ME.node)
    }

    fn check(hello: Hello) -> Result<u16, Refusal> {
        hello.check(&ME, |node| node == NodeId::new(2))
    }

    fn payload(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out);
        assert!(out.len() <= HANDSHAKE_BYTES_MAX / 2);
        out
    }

    #[test]
    fn a_peer_is_welcome() {
        let version = check(Hello::decode(&payload(|out| hello().encode(out))).unwrap()).unwrap();
        assert_eq!(version, codec::VERSION);
        let answer = payload(|out| Answer::Welcome { version }.encode(out));
        assert_eq!(Answer::conclude(&answer), Ok(version));
    }

    #[test]
    fn the_layout_is_fixed() {
        let expected = b"raftpeer\x86\x01\x01\x18\x4d\x02\x01\x19\x0d\xef";
        assert_eq!(payload(|out| hello().encode(out)), expected);
        let welcome = Answer::Welcome { version: 1 };
        assert_eq!(payload(|out| welcome.encode(out)), b"raftpeer\x82\x00\x01");
        let refused = Answer::Refused(Refusal::NotMe { node: ME.node });
        assert_eq!(payload(|out| refused.encode(out)), b"raftpeer\x83\x01\x03\x01");
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
    fn one_who_is_not_a_peer_is_refused() {
        assert_eq!(check(Hello { from: NodeId::new(9), ..hello() }), Err(Refusal::UnknownPeer));
    }

    #[test]
    fn one_with_the_same_id_is_refused() {
        let refused = Err(Refusal::Itself { node: ME.node });
        assert_eq!(check(Hello { from: ME.node, ..hello() }), refused);
        assert_eq!(check(Hello::new(&ME, NodeId::new(2))), refused, "an address that leads back");
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
        let answer = payload(|out| Answer::Welcome { version: codec::VERSION + 1 }.encode(out));
        assert_eq!(Answer::conclude(&answer), Err(HandshakeError::NotAnAnswer));
    }

    #[test]
    fn a_newer_node_may_say_more() {
        let newer = b"raftpeer\x87\x01\x02\x18\x4d\x02\x01\x19\x0d\xef\x63new";
        let expected = Hello { version_max: 2, ..hello() };
        assert_eq!(Hello::decode(newer), Ok(expected));
        assert_eq!(Answer::conclude(b"raftpeer\x83\x00\x01\x09"), Ok(1));
    }
}
