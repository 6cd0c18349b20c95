//! A cluster of `kv` is upgraded, server by server: to a program that has one more command, and
//! from the program of an earlier commit to this one and back.
//!
//! The newer program is a node in this process, on the journal and at the address of a server that
//! was stopped. Its state machine is the store of `kv`, and a command of a version that no `kv`
//! has.

#![allow(clippy::unwrap_used)]

use std::env;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use clap::Parser;
use kv::client::Client;
use kv::demo::cluster::{Cluster, Failure};
use kv::demo::workload::Workload;
use kv::flags::{Command, Options};
use kv::server::Parts;
use kv::server::resp::{Frame, encode_request};
use kv::server::store::{Store, Watch};
use kv::server::write::COMMANDS_VERSION;
use raft_core::Index;
use raft_core::host::{Capture, NotUnderstood, StateMachine};
use raft_threads::{Node, tcp};

/// How long anything may take. Generous: it ends a test that would hang, and decides nothing else.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many writes are acknowledged between two steps of an upgrade.
const WRITES_BETWEEN: u64 = 300;
/// The program that runs the servers.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kv_mixed");

/// The state machine of the newer program.
struct Newer {
    store: Store,
    /// Where the new command was applied.
    applied: Sender<Index>,
}

/// A server of the newer program.
struct Upgraded {
    node: Node<Newer>,
    store: Watch,
    applied: Receiver<Index>,
}

fn new_command() -> Bytes {
    let version = format!("V{}", COMMANDS_VERSION + 1);
    let words = ["ONCE", "5f.1.0", &version, "LOCK", "key"].map(|word| word.to_owned().into());
    let mut out = BytesMut::new();
    encode_request(&mut out, words);
    out.freeze()
}

impl StateMachine for Newer {
    type Reply = Frame;

    fn understands(&self, command: &Bytes) -> Result<(), NotUnderstood> {
        if *command == new_command() {
            return Ok(());
        }
        StateMachine::understands(&self.store, command)
    }

    fn apply(&mut self, index: Index, command: Bytes) -> Frame {
        if command == new_command() {
            self.applied.send(index).unwrap();
            return Frame::Integer(1);
        }
        self.store.apply(index, command)
    }

    fn snapshot(&self) -> Option<Capture> {
        StateMachine::snapshot(&self.store)
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        self.store.restore(snapshot)
    }
}

impl Upgraded {
    /// Takes the place of a server that does not run.
    fn start(cluster: &Cluster, id: u64) -> Self {
        let list = |address: &dyn Fn(u64) -> String| {
            let ids = cluster.ids().into_iter();
            ids.map(|id| format!("{id}={}", address(id))).collect::<Vec<_>>().join(",")
        };
        let flags = [
            "kv".to_owned(),
            "serve".to_owned(),
            format!("--id={id}"),
            format!("--peers={}", list(&|id| cluster.address(id).to_string())),
            format!("--client-peers={}", list(&|id| cluster.client_address(id).to_string())),
            format!("--data={}", cluster.data(id).display()),
        ];
        let Some(Command::Serve(flags)) = Options::parse_from(flags).command else {
            panic!("serve")
        };
        let Parts { config, store, journal, listener, peers, transport, .. } =
            Parts::open(flags.check_or_exit()).unwrap();
        let transport = tcp::Transport::new(listener, peers, transport).unwrap();
        let (applied, told) = mpsc::channel();
        let watch = store.watch();
        let node = Node::start(config, Newer { store, applied }, journal, transport).unwrap();
        Self { node, store: watch, applied: told }
    }
}

/// Waits for the end of an old server, which must be an error.
fn ends(process: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match process.try_wait().unwrap() {
            Some(status) => break assert_eq!(status.code(), Some(1)),
            None if Instant::now() >= deadline => panic!("it goes on"),
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[test]
fn a_server_stops_before_it_skips_a_command_and_goes_on_there_once_it_is_upgraded()
-> Result<(), Failure> {
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, &["tokio", "smol", "threads"])?;
    cluster.wait_for_leader(0, PATIENCE)?;
    let mut client = Client::connect(cluster.client_address(2)).unwrap();
    assert_eq!(client.call(["INCRBY", "n", "5"]).unwrap(), Frame::Integer(5));

    cluster.terminate(1, PATIENCE)?;
    let first = Upgraded::start(&cluster, 1);
    let leads = |cluster: &mut Cluster| {
        let leader = first.node.leadership().current().leader;
        if leader.is_some_and(|leader| leader.get() == 1) {
            return Some(());
        }
        // Refused until it has caught up.
        let _ = cluster.order(2, &["transfer", "1"]);
        None
    };
    cluster.wait(PATIENCE, "the upgraded server to lead", leads)?;
    let reply = first.node.propose(new_command()).wait().unwrap();
    assert_eq!(reply, Frame::Integer(1));
    let index = first.applied.recv_timeout(PATIENCE).unwrap();

    // The others have it in their logs, and must not go on behind it, whenever they are started.
    for _ in 0..2 {
        let mut old = [2, 3].map(|id| cluster.release(id).unwrap());
        old.iter_mut().for_each(ends);
        for id in [2, 3] {
            let said = cluster.log(id);
            for text in [
                format!("does not understand the committed command with index {index}"),
                format!("LOCK of version {} is unknown", COMMANDS_VERSION + 1),
                format!("knows commands up to version {COMMANDS_VERSION}"),
            ] {
                assert!(said.contains(&text), "server {id} did not say '{text}':\n{said}");
            }
            cluster.start_server(id)?;
        }
    }
    let mut old = [2, 3].map(|id| cluster.release(id).unwrap());
    old.iter_mut().for_each(ends);

    // Once they are upgraded, they apply it where the first did.
    let others = [2, 3].map(|id| Upgraded::start(&cluster, id));
    for other in &others {
        assert_eq!(other.applied.recv_timeout(PATIENCE), Ok(index));
    }
    let digests = |_: &mut Cluster| {
        let digest = first.store.summary().digest;
        others.iter().all(|other| other.store.summary().digest == digest).then_some(())
    };
    cluster.wait(PATIENCE, "the stores to agree", digests)
}

/// Starts the servers again, one after another, with this program. Each has caught up before the
/// next one goes.
fn roll(cluster: &mut Cluster, load: &Workload, program: &Path) -> Result<(), Failure> {
    cluster.use_program(program);
    for id in cluster.ids() {
        cluster.terminate(id, PATIENCE)?;
        work_goes_on(cluster, load)?;
        cluster.start_server(id)?;
        let leader = cluster.wait_for_leader(0, PATIENCE)?;
        cluster.wait(PATIENCE, "the server to catch up", |cluster| {
            cluster.view(id).filter(|view| view.applied >= leader.applied).map(drop)
        })?;
        work_goes_on(cluster, load)?;
    }
    Ok(())
}

fn work_goes_on(cluster: &mut Cluster, load: &Workload) -> Result<(), Failure> {
    let enough = load.acknowledged() + WRITES_BETWEEN;
    cluster.wait(PATIENCE, "writes", |_| (load.acknowledged() >= enough).then_some(()))
}

#[test]
#[ignore = "takes the program of an earlier commit: run .ci/upgrade"]
fn a_cluster_moves_from_an_earlier_program_to_this_one_and_back_under_load() -> Result<(), Failure>
{
    let earlier = env::var_os("KV_EARLIER_PROGRAM").map(PathBuf::from);
    let earlier = earlier.expect("KV_EARLIER_PROGRAM: the path of an earlier kv_mixed");
    let mut cluster = Cluster::start(&earlier, 3, &["tokio", "smol", "threads"])?;
    cluster.wait_for_leader(0, PATIENCE)?;
    let load = Workload::start(&cluster, 1);
    for program in [Path::new(PROGRAM), &earlier, Path::new(PROGRAM)] {
        roll(&mut cluster, &load, program)?;
        println!("{}: {} writes acknowledged", program.display(), load.acknowledged());
    }
    // From here on there is no way back.
    let raised = cluster.order(1, &["raise", "2"])?;
    assert_eq!(raised.trim(), "done: version 2 is in force");
    let verdict = load.stop().verify(&mut cluster, PATIENCE)?;
    println!("{} writes were acknowledged, and are there on each server", verdict.acknowledged);
    Ok(())
}

#[test]
fn a_version_is_put_in_force_once_every_server_knows_it() -> Result<(), Failure> {
    let mut cluster = Cluster::start(Path::new(PROGRAM), 3, &["tokio"])?;
    cluster.wait_for_leader(0, PATIENCE)?;
    let setnx = |cluster: &Cluster, id: u64| {
        Client::connect(cluster.client_address(id)).unwrap().call(["SETNX", "lock", "me"]).unwrap()
    };
    // Refused until the leader has met all members.
    cluster.wait(PATIENCE, "version 1", |cluster| cluster.order(2, &["raise", "1"]).ok())?;
    cluster.wait(PATIENCE, "SETNX to be refused", |cluster| {
        let mut refusals = cluster.ids().into_iter().map(|id| setnx(cluster, id));
        let is_refusal = |reply| matches!(reply, Frame::Error(text) if text.contains("takes commands up to version 1"));
        refusals.all(is_refusal).then_some(())
    })?;
    let unknown = cluster.order(3, &["raise", "3"]).unwrap_err();
    assert!(unknown.0.contains("understands versions 1 to 2 of the application, and not 3"));
    cluster.terminate(3, PATIENCE)?;
    cluster.wait(PATIENCE, "version 2 to be refused for a server that is down", |cluster| {
        let refused = cluster.order(1, &["raise", "2"]).unwrap_err();
        refused.0.contains("server 3 does not say that it understands version 2").then_some(())
    })?;
    cluster.start_server(3)?;
    let raised =
        cluster.wait(PATIENCE, "version 2", |cluster| cluster.order(1, &["raise", "2"]).ok())?;
    assert_eq!(raised.trim(), "done: version 2 is in force");
    cluster.wait(PATIENCE, "SETNX to be taken", |cluster| {
        matches!(setnx(cluster, 2), Frame::Integer(_)).then_some(())
    })?;
    let status = cluster.order(2, &["status"])?;
    assert!(status.contains("version: 2 is in force"), "{status}");
    Ok(())
}

#[test]
fn new_commands_are_kept_out_of_the_log_until_every_server_knows_them() -> Result<(), Failure> {
    let flags = ["--commands-version=1"];
    let mut cluster = Cluster::start_with(Path::new(PROGRAM), 3, &["tokio"], &flags)?;
    cluster.wait_for_leader(0, PATIENCE)?;
    for id in cluster.ids() {
        let mut client = Client::connect(cluster.client_address(id)).unwrap();
        let Frame::Error(text) = client.call(["SETNX", "lock", "me"]).unwrap() else {
            panic!("it was taken")
        };
        assert!(text.contains("SETNX is a command of version 2 here"), "{text}");
        assert!(matches!(client.call(["INCR", "n"]).unwrap(), Frame::Integer(_)));
    }
    Ok(())
}
