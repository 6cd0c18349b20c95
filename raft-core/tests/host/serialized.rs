//! What a program shows of a node in a format of serde, here JSON.

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use crate::node::{CLUSTER, Map, id, leader, set, start};
use raft_core::host::{
    CommandNumber, Format, InProcessNetwork, Label, MemoryJournal, Postcard, SessionId, StoreId,
};
use raft_core::{
    Change, ClusterIdentity, Config, Index, LogId, Member, MemberStore, Membership, NodeId, Role,
    Suffrage, Term,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_str, json, to_string, to_value};

#[track_caller]
fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, written: Value) {
    let text = to_string(value).unwrap();
    assert_eq!(from_str::<Value>(&text).unwrap(), written);
    assert_eq!(from_str::<T>(&text).unwrap(), *value);
    let mut bytes = Vec::new();
    Postcard::encode(value, &mut bytes).unwrap();
    let read: T = Postcard::decode(&bytes).unwrap();
    assert_eq!(read, *value, "without names of fields, too");
}

#[test]
fn what_a_program_can_make_is_read_as_it_is_written() {
    same(&NodeId::new(7), json!(7));
    same(&CLUSTER, json!(1));
    same(&StoreId::new(9), json!(9));
    same(&LogId::new(Term::new(2), Index::new(5)), json!({"term": 2, "index": 5}));
    same(&Role::PreCandidate, json!("PreCandidate"));
    same(&ClusterIdentity::new(u128::MAX), json!("f".repeat(32)));
    same(&Change::Promote(id(4)), json!({"Promote": 4}));
    let label = Label { note: "n".into(), ..Label::at("d:1") };
    same(&label, json!({"address": "d:1", "store_id": null, "note": [110]}));
    let session: SessionId = from_str("3").unwrap();
    let number = CommandNumber { session, serial: 2, answered_below: 1 };
    same(&number, json!({"session": 3, "serial": 2, "answered_below": 1}));
}

#[test]
fn members_are_read_if_a_cluster_can_be_this() {
    same(&Membership::default(), json!({"members": [], "identity": null, "version": 0}));
    let (suffrage, store) = (Suffrage::Voter, MemberStore::Recorded(9));
    let member = Member { id: id(1), suffrage, priority: 2, label: vec![7], store };
    let one = Membership::of_members([member]).unwrap();
    same(
        &one.identified(Some(ClusterIdentity::new(1))).at_version(3),
        json!({
            "members":
                [{"id": 1, "suffrage": "Voter", "priority": 2, "label": [7], "store": {"Recorded": 9}}],
            "identity": "00000000000000000000000000000001",
            "version": 3,
        }),
    );
    let mut learner = to_value(Membership::of_voters([id(1)])).unwrap();
    learner["members"][0]["suffrage"] = json!("Learner");
    let error = serde_json::from_value::<Membership>(learner).unwrap_err().to_string();
    assert!(error.contains("no voter"), "{error}");
}

#[test]
fn status_and_metrics_of_a_node_are_written() {
    let (network, _late) = InProcessNetwork::new(1, || {});
    let raft = Config::new(id(1), [1, 2].map(NodeId::new));
    let one = start(raft.clone(), &network, MemoryJournal::new(), Map::default()).unwrap();
    let status = to_value(one.status().wait().unwrap()).unwrap();
    assert!(status["findings"].as_array().is_some_and(|found| !found.is_empty()), "{status}");
    assert_eq!(status["raft"]["membership"]["members"][1]["suffrage"], json!("Voter"));

    let raft = Config { id: id(2), ..raft };
    let two = start(raft, &network, MemoryJournal::new(), Map::default()).unwrap();
    let nodes = [(1, one), (2, two)].into();
    let node = loop {
        let node = &nodes[&leader(&nodes)];
        if node.propose(set(1, b"a")).wait_timeout(Duration::from_secs(10)).is_ok() {
            break node;
        }
        thread::yield_now();
    };
    let status = to_value(node.status().wait().unwrap()).unwrap();
    assert!(status["raft"]["commit_index"].as_u64() >= Some(2), "{status}");
    let metrics = to_value(node.metrics()).unwrap();
    let syncs = &metrics["histograms"]["journal_sync"];
    assert_eq!(syncs["buckets"].as_array().map(Vec::len), Some(22), "{metrics}");
    assert_eq!(syncs["buckets"][0][0], json!({"secs": 0, "nanos": 16_000}));
}
