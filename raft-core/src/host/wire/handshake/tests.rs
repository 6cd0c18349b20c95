use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;

use bytes::Bytes;

use super::*;
use crate::codec;
use crate::host::identity::{ClusterId, Identity, Past, StoreId};
use crate::host::timeouts::Timeouts;
use crate::host::versions::Versions;
use crate::host::wire::label::ADDRESS_BYTES_MAX;
use crate::identity::ClusterIdentity;
use crate::types::{Index, LogId, NodeId, Term};

const ME: Identity =
    Identity { cluster: ClusterId::new(77), node: NodeId::new(1), store_id: StoreId::new(0xabc) };

const CLUSTER: ClusterIdentity = ClusterIdentity::new(0xa << 64 | 0xb);
const OTHER: ClusterIdentity = ClusterIdentity::new(u128::MAX);

fn hello() -> Hello {
    let peer = Identity { node: NodeId::new(2), store_id: StoreId::new(0xdef), ..ME };
    Hello::new(&peer, ME.node, "b:1")
}

fn welcome(version: u16, store_id: Option<StoreId>) -> Welcome {
    let (past, knows_you, named_at, timeouts) = (Past::Unknown, None, None, None);
    Welcome { version, store_id, past, knows_you, named_at, timeouts }
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
    for store_id in [None, Some(ME.store_id)] {
        let welcome = welcome(version, store_id);
        let answer = payload(|out| Answer::Welcome(welcome).encode(out));
        assert_eq!(Answer::conclude(&answer), Ok(welcome));
    }
}

#[test]
fn the_layout_is_fixed() {
    let expected = b"raftpeer\x87\x01\x01\x18\x4d\x02\x01\x19\x0d\xef\x63b:1";
    assert_eq!(payload(|out| hello().encode(out)), expected);
    let store_id = Some(StoreId::new(9));
    let welcome = Answer::Welcome(welcome(1, store_id));
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
            let said = Welcome { past, knows_you, ..welcome(1, Some(ME.store_id)) };
            let answer = payload(|out| Answer::Welcome(said).encode(out));
            assert_eq!(Answer::conclude(&answer), Ok(said));
        }
    }
    let unheard = b"raftpeer\x87\x00\x01\x09\x18\x63\x01\x02\x00";
    assert_eq!(Answer::conclude(unheard), Ok(welcome(1, Some(StoreId::new(9)))));
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
fn the_versions_of_the_application_are_said_last() {
    let versions = Some(Versions::new(2, 300));
    let said = Hello { versions, ..hello() };
    let expected =
        b"raftpeer\x8f\x01\x01\x18\x4d\x02\x01\x19\x0d\xef\x63b:1\0\0\0\0\x40\0\x02\x19\x01\x2c";
    assert_eq!(payload(|out| said.encode(out)), expected);
    let more = Hello { sends_bytes_max: Some(300), ..said.clone() };
    for said in [said, more] {
        assert_eq!(Hello::decode(&payload(|out| said.encode(out))), Ok(said));
    }
}

#[test]
fn where_a_node_is_named_is_said_behind_all_else() {
    for named_at in [None, Some(LogId::new(Term::new(7), Index::new(300)))] {
        for versions in [None, Some(Versions::new(1, 2))] {
            let said = Hello { versions, named_at, ..hello() };
            let heard = Hello::decode(&payload(|out| said.encode(out))).unwrap();
            let versions = versions.or(named_at.map(|_| Versions::default()));
            assert_eq!(heard, Hello { versions, ..said });
        }
        for past in [Past::Unknown, Past::Of(CLUSTER)] {
            let said = Welcome { past, named_at, ..welcome(1, Some(ME.store_id)) };
            assert_eq!(
                Answer::conclude(&payload(|out| Answer::Welcome(said).encode(out))),
                Ok(said)
            );
        }
    }
}

const TIMEOUTS: Timeouts = Timeouts {
    election_timeout_min: Duration::from_micros(300),
    election_timeout_max: Duration::from_micros(600),
    heartbeat_interval: Duration::from_micros(100),
};

/// What an unsaid field is called on the wire, and what is said behind it: the last eight fields.
#[test]
fn timeouts_are_said_behind_all_else() {
    let timeouts = Some(TIMEOUTS);
    let said = Hello { timeouts, ..hello() };
    let expected = b"raftpeer\x94\x01\x01\x18\x4d\x02\x01\x19\x0d\xef\x63b:1\0\0\0\0\x40\
        \0\0\0\0\0\x19\x01\x2c\x19\x02\x58\x18\x64";
    assert_eq!(payload(|out| said.encode(out)), expected);
    let heard = Hello::decode(expected).unwrap();
    assert_eq!(heard, Hello { versions: Some(Versions::default()), ..said.clone() });
    let versions = Some(Versions::new(1, 2));
    let named_at = Some(LogId::new(Term::new(7), Index::new(9)));
    let said = Hello { versions, named_at, sends_bytes_max: Some(300), ..said };
    assert_eq!(Hello::decode(&payload(|out| said.encode(out))), Ok(said));

    let said = Welcome { timeouts, ..welcome(1, Some(StoreId::new(9))) };
    let answer = payload(|out| Answer::Welcome(said).encode(out));
    let expected = b"raftpeer\x8c\x00\x01\x09\0\0\0\0\0\0\x19\x01\x2c\x19\x02\x58\x18\x64";
    assert_eq!(answer, expected);
    for past in [Past::Unknown, Past::Of(CLUSTER)] {
        for named_at in [None, named_at] {
            let said = Welcome { past, named_at, ..said };
            let answer = payload(|out| Answer::Welcome(said).encode(out));
            assert_eq!(Answer::conclude(&answer), Ok(said));
        }
    }
}

/// A node of a version before these fields says none, and one of a later version may say more.
#[test]
fn timeouts_are_unsaid_if_they_are_missing_or_nothing() {
    let named_at = Some(LogId::new(Term::new(7), Index::new(9)));
    let before = payload(|out| {
        Hello { versions: Some(Versions::new(1, 2)), named_at, ..hello() }.encode(out);
    });
    assert_eq!(Hello::decode(&before).unwrap().timeouts, None);
    let mut later = before;
    later[8] += 4;
    later.extend(b"\0\0\0\x63new");
    let heard = Hello::decode(&later).unwrap();
    assert_eq!((heard.timeouts, heard.named_at), (None, named_at));
    let welcome = b"raftpeer\x8d\x00\x01\x09\0\0\0\0\x07\x09\0\0\0\x63new";
    let heard = Answer::conclude(welcome).unwrap();
    assert_eq!((heard.timeouts, heard.named_at), (None, named_at));
}

#[test]
fn another_version_is_refused() {
    let versions = Refusal::Version { min: VERSION_OLDEST, max: codec::VERSION };
    let newer = codec::VERSION + 1;
    assert_eq!(check(Hello { version_min: newer, version_max: newer, ..hello() }), Err(versions));
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
    let check = |known: u64| hello().check(&ME, |_| Some(StoreId::new(known)));
    assert_eq!(check(0xdef), Ok(codec::VERSION));
    let node = NodeId::new(2);
    assert_eq!(check(0xdee), Err(Refusal::OtherStore { node }));
}

#[test]
fn one_with_the_same_id_is_refused() {
    let refused = Err(Refusal::Itself { node: ME.node });
    assert_eq!(check(Hello { from: ME.node, ..hello() }), refused);
    assert_eq!(check(Hello::new(&ME, NodeId::new(2), "")), refused, "an address that leads back");
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
        Refusal::Duplicate { store_id: ME.store_id },
        Refusal::OtherStore { node: ME.node },
        Refusal::OtherHistory { node: ME.node, cluster: CLUSTER, its: None },
        Refusal::OtherHistory { node: ME.node, cluster: CLUSTER, its: Some(OTHER) },
        Refusal::LongMessages {
            from: ME.node,
            sends: u64::MAX,
            to: NodeId::new(2),
            takes: 1 << 20,
        },
        Refusal::Certificate { node: ME.node },
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
    let version = codec::VERSION + 1;
    let store_id = None;
    let answer = payload(|out| Answer::Welcome(welcome(version, store_id)).encode(out));
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
    let store_id = Some(StoreId::new(9));
    let said = welcome(1, store_id);
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
        versions: Some(Versions::new(u32::MAX, u32::MAX)),
        named_at: Some(LogId::new(Term::new(u64::MAX), Index::new(u64::MAX))),
        timeouts: Some(Timeouts {
            election_timeout_min: Timeouts::LONGEST,
            election_timeout_max: Timeouts::LONGEST,
            heartbeat_interval: Timeouts::LONGEST,
        }),
        ..hello()
    };
    let longest = at(ADDRESS_BYTES_MAX);
    assert_eq!(Hello::decode(&payload(|out| longest.encode(out))), Ok(longest));
    let mut out = Vec::new();
    at(ADDRESS_BYTES_MAX + 1).encode(&mut out);
    assert_eq!(Hello::decode(&out), Err(Refusal::NotAHello));
}
