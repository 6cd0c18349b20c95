//! A cluster of `kv serve` processes on this machine, which can be killed and started again.
//!
//! Whatever ends the program, no server stays behind: they are killed when the [`Cluster`] is
//! dropped, and they end by themselves when the pipe to their standard input does, so also if this
//! process is killed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Client;
use crate::server::info::field;
use crate::server::resp::Frame;

/// Where free ports are looked for: below those that systems give to outgoing connections, or a
/// server that is restarted could find its port taken by one.
const PORTS: std::ops::Range<u16> = 10_240..32_000;
/// How far apart two searches for free ports begin.
const PORTS_APART: u64 = 32;
/// How often a condition is looked at that someone waits for.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// How much of a server's log is shown when it fails, in lines.
const LOG_LINES_SHOWN: usize = 12;

/// Server processes, their journals and their addresses.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    runtimes: Vec<String>,
    flags: Vec<String>,
    folder: TempDir,
    /// Whether the servers record what their cores are told.
    records: bool,
    /// Something failed, so the recordings stay.
    failed: AtomicBool,
    servers: BTreeMap<u64, Server>,
    /// The number of the next server.
    next: u64,
    interrupted: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Server {
    listen: SocketAddr,
    client: SocketAddr,
    /// Whether it was not there from the beginning.
    joins: bool,
    process: Option<Child>,
    connection: Option<Client>,
}

/// What a server says about itself; see [`info`](crate::server::info).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// The server asked.
    pub id: u64,
    /// Whether it leads.
    pub leads: bool,
    /// Its term.
    pub term: u64,
    /// The last entry in its store.
    pub applied: u64,
    /// How many keys its store has.
    pub keys: u64,
    /// The digest of its store.
    pub digest: String,
}

/// Why a cluster is not what it should be, for a person to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure(pub String);

impl Cluster {
    /// Starts `count` servers by running `program serve`, on these of its runtimes in turn; on its
    /// first if none is named.
    pub fn start(program: &Path, count: u64, runtimes: &[&str]) -> Result<Self, Failure> {
        Self::start_with(program, count, runtimes, &[])
    }

    /// The same, with more flags for every `serve`.
    pub fn start_with(
        program: &Path,
        count: u64,
        runtimes: &[&str],
        flags: &[&str],
    ) -> Result<Self, Failure> {
        Self::launch(program, count, runtimes, flags, true)
    }

    /// The same, of servers that record nothing; for measurements.
    pub fn start_unrecorded(
        program: &Path,
        count: u64,
        runtimes: &[&str],
        flags: &[&str],
    ) -> Result<Self, Failure> {
        Self::launch(program, count, runtimes, flags, false)
    }

    fn launch(
        program: &Path,
        count: u64,
        runtimes: &[&str],
        flags: &[&str],
        records: bool,
    ) -> Result<Self, Failure> {
        let mut cluster = Self::plan(program, count, runtimes, flags, records)?;
        for id in 1..=count {
            cluster.start_server(id)?;
        }
        Ok(cluster)
    }

    /// Servers that record nothing, none of which is started yet.
    pub fn plan_unrecorded(
        program: &Path,
        count: u64,
        runtimes: &[&str],
        flags: &[&str],
    ) -> Result<Self, Failure> {
        Self::plan(program, count, runtimes, flags, false)
    }

    fn plan(
        program: &Path,
        count: u64,
        runtimes: &[&str],
        flags: &[&str],
        records: bool,
    ) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("kv-").tempdir();
        let folder = folder.map_err(|e| Failure(format!("no temporary folder: {e}")))?;
        let mut cluster = Self {
            program: program.to_owned(),
            runtimes: runtimes.iter().map(|name| (*name).to_owned()).collect(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            folder,
            records,
            failed: AtomicBool::new(false),
            servers: BTreeMap::new(),
            next: count + 1,
            interrupted: Arc::default(),
        };
        let ports = free_ports(2 * usize::try_from(count).unwrap_or(usize::MAX))?;
        for (id, ports) in (1..=count).zip(ports.chunks_exact(2)) {
            cluster.servers.insert(id, Server::at([ports[0], ports[1]], false));
        }
        Ok(cluster)
    }

    /// Servers that are started from now on run this program, as after an upgrade.
    pub fn use_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Once set, everything that waits here fails.
    pub fn interrupted(&self) -> Arc<AtomicBool> {
        self.interrupted.clone()
    }

    /// The numbers of all servers.
    pub fn ids(&self) -> Vec<u64> {
        self.servers.keys().copied().collect()
    }

    /// What runs this server, if it was named.
    pub fn runtime(&self, id: u64) -> Option<&str> {
        let position = usize::try_from(id.checked_sub(1)?).ok()?;
        let position = position.checked_rem(self.runtimes.len())?;
        self.runtimes.get(position).map(String::as_str)
    }

    /// Where the journals are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where this server listens for clients.
    pub fn client_address(&self, id: u64) -> SocketAddr {
        self.servers[&id].client
    }

    /// Where this server listens for the others.
    pub fn address(&self, id: u64) -> SocketAddr {
        self.servers[&id].listen
    }

    /// The process of this server, if it runs.
    pub fn process_id(&self, id: u64) -> Option<u32> {
        self.servers[&id].process.as_ref().map(Child::id)
    }

    /// Starts one more server, which waits to be added. Gives its number.
    pub fn join(&mut self) -> Result<u64, Failure> {
        let id = self.next;
        self.next += 1;
        let ports = free_ports(2)?;
        self.servers.insert(id, Server::at([ports[0], ports[1]], true));
        self.start_server(id)?;
        Ok(id)
    }

    /// From now on this server, which must not run, joins when it is started.
    pub fn let_join(&mut self, id: u64) {
        if let Some(server) = self.servers.get_mut(&id) {
            server.joins = true;
        }
    }

    /// Knows nothing of this server any more. It is killed if it runs.
    pub fn forget(&mut self, id: u64) -> Result<(), Failure> {
        self.kill(id)?;
        self.servers.remove(&id);
        Ok(())
    }

    /// Empties the disk of this server, which must not run.
    pub fn wipe(&self, id: u64) -> Result<(), Failure> {
        fs::remove_dir_all(self.data(id))
            .map_err(|e| Failure(format!("the folder of server {id} cannot be emptied: {e}")))
    }

    /// Where the journal of this server is.
    pub fn data(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("server-{id}"))
    }

    /// What this server has said so far.
    pub fn log(&self, id: u64) -> String {
        fs::read_to_string(self.log_path(id)).unwrap_or_default()
    }

    /// Runs the program with this command of operators, for this server. Gives what it printed;
    /// fails if it failed.
    pub fn order(&self, id: u64, words: &[&str]) -> Result<String, Failure> {
        let server = self.client_address(id).to_string();
        self.run(&words.iter().copied().chain(["--server", &server]).collect::<Vec<_>>())
    }

    /// Runs the program with these arguments. Gives what it printed; fails if it failed.
    pub fn run(&self, words: &[&str]) -> Result<String, Failure> {
        let output = Command::new(&self.program).args(words).output();
        let what = words.join(" ");
        let output = output.map_err(|e| Failure(format!("`{what}` cannot be run: {e}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Failure(format!("`{what}`: {}", String::from_utf8_lossy(&output.stderr).trim_end())))
    }

    /// Adds a server that [waits](Cluster::join) for it, and waits until it votes. Asks this
    /// member.
    pub fn add(&self, id: u64, member: u64) -> Result<String, Failure> {
        let (address, client) = (self.address(id).to_string(), self.client_address(id).to_string());
        self.order(member, &["add", &id.to_string(), &address, &client])
    }

    /// Tells this server to stop, with SIGTERM, and waits for its end.
    pub fn terminate(&mut self, id: u64, within: Duration) -> Result<ExitStatus, Failure> {
        let process = self.process_id(id).map(|process| process.to_string()).unwrap_or_default();
        let told = Command::new("kill").args(["-TERM", &process]).status();
        match told {
            Ok(status) if status.success() => self.wait_for_end(id, within),
            _ => Err(Failure(format!("server {id} cannot be sent SIGTERM"))),
        }
    }

    /// Starts this server; its journal is what an earlier life left.
    pub fn start_server(&mut self, id: u64) -> Result<(), Failure> {
        let list = |address: fn(&Server) -> SocketAddr| {
            let peers = self.servers.iter().map(|(id, server)| format!("{id}={}", address(server)));
            peers.collect::<Vec<_>>().join(",")
        };
        let cannot = |e: io::Error| Failure(format!("server {id} cannot be started: {e}"));
        let log = File::options().create(true).append(true).open(self.log_path(id));
        let Some(server) = self.servers.get(&id) else {
            return Err(Failure(format!("there is no server {id}")));
        };
        let mut command = Command::new(&self.program);
        command.args(["serve", "--until-stdin-ends", "--id", &id.to_string()]);
        command.args(["--peers", &list(|server| server.listen)]);
        if server.joins {
            // Where clients find the others, the members' labels tell.
            command.args(["--join", "--client", &server.client.to_string()]);
        } else {
            command.args(["--client-peers", &list(|server| server.client)]);
        }
        let process = command
            .arg("--data")
            .arg(self.data(id))
            .args(self.runtime(id).map(|name| format!("--runtime={name}")))
            .args(self.records.then(|| format!("--record={}", self.records().display())))
            .args(self.records.then_some("--record-ahead"))
            .args(&self.flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.map_err(cannot)?)
            .spawn()
            .map_err(cannot)?;
        if let Some(server) = self.servers.get_mut(&id) {
            server.process = Some(process);
        }
        Ok(())
    }

    /// Kills this server with SIGKILL: it has no chance to say or write anything. Returns once it
    /// is dead.
    pub fn kill(&mut self, id: u64) -> Result<(), Failure> {
        let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
        server.connection = None;
        let Some(mut process) = server.process.take() else { return Ok(()) };
        let killed = process.kill().and_then(|()| process.wait());
        killed.map(drop).map_err(|e| Failure(format!("server {id} cannot be killed: {e}")))
    }

    /// Gives away the process of this server, if it runs: that it ends is no failure from now on.
    pub fn release(&mut self, id: u64) -> Option<Child> {
        self.servers.get_mut(&id)?.process.take()
    }

    /// Waits until this server has ended by itself.
    pub fn wait_for_end(&mut self, id: u64, within: Duration) -> Result<ExitStatus, Failure> {
        let Some(mut process) = self.servers.get_mut(&id).and_then(|server| server.process.take())
        else {
            return Err(Failure(format!("server {id} does not run")));
        };
        let ended = self.wait(within, "the server to end", |_| process.try_wait().ok().flatten());
        if ended.is_err() {
            // It has had its time; it must not stay.
            let _ = process.kill();
        }
        ended
    }

    /// What this server says about itself; `None` while it does not answer.
    pub fn view(&mut self, id: u64) -> Option<View> {
        let server = self.servers.get_mut(&id)?;
        server.process.as_ref()?;
        if server.connection.is_none() {
            server.connection = Client::connect(server.client).ok();
        }
        let view = server
            .connection
            .as_mut()?
            .call(["INFO"])
            .ok()
            .and_then(|reply| View::parse(id, &reply));
        if view.is_none() {
            server.connection = None;
        }
        view
    }

    /// Waits until a server leads in a term above `term`.
    pub fn wait_for_leader(&mut self, term: u64, within: Duration) -> Result<View, Failure> {
        self.wait(within, "a leader", |cluster| {
            let views = cluster.ids().into_iter().filter_map(|id| cluster.view(id));
            views.filter(|view| view.leads && view.term > term).max_by_key(|view| view.term)
        })
    }

    /// Waits for `ready` to give something. Fails after `within`, when interrupted, and when a
    /// server ends by itself.
    pub fn wait<T>(
        &mut self,
        within: Duration,
        what: &str,
        mut ready: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = ready(self) {
                return Ok(found);
            }
            self.check()?;
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("waited {within:?} in vain for {what}")));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Lets the cluster run for a while.
    pub fn run_for(&mut self, span: Duration) -> Result<(), Failure> {
        let end = Instant::now() + span;
        while Instant::now() < end {
            self.check()?;
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// A failure with the ends of the servers' logs, and where their recordings are.
    pub fn failure(&self, text: &str) -> Failure {
        let mut text = text.to_owned();
        for id in self.servers.keys() {
            let log = fs::read_to_string(self.log_path(*id)).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            text += &format!("\n  the last that server {id} said:");
            for line in &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..] {
                text += &format!("\n    {line}");
            }
        }
        if self.records {
            self.failed.store(true, Ordering::Relaxed);
            text += &format!("\n  {}", self.replay());
        }
        Failure(text)
    }

    /// How to replay what the servers recorded.
    fn replay(&self) -> String {
        let records = self.records();
        format!(
            "what the servers were told: cargo run --release -p replay -- {}",
            records.display()
        )
    }

    fn records(&self) -> PathBuf {
        self.folder.path().join("records")
    }

    fn check(&mut self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure("interrupted".into()));
        }
        for (id, server) in &mut self.servers {
            let ended =
                server.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            if let Some(status) = ended {
                let text = format!("server {id} ended by itself, with {status}");
                return Err(self.failure(&text));
            }
        }
        Ok(())
    }

    fn log_path(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("server-{id}.log"))
    }
}

impl Server {
    fn at(ports: [u16; 2], joins: bool) -> Self {
        let [listen, client] = ports.map(|port| (Ipv4Addr::LOCALHOST, port).into());
        Self { listen, client, joins, process: None, connection: None }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for id in self.ids() {
            // A server that cannot be killed still ends when the pipe to it closes.
            let _ = self.kill(id);
        }
        if self.records && thread::panicking() {
            eprintln!("{}", self.replay());
            *self.failed.get_mut() = true;
        }
        if *self.failed.get_mut() {
            self.folder.disable_cleanup(true);
        }
    }
}

impl View {
    /// What the server `id` answered to INFO; `None` if it was no such thing.
    pub fn parse(id: u64, reply: &Frame) -> Option<Self> {
        let Frame::BulkString(text) = reply else { return None };
        let text = std::str::from_utf8(text).ok()?;
        let number = |name| field(text, name)?.parse().ok();
        Some(Self {
            id,
            leads: field(text, "role")? == "leader",
            term: number("term")?,
            applied: number("applied")?,
            keys: number("keys")?,
            digest: field(text, "digest")?.to_owned(),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Ports on which nothing listens now.
pub fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    // The standard library's seed for maps is the randomness at hand: two demonstrations at once
    // should not meet. Those of one process never do.
    static BEGIN: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let behind = CALLS.fetch_add(1, Ordering::Relaxed).wrapping_mul(PORTS_APART);
    let offset = BEGIN.wrapping_add(behind) % u64::from(PORTS.end - PORTS.start);
    let offset = usize::try_from(offset).unwrap_or(0);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<_> =
        PORTS.cycle().skip(offset).take(PORTS.len()).filter(is_free).take(count).collect();
    if ports.len() < count {
        return Err(Failure(format!("fewer than {count} ports in {PORTS:?} are free")));
    }
    Ok(ports)
}
