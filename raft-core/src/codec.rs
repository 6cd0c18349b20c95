//! The wire format: messages as they travel between servers, writes as they lie in a journal.
//!
//! The encoding is CBOR (RFC 8949) by the crate `minicbor`: it needs neither `std` nor atomics, has
//! no build step and no schema compiler, borrows what it decodes, and each value says its own kind
//! and length, so that a reader can skip what it does not know. That last property is what lets the
//! format evolve, and what `postcard` or `bincode`, a byte or two smaller, lack. The calls are
//! written out rather than derived, because the numbers below are a promise between versions and
//! should be read in one place.
//!
//! Every structure is an array; a field's number is its position.
//!
//! ```text
//! message    = [from, to, term, kind, body]
//!   kind 0   RequestPreVote      [last_log, campaign]
//!   kind 1   RequestPreVoteReply [granted, campaign]
//!   kind 2   RequestVote         [last_log, transfer]
//!   kind 3   RequestVoteReply    [granted, last_log]
//!   kind 4   AppendEntries       [session, round, prev_log, leader_commit, entries, rank / null,
//!                                 ? election_timeout_micros / null, ? takes_proposals]
//!              the last is left out if it is false, both if there is no timeout, either
//!   kind 5   AppendEntriesReply  [session, round, result, ? promise_micros, ? state]
//!              the last is left out if there is none, both if the former is 0, too
//!   kind 6   InstallSnapshot     [session, snapshot, offset, chunk, done]
//!   kind 7   InstallSnapshotReply [session, snapshot's log id, received]
//!   kind 8   TimeoutNow          [last_log]
//!   kind 9   ReadIndex           [id]
//!   kind 10  ReadIndexReply      [id, index]
//!   kind 11  Propose             [session, round, id, commands]
//!              commands are an array of byte strings
//!   kind 12  ProposeReply        [id, first, appended, refusal / null]
//! log id     = [term, index]
//! result     = [0, index]                      Matched
//!            | [1, prev_log_index, hint]       Rejected; hint is a log id
//! refusal    = [0 too large | 1 log full | 2 too many uncommitted | 3 transferring, number]
//!              a limit in bytes, and of the last a server
//! write      = [hard_state / null, truncate_from / null, first_index / null, entries,
//!               snapshot / null, compact_to / null]
//!              compact_to is a log id
//! state      = [index, digest]
//! hard_state = [current_term, voted_for / null, ? promise_micros, ? committed]
//!              the last two are left out if they are 0, the last alone or both
//! entries    = [ (term / payload)* ]           a term holds for all payloads up to the next term
//! payload    = null                            Noop
//!            | byte string                     Command
//!            | [2, membership, ? identity / null, ? version]                  Configuration
//! snapshot   = [last, membership, ? identity / null, ? version]      last is a log id
//!              identity is of 16 bytes, version the application's that is in force; what is null
//!              or 0 at the end is left out
//! membership = [ member* ]                     by rising id
//! member     = [id, suffrage, priority, label]
//! suffrage       = 0 Voter | 1 Learner | 2 Incoming | 3 Outgoing | 4 Demoted
//! ```
//!
//! An entry has no index of its own: it follows from `prev_log` or `first_index`, so a gap cannot
//! even be written. A command costs its bytes and one to five more.
//!
//! # How it evolves
//!
//! A new field goes to the end of its array. Older nodes skip it, so it must be one that may be
//! ignored; newer nodes must take its absence. What may not be ignored gets a new kind: older nodes
//! answer [`DecodeError::UnknownMessage`] or its like and drop that message alone. In a write
//! nothing may be ignored, for it is all that a node will remember: an unknown field there is an
//! error, unless it is null. Any other change is a new [`VERSION`].
//!
//! # Bounds
//!
//! Decoding never panics, takes time linear in the input's length, and no memory on the word of a
//! claimed count. An entry is at least one byte of input; a decoded message therefore takes at most
//! about a hundred times its bytes, and does so only if somebody sends nothing but empty entries.
//! The transport, which frames the bytes, bounds their length.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use minicbor::{Decoder, Encoder};

use crate::message::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, InstallSnapshot, InstallSnapshotReply,
    Message, ReadIndex, ReadIndexReply, RequestPreVote, RequestPreVoteReply, RequestVote,
    RequestVoteReply, StateDigest, TimeoutNow,
};
use crate::output::Write;
use crate::types::{HardState, Index, NodeId, ReadId, Round, Session, Term, WriteId};

mod entries;
mod error;
mod fields;
mod membership;
mod propose;

use entries::{entries_from, entries_into, following};
pub use error::DecodeError;
use fields::{
    Encoded, Out, is_null, log_id_from, log_id_into, optional_from, optional_into,
    trailing_micros_from,
};
pub(crate) use fields::{close, expect_end, open};
use membership::{snapshot_from, snapshot_into};
use propose::{propose_from, propose_into, propose_reply_from, propose_reply_into};

/// The version of the format. Peers compare it when they connect, journals when they are opened.
pub const VERSION: u16 = 1;

const REQUEST_PRE_VOTE: u64 = 0;
const REQUEST_PRE_VOTE_REPLY: u64 = 1;
const REQUEST_VOTE: u64 = 2;
const REQUEST_VOTE_REPLY: u64 = 3;
const APPEND_ENTRIES: u64 = 4;
const APPEND_ENTRIES_REPLY: u64 = 5;
const INSTALL_SNAPSHOT: u64 = 6;
const INSTALL_SNAPSHOT_REPLY: u64 = 7;
const TIMEOUT_NOW: u64 = 8;
const READ_INDEX: u64 = 9;
const READ_INDEX_REPLY: u64 = 10;
const PROPOSE: u64 = 11;
const PROPOSE_REPLY: u64 = 12;

const MATCHED: u64 = 0;
const REJECTED: u64 = 1;

/// Appends the message to `out`.
///
/// # Example
///
/// ```
/// use raft_core::{Body, LogId, Message, NodeId, RequestVote, Term, codec};
///
/// let message: Message<&[u8]> = Message {
///     from: NodeId::new(1),
///     to: NodeId::new(2),
///     term: Term::new(7),
///     body: Body::RequestVote(RequestVote { last_log: LogId::ZERO, transfer: false }),
/// };
/// let mut bytes = Vec::new();
/// codec::encode_message(&message, &mut bytes);
/// assert_eq!(codec::decode_message(&bytes, |command| command), Ok(message));
/// ```
pub fn encode_message<C: AsRef<[u8]>>(message: &Message<C>, out: &mut Vec<u8>) {
    let encoded = message_into(&mut Encoder::new(out), message);
    debug_assert!(encoded.is_ok(), "a vector takes all bytes");
}

/// The message in `bytes`, which must hold it and nothing else. `command` makes a command of the
/// bytes it is given, which lie within `bytes`: it may copy them, or keep a reference.
pub fn decode_message<'b, C>(
    bytes: &'b [u8],
    command: impl FnMut(&'b [u8]) -> C,
) -> Result<Message<C>, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let message = message_from(&mut decoder, command)?;
    expect_end(&decoder)?;
    Ok(message)
}

/// Appends the write to `out`; its id is left out, for it means something only to the process that
/// made it.
pub fn encode_write<C: AsRef<[u8]>>(write: &Write<C>, out: &mut Vec<u8>) {
    let encoded = write_into(&mut Encoder::new(out), write);
    debug_assert!(encoded.is_ok(), "a vector takes all bytes");
}

/// The write in `bytes`, which must hold it and nothing else. Its id is `WriteId::default()`, which
/// no process uses. For `command` see [`decode_message`].
pub fn decode_write<'b, C>(
    bytes: &'b [u8],
    command: impl FnMut(&'b [u8]) -> C,
) -> Result<Write<C>, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let write = write_from(&mut decoder, command)?;
    expect_end(&decoder)?;
    Ok(write)
}

fn message_into<C: AsRef<[u8]>>(e: &mut Out<'_>, message: &Message<C>) -> Encoded {
    // Taken apart without `..`, here and below: a new field does not compile until it is sent.
    let Message { from, to, term, body } = message;
    e.array(5)?.u64(from.get())?.u64(to.get())?.u64(term.get())?;
    match body {
        Body::RequestPreVote(RequestPreVote { last_log, campaign }) => {
            e.u64(REQUEST_PRE_VOTE)?.array(2)?;
            log_id_into(e, *last_log)?;
            e.u64(*campaign)?;
        }
        Body::RequestPreVoteReply(RequestPreVoteReply { granted, campaign }) => {
            e.u64(REQUEST_PRE_VOTE_REPLY)?.array(2)?.bool(*granted)?.u64(*campaign)?;
        }
        Body::RequestVote(RequestVote { last_log, transfer }) => {
            e.u64(REQUEST_VOTE)?.array(2)?;
            log_id_into(e, *last_log)?;
            e.bool(*transfer)?;
        }
        Body::RequestVoteReply(RequestVoteReply { granted, last_log }) => {
            e.u64(REQUEST_VOTE_REPLY)?.array(2)?.bool(*granted)?;
            log_id_into(e, *last_log)?;
        }
        Body::AppendEntries(append) => append_into(e, append)?,
        Body::AppendEntriesReply(reply) => append_reply_into(e, reply)?,
        Body::InstallSnapshot(InstallSnapshot { session, snapshot, offset, chunk, done }) => {
            e.u64(INSTALL_SNAPSHOT)?.array(5)?.u64(session.get())?;
            snapshot_into(e, snapshot)?;
            e.u64(*offset)?.bytes(chunk.as_ref())?.bool(*done)?;
        }
        Body::InstallSnapshotReply(InstallSnapshotReply { session, snapshot, received }) => {
            e.u64(INSTALL_SNAPSHOT_REPLY)?.array(3)?.u64(session.get())?;
            log_id_into(e, *snapshot)?;
            e.u64(*received)?;
        }
        Body::TimeoutNow(TimeoutNow { last_log }) => {
            e.u64(TIMEOUT_NOW)?.array(1)?;
            log_id_into(e, *last_log)?;
        }
        Body::ReadIndex(ReadIndex { id }) => {
            e.u64(READ_INDEX)?.array(1)?.u64(id.get())?;
        }
        Body::ReadIndexReply(ReadIndexReply { id, index }) => {
            e.u64(READ_INDEX_REPLY)?.array(2)?.u64(id.get())?.u64(index.get())?;
        }
        Body::Propose(propose) => {
            e.u64(PROPOSE)?;
            propose_into(e, propose)?;
        }
        Body::ProposeReply(reply) => {
            e.u64(PROPOSE_REPLY)?;
            propose_reply_into(e, reply)?;
        }
    }
    Ok(())
}

fn append_into<C: AsRef<[u8]>>(e: &mut Out<'_>, append: &AppendEntries<C>) -> Encoded {
    let AppendEntries {
        session,
        round,
        prev_log,
        entries,
        leader_commit,
        rank,
        election_timeout_micros,
        takes_proposals,
    } = append;
    let fields = match (takes_proposals, election_timeout_micros) {
        (true, _) => 8,
        (false, Some(_)) => 7,
        (false, None) => 6,
    };
    e.u64(APPEND_ENTRIES)?.array(fields)?.u64(session.get())?.u64(round.get())?;
    log_id_into(e, *prev_log)?;
    e.u64(leader_commit.get())?;
    debug_assert!(entries.first().is_none_or(|first| first.index == prev_log.index.next()));
    entries_into(e, entries)?;
    optional_into(e, rank.map(u64::from))?;
    if fields > 6 {
        optional_into(e, election_timeout_micros.map(|micros| micros.get().into()))?;
    }
    if *takes_proposals {
        e.bool(true)?;
    }
    Ok(())
}

fn append_reply_into(e: &mut Out<'_>, reply: &AppendEntriesReply) -> Encoded {
    let AppendEntriesReply { session, round, result, promise_micros, state } = reply;
    let fields = match (state, *promise_micros > 0) {
        (Some(_), _) => 5,
        (None, true) => 4,
        (None, false) => 3,
    };
    e.u64(APPEND_ENTRIES_REPLY)?.array(fields)?.u64(session.get())?.u64(round.get())?;
    result_into(e, result)?;
    if fields > 3 {
        e.u32(*promise_micros)?;
    }
    if let Some(StateDigest { index, digest }) = state {
        e.array(2)?.u64(index.get())?.u64(*digest)?;
    }
    Ok(())
}

fn message_from<'b, C>(
    d: &mut Decoder<'b>,
    command: impl FnMut(&'b [u8]) -> C,
) -> Result<Message<C>, DecodeError> {
    let unknown = open(d, 5)?;
    let (from, to, term) = (NodeId::new(d.u64()?), NodeId::new(d.u64()?), Term::new(d.u64()?));
    let body = body_from(d, command)?;
    close(d, unknown)?;
    Ok(Message { from, to, term, body })
}

fn body_from<'b, C>(
    d: &mut Decoder<'b>,
    mut command: impl FnMut(&'b [u8]) -> C,
) -> Result<Body<C>, DecodeError> {
    Ok(match d.u64()? {
        REQUEST_PRE_VOTE => {
            let unknown = open(d, 2)?;
            let body = RequestPreVote { last_log: log_id_from(d)?, campaign: d.u64()? };
            close(d, unknown)?;
            Body::RequestPreVote(body)
        }
        REQUEST_PRE_VOTE_REPLY => {
            let unknown = open(d, 2)?;
            let body = RequestPreVoteReply { granted: d.bool()?, campaign: d.u64()? };
            close(d, unknown)?;
            Body::RequestPreVoteReply(body)
        }
        REQUEST_VOTE => {
            let unknown = open(d, 2)?;
            let body = RequestVote { last_log: log_id_from(d)?, transfer: d.bool()? };
            close(d, unknown)?;
            Body::RequestVote(body)
        }
        REQUEST_VOTE_REPLY => {
            let unknown = open(d, 2)?;
            let body = RequestVoteReply { granted: d.bool()?, last_log: log_id_from(d)? };
            close(d, unknown)?;
            Body::RequestVoteReply(body)
        }
        APPEND_ENTRIES => Body::AppendEntries(append_from(d, command)?),
        APPEND_ENTRIES_REPLY => Body::AppendEntriesReply(append_reply_from(d)?),
        INSTALL_SNAPSHOT => {
            let unknown = open(d, 5)?;
            let session = Session::new(d.u64()?);
            let snapshot = Box::new(snapshot_from(d)?);
            let (offset, chunk, done) = (d.u64()?, command(d.bytes()?), d.bool()?);
            close(d, unknown)?;
            Body::InstallSnapshot(InstallSnapshot { session, snapshot, offset, chunk, done })
        }
        INSTALL_SNAPSHOT_REPLY => {
            let unknown = open(d, 3)?;
            let (session, snapshot) = (Session::new(d.u64()?), log_id_from(d)?);
            let body = InstallSnapshotReply { session, snapshot, received: d.u64()? };
            close(d, unknown)?;
            Body::InstallSnapshotReply(body)
        }
        TIMEOUT_NOW => {
            let unknown = open(d, 1)?;
            let body = TimeoutNow { last_log: log_id_from(d)? };
            close(d, unknown)?;
            Body::TimeoutNow(body)
        }
        READ_INDEX => {
            let unknown = open(d, 1)?;
            let body = ReadIndex { id: ReadId::new(d.u64()?) };
            close(d, unknown)?;
            Body::ReadIndex(body)
        }
        READ_INDEX_REPLY => {
            let unknown = open(d, 2)?;
            let body = ReadIndexReply { id: ReadId::new(d.u64()?), index: Index::new(d.u64()?) };
            close(d, unknown)?;
            Body::ReadIndexReply(body)
        }
        PROPOSE => Body::Propose(propose_from(d, command)?),
        PROPOSE_REPLY => Body::ProposeReply(propose_reply_from(d)?),
        kind => return Err(DecodeError::UnknownMessage { kind }),
    })
}

fn append_from<'b, C>(
    d: &mut Decoder<'b>,
    command: impl FnMut(&'b [u8]) -> C,
) -> Result<AppendEntries<C>, DecodeError> {
    let unknown = open(d, 6)?;
    let (session, round) = (Session::new(d.u64()?), Round::new(d.u64()?));
    let prev_log = log_id_from(d)?;
    let leader_commit = Index::new(d.u64()?);
    let entries = entries_from(d, following(prev_log.index), command)?;
    let rank = optional_from(d)?.and_then(|rank| u8::try_from(rank).ok());
    let micros = if unknown > 0 { optional_from(d)? } else { None };
    let micros = micros.and_then(|micros| u32::try_from(micros).ok());
    let takes_proposals = unknown > 1 && !is_null(d)? && d.bool()?;
    close(d, unknown.saturating_sub(2))?;
    Ok(AppendEntries {
        session,
        round,
        prev_log,
        entries,
        leader_commit,
        rank,
        election_timeout_micros: micros.and_then(NonZeroU32::new),
        takes_proposals,
    })
}

fn append_reply_from(d: &mut Decoder<'_>) -> Result<AppendEntriesReply, DecodeError> {
    let unknown = open(d, 3)?;
    let (session, round) = (Session::new(d.u64()?), Round::new(d.u64()?));
    let result = result_from(d)?;
    let promise_micros = trailing_micros_from(d, unknown)?;
    let state = if unknown > 1 { state_from(d)? } else { None };
    close(d, unknown.saturating_sub(2))?;
    Ok(AppendEntriesReply { session, round, result, promise_micros, state })
}

fn result_into(e: &mut Out<'_>, result: &AppendResult) -> Encoded {
    match result {
        AppendResult::Matched(index) => {
            e.array(2)?.u64(MATCHED)?.u64(index.get())?;
        }
        AppendResult::Rejected { prev_log_index, hint } => {
            e.array(3)?.u64(REJECTED)?.u64(prev_log_index.get())?;
            log_id_into(e, *hint)?;
        }
    }
    Ok(())
}

fn result_from(d: &mut Decoder<'_>) -> Result<AppendResult, DecodeError> {
    let fields = open(d, 1)?;
    let too_few = DecodeError::Malformed { offset: d.position() };
    let (unknown, result) = match d.u64()? {
        MATCHED => {
            let unknown = fields.checked_sub(1).ok_or(too_few)?;
            (unknown, AppendResult::Matched(Index::new(d.u64()?)))
        }
        REJECTED => {
            let unknown = fields.checked_sub(2).ok_or(too_few)?;
            let prev_log_index = Index::new(d.u64()?);
            (unknown, AppendResult::Rejected { prev_log_index, hint: log_id_from(d)? })
        }
        kind => return Err(DecodeError::UnknownResult { kind }),
    };
    close(d, unknown)?;
    Ok(result)
}

fn state_from(d: &mut Decoder<'_>) -> Result<Option<StateDigest>, DecodeError> {
    if is_null(d)? {
        d.null()?;
        return Ok(None);
    }
    let unknown = open(d, 2)?;
    let state = StateDigest { index: Index::new(d.u64()?), digest: d.u64()? };
    close(d, unknown)?;
    Ok(Some(state))
}

fn write_into<C: AsRef<[u8]>>(e: &mut Out<'_>, write: &Write<C>) -> Encoded {
    let Write { id: _, hard_state, snapshot, compact_to, truncate_from, entries } = write;
    e.array(6)?;
    match hard_state {
        Some(HardState { current_term, voted_for, promise_micros, committed }) => {
            let is_removed = *committed > Index::ZERO;
            let fields = match (is_removed, *promise_micros > 0) {
                (true, _) => 4,
                (false, true) => 3,
                (false, false) => 2,
            };
            e.array(fields)?.u64(current_term.get())?;
            optional_into(e, voted_for.map(NodeId::get))?;
            if is_removed || *promise_micros > 0 {
                e.u32(*promise_micros)?;
            }
            if is_removed {
                e.u64(committed.get())?;
            }
        }
        None => {
            e.null()?;
        }
    }
    optional_into(e, truncate_from.map(Index::get))?;
    optional_into(e, entries.first().map(|first| first.index.get()))?;
    entries_into(e, entries)?;
    match snapshot {
        Some(snapshot) => snapshot_into(e, snapshot)?,
        None => {
            e.null()?;
        }
    }
    match compact_to {
        Some(base) => log_id_into(e, **base)?,
        None => {
            e.null()?;
        }
    }
    Ok(())
}

fn write_from<'b, C>(
    d: &mut Decoder<'b>,
    command: impl FnMut(&'b [u8]) -> C,
) -> Result<Write<C>, DecodeError> {
    const KNOWN: u64 = 6;
    let unknown = open(d, KNOWN)?;
    let hard_state = if is_null(d)? {
        d.null()?;
        None
    } else {
        let unknown = open(d, 2)?;
        let current_term = Term::new(d.u64()?);
        let voted_for = optional_from(d)?.map(NodeId::new);
        let promise_micros = trailing_micros_from(d, unknown)?;
        let committed = if unknown > 1 { optional_from(d)? } else { None };
        let committed = Index::new(committed.unwrap_or_default());
        close(d, unknown.saturating_sub(2))?;
        Some(HardState { current_term, voted_for, promise_micros, committed })
    };
    let truncate_from = optional_from(d)?.map(Index::new);
    let first_index = optional_from(d)?.map(Index::new).filter(|first| *first > Index::ZERO);
    let entries = entries_from(d, first_index, command)?;
    let snapshot = if is_null(d)? {
        d.null()?;
        None
    } else {
        Some(Box::new(snapshot_from(d)?))
    };
    let compact_to = if is_null(d)? {
        d.null()?;
        None
    } else {
        Some(Box::new(log_id_from(d)?))
    };
    for field in 0..unknown {
        if !is_null(d)? {
            return Err(DecodeError::UnknownWriteField { field: KNOWN.saturating_add(field) });
        }
        d.null()?;
    }
    Ok(Write { id: WriteId::default(), hard_state, snapshot, compact_to, truncate_from, entries })
}
