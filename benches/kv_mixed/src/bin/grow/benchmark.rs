//! redis-benchmark as a load: writes to few keys, without end, through one server at a time.

use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;

/// How many clients it has.
const CLIENTS: usize = 8;
/// To how many keys it writes.
const KEYS: usize = 1000;

/// redis-benchmark while it runs. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Benchmark {
    process: Child,
    through: SocketAddr,
    /// How often it has ended by itself, as it does at the first error.
    ended: u64,
}

impl Benchmark {
    /// Starts it. An error if it is not installed.
    pub(super) fn start(through: SocketAddr) -> io::Result<Self> {
        Ok(Self { process: spawn(through)?, through, ended: 0 })
    }

    /// From now on it writes through this server. What is on its way is given up.
    pub(super) fn go_through(&mut self, through: SocketAddr) -> io::Result<()> {
        self.check()?;
        self.process.kill()?;
        self.process.wait()?;
        self.through = through;
        self.process = spawn(through)?;
        Ok(())
    }

    /// Starts it anew if it has ended. Gives how often it had, all in all.
    pub(super) fn check(&mut self) -> io::Result<u64> {
        if self.process.try_wait()?.is_some() {
            self.ended += 1;
            self.process = spawn(self.through)?;
        }
        Ok(self.ended)
    }

    /// The name of this load, for people.
    pub(super) fn describe() -> String {
        format!("redis-benchmark -t set -c {CLIENTS} -r {KEYS}, in a loop")
    }

    /// The keys that it writes to.
    pub(super) fn keys() -> Vec<Bytes> {
        (0..KEYS).map(|number| format!("key:{number:012}").into()).collect()
    }
}

impl Drop for Benchmark {
    fn drop(&mut self) {
        // A process that has ended needs no end.
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

fn spawn(through: SocketAddr) -> io::Result<Child> {
    let [clients, keys] = [CLIENTS, KEYS].map(|number| number.to_string());
    Command::new("redis-benchmark")
        .args(["-h", &through.ip().to_string(), "-p", &through.port().to_string()])
        .args(["-t", "set", "-q", "-l", "-c", &clients, "-r", &keys])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
