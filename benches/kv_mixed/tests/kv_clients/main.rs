//! The example `kv` under the clients that people have: redis-py, node-redis, ioredis and the crate
//! `redis`, with their defaults, while the leader is killed with SIGKILL.
//!
//! Each client does what its first page shows, and then increments a counter. One is connected to a
//! server that lives on: it must notice nothing, because that server finds the next leader. Another
//! is connected to the leader: it loses its connection, as with any server that dies, and goes on
//! at the next address. At the end each counter must hold every increment that was acknowledged,
//! and none twice; of one that was not acknowledged nobody can know.
//!
//! `benches/kv_mixed/clients/install.sh` installs the clients that are no crates. Those that are
//! missing are said to be skipped.

#![allow(clippy::unwrap_used)]

mod driver;
mod rust;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use driver::{Driver, Kind};
use kv::client::Client;
use kv::demo::cluster::Cluster;
use kv::server::resp::Frame;
use libtest_mimic::{Arguments, Failed, Trial};

/// How long anything may take. Generous: it ends a test that would hang, and decides nothing else.
const PATIENCE: Duration = Duration::from_secs(60);
/// The program that runs the servers.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kv_mixed");
/// A runtime for each server of three.
const MIXED: [&str; 3] = ["tokio", "smol", "threads"];
/// How many increments each client must have had acknowledged before what comes next.
const INCREMENTS_BETWEEN: u64 = 50;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each has a cluster of three processes, and two clients.
    arguments.test_threads = Some(1);
    let trials = Kind::ALL.map(|kind| {
        let missing = kind.missing();
        if let Some(missing) = &missing {
            eprintln!(
                "skipped: {} in this run: {missing}; benches/kv_mixed/clients/install.sh",
                kind.name()
            );
        }
        let run = move || acknowledged_increments_are_counted_once(kind);
        Trial::test(kind.name(), run).with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn acknowledged_increments_are_counted_once(kind: Kind) -> Result<(), Failed> {
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, &MIXED)?;
    let leader = cluster.wait_for_leader(0, PATIENCE)?.id;
    let mut order = cluster.ids();
    order.sort_by_key(|id| *id != leader);
    let addresses: Vec<_> = order.iter().map(|id| cluster.client_address(*id)).collect();
    let mut follows = Driver::start(kind, "follows", &addresses[1..2])?;
    let mut leads = Driver::start(kind, "leads", &addresses)?;

    let both = |cluster: &mut Cluster, leads: &mut Driver, follows: &mut Driver| {
        let goals = [&*leads, &*follows].map(|driver| driver.acknowledged() + INCREMENTS_BETWEEN);
        cluster.wait(PATIENCE, "the clients to go on", |_| {
            let drivers = [&mut *leads, &mut *follows];
            let mut goals = drivers.into_iter().zip(goals);
            goals
                .all(|(driver, goal)| driver.has_ended() || driver.acknowledged() >= goal)
                .then_some(())
        })
    };
    both(&mut cluster, &mut leads, &mut follows)?;
    cluster.kill(leader)?;
    both(&mut cluster, &mut leads, &mut follows)?;
    cluster.start_server(leader)?;
    both(&mut cluster, &mut leads, &mut follows)?;

    let (leads, follows) = (leads.stop(PATIENCE)?, follows.stop(PATIENCE)?);
    if !follows.lost.is_empty() {
        return Err(
            format!("a client of a server that lived on was told {:?}", follows.lost).into()
        );
    }
    if leads.lost.is_empty() {
        return Err("the client of the server that was killed noticed nothing".into());
    }
    for driven in [leads, follows] {
        let mut client = Client::connect(addresses[1])?;
        let Frame::BulkString(counter) = client.call(["GET".to_owned(), driven.key.clone()])?
        else {
            return Err(format!("{} is no number", driven.key).into());
        };
        let counter: u64 = std::str::from_utf8(&counter)?.parse()?;
        let most = driven.acknowledged + driven.lost.len() as u64;
        if !(driven.acknowledged..=most).contains(&counter) {
            let text = format!("{}: {counter} of {} to {most}", driven.key, driven.acknowledged);
            return Err(cluster.failure(&text).into());
        }
    }
    Ok(())
}
