//! Versions of an application: what members understand, which version is in force, and what becomes
//! of a program that does not understand it.

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::node::{Map, config, id, leader, set, start_as, until};
use bytes::Bytes;
use raft_core::host::{
    Capture, ChangeError, Handle, InProcessNetwork, Label, MemoryJournal, NodeConfig, StartError,
    StateMachine, StopReason, Versions,
};
use raft_core::{Change, Config, Index, Membership, MembershipError};

/// A map, and after how many commands each version came into force.
#[derive(Default)]
struct Versioned {
    map: Map,
    heard: Vec<(u64, u32)>,
}

impl StateMachine for Versioned {
    type Reply = u64;

    fn apply(&mut self, index: Index, command: Bytes) -> u64 {
        self.map.apply(index, command)
    }

    fn snapshot(&self) -> Option<Capture> {
        self.map.snapshot()
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        self.map.restore(snapshot)
    }

    fn version_in_force(&mut self, version: u32) {
        self.heard.push((self.map.count, version));
    }
}

type Nodes = BTreeMap<u64, Handle<Versioned>>;

struct Cluster {
    hub: InProcessNetwork,
    journals: BTreeMap<u64, MemoryJournal>,
    nodes: Nodes,
}

impl Cluster {
    /// Three servers whose programs understand these versions.
    fn new(understand: [Versions; 3]) -> Self {
        let (hub, _late) = InProcessNetwork::new(1, || {});
        let journals = (1..=4).map(|own| (own, MemoryJournal::new())).collect();
        let mut cluster = Self { hub, journals, nodes: Nodes::new() };
        for (own, versions) in (1..).zip(understand) {
            cluster.start(own, versions).unwrap();
        }
        cluster
    }

    fn start(&mut self, own: u64, versions: Versions) -> Result<(), StartError> {
        // A server that joins knows nobody.
        let voters = if own <= 3 { 3 } else { 0 };
        let raft = Config::new(id(own), (1..=voters).map(id));
        let config = NodeConfig { versions, ..config(raft) };
        let journal = self.journals[&own].clone();
        let node = start_as(config, &self.hub, journal, Versioned::default())?;
        self.nodes.insert(own, node);
        Ok(())
    }

    fn stop(&mut self, own: u64) {
        self.nodes.remove(&own).unwrap().shutdown().wait();
    }

    fn change(&self, change: Change) -> Result<Membership, ChangeError> {
        self.nodes[&leader(&self.nodes)].change_membership(vec![change]).wait()
    }

    /// Raises the version once the leader has met all members.
    fn raise(&self, version: u32) {
        until("a version", || self.change(Change::RaiseVersion(version)).is_ok());
        until("it is known", || self.nodes.values().all(|node| node.version() == version));
    }

    /// Why the leader does not raise the version, once it has met the member that is asked for.
    fn refusal(&self, version: u32, expected: (u64, Option<Versions>)) -> String {
        let mut text = String::new();
        until("a refusal", || match self.change(Change::RaiseVersion(version)) {
            Err(error @ ChangeError::VersionNotUnderstood { id, understands, .. }) => {
                text = error.to_string();
                (id.get(), understands) == expected
            }
            Err(ChangeError::NotLeader { .. } | ChangeError::LeadershipLost { .. }) => false,
            other => panic!("{other:?}"),
        });
        text
    }

    fn set(&self, key: u64) {
        until("a command", || {
            self.nodes[&leader(&self.nodes)].propose(set(key, b"value")).wait().is_ok()
        });
    }

    fn heard(&self, own: u64) -> Vec<(u64, u32)> {
        let read = || self.nodes[&own].read(|state: &Versioned| state.heard.clone()).wait().ok();
        let mut heard = None;
        until("a read", || {
            heard = read();
            heard.is_some()
        });
        heard.unwrap()
    }

    fn end(mut self) {
        for own in 1..=4 {
            if self.nodes.contains_key(&own) {
                self.stop(own);
            }
        }
    }
}

const OLD: Versions = Versions::new(1, 1);
const NEW: Versions = Versions::new(1, 2);

#[test]
fn a_version_comes_into_force_once_every_member_understands_it() {
    let mut cluster = Cluster::new([NEW; 3]);
    cluster.set(1);
    cluster.raise(1);
    cluster.set(2);
    cluster.stop(3);
    let text = cluster.refusal(2, (3, None));
    assert!(text.contains("start it if it is down"), "{text}");
    cluster.start(3, OLD).unwrap();
    let text = cluster.refusal(2, (3, Some(OLD)));
    assert!(text.contains("server 3 understands versions 1 to 1"), "{text}");
    cluster.stop(3);
    cluster.start(3, NEW).unwrap();
    cluster.raise(2);
    cluster.set(3);
    for own in 1..=3 {
        assert_eq!(cluster.heard(own), [(1, 1), (2, 2)], "the same place on server {own}");
    }
    let lower = cluster.change(Change::RaiseVersion(1)).unwrap_err();
    let expected = MembershipError::VersionInForce(2);
    assert!(matches!(lower, ChangeError::Invalid(error) if error == expected), "{lower}");
    cluster.end();
}

#[test]
fn a_program_that_does_not_understand_the_version_in_force_does_not_start() {
    let mut cluster = Cluster::new([NEW; 3]);
    cluster.set(1);
    cluster.raise(2);
    cluster.stop(3);
    let refused = cluster.start(3, OLD).unwrap_err();
    let text = refused.to_string();
    let StartError::VersionNotUnderstood { version: 2, versions: OLD } = refused else {
        panic!("{text}")
    };
    assert!(text.contains("start a program that understands 2, on the same data"), "{text}");

    cluster.start(3, NEW).unwrap();
    cluster.set(2);
    assert_eq!(cluster.heard(3), [(1, 2)]);
    until("a snapshot", || cluster.nodes[&3].take_snapshot().wait().is_ok());
    cluster.stop(3);
    cluster.start(3, NEW).unwrap();
    assert_eq!(cluster.heard(3), [(2, 2)], "with the snapshot's version");
    cluster.end();
}

#[test]
fn a_server_that_is_told_a_version_that_it_does_not_understand_stops() {
    let mut cluster = Cluster::new([NEW; 3]);
    cluster.set(1);
    cluster.raise(2);
    let add = Label::default().add_learner(id(4)).unwrap();
    cluster.change(add).unwrap();
    cluster.start(4, OLD).unwrap();
    until("the end", || cluster.nodes[&4].stop_reason().is_some());
    let reason = cluster.nodes[&4].stop_reason();
    assert!(
        matches!(reason, Some(StopReason::VersionNotUnderstood { version: 2, versions: OLD })),
        "{reason:?}"
    );
    cluster.stop(4);
    cluster.start(4, NEW).unwrap();
    assert_eq!(cluster.heard(4), [(1, 2)]);
    cluster.end();
}
