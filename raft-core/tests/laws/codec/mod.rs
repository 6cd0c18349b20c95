//! The wire format: golden vectors in both directions, evolution, and whatever bytes may come.

use std::num::NonZeroU32;

use raft_core::codec::{self, DecodeError};
use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, ClusterIdentity, Entry, HardState,
    Index, InstallSnapshot, InstallSnapshotReply, LogId, Member, MemberStore, Membership, Message,
    NodeId, Payload, ProposalId, Propose, ProposeRefusal, ProposeReply, ReadId, ReadIndex,
    ReadIndexReply, RequestPreVote, RequestPreVoteReply, RequestVote, RequestVoteReply, Round,
    Session, SnapshotMeta, StateDigest, Suffrage, Term, TimeoutNow, Write, WriteId,
};

mod any;
mod golden;

use golden::golden_messages;

/// A newer node appends fields of any shape: to the message, to its body, to what the body holds.
#[test]
fn fields_of_a_newer_node_are_skipped() {
    // To the log id, a byte string; to the body, an array with a map in it; to the message, a
    // tagged text and a float.
    let newer = "87 01 02 07 02 83 83 06 18 18 43 01 02 03 f4 82 01 a1 00 f6 c1 63 61 62 63 \
                 fb 3f f0 00 00 00 00 00 00";
    let vote = message(Body::RequestVote(RequestVote { last_log: id(6, 24), transfer: false }));
    assert_eq!(decode(&unhex(newer)), Ok(vote));

    let newer = "85 01 02 07 05 8a 04 03 83 00 01 09 f6 f6 f9 3c 00 fa 3f 80 00 00 \
                 fb 3f f0 00 00 00 00 00 00 f8 ff 3b 00 00 00 01 00 00 00 00";
    let matched = append_reply(3, AppendResult::Matched(Index::new(1)));
    assert_eq!(decode(&unhex(newer)), Ok(matched));
}

#[test]
fn what_must_not_be_ignored_is_named() {
    let refused = [
        ("85 01 02 07 17 80", DecodeError::UnknownMessage { kind: 23 }),
        ("85 01 02 07 05 83 04 03 82 02 00", DecodeError::UnknownResult { kind: 2 }),
        (
            "85 01 02 07 04 86 04 03 82 06 05 04 83 07 f6 82 03 80 f6",
            DecodeError::UnknownPayload { kind: 3 },
        ),
    ];
    for (hex, error) in refused {
        assert_eq!(decode(&unhex(hex)), Err(error));
        assert!(error.is_from_newer());
    }
    let error = DecodeError::UnknownWriteField { field: 7 };
    assert_eq!(decode_write(&unhex("88 f6 f6 f6 80 f6 f6 f6 07")), Err(error));
    assert!(decode_write(&unhex("88 f6 f6 f6 80 f6 f6 f6 f6")).is_ok(), "null says nothing");
}

#[test]
fn a_value_ends_where_the_bytes_end() {
    for (hex, _) in golden_messages() {
        let mut bytes = unhex(hex);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Err(DecodeError::Truncated), "{hex} cut at {end}");
        }
        let offset = bytes.len();
        bytes.push(0);
        assert_eq!(decode(&bytes), Err(DecodeError::TrailingBytes { offset }));
    }
}

#[test]
fn claimed_counts_and_depths_are_not_believed() {
    let huge = "ff ".repeat(8);
    let deep = "81 ".repeat(100_000);
    for hex in [
        format!("9b {huge}"),
        format!("9b {huge} 01 02 07 02 81 82 06 05"),
        format!("85 01 02 07 04 86 04 03 82 06 05 04 9b {huge} f6"),
        format!("85 01 02 07 04 86 04 03 82 06 05 04 82 07 5b {huge} f6"),
        format!("86 01 02 07 02 81 82 06 05 {deep} 00"),
        format!("86 01 02 07 02 81 82 06 05 bb {huge} 00"),
    ] {
        let error = decode(&unhex(&hex)).expect_err("it is not a message");
        assert!(!error.is_from_newer(), "{error}");
    }
}

/// Behind the greatest index stands no entry, before the first one neither.
#[test]
fn every_entry_has_an_index_and_a_term() {
    let malformed = |hex: &str| {
        let is_malformed = |error| matches!(error, DecodeError::Malformed { .. });
        decode(&unhex(hex)).is_err_and(is_malformed)
            || decode_write(&unhex(hex)).is_err_and(is_malformed)
    };
    let after =
        |prev: &str, entries: &str| format!("85 01 02 07 04 86 04 03 82 06 {prev} 04 {entries} f6");
    let (last, last_but_one) = ("1b ff ff ff ff ff ff ff ff", "1b ff ff ff ff ff ff ff fe");
    assert!(decode(&unhex(&after(last_but_one, "82 07 f6"))).is_ok());
    assert!(malformed(&after(last_but_one, "83 07 f6 f6")));
    assert!(decode(&unhex(&after(last, "80"))).is_ok());
    assert!(malformed(&after(last, "82 07 f6")));
    assert!(malformed(&after("05", "81 f6")), "no term");
    assert!(malformed("84 f6 f6 00 82 07 f6"), "index 0");
    assert!(malformed("84 f6 f6 f6 82 07 f6"), "no index");
}

#[test]
fn a_short_command_costs_one_byte_more_than_it_has() {
    let bytes = |count| {
        let entries = (1..=count).map(|index| entry(3, index, Payload::Command(vec![7; 16])));
        encoded(&append(1, LogId::ZERO, 0, entries.collect())).len()
    };
    assert_eq!(bytes(1), 32);
    assert_eq!(bytes(201) - bytes(200), 17);
}

/// Commands may be references into the input.
#[test]
fn commands_are_borrowed() {
    let bytes = unhex("85 01 02 07 04 86 04 03 82 06 05 04 82 07 43 61 62 63 f6");
    let message = codec::decode_message(&bytes, |command| command).expect("it is a message");
    let Body::AppendEntries(append) = message.body else { panic!("of another kind") };
    let Payload::Command(command) = append.entries[0].payload else { panic!("of another kind") };
    assert_eq!(command, b"abc");
    assert!(bytes.as_ptr_range().contains(&command.as_ptr()));
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term::new(term), Index::new(index))
}

fn entry(term: u64, index: u64, payload: Payload<Vec<u8>>) -> Entry<Vec<u8>> {
    Entry { term: Term::new(term), index: Index::new(index), payload }
}

fn message(body: Body<Vec<u8>>) -> Message<Vec<u8>> {
    Message { from: NodeId::new(1), to: NodeId::new(2), term: Term::new(7), body }
}

fn append(
    round: u64,
    prev_log: LogId,
    leader_commit: u64,
    entries: Vec<Entry<Vec<u8>>>,
) -> Message<Vec<u8>> {
    message(Body::AppendEntries(AppendEntries {
        session: Session::new(4),
        round: Round::new(round),
        prev_log,
        entries: entries.into(),
        leader_commit: Index::new(leader_commit),
        rank: None,
        election_timeout_micros: None,
        takes_proposals: false,
    }))
}

/// The same from a leader whose timeouts adapt, for a follower of rank 2.
fn with_timeout(append: Message<Vec<u8>>, micros: u32) -> Message<Vec<u8>> {
    let Body::AppendEntries(append) = append.body else { return append };
    let election_timeout_micros = NonZeroU32::new(micros);
    message(Body::AppendEntries(AppendEntries { rank: Some(2), election_timeout_micros, ..append }))
}

/// The same from a leader that takes forwarded commands.
fn taking_proposals(append: Message<Vec<u8>>) -> Message<Vec<u8>> {
    let Body::AppendEntries(append) = append.body else { return append };
    message(Body::AppendEntries(AppendEntries { takes_proposals: true, ..append }))
}

fn append_reply(round: u64, result: AppendResult) -> Message<Vec<u8>> {
    let (session, round) = (Session::new(4), Round::new(round));
    message(Body::AppendEntriesReply(AppendEntriesReply {
        session,
        round,
        result,
        promise_micros: 0,
        state: None,
    }))
}

/// The same from a follower that tells of its state.
fn with_state(reply: Message<Vec<u8>>, index: u64, digest: u64) -> Message<Vec<u8>> {
    let Body::AppendEntriesReply(reply) = reply.body else { return reply };
    let state = Some(StateDigest { index: Index::new(index), digest });
    message(Body::AppendEntriesReply(AppendEntriesReply { state, ..reply }))
}

fn encoded(message: &Message<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_message(message, &mut bytes);
    bytes
}

fn encoded_write(write: &Write<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_write(write, &mut bytes);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Message<Vec<u8>>, DecodeError> {
    codec::decode_message(bytes, <[u8]>::to_vec)
}

fn decode_write(bytes: &[u8]) -> Result<Write<Vec<u8>>, DecodeError> {
    codec::decode_write(bytes, <[u8]>::to_vec)
}

fn unhex(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}
