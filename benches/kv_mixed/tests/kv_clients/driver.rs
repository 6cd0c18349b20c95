//! A client library under way: a process of its language that says line by line what it was told,
//! or a thread.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use super::rust;

/// A client library.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Rust,
    Python,
    NodeRedis,
    IoRedis,
}

/// A client that increments its key.
pub(crate) struct Driver {
    key: String,
    told: Arc<Told>,
    work: Work,
}

/// What it was told so far.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) acknowledged: AtomicU64,
    /// Each increment of which it is not known what became of it, with the error.
    pub(crate) lost: Mutex<Vec<String>>,
    pub(crate) is_to_stop: AtomicBool,
}

/// What it was told in all.
pub(crate) struct Driven {
    pub(crate) key: String,
    pub(crate) acknowledged: u64,
    pub(crate) lost: Vec<String>,
}

enum Work {
    Thread(JoinHandle<Result<(), String>>),
    Process { child: Child, stdin: Option<ChildStdin>, reader: JoinHandle<()> },
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Rust, Self::Python, Self::NodeRedis, Self::IoRedis];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "the_crate_redis",
            Self::Python => "redis_py",
            Self::NodeRedis => "node_redis",
            Self::IoRedis => "ioredis",
        }
    }

    /// What is not installed, without which this cannot run.
    pub(crate) fn missing(self) -> Option<String> {
        let needed = match self {
            Self::Rust => return None,
            Self::Python => clients().join("venv/bin/python"),
            Self::NodeRedis => clients().join("node_modules/redis/package.json"),
            Self::IoRedis => clients().join("node_modules/ioredis/package.json"),
        };
        if !needed.exists() {
            return Some("it is not installed".into());
        }
        let runs = Command::new(self.interpreter()).arg("--version").output();
        runs.err().map(|e| format!("{} cannot be run: {e}", self.interpreter().display()))
    }

    fn interpreter(self) -> PathBuf {
        match self {
            Self::Python => clients().join("venv/bin/python"),
            Self::Rust | Self::NodeRedis | Self::IoRedis => "node".into(),
        }
    }

    fn script(self) -> PathBuf {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        scripts.join(match self {
            Self::Python => "redis_py.py",
            Self::Rust | Self::NodeRedis => "node_redis.mjs",
            Self::IoRedis => "ioredis.mjs",
        })
    }
}

/// Where `benches/kv_mixed/clients/install.sh` puts them.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients")
}

impl Driver {
    /// Drives this client at the first of the addresses, and at the next ones when it loses its
    /// connection.
    pub(crate) fn start(kind: Kind, role: &str, addresses: &[SocketAddr]) -> Result<Self, Failed> {
        let key = format!("{}-{role}", kind.name());
        let told = Arc::new(Told::default());
        if kind == Kind::Rust {
            let (driven, telling, addresses) = (key.clone(), told.clone(), addresses.to_vec());
            let drive = move || rust::drive(&driven, &addresses, &telling);
            return Ok(Self { key, told, work: Work::Thread(thread::spawn(drive)) });
        }
        let mut child = Command::new(kind.interpreter())
            .arg(kind.script())
            .arg(&key)
            .args(addresses.iter().map(ToString::to_string))
            .env("KV_CLIENTS", clients())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let reading = told.clone();
        let reader = thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
                reading.hear(&line.unwrap_or_default());
            }
        });
        Ok(Self { key, told, work: Work::Process { child, stdin, reader } })
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.told.acknowledged.load(Ordering::Relaxed)
    }

    /// Whether it has ended by itself, as it does after an error that it does not expect.
    pub(crate) fn has_ended(&mut self) -> bool {
        match &mut self.work {
            Work::Thread(thread) => thread.is_finished(),
            Work::Process { child, .. } => child.try_wait().is_ok_and(|status| status.is_some()),
        }
    }

    /// Has it stop; fails if it does not within this time, and with what it met if that was no lost
    /// connection.
    pub(crate) fn stop(mut self, within: Duration) -> Result<Driven, Failed> {
        self.told.is_to_stop.store(true, Ordering::Relaxed);
        if let Work::Process { stdin, .. } = &mut self.work {
            drop(stdin.take());
        }
        let deadline = Instant::now() + within;
        while !self.has_ended() {
            if Instant::now() >= deadline {
                return Err(format!("{} does not stop", self.key).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        let Self { key, told, work } = self;
        match work {
            Work::Thread(thread) => {
                let done = thread.join().map_err(|_| format!("{key} panicked"))?;
                done.map_err(|e| format!("{key}: {e}"))?;
            }
            Work::Process { mut child, reader, .. } => {
                let status = child.wait()?;
                let mut said = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    stderr.read_to_string(&mut said)?;
                }
                if !status.success() {
                    return Err(format!("{key} ended with {status}:\n{said}").into());
                }
                reader.join().map_err(|_| format!("{key}: nobody heard it"))?;
            }
        }
        let lost = told.lost.lock().unwrap().clone();
        let acknowledged = told.acknowledged.load(Ordering::Relaxed);
        Ok(Driven { key, acknowledged, lost })
    }
}

impl Told {
    fn hear(&self, line: &str) {
        if line == "acknowledged" {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        } else if let Some(error) = line.strip_prefix("lost ") {
            self.lost.lock().unwrap().push(error.to_owned());
        }
    }
}
