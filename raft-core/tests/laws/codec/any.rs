//! Whatever is encoded comes back as it was, and whatever bytes come are survived.

use proptest::prelude::*;

use super::*;

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
        (any_number(), any_number(), proptest::collection::vec(any_bytes(), 0..4)).prop_map(
            |(session, id, commands)| {
                let (session, round) = (Session::new(session), Round::new(id));
                Body::Propose(Propose { session, round, id: ProposalId::new(id), commands })
            }
        ),
        (any_number(), 0..=u32::MAX, any_refusal()).prop_map(|(id, appended, refusal)| {
            let (id, first) = (ProposalId::new(id), Index::new(id));
            Body::ProposeReply(ProposeReply { id, first, appended, refusal })
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
        (any_number(), 0..=u32::MAX).prop_map(|(round, micros)| {
            let append = with_timeout(append(round, LogId::ZERO, 0, Vec::new()), micros);
            taking_proposals(append).body
        }),
        (any_number(), any_result()).prop_map(|(round, result)| append_reply(round, result).body),
        (any_number(), any_number()).prop_map(|(index, digest)| {
            let reply = append_reply(1, AppendResult::Matched(Index::new(1)));
            with_state(reply, index, digest).body
        }),
    ]
}

fn any_refusal() -> impl Strategy<Value = Option<ProposeRefusal>> {
    any_number().prop_flat_map(|number| {
        prop_oneof![
            Just(None),
            Just(Some(ProposeRefusal::TooLarge(number))),
            Just(Some(ProposeRefusal::LogFull(number))),
            Just(Some(ProposeRefusal::TooManyUncommitted(number))),
            Just(Some(ProposeRefusal::Transferring(NodeId::new(number)))),
            Just(Some(ProposeRefusal::Other(number.max(9)))),
        ]
    })
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
    const SUFFRAGES: [Suffrage; 5] = [
        Suffrage::Voter,
        Suffrage::Learner,
        Suffrage::Incoming,
        Suffrage::Outgoing,
        Suffrage::Demoted,
    ];
    let store = prop_oneof![
        Just(MemberStore::Unrecorded),
        Just(MemberStore::New),
        any::<u64>().prop_map(MemberStore::Recorded),
    ];
    let rest = (any_bytes(), store);
    let member = (any_number(), prop::sample::select(&SUFFRAGES[..]), any::<u8>(), rest);
    let identity = prop::option::of(any::<u128>().prop_map(ClusterIdentity::new));
    let others = prop::collection::btree_map(any_number(), member, 0..6);
    (others, identity, any_version()).prop_map(|(others, identity, version)| {
        let member = |(id, (_, suffrage, priority, (label, store)))| Member {
            id: NodeId::new(id),
            suffrage,
            priority,
            label,
            store,
        };
        let voter = Member {
            id: NodeId::new(3),
            suffrage: Suffrage::Voter,
            priority: 0,
            label: vec![],
            store: MemberStore::Unrecorded,
        };
        let others = others.into_iter().map(member).filter(|member| member.id != voter.id);
        let membership = Membership::of_members(others.chain([voter.clone()])).expect("valid");
        membership.identified(identity).at_version(version)
    })
}

fn any_version() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), any::<u32>()]
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
