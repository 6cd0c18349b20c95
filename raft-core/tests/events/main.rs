//! What a node says through the crate `tracing`: as JSON, because programs read that.
//!
//! One test, because a subscriber that hears all threads of a process is there only once.
#![cfg(feature = "std")]
// Outside of `#[test]` functions clippy does not know that these are tests.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::{
    Capture, ClusterId, Driver, FileJournal, Handle, InProcessNetwork, Next, NodeConfig,
    StateMachine,
};
use raft_core::{Config, Index, NodeId, Role};
use serde_json::Value;

const CLUSTER: ClusterId = ClusterId::new(1);
const COMMANDS: u64 = 10;

/// Counts commands.
struct Count(u64);

impl StateMachine for Count {
    type Reply = u64;

    fn apply(&mut self, index: Index, _command: Bytes) -> u64 {
        self.0 += 1;
        index.get()
    }

    fn snapshot(&self) -> Option<Capture> {
        let count = self.0;
        Some(Box::new(move |out: &mut dyn Write| out.write_all(&count.to_le_bytes())))
    }
}

/// Lines of JSON.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn events(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn start(id: u64, network: &InProcessNetwork, directory: &Path) -> Handle<Count> {
    let raft = Config::new(NodeId::new(id), [1, 2, 3].map(NodeId::new));
    let journal = FileJournal::open(directory.join(id.to_string()), CLUSTER, raft.id).unwrap();
    let transport = Box::new(network.endpoint(raft.id));
    let (waker, woken) = mpsc::sync_channel(1);
    let wake = move || {
        let _ = waker.try_send(());
    };
    let config = NodeConfig::new(CLUSTER, raft);
    let (handle, driver) =
        Driver::start(config, Count(0), Box::new(journal), transport, wake).unwrap();
    thread::spawn(move || run(driver, &woken));
    handle
}

fn run(mut driver: Driver<Count>, woken: &Receiver<()>) {
    loop {
        match driver.turn() {
            Next::Again => {}
            Next::Wait(until) => {
                let span = until.map_or(Duration::from_secs(60), |until| {
                    until.saturating_duration_since(Instant::now())
                });
                let _ = woken.recv_timeout(span);
            }
            Next::Stop => return,
        }
    }
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn events_are_json_with_one_type_for_each_field_and_tell_an_entrys_life() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let (network, _late) = InProcessNetwork::new(1, || {});
    let nodes: BTreeMap<_, _> =
        (1..=3).map(|id| (id, start(id, &network, directory.path()))).collect();
    let leader = until("a leader", || {
        let leads = |node: &Handle<Count>| node.leadership().current().role == Role::Leader;
        nodes.iter().find(|(_, node)| leads(node)).map(|(id, _)| *id)
    });
    let indexes: Vec<_> =
        (0..COMMANDS).map(|_| nodes[&leader].propose("command").wait().unwrap()).collect();
    nodes[&leader].take_snapshot().wait().unwrap();
    nodes[&leader].transfer_leadership(None).wait().unwrap();
    for index in &indexes {
        tell_the_life_of(*index, leader, &nodes, &lines);
    }
    for node in nodes.values() {
        node.shutdown().wait();
    }
    assert_fields(&lines.events());
}

/// The entry's events, of the leader and of every follower.
fn tell_the_life_of(index: u64, leader: u64, nodes: &BTreeMap<u64, Handle<Count>>, lines: &Lines) {
    for id in nodes.keys() {
        let life = until("an entry's life", || {
            let events = lines.events();
            let of_entry = events.iter().filter(|event| {
                event["target"] == "raft_core::entry"
                    && event["fields"]["node"] == *id
                    && event["fields"]["index"] == index
            });
            let life: Vec<_> = of_entry
                .map(|event| event["fields"]["message"].as_str().unwrap().to_owned())
                .collect();
            life.iter().any(|step| step == "applied").then_some(life)
        });
        let at = |step: &str| life.iter().position(|found| found == step);
        assert!(at("committed") < at("applied"), "{life:?}");
        // A leader may commit with the disks of two others before its own has answered.
        assert!(at("durable") < at("applied"), "what is applied is durable here: {life:?}");
        if *id == leader {
            assert_eq!(at("accepted"), Some(0), "{life:?}");
            assert_eq!(life.len(), 4, "each step once: {life:?}");
        } else {
            assert_eq!(life.len(), 3, "each step once, and none was accepted: {life:?}");
        }
    }
}

/// Every event names its node, and no field has two types.
fn assert_fields(events: &[Value]) {
    let ours = events.iter().filter(|event| {
        event["target"].as_str().is_some_and(|target| target.starts_with("raft_core"))
    });
    let mut types = BTreeMap::new();
    let mut names = BTreeSet::new();
    for event in ours {
        assert!(event["fields"]["node"].is_u64(), "without its node: {event}");
        for (name, value) in event["fields"].as_object().unwrap() {
            let kind = match value {
                Value::Null => continue,
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            };
            let known = types.entry(name.clone()).or_insert(kind);
            assert_eq!(*known, kind, "{name} has two types: {event}");
            names.insert(name.clone());
        }
    }
    for expected in ["node", "term", "index", "role", "leader", "last", "why"] {
        assert!(names.contains(expected), "no event with {expected}: {names:?}");
    }
}

/// Fields that are numbers wherever they stand, and so may not be written as text.
const NUMBERS: [&str; 8] =
    ["attempts", "bytes", "candidate", "index", "leader", "node", "peer", "term"];

/// As above, for the events that no run of a test brings about.
#[test]
fn every_event_in_the_sources_names_its_node() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for library in ["raft-core", "raft-tokio", "raft-smol", "raft-threads"] {
        sources(&package.with_file_name(library).join("src"), &mut files);
    }
    let mut found = 0;
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        for event in events_of(&source) {
            found += 1;
            let (file, fields) = (file.display(), without_texts(event));
            let words = |c: char| !c.is_alphanumeric() && c != '_';
            assert!(fields.split(words).any(|word| word == "node"), "no node in {file}: {event}");
            for name in NUMBERS {
                for text in [format!("%{name}"), format!("?{name}")] {
                    let is_text = |field: &str| field.trim().starts_with(&text);
                    assert!(!fields.split([',', '=']).any(is_text), "{text} in {file}: {event}");
                }
            }
        }
    }
    assert!(found > 40, "{found} events");
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The arguments of each event.
fn events_of(source: &str) -> impl Iterator<Item = &str> {
    let calls = source.match_indices("tracing::").filter_map(|(at, path)| {
        let (level, arguments) = source[at + path.len()..].split_once("!(")?;
        ["trace", "debug", "info", "warn", "error"].contains(&level).then_some(arguments)
    });
    calls.map(|arguments| {
        let mut depth = 1;
        let mut is_text = false;
        let mut before = ' ';
        let end = arguments.find(|c| {
            match c {
                '"' if before != '\\' => is_text = !is_text,
                '(' if !is_text => depth += 1,
                ')' if !is_text => depth -= 1,
                _ => {}
            }
            before = c;
            depth == 0
        });
        &arguments[..end.unwrap()]
    })
}

/// The arguments without what stands between quotation marks.
fn without_texts(event: &str) -> String {
    event.replace("\\\"", "").split('"').step_by(2).collect()
}
