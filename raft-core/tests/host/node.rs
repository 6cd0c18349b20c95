//! Nodes on plain threads, with blocking waits, on an in-process network.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_core::host::{
    Capture, ClusterId, Driver, Handle, InProcessNetwork, Journal, Next, NodeConfig, StartError,
    StateMachine,
};
use raft_core::{Config, Index, NodeId};

pub(crate) const CLUSTER: ClusterId = ClusterId::new(1);

pub(crate) fn id(number: u64) -> NodeId {
    NodeId::new(number)
}

/// Keeps the last command under each key, its first eight bytes; counts all of them.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Map {
    pub(crate) count: u64,
    pub(crate) values: Arc<BTreeMap<[u8; 8], Bytes>>,
}

/// A command that sets a key.
pub(crate) fn set(key: u64, value: &[u8]) -> Bytes {
    [&key.to_be_bytes()[..], value].concat().into()
}

impl StateMachine for Map {
    type Reply = u64;

    fn apply(&mut self, _index: Index, command: Bytes) -> u64 {
        let key = *command.first_chunk().unwrap();
        Arc::make_mut(&mut self.values).insert(key, Bytes::copy_from_slice(&command[8..]));
        self.count += 1;
        self.count
    }

    fn snapshot(&self) -> Option<Capture> {
        let Self { count, values } = self.clone();
        Some(Box::new(move |out: &mut dyn Write| {
            out.write_all(&count.to_le_bytes())?;
            for (key, value) in values.iter() {
                out.write_all(key)?;
                out.write_all(&(value.len() as u64).to_le_bytes())?;
                out.write_all(value)?;
            }
            Ok(())
        }))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        let mut number = [0; 8];
        snapshot.read_exact(&mut number)?;
        let count = u64::from_le_bytes(number);
        let mut values = BTreeMap::new();
        let mut key = [0; 8];
        while snapshot.read(&mut key[..1])? == 1 {
            snapshot.read_exact(&mut key[1..])?;
            snapshot.read_exact(&mut number)?;
            let mut value = vec![0; u64::from_le_bytes(number) as usize];
            snapshot.read_exact(&mut value)?;
            values.insert(key, Bytes::from(value));
        }
        *self = Self { count, values: Arc::new(values) };
        Ok(())
    }
}

pub(crate) fn config(raft: Config) -> NodeConfig {
    NodeConfig { seed: Some(1), ..NodeConfig::new(CLUSTER, raft) }
}

pub(crate) fn start<S: StateMachine>(
    raft: Config,
    hub: &InProcessNetwork,
    journal: impl Journal,
    state_machine: S,
) -> Result<Handle<S>, StartError> {
    start_as(config(raft), hub, journal, state_machine)
}

pub(crate) fn start_as<S: StateMachine>(
    config: NodeConfig,
    hub: &InProcessNetwork,
    journal: impl Journal,
    state_machine: S,
) -> Result<Handle<S>, StartError> {
    let transport = Box::new(hub.endpoint(config.raft.id));
    // One wake between two waits is enough, so a full channel needs no other.
    let (waker, woken) = mpsc::sync_channel(1);
    let wake = move || {
        let _ = waker.try_send(());
    };
    let (handle, driver) =
        Driver::start(config, state_machine, Box::new(journal), transport, wake)?;
    thread::spawn(move || run(driver, &woken));
    Ok(handle)
}

fn run<S: StateMachine>(mut driver: Driver<S>, woken: &Receiver<()>) {
    loop {
        match driver.turn() {
            Next::Again => {}
            Next::Wait(None) => woken.recv().unwrap(),
            Next::Wait(Some(deadline)) => {
                let span = deadline.saturating_duration_since(Instant::now());
                assert_ne!(woken.recv_timeout(span), Err(RecvTimeoutError::Disconnected));
            }
            Next::Stop => return,
        }
    }
}

/// Waits until it is so; a test that waits too long fails.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The one that leads, once there is one.
pub(crate) fn leader<S: StateMachine>(nodes: &BTreeMap<u64, Handle<S>>) -> u64 {
    let mut found = None;
    until("a leader", || {
        let mut leads = nodes.iter().filter(|(id, node)| {
            let leadership = node.leadership().current();
            leadership.role == raft_core::Role::Leader
                && leadership.leader == Some(NodeId::new(**id))
        });
        found = leads.next().map(|(id, _)| *id);
        found.is_some()
    });
    found.unwrap()
}

/// A gate in front of what a state machine does, to make it hang.
#[derive(Clone, Default, Debug)]
pub(crate) struct Gate {
    state: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Default, Debug)]
struct GateState {
    shut: bool,
    waiting: usize,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.state.0.lock().unwrap().shut = true;
    }

    pub(crate) fn open(&self) {
        self.state.0.lock().unwrap().shut = false;
        self.state.1.notify_all();
    }

    /// Passes the gate once it is open.
    pub(crate) fn pass(&self) {
        let mut state = self.state.0.lock().unwrap();
        state.waiting += 1;
        while state.shut {
            state = self.state.1.wait(state).unwrap();
        }
        state.waiting -= 1;
    }

    /// Whether something hangs at the gate.
    pub(crate) fn holds(&self) -> bool {
        let state = self.state.0.lock().unwrap();
        state.shut && state.waiting > 0
    }
}

/// The keys of commands at which a [`Gated`] passes its gate.
pub(crate) const GATED: u64 = 7;

/// A map that passes a gate when it applies a certain command, another one when its capture is
/// written, and a third one when it is restored.
#[derive(Clone, Default)]
pub(crate) struct Gated {
    pub(crate) map: Map,
    pub(crate) apply: Gate,
    pub(crate) capture: Gate,
    pub(crate) restore: Gate,
}

impl StateMachine for Gated {
    type Reply = u64;

    fn apply(&mut self, index: Index, command: Bytes) -> u64 {
        if command.starts_with(&GATED.to_be_bytes()) {
            self.apply.pass();
        }
        self.map.apply(index, command)
    }

    fn snapshot(&self) -> Option<Capture> {
        let (gate, capture) = (self.capture.clone(), self.map.snapshot()?);
        Some(Box::new(move |out| {
            gate.pass();
            capture(out)
        }))
    }

    fn restore(&mut self, snapshot: &mut dyn Read) -> io::Result<()> {
        self.restore.pass();
        self.map.restore(snapshot)
    }
}
