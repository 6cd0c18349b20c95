//! Clients that overwrite the same keys without end, each with many writes on their way: a load
//! whose state does not grow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::client::Client;
use kv::server::resp::Frame;

/// How many writes a client sends before it waits for their answers.
const DEPTH: usize = 16;
/// How long a client waits that could not connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Clients at work. They stop when this is dropped.
#[derive(Debug)]
pub(super) struct Load {
    written: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// How the writes of a load are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) clients: usize,
    /// How many keys each client has.
    pub(super) keys: usize,
    pub(super) value_bytes: usize,
}

impl Load {
    /// Starts clients, which go through these servers in turn.
    pub(super) fn start(addresses: &[SocketAddr], shape: Shape) -> Self {
        let written = Arc::<AtomicU64>::default();
        let stopping = Arc::<AtomicBool>::default();
        let threads = (0..shape.clients).map(|number| {
            let (written, stopping) = (written.clone(), stopping.clone());
            let address = addresses.get(number % addresses.len().max(1)).copied();
            thread::spawn(move || {
                if let Some(address) = address {
                    write(address, number, shape, &written, &stopping);
                }
            })
        });
        Self { threads: threads.collect(), written, stopping }
    }

    /// How many writes were acknowledged.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// How many writes per second were acknowledged since then.
    pub(super) fn rate_since(&self, (written, at): (u64, Instant)) -> f64 {
        (self.written() - written) as f64 / at.elapsed().as_secs_f64()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has stopped.
            let _ = thread.join();
        }
    }
}

fn write(
    address: SocketAddr,
    client: usize,
    shape: Shape,
    written: &AtomicU64,
    stopping: &AtomicBool,
) {
    let value = Bytes::from(vec![b'x'; shape.value_bytes]);
    let mut keys = (0..shape.keys).cycle();
    let mut connection = None;
    while !stopping.load(Ordering::Relaxed) {
        let Some(open) = &mut connection else {
            connection = Client::connect(address).ok();
            if connection.is_none() {
                thread::sleep(RECONNECT_PAUSE);
            }
            continue;
        };
        let set = |key| vec!["SET".into(), format!("load:{client}:{key}").into(), value.clone()];
        let requests: Vec<Vec<Bytes>> = keys.by_ref().take(DEPTH).map(set).collect();
        match open.pipeline(&requests) {
            Ok(replies) => {
                let done = replies.iter().filter(|reply| !matches!(reply, Frame::Error(_)));
                written.fetch_add(done.count() as u64, Ordering::Relaxed);
            }
            Err(_) => connection = None,
        }
    }
}
