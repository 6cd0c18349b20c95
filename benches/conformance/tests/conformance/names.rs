//! Peers whose addresses are names: silent addresses, and a name service that hangs.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use raft_core::host::tcp::Found;

use crate::cluster::{Stage, until};

/// How long an attempt to connect lasts here, so that many fail in a short time.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// How many addresses of a name are silent, and how long an attempt lasts that tries them all.
const SILENT: usize = 7;
const LONG_CONNECT_TIMEOUT: Duration = Duration::from_millis(800);

/// How often each node fails to connect while the name service hangs.
const ATTEMPTS: u64 = 10;

/// The first addresses of each name take no connection and refuse none; the last is where the node
/// listens. It is reached in one attempt, and not after as many as there are silent addresses.
pub(crate) fn a_name_whose_first_addresses_are_silent_is_reached(stage: Stage) {
    let mut cluster = stage.idle(3, |_| ());
    let silent: Vec<_> = (0..SILENT).map(|_| Silent::new()).collect();
    let addresses: Vec<_> = silent.iter().map(|silent| silent.address).collect();
    cluster.name_peers(LONG_CONNECT_TIMEOUT, move |_, address| {
        Ok(addresses.iter().copied().chain([address]).collect())
    });
    cluster.all().into_iter().for_each(|position| cluster.restart(position));
    cluster.elect();
    cluster.propose("by name");
    cluster.await_applied(b"by name", 3);
    let failed = cluster.counters.iter().map(|counters| counters.read().connect_failed);
    let failed: Vec<_> = failed.collect();
    assert!(failed.iter().all(|failed| *failed < SILENT as u64), "{failed:?} attempts failed");
    drop(silent);
}

/// While the name service hangs, however often a node tries to connect, it has one lookup for each
/// of its peers. When the service answers at last, the nodes find each other.
pub(crate) fn a_name_service_that_hangs_is_asked_once(stage: Stage) {
    let mut cluster = stage.idle(3, |_| ());
    let service = Arc::new(Service::default());
    let asked = Arc::clone(&service);
    cluster.name_peers(CONNECT_TIMEOUT, move |name, address| {
        asked.hang(name);
        Ok([address].into())
    });
    cluster.all().into_iter().for_each(|position| cluster.restart(position));
    for counters in cluster.counters.clone() {
        let failed = || (counters.read().connect_failed >= ATTEMPTS).then_some(());
        until("attempts to connect", failed);
    }
    // Each of three nodes is a peer of two others.
    let lookups = service.lookups();
    assert!(lookups.values().all(|times| *times <= 2), "{lookups:?}");
    service.answer();
    cluster.elect();
    cluster.propose("found");
    cluster.await_applied(b"found", 3);
}

/// An address at which connecting takes for ever: its queue is full, and nobody empties it.
struct Silent {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Silent {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        shorten(&listener);
        let patience = Duration::from_millis(100);
        let connect = || TcpStream::connect_timeout(&address, patience).ok();
        // Where the queue cannot be made short, connections are taken and never answered.
        let waiting = std::iter::from_fn(connect).take(16).collect();
        Self { address, _listener: listener, _waiting: waiting }
    }
}

#[cfg(target_os = "linux")]
fn shorten(listener: &TcpListener) {
    rustix::net::listen(listener, 0).expect("it listens already");
}

#[cfg(not(target_os = "linux"))]
fn shorten(_listener: &TcpListener) {}

/// A name service that hangs until it is told to answer.
#[derive(Default)]
struct Service {
    state: Mutex<State>,
    answers: Condvar,
}

#[derive(Default)]
struct State {
    lookups: BTreeMap<String, usize>,
    answers: bool,
}

impl Service {
    fn hang(&self, name: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.answers {
            *state.lookups.entry(name.to_owned()).or_default() += 1;
        }
        let waited = self.answers.wait_while(state, |state| !state.answers);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn answer(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).answers = true;
        self.answers.notify_all();
    }

    fn lookups(&self) -> BTreeMap<String, usize> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lookups.clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.answer();
    }
}

/// What [`Cluster::name_peers`](crate::cluster::Cluster::name_peers) calls for the name of a node
/// that listens there.
pub(crate) type Look = dyn Fn(&str, SocketAddr) -> Found + Send + Sync;
