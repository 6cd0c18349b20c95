//! The examples `kv` as their users run it: processes, files and sockets, and SIGKILL.
//!
//! Every acknowledged write must be there at the end, on every server, however servers died
//! meanwhile; none may be there twice. The servers run on every runtime, and on all of them in one
//! cluster.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kv::client::Client;
use kv::demo::cluster::{Cluster, Failure};
use kv::demo::workload::Workload;
use kv::server::resp::{Frame, ok};

/// How long anything may take. Generous: it ends a test that would hang, and decides nothing else.
const PATIENCE: Duration = Duration::from_secs(60);
/// The program that runs the servers.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kv_mixed");
/// What the program can run a server on.
const RUNTIMES: [&str; 4] = ["tokio", "smol", "threads", "async-std"];
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

/// The leader, and a follower.
fn leader_and_follower(cluster: &mut Cluster) -> Result<(u64, u64), Failure> {
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    Ok((leader, follower))
}

#[test]
fn acknowledged_writes_survive_any_kill() -> Result<(), Failure> {
    acknowledged_writes_survive(&MIXED)?;
    RUNTIMES.into_iter().try_for_each(|runtime| acknowledged_writes_survive(&[runtime]))
}

fn acknowledged_writes_survive(runtimes: &[&str]) -> Result<(), Failure> {
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, runtimes)?;
    cluster.wait_for_leader(0, PATIENCE)?;
    let workload = Workload::start(&cluster, 0);
    for round in 0..6 {
        wait_for_writes(&mut cluster, &workload)?;
        let (leader, follower) = leader_and_follower(&mut cluster)?;
        let victim = if round % 3 == 2 { follower } else { leader };
        cluster.kill(victim)?;
        wait_for_writes(&mut cluster, &workload)?;
        cluster.start_server(victim)?;
    }
    wait_for_writes(&mut cluster, &workload)?;
    let mut ledger = workload.stop();
    ledger.verify(&mut cluster, PATIENCE)?;

    // With all of them dead, the data is in the journals alone. Clients write until the last
    // moment.
    let workload = Workload::start(&cluster, 1);
    wait_for_writes(&mut cluster, &workload)?;
    for id in cluster.ids() {
        cluster.kill(id)?;
    }
    ledger.merge(workload.stop());
    for id in cluster.ids() {
        cluster.start_server(id)?;
    }
    cluster.wait_for_leader(0, PATIENCE)?;
    let verdict = ledger.verify(&mut cluster, PATIENCE)?;
    assert!(verdict.acknowledged >= 14 * WRITES_BETWEEN);
    Ok(())
}

#[test]
fn a_killed_leader_is_replaced_before_any_timeout() -> Result<(), Failure> {
    let mut mixes: Vec<&[&str]> = RUNTIMES.chunks(1).collect();
    mixes.push(&MIXED);
    std::thread::scope(|scope| {
        let mixes =
            mixes.into_iter().map(|mix| scope.spawn(|| is_replaced_before_any_timeout(mix)));
        let mixes: Vec<_> = mixes.collect();
        mixes.into_iter().try_for_each(|mix| mix.join().unwrap())
    })
}

/// The followers know by their connections, and stand in line.
fn is_replaced_before_any_timeout(runtimes: &[&str]) -> Result<(), Failure> {
    let timeouts = ["--election-timeout-min=8000", "--election-timeout-max=9000"];
    let mut cluster = Cluster::start_with(Path::new(PROGRAM), 3, runtimes, &timeouts)?;
    let leader = cluster.wait_for_leader(0, PATIENCE)?;
    let increment = |cluster: &Cluster, id| {
        let mut client = Client::connect(cluster.client_address(id)).unwrap();
        client.call(["INCR", "n"]).unwrap()
    };
    // A leader that dies before its first heartbeat was never known as one.
    assert_eq!(increment(&cluster, leader.id), Frame::Integer(1));
    let killed_at = Instant::now();
    cluster.kill(leader.id)?;
    let next = cluster.wait_for_leader(leader.term, PATIENCE)?;
    assert_eq!(increment(&cluster, next.id), Frame::Integer(2));
    let took = killed_at.elapsed();
    assert!(took < Duration::from_millis(7500), "{runtimes:?}: it took {took:?}");
    Ok(())
}

#[test]
fn a_cluster_without_a_majority_says_so_and_comes_back() -> Result<(), Failure> {
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, &MIXED)?;
    let (leader, follower) = leader_and_follower(&mut cluster)?;
    let last = cluster.ids().into_iter().find(|id| ![leader, follower].contains(id)).unwrap();
    let ask = |cluster: &Cluster, words: &[&'static str]| {
        let mut client = Client::connect(cluster.client_address(last)).unwrap();
        client.call(words.iter().copied()).unwrap()
    };
    assert_eq!(ask(&cluster, &["INCR", "n"]), Frame::Integer(1));
    cluster.kill(leader)?;
    cluster.kill(follower)?;
    std::thread::scope(|scope| {
        let requests = [&["INCR", "n"] as &[_], &["GET", "n"]];
        for answer in requests.map(|request| scope.spawn(|| ask(&cluster, request))) {
            let Frame::Error(text) = answer.join().unwrap() else { panic!("nobody can know") };
            assert!(text.starts_with("CLUSTERDOWN"), "{text}");
        }
    });
    assert!(
        matches!(ask(&cluster, &["INFO"]), Frame::BulkString(_)),
        "it still tells about itself"
    );
    cluster.start_server(leader)?;
    cluster.wait_for_leader(0, PATIENCE)?;
    assert_eq!(ask(&cluster, &["INCR", "n"]), Frame::Integer(2), "the refused one changed nothing");
    Ok(())
}

#[test]
fn the_largest_value_goes_through_and_one_byte_more_is_refused() -> Result<(), Failure> {
    RUNTIMES.into_iter().try_for_each(the_largest_value_goes_through)
}

fn the_largest_value_goes_through(runtime: &str) -> Result<(), Failure> {
    use kv::server::resp::REQUEST_BYTES_MAX;
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, &[runtime])?;
    let (_, follower) = leader_and_follower(&mut cluster)?;
    let connect = || Client::connect(cluster.client_address(follower)).unwrap();
    let overhead = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n\r\n".len();
    let value = |bytes: usize| bytes::Bytes::from(vec![b'x'; bytes]);
    let set = |value| connect().call(["SET".into(), "k".into(), value]);

    let largest = value(REQUEST_BYTES_MAX - overhead);
    assert_eq!(set(largest.clone()).unwrap(), ok());
    assert_eq!(connect().call(["GET", "k"]).unwrap(), Frame::BulkString(largest));
    // The server may close before all of it was sent; what counts is that it does not take it.
    let refused = set(value(REQUEST_BYTES_MAX - overhead + 1));
    assert!(!refused.is_ok_and(|reply| !matches!(reply, Frame::Error(_))));
    Ok(())
}

#[test]
fn clients_that_are_sent_away_in_the_midst_of_a_word_leave_their_places_to_others()
-> Result<(), Failure> {
    RUNTIMES.into_iter().try_for_each(clients_leave_their_places)
}

fn clients_leave_their_places(runtime: &str) -> Result<(), Failure> {
    use kv::server::limits::CONNECTIONS_MAX;
    let mut cluster = Cluster::start(Path::new(PROGRAM), 1, &[runtime])?;
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    let address = cluster.client_address(leader);
    let mut words = b"*1\r\n$4\r\nQUIT\r\n".to_vec();
    words.resize(200 << 10, b'x');
    for _ in 0..CONNECTIONS_MAX + 20 {
        // The server may close before all of it was sent.
        let _ = TcpStream::connect(address).unwrap().write_all(&words);
    }
    cluster.wait(PATIENCE, "a place for a client", |_| {
        Client::connect(address)
            .unwrap()
            .call(["SET", "k", "v"])
            .ok()
            .filter(|reply| *reply == ok())
    })?;
    Ok(())
}

fn serve(flags: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    // A server that starts although it should not ends at once, well.
    command.args(["serve", "--until-stdin-ends"]).args(flags).stdin(Stdio::null());
    command.output().unwrap()
}

/// The server must end with this code and these words.
fn refused(flags: &[&str], code: i32, words: &str) {
    let output = serve(flags);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_server_that_cannot_run_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let data = format!("--data={}", folder.path().display());
    let alone = |id: u64| format!("--peers={id}=127.0.0.1:0");
    let client = "--client=127.0.0.1:0";

    refused(&["--id=1", &data], 2, "Usage: kv_mixed serve");
    refused(&["--id=1", &data, &alone(2), client], 2, "--peers has no address of server 1");
    refused(&["--id=1", &data, &alone(1), client, "--heartbeat=200"], 2, "heartbeat_interval");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let taken_client = format!("--client={address}");
    refused(&["--id=1", &data, &alone(1), &taken_client], 1, "cannot listen on");
    let taken_listen = format!("--listen={address}");
    refused(&["--id=1", &data, &alone(1), client, &taken_listen], 1, "for other servers");

    assert_eq!(serve(&["--id=1", &data, &alone(1), client]).status.code(), Some(0));
    refused(&["--id=1", &data, &alone(1), client, "--runtime=none"], 1, "tokio, smol");
    refused(&["--id=2", &data, &alone(2), client], 1, "belongs to node 1");
    refused(&["--id=1", &data, &alone(1), client, "--cluster=2"], 1, "of cluster");
}

#[cfg(unix)]
#[test]
fn sigterm_ends_a_server_cleanly() -> Result<(), Failure> {
    for runtime in RUNTIMES {
        let mut cluster = Cluster::start(Path::new(PROGRAM), 1, &[runtime])?;
        cluster.wait_for_leader(0, PATIENCE)?;
        let process = cluster.process_id(1).unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
        let status = cluster.wait_for_end(1, PATIENCE)?;
        assert_eq!(status.code(), Some(0), "{runtime}");
    }
    Ok(())
}
