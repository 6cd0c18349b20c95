//! The wire format: golden vectors in both directions, evolution, and whatever bytes may come.

use std::num::NonZeroU32;

use proptest::prelude::*;
use raft_core::codec::{self, DecodeError};
use raft_core::{
    AppendEntries, AppendEntriesReply, AppendResult, Body, ClusterIdentity, Entry, HardState,
    Index, InstallSnapshot, InstallSnapshotReply, LogId, Member, MemberStore, Membership, Message,
    NodeId, Payload, ReadId, ReadIndex, ReadIndexReply, RequestPreVote, RequestPreVoteReply,
    RequestVote, RequestVoteReply, Round, Seat, Session, SnapshotMeta, StateDigest, Term,
    TimeoutNow, Write, WriteId,
};

/// Every kind of message with its bytes. These never change: a change of theirs is a new `codec::VERSION`.
fn golden_messages() -> Vec<(&'static str, Message<Vec<u8>>)> {
    let (last_log, campaign) = (id(6, 24), 5);
    let entries = vec![
        entry(7, 0x1_0001, Payload::Noop),
        entry(7, 0x1_0002, Payload::Command(b"set a=1".to_vec())),
        entry(7, 0x1_0003, Payload::Command(Vec::new())),
        entry(9, 0x1_0004, Payload::Command(vec![0xaa; 24])),
    ];
    let rejected = AppendResult::Rejected { prev_log_index: Index::new(9), hint: id(3, 8) };
    vec![
        (
            "85 01 02 07 00 82 82 06 18 18 05",
            message(Body::RequestPreVote(RequestPreVote { last_log, campaign })),
        ),
        (
            "85 01 02 07 01 82 f5 05",
            message(Body::RequestPreVoteReply(RequestPreVoteReply { granted: true, campaign })),
        ),
        (
            "85 01 02 07 02 82 82 06 18 18 f4",
            message(Body::RequestVote(RequestVote { last_log, transfer: false })),
        ),
        (
            "85 01 02 07 03 82 f4 82 06 18 18",
            message(Body::RequestVoteReply(RequestVoteReply { granted: false, last_log })),
        ),
        (
            "85 01 02 07 04 86 04 19 01 2c 82 06 1a 00 01 00 00 19 ff ff 80 f6",
            append(300, id(6, 0x1_0000), 0xffff, Vec::new()),
        ),
        (
            "85 01 02 07 04 87 04 01 82 06 18 18 07 80 02 19 c3 50",
            with_timeout(append(1, last_log, 7, Vec::new()), 50_000),
        ),
        (
            "85 01 02 07 04 86 04 19 01 2c 82 06 1a 00 01 00 00 19 ff ff 86 07 f6 47 73 65 74 20 61 3d \
             31 40 09 58 18 aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa aa f6",
            append(300, id(6, 0x1_0000), 0xffff, entries),
        ),
        (
            "85 01 02 07 05 83 04 19 01 2c 82 00 1b 00 00 00 01 00 00 00 00",
            append_reply(300, AppendResult::Matched(Index::new(1 << 32))),
        ),
        ("85 01 02 07 05 83 04 05 83 01 09 82 03 08", append_reply(5, rejected)),
        (
            "85 01 02 07 05 85 04 05 83 01 09 82 03 08 00 82 18 40 1b 01 02 03 04 05 06 07 08",
            with_state(append_reply(5, rejected), 64, 0x0102_0304_0506_0708),
        ),
        (
            "85 01 02 07 04 86 04 05 82 06 18 18 07 82 07 82 02 82 84 01 00 00 40 84 02 02 05 41 64 f6",
            append(5, last_log, 7, vec![entry(7, 25, Payload::Configuration(members().into()))]),
        ),
        (
            "85 01 02 07 06 85 04 82 82 06 18 18 82 84 01 00 00 40 84 02 02 05 41 64 19 01 00 42 61 62 f5",
            message(Body::InstallSnapshot(InstallSnapshot {
                session: Session::new(4),
                snapshot: Box::new(SnapshotMeta { last: last_log, membership: members() }),
                offset: 256,
                chunk: b"ab".to_vec(),
                done: true,
            })),
        ),
        (
            "85 01 02 07 07 83 04 82 06 18 18 19 01 00",
            message(Body::InstallSnapshotReply(InstallSnapshotReply {
                session: Session::new(4),
                snapshot: last_log,
                received: 256,
            })),
        ),
        ("85 01 02 07 08 81 82 06 18 18", message(Body::TimeoutNow(TimeoutNow { last_log }))),
        ("85 01 02 07 09 81 03", message(Body::ReadIndex(ReadIndex { id: ReadId::new(3) }))),
        (
            "85 01 02 07 0a 82 03 09",
            message(Body::ReadIndexReply(ReadIndexReply {
                id: ReadId::new(3),
                index: Index::new(9),
            })),
        ),
    ]
}

/// A voter, and a voter to be of priority 5 that is known as `d`.
fn members() -> Membership {
    let member = |id, seat, priority, label: &[u8]| Member {
        id: NodeId::new(id),
        seat,
        priority,
        label: label.to_vec(),
        store: MemberStore::Unrecorded,
    };
    let members = [member(1, Seat::Voter, 0, b""), member(2, Seat::Incoming, 5, b"d")];
    Membership::of_members(members).expect("valid")
}

/// Writes with each of their parts present and absent.
fn golden_writes() -> Vec<(&'static str, Write<Vec<u8>>)> {
    let empty = Write {
        id: WriteId::default(),
        hard_state: None,
        truncate_from: None,
        entries: Vec::new().into(),
        ..Write::default()
    };
    let voted = HardState {
        current_term: Term::new(8),
        voted_for: Some(NodeId::new(3)),
        ..Default::default()
    };
    let entries = vec![entry(8, 5, Payload::Noop), entry(8, 6, Payload::Command(b"x".to_vec()))];
    vec![
        ("86 f6 f6 f6 80 f6 f6", empty.clone()),
        ("86 82 08 03 f6 f6 80 f6 f6", Write { hard_state: Some(voted), ..empty.clone() }),
        (
            "86 83 08 03 1a 00 02 36 68 f6 f6 80 f6 f6",
            Write {
                hard_state: Some(HardState { promise_micros: 145_000, ..voted }),
                ..empty.clone()
            },
        ),
        (
            "86 84 08 03 00 07 f6 f6 80 f6 f6",
            Write {
                hard_state: Some(HardState { committed: Index::new(7), ..voted }),
                ..empty.clone()
            },
        ),
        (
            "86 82 08 f6 05 05 83 08 f6 41 78 82 82 06 04 82 84 01 00 00 40 84 02 02 05 41 64 82 05 03",
            Write {
                hard_state: Some(HardState { voted_for: None, ..voted }),
                truncate_from: Some(Index::new(5)),
                entries: entries.into(),
                snapshot: Some(Box::new(SnapshotMeta { last: id(6, 4), membership: members() })),
                compact_to: Some(Box::new(id(5, 3))),
                ..empty
            },
        ),
    ]
}

#[test]
fn messages_have_their_golden_bytes() {
    for (hex, message) in golden_messages() {
        assert_eq!(encoded(&message), unhex(hex), "{message:?}");
        assert_eq!(decode(&unhex(hex)), Ok(message));
    }
}

#[test]
fn writes_have_their_golden_bytes() {
    for (hex, write) in golden_writes() {
        assert_eq!(encoded_write(&write), unhex(hex), "{write:?}");
        assert_eq!(decode_write(&unhex(hex)), Ok(write));
    }
}

/// The identity of a cluster and the stores of its members are fields that older versions skip and
/// do not write.
#[test]
fn identities_have_their_golden_bytes() {
    let member = |id, store| Member {
        id: NodeId::new(id),
        seat: Seat::Voter,
        priority: 0,
        label: vec![],
        store,
    };
    let members = [
        member(1, MemberStore::Recorded(9)),
        member(2, MemberStore::New),
        member(3, MemberStore::Unrecorded),
    ];
    let membership = Membership::of_members(members).expect("valid");
    let membership = membership.identified(Some(ClusterIdentity::new(0xa << 64 | 0xb)));
    let entry = Entry {
        term: Term::new(7),
        index: Index::new(1),
        payload: Payload::Configuration(Box::new(membership.clone())),
    };
    let write = Write {
        entries: vec![entry].into(),
        snapshot: Some(Box::new(SnapshotMeta { last: id(6, 4), membership })),
        ..Write::default()
    };
    let members = "83 85 01 00 00 40 09 85 02 00 00 40 f6 84 03 00 00 40 \
                   50 00 00 00 00 00 00 00 0a 00 00 00 00 00 00 00 0b";
    let hex = format!("86 f6 f6 01 82 07 83 02 {members} 83 82 06 04 {members} f6");
    assert_eq!(encoded_write(&write), unhex(&hex));
    assert_eq!(decode_write(&unhex(&hex)), Ok(write));
}

/// The id of a write means nothing to another process, so it leaves no trace.
#[test]
fn writes_do_not_depend_on_their_id() {
    for (hex, write) in golden_writes() {
        assert_eq!(encoded_write(&Write { id: WriteId::new(77), ..write }), unhex(hex));
    }
}

/// A newer node appends fields of any shape: to the message, to its body, to what the body holds.
#[test]
fn fields_of_a_newer_node_are_skipped() {
    // To the log id, a byte string; to the body, an array with a map in it; to the message, a tagged text and a float.
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn messages_come_back_as_they_were(message in any_message()) {
        prop_assert_eq!(decode(&encoded(&message)), Ok(message));
    }

    #[test]
    fn writes_come_back_as_they_were(write in any_write()) {
        prop_assert_eq!(decode_write(&encoded_write(&write)), Ok(write));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survive(&bytes);
    }

    /// Bytes that look right for a while reach deeper than random ones.
    #[test]
    fn damaged_messages_are_survived(
        message in any_message(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&message);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        survive(&bytes);
        survive(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn damaged_writes_are_survived(
        write in any_write(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = encoded_write(&write);
        let at = at.index(bytes.len());
        bytes[at] = value;
        survive(&bytes);
    }
}

/// Decodes without a panic, and what is found can be written again.
fn survive(bytes: &[u8]) {
    if let Ok(message) = decode(bytes) {
        assert_eq!(decode(&encoded(&message)), Ok(message));
    }
    if let Ok(write) = decode_write(bytes) {
        assert_eq!(decode_write(&encoded_write(&write)), Ok(write));
    }
}

fn any_message() -> impl Strategy<Value = Message<Vec<u8>>> {
    (any_number(), any_number(), any_number(), any_body()).prop_map(|(from, to, term, body)| {
        Message { from: NodeId::new(from), to: NodeId::new(to), term: Term::new(term), body }
    })
}

fn any_body() -> impl Strategy<Value = Body<Vec<u8>>> {
    prop_oneof![
        (any_id(), any_number()).prop_map(|(last_log, campaign)| {
            Body::RequestPreVote(RequestPreVote { last_log, campaign })
        }),
        (any::<bool>(), any_number()).prop_map(|(granted, campaign)| {
            Body::RequestPreVoteReply(RequestPreVoteReply { granted, campaign })
        }),
        (any_id(), any::<bool>())
            .prop_map(|(last_log, transfer)| Body::RequestVote(RequestVote { last_log, transfer })),
        (any_snapshot(), any_number(), any_bytes(), any::<bool>()).prop_map(
            |(snapshot, offset, chunk, done)| {
                let (session, snapshot) = (Session::new(offset), Box::new(snapshot));
                Body::InstallSnapshot(InstallSnapshot { session, snapshot, offset, chunk, done })
            }
        ),
        (any_id(), any_number()).prop_map(|(snapshot, received)| {
            let session = Session::new(received);
            Body::InstallSnapshotReply(InstallSnapshotReply { session, snapshot, received })
        }),
        any_id().prop_map(|last_log| Body::TimeoutNow(TimeoutNow { last_log })),
        any_number().prop_map(|id| Body::ReadIndex(ReadIndex { id: ReadId::new(id) })),
        (any_number(), any_number()).prop_map(|(id, index)| {
            let (id, index) = (ReadId::new(id), Index::new(index));
            Body::ReadIndexReply(ReadIndexReply { id, index })
        }),
        (any::<bool>(), any_id()).prop_map(|(granted, last_log)| {
            Body::RequestVoteReply(RequestVoteReply { granted, last_log })
        }),
        (any_number(), any_number(), any_entries(), any_number()).prop_map(
            |(round, term, (first, entries), leader_commit)| {
                append(round, id(term, first - 1), leader_commit, entries).body
            }
        ),
        (any_number(), 0..=u32::MAX).prop_map(|(round, micros)| {
            with_timeout(append(round, LogId::ZERO, 0, Vec::new()), micros).body
        }),
        (any_number(), any_result()).prop_map(|(round, result)| append_reply(round, result).body),
        (any_number(), any_number()).prop_map(|(index, digest)| {
            let reply = append_reply(1, AppendResult::Matched(Index::new(1)));
            with_state(reply, index, digest).body
        }),
    ]
}

fn any_result() -> impl Strategy<Value = AppendResult> {
    prop_oneof![
        any_number().prop_map(|index| AppendResult::Matched(Index::new(index))),
        (any_number(), any_id()).prop_map(|(index, hint)| AppendResult::Rejected {
            prev_log_index: Index::new(index),
            hint,
        }),
    ]
}

fn any_write() -> impl Strategy<Value = Write<Vec<u8>>> {
    let vote = prop::option::of(any_number());
    let hard_state = (any_number(), vote, 0..=u32::MAX, any_number()).prop_map(
        |(term, vote, promise_micros, committed)| HardState {
            current_term: Term::new(term),
            voted_for: vote.map(NodeId::new),
            promise_micros,
            committed: Index::new(committed),
        },
    );
    let truncate_from = any_number().prop_map(Index::new);
    let snapshot = prop::option::of((any_snapshot(), any_id()));
    (prop::option::of(hard_state), prop::option::of(truncate_from), any_entries(), snapshot)
        .prop_map(|(hard_state, truncate_from, (_, entries), snapshot)| Write {
            id: WriteId::default(),
            hard_state,
            compact_to: snapshot.as_ref().map(|(_, base)| Box::new(*base)),
            snapshot: snapshot.map(|(snapshot, _)| snapshot.into()),
            truncate_from,
            entries: entries.into(),
        })
}

fn any_snapshot() -> impl Strategy<Value = SnapshotMeta> {
    (any_id(), any_membership()).prop_map(|(last, membership)| SnapshotMeta { last, membership })
}

fn any_membership() -> impl Strategy<Value = Membership> {
    const SEATS: [Seat; 5] =
        [Seat::Voter, Seat::Learner, Seat::Incoming, Seat::Outgoing, Seat::Demoted];
    let store = prop_oneof![
        Just(MemberStore::Unrecorded),
        Just(MemberStore::New),
        any::<u64>().prop_map(MemberStore::Recorded),
    ];
    let rest = (any_bytes(), store);
    let member = (any_number(), prop::sample::select(&SEATS[..]), any::<u8>(), rest);
    let identity = prop::option::of(any::<u128>().prop_map(ClusterIdentity::new));
    let others = prop::collection::btree_map(any_number(), member, 0..6);
    (others, identity).prop_map(|(others, identity)| {
        let member = |(id, (_, seat, priority, (label, store)))| Member {
            id: NodeId::new(id),
            seat,
            priority,
            label,
            store,
        };
        let voter = Member {
            id: NodeId::new(3),
            seat: Seat::Voter,
            priority: 0,
            label: vec![],
            store: MemberStore::Unrecorded,
        };
        let others = others.into_iter().map(member).filter(|member| member.id != voter.id);
        let membership = Membership::of_members(others.chain([voter.clone()])).expect("valid");
        membership.identified(identity)
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

/// A first index, and entries from there on.
fn any_entries() -> impl Strategy<Value = (u64, Vec<Entry<Vec<u8>>>)> {
    let payload = prop_oneof![
        Just(Payload::Noop),
        any_bytes().prop_map(Payload::Command),
        any_membership().prop_map(|membership| Payload::Configuration(membership.into())),
    ];
    (1..u64::MAX - 8, prop::collection::vec((0u64..4, payload), 0..8)).prop_map(
        |(first, entries)| {
            let entries = (first..).zip(entries);
            (first, entries.map(|(index, (term, payload))| entry(term, index, payload)).collect())
        },
    )
}

/// Numbers of each length that the encoding knows.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..30, 200u64..300, 65_000u64..66_000, 0u64..1 << 33, any::<u64>()]
}

fn any_id() -> impl Strategy<Value = LogId> {
    (any_number(), any_number()).prop_map(|(term, index)| id(term, index))
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
    }))
}

/// The same from a leader whose timeouts adapt, for a follower of rank 2.
fn with_timeout(append: Message<Vec<u8>>, micros: u32) -> Message<Vec<u8>> {
    let Body::AppendEntries(append) = append.body else { return append };
    let election_timeout_micros = NonZeroU32::new(micros);
    message(Body::AppendEntries(AppendEntries { rank: Some(2), election_timeout_micros, ..append }))
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
