//! How the handshake's messages are written as bytes, and read again.

use std::string::String;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use bytes::Bytes;
use minicbor::{Decoder, Encoder};

use super::messages::{Answer, Hello, Welcome};
use super::refusals::{HandshakeError, Refusal};
use super::{SAID_NOTE_BYTES_MAX, VERSION_OLDEST};
use crate::codec::{self, DecodeError};
use crate::host::identity::{ClusterId, Past, StoreId};
use crate::host::timeouts::Timeouts;
use crate::host::versions::Versions;
use crate::host::wire::label::ADDRESS_BYTES_MAX;
use crate::identity::ClusterIdentity;
use crate::time::micros;
use crate::types::{Index, LogId, NodeId, Term};

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
const CERTIFICATE: u64 = 10;

/// An unsaid past. It is encoded only if a later field follows.
const UNKNOWN: u64 = 0;
const BLANK: u64 = 1;
const UNNAMED: u64 = 2;
const BEGUN: u64 = 3;
const OF: u64 = 4;

/// The length of messages of a node that does not say it. It is encoded only if a later field
/// follows.
const UNSAID_LENGTH: u64 = 0;

/// The timeouts of a node that does not say them. They are encoded only if a later field follows.
const UNSAID_TIMEOUTS: [u64; 3] = [0; 3];

/// The fields of a past that a node does not say.
const UNSAID: Said = [UNKNOWN, 0, 0, 0];

/// The number of fields in which a node says its past: a kind, the two halves of an identity, and
/// whether the node knows the other node.
const SAID_FIELDS: usize = 4;

impl Hello {
    /// Appends the frame's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self { version_min, version_max, cluster, from, to, store_id, address, .. } = self;
        let cluster = cluster.get();
        let store_id = store_id.get();
        let (min, max) = ((*version_min).into(), (*version_max).into());
        let numbers = [min, max, cluster, from.get(), to.get(), store_id];
        let mut said = said(self.past, self.knows_you);
        // A field is found by its place, so all fields before the last are encoded, if only as
        // nothing.
        let last = self.last_fields();
        if !last.is_empty() {
            said = said.or(Some(UNSAID));
        }
        let is_noted = !self.note.is_empty() || !last.is_empty();
        let note = if said.is_some() && is_noted { Some(&self.note[..]) } else { None };
        encode(out, &numbers, Some(address), said, note, &last);
    }

    /// The fields behind the note. What is unsaid is encoded only if later fields follow.
    fn last_fields(&self) -> Vec<u64> {
        let length = self.sends_bytes_max.unwrap_or(UNSAID_LENGTH);
        let Versions { oldest, newest } = self.versions.unwrap_or_default();
        let mut fields = vec![length, oldest.into(), newest.into()];
        let later = named_and_timeouts(self.named_at, self.timeouts);
        if later.is_empty() {
            fields.truncate(match (self.sends_bytes_max, self.versions) {
                (_, Some(_)) => 3,
                (Some(_), None) => 1,
                (None, None) => 0,
            });
        }
        fields.extend(later);
        fields
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
            store_id: StoreId::new(fields.number()?),
            address: fields.address()?,
            past: Past::Unknown,
            knows_you: None,
            note: Bytes::new(),
            sends_bytes_max: None,
            versions: None,
            named_at: None,
            timeouts: None,
        };
        let hello = if fields.left < SAID_FIELDS as u64 {
            hello
        } else {
            let (past, knows_you) = fields.said()?;
            let note = fields.note()?;
            let sends_bytes_max = fields.if_more(Fields::number)?;
            let sends_bytes_max = sends_bytes_max.filter(|length| *length != UNSAID_LENGTH);
            let versions = fields.if_more(Fields::versions)?;
            let (named_at, timeouts) = fields.named_and_timeouts()?;
            Self { past, knows_you, note, sends_bytes_max, versions, named_at, timeouts, ..hello }
        };
        fields.close()?;
        Ok(hello)
    }
}

impl Answer {
    /// Appends the frame's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Welcome(Welcome { version, store_id: None, .. }) => {
                encode_numbers(out, &[WELCOME, version.into()]);
            }
            Self::Welcome(welcome @ Welcome { version, store_id: Some(store_id), .. }) => {
                let Welcome { past, knows_you, named_at, timeouts, .. } = welcome;
                let numbers = [WELCOME, version.into(), store_id.get()];
                let last = named_and_timeouts(named_at, timeouts);
                let said = said(past, knows_you).or((!last.is_empty()).then_some(UNSAID));
                encode(out, &numbers, None, said, None, &last);
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
                Refusal::Duplicate { store_id } => {
                    encode_numbers(out, &[REFUSED, DUPLICATE, store_id.get()]);
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
                Refusal::Certificate { node } => {
                    encode_numbers(out, &[REFUSED, CERTIFICATE, node.get()]);
                }
                Refusal::Other { code } => encode_numbers(out, &[REFUSED, code]),
            },
        }
    }

    /// What the answer means to the dialer.
    ///
    /// # Errors
    ///
    /// The acceptor refused the dialer, or what answered is no node.
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
                let store_id = fields.if_more(Fields::number)?.map(StoreId::new);
                let says_more = fields.left >= SAID_FIELDS as u64;
                let (past, knows_you) = fields.said()?;
                let (named_at, timeouts) =
                    if says_more { fields.named_and_timeouts()? } else { (None, None) };
                Self::Welcome(Welcome { version, store_id, past, knows_you, named_at, timeouts })
            }
            REFUSED => Self::Refused(match fields.number()? {
                NOT_A_HELLO => Refusal::NotAHello,
                VERSION => Refusal::Version { min: fields.version()?, max: fields.version()? },
                CLUSTER => Refusal::Cluster { cluster: ClusterId::new(fields.number()?) },
                NOT_ME => Refusal::NotMe { node: NodeId::new(fields.number()?) },
                UNKNOWN_PEER => Refusal::UnknownPeer,
                ITSELF => Refusal::Itself { node: NodeId::new(fields.number()?) },
                DUPLICATE => Refusal::Duplicate { store_id: StoreId::new(fields.number()?) },
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
                CERTIFICATE => Refusal::Certificate { node: NodeId::new(fields.number()?) },
                code => Refusal::Other { code },
            }),
            kind => return Err(DecodeError::UnknownMessage { kind }),
        };
        fields.close()?;
        Ok(answer)
    }
}

type Said = [u64; SAID_FIELDS];

/// The fields in which a node says its past; none if it says none.
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

/// The last fields: the entry that names the node, and its timeouts. An entry that is unsaid is
/// encoded only if the timeouts follow, as [`LogId::ZERO`]: a node of an older version takes it for
/// an entry that every log holds.
fn named_and_timeouts(named_at: Option<LogId>, timeouts: Option<Timeouts>) -> Vec<u64> {
    if named_at.is_none() && timeouts.is_none() {
        return Vec::new();
    }
    let LogId { term, index } = named_at.unwrap_or(LogId::ZERO);
    let mut fields = vec![term.get(), index.get()];
    if let Some(timeouts) = timeouts {
        let Timeouts { election_timeout_min, election_timeout_max, heartbeat_interval } = timeouts;
        fields.extend([election_timeout_min, election_timeout_max, heartbeat_interval].map(micros));
    }
    fields
}

fn halves(cluster: ClusterIdentity) -> [u64; 2] {
    [(cluster.get() >> 64) as u64, cluster.get() as u64]
}

fn encode_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    encode(out, numbers, None, None, None, &[]);
}

fn encode(
    out: &mut Vec<u8>,
    numbers: &[u64],
    address: Option<&str>,
    said: Option<Said>,
    note: Option<&[u8]>,
    last: &[u64],
) {
    out.extend_from_slice(MAGIC);
    let said = said.as_ref().map_or(&[][..], |said| &said[..]);
    let present = usize::from(address.is_some()) + usize::from(note.is_some());
    let fields = numbers.len() + said.len() + present + last.len();
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
        last.iter().try_fold(encoder, |encoder, number| encoder.u64(*number)).map(drop)
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

    fn log_id(&mut self) -> Result<LogId, DecodeError> {
        Ok(LogId::new(Term::new(self.number()?), Index::new(self.number()?)))
    }

    /// The last fields, which older versions do not send.
    fn named_and_timeouts(&mut self) -> Result<(Option<LogId>, Option<Timeouts>), DecodeError> {
        let named_at = self.if_more(Self::log_id)?.filter(|at| *at != LogId::ZERO);
        Ok((named_at, self.if_more(Self::timeouts)?.flatten()))
    }

    fn timeouts(&mut self) -> Result<Option<Timeouts>, DecodeError> {
        let numbers = [self.number()?, self.number()?, self.number()?];
        let [election_timeout_min, election_timeout_max, heartbeat_interval] =
            numbers.map(Duration::from_micros);
        let said = Timeouts { election_timeout_min, election_timeout_max, heartbeat_interval };
        Ok((numbers != UNSAID_TIMEOUTS).then_some(said))
    }

    /// Those of an application, from the oldest to the newest.
    fn versions(&mut self) -> Result<Versions, DecodeError> {
        let offset = self.decoder.position();
        let numbers = [self.number()?, self.number()?];
        match numbers.map(u32::try_from) {
            [Ok(oldest), Ok(newest)] => Ok(Versions { oldest, newest }),
            _ => Err(DecodeError::Malformed { offset }),
        }
    }

    fn version(&mut self) -> Result<u16, DecodeError> {
        let offset = self.decoder.position();
        u16::try_from(self.number()?).map_err(|_| DecodeError::Malformed { offset })
    }

    /// An absent address and an empty one are the same.
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

    /// The past, which older versions do not say. A kind of past that only newer versions know
    /// counts as unknown.
    fn said(&mut self) -> Result<(Past, Option<bool>), DecodeError> {
        if self.left < SAID_FIELDS as u64 {
            return Ok((Past::Unknown, None));
        }
        let kind = self.number()?;
        let cluster = self.identity()?;
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

    /// Reads a field that older versions do not send.
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
