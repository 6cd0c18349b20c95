//! Typed state machines, client sessions and clients of a node.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use raft_core::host::{
    Client, ClientError, ClusterId, CommandNumber, FileJournal, Format, Handle, InProcessNetwork,
    MemoryJournal, NodeConfig, Postcard, ProposeError, SessionCommand, SessionId, SessionLimits,
    SessionRefused, SessionReply, Sessions, StateMachine, StopReason, Typed, TypedStateMachine,
};
use raft_core::{Config, Index};
use serde::{Deserialize, Serialize};

use crate::node::{id, leader, start, start_as, until};

#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Counters(BTreeMap<u64, u64>);

#[derive(Clone, Serialize, Deserialize)]
enum Command {
    Add { name: u64, by: u64 },
}

impl TypedStateMachine for Counters {
    type Command = Command;
    type Reply = u64;
    type Snapshot = Self;

    fn apply(&mut self, _index: Index, Command::Add { name, by }: Command) -> u64 {
        let counter = self.0.entry(name).or_default();
        *counter += by;
        *counter
    }

    fn snapshot(&self) -> Option<Self> {
        Some(self.clone())
    }

    fn restore(&mut self, snapshot: Self) {
        *self = snapshot;
    }
}

type Service = Sessions<Typed<Counters>>;

const TIMEOUT: Duration = Duration::from_secs(20);

fn service() -> Service {
    Sessions::new(Typed::new(Counters::default()))
}

fn add(name: u64, by: u64) -> Command {
    Command::Add { name, by }
}

fn bytes_of(command: &Command) -> Bytes {
    let mut bytes = Vec::new();
    Postcard::encode(command, &mut bytes).unwrap();
    bytes.into()
}

/// A node that is its whole cluster, and leads.
fn alone<S: StateMachine>(journal: &MemoryJournal, machine: S) -> Handle<S> {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let node = start(Config::new(id(1), [id(1)]), &network, journal.clone(), machine).unwrap();
    node.lead().wait().unwrap();
    node
}

fn numbered(session: u64, serial: u64, answered_below: u64, command: &Command) -> Bytes {
    let number = CommandNumber { session: SessionId::new(session), serial, answered_below };
    SessionCommand::Apply { number, command: bytes_of(command) }.encode()
}

fn open() -> Bytes {
    SessionCommand::Open(SessionLimits::default()).encode()
}

#[test]
fn a_command_and_its_reply_have_types() {
    let journal = MemoryJournal::new();
    let node = alone(&journal, Typed::new(Counters::default()));
    assert_eq!(node.propose_command(&add(1, 5)).wait().unwrap(), 5);
    assert_eq!(node.propose_command(&add(1, 6)).wait().unwrap(), 11);
    assert_eq!(node.read(|counters| counters.0[&1]).wait().unwrap(), 11);
    node.take_snapshot().wait().unwrap();
    assert_eq!(node.propose_command(&add(1, 1)).wait().unwrap(), 12);
    node.shutdown().wait();
    let node = alone(&journal, Typed::new(Counters::default()));
    assert_eq!(node.propose_command(&add(1, 1)).wait().unwrap(), 13);
    node.shutdown().wait();
}

/// What a command's own type does not let through.
#[derive(Deserialize)]
struct Shy;

impl Serialize for Shy {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

struct Silent;

impl TypedStateMachine for Silent {
    type Command = Shy;
    type Reply = ();
    type Snapshot = ();

    fn apply(&mut self, _index: Index, _command: Shy) {}

    fn snapshot(&self) -> Option<()> {
        None
    }

    fn restore(&mut self, (): ()) {}
}

#[test]
fn a_command_that_cannot_be_encoded_is_refused() {
    let node = alone(&MemoryJournal::new(), Typed::new(Silent));
    let error = node.propose_command(&Shy).wait().unwrap_err();
    assert!(matches!(error, ProposeError::NotEncodable { .. }), "{error:?}");
    assert!(!error.may_commit());
    node.shutdown().wait();
}

#[test]
fn a_command_that_does_not_decode_stops_the_node_before_it() {
    let long = [&bytes_of(&add(1, 1))[..], b"more"].concat();
    let bad: [(Bytes, &str); 3] = [
        (Bytes::from_static(b"\x09\x01\x01"), "no command of type"),
        (Bytes::new(), "no command of type"),
        (long.into(), "4 of 7 bytes follow the end of the value"),
    ];
    for (bad, text) in bad {
        let node = alone(&MemoryJournal::new(), Typed::new(Counters::default()));
        node.propose_command(&add(1, 1)).wait().unwrap();
        let error = node.propose(bad.clone()).wait().unwrap_err();
        let ProposeError::Stopped { reason, .. } = error else { panic!("{error:?}") };
        let StopReason::CommandNotUnderstood { index, message } = reason else {
            panic!("{reason:?}")
        };
        assert_eq!(index, Index::new(3));
        assert!(message.contains(text), "{message}");
        node.stopped().wait();
    }
    for bad in [Bytes::from_static(b"\x09"), numbered(1, 1, 1, &add(1, 1)).slice(..5)] {
        let node = alone(&MemoryJournal::new(), service());
        let error = node.propose(bad).wait().unwrap_err();
        let ProposeError::Stopped { reason, .. } = error else { panic!("{error:?}") };
        assert!(matches!(reason, StopReason::CommandNotUnderstood { .. }), "{reason:?}");
        node.stopped().wait();
    }
}

#[test]
fn the_table_survives_a_snapshot_and_a_restart() {
    let journal = MemoryJournal::new();
    let node = alone(&journal, service());
    let SessionReply::Opened(session) = node.propose(open()).wait().unwrap() else { panic!() };
    let first = numbered(session.get(), 1, 1, &add(7, 1));
    assert_eq!(node.propose(first.clone()).wait().unwrap(), SessionReply::Applied(1));
    node.take_snapshot().wait().unwrap();
    let second = numbered(session.get(), 2, 1, &add(7, 1));
    assert_eq!(node.propose(second.clone()).wait().unwrap(), SessionReply::Applied(2));
    node.shutdown().wait();
    let node = alone(&journal, service());
    assert_eq!(node.propose(first).wait().unwrap(), SessionReply::Applied(1));
    assert_eq!(node.propose(second).wait().unwrap(), SessionReply::Applied(2));
    assert_eq!(node.read(|counters| counters.0[&7]).wait().unwrap(), 2);
    node.shutdown().wait();
}

#[test]
fn the_table_survives_a_backup_and_a_new_cluster() {
    let node = alone(&MemoryJournal::new(), service());
    let SessionReply::Opened(session) = node.propose(open()).wait().unwrap() else { panic!() };
    let first = numbered(session.get(), 1, 1, &add(7, 1));
    assert_eq!(node.propose(first.clone()).wait().unwrap(), SessionReply::Applied(1));
    let mut bytes = Vec::new();
    node.backup().wait().unwrap().write_to(&mut bytes).unwrap();
    node.shutdown().wait();

    let directory = tempfile::tempdir().unwrap();
    let cluster = ClusterId::new(2);
    FileJournal::restore_from_backup(directory.path(), cluster, id(1), [id(1)], &*bytes).unwrap();
    let journal = FileJournal::open(directory.path(), cluster, id(1)).unwrap();
    let (network, _late) = InProcessNetwork::new(1, || {});
    let config = NodeConfig::new(cluster, Config::new(id(1), [id(1)]));
    let node = start_as(config, &network, journal, service()).unwrap();
    node.lead().wait().unwrap();
    assert_eq!(node.propose(first).wait().unwrap(), SessionReply::Applied(1), "it comes again");
    let second = numbered(session.get(), 2, 1, &add(7, 1));
    assert_eq!(node.propose(second).wait().unwrap(), SessionReply::Applied(2));
    assert_eq!(node.read(|counters| counters.0[&7]).wait().unwrap(), 2);
    node.shutdown().wait();
}

#[test]
fn damage_to_a_stored_table_is_an_error() {
    let mut machine = service();
    machine.apply(Index::new(1), open());
    machine.apply(Index::new(2), numbered(1, 1, 1, &add(7, 1)));
    let mut whole = Vec::new();
    machine.snapshot().unwrap()(&mut whole).unwrap();
    let mut other = service();
    other.restore(&mut &*whole).unwrap();
    assert_eq!(other.table(), machine.table());
    for length in 0..whole.len() {
        assert!(service().restore(&mut &whole[..length]).is_err(), "cut off at {length}");
    }
    for at in 0..9 {
        let mut bytes = whole.clone();
        bytes[at] ^= 3;
        assert!(service().restore(&mut &*bytes).is_err(), "damaged at {at}");
    }
    for at in 9..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] = 0xff;
        // Whatever comes of it, it is no panic and no endless allocation.
        drop(service().restore(&mut &*bytes));
    }
}

#[test]
fn a_client_is_answered_once_for_each_command() {
    let node = alone(&MemoryJournal::new(), service());
    let client = Client::new(&node, TIMEOUT).unwrap();
    let calls: Vec<_> = (0..500).map(|_| client.propose(&add(1, 1))).collect();
    let mut replies: Vec<_> = calls.into_iter().rev().map(|call| call.wait().unwrap()).collect();
    replies.sort_unstable();
    assert_eq!(replies, (1..=500).collect::<Vec<_>>());
    let sessions = node.read(|service| service.table().len()).wait().unwrap();
    assert_eq!(sessions, 1, "all calls share it, though none of them waited for it to open");
    drop(client);
    until("the session closes", || node.read(|s| s.table().is_empty()).wait().unwrap());
    node.shutdown().wait();
}

#[test]
fn a_call_that_is_not_polled_holds_up_no_other() {
    let node = alone(&MemoryJournal::new(), service());
    let client = Client::new(&node, TIMEOUT).unwrap();
    let first = client.propose(&add(1, 1));
    assert_eq!(client.propose(&add(2, 1)).wait().unwrap(), 1);
    drop(first);
    node.shutdown().wait();
}

#[test]
fn a_window_of_one_makes_commands_wait_and_loses_none() {
    let node = alone(&MemoryJournal::new(), service());
    let one = NonZeroU32::new(1).unwrap();
    let limits = SessionLimits { unanswered_max: one, ..SessionLimits::default() };
    let client = Client::with_limits(&node, TIMEOUT, limits).unwrap();
    let calls: Vec<_> = (0..9).map(|_| client.propose(&add(1, 1))).collect();
    let mut replies: Vec<_> = calls.into_iter().map(|call| call.wait().unwrap()).collect();
    replies.sort_unstable();
    assert_eq!(replies, (1..=9).collect::<Vec<_>>());
    node.shutdown().wait();
}

#[test]
fn a_client_whose_session_expired_opens_another() {
    let node = alone(&MemoryJournal::new(), service());
    let one = NonZeroU32::new(1).unwrap();
    let limits =
        SessionLimits { sessions_max: one, idle_entries_min: 0, ..SessionLimits::default() };
    let first = Client::with_limits(&node, TIMEOUT, limits).unwrap();
    let second = Client::with_limits(&node, TIMEOUT, limits).unwrap();
    for count in 1..=5 {
        assert_eq!(first.propose(&add(1, 1)).wait().unwrap(), count);
        assert_eq!(second.propose(&add(2, 1)).wait().unwrap(), count);
    }
    node.shutdown().wait();
}

#[test]
fn a_full_table_is_a_typed_answer() {
    let node = alone(&MemoryJournal::new(), service());
    let one = NonZeroU32::new(1).unwrap();
    let limits = SessionLimits { sessions_max: one, ..SessionLimits::default() };
    let first = Client::with_limits(&node, TIMEOUT, limits).unwrap();
    assert_eq!(first.propose(&add(1, 1)).wait().unwrap(), 1);
    let second = Client::with_limits(&node, TIMEOUT, limits).unwrap();
    let error = second.propose(&add(1, 1)).wait().unwrap_err();
    let full = matches!(
        error,
        ClientError::Session { refused: SessionRefused::TableFull { sessions_max: 1 }, .. }
    );
    assert!(full, "{error:?}");
    assert!(!error.may_have_been_applied());
    drop(first);
    until("room", || second.propose(&add(1, 1)).wait().is_ok());
    node.shutdown().wait();
}

#[test]
fn a_client_gives_up_in_time_and_says_what_it_knows() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    // Two voters, of which one never starts: no leader, so nothing is appended.
    let raft = Config::new(id(1), [id(1), id(2)]);
    let node = start(raft, &network, MemoryJournal::new(), service()).unwrap();
    let client = Client::new(&node, Duration::from_millis(100)).unwrap();
    let error = client.propose(&add(1, 1)).wait().unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { may_have_been_applied: false }), "{error:?}");
    node.shutdown().wait();
    let error = client.propose(&add(1, 1)).wait().unwrap_err();
    assert!(matches!(error, ClientError::Node { may_have_been_applied: false, .. }), "{error:?}");
}

#[test]
fn counters_equal_what_was_acknowledged_over_transfers_and_cuts() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let run = |own| {
        let raft = Config::new(id(own), [1, 2, 3].map(id));
        (own, start(raft, &network, MemoryJournal::new(), service()).unwrap())
    };
    let nodes = BTreeMap::from([1, 2, 3].map(run));
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> = nodes
            .iter()
            .map(|(own, node)| {
                let (stop, acknowledged) = (&stop, &acknowledged);
                let client = Client::new(node, TIMEOUT).unwrap();
                scope.spawn(move || {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        count += 1;
                        assert_eq!(client.propose(&add(*own, 1)).wait().unwrap(), count);
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                    count
                })
            })
            .collect();
        for fault in 0..8 {
            let old = leader(&nodes);
            let before = acknowledged.load(Ordering::Relaxed);
            until("some counts", || acknowledged.load(Ordering::Relaxed) > before + 20);
            if fault % 2 == 0 {
                drop(nodes[&old].transfer_leadership(None).wait());
            } else {
                network.isolate(id(old));
                let others = nodes.iter().filter(|(own, _)| **own != old);
                let others: BTreeMap<_, _> =
                    others.map(|(own, node)| (*own, node.clone())).collect();
                leader(&others);
                network.heal();
            }
        }
        stop.store(true, Ordering::Relaxed);
        for (own, client) in (1..).zip(clients) {
            let count = client.join().unwrap();
            for node in nodes.values() {
                let mut found = None;
                until("a read", || {
                    found = node.read(move |counters| counters.0[&own]).wait().ok();
                    found.is_some()
                });
                assert_eq!(found, Some(count));
            }
        }
    });
    for node in nodes.values() {
        node.shutdown().wait();
    }
}

proptest! {
    /// Commands that are repeated and reordered, with restores in between, take effect once, and
    /// every answer is that of the first time.
    #[test]
    fn whatever_comes_again_takes_effect_once(
        steps in prop::collection::vec((1..4_u64, 1..30_u64, 0..8_u64, 0..20_u8), 1..200),
    ) {
        let mut machine = service();
        let mut index = 0;
        for _ in 1..4 {
            index += 1;
            machine.apply(Index::new(index), open());
        }
        let mut first = BTreeMap::new();
        for (session, serial, unanswered, restores) in steps {
            index += 1;
            let command = numbered(session, serial, serial.saturating_sub(unanswered), &add(session, 1));
            prop_assert!(machine.understands(&command).is_ok());
            if let SessionReply::Applied(reply) = machine.apply(Index::new(index), command) {
                let known = first.entry((session, serial)).or_insert(reply);
                prop_assert_eq!(*known, reply);
            }
            if restores == 0 {
                let mut bytes = Vec::new();
                machine.snapshot().unwrap()(&mut bytes).unwrap();
                let mut other = service();
                other.restore(&mut &*bytes).unwrap();
                prop_assert_eq!(other.table(), machine.table());
                machine = other;
            }
        }
        for session in 1..4 {
            let acknowledged = first.keys().filter(|(of, _)| *of == session).count() as u64;
            prop_assert_eq!(machine.0.get(&session).copied().unwrap_or(0), acknowledged);
        }
    }
}
