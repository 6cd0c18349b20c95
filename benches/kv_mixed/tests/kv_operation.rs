//! The examples `kv` as operators run them: clusters that grow, compact their logs, lose disks and
//! majorities, and hand over.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::client::Client;
use kv::demo::cluster::{Cluster, Failure};
use kv::demo::workload::Workload;
use kv::server::resp::{Frame, ok};

/// How long anything may take. Generous: it ends a test that would hang, and decides nothing else.
const PATIENCE: Duration = Duration::from_secs(60);
/// The program that runs the servers.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kv_mixed");
/// A runtime for each server of three.
const MIXED: [&str; 3] = ["tokio", "smol", "threads"];
/// How many writes must be acknowledged between two disturbances.
const WRITES_BETWEEN: u64 = 50;

fn wait_for_writes(cluster: &mut Cluster, workload: &Workload) -> Result<(), Failure> {
    let goal = workload.acknowledged() + WRITES_BETWEEN;
    cluster.wait(PATIENCE, "clients to go on writing", |_| {
        (workload.acknowledged() >= goal).then_some(())
    })
}

/// Some member that is not this one.
fn other(cluster: &Cluster, id: u64) -> u64 {
    cluster.ids().into_iter().find(|other| *other != id).unwrap()
}

fn set(cluster: &Cluster, id: u64, key: String, value: Bytes) -> Frame {
    let mut client = Client::connect(cluster.client_address(id)).unwrap();
    client.call([Bytes::from("SET"), key.into(), value]).unwrap()
}

fn get(cluster: &Cluster, id: u64, key: &'static str) -> Frame {
    Client::connect(cluster.client_address(id)).unwrap().call(["GET", key]).unwrap()
}

/// What a failed order said must hold these words.
fn refused(order: Result<String, Failure>, words: &str) {
    let said = order.unwrap_err().0;
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_cluster_grows_and_loses_all_with_whom_it_began() -> Result<(), Failure> {
    let mut cluster = Cluster::start(Path::new(PROGRAM), 1, &MIXED)?;
    cluster.wait_for_leader(0, PATIENCE)?;
    let workload = Workload::start_with(&cluster, 0, 2);
    wait_for_writes(&mut cluster, &workload)?;
    let mut members = vec![1];
    for old in [None, None, Some(1), Some(2), Some(3)] {
        let new = cluster.join()?;
        let said = cluster.add(new, members[0])?;
        assert!(said.contains("is a voter"), "{said}");
        members.push(new);
        workload.follow(&cluster);
        if let Some(old) = old {
            members.retain(|id| *id != old);
            // A follower forwards what is asked of it to the leader: the newest member is
            // asked first.
            let said = cluster.order(new, &["remove", &old.to_string()])?;
            assert!(said.contains("is no member any more"), "{said}");
            assert_eq!(cluster.terminate(old, PATIENCE)?.code(), Some(0));
            cluster.forget(old)?;
            workload.follow(&cluster);
        }
        wait_for_writes(&mut cluster, &workload)?;
    }
    assert_eq!(members, [4, 5, 6]);
    let said = cluster.order(5, &["members"])?;
    for id in [4, 5, 6] {
        let (address, client) = (cluster.address(id), cluster.client_address(id));
        assert!(
            said.contains(&address.to_string()) && said.contains(&client.to_string()),
            "{said}"
        );
    }
    assert_eq!((said.matches("voter").count(), said.matches("leader").count()), (3, 1), "{said}");
    workload.stop().verify(&mut cluster, PATIENCE)?;
    Ok(())
}

#[test]
fn logs_are_compacted_and_who_is_behind_is_sent_a_snapshot() -> Result<(), Failure> {
    const VALUE_BYTES: usize = 128 << 10;
    let mut cluster = Cluster::start_with(Path::new(PROGRAM), 3, &MIXED, &["--snapshot-log=1"])?;
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    let away = other(&cluster, leader);
    cluster.kill(away)?;
    for number in 0..40 {
        let value = vec![b'a' + number % 26; VALUE_BYTES].into();
        assert_eq!(set(&cluster, leader, format!("key {}", number % 8), value), ok());
    }
    cluster.wait(PATIENCE, "the log to be compacted", |cluster| {
        let said = cluster.order(leader, &["status"]).unwrap();
        assert!(said.contains("snapshot: "), "{said}");
        (!said.contains("behind entry 0 ") && !said.contains("snapshot: none")).then_some(())
    })?;
    cluster.start_server(away)?;
    let same = |cluster: &mut Cluster| {
        let ids = cluster.ids();
        let views: Vec<_> = ids.into_iter().filter_map(|id| cluster.view(id)).collect();
        let first = views.first().filter(|view| views.len() == 3 && view.keys == 8)?;
        views.iter().all(|view| view.digest == first.digest).then(|| first.digest.clone())
    };
    let digest = cluster.wait(PATIENCE, "the one that was away to hold the same", same)?;
    assert!(cluster.order(away, &["snapshot"])?.contains("everything up to entry"));

    // With all of them restarted, what was compacted is in the snapshots alone.
    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    for id in cluster.ids() {
        cluster.start_server(id)?;
    }
    cluster.wait_for_leader(0, PATIENCE)?;
    assert_eq!(cluster.wait(PATIENCE, "all to hold the same", same)?, digest);
    Ok(())
}

#[test]
fn a_server_that_lost_its_disk_is_refused_and_comes_back_as_a_learner() -> Result<(), Failure> {
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, &MIXED)?;
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    let wiped = other(&cluster, leader);
    assert_eq!(set(&cluster, leader, "k".into(), "v".into()), ok());
    cluster.wait(PATIENCE, "the stores to be recorded", |cluster| {
        let log = cluster.log(leader);
        log.contains("identities or addresses of members are recorded").then_some(())
    })?;
    cluster.kill(wiped)?;
    cluster.wipe(wiped)?;
    cluster.start_server(wiped)?;
    cluster.wait(PATIENCE, "the refusal, with the way back", |cluster| {
        let log = cluster.log(wiped);
        (log.contains("remove") && log.contains("add it again as a learner")).then_some(())
    })?;
    let id = wiped.to_string();
    let (address, client) =
        (cluster.address(wiped).to_string(), cluster.client_address(wiped).to_string());
    refused(cluster.order(leader, &["add", &id, &address, &client]), "is a member already");

    cluster.order(leader, &["remove", &id])?;
    cluster.kill(wiped)?;
    cluster.wipe(wiped)?;
    cluster.let_join(wiped);
    cluster.start_server(wiped)?;
    cluster.add(wiped, leader)?;
    // Now its vote and its copy are needed.
    cluster.kill(cluster.ids().into_iter().find(|id| ![leader, wiped].contains(id)).unwrap())?;
    assert_eq!(set(&cluster, wiped, "k2".into(), "v2".into()), ok());
    assert_eq!(get(&cluster, wiped, "k"), Frame::BulkString("v".into()));
    Ok(())
}

#[test]
fn a_cluster_is_restored_from_one_survivor_if_one_says_yes() -> Result<(), Failure> {
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, &MIXED)?;
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    assert_eq!(set(&cluster, leader, "k".into(), "v".into()), ok());
    let (data, id) = (format!("--data={}", cluster.data(leader).display()), leader.to_string());
    let restore = ["restore-from-survivor", &data, "--id", &id];
    let yes = ["restore-from-survivor", &data, "--id", &id, "--yes"];
    refused(cluster.run(&yes), "stop that node first");
    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    refused(cluster.run(&restore), "nothing was changed");
    let said = cluster.run(&yes)?;
    assert!(said.contains("LOST") && said.contains("Members were: 1, 2, 3"), "{said}");
    for lost in cluster.ids().into_iter().filter(|id| *id != leader) {
        cluster.forget(lost)?;
    }
    cluster.start_server(leader)?;
    cluster.wait_for_leader(0, PATIENCE)?;
    assert_eq!(get(&cluster, leader, "k"), Frame::BulkString("v".into()));
    let new = cluster.join()?;
    cluster.add(new, leader)?;
    assert_eq!(get(&cluster, new, "k"), Frame::BulkString("v".into()));
    Ok(())
}

/// No server waits for an election timeout when a leader is told to stop, or to hand over.
#[test]
fn a_leader_hands_over_when_it_is_told_to_and_before_it_stops() -> Result<(), Failure> {
    const ELECTION_TIMEOUT: Duration = Duration::from_secs(10);
    let flags = ["--election-timeout-min=10000", "--election-timeout-max=20000"];
    let mut cluster = Cluster::start_with(Path::new(PROGRAM), 3, &MIXED, &flags)?;
    let mut old = cluster.wait_for_leader(0, PATIENCE)?;
    let start = Instant::now();
    let to = other(&cluster, old.id);
    let said = cluster.order(to, &["transfer", &to.to_string()])?;
    assert!(said.contains(&format!("server {to} leads")), "{said}");
    old = cluster.wait_for_leader(old.term, PATIENCE)?;
    assert_eq!(old.id, to);
    assert!(cluster.order(old.id, &["transfer"])?.contains("done"));
    old = cluster.wait_for_leader(old.term, PATIENCE)?;
    assert_eq!(cluster.terminate(old.id, PATIENCE)?.code(), Some(0));
    let new = cluster.wait_for_leader(old.term, PATIENCE)?;
    assert_eq!(set(&cluster, new.id, "k".into(), "v".into()), ok());
    assert!(start.elapsed() < ELECTION_TIMEOUT, "after {:?}", start.elapsed());
    Ok(())
}

/// A server that waits for a leader which stands still goes on as soon as it hears of another.
#[test]
fn a_write_does_not_wait_for_a_leader_that_stands_still() -> Result<(), Failure> {
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, &MIXED)?;
    let leader = cluster.wait_for_leader(0, PATIENCE)?;
    let through: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader.id).collect();
    let mut clients: Vec<_> =
        through.iter().map(|id| Client::connect(cluster.client_address(*id)).unwrap()).collect();
    for client in &mut clients {
        assert_eq!(client.call(["SET", "k", "v"]).unwrap(), ok(), "its link to the leader is open");
    }
    let process = cluster.process_id(leader.id).unwrap().to_string();
    let signal = |signal: &str| {
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    };
    signal("-STOP");
    let began = Instant::now();
    let waits: Vec<_> = clients
        .into_iter()
        .map(|mut client| thread::spawn(move || (client.call(["INCR", "n"]), began.elapsed())))
        .collect();
    let waits: Vec<_> = waits.into_iter().map(|wait| wait.join().unwrap()).collect();
    let view = cluster.wait_for_leader(leader.term, PATIENCE);
    signal("-CONT");
    view?;
    let mut answers = Vec::new();
    for (answer, waited) in waits {
        assert!(waited < kv::server::batch::FORWARD_WAIT_MAX, "after {waited:?}");
        answers.push(answer.unwrap());
    }
    answers.sort_by_key(|answer| format!("{answer:?}"));
    assert_eq!(answers, [Frame::Integer(1), Frame::Integer(2)], "each once");
    Ok(())
}

#[test]
fn orders_that_make_no_sense_are_refused_with_a_reason() -> Result<(), Failure> {
    let mut cluster = Cluster::start(Path::new(PROGRAM), 1, &[])?;
    cluster.wait_for_leader(0, PATIENCE)?;
    refused(cluster.order(1, &["remove", "1"]), "no voter would be left");
    refused(cluster.order(1, &["remove", "7"]), "server 7 is no member");
    refused(cluster.order(1, &["promote", "7"]), "server 7 is no member");
    refused(cluster.order(1, &["promote", "1"]), "server 1 is no learner");
    refused(cluster.order(1, &["transfer"]), "no other voter");
    refused(cluster.order(1, &["add", "1", "a:1", "a:2"]), "server 1 is a member already");
    refused(cluster.order(1, &["add", "x", "a:1", "a:2"]), "invalid value 'x'");
    refused(cluster.run(&["members", "--server=127.0.0.1:1"]), "does not answer");
    // No server listens there: the member is added, and not promoted.
    let added = cluster.order(1, &["add", "2", "127.0.0.1:1", "127.0.0.1:1", "--within=0"]);
    refused(added, "server 2 has not answered yet");
    assert!(cluster.order(1, &["members"])?.contains("learner"));
    assert!(cluster.order(1, &["status"])?.contains("follower 2"));
    cluster.order(1, &["remove", "2"])?;
    Ok(())
}

/// What `kv why` says at this server, once it holds these words.
fn why(cluster: &mut Cluster, id: u64, words: &str) -> Result<String, Failure> {
    cluster.wait(PATIENCE, words, |cluster| {
        let said = cluster.order(id, &["why"]).ok()?;
        said.contains(words).then_some(said)
    })
}

#[test]
fn a_broken_cluster_says_why() -> Result<(), Failure> {
    // A leader keeps its office long enough to be asked.
    let timeouts = ["--election-timeout-min=3000", "--election-timeout-max=4000"];
    let mut cluster = Cluster::start_with(Path::new(PROGRAM), 3, &MIXED, &timeouts)?;
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    let away = other(&cluster, leader);
    let last = cluster.ids().into_iter().find(|id| ![leader, away].contains(id)).unwrap();

    let said = why(&mut cluster, leader, &format!("follower of server {leader}"))?;
    assert_eq!(said.matches("nothing stands in its way").count(), 3, "{said}");

    // A server that no member has added.
    let stranger = cluster.join()?;
    why(&mut cluster, stranger, "it belongs to no cluster yet: add it at a member")?;
    assert_eq!(cluster.terminate(stranger, PATIENCE)?.code(), Some(0));
    cluster.forget(stranger)?;

    // A member that is down.
    cluster.wait(PATIENCE, "the stores of members to be recorded", |cluster| {
        cluster.log(leader).contains("identities or addresses of members").then_some(())
    })?;
    cluster.kill(away)?;
    why(&mut cluster, leader, &format!("server {away}: it does not answer at "))?;

    // An empty disk.
    cluster.wipe(away)?;
    cluster.start_server(away)?;
    why(&mut cluster, leader, &format!("server {leader}: it refuses server {away}: "))?;
    why(&mut cluster, away, "its store is empty, and a peer says")?;
    cluster.kill(away)?;

    // A leader without a quorum, and then no leader.
    cluster.kill(last)?;
    let address = cluster.client_address(leader);
    let write = thread::spawn(move || Client::connect(address).unwrap().call(["INCR", "n"]));
    let said = why(&mut cluster, leader, "it has had no word of a quorum for ")?;
    let silent = format!("servers {} and {} are silent", away.min(last), away.max(last));
    assert!(said.contains(&silent), "{said}");
    let lacking = format!("and servers {} and {} have not written", away.min(last), away.max(last));
    why(&mut cluster, leader, &lacking)?;
    let said = why(&mut cluster, leader, "too few voters answer to elect it")?;
    assert!(said.contains(&silent) && said.contains("it was leader in term "), "{said}");
    assert!(matches!(write.join().unwrap(), Ok(Frame::Error(_))));

    refused(cluster.run(&["why", "--server=127.0.0.1:1"]), "does not answer");
    Ok(())
}
