//! Clients that write without pause, and a ledger of what they were told, against which the cluster
//! is verified.
//!
//! Every key is written once, so a write is there or it is not. Beside them all clients increment
//! one counter: there a write that was silently repeated would show, and nowhere else.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cluster::{Cluster, Failure};
use crate::client::Client;
use crate::server::digest::Digest;
use crate::server::resp::Frame;

/// The key that all clients increment.
const COUNTER: &str = "counter";
/// One write in so many increments the counter.
const INCREMENT_EVERY: u64 = 8;
/// How long a client waits before it tries the next server after it found one gone.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);

/// Clients at work, one per server to begin with; one whose server is gone goes on with the next.
#[derive(Debug)]
pub struct Workload {
    ledger: Arc<Mutex<Ledger>>,
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What the clients were told.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Keys and values of writes that were acknowledged: must be there.
    acknowledged: Vec<Pair>,
    /// Of writes whose fate is unknown: may be there.
    unknown: Vec<Pair>,
    /// Of writes that were refused: must not be there.
    refused: Vec<Pair>,
    increments_acknowledged: u64,
    increments_unknown: u64,
    /// How long each acknowledged write took.
    latencies: Vec<Duration>,
    /// When the last write was acknowledged, and the longest time between two.
    last: Option<Instant>,
    longest_silence: Duration,
    awaited: Option<Awaited>,
}

type Pair = (Bytes, Bytes);

/// The first acknowledged write that began after `since`.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    since: Instant,
    acknowledged: Option<Instant>,
}

/// What a verification found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Acknowledged writes, each of which every server gave back.
    pub acknowledged: u64,
    /// Writes of unknown fate.
    pub unknown: u64,
    /// How many of those were applied.
    pub unknown_applied: u64,
    /// The counter.
    pub counter: u64,
    /// Keys in the store of every server.
    pub keys: u64,
    /// The digest of what the clients know must be there, and of the store of every server.
    pub digest: String,
    /// The last entry in the store of every server.
    pub applied: u64,
}

enum Told {
    Acknowledged,
    Refused,
    Unknown,
}

impl Workload {
    /// Sets a client to work on each server of the cluster. `round` keeps the keys of one workload
    /// from those of another.
    pub fn start(cluster: &Cluster, round: u64) -> Self {
        Self::start_with(cluster, round, cluster.ids().len())
    }

    /// The same with so many clients.
    pub fn start_with(cluster: &Cluster, round: u64, clients: usize) -> Self {
        let ledger = Arc::<Mutex<Ledger>>::default();
        let addresses = Arc::new(Mutex::new(addresses(cluster)));
        let stopping = Arc::<AtomicBool>::default();
        let threads = (0..clients)
            .map(|number| {
                let writer = Writer {
                    name: format!("{round}:{number}"),
                    addresses: addresses.clone(),
                    server: number,
                    connection: None,
                    ledger: ledger.clone(),
                };
                let stopping = stopping.clone();
                thread::spawn(move || writer.run(&stopping))
            })
            .collect();
        Self { ledger, addresses, stopping, threads }
    }

    /// From now on these are the servers among which a client looks for another one.
    pub fn follow(&self, cluster: &Cluster) {
        *lock(&self.addresses) = addresses(cluster);
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        lock(&self.ledger).acknowledged_count()
    }

    /// From now on, look for the first acknowledged write that began after this moment.
    pub fn await_write_since(&self, since: Instant) {
        lock(&self.ledger).awaited = Some(Awaited { since, acknowledged: None });
    }

    /// When that write was acknowledged.
    pub fn awaited_write(&self) -> Option<Instant> {
        lock(&self.ledger).awaited.and_then(|awaited| awaited.acknowledged)
    }

    /// The median and the 99th percentile of the time that writes took since the last call.
    pub fn take_latencies(&self) -> (Duration, Duration) {
        let mut latencies = std::mem::take(&mut lock(&self.ledger).latencies);
        latencies.sort_unstable();
        let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied();
        (at(50).unwrap_or_default(), at(99).unwrap_or_default())
    }

    /// The longest that an acknowledged write took since the last call.
    pub fn take_slowest(&self) -> Duration {
        let latencies = std::mem::take(&mut lock(&self.ledger).latencies);
        latencies.into_iter().max().unwrap_or_default()
    }

    /// The longest time in which no write of any client was acknowledged, since the last call.
    pub fn take_longest_silence(&self) -> Duration {
        let mut ledger = lock(&self.ledger);
        let running = ledger.last.map(|last| last.elapsed()).unwrap_or_default();
        std::mem::take(&mut ledger.longest_silence).max(running)
    }

    /// Stops the clients, each after the write that it is at, and gives what they were told.
    pub fn stop(mut self) -> Ledger {
        self.join();
        lock(&self.ledger).clone()
    }

    fn join(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A client that panicked has acknowledged nothing since; what it had is in the ledger.
            let _ = thread.join();
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl Ledger {
    /// Adds what another workload's clients were told.
    pub fn merge(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.unknown.extend(other.unknown);
        self.refused.extend(other.refused);
        self.increments_acknowledged += other.increments_acknowledged;
        self.increments_unknown += other.increments_unknown;
    }

    /// Compares what every server answers, and what every server holds in its own memory, with what
    /// the clients were told. No client may write meanwhile.
    pub fn verify(&self, cluster: &mut Cluster, within: Duration) -> Result<Verdict, Failure> {
        self.verify_beside(cluster, &[], within)
    }

    /// The same where others have written to these keys: what is there is taken for right, if it is
    /// the same on every server.
    pub fn verify_beside(
        &self,
        cluster: &mut Cluster,
        others: &[Bytes],
        within: Duration,
    ) -> Result<Verdict, Failure> {
        let others: Vec<Pair> = others.iter().map(|key| (key.clone(), Bytes::new())).collect();
        let mut digest = None;
        let mut present = 0;
        let mut counter = 0;
        for id in cluster.ids() {
            let failed = |text: String| Failure(format!("server {id}: {text}"));
            let mut client = Client::connect(cluster.client_address(id))
                .map_err(|e| failed(format!("no connection: {e}")))?;
            let mut get = |pairs: &[Pair]| {
                let requests: Vec<_> =
                    pairs.iter().map(|(key, _)| vec!["GET".into(), key.clone()]).collect();
                client.pipeline(&requests).map_err(|e| failed(format!("no answer: {e}")))
            };
            let mut expected = Digest::default();
            for ((key, value), reply) in self.acknowledged.iter().zip(get(&self.acknowledged)?) {
                if reply != Frame::BulkString(value.clone()) {
                    return Err(failed(format!(
                        "LOST the acknowledged write of {key:?}: {reply:?}"
                    )));
                }
                expected.add(key, value);
            }
            present = 0;
            for ((key, value), reply) in self.unknown.iter().zip(get(&self.unknown)?) {
                if reply == Frame::BulkString(value.clone()) {
                    expected.add(key, value);
                    present += 1;
                } else if reply != Frame::Null {
                    return Err(failed(format!("{key:?} holds what nobody wrote: {reply:?}")));
                }
            }
            for ((key, _), reply) in self.refused.iter().zip(get(&self.refused)?) {
                if reply != Frame::Null {
                    return Err(failed(format!(
                        "the refused write of {key:?} is there: {reply:?}"
                    )));
                }
            }
            for ((key, _), reply) in others.iter().zip(get(&others)?) {
                if let Frame::BulkString(value) = reply {
                    expected.add(key, &value);
                }
            }
            counter = self.counter(&get(&[(COUNTER.into(), Bytes::new())])?).map_err(failed)?;
            if counter > 0 {
                expected.add(COUNTER.as_bytes(), counter.to_string().as_bytes());
            }
            if digest.is_some_and(|digest| digest != expected) {
                return Err(failed("answers differ from those of the servers before it".into()));
            }
            digest = Some(expected);
        }
        let digest = digest.unwrap_or_default().to_string();
        let (keys, applied) = self.verify_stores(cluster, &digest, within)?;
        Ok(Verdict {
            acknowledged: self.acknowledged_count(),
            unknown: self.unknown.len() as u64 + self.increments_unknown,
            unknown_applied: present + (counter - self.increments_acknowledged),
            counter,
            keys,
            digest,
            applied,
        })
    }

    /// Waits until the memory of every server has this digest, and compares the rest.
    fn verify_stores(
        &self,
        cluster: &mut Cluster,
        digest: &str,
        within: Duration,
    ) -> Result<(u64, u64), Failure> {
        let mut found = Vec::new();
        for id in cluster.ids() {
            let what = format!("server {id} to hold in its own memory what the clients wrote");
            found.push(cluster.wait(within, &what, |cluster| {
                cluster.view(id).filter(|view| view.digest == digest)
            })?);
        }
        let same = found
            .windows(2)
            .all(|two| (two[0].keys, two[0].applied) == (two[1].keys, two[1].applied));
        match found.first() {
            Some(view) if same => Ok((view.keys, view.applied)),
            _ => Err(Failure(format!("the servers' stores differ: {found:?}"))),
        }
    }

    /// The counter, if it can be what it is.
    fn counter(&self, replies: &[Frame]) -> Result<u64, String> {
        let counter = match replies {
            [Frame::Null] => 0,
            [Frame::BulkString(digits)] => std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| format!("the counter is {digits:?}"))?,
            other => return Err(format!("the counter is {other:?}")),
        };
        let least = self.increments_acknowledged;
        let most = least + self.increments_unknown;
        if !(least..=most).contains(&counter) {
            return Err(format!(
                "the counter is {counter}, but {least} increments were acknowledged and {} are of \
                 unknown fate",
                self.increments_unknown
            ));
        }
        Ok(counter)
    }

    fn acknowledged_count(&self) -> u64 {
        self.acknowledged.len() as u64 + self.increments_acknowledged
    }

    fn record(&mut self, pair: Option<Pair>, told: &Told, began: Instant) {
        match (told, pair) {
            (Told::Acknowledged, pair) => {
                let now = Instant::now();
                self.latencies.push(now.saturating_duration_since(began));
                let last = self.last.replace(now).unwrap_or(now);
                self.longest_silence =
                    self.longest_silence.max(now.saturating_duration_since(last));
                self.acknowledged_since(began);
                match pair {
                    Some(pair) => self.acknowledged.push(pair),
                    None => self.increments_acknowledged += 1,
                }
            }
            (Told::Unknown, Some(pair)) => self.unknown.push(pair),
            (Told::Unknown, None) => self.increments_unknown += 1,
            (Told::Refused, Some(pair)) => self.refused.push(pair),
            (Told::Refused, None) => {}
        }
    }

    fn acknowledged_since(&mut self, began: Instant) {
        let awaited = self.awaited.as_mut().filter(|awaited| began >= awaited.since);
        if let Some(awaited) = awaited {
            awaited.acknowledged.get_or_insert_with(Instant::now);
        }
    }
}

/// One client.
struct Writer {
    name: String,
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    /// The place of its server among them.
    server: usize,
    connection: Option<Client>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Writer {
    fn run(mut self, stopping: &AtomicBool) {
        for number in 1.. {
            while self.connection.is_none() {
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
                self.connect();
            }
            if stopping.load(Ordering::Relaxed) {
                return;
            }
            let began = Instant::now();
            let (pair, told) = self.write(number);
            lock(&self.ledger).record(pair, &told, began);
        }
    }

    fn connect(&mut self) {
        let address = {
            let addresses = lock(&self.addresses);
            addresses.get(self.server % addresses.len().max(1)).copied()
        };
        self.connection = address.and_then(|address| Client::connect(address).ok());
        if self.connection.is_none() {
            self.server += 1;
            thread::sleep(RECONNECT_PAUSE);
        }
    }

    /// Writes a key, or increments the counter.
    fn write(&mut self, number: u64) -> (Option<Pair>, Told) {
        if number % INCREMENT_EVERY == 1 {
            return (None, self.call(["INCR".into(), COUNTER.into()]));
        }
        let key: Bytes = format!("key:{}:{number}", self.name).into();
        let value: Bytes = format!("value {number}").into();
        let told = self.call(["SET".into(), key.clone(), value.clone()]);
        (Some((key, value)), told)
    }

    fn call<const N: usize>(&mut self, words: [Bytes; N]) -> Told {
        match self.connection.as_mut().map(|connection| connection.call(words)) {
            Some(Ok(Frame::Error(text))) if text.starts_with("UNKNOWN") => Told::Unknown,
            Some(Ok(Frame::Error(_))) => Told::Refused,
            Some(Ok(_)) => Told::Acknowledged,
            // The connection broke with the request on it.
            Some(Err(_)) | None => {
                self.connection = None;
                self.server += 1;
                Told::Unknown
            }
        }
    }
}

fn addresses(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.ids().into_iter().map(|id| cluster.client_address(id)).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(acknowledged: u64, unknown: u64) -> Ledger {
        let mut ledger = Ledger::default();
        (0..acknowledged).for_each(|_| ledger.record(None, &Told::Acknowledged, Instant::now()));
        (0..unknown).for_each(|_| ledger.record(None, &Told::Unknown, Instant::now()));
        ledger.record(None, &Told::Refused, Instant::now());
        ledger
    }

    #[test]
    fn the_counter_shows_increments_that_were_lost_or_repeated() {
        let ledger = ledger(3, 2);
        let counter = |text: &'static str| ledger.counter(&[Frame::BulkString(text.into())]);
        assert_eq!((counter("3"), counter("5")), (Ok(3), Ok(5)));
        assert!(counter("2").is_err() && counter("6").is_err() && counter("x").is_err());
        assert!(ledger.counter(&[Frame::Null]).is_err());
        assert_eq!(Ledger::default().counter(&[Frame::Null]), Ok(0));
    }

    #[test]
    fn a_failover_ends_with_a_write_that_began_after_it() {
        let mut ledger = Ledger::default();
        let early = Instant::now();
        let since = early + Duration::from_nanos(1);
        ledger.awaited = Some(Awaited { since, acknowledged: None });
        ledger.record(None, &Told::Acknowledged, early);
        ledger.record(None, &Told::Unknown, since);
        assert!(ledger.awaited.is_some_and(|awaited| awaited.acknowledged.is_none()));
        ledger.record(None, &Told::Acknowledged, since);
        assert!(ledger.awaited.is_some_and(|awaited| awaited.acknowledged.is_some()));
    }
}
