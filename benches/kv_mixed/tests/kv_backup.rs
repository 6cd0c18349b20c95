//! The examples `kv` as operators back them up: a cluster under load, its end, and a new cluster
//! from the file.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use kv::client::Client;
use kv::demo::cluster::{Cluster, Failure};
use kv::server::resp::{Frame, ok};

/// How long anything may take. Generous: it ends a test that would hang, and decides nothing else.
const PATIENCE: Duration = Duration::from_secs(60);
/// The program that runs the servers.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kv_mixed");
/// A runtime for each server of three.
const MIXED: [&str; 3] = ["tokio", "smol", "threads"];
/// How many writes must be acknowledged before the backup, and how many after it.
const WRITES: usize = 100;

/// What clients were told was written.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<BTreeMap<String, String>>>);

impl Acknowledged {
    fn now(&self) -> BTreeMap<String, String> {
        self.0.lock().unwrap().clone()
    }
}

/// Writes through this server until told to stop, one write after the other.
fn write(name: u64, server: SocketAddr, acknowledged: &Acknowledged, stopping: &AtomicBool) {
    let mut client = Client::connect(server).unwrap();
    for number in 0.. {
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        let (key, value) = (format!("{name}:{number}"), format!("value {number}"));
        let answer = client.call(["SET".to_owned(), key.clone(), value.clone()]);
        if answer.is_ok_and(|answer| answer == ok()) {
            acknowledged.0.lock().unwrap().insert(key, value);
        }
    }
}

fn refused(order: Result<String, Failure>, words: &str) {
    let said = order.unwrap_err().0;
    assert!(said.contains(words), "{said}");
}

/// Backs up this follower under load. Returns what was acknowledged before that.
fn back_up_under_load(
    cluster: &mut Cluster,
    follower: u64,
    file: &str,
) -> Result<BTreeMap<String, String>, Failure> {
    let (acknowledged, stopping) = (Acknowledged::default(), AtomicBool::new(false));
    let servers: Vec<_> =
        cluster.ids().into_iter().map(|id| (id, cluster.client_address(id))).collect();
    thread::scope(|scope| {
        for (id, server) in servers {
            let (acknowledged, stopping) = (&acknowledged, &stopping);
            scope.spawn(move || write(id, server, acknowledged, stopping));
        }
        let wait = |cluster: &mut Cluster, count: usize| {
            cluster.wait(PATIENCE, "clients to write", |_| {
                (acknowledged.now().len() >= count).then_some(())
            })
        };
        let backed_up = wait(cluster, WRITES).and_then(|()| {
            let before = acknowledged.now();
            let said = cluster.order(follower, &["backup", "--out", file])?;
            assert!(said.contains("is written"), "{said}");
            wait(cluster, before.len() + WRITES)?;
            Ok(before)
        });
        stopping.store(true, Ordering::Relaxed);
        backed_up
    })
}

#[test]
fn a_cluster_that_is_lost_begins_again_from_a_followers_backup() -> Result<(), Failure> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    let file = path.to_str().unwrap();
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, &MIXED)?;
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let before = back_up_under_load(&mut cluster, follower, file)?;
    refused(cluster.order(leader, &["backup", "--out", file]), "is there already");
    drop(cluster);

    let voters = "--voters=1,2,3";
    let mut cluster = Cluster::plan_unrecorded(Path::new(PROGRAM), 3, &MIXED, &["--cluster=2"])?;
    let said = cluster.run(&["backup", "--check", file])?;
    assert!(said.contains("cluster:  1, identity") && said.contains("members:  1, 2, 3"), "{said}");
    let restore = |cluster: &Cluster, id: u64, number: &str, file: &str| {
        let (id, data) = (id.to_string(), cluster.data(id));
        let data = data.to_str().unwrap();
        let number = format!("--cluster={number}");
        cluster.run(&["restore", "--backup", file, "--data", data, "--id", &id, &number, voters])
    };
    refused(restore(&cluster, 1, "1", file), "choose another number");
    for id in cluster.ids() {
        let said = restore(&cluster, id, "2", file)?;
        assert!(said.contains(&format!("as server {id} of cluster 2")), "{said}");
    }
    refused(restore(&cluster, 1, "2", file), "is not empty");
    for id in cluster.ids() {
        cluster.start_server(id)?;
    }
    cluster.wait_for_leader(0, PATIENCE)?;
    for id in cluster.ids() {
        let mut client = Client::connect(cluster.client_address(id)).unwrap();
        for (key, value) in &before {
            let answer = client.call(["GET".to_owned(), key.clone()]).unwrap();
            assert_eq!(answer, Frame::BulkString(value.clone().into()), "{key} at server {id}");
        }
    }
    let mut client = Client::connect(cluster.client_address(1)).unwrap();
    assert_eq!(client.call(["SET", "k", "v"]).unwrap(), ok(), "it goes on");

    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    refused(cluster.run(&["backup", "--check", file]), "is damaged at byte");
    let said = cluster.order(2, &["backup", "--out", file, "--replace"])?;
    assert!(said.contains("cluster:  2, identity"), "{said}");
    Ok(())
}

#[test]
fn a_server_without_a_quorum_gives_what_it_has() -> Result<(), Failure> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, &MIXED)?;
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    let mut client = Client::connect(cluster.client_address(leader)).unwrap();
    // More than a chunk.
    let value = "v".repeat(600 << 10);
    assert_eq!(client.call(["SET".to_owned(), "k".to_owned(), value]).unwrap(), ok());
    for id in cluster.ids().into_iter().filter(|id| *id != leader) {
        cluster.kill(id)?;
    }
    let local = cluster.order(leader, &["backup", "--local", "--out", &file("local")])?;
    assert!(local.contains("members:  1, 2, 3"), "{local}");
    let all = ["backup", "--within=0", "--out", &file("all")];
    refused(cluster.order(leader, &all), "kv backup --local");
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "nothing is left of what failed");
    refused(cluster.run(&["backup", "--check", PROGRAM]), "no backup of this library");
    let nobody = ["backup", "--server=127.0.0.1:1", "--out", &file("nobody")];
    refused(cluster.run(&nobody), "does not answer");
    Ok(())
}
