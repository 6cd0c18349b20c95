//! Golden vectors: each message and write with its bytes, in both directions.

use super::*;

/// Every kind of message with its bytes. These never change: a change of theirs is a new
/// `codec::VERSION`.
pub(super) fn golden_messages() -> Vec<(&'static str, Message<Vec<u8>>)> {
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
        (
            "85 01 02 07 04 88 04 05 82 06 18 18 07 80 f6 f6 f5",
            taking_proposals(append(5, last_log, 7, Vec::new())),
        ),
        (
            "85 01 02 07 0b 84 04 05 03 82 42 61 62 40",
            message(Body::Propose(Propose {
                session: Session::new(4),
                round: Round::new(5),
                id: ProposalId::new(3),
                commands: vec![b"ab".to_vec(), Vec::new()],
            })),
        ),
        ("85 01 02 07 0c 84 03 09 02 f6", propose_reply(None)),
        (
            "85 01 02 07 0c 84 03 09 02 82 01 19 01 00",
            propose_reply(Some(ProposeRefusal::LogFull(256))),
        ),
    ]
}

fn propose_reply(refusal: Option<ProposeRefusal>) -> Message<Vec<u8>> {
    let (id, first) = (ProposalId::new(3), Index::new(9));
    message(Body::ProposeReply(ProposeReply { id, first, appended: 2, refusal }))
}

/// A voter, and a voter to be of priority 5 that is known as `d`.
fn members() -> Membership {
    let member = |id, suffrage, priority, label: &[u8]| Member {
        id: NodeId::new(id),
        suffrage,
        priority,
        label: label.to_vec(),
        store: MemberStore::Unrecorded,
    };
    let members = [member(1, Suffrage::Voter, 0, b""), member(2, Suffrage::Incoming, 5, b"d")];
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
        suffrage: Suffrage::Voter,
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

#[test]
fn the_version_in_force_follows_the_identity() {
    let one = Membership::of_voters([NodeId::new(1)]).at_version(300);
    let identity = Some(ClusterIdentity::new(0xb));
    for (identity, said) in
        [(None, "f6"), (identity, "50 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 0b")]
    {
        let membership = one.clone().identified(identity);
        let last = id(6, 4);
        let write = Write {
            snapshot: Some(Box::new(SnapshotMeta { last, membership })),
            ..Write::default()
        };
        let hex = format!("86 f6 f6 f6 80 84 82 06 04 81 84 01 00 00 40 {said} 19 01 2c f6");
        assert_eq!(encoded_write(&write), unhex(&hex));
        assert_eq!(decode_write(&unhex(&hex)), Ok(write));
    }
}

/// The id of a write means nothing to another process, so it leaves no trace.
#[test]
fn writes_do_not_depend_on_their_id() {
    for (hex, write) in golden_writes() {
        assert_eq!(encoded_write(&Write { id: WriteId::new(77), ..write }), unhex(hex));
    }
}
