//! Clients without rest. Those of a group work on the same key, each on a connection to a server of
//! its own, and go on with the next server when that one is gone or silent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fastrand::Rng;
use kv::client::Client;
use kv::demo::cluster::Failure;

use super::history::{Answer, Call, End, Recorder, Ticket};

/// How long a client waits for an answer before it calls the fate of its request unknown.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long a client waits before it tries the next server after it found one gone.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);
/// How many clients work on the same key. The last of them only reads. A client that writes
/// notices a leader that was cut off, because nothing is acknowledged there, and goes; a reader
/// stays, and must not be told what is no longer so.
const GROUP: usize = 4;
/// A reader goes on to the next server once in so many reads.
const READER_MOVES_EVERY: u32 = 256;
/// One operation in so many is a look at a key that the group has left.
const LOOK_BACK_EVERY: u32 = 16;
/// Half of these looks are at one of so many last keys: what a fault destroys is what was written
/// just before.
const LAST_KEYS: usize = 8;

/// Clients at work.
#[derive(Debug)]
pub struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// The longest pause of a client after an answer.
    pause_max: Duration,
    recorder: Arc<Recorder>,
    stopping: AtomicBool,
    /// What no value of a `SET` was yet.
    fresh: AtomicI64,
    /// The first answer that no server could give.
    nonsense: Mutex<Option<Failure>>,
}

impl Clients {
    /// Sets this many groups to work.
    pub fn start(
        groups: usize,
        servers: &[SocketAddr],
        recorder: &Arc<Recorder>,
        seed: u64,
        pause_max: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            pause_max,
            recorder: recorder.clone(),
            stopping: AtomicBool::new(false),
            fresh: AtomicI64::new(1),
            nonsense: Mutex::new(None),
        });
        let threads = (0..groups * GROUP).map(|number| {
            let mut servers = servers.to_vec();
            let first = (number + number / GROUP) % servers.len();
            servers.rotate_left(first);
            let client = Worker {
                shared: shared.clone(),
                group: number / GROUP,
                only_reads: number % GROUP == GROUP - 1,
                id: u32::try_from(number).unwrap_or(u32::MAX),
                servers,
                connection: None,
                rng: Rng::with_seed(seed.wrapping_add(number as u64)),
            };
            thread::spawn(move || client.run())
        });
        Self { threads: threads.collect(), shared: shared.clone() }
    }

    /// Fails if a client was told what no server could say.
    pub fn check(&self) -> Result<(), Failure> {
        let nonsense = self.shared.nonsense.lock().unwrap_or_else(PoisonError::into_inner);
        nonsense.clone().map_or(Ok(()), Err)
    }

    /// Lets each finish what it is at.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| Failure("a client panicked".into()))?;
        }
        self.check()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }
}

/// Asks, and takes down what came of it. A connection that is of no more use is gone afterwards.
pub fn ask(
    recorder: &Recorder,
    ticket: Ticket,
    connection: &mut Option<Client>,
    call: Call,
    key: &str,
) -> Result<Result<Answer, End>, Failure> {
    let reply = connection.as_mut().map(|connection| connection.call(call.words(key)));
    let end = match reply {
        Some(Ok(reply)) => match call.understand(&reply) {
            Ok(end) => end,
            Err(nonsense) => {
                recorder.end(ticket, Err(End::Unknown));
                return Err(nonsense);
            }
        },
        Some(Err(_)) => {
            *connection = None;
            Err(End::Unknown)
        }
        // Nothing was sent.
        None => Err(End::Refused),
    };
    recorder.end(ticket, end);
    Ok(end)
}

/// A connection with the patience of these clients.
pub fn connect(server: SocketAddr) -> Option<Client> {
    let client = Client::connect(server).ok()?;
    client.set_answer_wait(ANSWER_WAIT_MAX).ok()?;
    Some(client)
}

/// One client.
struct Worker {
    shared: Arc<Shared>,
    group: usize,
    only_reads: bool,
    id: u32,
    servers: Vec<SocketAddr>,
    connection: Option<Client>,
    rng: Rng,
}

impl Worker {
    fn run(mut self) {
        while !self.shared.stopping.load(Ordering::Relaxed) {
            if self.connection.is_none() {
                self.connection = connect(self.servers[0]);
            }
            if self.connection.is_none() {
                self.servers.rotate_left(1);
                thread::sleep(RECONNECT_PAUSE);
                continue;
            }
            if let Err(nonsense) = self.operate() {
                let mut first = self.shared.nonsense.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(nonsense);
                return;
            }
            if self.only_reads && self.rng.u32(..READER_MOVES_EVERY) == 0 {
                self.connection = None;
            }
            if self.connection.is_none() {
                self.servers.rotate_left(1);
            }
            thread::sleep(self.shared.pause_max.mul_f64(self.rng.f64()));
        }
    }

    fn operate(&mut self) -> Result<(), Failure> {
        let recorder = &self.shared.recorder;
        if self.rng.u32(..LOOK_BACK_EVERY) == 0 {
            let rng = &mut self.rng;
            let look = recorder.begin_again(self.group, self.id, |left| {
                let far = if rng.bool() { left } else { left.min(LAST_KEYS) };
                left - 1 - rng.usize(..far)
            });
            if let Some((ticket, key)) = look {
                return ask(recorder, ticket, &mut self.connection, Call::Get, &key).map(drop);
            }
        }
        let call = if self.only_reads { Call::Get } else { self.shared.call(&mut self.rng) };
        let (ticket, key) = recorder.begin(self.group, self.id, call);
        ask(recorder, ticket, &mut self.connection, call, &key).map(drop)
    }
}

impl Shared {
    fn call(&self, rng: &mut Rng) -> Call {
        match rng.u32(..20) {
            0..8 => Call::Get,
            // Far apart, so that no increment makes one of the other.
            8..13 => Call::Set(1_000 * self.fresh.fetch_add(1, Ordering::Relaxed)),
            13..18 => Call::Increment,
            _ => Call::Delete,
        }
    }
}
